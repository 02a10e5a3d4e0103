"""What a pass knows of the roles of a server, and what it found of each that is declared."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from lakebase_operator.api import PostgresRole
from lakebase_operator.api.base import MAX_STATUS_ISSUES
from lakebase_operator.api.reasons import Reason
from lakebase_operator.domain.desired import PUBLIC
from lakebase_operator.domain.errors import InvalidError, LakebaseError
from lakebase_operator.domain.memberships import Edge, Everybody
from lakebase_operator.domain.near_names import near_names
from lakebase_operator.domain.people import RoleNames
from lakebase_operator.domain.plan import Actor
from lakebase_operator.domain.roles import Issue, RoleState
from lakebase_operator.external.postgres.roles import read_roles
from lakebase_operator.external.postgres.session import Connection

MOST_NEAR = 20
"""Missing roles in a pass for which near names are looked for."""


@dataclass(slots=True)
class RoleTally:
    """What was found of one PostgresRole."""

    role: PostgresRole
    issues: list[dict[str, str]] = field(default_factory=list)
    unmanaged: int | None = None
    """Memberships and settings that nobody declares; None: not counted."""
    owned: int = 0
    """Objects that it is to own and owns."""
    worst: tuple[Reason, str] | None = None
    """The first thing that keeps it from being ready, with a message."""
    waits: bool = False
    """What keeps it from being ready may pass by itself."""
    platform_schema: str | None = None
    """The schema of the role's own, once it is known to be fit: what is published."""
    ask_superuser: bool | None = None
    """What is to be asked of Databricks: to make it a member of databricks_superuser, or no member any more. None: nothing."""

    @property
    def of_full_passes(self) -> bool:
        """Whether there is something of it that a narrow pass does not look at."""
        spec = self.role.spec
        login = spec.suspend or spec.password is not None
        return bool(login or spec.platform_schema or spec.exposes or self.ask_superuser is not None)

    @property
    def has_more(self) -> bool:
        """Whether there is more to look at than the role itself: then it is concluded at the end of the pass."""
        return self.of_full_passes or bool(self.role.spec.owns)

    def note(self, issues: Iterable[Issue]) -> None:
        """Remember for ``status.issues``, up to its limit, each once."""
        for issue in issues:
            entry = {
                "object": issue.object[:512],
                "privilege": issue.privilege,
                "reason": issue.reason.value,
                "fix": issue.fix[:1024],
            }
            told = {key: value for key, value in entry.items() if value is not None}
            if len(self.issues) < MAX_STATUS_ISSUES and told not in self.issues:
                self.issues.append(told)

    def blame(self, reason: Reason, message: str, *, waits: bool = False) -> None:
        """Remember what keeps the role from being ready. The first is told, but what passes by itself goes before the rest:
        it is what another try is for."""
        if self.worst is None or (waits and not self.waits):
            self.worst, self.waits = (reason, message), waits

    def failed(self, error: LakebaseError) -> None:
        """Remember an error."""
        self.blame(error.reason, error.message, waits=not isinstance(error, InvalidError))


@dataclass(slots=True)
class Roles:
    """The roles of the server during a pass."""

    states: dict[str, RoleState]
    by_oid: dict[int, RoleState] = field(init=False)
    oids: dict[str, int] = field(init=False)
    actors: dict[int, Actor] = field(init=False)
    """What the operator may do with each."""
    declared: frozenset[str] = frozenset()
    """Names of those that a PostgresRole declares which is not being deleted."""
    edges: tuple[Edge, ...] = ()
    """Memberships, as they were before the pass; read only where a role is declared."""
    tallies: dict[str, RoleTally] = field(default_factory=dict)
    """What was found of those that are declared and managed, by name."""
    _near: dict[str, tuple[str, ...]] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self.by_oid = {state.oid: state for state in self.states.values()}
        self.oids = {name: state.oid for name, state in self.states.items()}
        self.actors = {state.oid: state.actor for state in self.states.values()}

    @classmethod
    async def read(cls, connection: Connection) -> "Roles":
        """All roles, in one statement."""
        return cls({state.name: state for state in await read_roles(connection)})

    @property
    def logins(self) -> Mapping[str, RoleTally]:
        """Those with a password, or suspended."""
        return {
            name: tally
            for name, tally in self.tallies.items()
            if tally.role.spec.password is not None or tally.role.spec.suspend
        }

    @property
    def owning(self) -> Mapping[str, RoleTally]:
        """Those that are to own something (``spec.owns``)."""
        return {name: tally for name, tally in self.tallies.items() if tally.role.spec.owns}

    @property
    def names(self) -> RoleNames:
        """To find people by."""
        return RoleNames(self.states)

    def near(self, name: str) -> tuple[str, ...]:
        """Names of roles that look like one that is missing. Of many that are missing only some are looked for: it takes time."""
        if name not in self._near:
            self._near[name] = near_names(name, self.states) if len(self._near) < MOST_NEAR else ()
        return self._near[name]

    def everybody(self, *, superuser: bool) -> Everybody:
        """To plan memberships with."""
        return Everybody(self.states.get, self.by_oid.get, superuser)

    def name_of(self, oid: int) -> str | None:
        """Name by OID; 0 is PUBLIC."""
        if oid == 0:
            return PUBLIC
        state = self.by_oid.get(oid)
        return state.name if state else None

    def grantee(self, oid: int) -> str | None:
        """Name by OID as a statement about privileges takes it. None for a role that is gone, and for one called PUBLIC: it would
        be taken for everybody."""
        name = self.name_of(oid)
        return name if name != PUBLIC or oid == 0 else None
