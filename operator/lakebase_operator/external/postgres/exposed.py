"""Reading what tables are like that an application is shown."""

from collections.abc import Sequence

from psycopg.types.json import Jsonb

from lakebase_operator.domain.exposed import Column, Exposed, ExposedTable, RelationKind, TableSelector
from lakebase_operator.external.postgres.queries import query
from lakebase_operator.external.postgres.session import Connection


async def read_exposed(connection: Connection, selections: Sequence[TableSelector], role: str) -> Exposed:
    """Find tables, with their columns and unique keys, in one statement.

    Only catalogs are read, which every role may: it makes no difference whose session it is.

    Parameters
    ----------
    connection
        A session in the database, opened by :mod:`.session`: with the ``search_path`` that it sets, types have their schema.
    selections
        What to look for. Of a table that several select there is one.
    role
        Whose right to read is looked at. Of a role that does not exist it is none.

    Raises
    ------
    psycopg.Error
        The database does not answer, or refuses.
    """
    tables: list[ExposedTable] = []
    missing: list[tuple[str, str]] = []
    parameters = {"rules": Jsonb([one.as_json() for one in selections]), "role": role}
    async for row in await connection.execute(query("exposed"), parameters, binary=True):
        if row["missing"]:
            missing.append((row["schema"], row["name"]))
            continue
        key = row["key"]
        tables.append(
            ExposedTable(
                schema=row["schema"],
                name=row["name"],
                kind=RelationKind(row["kind"]),
                comment=row["comment"],
                key=tuple(key) if key is not None else None,
                key_known=row["key_known"],
                usable=row["usable"],
                selectable=row["selectable"],
                columns=tuple(Column(*column) for column in row["columns"]),
            )
        )
    return Exposed(tuple(tables), tuple(missing))
