"""Reading and changing privileges in one database."""

import json
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from lakebase_operator.api.access_grant import AccessLevel
from lakebase_operator.api.objects import Privilege
from lakebase_operator.api.reasons import Reason
from lakebase_operator.domain.plan import MANY_ACL_ITEMS, ColumnGrant, Difference, Origin, Plan, act_as
from lakebase_operator.domain.privileges import ObjectClass
from lakebase_operator.domain.role_statements import (
    RESET_ROLE,
    give_back_membership,
    grant_membership,
)
from lakebase_operator.domain.statements import ObjectName, PrivilegeStatement, Verb
from lakebase_operator.external.postgres.errors import is_concurrent_update
from lakebase_operator.external.postgres.queries import all_parts, comparison, query
from lakebase_operator.external.postgres.session import Connection, execute_together

ADVISORY_LOCK = 0x6C616B6562617365
"""Key of the transaction-level lock that every writer of privileges takes ("lakebase" in ASCII)."""


@dataclass(frozen=True, slots=True)
class RuleCount:
    """What one selector matches."""

    objects: int
    items: int
    """Pairs of object and privilege, without what is only implied."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """A privilege that some rules declare and others forbid."""

    object: ObjectName
    privilege: Privilege
    grantees: tuple[int, ...]
    selectors: tuple[int, ...]
    grant_option: bool
    """It is about the grant option only."""
    implied: bool
    """Declared only so that something else is usable."""


@dataclass(frozen=True, slots=True)
class HeldOtherwise:
    """A privilege whose absence is declared, and that a grant gives which no REVOKE on this object reaches."""

    object: ObjectName
    privilege: Privilege
    grant_option: bool
    grantees: tuple[int, ...]
    selectors: tuple[int, ...]
    public: bool
    """Everybody has it. Else it is held on the table of a column, or is a default privilege for all schemas."""


@dataclass(frozen=True, slots=True)
class LargeAcl:
    """An object with so many grantees that a group role would be better."""

    object: ObjectName
    entries: int
    selectors: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """The database against the rules, read in one statement."""

    differences: tuple[Difference, ...]
    counts: tuple[RuleCount, ...]
    """By number of the selector."""
    absent: tuple[tuple[int, ObjectName], ...]
    """Selectors with objects that are named exactly and do not exist."""
    read_only: tuple[tuple[int, ObjectName], ...]
    """Selectors with views on which Write gives SELECT only."""
    ledger_changes: int
    """Rows of the ledger that do not say what the ACLs hold."""
    managed: int
    """Privileges that are the operator's, per object, grantee and privilege."""
    public: tuple[tuple[Privilege, ObjectName], ...]
    """What PUBLIC, so everybody, holds on the database itself and on what the rules match; the first hundred."""
    columns: tuple[ColumnGrant, ...]
    """What revokes would take along."""
    conflicts: tuple[Conflict, ...]
    large: tuple[LargeAcl, ...]
    otherwise: tuple[HeldOtherwise, ...]


@dataclass(frozen=True, slots=True)
class Failure:
    """A statement that the database refused."""

    statement: PrivilegeStatement
    error: str
    sqlstate: str

    @property
    def reason(self) -> Reason:
        """How it is told."""
        return _REASONS.get(self.sqlstate, Reason.OBJECT_FAILED)

    @property
    def may_pass(self) -> bool:
        """Locked by somebody else, or gone in the meantime: the next pass may see it differently."""
        return self.sqlstate in _MAY_PASS


LOCKED = "55P03"
_REASONS = {"2BP01": Reason.DEPENDENT_PRIVILEGES, "54000": Reason.ACL_FULL}
_MAY_PASS = frozenset({LOCKED, "42P01", "3F000", "3D000", "42704"})


