"""A session that is kept for a moment after a pass: while changes come one after the other, logging in and planning the
comparison each time would take longer than the work itself."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from psycopg.pq import TransactionStatus

from lakebase_operator.external.postgres.session import Connection, Server
from lakebase_operator.reconcilers.access import Access

KEPT_SECONDS = 5.0
"""Much shorter than any idle limit, and than the pause after which a compute is suspended."""


@dataclass(slots=True)
class _Kept:
    """An idle session."""

    session: Connection
    server: Server
    database: str
    closing: asyncio.Task[None]


class HomeSession:
    """The session in a connection's home database, kept from one narrow pass to the next."""

    def __init__(self) -> None:
        self._kept: _Kept | None = None

    @asynccontextmanager
    async def use(self, access: Access, database: str, *, narrow: bool) -> AsyncIterator["Borrowed"]:
        """A session. It is closed unless the pass says to keep it.

        Parameters
        ----------
        narrow
            Take the one that was kept, if there is one. Else it is always a new one: the credential may be another.

        Raises
        ------
        LakebaseError
            See ``Access.open``.
        """
        session = await self._take(access, database) if narrow else None
        if session is None:
            await self.close()
            session = await access.open(database)
            if narrow:
                # Planning the comparison takes longer than a narrow one itself.
                await session.execute("SELECT set_config('plan_cache_mode', 'force_generic_plan', false)")
                session.prepare_threshold = 0
        borrowed = Borrowed(session)
        try:
            yield borrowed
        except BaseException:
            borrowed.keep = False
            raise
        finally:
            idle = session.info.transaction_status is TransactionStatus.IDLE
            if borrowed.keep and idle and not session.closed:
                closing = asyncio.create_task(self._close_later(), name="idle session")
                self._kept = _Kept(session, access.server, database, closing)
            else:
                await session.close()

    async def close(self) -> None:
        """Close what is kept."""
        if self._kept is not None:
            kept, self._kept = self._kept, None
            kept.closing.cancel()
            await kept.session.close()

    async def _take(self, access: Access, database: str) -> Connection | None:
        kept = self._kept
        if kept is None:
            return None
        if kept.session.closed or (kept.server, kept.database) != (access.server, database):
            return None
        self._kept = None
        kept.closing.cancel()
        return kept.session

    async def _close_later(self) -> None:
        await asyncio.sleep(KEPT_SECONDS)
        kept, self._kept = self._kept, None
        if kept is not None:
            await kept.session.close()


@dataclass(slots=True)
class Borrowed:
    """A session during a pass."""

    session: Connection
    keep: bool = False
    """Set it where another pass may come soon."""
