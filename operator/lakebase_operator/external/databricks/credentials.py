"""Keeps one database credential: renewed before it expires, asked for once however many want it."""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, TypeVar

from lakebase_operator.domain.errors import TransientError
from lakebase_operator.domain.instance import Credential

T = TypeVar("T")

_MARGIN = timedelta(minutes=10)
_PAUSE = timedelta(seconds=30)


class SingleFlight(Generic[T]):
    """Runs ``work`` once for all who ask while it runs: they share its result, or its error.

    A caller that is cancelled, or that no longer waits, does not end the work for the others.
    """

    def __init__(self, work: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self._work = work
        self._task: asyncio.Task[T] | None = None

    async def __call__(self) -> T:
        """The outcome of the work under way, or of a new one."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._work())
            self._task.add_done_callback(_retrieve)
        return await asyncio.shield(self._task)


class CredentialCache:
    """One credential, in memory only.

    It is handed out until ten minutes before it expires, or half its lifetime where that is shorter, so that whoever gets it
    has time to log in, with a credential of two seconds as with one of an hour. Expiry matters at login only: connections
    that are open stay open.

    Parameters
    ----------
    mint
        Asks for a new credential.
    now
        The time, with a time zone.
    """

    def __init__(
        self,
        mint: Callable[[], Coroutine[Any, Any, Credential]],
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._mint = mint
        self._now = now
        self._renew = SingleFlight(self._renewed)
        self._held: Credential | None = None
        self._renew_at: datetime | None = None

    async def get(self, *, fresh: bool = False) -> Credential:
        """A credential that is valid now.

        Parameters
        ----------
        fresh
            Ask for a new one, since the database refused the one at hand.

        Raises
        ------
        LakebaseError
            No new one can be had, and none is at hand. A passing failure to renew early is not raised while the old one
            is still valid, and not tried again for 30 s.
        """
        held = self._held
        if held is not None and not fresh and not self._due():
            return held
        try:
            return await self._renew()
        except TransientError:
            if fresh or held is None or held.expires_at is None or held.expires_at <= self._now():
                raise
            self._renew_at = self._now() + min(_PAUSE, (held.expires_at - self._now()) / 2)
            return held

    def _due(self) -> bool:
        return self._renew_at is not None and self._now() >= self._renew_at

    async def _renewed(self) -> Credential:
        asked = self._now()
        credential = await self._mint()
        self._held = credential
        self._renew_at = None
        if (expires := credential.expires_at) is not None:
            self._renew_at = expires - min(_MARGIN, max(expires - asked, timedelta()) / 2)
        return credential


def _retrieve(task: asyncio.Task[T]) -> None:
    """Look at the error, if any: nobody may be waiting for it any more."""
    if not task.cancelled():
        task.exception()
