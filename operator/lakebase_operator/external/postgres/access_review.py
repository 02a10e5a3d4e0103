"""What an access report is made from: who is logged in, what roles hold, when tables were read."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from lakebase_operator.domain.access_review import Finding, Holdings, Seen, Wider
from lakebase_operator.external.postgres.queries import access_held, query
from lakebase_operator.external.postgres.session import Connection

Session = tuple[int, int, str | None]
"""Process, OID of the role, start; the start is hidden from whoever may not look at the session."""


@dataclass(frozen=True, slots=True)
class Look:
    """What one look at the server shows."""

    at: datetime
    """By the server's clock."""
    sessions: frozenset[Session]
    audit_extension: bool
    """pgaudit is installed in this database."""
    audit_preloaded: bool
    """It is in ``shared_preload_libraries``, which not everybody may read."""
    audit_log: str | None
    """``pgaudit.log`` for the operator's own sessions; None where the library is not loaded."""


async def look(connection: Connection) -> Look:
    """Who is logged in now, and whether queries are audited; one statement."""
    row = await (await connection.execute(query("look"))).fetchone()
    assert row is not None, "a SELECT without FROM gives a row"
    sessions = frozenset((pid, int(role), start) for pid, role, start in row.pop("sessions"))
    return Look(sessions=sessions, **row)


@dataclass(slots=True)
class HeldInDatabase:
    """What roles hold in one database."""

    holdings: dict[int, Holdings] = field(default_factory=dict)
    """By OID; 0 is PUBLIC."""
    undeclared: list[Finding] = field(default_factory=list)
    """Privileges that no declaration accounts for, one by one up to the limit."""


async def read_held(
    connection: Connection, database: str, roles: Mapping[int, str], *, home: bool, ledger: bool, most: int
) -> HeldInDatabase:
    """What roles hold in a database by its ACLs, and own there; one statement.

    Parameters
    ----------
    connection
        A session in the database.
    database
        Its name.
    roles
        Names by OID: whose undeclared privileges are listed.
    home
        It is the connection's home database.
    ledger
        It has a ledger.
    most
        Undeclared privileges to list.
    """
    found = HeldInDatabase()
    parameters = {"home": home, "roles": list(roles), "most": most}
    cursor = await connection.execute(access_held(ledger=ledger), parameters, binary=True)
    async for row in cursor:
        held = found.holdings.setdefault(row["role"], Holdings())
        match row["what"]:
            case "Granted":
                held.granted, held.declared = row["total"], row["declared"]
            case "Owned":
                held.owned[database, row["object"]] = row["total"]
            case _:
                name = roles[row["role"]]
                found.undeclared.append(
                    Finding(name, Wider.PRIVILEGE, row["object"], database, row["privilege"], row["grantor"])
                )
    return found


async def read_use(connection: Connection, most: int) -> list[tuple[str, datetime | None]]:
    """Tables and when they were last read."""
    cursor = await connection.execute(query("access_use"), {"most": most}, binary=True)
    return [(row["object"], row["last_scan"]) async for row in cursor]


async def read_seen(connection: Connection, owner: str) -> dict[int, Seen] | None:
    """When roles were last seen, by OID; None where the ledger has no place for it yet."""
    cursor = await connection.execute("SELECT to_regclass('lakebase_operator.logins') IS NULL AS missing")
    row = await cursor.fetchone()
    if row is None or row["missing"]:
        return None
    cursor = await connection.execute(
        "SELECT role, last_seen, logins FROM lakebase_operator.logins WHERE connection = %s",
        [owner],
        binary=True,
    )
    return {row["role"]: Seen(row["last_seen"], row["logins"]) async for row in cursor}


async def write_seen(
    connection: Connection, owner: str, seen: Mapping[int, Seen], gone: Iterable[int]
) -> None:
    """Remember when roles were last seen, and forget those that are gone; nothing to say, no statement."""
    if seen:
        await connection.execute(
            "INSERT INTO lakebase_operator.logins (connection, role, last_seen, logins)"
            " SELECT %s, * FROM unnest(%s::oid[], %s::timestamptz[], %s::bigint[])"
            " ON CONFLICT (connection, role) DO UPDATE SET last_seen = EXCLUDED.last_seen, logins = EXCLUDED.logins",
            [owner, list(seen), [one.last for one in seen.values()], [one.logins for one in seen.values()]],
        )
    if oids := list(gone):
        await connection.execute(
            "DELETE FROM lakebase_operator.logins WHERE connection = %s AND role = ANY(%s::oid[])",
            [owner, oids],
        )
