"""Passwords and sessions of login roles."""

from collections.abc import Iterable
from dataclasses import dataclass

from psycopg import sql

from lakebase_operator.external.postgres.session import Connection


def scram_verifier(connection: Connection, username: str, password: str) -> str:
    """What the server keeps of a password (RFC 5803), computed here, so that the password itself is never sent.

    libpq does it, with its preparation of the text (SASLprep) and its random salt; nothing goes to the server.
    """
    verifier = connection.pgconn.encrypt_password(password.encode(), username.encode(), b"scram-sha-256")
    return verifier.decode()


@dataclass(frozen=True, slots=True)
class Given:
    """What the ledger says of a role's password."""

    resource: str
    """Whose login it is."""
    revision: str
    """Which password it is; empty: none that is known to work."""


async def read_given(connection: Connection, owner: str) -> dict[int, Given] | None:
    """Which password each role was given last, by OID; None where the ledger has no place for it yet."""
    cursor = await connection.execute("SELECT to_regclass('lakebase_operator.passwords') IS NULL AS missing")
    row = await cursor.fetchone()
    if row is None or row["missing"]:
        return None
    cursor = await connection.execute(
        "SELECT role, resource, revision FROM lakebase_operator.passwords WHERE connection = %s", [owner]
    )
    return {row["role"]: Given(row["resource"], row["revision"]) async for row in cursor}


def revision_note(owner: str, username: str, resource: str, revision: str) -> sql.Composed:
    """Remembers which password a role has; to be sent in one message with what sets it."""
    return sql.SQL(
        "INSERT INTO lakebase_operator.passwords (connection, role, resource, revision)"
        " SELECT {owner}, oid, {resource}, {revision} FROM pg_catalog.pg_roles WHERE rolname = {name}"
        " ON CONFLICT (connection, role) DO UPDATE SET resource = EXCLUDED.resource, revision = EXCLUDED.revision"
    ).format(
        owner=sql.Literal(owner),
        resource=sql.Literal(resource),
        revision=sql.Literal(revision),
        name=sql.Literal(username),
    )


async def note_revision(
    connection: Connection, owner: str, username: str, resource: str, revision: str
) -> None:
    """Remember which password a role has that somebody else has set."""
    await connection.execute(revision_note(owner, username, resource, revision))


async def doubt_given(connection: Connection, owner: str, role: int) -> None:
    """Remember of a role, given by OID, that the password it was given does not work."""
    await connection.execute(
        "UPDATE lakebase_operator.passwords SET revision = '' WHERE connection = %s AND role = %s",
        [owner, role],
    )


async def forget_given(connection: Connection, owner: str, roles: Iterable[int]) -> None:
    """Remove what is remembered of roles that are gone."""
    if oids := list(roles):
        await connection.execute(
            "DELETE FROM lakebase_operator.passwords WHERE connection = %s AND role = ANY(%s)", [owner, oids]
        )


async def end_sessions(connection: Connection, roles: Iterable[int]) -> int:
    """End all sessions of some roles, given by OID. Returns how many there were.

    Raises
    ------
    psycopg.errors.InsufficientPrivilege
        That needs pg_signal_backend, or the privileges of the role.
    """
    cursor = await connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usesysid = ANY(%s) AND pid <> pg_backend_pid()",
        [list(roles)],
    )
    return len(await cursor.fetchall())
