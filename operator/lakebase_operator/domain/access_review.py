"""The access report: what each role holds beside what is declared of it, and which roles nobody seems to need."""

import csv
import io
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from lakebase_operator.api.names import SYSTEM_ROLE
from lakebase_operator.api.postgres_role import PostgresRoleSpec, RoleAttributes, RoleLevel
from lakebase_operator.domain.memberships import Edge
from lakebase_operator.domain.roles import RoleState

SUPERUSER_GROUP = "databricks_superuser"


class Wider(StrEnum):
    """In which way a role has more than is declared."""

    SUPERUSER = "Superuser"
    """It may do everything."""
    ATTRIBUTE = "Attribute"
    """An attribute of the role: CREATEDB, CREATEROLE, BYPASSRLS."""
    MEMBERSHIP = "Membership"
    """It is a member of a role, and by that may have what that one has."""
    OWNERSHIP = "Ownership"
    """It owns objects in a schema."""
    PRIVILEGE = "Privilege"
    """An entry in an ACL."""


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One thing that a role has, and that no declaration accounts for."""

    role: str
    kind: Wider
    object: str
    """The attribute, the role that it is a member of, the schema in which it owns something, or the object with its kind."""
    database: str = ""
    privilege: str = ""
    """Of an ownership: how many objects."""
    grantor: str = ""

    def __str__(self) -> str:
        match self.kind:
            case Wider.SUPERUSER:
                return f'"{self.role}" is a superuser'
            case Wider.ATTRIBUTE:
                return f'"{self.role}" has {self.object}'
            case Wider.MEMBERSHIP:
                return f'"{self.role}" is a member of {self.object}'
            case Wider.OWNERSHIP:
                return f'"{self.role}" owns {self.privilege} objects in {self.database}, {self.object}'
            case Wider.PRIVILEGE:
                return f'"{self.role}" has {self.privilege} on {self.object} in {self.database}'

    @property
    def key(self) -> tuple[str, ...]:
        """What makes it another one: how many objects are owned does not."""
        counted = self.kind is Wider.OWNERSHIP
        return (self.role, self.kind, self.object, self.database, "" if counted else self.privilege)


@dataclass(frozen=True, slots=True)
class Seen:
    """When a role was last seen logged in."""

    last: datetime
    logins: int
    """Sessions that began while somebody looked."""


@dataclass(slots=True)
class Holdings:
    """What a role holds itself."""

    granted: int = 0
    """Entries of ACLs, per object and privilege, without what it may do as an owner."""
    declared: int = 0
    """Of these, those that declarations account for."""
    owned: dict[tuple[str, str], int] = field(default_factory=dict)
    """Objects by database and schema (or kind, where there is no schema)."""

    def add(self, other: "Holdings") -> None:
        """Those of another database."""
        self.granted += other.granted
        self.declared += other.declared
        self.owned |= other.owned

    @property
    def owns(self) -> int:
        """Objects that it owns."""
        return sum(self.owned.values())


@dataclass(frozen=True, slots=True)
class Declaration:
    """What is declared of one role besides privileges."""

    by: str
    """As in ``PostgresRole team/shop``; empty: nobody."""
    spec: PostgresRoleSpec | None = None
    login_of: str | None = None
    """The role whose login it is, where two logins take turns."""


@dataclass(frozen=True, slots=True)
class ReviewedRole:
    """One line of the report."""

    role: str
    declared_by: str
    """Empty: nobody declares it."""
    mapped: bool
    """It is a subject of an AccessGrant that holds now, or a UserMapping leads to it."""
    login: bool
    sessions: int
    """Open at the moment."""
    last_seen: datetime | None
    """None: not since the operator looks."""
    logins: int
    granted: int
    granted_declared: int
    owned: int
    member: int
    """Held by roles that it is a member of, directly or not."""
    public: int
    """Held by everybody."""
    wider: int
    """Things that it has beside what is declared."""
    unused_since: datetime | None
    """None: it is used, or it is too early to tell."""


@dataclass(frozen=True, slots=True)
class Facts:
    """All that a review is made from."""

    roles: Mapping[str, RoleState]
    edges: Sequence[Edge]
    holdings: Mapping[int, Holdings]
    """By OID; 0 is PUBLIC."""
    undeclared: Sequence[Finding]
    """Privileges."""
    declarations: Mapping[str, Declaration]
    mapped: frozenset[str]
    seen: Mapping[int, Seen]
    sessions: Mapping[int, int]
    """Open sessions by OID."""
    since: datetime
    """Since when the operator looks who is logged in."""
    now: datetime
    patience: timedelta
    """So long nobody must have seen a role before it is called unused."""
    home: str
    """The connection's first database."""


