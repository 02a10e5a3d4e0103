"""What can go wrong with the Kubernetes API, in the operator's terms.

::

    LakebaseError
     ├── TransientError
     │    └── KubeError            anything that may pass by itself; ``status`` is the HTTP status, 0 without an answer
     │         ├── Gone            404: the object does not exist (any more)
     │         ├── Conflict        409: somebody else was faster
     │         ├── Expired         410: a list has become too old to be continued
     │         ├── Terminating     403: the namespace is being deleted and takes nothing new
     │         └── Rejected        400, 422: the server finds the request invalid
     └── InvalidError
          └── Forbidden            403: the operator's ServiceAccount lacks a right
"""

import json
from typing import Any

from lakebase_operator.api.reasons import Reason
from lakebase_operator.domain.errors import InvalidError, TransientError


class KubeError(TransientError):
    """A request to the Kubernetes API failed."""

    def __init__(self, status: int, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(Reason.API_SERVER_ERROR, message, retry_after=retry_after)
        self.status = status


class Gone(KubeError):  # noqa: N818 - an expected answer, handled where it is asked for
    """The object does not exist."""


class Conflict(KubeError):  # noqa: N818
    """The object has been changed since it was read."""


class Expired(KubeError):  # noqa: N818
    """The list is too old to be continued."""


class Terminating(KubeError):  # noqa: N818
    """The namespace is being deleted and takes nothing new."""


class Rejected(KubeError):  # noqa: N818
    """The server finds the request invalid."""


class Forbidden(InvalidError):  # noqa: N818
    """The operator's ServiceAccount lacks a right."""

    def __init__(self, message: str) -> None:
        super().__init__(Reason.API_SERVER_DENIED, message)
        self.status = 403


_CLASSES: dict[int, type[KubeError]] = {404: Gone, 409: Conflict, 410: Expired, 400: Rejected, 422: Rejected}


def from_answer(operation: str, status: int, body: bytes, retry_after: str | None) -> KubeError | Forbidden:
    """The error for an answer that is not a success.

    Parameters
    ----------
    operation
        What was tried, for people.
    body
        A ``metav1.Status`` if the API server itself answered.
    retry_after
        The header, in seconds, if there was one.
    """
    said = _status(body)
    message = str(said.get("message") or "") or f"HTTP status {status}"
    if status == 403 and _NAMESPACE_TERMINATING in _causes(said):
        return Terminating(status, f"Kubernetes failed to {operation}: {message}")
    if status == 403:
        return Forbidden(
            f"Kubernetes refuses to {operation}: {message}. Give the operator's ServiceAccount this right."
        )
    pause = float(retry_after) if retry_after and retry_after.isdecimal() else None
    return _CLASSES.get(status, KubeError)(
        status, f"Kubernetes failed to {operation}: {message}", retry_after=pause
    )


_NAMESPACE_TERMINATING = "NamespaceTerminating"
"""A cause (https://pkg.go.dev/k8s.io/api/core/v1#NamespaceTerminatingCause); without it a 403 speaks of missing rights."""


def _status(body: bytes) -> dict[str, Any]:
    try:
        status: Any = json.loads(body)
    except ValueError:
        return {}  # not from the API server but from a proxy on the way
    return status if isinstance(status, dict) else {}


def _causes(status: dict[str, Any]) -> list[str]:
    details = status.get("details") or {}
    return [str(cause.get("reason")) for cause in details.get("causes") or []]
