"""What a pass found: of each AccessGrant, and of each database."""

from dataclasses import dataclass, field

from lakebase_operator.api.base import MAX_STATUS_ISSUES
from lakebase_operator.api.reasons import Reason
from lakebase_operator.domain.plan import Difference, Origin


@dataclass(slots=True)
class Tally:
    """What was found of one AccessGrant, over the databases that it concerns."""

    objects: int = 0
    wanted: int = 0
    missing: int = 0
    """Of what is wanted."""
    remaining: int = 0
    """Of an AccessGrant that declares absence: what is held nevertheless."""
    issues: list[dict[str, str]] = field(default_factory=list)
    worst: tuple[Reason, str] | None = None
    """The first thing that keeps it from being ready, with a message."""
    waits: bool = False
    """What keeps it from being ready may pass by itself."""

    def issue(
        self, reason: Reason, thing: str, fix: str, *, role: str | None = None, privilege: str | None = None
    ) -> None:
        """Note something for ``status.issues``, up to its limit."""
        if len(self.issues) < MAX_STATUS_ISSUES:
            entry = {
                "object": thing[:512],
                "role": role,
                "privilege": privilege,
                "reason": reason.value,
                "fix": fix[:1024],
            }
            self.issues.append({key: value for key, value in entry.items() if value is not None})

    def blame(self, reason: Reason, message: str, *, waits: bool = False) -> None:
        """Note what keeps the grant from being ready; the first one is told."""
        if self.worst is None:
            self.worst, self.waits = (reason, message), waits


@dataclass(frozen=True, slots=True)
class Deviation:
    """One privilege that is not as declared, or that nobody declares."""

    origin: Origin
    object: str
    role: str
    privilege: str
    """With grant option, if it is about that."""
    grantor: str | None = None
    """Who granted it, where something is there too much; who took something away, the database does not know."""


@dataclass(frozen=True, slots=True)
class DatabaseResult:
    """What a pass did in one database."""

    database: str
    objects: int
    managed: int
    granted: int
    revoked: int
    """Statements carried out."""
    drifted: int
    """Privileges that somebody changed by hand: took away, or gave where their absence is declared."""
    repaired: bool
    unrevocable: tuple[Difference, ...]
    unfinished: bool = False
    """Something could not be done because somebody else held a lock, or was gone in between: worth another try soon."""
    public: tuple[str, ...] = ()
    """What everybody holds through PUBLIC, such as "CONNECT on database sales"; the first hundred."""
    drift: tuple[Deviation, ...] = ()
    """What drifted; the first twenty."""
    unmanaged: int | None = None
    """Privileges that nobody declares and that are still there; None: not looked for."""
    unmanaged_items: tuple[Deviation, ...] = ()
    """The first twenty of these."""
    planned: tuple[str, ...] = ()
    """With ``mode: Plan``: the statements that are to be approved, in order."""
