"""What the SDK raises, as our errors.

::

    what arrives                                            becomes           reason
    -----------------------------------------------------   ---------------   --------------------------------------
    401, a token that is not accepted, invalid_client       InvalidError      OAuthClientRejected
    "… access to Org", a token of another workspace         InvalidError      WorkspaceMismatch
    403, blocked by an IP access list                       InvalidError      AddressBlocked
    other 403                                               InvalidError      ControlPlaneDenied
    404                                                     NotReadyError     InstanceNotFound
    404 ENDPOINT_NOT_FOUND, FEATURE_DISABLED                InvalidError      LakebaseNotEnabled
    QUOTA_EXCEEDED and its like                             InvalidError      CapacityLimit
    409, or the text of a running operation                 TransientError    ControlPlaneConflict
    429                                                     TransientError    ControlPlaneThrottled, retry_after
    400 INVALID_STATE, 5xx                                  TransientError    ControlPlaneError, retry_after if given
    other 400                                               InvalidError      ControlPlaneError
    no answer: name, network, proxy, certificate, timeout   TransientError    ControlPlaneUnreachable
    an answer that is not of a Databricks workspace         TransientError    ControlPlaneError
    ``ValueError``, bare ``Exception``, all else            TransientError    ControlPlaneError, logged with its trace

The SDK gives up on retries with a ``TimeoutError``; what it stands for is the error before it (:func:`cause`).
"""

import logging
import re
import traceback
from collections.abc import Iterable
from dataclasses import dataclass

import requests
from databricks.sdk.errors import platform
from databricks.sdk.errors.base import DatabricksError
from databricks.sdk.errors.private_link import PrivateLinkValidationError

from lakebase_operator.api.reasons import Reason
from lakebase_operator.domain.errors import (
    ADDRESS_BLOCKED,
    ALLOW_ADDRESS,
    InvalidError,
    LakebaseError,
    NotReadyError,
    TransientError,
)

logger = logging.getLogger(__name__)

_MAX_TEXT = 300
_NOT_ENABLED = ("ENDPOINT_NOT_FOUND", "FEATURE_DISABLED")
_LIMIT_REACHED = ("QUOTA_EXCEEDED", "RESOURCE_LIMIT_EXCEEDED")
# RESOURCE_EXHAUSTED may be a rate, which passes, or a quota, which does not.
_QUOTA = re.compile(r"quota|capacity|maximum number|limit of \d+", re.IGNORECASE)
_CONFLICT = re.compile(r"conflicting operations in progress|reconciliation still in progress", re.IGNORECASE)
# An expired token is answered with 401 by some services, with 403 or 400 by others.
_TOKEN_REFUSED = re.compile(
    r"invalid access token|invalid token|token is expir|token (has )?expired|ExpiredJwt", re.IGNORECASE
)
# How a workspace answers a token of another one (https://github.com/databricks/databricks-sdk-go/issues/981).
_OTHER_WORKSPACE = re.compile(r"(invalid|unauthorized) access to (org|workspace)\b", re.IGNORECASE)
_SECRETS = (
    re.compile(r"eyJ[\w-]{6,}(?:\.[\w-]*){0,2}"),  # a JSON Web Token
    re.compile(r"(?<=bearer )[\w.~+/=-]+|(?<=basic )[\w+/=-]{8,}", re.IGNORECASE),
    re.compile(r"\b(?:dose|dapi)[0-9a-f]{16,}"),  # an OAuth secret, a personal access token
)
_CONFIG_TAIL = re.compile(r"[.\s]*\b(?:Config|Env): \w+=.*", re.DOTALL)
_REQUEST_ID = re.compile(r"\s*[\[(](?:trace|req|request)[\s_-]?id[\s:=]*(?P<id>[^\])]*)[\])]", re.IGNORECASE)


class WaitTooLongError(Exception):
    """The SDK wants to wait longer before its next try than a worker thread should."""


@dataclass(frozen=True, slots=True)
class Task:
    """What is being asked of the workspace, for messages.

    Parameters
    ----------
    doing
        As it stands after "while", e.g. ``reading instance marketing-db``.
    needs
        The right that it takes, e.g. ``CAN_USE on instance marketing-db``.
    """

    doing: str
    needs: str


