"""The workers: a fixed number of tasks that take connections from the queue and run the pass over them."""

import asyncio
import logging
from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

from lakebase_operator.domain.errors import LakebaseError
from lakebase_operator.engine.catalog import Catalog, Dirty
from lakebase_operator.engine.clock import Clock
from lakebase_operator.engine.keys import ConnectionKey
from lakebase_operator.engine.observer import NullObserver, Observer
from lakebase_operator.engine.queue import WorkQueue

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a pass ended that did not fail."""

    requeue_after: float | None = None
    """Seconds until the next pass even if nothing happens; None: only when something does."""


class Reconciler(Protocol):
    """The pass over one connection."""

    async def reconcile(self, key: ConnectionKey, dirty: Dirty) -> Outcome:
        """Make the database equal to the declarations and say so in their status.

        ``dirty`` tells what happened since the last pass that did not fail. It is empty when the pass is only due again.

        Raises
        ------
        LakebaseError
            What could not be said in a status. The pass is tried again with growing pauses.
        """

    async def aclose(self) -> None:
        """Let go of everything: the operator stops. No pass runs any more."""


@dataclass(frozen=True, slots=True)
class _Run:
    """A pass under way."""

    key: ConnectionKey
    started: float


class Runner:
    """Runs passes until it is stopped. A slow connection holds one worker, never more.

    Parameters
    ----------
    workers
        Passes that run side by side.
    timeout
        Seconds after which a pass is cancelled and tried again.
    """

    def __init__(
        self,
        queue: WorkQueue[ConnectionKey],
        catalog: Catalog,
        reconciler: Reconciler,
        clock: Clock,
        *,
        observer: Observer | None = None,
        workers: int = 16,
        timeout: float = 900.0,
    ) -> None:
        self._queue = queue
        self._catalog = catalog
        self._reconciler = reconciler
        self._clock = clock
        self._observer = observer or NullObserver()
        self._workers = workers
        self._timeout = timeout
        self._tasks: dict[asyncio.Task[None], _Run | None] = {}
        self._stopping = False

    async def run(self) -> None:
        """Start the workers and stay with them until :meth:`stop`; the end of a worker by an error ends this too."""
        self._stopping = False
        for number in range(self._workers):
            self._tasks[asyncio.create_task(self._work(), name=f"worker-{number}")] = None
        try:
            done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_EXCEPTION)
            if not self._stopping:
                for task in done:
                    task.result()
        finally:
            await self._cancel(self._tasks)
            self._tasks.clear()

    async def stop(self, grace: float) -> None:
        """Take no more work; give running passes ``grace`` seconds to end, then cancel them."""
        self._stopping = True
        await self._cancel([task for task, run in self._tasks.items() if run is None])
        busy = [task for task, run in self._tasks.items() if run is not None]
        if busy:
            _, late = await asyncio.wait(busy, timeout=grace)
            for task in late:
                run = self._tasks.get(task)
                if run is not None:
                    logger.warning(
                        "The pass is cut off: the operator stops", extra={"connection": str(run.key)}
                    )
            await self._cancel(late)

    @property
    def healthy(self) -> bool:
        """All workers live, and no pass has outlived its timeout by far."""
        limit = self._clock.monotonic() - self._timeout - 60.0
        return (
            len(self._tasks) == self._workers
            and not any(task.done() for task in self._tasks)
            and not any(run is not None and run.started < limit for run in self._tasks.values())
        )

    async def _work(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        while not self._stopping:
            key = await self._queue.get()
            self._tasks[task] = _Run(key, self._clock.monotonic())
            try:
                await self._pass(key)
            finally:
                self._tasks[task] = None
                self._queue.done(key)

    async def _pass(self, key: ConnectionKey) -> None:
        dirty = self._catalog.take_dirty(key)
        started = self._clock.monotonic()
        result = "Error"
        try:
            async with asyncio.timeout(self._timeout) as deadline:
                outcome = await self._reconciler.reconcile(key, dirty)
            result = "Success"
            self._queue.forget(key)
            if outcome.requeue_after is not None:
                self._queue.add(key, after=outcome.requeue_after)
        except Exception as error:
            self._catalog.restore_dirty(key, dirty)
            if isinstance(error, TimeoutError) and deadline.expired():
                result = "Timeout"
            at_least = error.retry_after if isinstance(error, LakebaseError) else None
            delay = self._queue.retry(key, at_least=at_least)
            logger.exception(
                "The pass failed (%s in a row); it is tried again in %.1f s",
                self._queue.failures(key),
                delay,
                extra={"connection": str(key)},
            )
        except asyncio.CancelledError:
            self._catalog.restore_dirty(key, dirty)
            result = "Cancelled"
            raise
        finally:
            self._observer.pass_finished(key, result, self._clock.monotonic() - started)

    @staticmethod
    async def _cancel(tasks: Collection[asyncio.Task[None]]) -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
