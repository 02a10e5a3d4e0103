"""Platform schemas: a schema of an application's own, which must never be one with somebody else's data."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from psycopg import sql

from lakebase_operator.api import AccessGrant, PostgresRole
from lakebase_operator.api.names import SYSTEM_SCHEMA
from lakebase_operator.api.objects import Objects

_IN_SCHEMAS = ("tables", "sequences", "routines", "types")
"""Members of ``objects`` that name a schema to select from."""


class Action(StrEnum):
    """What is to be done with a schema that a role wants for itself."""

    NONE = "none"
    CREATE = "create"
    HAND_OVER = "hand over"


@dataclass(frozen=True, slots=True)
class FoundSchema:
    """A schema as it is."""

    oid: int
    name: str
    owner: int
    occupied: bool
    """There is something in it."""
    foreign: str | None
    """Something in it that is neither the role's nor its logins', with its owner, as in ``table orders of "admin"``."""
    made: bool
    """The ledger says that the operator made it."""


@dataclass(frozen=True, slots=True)
class Unfit:
    """Why a schema cannot be an application's own."""

    why: str


def judge(name: str, role: int, found: FoundSchema | None, taken: str | None) -> Action | Unfit:
    """What to do with the schema that a role wants for itself.

    Parameters
    ----------
    name
        Name of the schema.
    role
        OID of the role.
    found
        The schema as it is; None: there is none.
    taken
        Who else speaks of it: :func:`data_schemas`, :func:`claimed_by_another`.
    """
    if name == "public" or SYSTEM_SCHEMA.match(name):
        return Unfit("it belongs to everybody, or to the system")
    if taken is not None:
        return Unfit(taken)
    if found is None:
        return Action.CREATE
    if found.foreign is not None:
        return Unfit(f"it holds {found.foreign}")
    if found.owner == role:
        return Action.NONE
    if found.occupied and not found.made:
        return Unfit("it is somebody else's, and is not empty")
    return Action.HAND_OVER


def data_schemas(
    grants: Iterable[AccessGrant], roles: Iterable[PostgresRole], database: str, databases: Sequence[str]
) -> Mapping[str, str]:
    """Schemas of a database that are named as ones with data, by name, each with who says so.

    Parameters
    ----------
    grants
        AccessGrants that declare something.
    roles
        PostgresRoles that do; what they own counts too.
    database
        The database.
    databases
        The connection's, the home first.
    """
    found: dict[str, str] = {}
    for grant in grants:
        if grant.spec.database == database:
            who = f"AccessGrant {grant.metadata.namespace}/{grant.metadata.name} selects what is in it by its name"
            for entry in grant.spec.objects:
                for schema in _selected_from(entry):
                    found.setdefault(schema, who)
    for role in roles:
        name = f"PostgresRole {role.metadata.namespace}/{role.metadata.name}"
        if role.login_database(databases) == database:
            for exposed in role.spec.exposes:
                found.setdefault(exposed.schema_, f"{name} exposes tables in it (spec.exposes)")
    return found


@dataclass(frozen=True, slots=True)
class Claim:
    """A PostgresRole that speaks of a schema as its own."""

    role: PostgresRole
    why: str
    for_itself: bool = False
    """As its platform schema, of which a role may have one that another has not: the older object's."""


def claims(
    roles: Iterable[PostgresRole], database: str, databases: Sequence[str]
) -> Mapping[str, Sequence[Claim]]:
    """Who declares to own a schema of a database, or something in it, or wants it for itself; by schema, in order of age."""
    found: dict[str, list[Claim]] = defaultdict(list)
    for role in roles:
        name = f"PostgresRole {role.metadata.namespace}/{role.metadata.name}"
        for entry in role.spec.owns:
            if (entry.database or databases[0]) == database:
                named = entry.schemas.names or [] if entry.schemas is not None else []
                for schema in (*_selected_from(entry), *named):
                    claim = Claim(role, f"{name} is to own it, or something in it (spec.owns)")
                    found[schema].append(claim)
        wanted = role.spec.platform_schema
        if wanted is not None and role.platform_database(databases) == database:
            claim = Claim(role, f"{name} has it for itself already (spec.platformSchema)", for_itself=True)
            found[wanted.name].append(claim)
    return found


def claimed_by_another(role: PostgresRole, of_schema: Iterable[Claim]) -> str | None:
    """Who else has the schema that a role wants for itself: by ``owns`` anybody, by ``platformSchema`` the older one."""
    reached = False
    for claim in of_schema:
        if claim.role is role:
            reached = reached or claim.for_itself
        elif not (claim.for_itself and reached):
            return claim.why
    return None


def _selected_from(entry: Objects) -> Iterator[str]:
    """Schemas that an entry selects from."""
    for member in _IN_SCHEMAS:
        if (selected := getattr(entry, member)) is not None:
            yield selected.schema_


def create_schema(name: str, owner: str) -> sql.Composed:
    """``CREATE SCHEMA``."""
    return sql.SQL("CREATE SCHEMA {} AUTHORIZATION {}").format(sql.Identifier(name), sql.Identifier(owner))


def drop_schema(name: str) -> sql.Composed:
    """``DROP SCHEMA``, with all that is in it."""
    return sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(name))
