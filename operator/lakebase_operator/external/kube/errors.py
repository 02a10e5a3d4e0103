"""What can go wrong with the Kubernetes API, in the operator's terms.

::

    LakebaseError
     ├── TransientError
     │    └── KubeError            anything that may pass by itself; ``status`` is the HTTP status, 0 without an answer
     │         ├── Gone            404: the object does not exist (any more)
     │         ├── Conflict        409: somebody else was faster
     │         ├── Expired         410: a list has become too old to be continued
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
        super().__init__(Reason.INTERNAL_ERROR, message, retry_after=retry_after)
        self.status = status


class Gone(KubeError):  # noqa: N818 - an expected answer, handled where it is asked for
    """The object does not exist."""


class Conflict(KubeError):  # noqa: N818
    """The object has been changed since it was read."""


class Expired(KubeError):  # noqa: N818
    """The list is too old to be continued."""


class Rejected(KubeError):  # noqa: N818
    """The server finds the request invalid."""


class Forbidden(InvalidError):  # noqa: N818
    """The operator's ServiceAccount lacks a right."""

    def __init__(self, message: str) -> None:
        super().__init__(Reason.INTERNAL_ERROR, message)
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
    message = _message(body) or f"HTTP status {status}"
    if status == 403:
        return Forbidden(
            f"Kubernetes refuses to {operation}: {message}. Give the operator's ServiceAccount this right."
        )
    pause = float(retry_after) if retry_after and retry_after.isdecimal() else None
    return _CLASSES.get(status, KubeError)(
        status, f"Kubernetes failed to {operation}: {message}", retry_after=pause
    )


def _message(body: bytes) -> str:
    try:
        status: Any = json.loads(body)
    except ValueError:
        return ""  # not from the API server but from a proxy on the way
    return str(status.get("message") or "") if isinstance(status, dict) else ""