def tidy(text: str, secrets: Iterable[str] = ()) -> str:
    """A text of the SDK or the server, fit for a condition: one line, no secret, the same each time.

    The SDK's description of its own configuration goes, and so do request ids: a message that differs each time would
    make each status differ, and each write of it wake the operator again.
    """
    if "unable to parse response" in text:
        text = "an answer in an unknown form"
    text = _REQUEST_ID.sub("", _CONFIG_TAIL.sub("", text))
    text = " ".join(_redact(text, secrets).split()).rstrip(".")
    return text if len(text) <= _MAX_TEXT else text[: _MAX_TEXT - 1] + "…"


def cause(error: Exception) -> Exception:
    """The error behind the SDK's giving up on retries; any other error itself."""
    while isinstance(error, (TimeoutError, WaitTooLongError)):
        before = error.__cause__ or error.__context__
        if not isinstance(before, Exception):
            break
        error = before
    return error


def token_refused(error: BaseException) -> bool:
    """Whether a fresh access token may help."""
    if isinstance(error, platform.Unauthenticated):
        return True
    refusals = (platform.PermissionDenied, platform.BadRequest)
    return isinstance(error, refusals) and _TOKEN_REFUSED.search(str(error)) is not None


def explain(error: Exception, workspace: str, task: Task, *, secrets: Iterable[str] = ()) -> LakebaseError:
    """The error of ours that ``error`` stands for. Logs the trace of one that is not foreseen.

    Parameters
    ----------
    error
        What a call of the SDK ended with: its :func:`cause`.
    workspace
        Host name of the workspace, for the message.
    task
        What was being asked, for the message.
    secrets
        Texts that must not be in the message, even if the server repeats them.
    """
    secrets = tuple(secrets)
    if isinstance(error, LakebaseError):
        return error
    if isinstance(error, DatabricksError):
        # Here with the request id, which Databricks' support asks for.
        logger.info(
            "%s answered while %s: %s",
            workspace,
            task.doing,
            _redact(_CONFIG_TAIL.sub("", str(error)), secrets),
        )
        answered = _answered(error, workspace, task, tidy(str(error), secrets))
        answered.request_id = _request_id(error)
        return answered
    if isinstance(error, requests.exceptions.InvalidJSONError):
        return TransientError(
            Reason.CONTROL_PLANE_ERROR,
            f"{workspace} did not answer in JSON while {task.doing}: check that spec.workspaceURL is the address of a "
            f"Databricks workspace and that no proxy stands in for it.",
        )
    if isinstance(error, (requests.exceptions.RequestException, OSError)):  # TimeoutError is an OSError
        return TransientError(
            Reason.CONTROL_PLANE_UNREACHABLE,
            f"The Databricks workspace {workspace} cannot be reached while {task.doing}: {_unreachable(error, secrets)}.",
        )
    trace = _redact("".join(traceback.format_exception(error)), secrets)
    logger.warning("unforeseen error of the Databricks SDK while %s:\n%s", task.doing, trace)
    return TransientError(
        Reason.CONTROL_PLANE_ERROR,
        f"The Databricks workspace {workspace} failed while {task.doing}: "
        f"{tidy(f'{type(error).__name__}: {error}', secrets)}. It is tried again; the operator's log has the trace.",
    )


