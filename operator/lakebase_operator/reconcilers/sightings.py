"""Who was seen logged in. The database keeps no list of logins that the operator could read, so it looks at open sessions."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from lakebase_operator.domain.access_review import Seen
from lakebase_operator.external.postgres.access_review import Look, Session


@dataclass(slots=True)
class Sightings:
    """Of one connection, since the process began. A session that is shorter than the time between two looks is not seen."""

    open: frozenset[Session] | None = None
    """Sessions of the last look; None: nobody has looked yet."""
    last: dict[int, datetime] = field(default_factory=dict)
    """When a role was last seen, by OID; only what no report has written down."""
    logins: Counter[int] = field(default_factory=Counter)
    """Sessions that have begun between two looks, by OID; only what no report has written down."""
    wider: frozenset[tuple[str, ...]] | None = None
    """What the last report found wider than declared; None: no report yet."""

    def take(self, look: Look) -> Counter[int]:
        """Remember a look. Returns how many sessions of each role have begun since the last one."""
        begun: Counter[int] = Counter()
        if self.open is not None:
            begun.update(role for _, role, _ in look.sessions - self.open)
        self.open = look.sessions
        for _, role, _ in look.sessions:
            self.last[role] = look.at
        self.logins += begun
        return begun

    def sessions(self) -> Counter[int]:
        """Open sessions by role."""
        return Counter(role for _, role, _ in self.open or ())

    def over(self, known: Mapping[int, Seen]) -> dict[int, Seen]:
        """What is not written down yet, on top of what is."""
        return {
            role: Seen(last, self.logins[role] + (known[role].logins if role in known else 0))
            for role, last in self.last.items()
        }

    def written(self) -> None:
        """It has been written down."""
        self.last.clear()
        self.logins.clear()
