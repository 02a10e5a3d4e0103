"""Events in the background: they tell people what happened, and hold up nothing that has yet to happen."""

import asyncio
import logging
from collections import deque
from collections.abc import Iterable

from lakebase_operator.api.base import ObjectMeta
from lakebase_operator.external.kube.objects import KubeObjects, ObjectEvent

logger = logging.getLogger(__name__)

MOST_WAITING = 20_000
"""Events that wait to be written. The oldest are given up for newer ones: after an hour the API server forgets all of them
anyway."""


class EventRecorder:
    """Takes Events at once and writes them one after the other, so that those about one object keep their order.

    Parameters
    ----------
    most_waiting
        How many may wait.
    """

    def __init__(self, objects: KubeObjects, *, most_waiting: int = MOST_WAITING) -> None:
        self._objects = objects
        self._waiting: deque[tuple[str, ObjectMeta, ObjectEvent]] = deque(maxlen=most_waiting)
        self._arrived = asyncio.Event()
        self._done = asyncio.Event()
        self._done.set()
        self._lost = 0

    def record(self, kind: str, meta: ObjectMeta, events: Iterable[ObjectEvent]) -> None:
        """Have Events about one object written, in order."""
        for event in events:
            self._lost += len(self._waiting) == self._waiting.maxlen
            self._waiting.append((kind, meta, event))
        if self._waiting:
            self._done.clear()
            self._arrived.set()

    async def run(self) -> None:
        """Write what comes, forever."""
        while True:
            await self._arrived.wait()
            if self._lost:
                logger.warning("%d Events are lost: too many wait", self._lost)
                self._lost = 0
            await self._objects.create_event(*self._waiting.popleft())
            if not self._waiting:
                self._arrived.clear()
                self._done.set()

    async def drain(self, seconds: float) -> None:
        """Wait until all are written, for at most so long; :meth:`run` must be under way."""
        try:
            async with asyncio.timeout(seconds):
                await self._done.wait()
        except TimeoutError:
            logger.warning("%d Events are lost: the operator stops", len(self._waiting))