def _answered(error: DatabricksError, workspace: str, task: Task, said: str) -> LakebaseError:
    """An answer of the API. ``said`` is its text."""
    if error.error_code in _NOT_ENABLED:
        return InvalidError(
            Reason.LAKEBASE_NOT_ENABLED,
            f"The Databricks workspace {workspace} does not offer Lakebase ({said}): ask for it to be enabled there, "
            f"or check spec.workspaceURL and the kind of spec.target.",
        )
    if error.error_code in _LIMIT_REACHED or (
        isinstance(error, platform.ResourceExhausted) and _QUOTA.search(said) and not error.retry_after_secs
    ):
        return InvalidError(
            Reason.CAPACITY_LIMIT,
            f"The Databricks workspace {workspace} has reached a limit while {task.doing} ({said}): delete what is not "
            f"needed there, or ask Databricks for more. It is tried again from time to time.",
        )
    if isinstance(error, platform.ResourceConflict) or _CONFLICT.search(said):
        return TransientError(
            Reason.CONTROL_PLANE_CONFLICT,
            f"The Databricks workspace {workspace} is busy with another operation while {task.doing} ({said}): "
            f"it is tried again.",
        )
    if _OTHER_WORKSPACE.search(said):
        return InvalidError(
            Reason.WORKSPACE_MISMATCH,
            f"The Databricks workspace {workspace} refuses a token of another workspace while {task.doing} ({said}): check "
            f"spec.workspaceURL, and that the operator's service principal is assigned to that workspace.",
        )
    if token_refused(error):
        return InvalidError(
            Reason.OAUTH_CLIENT_REJECTED,
            f"The Databricks workspace {workspace} does not accept the token that it gave out itself, while "
            f"{task.doing} ({said}): check that the service principal is assigned to this workspace and is active.",
        )
    match error:
        case PrivateLinkValidationError():
            return InvalidError(
                Reason.CONTROL_PLANE_DENIED,
                f"The Databricks workspace {workspace} is closed to the operator's network by private link: let the "
                f"operator's cluster reach it through the private endpoint.",
            )
        case platform.PermissionDenied() if ADDRESS_BLOCKED.search(said):
            return InvalidError(
                Reason.ADDRESS_BLOCKED,
                f"The Databricks workspace {workspace} blocks the operator's network address while {task.doing} ({said}): "
                f"{ALLOW_ADDRESS}.",
            )
        case platform.PermissionDenied():
            return InvalidError(
                Reason.CONTROL_PLANE_DENIED,
                f"The Databricks workspace {workspace} refuses the operator while {task.doing} ({said}): "
                f"its service principal needs {task.needs}.",
            )
        case platform.NotFound():
            return NotReadyError(
                Reason.INSTANCE_NOT_FOUND,
                f"The Databricks workspace {workspace} finds nothing while {task.doing} ({said}): check spec.target, "
                f"and that the operator's service principal has {task.needs}.",
            )
        case platform.TooManyRequests():
            return TransientError(
                Reason.CONTROL_PLANE_THROTTLED,
                f"The Databricks workspace {workspace} asks for fewer requests while {task.doing} ({said}): "
                f"it is tried again when it allows.",
                retry_after=error.retry_after_secs,
            )
        case platform.BadRequest() if not isinstance(error, platform.InvalidState):
            return InvalidError(
                Reason.CONTROL_PLANE_ERROR,
                f"The Databricks workspace {workspace} rejects the request while {task.doing} ({said}): "
                f"check the names in spec.",
            )
        case _:
            return TransientError(
                Reason.CONTROL_PLANE_ERROR,
                f"The Databricks workspace {workspace} failed while {task.doing} ({said}): it is tried again.",
                retry_after=error.retry_after_secs,
            )


def _request_id(error: DatabricksError) -> str | None:
    """How the workspace calls the request, if it says so."""
    details = error.get_error_details()
    if details.request_info is not None and details.request_info.request_id:
        return str(details.request_info.request_id)
    found = _REQUEST_ID.search(str(error))
    return found["id"].strip() or None if found else None


def _unreachable(error: OSError, secrets: Iterable[str]) -> str:
    """Why no answer came, and what to do. The texts of requests differ each time (addresses of objects)."""
    text = str(error)
    match error:
        case requests.exceptions.ProxyError():
            return "the proxy refuses or does not answer; check HTTPS_PROXY and NO_PROXY of the operator"
        case requests.exceptions.SSLError():
            verification = re.search(r"certificate verify failed: ([^(\[]+)", text)
            why = verification.group(1).strip() if verification else "the TLS handshake failed"
            return f"{why}; if its certificate comes from a private authority, give the operator that authority's file"
        case requests.exceptions.Timeout() | TimeoutError():
            return "no answer in time; check that the operator's network reaches it"
        case requests.exceptions.ConnectionError() if "NameResolution" in text or "Name or service" in text:
            return "its name does not resolve; check spec.workspaceURL and the DNS of the operator's cluster"
        case requests.exceptions.ConnectionError() if "refused" in text:
            return (
                "the connection is refused; check spec.workspaceURL and the network policies of the operator"
            )
        case requests.exceptions.RequestException():
            return "the connection broke; check that the operator's network reaches it"
        case _:
            return tidy(text, secrets) or type(error).__name__


def _redact(text: str, secrets: Iterable[str]) -> str:
    for secret in secrets:
        if secret:
            text = text.replace(secret, "***")
    for pattern in _SECRETS:
        text = pattern.sub("***", text)
    return text
