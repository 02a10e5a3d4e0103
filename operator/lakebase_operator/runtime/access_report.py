"""``lakebase-operator access``: who can do what in a database in the end, and why."""

import asyncio
import csv
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields
from typing import TextIO

import psycopg

from lakebase_operator.external.postgres.effective import EffectiveAccess, check_names, effective_access
from lakebase_operator.external.postgres.errors import query_error
from lakebase_operator.runtime.offline import Target, access_to


def report(
    target: Target, database: str, roles: Sequence[str] | None, schemas: Sequence[str] | None
) -> list[EffectiveAccess]:
    """Read it. Changes nothing.

    Raises
    ------
    LakebaseError
        The database cannot be reached or read, or a role or schema that is named does not exist.
    """
    return asyncio.run(_report(target, database, roles, schemas))


async def _report(
    target: Target, database: str, roles: Sequence[str] | None, schemas: Sequence[str] | None
) -> list[EffectiveAccess]:
    try:
        async with access_to(target).session(database) as session:
            await check_names(session, roles, schemas)
            return [one async for one in effective_access(session, roles, schemas)]
    except psycopg.Error as error:
        raise query_error(error, doing=f"reading access in {database}") from error


def write_csv(rows: Iterable[EffectiveAccess], out: TextIO) -> None:
    """With a line of headings."""
    writer = csv.DictWriter(out, [field.name for field in fields(EffectiveAccess)], lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _plain(value) for key, value in asdict(row).items()} for row in rows)


def _plain(value: object) -> object:
    return str(value).lower() if isinstance(value, bool) else value


def write_json(rows: Iterable[EffectiveAccess], out: TextIO) -> None:
    """One object per line."""
    out.writelines(json.dumps(asdict(row)) + "\n" for row in rows)
