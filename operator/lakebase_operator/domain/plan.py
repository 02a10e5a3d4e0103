"""From a difference to statements: who acts, in which order, in how few statements."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import NamedTuple, TypeAlias, TypeVar

from psycopg import sql

from lakebase_operator.api.objects import Privilege
from lakebase_operator.domain.privileges import ObjectClass
from lakebase_operator.domain.role_statements import (
    RESET_ROLE,
    give_back_membership,
    grant_membership,
    set_local_role,
)
from lakebase_operator.domain.statements import ObjectName, PrivilegeStatement, Verb

T = TypeVar("T")

MAX_OBJECTS = 200
"""Objects in one statement: enough to make round trips rare, few enough that a failing one is found quickly."""
MAX_GRANTEES = 500
"""Grantees in one statement."""


MAX_ACL_ITEMS = 2400
"""Grantees that a relation or a column can have. Its ACL must fit into one row of 8 kB: measured, PostgreSQL 16 fails with
SQLSTATE 54000 at 2,442."""
MANY_ACL_ITEMS = 500
"""Grantees from which on a group role would be the better way."""
_LIMITED = frozenset({ObjectClass.TABLE, ObjectClass.SEQUENCE, ObjectClass.COLUMN})


class Origin(StrEnum):
    """Why something is different."""

    MISSING = "Missing"
    """Declared and not held."""
    UNDECLARED = "Undeclared"
    """The operator's doing, and not declared any more."""
    FORBIDDEN = "Forbidden"
    """Declared to be absent."""
    UNMANAGED = "Unmanaged"
    """Held, and nobody declares it."""


class Difference(NamedTuple):
    """One object and privilege with all grantees that differ, as ``compare.sql`` reports it."""

    verb: Verb
    object: ObjectName
    oid: int
    part: int
    """What the OID does not say: number of the column, schema of default privileges."""
    owner: int
    privilege: Privilege
    grantor: int | None
    """Who granted what is to be revoked; None for a grant."""
    grantees: tuple[int, ...]
    drifted: tuple[int, ...]
    """Those of the grantees that were as declared before, by the ledger: somebody changed it."""
    grantable: bool
    """The operator holds the grant option, itself or through a role it inherits from."""
    implied: bool
    """Only needed so that something else is usable (USAGE on its schema, CONNECT on its database)."""
    public: bool
    """PUBLIC holds it, so the grantees have it anyway."""
    selectors: tuple[int, ...]
    """Numbers of the selectors that declare it, or declare it absent."""
    others: tuple[int, ...] = ()
    """Of a revoke: roles that granted the same besides the grantor. What they gave stays."""
    grant_option: bool = False
    """It is about the grant option only; the privilege itself is a difference of its own."""
    origin: Origin = Origin.MISSING
    acl_items: int = 0
    """Entries of the object's ACL."""
    newcomers: tuple[int, ...] = ()
    """Grantees without any entry in the ACL, where it is close to its limit."""

    def for_grantees(self, grantees: tuple[int, ...]) -> "Difference":
        """The same for some of the grantees."""
        return self._replace(grantees=grantees)


@dataclass(frozen=True, slots=True)
class ColumnGrant:
    """What a grantee of a table holds on some of its columns besides, as ``compare.sql`` reports it of revokes."""

    object: ObjectName
    """The table."""
    privilege: Privilege
    grantor: int
    grantee: int
    columns: tuple[str, ...]
    grant_option: bool


class Acting(StrEnum):
    """How the operator can act for a role."""

    ITSELF = "itself"
    """Its privileges are the operator's: PostgreSQL chooses the role as grantor by itself."""
    SET_ROLE = "set role"
    """The operator may SET ROLE to it."""
    ADMIN = "admin"
    """The operator has ADMIN option on it: it can grant itself SET for the length of the transaction."""
    NO = "no"


