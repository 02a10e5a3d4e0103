"""The three ways in which work can fail. Every adapter maps its own errors to these.

::

    LakebaseError
     ├── TransientError   may pass by itself: retried with backoff
     ├── NotReadyError    waits for something that announces itself, or for a state to pass: no alarm
     └── InvalidError     a person must change something: Stalled, no hot retry
"""

from lakebase_operator.api.reasons import Reason


class LakebaseError(Exception):
    """Something that can be said in a condition.

    Parameters
    ----------
    reason
        Machine-readable cause.
    message
        One sentence for people: what is wrong and what to do. Never holds a secret.
    retry_after
        Seconds to wait at least before trying again, when the other side said so.

    Attributes
    ----------
    request_id
        How the other side calls the request that failed, for its support; it differs each time, so it is no part of the
        message.
    """

    request_id: str | None = None

    def __init__(self, reason: Reason, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason
        self.message = message
        self.retry_after = retry_after


class TransientError(LakebaseError):
    """May pass by itself."""


class NotReadyError(LakebaseError):
    """Waits for something else: a stopped instance, a missing object, a Secret."""


class InvalidError(LakebaseError):
    """Stays until a person changes a declaration, a Secret or a right."""
