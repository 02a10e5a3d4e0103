"""From a difference to statements: who acts, in which order, in how few statements."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TypeAlias, TypeVar

from lakebase_operator.api.access_grant import Privilege
from lakebase_operator.domain.privileges import ObjectClass
from lakebase_operator.domain.statements import ObjectName, PrivilegeStatement, Verb

T = TypeVar("T")

_Cell: TypeAlias = tuple[Verb, ObjectName, str | None, int | Privilege | None]
"""Verb, object, the role to be set, and what must not share a statement (:func:`_apart`)."""

MAX_OBJECTS = 200
"""Objects in one statement: enough to make round trips rare, few enough that a failing one is found quickly."""
MAX_GRANTEES = 500
"""Grantees in one statement."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One object and privilege with all grantees that differ, as ``compare.sql`` reports it."""

    verb: Verb
    object: ObjectName
    oid: int
    owner: int
    privilege: Privilege
    grantor: int | None
    """Who granted what is to be revoked; None for a grant."""
    grantees: tuple[int, ...]
    drifted: tuple[int, ...]
    """Those of the grantees that held it before, by the ledger: somebody took it away."""
    grantable: bool
    """The operator holds the grant option, itself or through a role it inherits from."""
    implied: bool
    """Only needed so that something else is usable (USAGE on its schema, CONNECT on its database)."""
    public: bool
    """PUBLIC holds it, so the grantees have it anyway."""
    selectors: tuple[int, ...]
    """Numbers of the selectors that declare it."""
    others: tuple[int, ...] = ()
    """Of a revoke: roles that granted the same besides the grantor. What they gave stays."""

    def for_grantees(self, grantees: tuple[int, ...]) -> "Difference":
        """The same for some of the grantees."""
        return replace(self, grantees=grantees)


@dataclass(frozen=True, slots=True)
class ColumnGrant:
    """What a grantee of a table holds on some of its columns besides, as ``compare.sql`` reports it of revokes."""

    object: ObjectName
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


@dataclass(frozen=True, slots=True)
class Actor:
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

    def __bool__(self) -> bool:
        return bool(self.statements)


def plan(
    differences: Iterable[Difference],
    actors: Mapping[int, Actor],
    role_names: Callable[[int], str | None],
    *,
    superuser: bool,
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

    The grantor is chosen on purpose, because PostgreSQL reports success where nothing was granted or revoked:
    https://www.postgresql.org/docs/current/sql-grant.html, "Notes".
    """
    cells: dict[_Cell, dict[tuple[str, ...], set[Privilege]]] = defaultdict(lambda: defaultdict(set))
    temporary: set[str] = set()
    impossible: list[Difference] = []
    for difference in differences:
        actor = actors.get(difference.grantor if difference.grantor is not None else difference.owner)
        acting = _acting(difference, actor, superuser=superuser)
        names = tuple(sorted(name for oid in difference.grantees if (name := role_names(oid)) is not None))
        if acting is Acting.NO or not names:  # a role that is gone can still stand in an ACL
            impossible.append(difference)
            continue
        if acting is Acting.ADMIN and actor is not None:
            temporary.add(actor.name)
        acting_as = actor.name if actor is not None and acting in (Acting.SET_ROLE, Acting.ADMIN) else None
        apart = _apart(difference, actor, superuser=superuser) if acting_as is None else None
        cells[difference.verb, difference.object, acting_as, apart][names].add(difference.privilege)
    return Plan(tuple(_rectangles(cells)), tuple(sorted(temporary)), tuple(impossible))


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
    taken = {(one.object, one.privilege, one.grantor, grantee) for one in revoked for grantee in one.grantees}
    lost = [one for one in held if (one.object, one.privilege, one.grantor, one.grantee) in taken]
    again = [
        PrivilegeStatement(
            Verb.GRANT,
            (one.object,),
            (one.privilege,),
            (name,),
            statement.acting_as,
            one.columns,
            one.grant_option,
        )
        for statement in steps.statements
        if statement.verb is Verb.REVOKE
        for one in lost
        if one.object in statement.objects and one.privilege in statement.privileges
        if statement.acting_as in (None, role_names(one.grantor))
        if (name := role_names(one.grantee)) in statement.grantees
    ]
    return replace(steps, statements=(*steps.statements, *again))


def _acting(difference: Difference, actor: Actor | None, *, superuser: bool) -> Acting:
    if superuser and difference.grantor in (None, difference.owner):
        return Acting.ITSELF
    acting = actor.acting if actor is not None else Acting.NO
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
    cells: Mapping[_Cell, Mapping[tuple[str, ...], set[Privilege]]],
) -> Iterator[PrivilegeStatement]:
    """Put objects together that get the same privileges for the same grantees by the same role."""
    groups: dict[tuple[Verb, ObjectClass, str, tuple[Privilege, ...], tuple[str, ...]], list[ObjectName]] = (
        defaultdict(list)
    )
    for (verb, item, acting_as, _), by_grantees in cells.items():
        for grantees, privileges in by_grantees.items():
            group = verb, item.object_class, acting_as or "", tuple(sorted(privileges)), grantees
            groups[group].append(item)
    # Revokes first, then by acting role, so that the role is set as rarely as possible.
    order = sorted(groups, key=lambda key: (key[0] is Verb.GRANT, key[2], key[1], key[3], key[4]))
    for key in order:
        verb, _, acting_as, ordered, grantees = key
        objects = sorted(set(groups[key]))
        for some_objects in chunks(objects, MAX_OBJECTS):
            for some_grantees in chunks(grantees, MAX_GRANTEES):
                yield PrivilegeStatement(
                    verb, tuple(some_objects), ordered, tuple(some_grantees), acting_as or None
                )


def chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Consecutive pieces of at most ``size``."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
