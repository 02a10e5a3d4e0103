"""The ledger: its version, and the part that speaks of roles, which is in the home database only."""

from collections.abc import Iterable, Mapping

from psycopg import sql
from psycopg.types.json import Jsonb

from lakebase_operator.domain.roles import RoleRecord
from lakebase_operator.external.postgres.session import Connection

VERSION = 1
"""The latest layout of the ledger that this operator knows (``sql/ledger.sql``)."""


async def read_version(connection: Connection) -> tuple[int | None, bool]:
    """Which layout the ledger has, and whether it was written here: one that came with a dump speaks of other OIDs."""
    row = await (
        await connection.execute(
            # As JSON: in an earlier layout there is no such column.
            "SELECT max(number) AS number,"
            " bool_and(to_jsonb(v) ->> 'home' = concat_ws('/', to_regnamespace('lakebase_operator')::oid,"
            " to_regclass('lakebase_operator.held')::oid)) AS here FROM lakebase_operator.version v"
        )
    ).fetchone()
    return (row["number"], row["here"] is True) if row else (None, False)


async def read_role_records(connection: Connection, owner: str) -> Mapping[int, RoleRecord]:
    """What declarations have made or taken over, by OID of the role."""
    cursor = await connection.execute(
        "SELECT role, resource, created, memberships, settings, database_settings, commented, superuser"
        " FROM lakebase_operator.roles WHERE connection = %s",
        [owner],
        binary=True,
    )
    return {
        row["role"]: RoleRecord(
            row["role"],
            row["resource"],
            row["created"],
            tuple(row["memberships"]),
            tuple(row["settings"]),
            {int(database): tuple(names) for database, names in row["database_settings"].items()},
            row["commented"],
            row["superuser"],
        )
        async for row in cursor
    }


async def write_role_records(connection: Connection, owner: str, records: Iterable[RoleRecord]) -> None:
    """Insert or replace records, in one statement."""
    rows = [
        (
            owner,
            record.role,
            record.resource,
            record.created,
            list(record.memberships),
            list(record.settings),
            Jsonb({str(database): list(names) for database, names in record.database_settings.items()}),
            record.commented,
            record.superuser,
        )
        for record in records
    ]
    if not rows:
        return
    async with connection.cursor() as cursor:
        await cursor.executemany(
            "INSERT INTO lakebase_operator.roles"
            " (connection, role, resource, created, memberships, settings, database_settings, commented, superuser)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT (connection, role) DO UPDATE SET"
            " resource = EXCLUDED.resource, created = EXCLUDED.created, memberships = EXCLUDED.memberships,"
            " settings = EXCLUDED.settings, database_settings = EXCLUDED.database_settings,"
            " commented = EXCLUDED.commented, superuser = EXCLUDED.superuser",
            rows,
        )


def creation_note(owner: str, name: str, resource: str) -> sql.Composed:
    """Remembers that a role was made here; to be sent in one message with what makes it."""
    return sql.SQL(
        "INSERT INTO lakebase_operator.roles (connection, role, resource, created)"
        " SELECT {owner}, oid, {resource}, true FROM pg_catalog.pg_roles WHERE rolname = {name}"
        " ON CONFLICT (connection, role) DO UPDATE SET resource = EXCLUDED.resource, created = true"
    ).format(owner=sql.Literal(owner), name=sql.Literal(name), resource=sql.Literal(resource))


async def note_superuser(connection: Connection, owner: str, role: int, *, given: bool) -> None:
    """Remember whether the operator gave a role the membership in databricks_superuser through the Databricks API."""
    await connection.execute(
        "UPDATE lakebase_operator.roles SET superuser = %s WHERE connection = %s AND role = %s",
        [given, owner, role],
    )


async def forget_roles(connection: Connection, owner: str, roles: Iterable[int]) -> None:
    """Remove records of roles that are gone or let go."""
    oids = list(roles)
    if oids:
        await connection.execute(
            "DELETE FROM lakebase_operator.roles WHERE connection = %s AND role = ANY(%s)", [owner, oids]
        )


async def forget_connection(connection: Connection, owner: str) -> None:
    """Remove all that the ledger holds for a connection; its change log stays."""
    cursor = await connection.execute(
        "SELECT relname FROM pg_class WHERE relnamespace = to_regnamespace('lakebase_operator') AND relname = ANY(%s)",
        # One that was made earlier may lack some.
        [["held", "roles", "passwords", "platform_schemas", "logins", "snapshots"]],
    )
    for row in await cursor.fetchall():
        table = sql.Identifier("lakebase_operator", row["relname"])
        await connection.execute(sql.SQL("DELETE FROM {} WHERE connection = %s").format(table), [owner])
