"""A clock that stands still until a test moves it."""

import asyncio
import heapq
import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

START = datetime(2026, 1, 1, tzinfo=UTC)


class ManualTimer:
    """A callback that is due when the clock is moved far enough."""

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class ManualClock:
    """Implements ``engine.clock.Clock``."""

    def __init__(self) -> None:
        self.elapsed = 0.0
        self._timers: list[tuple[float, int, ManualTimer]] = []
        self._sequence = itertools.count()

    def now(self) -> datetime:
        return START + timedelta(seconds=self.elapsed)

    def monotonic(self) -> float:
        return self.elapsed

    async def sleep(self, seconds: float) -> None:
        over = asyncio.Event()
        self.call_later(seconds, over.set)
        await over.wait()

    def call_later(self, seconds: float, callback: Callable[[], None]) -> ManualTimer:
        timer = ManualTimer(callback)
        heapq.heappush(self._timers, (self.elapsed + max(seconds, 0.0), next(self._sequence), timer))
        return timer

    async def advance(self, seconds: float) -> None:
        """Move on, calling back what becomes due on the way, each at its time, and let tasks run in between."""
        end = self.elapsed + seconds
        await settle()
        while self._timers and self._timers[0][0] <= end:
            due, _, timer = heapq.heappop(self._timers)
            self.elapsed = max(self.elapsed, due)
            if timer.callback is not None:
                timer.callback()
                await settle()
        self.elapsed = end
        await settle()


async def settle() -> None:
    """Let every task run until it waits for something that only time or a test brings."""
    for _ in range(20):
        await asyncio.sleep(0)