@dataclass(frozen=True, slots=True)
class Search:
    """Where to look for what nobody declares."""

    schemas: tuple[str, ...] | None = None
    """None: everywhere, also outside of schemas."""
    roles: tuple[str, ...] | None = None
    """Whose; ``PUBLIC`` for everybody. None: of all roles."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What a comparison looks at besides the rules."""

    home: bool = True
    """The connection's home database, which also answers for databases that are not the connection's."""
    others: tuple[str, ...] = ()
    """Names of the connection's other databases: each answers for privileges on itself."""
    focus: tuple[int, ...] | None = None
    """Look only at what these grantees hold; the rules must be all that concern them. None: everything."""
    search: Search | None = None
    """Look for what nobody declares, too."""
    platform: tuple[str, ...] = ()
    """Schemas that are an application's own: patterns do not select them, and nothing is looked for in them."""
    keep_drifted: bool = False
    """What somebody took away by hand stays in the ledger, so that it is still known as such (drift is only reported)."""
    opened: tuple[Difference, ...] = ()
    """What PUBLIC is given in this transaction: by that it is not what PUBLIC has had from the beginning."""

    def parameters(self, owner: str, rules: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """As ``rules.sql`` takes them."""
        opened = [
            {
                "class": one.object.object_class.value,
                "oid": one.oid,
                "part": one.part,
                "privilege": one.privilege.value,
            }
            for one in self.opened
        ]
        search = {"schemas": self.search.schemas, "roles": self.search.roles} if self.search else None
        return {
            "connection": owner,
            "rules": Jsonb(list(rules), dumps=_compact),
            "home": self.home,
            "others": list(self.others),
            "focus": list(self.focus) if self.focus is not None else None,
            "unmanaged": Jsonb(search, dumps=_compact),
            "platform": list(self.platform),
            "keep_drifted": self.keep_drifted,
            "opened": Jsonb(opened, dumps=_compact),
            "many": MANY_ACL_ITEMS,
        }


async def compare(
    connection: Connection,
    owner: str,
    rules: Sequence[Mapping[str, Any]],
    scope: Scope = Scope(),
    *,
    record: bool = False,
) -> Comparison:
    """Compare the database with the rules.

    Parameters
    ----------
    connection
        A session in the database; its ledger must exist.
    owner
        Name of the connection in the ledger.
    rules
        ``domain.desired.as_json``.
    scope
        What else there is to know.
    record
        Bring the ledger in line with what the ACLs hold, in the same statement.
    """
    parts = all_parts() if scope.search else _parts(rules) | await _recorded(connection, owner)
    statement = comparison(parts & all_parts(), record=record)
    cursor = await connection.execute(statement, scope.parameters(owner, rules), binary=True)
    differences: list[Difference] = []
    counts = [RuleCount(0, 0)] * len(rules)
    absent: list[tuple[int, ObjectName]] = []
    read_only: list[tuple[int, ObjectName]] = []
    public: list[tuple[Privilege, ObjectName]] = []
    columns: list[ColumnGrant] = []
    conflicts: list[Conflict] = []
    large: list[LargeAcl] = []
    otherwise: list[HeldOtherwise] = []
    ledger_changes = managed = 0
    async for row in _rows(cursor):
        match row["tag"]:
            case "grant" | "revoke":
                differences.append(_difference(row))
            case "rule":
                counts[row["rules"][0]] = RuleCount(row["objects"], row["items"])
            case "absent":
                absent.append((row["rules"][0], _object(row)))
            case "read-only":
                read_only.append((row["rules"][0], _object(row)))
            case "columns":
                columns.append(
                    ColumnGrant(
                        _object(row),
                        Privilege(row["privilege"]),
                        row["grantor"],
                        row["grantees"][0],
                        tuple(row["columns"]),
                        row["grantable"],
                    )
                )
            case "conflict":
                conflicts.append(
                    Conflict(
                        _object(row),
                        Privilege(row["privilege"].removesuffix(_OPTION)),
                        tuple(row["grantees"]),
                        tuple(row["rules"]),
                        row["privilege"].endswith(_OPTION),
                        row["implied"],
                    )
                )
            case "otherwise":
                otherwise.append(
                    HeldOtherwise(
                        _object(row),
                        Privilege(row["privilege"].removesuffix(_OPTION)),
                        row["privilege"].endswith(_OPTION),
                        tuple(row["grantees"]),
                        tuple(row["rules"]),
                        row["public"],
                    )
                )
            case "large":
                large.append(LargeAcl(_object(row), row["objects"], tuple(row["rules"])))
            case "public":
                public.append((Privilege(row["privilege"]), _object(row)))
            case "ledger":
                ledger_changes, managed = row["objects"], row["items"]
    return Comparison(
        tuple(differences),
        tuple(counts),
        tuple(absent),
        tuple(read_only),
        ledger_changes,
        managed,
        tuple(public),
        tuple(columns),
        tuple(conflicts),
        tuple(large),
        tuple(otherwise),
    )


async def _rows(cursor: psycopg.AsyncCursor[Any]) -> AsyncIterator[dict[str, Any]]:
    """All rows, read some hundred at a time: one by one takes twice as long, all at once takes memory."""
    while rows := await cursor.fetchmany(500):
        for row in rows:
            yield row


def _parts(rules: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    """The parts of the comparison that rules need."""
    parts = {_part(rule["class"]) for rule in rules}
    if any(rule["access"] not in (None, AccessLevel.READ) for rule in rules):
        parts.add("writing")
    if any(rule["columns"] for rule in rules):
        parts.add(ObjectClass.COLUMN.value)
    if any(rule["absent"] for rule in rules):
        parts.add("absent")
    return frozenset(parts)


async def _recorded(connection: Connection, owner: str) -> frozenset[str]:
    """The parts that the connection's entries in the ledger need."""
    cursor = await connection.execute(
        "SELECT DISTINCT class FROM lakebase_operator.held WHERE connection = %s", [owner]
    )
    return frozenset(_part(row["class"]) for row in await cursor.fetchall())


def _part(object_class: str) -> str:
    return "DEFAULT" if object_class.startswith("DEFAULT ") else object_class


_OPTION = "*"
"""Marks a grant option, as in the text of an ACL."""


def _compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def _object(row: Mapping[str, Any]) -> ObjectName:
    return ObjectName(ObjectClass(row["class"]), row["schema"] or None, row["name"], row["detail"])


def _difference(row: Mapping[str, Any]) -> Difference:
    return Difference(
        verb=Verb.GRANT if row["tag"] == "grant" else Verb.REVOKE,
        object=_object(row),
        oid=row["oid"],
        part=row["part"],
        owner=row["owner"],
        privilege=Privilege(row["privilege"].removesuffix(_OPTION)),
        grantor=row["grantor"],
        grantees=tuple(row["grantees"]),
        drifted=tuple(row["drifted"]),
        grantable=row["grantable"],
        implied=row["implied"],
        public=row["public"],
        selectors=tuple(row["rules"]),
        others=tuple(row["others"] or ()),
        grant_option=row["privilege"].endswith(_OPTION),
        origin=Origin(row["origin"]) if row["origin"] else Origin.MISSING,
        acl_items=row["objects"] or 0,
        newcomers=tuple(row["newcomers"] or ()),
    )


@asynccontextmanager
async def exclusive(connection: Connection) -> AsyncIterator[None]:
    """A transaction that no other writer of privileges shares the database with.

    Concurrent GRANTs on one object fail with "tuple concurrently updated"; one lock for all writers ends that.
    """
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(%s)", [ADVISORY_LOCK])
        yield


async def execute(
    connection: Connection, plan: Plan, operator_role: str, executed: Callable[[PrivilegeStatement], None]
) -> tuple[Failure, ...]:
    """Carry out a plan inside a transaction.

    A statement that fails is rolled back alone and tried in halves until the culprit is alone, so one bad object never
    holds back the others. What is locked is waited for once. A lost connection or a concurrent change by somebody else
    ends the whole transaction instead.

    Raises
    ------
    psycopg.Error
        The transaction cannot go on; nothing of it remains.
    """
    failures: list[Failure] = []
    for role in plan.temporary_set:
        await connection.execute(grant_membership(role, operator_role, admin=False, inherit=False, set_=True))
    if not await _all_at_once(connection, plan.statements, executed):
        acting_as: str | None = None
        for statement in plan.statements:
            if statement.acting_as != acting_as:
                acting_as = statement.acting_as
                await connection.execute(act_as(acting_as))
            await _execute(connection, statement, failures, executed)
        if acting_as is not None:
            await connection.execute(RESET_ROLE)
    for role in plan.temporary_set:
        await connection.execute(give_back_membership(role, operator_role))
    return tuple(failures)


async def _all_at_once(
    connection: Connection,
    statements: Sequence[PrivilegeStatement],
    executed: Callable[[PrivilegeStatement], None],
) -> bool:
    """Send all statements without waiting for each answer. Returns False, and leaves nothing of them, if one fails."""
    try:
        async with connection.transaction(), connection.pipeline():  # a savepoint
            acting_as: str | None = None
            for statement in statements:
                if statement.acting_as != acting_as:
                    acting_as = statement.acting_as
                    await connection.execute(act_as(acting_as), prepare=False)
                await connection.execute(sql.SQL(statement.text), prepare=False)
            if acting_as is not None:
                await connection.execute(RESET_ROLE, prepare=False)
    except psycopg.Error as error:
        if _ends_the_transaction(connection, error):
            raise
        return False
    for statement in statements:
        executed(statement)
    return True


def _ends_the_transaction(connection: Connection, error: psycopg.Error) -> bool:
    """A lost session, a statement that took too long, or a concurrent change: the whole transaction is tried again."""
    if connection.broken or error.sqlstate in (None, "57014"):
        return True
    return error.sqlstate != LOCKED and is_concurrent_update(error)


async def _execute(
    connection: Connection,
    statement: PrivilegeStatement,
    failures: list[Failure],
    executed: Callable[[PrivilegeStatement], None],
) -> None:
    try:
        async with connection.transaction():  # a savepoint
            await connection.execute(sql.SQL(statement.text))
    except psycopg.Error as error:
        if _ends_the_transaction(connection, error):
            raise
        if locked := error.sqlstate == LOCKED:
            await connection.execute("SET LOCAL lock_timeout = 200")  # ms; the long wait was in vain
        parts = statement.one_by_one() if locked else statement.halves()
        if not parts:
            failures.append(
                Failure(statement, error.diag.message_primary or str(error), error.sqlstate or "")
            )
        for part in parts:
            await _execute(connection, part, failures, executed)
    else:
        executed(statement)


async def fingerprint(connection: Connection, *, columns: bool) -> int:
    """A number that changes whenever a comparison may come out differently.

    Parameters
    ----------
    connection
        A session in the database; its ledger must exist.
    columns
        Whether names of columns matter too.
    """
    cursor = await connection.execute(query("fingerprint"), {"columns": columns}, binary=True)
    row = await cursor.fetchone()
    assert row is not None, "an aggregate always gives a row"
    return int(row["fingerprint"])


async def log_changes(connection: Connection, owner: str, entries: Iterable[tuple[str, str, str]]) -> None:
    """Append to the change log: (resources, statement, result)."""
    rows = list(entries)
    if not rows:
        return
    async with connection.cursor() as cursor:
        await cursor.execute(
            "INSERT INTO lakebase_operator.change_log (connection, resources, statement, result)"
            " SELECT %s, * FROM unnest(%b::text[], %b::text[], %b::text[])",  # as text, each quote would be escaped
            [owner, *(list(column) for column in zip(*rows, strict=True))],
        )


async def create_ledger(connection: Connection) -> None:
    """Make the ledger, readable by its owner only, in one transaction. Harmless where it exists."""
    async with exclusive(connection):
        await execute_together(connection, query("ledger"))
        # Event triggers of the platform, and default privileges, open every new object to others. No DO block: somebody
        # may have closed the language to everybody.
        cursor = await connection.execute(query("ledger_private"))
        statements = "; ".join([row["statement"] async for row in cursor])
        await execute_together(connection, statements.encode())  # the server has quoted the names
