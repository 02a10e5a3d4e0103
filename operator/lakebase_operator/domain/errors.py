"""The three ways in which work can fail. Every adapter maps its own errors to these.

::

    LakebaseError
     ├── TransientError   may pass by itself: retried with backoff
     ├── NotReadyError    waits for something that announces itself, or for a state to pass: no alarm
     └── InvalidError     a person must change something: Stalled, no hot retry
"""

import re

from lakebase_operator.api.reasons import Reason

ADDRESS_BLOCKED = re.compile(
    r"IP ACL|IP access list|unauthorized network access|IP address .* not allowed|not allowed to connect to this endpoint",
    re.IGNORECASE,
)
"""How Databricks says, over HTTPS and as PostgreSQL, that it is the address that is refused and not the credential. Public
reports of both quote "Source IP address: … is blocked by Databricks IP ACL for workspace: …"; the lists themselves are described in
https://docs.databricks.com/en/security/network/front-end/ip-access-list-workspace.html."""
ALLOW_ADDRESS = (
    "add the address by which the operator's cluster reaches the internet to the workspace's IP access list"
)
"""What to do about it."""


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


_PERHAPS_DONE = frozenset({Reason.CONTROL_PLANE_UNREACHABLE, Reason.CONTROL_PLANE_ERROR})
"""Failures after which what Databricks was asked for may have been done all the same."""


def was_refused(error: LakebaseError) -> bool:
    """Whether nothing can have come of what Databricks was asked for."""
    return isinstance(error, InvalidError) or error.reason not in _PERHAPS_DONE
