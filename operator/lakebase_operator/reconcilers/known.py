"""What a pass without any trouble leaves behind, so that the next one need only look at what changed since."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from lakebase_operator.engine.catalog import Dirty
from lakebase_operator.engine.keys import ObjectKey

Grantees = frozenset[str]


@dataclass(slots=True)
class Known:
    """Who is meant by each AccessGrant of a connection, as it was carried out.

    A narrow pass looks at the AccessGrants that changed, and at what the roles hold that these mean or meant. For that it
    needs the other AccessGrants of the same roles too: together they say what a role is to hold.
    """

    oids: Mapping[str, int]
    """Roles of the server by name. Others now: everything has to be looked at."""
    full_at: float = 0.0
    """When everything is to be compared again at the latest, by the monotonic clock."""
    next_change: datetime | None = None
    """When time alone changes what is declared."""
    waiting: frozenset[ObjectKey] = frozenset()
    """AccessGrants that were carried out as far as possible and wait, such as for a role that does not exist yet."""
    platform: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Schemas that are applications' own, by database."""
    far: set[ObjectKey] = field(default_factory=set)
    """AccessGrants that :attr:`~lakebase_operator.domain.desired.Declared.reaches_far`."""
    _grantees: dict[ObjectKey, Grantees] = field(default_factory=dict)
    _of_role: dict[str, set[ObjectKey]] = field(default_factory=dict)
    _shared: dict[Grantees, Grantees] = field(default_factory=dict)
    """Most AccessGrants mean the same few roles: each set is kept once."""

    def __contains__(self, grant: ObjectKey) -> bool:
        return grant in self._grantees

    def __len__(self) -> int:
        return len(self._grantees)

    def put(self, grant: ObjectKey, grantees: Grantees, *, far: bool = False) -> None:
        """An AccessGrant means these roles now."""
        self.drop(grant)
        if far:
            self.far.add(grant)
        self._grantees[grant] = self._shared.setdefault(grantees, grantees)
        for role in grantees:
            self._of_role.setdefault(role, set()).add(grant)

    def drop(self, grant: ObjectKey) -> None:
        """An AccessGrant declares nothing any more."""
        self.far.discard(grant)
        for role in self._grantees.pop(grant, ()):
            self._of_role[role].discard(grant)

    def grantees(self, grants: Iterable[ObjectKey]) -> Grantees:
        """Roles that these AccessGrants meant when they were carried out."""
        return frozenset().union(*(self._grantees.get(grant, ()) for grant in grants))

    def about(self, roles: Iterable[str]) -> frozenset[ObjectKey]:
        """AccessGrants that mean one of these roles."""
        return frozenset().union(*(self._of_role.get(role, ()) for role in roles))

    def narrow(self, dirty: Dirty, kind: str, now: datetime, monotonic: float) -> frozenset[ObjectKey] | None:
        """The AccessGrants that a narrow pass has to look at; None: it must look at everything.

        Parameters
        ----------
        dirty
            What happened since.
        kind
            The name of the kind AccessGrant.
        now, monotonic
            The time, by both clocks.
        """
        if (
            dirty.full
            or not dirty.objects
            or any(one.kind != kind for one in dirty.objects)
            or monotonic >= self.full_at
            or (self.next_change is not None and now >= self.next_change)
        ):
            return None
        return dirty.objects
