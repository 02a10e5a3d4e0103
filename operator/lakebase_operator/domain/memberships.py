"""Memberships: what is declared, what is there, and the statements between them.

PostgreSQL 16 and later keep one edge for each grantor, with the options ADMIN, INHERIT and SET. What a member holds is what all
edges together give: one logical membership (https://www.postgresql.org/docs/current/role-membership.html).
"""

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from psycopg import sql

from lakebase_operator.api.lakebase_connection import UnmanagedAction
from lakebase_operator.api.names import RESERVED_ROLE
from lakebase_operator.api.postgres_role import Membership
from lakebase_operator.api.reasons import Reason
from lakebase_operator.domain.plan import Acting, Actor
from lakebase_operator.domain.role_statements import (
    give_back_membership,
    grant_membership,
    lend_membership,
    revoke_membership,
)
from lakebase_operator.domain.roles import Issue, RoleState, Step

BOOTSTRAP_SUPERUSER = 10
"""OID of the role that initdb made."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a membership allows."""

    admin: bool
    inherit: bool
    set: bool

    def __or__(self, other: "Options") -> "Options":
        return Options(self.admin or other.admin, self.inherit or other.inherit, self.set or other.set)

    def __sub__(self, other: "Options") -> "Options":
        return Options(
            self.admin and not other.admin, self.inherit and not other.inherit, self.set and not other.set
        )

    def __bool__(self) -> bool:
        return self.admin or self.inherit or self.set

    def __iter__(self) -> Iterator[str]:
        """Keywords of those that are given."""
        flags = (("ADMIN", self.admin), ("INHERIT", self.inherit), ("SET", self.set))
        return (keyword for keyword, given in flags if given)


NOTHING = Options(admin=False, inherit=False, set=False)


@dataclass(frozen=True, slots=True)
class Edge:
    """One membership by one grantor."""

    role: int
    member: int
    grantor: int
    admin: bool
    inherit: bool
    set: bool

    @property
    def options(self) -> Options:
        return Options(self.admin, self.inherit, self.set)


@dataclass(frozen=True, slots=True)
class Take:
    """Something to be taken from an edge."""

    edge: Edge
    step: Step
    option: str | None = None
    """ADMIN, INHERIT or SET; None: the whole edge."""

    @property
    def key(self) -> tuple[Edge, str | None]:
        """What is taken from where."""
        return self.edge, self.option

    @property
    def takes_admin(self) -> bool:
        """Whether the member can no longer pass on what it has through this edge."""
        return self.edge.admin and self.option in (None, "ADMIN")


@dataclass(frozen=True, slots=True)
class MembershipPlan:
    """What makes the memberships of one role as declared."""

    revokes: tuple[Take, ...] = ()
    grants: tuple[Step, ...] = ()
    """Each step is ``about`` the OID of a group."""
    missing_roles: tuple[str, ...] = ()
    """Declared roles that do not exist."""
    issues: tuple[Issue, ...] = ()
    """What cannot be done, or is only to be reported."""
    declared: frozenset[int] = frozenset()
    """Groups whose membership is declared and can be had."""
    stuck: frozenset[int] = frozenset()
    """Groups of edges that are the operator's, and that it cannot revoke now."""

    @property
    def removed(self) -> frozenset[Edge]:
        """Edges that the revokes take away altogether."""
        return frozenset(take.edge for take in self.revokes if take.option is None)

    def ours(self, before: Iterable[int], failed: Iterable[int]) -> tuple[int, ...]:
        """What the ledger is to say once the steps are taken, but for those that failed."""
        known, missed = set(before), set(failed)
        left = {role for role in known - self.declared if role in missed or role in self.stuck}
        return tuple(sorted({role for role in self.declared if role not in missed or role in known} | left))


