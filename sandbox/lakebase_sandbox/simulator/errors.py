"""The errors of the simulated APIs, as (HTTP status, error_code, message)."""

import secrets
from collections.abc import Mapping
from typing import Any

from aiohttp import web


class ApiError(Exception):
    """An answer with an error body that the Databricks SDK understands.

    Parameters:
        status: the HTTP status.
        error_code: Databricks' name for the error; the SDK chooses its exception by it first.
        details: what goes into `details`.
        headers: additional HTTP headers.
    """

    def __init__(
        self,
        status: int,
        error_code: str,
        message: str,
        *,
        details: list[dict[str, Any]] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.error_code = error_code
        self.message = message
        self.details = details or []
        self.headers = dict(headers or {})

    def body(self) -> dict[str, Any]:
        body: dict[str, Any] = {"error_code": self.error_code, "message": self.message}
        if self.details:
            body["details"] = self.details
        return body

    def response(self) -> web.Response:
        return web.json_response(self.body(), status=self.status, headers=self.headers)


def no_api(path: str) -> ApiError:
    return ApiError(404, "ENDPOINT_NOT_FOUND", f"No API found for {path}")


def unauthenticated(message: str) -> ApiError:
    return ApiError(401, "UNAUTHENTICATED", message)


def permission_denied(message: str) -> ApiError:
    return ApiError(403, "PERMISSION_DENIED", message)


def not_found(kind: str) -> ApiError:
    """A missing resource of `w.postgres`; kind: project, branch, endpoint, role, database."""
    return ApiError(404, "NOT_FOUND", f"{kind} id not found [TraceId: {secrets.token_hex(16)}]")


def invalid(message: str) -> ApiError:
    return ApiError(400, "INVALID_PARAMETER_VALUE", message)


def required(field: str) -> ApiError:
    return invalid(f"Field '{field}' is required, expected non-default value (not \"\")!")


def bad_request(message: str) -> ApiError:
    return ApiError(400, "BAD_REQUEST", message)


def protected(message: str) -> ApiError:
    """Something that cannot be deleted because of what it is."""
    return ApiError(
        400,
        "BAD_REQUEST",
        message,
        details=[
            {
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "domain": "databricks.com",
                "reason": "RESOURCE_CONFLICT",
                "metadata": {"declarative_context": "MANAGED_BY_PARENT"},
            },
            _request_info(),
        ],
    )


def _request_info() -> dict[str, Any]:
    return {
        "@type": "type.googleapis.com/google.rpc.RequestInfo",
        "request_id": secrets.token_hex(16),
        "serving_data": "",
    }


def already_exists(kind: str, where: str = "") -> ApiError:
    return ApiError(409, "ALREADY_EXISTS", f"{kind} with such id already exists{where}")


def limit_reached(message: str) -> ApiError:
    """A limit of the workspace; which code it has is not documented."""
    return ApiError(400, "RESOURCE_LIMIT_EXCEEDED", message, details=[_request_info()])


def not_enabled() -> ApiError:
    return ApiError(403, "FEATURE_DISABLED", "Lakebase is not enabled in this workspace.")


def conflicting_operations() -> ApiError:
    return ApiError(
        409,
        "ABORTED",
        "Your project already has conflicting operations in progress. "
        "Please wait until they are complete, and then try again.",
    )


def reconciliation_in_progress() -> ApiError:
    return ApiError(409, "ABORTED", "Endpoint reconciliation still in progress")


def instance_not_found(name: str) -> ApiError:
    return ApiError(404, "NOT_FOUND", f"database instance with name '{name}' not found")


def not_implemented(what: str) -> ApiError:
    return ApiError(501, "NOT_IMPLEMENTED", f"{what} is not yet implemented")