class Actor(NamedTuple):
    """A role that owns objects or has granted something, and what the operator may do with it."""

    oid: int
    name: str
    inherits: bool
    can_set: bool
    admin: bool
    is_operator: bool

    @property
    def acting(self) -> Acting:
        """The way to act for this role; SET ROLE before the rest, because then there is no doubt who the grantor is."""
        if self.is_operator:
            return Acting.ITSELF
        if self.can_set:
            return Acting.SET_ROLE
        if self.inherits:
            return Acting.ITSELF
        return Acting.ADMIN if self.admin else Acting.NO


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be executed in one transaction, and what cannot be done."""

    statements: tuple[PrivilegeStatement, ...]
    """Revokes first."""
    temporary_set: tuple[str, ...]
    """Roles on which the operator must grant itself SET for the length of the transaction."""
    impossible: tuple[Difference, ...]
    carried_out: tuple[Difference, ...] = ()
    """The differences that the statements remove."""

    def __bool__(self) -> bool:
        return bool(self.statements)


def plan(
    differences: Iterable[Difference],
    actors: Mapping[int, Actor],
    role_names: Callable[[int], str | None],
    *,
    superuser: bool,
    sequences_first: bool = False,
) -> Plan:
    """Turn differences into statements.

    Parameters
    ----------
    differences
        What is missing and what is there too much.
    actors
        Owners and grantors by OID.
    role_names
        Name of a grantee by OID, or None if the role is gone.
    superuser
        The operator is one: its plain GRANT counts as the owner's.
    sequences_first
        Sequences before the tables that own them, else after: as DROP TABLE of this server locks them, lest the two wait for
        each other. Before PostgreSQL 18, GRANT locks rows of the catalog only, and DROP deletes the sequence's first; since
        then it locks the relation, and DROP locks the table first (tried on 16.14 and 18).

    The grantor is chosen on purpose, because PostgreSQL reports success where nothing was granted or revoked:
    https://www.postgresql.org/docs/current/sql-grant.html, "Notes".
    """
    cells: dict[_Cell, dict[tuple[str, ...], set[Privilege]]] = defaultdict(lambda: defaultdict(set))
    temporary: set[str] = set()
    possible: list[tuple[Difference, Actor | None, Acting]] = []
    impossible: list[Difference] = []
    names_of = _Names(role_names)
    for difference in differences:
        actor = actors.get(difference.grantor if difference.grantor is not None else difference.owner)
        acting = _acting(difference, actor, superuser=superuser)
        if acting is Acting.NO or not names_of[difference.grantees].names:
            impossible.append(difference)  # a role that is gone can still stand in an ACL
        else:
            possible.append((difference, actor, acting))
    covered = _covered(difference for difference, _, _ in possible)
    for difference, actor, acting in possible:
        known = names_of[difference.grantees]
        done = covered.get(_atom(difference), frozenset()) if _is_dominated(difference) else frozenset()
        names = known.names if not done else known.without(done)
        if not names:
            continue
        if acting is Acting.ADMIN and actor is not None:
            temporary.add(actor.name)
        acting_as = actor.name if actor is not None and acting in (Acting.SET_ROLE, Acting.ADMIN) else None
        apart = _apart(difference, actor, superuser=superuser) if acting_as is None else None
        cell = _Cell(difference.verb, difference.grant_option, difference.object, acting_as, apart)
        cells[cell][names].add(difference.privilege)
    return Plan(
        tuple(_rectangles(cells, sequences_first=sequences_first)),
        tuple(sorted(temporary)),
        tuple(impossible),
    )


def script(steps: Plan, operator_role: str) -> tuple[str, ...]:
    """Every statement of a plan, in the order in which it is carried out, with the changes of role between them."""
    lines = [
        grant_membership(role, operator_role, admin=False, inherit=False, set_=True).as_string(None)
        for role in steps.temporary_set
    ]
    acting_as: str | None = None
    for statement in steps.statements:
        if statement.acting_as != acting_as:
            acting_as = statement.acting_as
            lines.append(act_as(acting_as).as_string(None))
        lines.append(statement.text)
    if acting_as is not None:
        lines.append(RESET_ROLE.as_string(None))
    lines += [give_back_membership(role, operator_role).as_string(None) for role in steps.temporary_set]
    return tuple(lines)


def act_as(role: str | None) -> sql.SQL | sql.Composed:
    """Become a role, or the operator again."""
    return RESET_ROLE if role is None else set_local_role(role)


def within_acl_limit(
    differences: Iterable[Difference],
) -> tuple[tuple[Difference, ...], tuple[Difference, ...]]:
    """Leave out grantees that an object's ACL has no room for. Returns what fits and what does not.

    Those that stand in the ACL already may get more: their entries only change.
    """
    kept = tuple(differences)
    newcomers: dict[tuple[ObjectClass, int, int], set[int]] = defaultdict(set)
    for one in kept:
        if one.verb is Verb.GRANT and one.object.object_class in _LIMITED:
            newcomers[one.object.object_class, one.oid, one.part].update(one.newcomers)
    fitting, refused = [], []
    for one in kept:
        new = newcomers.get((one.object.object_class, one.oid, one.part), set())
        if one.verb is Verb.REVOKE or one.acl_items + len(new) <= MAX_ACL_ITEMS:
            fitting.append(one)
            continue
        if room := tuple(oid for oid in one.grantees if oid not in new):
            fitting.append(one.for_grantees(room))
        if without := tuple(oid for oid in one.grantees if oid in new):
            refused.append(one.for_grantees(without))
    return tuple(fitting), tuple(refused)


def keep_columns(
    steps: Plan,
    revoked: Iterable[Difference],
    held: Iterable[ColumnGrant],
    role_names: Callable[[int], str | None],
) -> Plan:
    """Let what is held on columns outlive the revokes of a plan.

    A REVOKE on a table takes along what the same grantor gave on its columns, and says nothing of it
    (https://www.postgresql.org/docs/current/sql-revoke.html, "Notes"): it is granted again after it.
    """
    if not (columns := tuple(held)):
        return steps
    taken: dict[tuple[ObjectName, Privilege, int | None, int, bool], None] = {}
    for one in revoked:
        for grantee in one.grantees:
            taken[one.object, one.privilege, one.grantor, grantee, one.grant_option] = None

    def again(statement: PrivilegeStatement) -> Iterator[PrivilegeStatement]:
        for one in columns:
            key = one.object, one.privilege, one.grantor, one.grantee
            if (*key, statement.grant_option) not in taken:
                continue
            if statement.grant_option and not one.grant_option:
                continue  # only the grant option was taken, and the columns had none
            if one.object not in statement.objects or one.privilege not in statement.privileges:
                continue
            if statement.acting_as not in (None, role_names(one.grantor)):
                continue
            if (name := role_names(one.grantee)) not in statement.grantees or name is None:
                continue
            for option in (False, True):
                kept = tuple(
                    thing
                    for column in one.columns
                    if (thing := _column(one.object, column))
                    and (thing, *key[1:], False) not in taken
                    and (one.grant_option and (thing, *key[1:], True) not in taken) is option
                )
                if kept:
                    yield PrivilegeStatement(
                        Verb.GRANT, kept, (one.privilege,), (name,), statement.acting_as, option
                    )

    restored = [
        grant for statement in steps.statements if statement.verb is Verb.REVOKE for grant in again(statement)
    ]
    return replace(steps, statements=(*steps.statements, *restored))


def _column(table: ObjectName, name: str) -> ObjectName:
    return ObjectName(ObjectClass.COLUMN, table.schema, table.name, name)


class _Cell(NamedTuple):
    """What statements are made of: an object, and what must not share a statement with others."""

    verb: Verb
    grant_option: bool
    object: ObjectName
    acting_as: str | None
    """The role to be set."""
    apart: int | Privilege | None
    """See :func:`_apart`."""


class _Grantees(NamedTuple):
    """Grantees that exist."""

    names: tuple[str, ...]
    """In order."""
    by_oid: Mapping[int, str]

    def without(self, done: Iterable[int]) -> tuple[str, ...]:
        """The names of all others."""
        gone = {self.by_oid.get(oid) for oid in done}
        return tuple(name for name in self.names if name not in gone)


class _Names(dict[tuple[int, ...], _Grantees]):
    """Names of grantees. Thousands of objects have the same few sets of them."""

    def __init__(self, name_of: Callable[[int], str | None]) -> None:
        self._name_of = name_of

    def __missing__(self, oids: tuple[int, ...]) -> _Grantees:
        by_oid = {oid: name for oid in oids if (name := self._name_of(oid)) is not None}
        found = self[oids] = _Grantees(tuple(sorted(by_oid.values())), by_oid)
        return found


_Atom: TypeAlias = tuple[Verb, ObjectName, Privilege, int | None]


def _atom(difference: Difference) -> _Atom:
    return difference.verb, difference.object, difference.privilege, difference.grantor


def _is_dominated(difference: Difference) -> bool:
    """A grant with grant option gives the privilege too; a revoke of the privilege takes the grant option too."""
    return difference.grant_option is (difference.verb is Verb.REVOKE)


def _covered(differences: Iterable[Difference]) -> Mapping[_Atom, frozenset[int]]:
    """Grantees for whom another statement does what a dominated difference asks for."""
    covered: dict[_Atom, frozenset[int]] = defaultdict(frozenset)
    for one in differences:
        if not _is_dominated(one):
            covered[_atom(one)] |= frozenset(one.grantees)
    return covered


def _acting(difference: Difference, actor: Actor | None, *, superuser: bool) -> Acting:
    if superuser and difference.grantor in (None, difference.owner):
        return Acting.ITSELF
    acting = actor.acting if actor is not None else Acting.NO
    if difference.object.object_class.is_default:
        return acting  # nobody but the creator changes them, whoever holds a grant option
    if acting in (Acting.NO, Acting.ADMIN) and difference.verb is Verb.GRANT and difference.grantable:
        return Acting.ITSELF  # a grant option at hand is better than a membership made for the purpose
    return acting


def _apart(difference: Difference, actor: Actor | None, *, superuser: bool) -> int | Privilege | None:
    """What keeps a privilege out of the statement of another, where PostgreSQL chooses the grantor: it takes one for all.

    What two roles granted is revoked in two statements, and grant options on two privileges may come from two roles.
    """
    if superuser or (actor is not None and actor.is_operator):
        return None
    if difference.verb is Verb.REVOKE:
        return difference.grantor
    return None if actor is not None and actor.inherits else difference.privilege


def _rectangles(
    cells: Mapping[_Cell, Mapping[tuple[str, ...], set[Privilege]]], *, sequences_first: bool
) -> Iterator[PrivilegeStatement]:
    """Put objects together that get the same privileges for the same grantees by the same role."""
    groups: dict[_Group, list[ObjectName]] = defaultdict(list)
    for cell, by_grantees in cells.items():
        for grantees, privileges in by_grantees.items():
            group = _Group(
                cell.verb is Verb.GRANT,
                cell.acting_as or "",
                _rank(cell.object.object_class, sequences_first=sequences_first),
                _alone(cell.object),
                cell.grant_option,
                tuple(sorted(privileges)),
                grantees,
            )
            groups[group].append(cell.object)
    for group in sorted(groups):
        verb = Verb.GRANT if group.grants else Verb.REVOKE
        objects = sorted(set(groups[group]), key=lambda item: item.sort_key)
        for some_objects in chunks(objects, MAX_OBJECTS):
            for some_grantees in chunks(group.grantees, MAX_GRANTEES):
                yield PrivilegeStatement(
                    verb,
                    tuple(some_objects),
                    group.privileges,
                    tuple(some_grantees),
                    group.acting_as or None,
                    group.grant_option,
                )


_ORDER = {object_class: rank for rank, object_class in enumerate(ObjectClass)}


def _rank(object_class: ObjectClass, *, sequences_first: bool) -> int:
    """Where statements about a class come."""
    return -1 if sequences_first and object_class is ObjectClass.SEQUENCE else _ORDER[object_class]


class _Group(NamedTuple):
    """What the objects of one statement share; sorted: revokes first, then by acting role, so that it is set rarely."""

    grants: bool
    acting_as: str
    rank: int
    alone: tuple[str, ...]
    grant_option: bool
    privileges: tuple[Privilege, ...]
    grantees: tuple[str, ...]


def _alone(thing: ObjectName) -> tuple[str, ...]:
    """Columns share a statement with those of the same table, default privileges with nothing."""
    if thing.object_class is ObjectClass.COLUMN:
        return thing.schema or "", thing.name
    return thing.sort_key if thing.object_class.is_default else ()


def chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Consecutive pieces of at most ``size``."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
