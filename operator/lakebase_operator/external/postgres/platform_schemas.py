"""Reading platform schemas, and what the ledger knows of them."""

from collections.abc import Iterable, Mapping

from psycopg import sql
from psycopg.types.json import Jsonb

from lakebase_operator.domain.platform_schema import FoundSchema
from lakebase_operator.external.postgres.queries import query
from lakebase_operator.external.postgres.session import Connection


async def read_made(connection: Connection, owner: str) -> frozenset[int]:
    """OIDs of the schemas of this database that the operator made; its ledger must exist."""
    cursor = await connection.execute(
        "SELECT schema FROM lakebase_operator.platform_schemas WHERE connection = %s", [owner]
    )
    return frozenset([row["schema"] async for row in cursor])


async def read_platform_schemas(
    connection: Connection, wanted: Mapping[str, Iterable[int]], made: frozenset[int]
) -> dict[str, FoundSchema]:
    """Look at schemas, by name.

    Parameters
    ----------
    connection
        A session in the database.
    wanted
        OIDs of the roles whose relations may be in each.
    made
        From :func:`read_made`.
    """
    rules = [{"schema": name, "owners": sorted(owners)} for name, owners in wanted.items()]
    cursor = await connection.execute(query("platform_schemas"), {"wanted": Jsonb(rules)}, binary=True)
    return {row["name"]: FoundSchema(**row, made=row["oid"] in made) async for row in cursor}


def made_note(owner: str, name: str, resource: str) -> sql.Composed:
    """Remembers that a schema was made here; for the transaction that makes it."""
    return sql.SQL(
        "INSERT INTO lakebase_operator.platform_schemas (connection, schema, resource)"
        " SELECT {owner}, oid, {resource} FROM pg_catalog.pg_namespace WHERE nspname = {name}"
        " ON CONFLICT (connection, schema) DO UPDATE SET resource = EXCLUDED.resource"
    ).format(owner=sql.Literal(owner), name=sql.Literal(name), resource=sql.Literal(resource))


async def forget_made(connection: Connection, owner: str) -> None:
    """Remove what is remembered of schemas that are gone."""
    await connection.execute(
        "DELETE FROM lakebase_operator.platform_schemas"
        " WHERE connection = %s AND schema NOT IN (SELECT oid FROM pg_namespace)",
        [owner],
    )


async def depends_on_schema(connection: Connection, schema: int) -> list[str]:
    """What lies outside of a schema and would go with it, or lose something; the first ten."""
    cursor = await connection.execute(query("depends_on_schema"), {"schema": schema})
    return [row["name"] async for row in cursor]


async def foreign_in_schema(connection: Connection, schema: int, owners: Iterable[int]) -> str | None:
    """Something in a schema that is owned by none of these roles, of whatever class, with its owner; None: there is nothing."""
    cursor = await connection.execute(
        query("foreign_in_schema"), {"schema": schema, "owners": sorted(owners)}
    )
    row = await cursor.fetchone()
    return row["name"] if row is not None else None