@dataclass(frozen=True, slots=True)
class Everybody:
    """All roles of the server and what the operator is among them."""

    find: Callable[[str], RoleState | None]
    by_oid: Callable[[int], RoleState | None]
    superuser: bool
    """The operator is one: it may act as any grantor, and what it grants counts as the bootstrap superuser's."""

    def is_own(self, edge: Edge) -> bool:
        """Whether an edge counts as the operator's: granted by it, or through a role whose privileges it has. What a role has
        granted itself is its own."""
        return edge.grantor != edge.member and self.grants_as(edge.grantor)

    def grants_as(self, grantor: int) -> bool:
        """Whether the operator's grants may be recorded as those of ``grantor``: itself, or a role whose privileges it has, if
        only that has ADMIN option (https://www.postgresql.org/docs/current/sql-grant.html)."""
        state = self.by_oid(grantor)
        if state is None:
            return False
        if self.superuser:
            return state.oid == BOOTSTRAP_SUPERUSER
        return state.actor.is_operator or state.actor.inherits

    def may_administer(self, role: RoleState) -> bool:
        """Whether the operator can grant membership in ``role``."""
        return self.superuser or role.actor.admin

    def acting_for(self, grantor: int) -> tuple[bool, Actor | None]:
        """Whether the operator can revoke what ``grantor`` gave, and the role to set for that."""
        state = self.by_oid(grantor)
        if state is None:
            return False, None
        if self.superuser or state.actor.is_operator or state.actor.inherits:
            return True, None  # GRANTED BY is enough
        return state.actor.acting is not Acting.NO, state.actor


def membership_change(
    member: RoleState,
    member_of: Sequence[Membership],
    edges: Iterable[Edge],
    ours: Iterable[int],
    everybody: Everybody,
    *,
    unmanaged: UnmanagedAction = UnmanagedAction.KEEP,
) -> MembershipPlan:
    """Compare declared memberships with what is there.

    A declared membership holds if all edges together give at least what is declared, under ``Revoke`` exactly that. The
    operator's own edges are made exactly as declared; those of other grantors are touched under ``Revoke`` only.

    Parameters
    ----------
    member
        The managed role.
    member_of
        What is declared of it.
    edges
        Memberships of any roles; those of ``member`` are used.
    ours
        OIDs of the groups that the ledger knows as declared before.
    unmanaged
        What happens to what nobody declares.
    """
    mine: dict[int, list[Edge]] = defaultdict(list)
    for edge in edges:
        if edge.member == member.oid:
            mine[edge.role].append(edge)
    plan = _Plan(member, everybody, unmanaged)
    for wanted in member_of:
        role = everybody.find(wanted.role)
        if role is None:
            plan.missing.append(wanted.role)
        else:
            plan.declared.add(role.oid)
            plan.give(role, Options(wanted.admin, wanted.inherit, wanted.set), mine[role.oid])
    known = set(ours)
    for oid in sorted(set(mine) - plan.declared):
        if (group := everybody.by_oid(oid)) is not None:
            plan.take(group, mine[oid], was_ours=oid in known)
    return plan.done()


