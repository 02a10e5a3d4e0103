"""Keeping the view complete: a list before the first pass, and again from time to time for what the watches missed."""

import asyncio
import logging
import random
from collections.abc import Sequence

from lakebase_operator.domain.errors import LakebaseError
from lakebase_operator.engine.catalog import MODELS, Catalog, Resync, version_number
from lakebase_operator.engine.clock import Clock
from lakebase_operator.engine.keys import ConnectionKey
from lakebase_operator.engine.queue import Backoff
from lakebase_operator.external.kube.errors import Expired, Gone
from lakebase_operator.external.kube.objects import KubeObjects
from lakebase_operator.runtime.feed import Feed

logger = logging.getLogger(__name__)

GAP_SECONDS = 1.0
"""After a watch has begun anew, what it missed in between is looked for so soon."""
RETRY_SECONDS = 10.0
"""After a list has failed. Until it succeeds, what a watch has missed is not known."""
WATCH_LAG_SECONDS = 120.0
"""A watch that has not brought by then what a list has shown is dead. Kopf renews a silent watch after 70 seconds."""
JITTER = 0.1


class WatchLostError(Exception):
    """A watch brings nothing any more. The process is to be started anew."""


class WatchCanary:
    """Knows whether each watch brings what lists show to be there."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._missed: dict[str, tuple[int, float]] = {}
        """By kind: a version that only a list has shown so far, and until when the watch may take to bring it."""
        self._since: dict[str, int] = {}
        """By kind: the version with which its watch has begun. It brings only what is later."""

    def missed(self, kind: str, version: int) -> None:
        """A list has shown ``version``, of which the watch has said nothing."""
        if version > self._since.get(kind, 0):
            self._missed.setdefault(kind, (version, self._clock.monotonic() + WATCH_LAG_SECONDS))

    def begun(self, kind: str, version: str) -> None:
        """The watch has begun, or begun anew, with ``version``: it lives."""
        self._missed.pop(kind, None)
        self._since[kind] = version_number(version)

    def heard(self, kind: str, version: str) -> None:
        """The watch has brought ``version``; it keeps the order."""
        if kind in self._missed and (not version.isdecimal() or int(version) >= self._missed[kind][0]):
            del self._missed[kind]

    @property
    def lost(self) -> tuple[str, ...]:
        """Kinds whose watch is dead."""
        now = self._clock.monotonic()
        return tuple(sorted(kind for kind, (_, until) in self._missed.items() if until < now))


class Synchroniser:
    """Lists the kinds.

    Parameters
    ----------
    namespaces
        Those to look at; empty: all.
    interval
        Seconds between two lists of a kind.
    """

    def __init__(
        self,
        catalog: Catalog,
        feed: Feed,
        kube: KubeObjects,
        clock: Clock,
        *,
        namespaces: Sequence[str],
        interval: float,
        rng: random.Random | None = None,
    ) -> None:
        self.canary = WatchCanary(clock)
        self._catalog = catalog
        self._feed = feed
        self._kube = kube
        self._clock = clock
        self._scopes: Sequence[str | None] = namespaces or (None,)
        self._interval = interval
        self._rng = rng or random.Random()  # noqa: S311 - spreads lists, guards nothing
        self._due: dict[str, float] = {}
        self._listed: dict[tuple[str, str | None], str] = {}
        """By kind and namespace: the version of our last list, if no watch has begun with it."""
        self._sooner = asyncio.Event()

    async def prime(self) -> None:
        """Fill the catalog; tries until it succeeds. A view that is not complete would look like "revoke everything"."""
        for kind in MODELS:
            failures = 0
            while True:
                try:
                    await self._resync(kind)
                    break
                except LakebaseError as error:
                    failures += 1
                    pause = Backoff(base=0.5, cap=15.0).delay(failures, self._rng)
                    hint = " Are its CustomResourceDefinitions installed?" if isinstance(error, Gone) else ""
                    logger.warning("Cannot list %s yet: %s%s", kind, error.message, hint)
                    await self._clock.sleep(pause)
            self._later(kind)

    async def run(self) -> None:
        """List each kind again and again, forever.

        Raises
        ------
        WatchLostError
            A watch is dead.
        """
        while True:
            kind = min(self._due, key=lambda one: self._due[one])
            await self._wait(self._due[kind] - self._clock.monotonic())
            if self.canary.lost:
                raise WatchLostError(f"the watch of {', '.join(self.canary.lost)} brings nothing any more")
            if self._due[kind] > self._clock.monotonic():
                continue  # woken for another one
            self._later(kind)
            try:
                self._feed.enqueue(await self.resync(kind))
            except LakebaseError as error:
                logger.warning("Cannot list %s: %s", kind, error.message)
                self._soon(kind, RETRY_SECONDS)

    def heard(self, kind: str, version: str) -> None:
        """A watch has brought something."""
        self.canary.heard(kind, version)

    def begins(self, kind: str, namespace: str | None, version: str) -> str:
        """A watch begins, or begins anew after a gap, and could do so with ``version``. Returns the version to begin with.

        That is the one of our last list, so that nothing can happen in between. If a watch has begun there before, it may be too
        old by now, and if it is the later one, the cluster was restored: then a list of ours soon finds what happened in the gap.
        """
        ours = self._listed.pop((kind, namespace), None)
        if ours is None or version_number(ours) > version_number(version):
            ours = None
            self._soon(kind, GAP_SECONDS)
        begun = ours or version
        self.canary.begun(kind, begun)
        return begun

    async def resync(self, kind: str) -> frozenset[ConnectionKey]:
        """Compare the catalog with fresh lists of a kind. Returns the connections for which there was news.

        Raises
        ------
        KubeError, Forbidden
            A list failed.
        """
        dirty, newest = await self._resync(kind)
        if newest:
            self.canary.missed(kind, newest)
        return dirty

    async def _resync(self, kind: str) -> tuple[frozenset[ConnectionKey], int]:
        dirty: frozenset[ConnectionKey] = frozenset()
        newest = 0
        for scope in self._scopes:
            comparison = await self._compare(kind, scope)
            dirty |= comparison.finish()
            self._listed[kind, scope] = comparison.version
            newest = max(newest, comparison.newest)
        return dirty, newest

    async def _compare(self, kind: str, scope: str | None) -> Resync:
        while True:
            comparison = self._catalog.resync(kind, scope)
            try:
                async for page in self._kube.pages(kind, scope):
                    comparison.take(page.bodies, page.version)
            except Expired:
                continue  # it took so long that the rest of the list is not kept any more
            return comparison

    def _soon(self, kind: str, seconds: float) -> None:
        due = self._clock.monotonic() + seconds
        if due < self._due.get(kind, 0.0):
            self._due[kind] = due
            self._sooner.set()

    def _later(self, kind: str) -> None:
        pause = self._interval * self._rng.uniform(1 - JITTER, 1 + JITTER)
        self._due[kind] = self._clock.monotonic() + pause

    async def _wait(self, seconds: float) -> None:
        """Until then, or until something is due sooner, or the canary is to be looked at."""
        self._sooner.clear()
        waker = self._clock.call_later(max(0.0, min(seconds, WATCH_LAG_SECONDS / 4)), self._sooner.set)
        try:
            await self._sooner.wait()
        finally:
            waker.cancel()
