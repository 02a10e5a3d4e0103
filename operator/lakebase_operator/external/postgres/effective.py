"""What roles can do in the end, and by which way: more than what was granted to them."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from lakebase_operator.external.postgres.queries import query
from lakebase_operator.external.postgres.session import Connection


@dataclass(frozen=True, slots=True)
class EffectiveAccess:
    """One privilege of one role on one object, by one way."""

    role: str
    object: str
    privilege: str
    """With the column in parentheses; ``ALL`` for superusers."""
    way: str
    """``Granted``, ``Owner``, ``Public``, ``Membership``, ``SetRole`` (by becoming another role), ``Predefined``
    (pg_read_all_data, pg_write_all_data), ``Superuser``, ``View``, ``SecurityDefinerFunction``."""
    through: str
    """The roles on the way, the view, or the function's owner."""
    possible: bool
    """It depends on what a view or a function makes of it."""
    usable: bool
    """The role also has USAGE on the schema."""


async def effective_access(
    connection: Connection, roles: Sequence[str] | None = None, schemas: Sequence[str] | None = None
) -> AsyncIterator[EffectiveAccess]:
    """All ways by which roles have access to relations.

    Counted are ownership, chains of memberships, PUBLIC, pg_read_all_data and its like, superusers, and, as possible ways,
    views that read with their owners' rights and functions that run with theirs
    (https://www.postgresql.org/docs/current/ddl-priv.html, sql-createview.html, sql-createfunction.html).

    Parameters
    ----------
    connection
        A session in the database; any role may read the catalogs.
    roles
        By name. None: all that log in, without the system's.
    schemas
        By name. None: all, without the system's.
    """
    parameters = {
        "roles": list(roles) if roles is not None else None,
        "schemas": list(schemas) if schemas is not None else None,
    }
    cursor = await connection.execute(query("effective"), parameters, binary=True)
    async for row in cursor:
        yield EffectiveAccess(**row)
