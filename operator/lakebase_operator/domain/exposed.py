"""The tables that an application is shown (``spec.exposes`` of a PostgresRole): which they are, and what they are like."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum

from lakebase_operator.api.names import SYSTEM_SCHEMA
from lakebase_operator.api.objects import Privilege
from lakebase_operator.api.postgres_role import ExposedTables, PostgresRoleSpec
from lakebase_operator.domain.patterns import like_pattern
from lakebase_operator.domain.privileges import ObjectClass
from lakebase_operator.domain.statements import ObjectName, PrivilegeStatement, Verb


class RelationKind(StrEnum):
    """Kind of a relation, by what ``pg_class.relkind`` says."""

    TABLE = "Table"
    PARTITIONED_TABLE = "PartitionedTable"
    VIEW = "View"
    MATERIALIZED_VIEW = "MaterializedView"
    FOREIGN_TABLE = "ForeignTable"


@dataclass(frozen=True, slots=True)
class Column:
    """One column."""

    name: str
    type: str
    """As PostgreSQL prints it, with its modifiers: ``numeric(10,2)``; with its schema unless it is one of PostgreSQL's own."""
    nullable: bool
    """No NOT NULL constraint keeps it from being null."""
    position: int
    """``pg_attribute.attnum``, as ``ordinal_position`` of the information schema: it keeps its number when another is dropped."""
    comment: str | None
    readable: bool
    """The role may SELECT it."""


@dataclass(frozen=True, slots=True)
class ExposedTable:
    """A table, or what is like one."""

    schema: str
    name: str
    kind: RelationKind
    comment: str | None
    key: tuple[str, ...] | None
    """The columns that identify a row. None: there are none, or that is not known."""
    key_known: bool
    """Whether the database can tell. It cannot of views, materialized views and foreign tables."""
    usable: bool
    """The role has USAGE on the schema."""
    selectable: bool
    """The role has SELECT on the table, or at least on some of its columns."""
    columns: tuple[Column, ...]
    """In their order."""

    @property
    def readable(self) -> bool:
        """Whether the role can read it, or at least some of its columns."""
        return self.usable and self.selectable

    @property
    def without_key(self) -> bool:
        """It is known to have no unique key."""
        return self.key_known and self.key is None

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"


@dataclass(frozen=True, slots=True)
class Exposed:
    """What selectors mean in one database."""

    tables: tuple[ExposedTable, ...] = ()
    """By schema and name, each once."""
    missing: tuple[tuple[str, str], ...] = ()
    """Schema and name of what is named exactly and does not exist."""


@dataclass(frozen=True, slots=True)
class TableSelector:
    """Some tables of one schema."""

    schema: str
    names: tuple[str, ...] = ()
    matching: tuple[str, ...] = ()
    """Patterns of LIKE."""
    excluding: tuple[str, ...] = ()
    """Patterns of LIKE."""

    def as_json(self) -> dict[str, object]:
        """The form in which the database gets it (``sql/exposed.sql``)."""
        return {
            "schema": self.schema,
            "names": list(self.names),
            "matching": list(self.matching),
            "excluding": list(self.excluding),
        }


def table_selector(entry: ExposedTables) -> TableSelector:
    """What one entry of ``spec.exposes`` selects.

    Raises
    ------
    ValueError
        What the API server should have refused.
    """
    if SYSTEM_SCHEMA.match(entry.schema_):
        raise ValueError(f"spec.exposes: {entry.schema_} is a system schema")
    return TableSelector(
        entry.schema_, _sorted(entry.names), _patterns(entry.matching), _patterns(entry.except_)
    )


def selectors_by_database(
    spec: PostgresRoleSpec, login_database: str
) -> Mapping[str, Sequence[TableSelector]]:
    """What a role is shown, by database.

    Parameters
    ----------
    spec
        The role's.
    login_database
        The database that is published for it: where tables are if the entry names none.

    Raises
    ------
    ValueError
        What the API server should have refused.
    """
    found: dict[str, list[TableSelector]] = defaultdict(list)
    for entry in spec.exposes:
        found[entry.database or login_database].append(table_selector(entry))
    return found


@dataclass(frozen=True, slots=True)
class Description:
    """Tables as an application reads them, in JSON: a table on each line, in a stable order."""

    text: str
    left_out: int
    """Tables that found no place."""


def describe(lakebase: str, found: Mapping[str, Exposed], *, limit: int) -> Description:
    """Put into words what tables are like.

    Parameters
    ----------
    lakebase
        The connection; each table's path begins with it: connection, database, schema, table.
    found
        By database.
    limit
        Bytes that the text may have. What does not fit is left out, from the end.
    """
    tables = [(database, table) for database in sorted(found) for table in found[database].tables]
    head = f'{{"connection":{_json(lakebase)},"tables":['
    room = limit - len((head + _end(len(tables))).encode())
    lines: list[str] = []
    for database, table in tables:
        line = _json({"database": database, **_described(table)})
        room -= len(f"{line},\n".encode())
        if room < 0:
            break
        lines.append(line)
    left_out = len(tables) - len(lines)
    return Description(head + "\n" + ",\n".join(lines) + _end(left_out), left_out)


def _end(left_out: int) -> str:
    return f'\n],"leftOut":{left_out}}}\n'


def _described(table: ExposedTable) -> dict[str, object]:
    return {
        "schema": table.schema,
        "name": table.name,
        "kind": table.kind.value,
        "comment": table.comment,
        "key": table.key,
        "keyKnown": table.key_known,
        "readable": table.readable,
        "columns": [
            asdict(column) | {"readable": table.usable and column.readable} for column in table.columns
        ],
    }


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def missing_grants(tables: Iterable[ExposedTable], role: str) -> Sequence[PrivilegeStatement]:
    """The statements without which a role cannot read tables: USAGE once for each schema, then SELECT on each table."""
    unreadable = [table for table in tables if not table.readable]
    schemas = dict.fromkeys(table.schema for table in unreadable if not table.usable)
    lacking = [(Privilege.USAGE, ObjectName(ObjectClass.SCHEMA, None, schema)) for schema in schemas]
    lacking += [
        (Privilege.SELECT, ObjectName(ObjectClass.TABLE, table.schema, table.name))
        for table in unreadable
        if not table.selectable
    ]
    return [
        PrivilegeStatement(Verb.GRANT, (thing,), (privilege,), (role,), None) for privilege, thing in lacking
    ]


def _sorted(texts: Iterable[str] | None) -> tuple[str, ...]:
    return tuple(sorted(set(texts or ())))


def _patterns(globs: Iterable[str] | None) -> tuple[str, ...]:
    return _sorted(like_pattern(glob) for glob in globs or ())
