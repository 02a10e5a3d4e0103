"""What there is to know of roles in tests."""

import re
from typing import Any

from lakebase_operator.api import PostgresRole
from tests.postgres.world import Synced, World

ROLE_DDL = re.compile(
    r"(CREATE|ALTER|DROP|COMMENT ON) ROLE|GRANT \S+ TO|REVOKE (\w+ OPTION FOR )?\S+ FROM|SELECT.*databricks_create_role"
)


async def attributes(world: World, role: str) -> dict[str, Any]:
    """What pg_roles says of a role."""
    (row,) = await world.rows(
        "SELECT rolcanlogin, rolcreatedb, rolcreaterole, rolbypassrls, rolinherit, rolconnlimit, rolvaliduntil"
        " FROM pg_roles WHERE rolname = %s",
        role,
    )
    names = ("login", "createDB", "createRole", "bypassRLS", "inherit", "connectionLimit", "validUntil")
    return dict(zip(names, row, strict=True))


async def settings(world: World, role: str) -> list[str]:
    """Session defaults of a role, sorted."""
    found = await world.value(
        "SELECT setconfig FROM pg_db_role_setting WHERE setdatabase = 0 AND setrole = %s::regrole",
        f'"{role}"',
    )
    return sorted(found or [])


async def memberships(world: World, member: str) -> set[tuple[str, str, str]]:
    """(role, grantor, options) of every membership, the options as letters: Admin, Inherit, Set."""
    return {
        (role, grantor, "".join(letter for letter, held in zip("AIS", options, strict=True) if held))
        for role, grantor, *options in await world.rows(
            "SELECT pg_get_userbyid(roleid), pg_get_userbyid(grantor), admin_option, inherit_option, set_option"
            " FROM pg_auth_members WHERE pg_get_userbyid(member) = %s",
            member,
        )
    }


async def own_memberships(world: World, *roles: str) -> set[tuple[str, str, str]]:
    """The operator's memberships in the given roles."""
    return {edge for edge in await memberships(world, world.operator) if edge[0] in roles}


async def exists(world: World, role: str) -> bool:
    return bool(await world.value("SELECT count(*) FROM pg_roles WHERE rolname = %s", role))


async def oid(world: World, role: str) -> int:
    return int(await world.value("SELECT oid::bigint FROM pg_roles WHERE rolname = %s", role))


def role_ddl(synced: Synced) -> list[str]:
    """Statements that make, alter or drop roles or memberships."""
    return [text for text in synced.statements if ROLE_DDL.match(text)]


def known_as(role: PostgresRole, name: str, **meta: Any) -> PostgresRole:
    """The same declaration by an object of another name."""
    update = {"name": name, "uid": f"uid-{name}", **meta}
    return role.model_copy(update={"metadata": role.metadata.model_copy(update=update)})


def reported(role: PostgresRole, synced: Synced) -> PostgresRole:
    """The object with what the pass wrote about it."""
    created = synced.of(role).fields["created"]
    return role.model_copy(update={"status": role.status.model_copy(update={"created": created})})


def with_spec(role: PostgresRole, **spec: Any) -> PostgresRole:
    """The same object with another spec."""
    return role.model_copy(update={"spec": role.spec.model_copy(update=spec)})
