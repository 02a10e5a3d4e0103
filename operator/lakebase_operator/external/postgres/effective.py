"""What roles can do in the end, and by which way: more than what was granted to them."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from lakebase_operator.api.reasons import Reason
from lakebase_operator.domain.errors import InvalidError
from lakebase_operator.domain.near_names import did_you_mean, near_names
from lakebase_operator.external.postgres.queries import query
from lakebase_operator.external.postgres.session import Connection

_NAMES = """
SELECT ARRAY(SELECT rolname::text FROM pg_roles) AS roles, ARRAY(SELECT nspname::text FROM pg_namespace) AS schemas
"""


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


async def check_names(
    connection: Connection, roles: Sequence[str] | None, schemas: Sequence[str] | None
) -> None:
    """No line about a role or schema that does not exist would look like no access.

    Raises
    ------
    InvalidError
        One that is named does not exist.
    """
    found = await (await connection.execute(_NAMES)).fetchone()
    assert found is not None, "one row, whatever there is"
    for wanted, known, reason, what in (
        (roles, found["roles"], Reason.ROLE_MISSING, "role"),
        (schemas, found["schemas"], Reason.SCHEMA_MISSING, "schema"),
    ):
        for name in wanted or ():
            if name not in known:
                near = did_you_mean(near_names(name, known))
                raise InvalidError(reason, f'There is no {what} "{name}".{near}')
