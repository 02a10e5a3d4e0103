"""The control plane's hand in Postgres: roles and databases, as the bootstrap superuser."""

import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from psycopg import sql

from lakebase_sandbox.postgres import Identity, IdentityKind
from lakebase_sandbox.postgres.lakebase import create_identity_role, grant_superuser_membership
from lakebase_sandbox.simulator.errors import ApiError, bad_request
from lakebase_sandbox.simulator.target import Target, TargetState

ATTRIBUTES = ("createdb", "createrole", "bypassrls")
SUPERUSER = "databricks_superuser"
SYSTEM_ROLE = re.compile(r"^(pg_|databricks_|neon|cloud_admin$|zenith_admin$|authenticator$)")
SYSTEM_DATABASES = ("postgres", "template0", "template1")


@dataclass(frozen=True, slots=True)
class PostgresRole:
    """A role as it is in Postgres; `identity_kind` comes from its security label."""

    name: str
    oid: int
    can_login: bool
    attributes: Mapping[str, bool]
    has_password: bool
    identity_kind: IdentityKind | None
    is_superuser_member: bool


@dataclass(frozen=True, slots=True)
class PostgresDatabase:
    name: str
    owner: str


async def list_roles(target: Target) -> list[PostgresRole]:
    """All roles but the system's, by name."""
    rows = await target.execute(
        "SELECT r.rolname, r.oid, r.rolcanlogin, r.rolcreatedb, r.rolcreaterole, r.rolbypassrls,"
        " r.rolpassword IS NOT NULL, substring(l.label FROM 'type=(\\w+)'),"
        " EXISTS (SELECT FROM pg_auth_members AS m"
        "         WHERE m.member = r.oid AND m.roleid = 'databricks_superuser'::regrole)"
        " FROM pg_authid AS r LEFT JOIN pg_shseclabel AS l ON l.objoid = r.oid"
        " AND l.classoid = 'pg_authid'::regclass AND l.provider = 'databricks_auth' ORDER BY r.rolname"
    )
    return [
        PostgresRole(
            name=name,
            oid=oid,
            can_login=can_login,
            attributes=dict(zip(ATTRIBUTES, attributes, strict=True)),
            has_password=has_password,
            identity_kind=None if kind is None else IdentityKind(kind),
            is_superuser_member=member,
        )
        for name, oid, can_login, *attributes, has_password, kind, member in rows
        if not SYSTEM_ROLE.match(name)
    ]


async def get_role(target: Target, name: str) -> PostgresRole | None:
    return next((role for role in await list_roles(target) if role.name == name), None)


async def create_role(
    target: Target,
    name: str,
    *,
    identity: Identity | None,
    password: str | None,
    attributes: Mapping[str, bool],
    superuser_member: bool,
) -> None:
    """Create a role: of an identity, or one that logs in with a password."""
    await make_ready(target)
    options = [a.upper() for a in ATTRIBUTES if attributes.get(a)]
    async with await target.server.connect("postgres") as connection:
        if identity is not None:
            await create_identity_role(connection, identity, options, superuser_member=superuser_member)
            return
        async with connection.transaction():
            await connection.execute(
                sql.SQL("CREATE ROLE {} LOGIN PASSWORD {} " + " ".join(options)).format(
                    sql.Identifier(name), password
                )
            )
            if superuser_member:
                await grant_superuser_membership(connection, name)


async def set_attributes(target: Target, name: str, attributes: Mapping[str, bool]) -> None:
    await make_ready(target)
    words = [a.upper() if attributes[a] else f"NO{a.upper()}" for a in ATTRIBUTES if a in attributes]
    if words:
        await target.execute(sql.SQL("ALTER ROLE {} " + " ".join(words)).format(sql.Identifier(name)))


async def set_superuser_member(target: Target, name: str, *, member: bool) -> None:
    await make_ready(target)
    async with await target.server.connect("postgres") as connection:
        if member:
            await grant_superuser_membership(connection, name)
        else:
            statement = sql.SQL(f"REVOKE {SUPERUSER} FROM {{}}").format(sql.Identifier(name))
            await connection.execute(statement)


def new_password() -> str:
    return secrets.token_urlsafe(24)


async def set_password(target: Target, name: str, password: str) -> None:
    """Give a role a password, with which it may log in."""
    await make_ready(target)
    await target.execute(sql.SQL("ALTER ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(name), password))


async def drop_role(target: Target, name: str, reassign_owned_to: str | None) -> None:
    """Drop a role with all its privileges.

    Raises:
        ApiError: it owns objects and nobody was named to have them.
    """
    await make_ready(target)
    owned = await target.execute(
        "SELECT count(*) FROM pg_shdepend WHERE refclassid = 'pg_authid'::regclass"
        " AND refobjid = (SELECT oid FROM pg_roles WHERE rolname = %s) AND deptype = 'o'",
        (name,),
    )
    if owned[0][0] and not reassign_owned_to:
        raise bad_request(f'role "{name}" cannot be dropped because some objects depend on it')
    role = sql.Identifier(name)
    for database in await _all_databases(target):
        async with await target.server.connect(database) as connection:
            if reassign_owned_to:
                heir = sql.Identifier(reassign_owned_to)
                await connection.execute(sql.SQL("REASSIGN OWNED BY {} TO {}").format(role, heir))
            await connection.execute(sql.SQL("DROP OWNED BY {}").format(role))
    await target.execute(sql.SQL("DROP ROLE {}").format(role))


async def list_databases(target: Target) -> list[PostgresDatabase]:
    """All databases but the system's, by name."""
    rows = await target.execute(
        "SELECT datname, pg_get_userbyid(datdba) FROM pg_database ORDER BY datname",
    )
    return [PostgresDatabase(name, owner) for name, owner in rows if name not in SYSTEM_DATABASES]


async def create_database(target: Target, name: str, owner: str) -> None:
    await make_ready(target)
    await target.server.create_lakebase_database(name, owner)


async def drop_database(target: Target, name: str) -> None:
    await make_ready(target)
    await target.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


async def change_database(target: Target, name: str, *, owner: str | None, new_name: str | None) -> None:
    await make_ready(target)
    database = sql.Identifier(name)
    if owner:
        await target.execute(sql.SQL("ALTER DATABASE {} OWNER TO {}").format(database, sql.Identifier(owner)))
    if new_name and new_name != name:
        await target.execute(
            sql.SQL("ALTER DATABASE {} RENAME TO {}").format(database, sql.Identifier(new_name))
        )


async def make_ready(target: Target) -> None:
    """Wake the compute, as every change does.

    Raises:
        ApiError: it cannot be woken.
    """
    await target.wake()
    if target.state in {TargetState.DISABLED, TargetState.STOPPED, TargetState.STARTING}:
        raise ApiError(400, "INVALID_STATE", f"The compute is not running: its state is {target.state}.")


async def _all_databases(target: Target) -> Iterable[str]:
    return [row[0] for row in await target.execute("SELECT datname FROM pg_database WHERE datallowconn")]