@dataclass(frozen=True, slots=True)
class Review:
    """What came of it."""

    roles: tuple[ReviewedRole, ...]
    findings: tuple[Finding, ...]

    @property
    def unused(self) -> tuple[ReviewedRole, ...]:
        """Roles that nobody seems to need."""
        return tuple(one for one in self.roles if one.unused_since is not None)


def in_review(roles: Mapping[str, RoleState], declared: Iterable[str]) -> dict[int, str]:
    """Names by OID of the roles that a review speaks of: all that log in or are declared, but those of the system."""
    wanted = frozenset(declared)
    return {
        state.oid: name
        for name, state in sorted(roles.items())
        if (state.login or name in wanted) and not SYSTEM_ROLE.fullmatch(name)
    }


def review(facts: Facts) -> Review:
    """Put it together: pure arithmetic over what was read."""
    oids = in_review(facts.roles, (*facts.declarations, *facts.mapped))
    groups = _groups(facts.edges)
    findings = sorted([*_findings(facts, oids.values()), *facts.undeclared])
    wider: dict[str, int] = defaultdict(int)
    for one in findings:
        wider[one.role] += 1
    beneath = _logins(facts.declarations, facts.roles)
    operators = {state.oid for state in facts.roles.values() if state.actor.is_operator}
    with_members = {edge.role for edge in facts.edges if edge.member not in operators}
    public = facts.holdings.get(0, Holdings()).granted
    lines = []
    for oid, name in oids.items():
        state, held = facts.roles[name], facts.holdings.get(oid, Holdings())
        own = (oid, *beneath.get(name, ()))
        seen = [facts.seen[one] for one in own if one in facts.seen]
        last = max((one.last for one in seen), default=None)
        member = sum(
            above.granted + above.owns
            for group in _closure(oid, groups)
            if (above := facts.holdings.get(group)) is not None
        )
        sessions = sum(facts.sessions.get(one, 0) for one in own)
        mapped = name in facts.mapped
        declaration = facts.declarations.get(name, Declaration(""))
        needed = (
            sessions
            or held.granted
            or held.owns
            or member
            or mapped
            or state.actor.is_operator
            or (not state.login and oid in with_members)
            or declaration.login_of is not None
        )
        quiet = last or facts.since
        unused = None if needed or facts.now - quiet < facts.patience else quiet
        lines.append(
            ReviewedRole(
                role=name,
                declared_by="the operator itself" if state.actor.is_operator else declaration.by,
                mapped=mapped,
                login=state.login,
                sessions=sessions,
                last_seen=last,
                logins=sum(one.logins for one in seen),
                granted=held.granted,
                granted_declared=held.declared,
                owned=held.owns,
                member=member,
                public=public,
                wider=wider[name],
                unused_since=unused,
            )
        )
    return Review(tuple(lines), tuple(findings))


def _findings(facts: Facts, names: Iterable[str]) -> Iterator[Finding]:
    """What is wider, privileges left out. Never of the operator itself: it is told in ``PrivilegesSufficient``."""
    above: dict[int, set[int]] = defaultdict(set)
    for edge in facts.edges:
        above[edge.member].add(edge.role)
    name_of = {state.oid: name for name, state in facts.roles.items()}
    for name in names:
        state = facts.roles[name]
        if state.actor.is_operator:
            continue
        declaration = facts.declarations.get(name)
        spec = declaration.spec if declaration is not None else None
        if state.superuser:
            yield Finding(name, Wider.SUPERUSER, "SUPERUSER")
        for attribute, has, wanted in _attributes(state, spec):
            if has and not wanted:
                yield Finding(name, Wider.ATTRIBUTE, attribute)
        groups = {name_of.get(oid, f"role {oid}") for oid in above.get(state.oid, ())}
        for group in groups - _declared_groups(declaration):
            yield Finding(name, Wider.MEMBERSHIP, group)
        is_declared = _declared_places(spec, facts.home)
        for (database, place), count in facts.holdings.get(state.oid, Holdings()).owned.items():
            if not is_declared(database, place):
                yield Finding(name, Wider.OWNERSHIP, place, database, str(count))


def _attributes(state: RoleState, spec: PostgresRoleSpec | None) -> Iterator[tuple[str, bool, bool]]:
    wanted = spec.attributes if spec is not None else RoleAttributes()
    yield "CREATEDB", state.create_db, bool(wanted.create_db)
    yield "CREATEROLE", state.create_role, bool(wanted.create_role)
    yield "BYPASSRLS", state.bypass_rls, bool(wanted.bypass_rls)


def _declared_groups(declaration: Declaration | None) -> frozenset[str]:
    if declaration is None:
        return frozenset()
    if declaration.login_of is not None:
        return frozenset({declaration.login_of})
    if declaration.spec is None:
        return frozenset()
    level = {SUPERUSER_GROUP} if declaration.spec.level is RoleLevel.SUPERUSER else set[str]()
    return frozenset(one.role for one in declaration.spec.member_of) | level


