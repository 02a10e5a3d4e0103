"""Ownership: which objects a role is to own, and how the operator can hand them over."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum

from psycopg import sql

from lakebase_operator.api.names import SYSTEM_SCHEMA
from lakebase_operator.api.objects import Objects
from lakebase_operator.api.postgres_role import Owned
from lakebase_operator.api.reasons import Reason
from lakebase_operator.domain.patterns import like_pattern
from lakebase_operator.domain.plan import Actor
from lakebase_operator.domain.roles import Issue


class OwnedClass(StrEnum):
    """Class of an object that can be owned, spelled as in ``ALTER … OWNER TO``; ALTER TABLE and ALTER TYPE also take what is
    like tables (views, foreign tables) and like types (domains)."""

    DATABASE = "DATABASE"
    SCHEMA = "SCHEMA"
    TABLE = "TABLE"
    SEQUENCE = "SEQUENCE"
    ROUTINE = "ROUTINE"
    TYPE = "TYPE"
    LANGUAGE = "LANGUAGE"
    FOREIGN_DATA_WRAPPER = "FOREIGN DATA WRAPPER"
    FOREIGN_SERVER = "SERVER"
    LARGE_OBJECT = "LARGE OBJECT"


_MEMBERS: dict[OwnedClass, Callable[[Objects], object | None]] = {
    OwnedClass.DATABASE: lambda entry: entry.databases,
    OwnedClass.SCHEMA: lambda entry: entry.schemas,
    OwnedClass.TABLE: lambda entry: entry.tables,
    OwnedClass.SEQUENCE: lambda entry: entry.sequences,
    OwnedClass.ROUTINE: lambda entry: entry.routines,
    OwnedClass.TYPE: lambda entry: entry.types,
    OwnedClass.LANGUAGE: lambda entry: entry.languages,
    OwnedClass.FOREIGN_DATA_WRAPPER: lambda entry: entry.foreign_data_wrappers,
    OwnedClass.FOREIGN_SERVER: lambda entry: entry.foreign_servers,
    OwnedClass.LARGE_OBJECT: lambda entry: entry.large_objects,
}


@dataclass(frozen=True, slots=True)
class OwnedSelector:
    """Objects of one database that one role is to own."""

    object_class: OwnedClass
    schema: str | None
    names: tuple[str, ...]
    matching: tuple[str, ...]
    """Patterns of LIKE."""
    excluding: tuple[str, ...]
    """Patterns of LIKE."""

    def as_json(self, number: int, owner: int) -> dict[str, object]:
        """The form in which the database gets it (``sql/owned.sql``)."""
        return {
            "id": number,
            "class": self.object_class.value,
            "schema": self.schema,
            "names": list(self.names),
            "matching": list(self.matching),
            "excluding": list(self.excluding),
            "owner": owner,
        }


def owned_selector(entry: Owned) -> OwnedSelector:
    """What one entry of ``spec.owns`` selects.

    Raises
    ------
    ValueError
        What the API server should have refused.
    """
    for object_class, member_of in _MEMBERS.items():
        if (member := member_of(entry)) is None:
            continue
        schema = getattr(member, "schema_", None)
        names = tuple(
            str(name) for name in getattr(member, "ids", None) or getattr(member, "names", None) or ()
        )
        system = [schema] if schema is not None else names if object_class is OwnedClass.SCHEMA else []
        if found := next((name for name in system if SYSTEM_SCHEMA.match(name)), None):
            raise ValueError(f"spec.owns: {found} is a system schema")
        return OwnedSelector(
            object_class,
            schema,
            tuple(sorted(set(names))),
            _patterns(getattr(member, "matching", None)),
            _patterns(getattr(member, "except_", None)),
        )
    raise ValueError("spec.owns: an entry names nothing that can be owned")


def _patterns(globs: Iterable[str] | None) -> tuple[str, ...]:
    return tuple(sorted({like_pattern(glob) for glob in globs or ()}))


@dataclass(frozen=True, slots=True)
class OwnedObject:
    """An object that somebody else owns than a declaration wants."""

    selectors: tuple[int, ...]
    """Numbers of those that select it; the first one decides."""
    object_class: OwnedClass
    oid: int
    name: str
    """As a statement names it, quoted by the database."""
    owner: int
    schema: str | None
    schema_owner: int | None
    new_may_create: bool
    """The new owner may make something in the schema, as PostgreSQL demands of it."""
    owner_may_use: bool
    """The present owner has USAGE on the schema; without it, it cannot even name what it owns."""
    operator_may_use: bool
    """So has the operator."""
    grantable: bool
    """The operator holds CREATE and USAGE on the schema with grant option."""
    owner_may_become: bool
    """The present owner can SET ROLE to the new one."""

    def __str__(self) -> str:
        return f"{self.object_class.value.lower()} {self.name}"

    def handover(self, new_owner: str) -> sql.Composed:
        """``ALTER … OWNER TO``."""
        return sql.SQL("ALTER {} {} OWNER TO {}").format(
            sql.SQL(self.object_class.value), sql.SQL(self.name), sql.Identifier(new_owner)
        )


@dataclass(frozen=True, slots=True)
class Route:
    """How an object is handed over. PostgreSQL wants whoever does it to have the old owner's privileges and to be able to SET
    ROLE to the new one (https://www.postgresql.org/docs/current/sql-altertable.html)."""

    as_owner: bool = False
    """The operator sets the role of the old owner."""
    inherit_owner: bool = False
    """The operator lends itself the old owner's privileges."""
    become_new: bool = False
    """The operator lends itself SET on the new owner."""
    lend_new: bool = False
    """The operator lends the old owner SET on the new one."""


def route(
    old: Actor, new: Actor, *, old_may_become_new: bool, as_itself: bool, superuser: bool
) -> Route | None:
    """The way to hand over an object, the one that lends the least first. None: there is none.

    ``as_itself``: the operator had better not act as the old owner, because PostgreSQL asks for further rights of whoever hands
    over a schema (CREATE on the database) or a database (CREATEDB).
    """
    if superuser:
        return Route()
    become = new.can_set or new.is_operator
    if (old.is_operator or old.inherits) and (become or new.admin):
        return Route(become_new=not become)
    as_owner = Route(as_owner=True) if old.can_set and old_may_become_new else None
    if as_owner is not None and not as_itself:
        return as_owner
    if old.admin and (become or new.admin):
        return Route(inherit_owner=True, become_new=not become)
    if as_owner is not None:
        return as_owner
    return Route(as_owner=True, lend_new=True) if old.can_set and new.admin else None


def not_handed_over(item: OwnedObject, new_owner: str, why: str) -> Issue:
    """What to tell of an object that stays with its owner."""
    statement = item.handover(new_owner).as_string(None)
    return Issue(str(item), Reason.NOT_OWNER, f"{why} Its owner or a superuser must run: {statement}")
