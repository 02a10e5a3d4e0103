"""What makes a PostgreSQL server look like a Lakebase compute."""

from collections.abc import Iterable
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from psycopg import AsyncConnection, sql

from lakebase_sandbox.postgres.identities import Identity

if TYPE_CHECKING:
    from lakebase_sandbox.postgres.server import PostgresServer

DEFAULT_DATABASE = "databricks_postgres"

OWNER_ATTRIBUTES = ("CREATEDB", "CREATEROLE", "BYPASSRLS", "REPLICATION")
OPERATOR_ATTRIBUTES = ("CREATEROLE",)


async def prepare_cluster(server: "PostgresServer", *, owner: Identity, operator: Identity | None) -> None:
    """Give a new cluster Lakebase's roles and its default database."""
    async with await server.connect("postgres") as connection:
        await _run(connection, "prepare_cluster.sql")
        await create_identity_role(connection, owner, OWNER_ATTRIBUTES, superuser_member=True)
        if operator is not None:
            await create_identity_role(connection, operator, OPERATOR_ATTRIBUTES, superuser_member=True)
        await _run(connection, "prepare_database.sql")
    await create_database(server, DEFAULT_DATABASE, owner.name)


async def create_database(server: "PostgresServer", name: str, owner: str) -> None:
    """Create a database the way Lakebase's API does."""
    # The template is small: copying its files takes half the time of writing them to the log.
    statement = sql.SQL("CREATE DATABASE {} OWNER {} STRATEGY FILE_COPY").format(
        sql.Identifier(name), sql.Identifier(owner)
    )
    async with await server.connect("postgres") as connection:
        await connection.execute(statement)
    async with await server.connect(name) as connection:
        await _run(connection, "prepare_database.sql")


async def create_identity_role(
    connection: AsyncConnection[Any],
    identity: Identity,
    attributes: Iterable[str] = (),
    *,
    superuser_member: bool = False,
) -> None:
    """Create a role that a Databricks identity logs in as, labelled with that identity."""
    name = sql.Identifier(identity.name)
    options = sql.SQL(" ").join(sql.SQL(a) for a in ("LOGIN", "INHERIT", *attributes))
    async with connection.transaction():
        await connection.execute(sql.SQL("CREATE ROLE {} {}").format(name, options))
        await connection.execute(
            "INSERT INTO pg_shseclabel (objoid, classoid, provider, label)"
            " SELECT oid, 'pg_authid'::regclass, 'databricks_auth', %s FROM pg_roles WHERE rolname = %s",
            (identity.label, identity.name),
        )
        if superuser_member:
            await grant_superuser_membership(connection, identity.name)


async def grant_superuser_membership(connection: AsyncConnection[Any], role: str) -> None:
    """Make `role` a member of databricks_superuser: it inherits, and may neither SET ROLE to it nor pass it on."""
    await connection.execute(
        sql.SQL("GRANT databricks_superuser TO {} WITH INHERIT TRUE, SET FALSE, ADMIN FALSE").format(
            sql.Identifier(role)
        )
    )


async def _run(connection: AsyncConnection[Any], script: str) -> None:
    await connection.execute(files(__package__).joinpath(script).read_bytes())