def _declared_places(spec: PostgresRoleSpec | None, home: str) -> Callable[[str, str], bool]:
    """Whether it is declared that the role owns something in a schema of a database. Not object by object: that is what
    ``status.owned`` of the PostgresRole tells."""
    if spec is None:
        return lambda _database, _place: False
    patterns: list[tuple[str | None, re.Pattern[str]]] = []
    if spec.platform_schema is not None:
        patterns.append((spec.platform_schema.database, _glob(spec.platform_schema.name, exact=True)))
    for entry in spec.owns:
        database = entry.database or home
        for part in (entry.tables, entry.sequences, entry.routines, entry.types):
            if part is not None:
                patterns += [(database, _glob(part.schema_, exact=True))]
        if entry.schemas is not None:
            patterns += [(database, _glob(name, exact=True)) for name in entry.schemas.names or ()]
            patterns += [(database, _glob(name, exact=False)) for name in entry.schemas.matching or ()]
        for kind, found in (
            ("database", entry.databases),
            ("language", entry.languages),
            ("foreign-data wrapper", entry.foreign_data_wrappers),
            ("foreign server", entry.foreign_servers),
            ("large object", entry.large_objects),
            ("tablespace", entry.tablespaces),
        ):
            if found is not None:
                patterns.append((None, _glob(kind, exact=True)))

    def declared(database: str, place: str) -> bool:
        return any(where in (None, database) and what.fullmatch(place) for where, what in patterns)

    return declared


def _glob(text: str, *, exact: bool) -> re.Pattern[str]:
    if exact:
        return re.compile(re.escape(text))
    return re.compile("".join({"*": ".*", "?": "."}.get(char, re.escape(char)) for char in text), re.DOTALL)


def _logins(
    declarations: Mapping[str, Declaration], roles: Mapping[str, RoleState]
) -> dict[str, tuple[int, ...]]:
    """By role: the logins that take turns for it."""
    found: dict[str, tuple[int, ...]] = {}
    for name, one in declarations.items():
        if one.login_of is not None and name in roles:
            found[one.login_of] = (*found.get(one.login_of, ()), roles[name].oid)
    return found


def _groups(edges: Iterable[Edge]) -> Mapping[int, frozenset[int]]:
    """Roles that each can use: whose privileges it has, or that it can become."""
    found: dict[int, set[int]] = defaultdict(set)
    for edge in edges:
        if edge.inherit or edge.set:
            found[edge.member].add(edge.role)
    return {member: frozenset(groups) for member, groups in found.items()}


def _closure(oid: int, groups: Mapping[int, frozenset[int]]) -> frozenset[int]:
    found: set[int] = set()
    waiting = [oid]
    while waiting:
        for group in groups.get(waiting.pop(), ()):
            if group not in found:
                found.add(group)
                waiting.append(group)
    return frozenset(found - {oid})


# -- as text -----------------------------------------------------------------------------------------------------------

ROLE_HEADINGS = (
    "role", "declared_by", "mapped", "login", "sessions", "last_seen", "logins", "granted", "granted_declared", "owned",
    "member", "public", "wider", "unused_since",
)  # fmt: skip
FINDING_HEADINGS = ("role", "kind", "object", "database", "privilege", "grantor")
USE_HEADINGS = ("database", "object", "last_scan")


def role_line(one: ReviewedRole) -> tuple[object, ...]:
    """As :data:`ROLE_HEADINGS`."""
    return tuple(_plain(getattr(one, name)) for name in ROLE_HEADINGS)


def finding_line(one: Finding) -> tuple[object, ...]:
    """As :data:`FINDING_HEADINGS`."""
    return (one.role, one.kind.value, one.object, one.database, one.privilege, one.grantor)


def use_line(database: str, thing: str, last_scan: datetime | None) -> tuple[object, ...]:
    """As :data:`USE_HEADINGS`."""
    return (database, thing, _plain(last_scan))


def _plain(value: object) -> object:
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case datetime():
            return value.strftime("%Y-%m-%dT%H:%M:%SZ")
        case _:
            return value


def csv_text(
    headings: Sequence[str], lines: Iterable[Sequence[object]], most_bytes: int
) -> tuple[bytes, int]:
    """The lines as CSV, as far as they fit, and how many do not."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(headings)
    text, size, omitted = [out.getvalue()], len(out.getvalue().encode()), 0
    for line in lines:
        out.seek(0)
        out.truncate()
        writer.writerow(line)
        length = len(out.getvalue().encode())
        if omitted or size + length > most_bytes:
            omitted += 1
        else:
            text.append(out.getvalue())
            size += length
    return "".join(text).encode(), omitted
