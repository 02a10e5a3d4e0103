"""The work queue: which keys are to be worked on, and when.

The semantics are those of client-go's rate-limited work queue
(https://pkg.go.dev/k8s.io/client-go/util/workqueue): a key waits at most once; it is never worked on twice at the same
time; a key that is added while it is worked on comes back once it is done; failures are spaced out exponentially.
"""

import asyncio
import heapq
import itertools
import random
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from lakebase_operator.engine.clock import Clock, Timer

K = TypeVar("K", bound=Hashable)

MOST_RESTING = 1000
"""Keys whose rest is remembered before those that have rested are forgotten."""
MAX_EXPONENT = 32  # 2**32 times any base is beyond every cap; more would overflow a float one day


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait after a failure, in seconds: ``base``, twice that, and so on up to ``cap``, each spread by ``jitter``."""

    base: float = 1.0
    cap: float = 300.0
    jitter: float = 0.2
    """Largest deviation, as a part of the delay."""

    def delay(self, failures: int, rng: random.Random) -> float:
        """Seconds to wait after the ``failures``-th failure in a row."""
        exponential = self.base * 2.0 ** min(failures - 1, MAX_EXPONENT)
        return min(self.cap, exponential) * rng.uniform(1 - self.jitter, 1 + self.jitter)


class WorkQueue(Generic[K]):
    """Keys that wait for a worker. Bounded by the number of distinct keys; no task and no timer of its own per key.

    Parameters
    ----------
    debounce
        Seconds that a key rests after a run. What comes in the meantime becomes one run; what comes to a rested key is
        worked on at once.
    backoff
        Delays after failures.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        debounce: float = 0.05,
        backoff: Backoff | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._clock = clock
        self._debounce = debounce
        self._backoff = backoff or Backoff()
        self._rng = rng or random.Random()  # noqa: S311 - spreads retries, guards nothing
        self._due: dict[K, float] = {}
        """Waiting for their time. The heap may hold older entries of a key; only the one that agrees with this counts."""
        self._heap: list[tuple[float, int, K]] = []
        self._sequence = itertools.count()
        self._ready: asyncio.Queue[K] = asyncio.Queue()
        self._ready_since: dict[K, float] = {}
        self._running: set[K] = set()
        self._again: dict[K, float] = {}
        """Added while running, with the time at which they are due."""
        self._rests_until: dict[K, float] = {}
        """Of those whose last run is not long ago."""
        self._failures: dict[K, int] = {}
        self._timer: Timer | None = None

    def add(self, key: K, *, after: float | None = None) -> None:
        """Have ``key`` worked on, after ``after`` seconds (default: as soon as it has rested). An earlier time wins."""
        now = self._clock.monotonic()
        if after is not None:
            due = now + after
        elif key in self._running:
            due = now + self._debounce
        else:
            due = max(now, self._rests_until.get(key, now))
        if key in self._running:
            self._again[key] = min(due, self._again.get(key, due))
        elif key not in self._ready_since:
            self._wait(key, due)

    def retry(self, key: K, *, at_least: float | None = None) -> float:
        """Add ``key`` after a failure: later with each failure in a row, and not before ``at_least`` seconds.

        Returns the delay in seconds.
        """
        self._failures[key] = self._failures.get(key, 0) + 1
        delay = self._backoff.delay(self._failures[key], self._rng)
        if at_least is not None and delay < at_least:
            delay = at_least * self._rng.uniform(1.0, 1.0 + self._backoff.jitter)
        self.add(key, after=delay)
        return delay

    def forget(self, key: K) -> None:
        """Count failures of ``key`` from nought again."""
        self._failures.pop(key, None)

    async def get(self) -> K:
        """Wait for a key and take it. The caller must call :meth:`done` for it."""
        key = await self._ready.get()
        del self._ready_since[key]
        self._running.add(key)
        return key

    def done(self, key: K) -> None:
        """The run of ``key`` is over. If it was added meanwhile, it waits again."""
        self._running.discard(key)
        self._rest(key)
        due = self._again.pop(key, None)
        if due is not None:
            self._wait(key, due)

    def close(self) -> None:
        """Stop the timer: nothing becomes ready any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._due.clear()
        self._heap.clear()

    @property
    def depth(self) -> int:
        """Keys that are ready and have no worker yet."""
        return len(self._ready_since)

    @property
    def running(self) -> frozenset[K]:
        """Keys that are being worked on."""
        return frozenset(self._running)

    @property
    def oldest(self) -> float:
        """Seconds that the longest waiting ready key has waited for a worker; 0 if there is none."""
        if not self._ready_since:
            return 0.0
        return self._clock.monotonic() - next(iter(self._ready_since.values()))

    def failures(self, key: K) -> int:
        """Failures of ``key`` in a row."""
        return self._failures.get(key, 0)

    def _rest(self, key: K) -> None:
        now = self._clock.monotonic()
        if len(self._rests_until) >= MOST_RESTING:
            self._rests_until = {one: until for one, until in self._rests_until.items() if until > now}
        self._rests_until[key] = now + self._debounce

    def _wait(self, key: K, due: float) -> None:
        if due >= self._due.get(key, float("inf")):
            return
        self._due[key] = due
        heapq.heappush(self._heap, (due, next(self._sequence), key))
        self._release()

    def _release(self) -> None:
        """Make ready what is due, and set the timer for what comes next."""
        now = self._clock.monotonic()
        while self._heap:
            due, _, key = self._heap[0]
            if self._due.get(key) != due:
                heapq.heappop(self._heap)  # an earlier time has won since
            elif due <= now:
                heapq.heappop(self._heap)
                del self._due[key]
                self._ready_since[key] = now
                self._ready.put_nowait(key)
            else:
                break
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._heap:
            self._timer = self._clock.call_later(self._heap[0][0] - now, self._release)
