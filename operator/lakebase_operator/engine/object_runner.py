"""Workers for objects that are worked on one by one: LakebaseInstances and DatabaseCatalogs.

They have a queue and workers of their own, so that a slow control plane does not hold up the passes over the connections.
"""

import asyncio
import logging
from typing import Protocol

from lakebase_operator.domain.errors import LakebaseError
from lakebase_operator.engine.clock import Clock
from lakebase_operator.engine.keys import ObjectKey
from lakebase_operator.engine.queue import WorkQueue
from lakebase_operator.engine.runner import Outcome

logger = logging.getLogger(__name__)


class ObjectReconciler(Protocol):
    """Looks at one object and brings it a step further. It never waits for something that takes long."""

    async def reconcile(self, key: ObjectKey) -> Outcome:
        """Compare what is declared with what is, ask for the next change, and say so in the status.

        Raises
        ------
        LakebaseError
            What could not be said in a status. It is tried again with growing pauses.
        """

    async def aclose(self) -> None:
        """Let go of everything: the operator stops. Nothing runs any more."""


class ObjectRunner:
    """Runs the reconciler until it is stopped.

    Parameters
    ----------
    workers
        Objects that are worked on side by side.
    timeout
        Seconds after which one is cut off and tried again.
    """

    def __init__(
        self,
        queue: WorkQueue[ObjectKey],
        reconciler: ObjectReconciler,
        clock: Clock,
        *,
        workers: int = 4,
        timeout: float = 300.0,
    ) -> None:
        self._queue = queue
        self._reconciler = reconciler
        self._clock = clock
        self._workers = workers
        self._timeout = timeout
        self._running: dict[ObjectKey, float] = {}
        self._alive = False

    async def run(self) -> None:
        """Work until cancelled; the end of a worker by an error ends this too."""
        self._alive = True
        try:
            async with asyncio.TaskGroup() as group:
                for number in range(self._workers):
                    group.create_task(self._work(), name=f"object-worker-{number}")
        finally:
            self._alive = False

    @property
    def healthy(self) -> bool:
        """All workers live, and none has outlived its timeout by far."""
        limit = self._clock.monotonic() - self._timeout - 60.0
        return self._alive and not any(started < limit for started in self._running.values())

    async def _work(self) -> None:
        while True:
            key = await self._queue.get()
            self._running[key] = self._clock.monotonic()
            try:
                await self._step(key)
            finally:
                del self._running[key]
                self._queue.done(key)

    async def _step(self, key: ObjectKey) -> None:
        try:
            async with asyncio.timeout(self._timeout):
                outcome = await self._reconciler.reconcile(key)
            self._queue.forget(key)
            if outcome.requeue_after is not None:
                self._queue.add(key, after=outcome.requeue_after)
        except Exception as error:
            at_least = error.retry_after if isinstance(error, LakebaseError) else None
            delay = self._queue.retry(key, at_least=at_least)
            logger.exception(
                "Failed (%s in a row); tried again in %.1f s",
                self._queue.failures(key),
                delay,
                extra={"object": str(key)},
            )
