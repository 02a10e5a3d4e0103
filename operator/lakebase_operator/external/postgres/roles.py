"""Reading and changing roles. Role DDL runs statement by statement, never in one transaction with grants: Lakebase
forwards it to its control plane at commit."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from psycopg.rows import tuple_row

from lakebase_operator.domain.memberships import Edge
from lakebase_operator.domain.plan import Actor
from lakebase_operator.domain.roles import NO_SETTINGS, RoleState
from lakebase_operator.external.postgres.ledger import read_version
from lakebase_operator.external.postgres.queries import query
from lakebase_operator.external.postgres.session import Connection


@dataclass(frozen=True, slots=True)
class Preflight:
    """What the operator's login is and may do in one database."""

    role: str
    database: str
    version: str
    version_num: int
    superuser: bool
    create_role: bool
    read_only: bool
    is_lakebase: bool
    databricks_superuser: bool
    create_on_database: bool
    own_connect: bool
    """It has CONNECT otherwise than through PUBLIC."""
    databricks_auth: str | None
    """Schema of the extension databricks_auth, if it is installed here."""
    ledger: bool
    """It is complete, and was written here."""
    ledger_owner: str
    ledger_version: int | None
    """What the ledger says of itself; None: there is none that the login may read."""

    @property
    def major_version(self) -> int:
        """16, 17, 18, …"""
        return self.version_num // 10000


async def preflight(connection: Connection) -> Preflight:
    """Ask the database who we are and what we may do."""
    row = await (await connection.execute(query("preflight"))).fetchone()
    assert row is not None, "current_user is always in pg_roles"
    version, here = await read_version(connection) if row.pop("says_version") else (None, True)
    return Preflight(**{**row, "ledger": row["ledger"] and here}, ledger_version=version)


async def read_roles(connection: Connection) -> tuple[RoleState, ...]:
    """All roles of the server."""
    async with connection.cursor(binary=True, row_factory=tuple_row) as cursor:
        await cursor.execute(query("roles"))
        return tuple([_role(*row) for row in await cursor.fetchall()])


def _role(
    oid: int, name: str, superuser: bool, login: bool, create_db: bool, create_role: bool, bypass_rls: bool, inherit: bool,
    connection_limit: int, valid_until: str | None, settings: Sequence[str] | None, identity: str | None, comment: str | None,
    database_settings: Mapping[str, Sequence[str]] | None, alterable: bool, inherits: bool, can_set: bool, admin: bool, is_operator: bool,
) -> RoleState:  # fmt: skip
    """A row of ``roles.sql``; there may be thousands."""
    by_database = {int(database): _settings(items) for database, items in (database_settings or {}).items()}
    return RoleState(
        oid, name, superuser, login, create_db, create_role, bypass_rls, inherit, connection_limit, valid_until,
        _settings(settings) if settings else NO_SETTINGS, identity, Actor(oid, name, inherits, can_set, admin, is_operator), comment,
        by_database or NO_SETTINGS, alterable,
    )  # fmt: skip


def _settings(items: Iterable[str]) -> dict[str, str]:
    return dict(item.split("=", 1) for item in items)


async def read_memberships(connection: Connection) -> tuple[Edge, ...]:
    """Every membership of the server, by grantor."""
    cursor = await connection.execute(query("memberships"), binary=True)
    return tuple([Edge(**row) async for row in cursor])


async def read_databases(connection: Connection) -> dict[str, int]:
    """OIDs of the server's databases by name, templates and those that take no sessions left out."""
    cursor = await connection.execute(
        "SELECT datname, oid FROM pg_database WHERE datallowconn AND NOT datistemplate", binary=True
    )
    return {row["datname"]: row["oid"] async for row in cursor}