class _Plan:
    """Collects what :func:`membership_change` finds."""

    def __init__(self, member: RoleState, everybody: Everybody, unmanaged: UnmanagedAction) -> None:
        self.member, self.everybody, self.unmanaged = member, everybody, unmanaged
        self.revokes: list[Take] = []
        self.grants: list[Step] = []
        self.missing: list[str] = []
        self.issues: list[Issue] = []
        self.declared: set[int] = set()
        self.stuck: set[int] = set()

    def done(self) -> MembershipPlan:
        return MembershipPlan(
            tuple(self.revokes),
            tuple(self.grants),
            tuple(self.missing),
            tuple(self.issues),
            frozenset(self.declared),
            frozenset(self.stuck),
        )

    def give(self, role: RoleState, target: Options, edges: Sequence[Edge]) -> None:
        """Make a declared membership hold."""
        own = [edge for edge in edges if self.everybody.is_own(edge)]
        others = [edge for edge in edges if not self.everybody.is_own(edge)]
        inexact = [edge for edge in own if edge.options != target]
        held = target if own else NOTHING
        for edge in others:
            held |= edge.options
            surplus = edge.options - target
            if not surplus or not is_unmanaged(role, self.member, edge):
                continue
            if self.unmanaged is UnmanagedAction.REVOKE:
                self._narrow(role, edge, surplus)
            elif self.unmanaged is UnmanagedAction.REPORT:
                self._report(role, edge, surplus)
        removed = {take.edge for take in self.revokes if take.option is None}
        if set(edges) - removed and not inexact and not target - held:
            return
        if not self.everybody.may_administer(role):
            self._not_admin(role, target, edges)
        elif own:
            for edge in inexact:
                self._exact(role, edge, target)
        else:
            self._grant(role, target, None)

    def take(self, role: RoleState, edges: Sequence[Edge], *, was_ours: bool) -> None:
        """Treat a membership that is not declared."""
        for edge in edges:
            if was_ours and self.everybody.is_own(edge):
                self._revoke(role, edge)
            elif not is_unmanaged(role, self.member, edge):
                continue
            elif self.unmanaged is UnmanagedAction.REVOKE:
                self._revoke(role, edge)
            elif self.unmanaged is UnmanagedAction.REPORT:
                self._report(role, edge, None)

    def _exact(self, role: RoleState, edge: Edge, target: Options) -> None:
        grantor = self._name(edge.grantor)
        if edge.admin and not target.admin:
            # GRANT … WITH ADMIN FALSE would not look at what the member has passed on.
            statement = revoke_membership(role.name, self.member.name, grantor, "ADMIN")
            doing = f"revoking ADMIN option on {role.name} from {self.member.name}"
            self.revokes.append(Take(edge, Step(statement, doing, about=role.oid), "ADMIN"))
        if target.admin and not edge.admin:
            self._grant(role, target, grantor)
        elif (edge.inherit, edge.set) != (target.inherit, target.set):
            statement = lend_membership(
                role.name, self.member.name, inherit=target.inherit, set_=target.set, grantor=grantor
            )
            self.grants.append(Step(statement, f"granting {role.name} to {self.member.name}", about=role.oid))

    def _grant(self, role: RoleState, target: Options, grantor: str | None) -> None:
        statement = grant_membership(
            role.name,
            self.member.name,
            admin=target.admin,
            inherit=target.inherit,
            set_=target.set,
            grantor=grantor,
        )
        self.grants.append(Step(statement, f"granting {role.name} to {self.member.name}", about=role.oid))

    def _narrow(self, role: RoleState, edge: Edge, surplus: Options) -> None:
        """Take from another grantor's edge what is not declared."""
        if surplus == edge.options:
            self._revoke(role, edge)
            return
        possible, actor = self.everybody.acting_for(edge.grantor)
        for option in surplus:
            statement = revoke_membership(role.name, self.member.name, self._name(edge.grantor), option)
            doing = f"revoking {option} option on {role.name} from {self.member.name}"
            self._take(role, edge, Step(statement, doing, actor, role.oid), possible=possible, option=option)

    def _revoke(self, role: RoleState, edge: Edge) -> None:
        possible, actor = self.everybody.acting_for(edge.grantor)
        if self.everybody.is_own(edge) and not self.everybody.may_administer(role):
            possible = False
            self.stuck.add(role.oid)
        statement = revoke_membership(role.name, self.member.name, self._name(edge.grantor))
        step = Step(statement, f"revoking {role.name} from {self.member.name}", actor, role.oid)
        self._take(role, edge, step, possible=possible)

    def _take(
        self, role: RoleState, edge: Edge, step: Step, *, possible: bool, option: str | None = None
    ) -> None:
        if possible:
            self.revokes.append(Take(edge, step, option))
        elif self.everybody.is_own(edge):
            fix = f"The operator has lost its ADMIN option on the role. Somebody who has it must run: {step}"
            self.issues.append(Issue(membership_name(role.name), Reason.NOT_ROLE_ADMIN, fix, option))
        else:
            fix = f'It was granted by "{self._name(edge.grantor)}", for whom the operator cannot act. They must run: {step}'
            self.issues.append(Issue(membership_name(role.name), Reason.UNREVOCABLE, fix, option))

    def _report(self, role: RoleState, edge: Edge, surplus: Options | None) -> None:
        grantor = self._name(edge.grantor)
        options = "" if surplus is None else f" {' and '.join(surplus)} option"
        fix = f'Granted by "{grantor}"{" with" + options if options else ""}, and not declared. Declare it, or have it revoked.'
        privilege = ", ".join(surplus) if surplus is not None else None
        self.issues.append(Issue(membership_name(role.name), Reason.UNMANAGED, fix, privilege))

    def _not_admin(self, role: RoleState, target: Options, edges: Sequence[Edge]) -> None:
        options = f" WITH {', '.join(f'{name} TRUE' for name in target)}" if target else ""
        if target == Options(admin=False, inherit=True, set=True):
            options = ""
        fix = (
            f'The operator has no ADMIN option on the role "{role.name}". Somebody who has it must run: '
            f'GRANT "{role.name}" TO "{self.member.name}"{options}; '
            "or give the operator ADMIN option on it."
        )
        self.issues.append(Issue(membership_name(role.name), Reason.NOT_ROLE_ADMIN, fix))
        if not edges:
            self.declared.discard(role.oid)

    def _name(self, oid: int) -> str:
        state = self.everybody.by_oid(oid)
        return state.name if state else str(oid)


