"""What the control plane says of a database server, in one shape for all kinds of target."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class InstanceState(StrEnum):
    """State of the compute behind a connection; the Databricks states of both APIs map onto these."""

    AVAILABLE = "Available"
    ASLEEP = "Asleep"
    """Scaled to zero; a connection wakes it."""
    STARTING = "Starting"
    UPDATING = "Updating"
    FAILING_OVER = "FailingOver"
    STOPPED = "Stopped"
    DISABLED = "Disabled"
    """An endpoint that is switched off; a connection does not wake it."""
    DELETING = "Deleting"
    NOT_FOUND = "NotFound"
    UNKNOWN = "Unknown"

    @property
    def connectable(self) -> bool:
        """Whether trying SQL makes sense (it may wake a compute)."""
        return self in (InstanceState.AVAILABLE, InstanceState.ASLEEP)


@dataclass(frozen=True, slots=True)
class Instance:
    """A database server as its control plane sees it.

    ``host`` is None where the control plane gives none yet (still starting, or gone).
    """

    state: InstanceState
    host: str | None
    detail: str = ""
    """The control plane's own word for the state, for messages."""


@dataclass(frozen=True, slots=True)
class Credential:
    """A login for the database. ``expires_at`` is None for a password."""

    user: str
    password: str
    expires_at: datetime | None

    def __repr__(self) -> str:  # the secret must not reach a log through a traceback or a debugger's print
        return f"Credential(user={self.user!r}, password='***', expires_at={self.expires_at!r})"
