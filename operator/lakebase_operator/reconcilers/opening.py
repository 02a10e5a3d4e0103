"""The way into one database of a connection during a pass: the home session that is open already, or one of its own."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from lakebase_operator.api import LakebaseConnection
from lakebase_operator.external.postgres.roles import Preflight, preflight
from lakebase_operator.external.postgres.session import Connection
from lakebase_operator.reconcilers import preflight as preflights
from lakebase_operator.reconcilers.access import Access
from lakebase_operator.reconcilers.report import Report


@dataclass(frozen=True, slots=True)
class Home:
    """The first database of a connection: it is open during the whole pass."""

    session: Connection
    preflight: Preflight


@asynccontextmanager
async def opened(
    name: str, home: Home, connection: LakebaseConnection, access: Access, report: Report
) -> AsyncIterator[tuple[Connection, Preflight]]:
    """A session in a database, and what the operator may do there.

    Raises
    ------
    LakebaseError
        The database cannot be reached, or the login does not have what the operator needs; that is told.
    """
    if name == connection.spec.databases[0]:
        yield home.session, home.preflight
        return
    async with access.session(name) as session:
        found = await preflight(session)
        preflights.check(connection, found, report, home=False)
        yield session, found