def membership_name(role: str) -> str:
    """As ``status.issues`` names a membership."""
    return f"membership in {role}"


def is_unmanaged(role: RoleState, member: RoleState, edge: Edge) -> bool:
    """Whether an edge that nobody declares counts. Lakebase's own do not; nor does what comes with making a role: ADMIN alone,
    granted by the bootstrap superuser to a role with CREATEROLE."""
    if RESERVED_ROLE.fullmatch(role.name) and not role.name.startswith("pg_"):
        return False
    of_creator = edge.grantor == BOOTSTRAP_SUPERUSER and edge.options == Options(
        admin=True, inherit=False, set=False
    )
    return not (of_creator and member.create_role)


def not_passed_on(
    plans: Sequence[MembershipPlan], edges: Iterable[Edge], name_of: Callable[[int], str | None]
) -> Sequence[MembershipPlan]:
    """The same plans without what PostgreSQL would refuse: ADMIN option that its holder has used for somebody else, as long as
    that stays. Each is told with the statements that are needed first.

    Source: https://www.postgresql.org/docs/current/sql-revoke.html ("dependent privileges exist"; never CASCADE: it would take
    away what others gave).
    """
    by_role: dict[int, list[Edge]] = defaultdict(list)
    for edge in edges:
        by_role[edge.role].append(edge)
    taken = [take for plan in plans for take in plan.revokes]
    blocked: dict[tuple[Edge, str | None], list[Edge]] = {}
    settled = False
    while not settled:
        settled = True
        going = [take for take in taken if take.key not in blocked]
        gone = {take.edge for take in going if take.option is None}
        without_admin = {take.edge for take in going if take.takes_admin}
        for take in going:
            if not take.takes_admin:
                continue
            holder, others = take.edge.member, by_role[take.edge.role]
            used = [one for one in others if one.grantor == holder and one not in gone]
            if used and not any(
                one.member == holder and one.admin and one not in without_admin for one in others
            ):
                blocked[take.key] = used
                without_admin.discard(take.edge)
                settled = False  # what this edge depends on has to stay as well
    return tuple(_without(plan, blocked, name_of) for plan in plans)


def _without(
    plan: MembershipPlan,
    blocked: Mapping[tuple[Edge, str | None], Sequence[Edge]],
    name_of: Callable[[int], str | None],
) -> MembershipPlan:
    issues = []
    stuck = set()
    for take in plan.revokes:
        if take.key not in blocked:
            continue
        role, member = (str(name_of(oid)) for oid in (take.edge.role, take.edge.member))
        first = "; ".join(
            revoke_membership(role, str(name_of(one.member)), member).as_string(None)
            for one in blocked[take.key]
        )
        fix = f'"{member}" has passed it on: run {first}; it is then revoked with the next sync.'
        issues.append(Issue(membership_name(role), Reason.UNREVOCABLE, fix, take.option))
        stuck.add(take.edge.role)
    if not issues:
        return plan
    return replace(
        plan,
        revokes=tuple(take for take in plan.revokes if take.key not in blocked),
        issues=(*plan.issues, *issues),
        stuck=plan.stuck | stuck,
    )


def find_loops(
    declared: Iterable[tuple[str, str]], existing: Iterable[tuple[str, str]]
) -> Mapping[tuple[str, str], tuple[str, ...]]:
    """Declared memberships that would make a role a member of itself.

    What exists counts first, then what is declared, in the given order: the one that closes a loop is refused.

    Parameters
    ----------
    declared, existing
        (member, role) of each.

    Returns
    -------
    Mapping
        By refused membership the loop, from its member back to it.
    """
    groups: dict[str, set[str]] = defaultdict(set)
    for member, role in existing:
        groups[member].add(role)
    loops: dict[tuple[str, str], tuple[str, ...]] = {}
    for member, role in declared:
        if role in groups[member]:
            continue
        if path := _path(role, member, groups):
            loops[member, role] = (member, *path)
        else:
            groups[member].add(role)
    return loops


def reachable(start: str, groups: Mapping[str, Iterable[str]]) -> Mapping[str, str]:
    """Roles that ``start`` is a member of, directly or through others; each with the member through which."""
    found: dict[str, str] = {}
    pending = deque([start])
    while pending:
        one = pending.popleft()
        for group in groups.get(one, ()):
            if group not in found:
                found[group] = one
                pending.append(group)
    return found


def _path(start: str, end: str, groups: Mapping[str, Iterable[str]]) -> tuple[str, ...]:
    """Roles from ``start`` to ``end`` along memberships, both included; empty if there is no way."""
    if start == end:
        return (start,)
    found = reachable(start, groups)
    if end not in found:
        return ()
    path = [end]
    while path[-1] != start:
        path.append(found[path[-1]])
    return tuple(reversed(path))


def grant_depths(edges: Iterable[Edge]) -> Mapping[tuple[int, int], int]:
    """How many grantors stand between a membership (role, member) and the bootstrap superuser or the operator.

    PostgreSQL revokes only what nobody has passed on: the deepest must go first.
    """
    grantors: dict[tuple[int, int], set[int]] = defaultdict(set)
    for edge in edges:
        grantors[edge.role, edge.member].add(edge.grantor)
    depths: dict[tuple[int, int], int] = {}

    def depth(role: int, member: int) -> int:
        key = role, member
        if key not in depths:
            depths[key] = 0  # there are no circles; but nothing here may hang on one
            if key in grantors:
                depths[key] = 1 + max(depth(role, grantor) for grantor in grantors[key])
        return depths[key]

    for role, member in list(grantors):
        depth(role, member)
    return depths


def loan(
    role: RoleState,
    member: RoleState,
    edges: Iterable[Edge],
    everybody: Everybody,
    *,
    inherit: bool = False,
    set_: bool = False,
) -> tuple[sql.Composed, sql.Composed]:
    """A membership for the length of a transaction: the statement that begins it, and the one that ends it.

    Where the operator has granted one already, that is widened and afterwards made as it was.
    """
    own = next(
        (
            edge
            for edge in edges
            if (edge.role, edge.member) == (role.oid, member.oid) and everybody.grants_as(edge.grantor)
        ),
        None,
    )
    if own is None:
        begin = lend_membership(role.name, member.name, inherit=inherit, set_=set_)
        return begin, give_back_membership(role.name, member.name)
    grantor = everybody.by_oid(own.grantor)
    assert grantor is not None, "an own edge has a grantor that is known"
    wider = lend_membership(
        role.name, member.name, inherit=own.inherit or inherit, set_=own.set or set_, grantor=grantor.name
    )
    return wider, lend_membership(
        role.name, member.name, inherit=own.inherit, set_=own.set, grantor=grantor.name
    )
