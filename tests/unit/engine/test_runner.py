"""The workers, with passes that a test controls."""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import pytest

from lakebase_operator.api import Reason
from lakebase_operator.domain.errors import TransientError
from lakebase_operator.engine.catalog import Catalog, Dirty
from lakebase_operator.engine.clock import SystemClock
from lakebase_operator.engine.keys import ConnectionKey
from lakebase_operator.engine.observer import NullObserver
from lakebase_operator.engine.queue import Backoff, WorkQueue
from lakebase_operator.engine.runner import Outcome, Runner
from tests.manual_clock import ManualClock, settle
from tests.unit.engine.bodies import grant

A, B, C = (ConnectionKey("team", name) for name in "abc")


@dataclass
class Passes:
    """A reconciler that notes its runs and does what the test says."""

    act: Callable[[ConnectionKey], Awaitable[Outcome]]
    runs: list[tuple[ConnectionKey, Dirty]] = field(default_factory=list)
    running: Counter[ConnectionKey] = field(default_factory=Counter)

    async def reconcile(self, key: ConnectionKey, dirty: Dirty) -> Outcome:
        self.runs.append((key, dirty))
        self.running[key] += 1
        assert self.running[key] == 1
        try:
            return await self.act(key)
        finally:
            self.running[key] -= 1

    async def aclose(self) -> None:
        """There is nothing to let go of."""


class Listener(NullObserver):
    def __init__(self) -> None:
        self.results: list[tuple[ConnectionKey, str]] = []
        self.heard = asyncio.Event()

    def pass_finished(self, key: ConnectionKey, result: str, seconds: float) -> None:
        self.results.append((key, result))
        self.heard.set()


@dataclass
class Bench:
    """Everything around the passes."""

    clock: ManualClock
    queue: WorkQueue[ConnectionKey]
    catalog: Catalog
    passes: Passes
    listener: Listener
    runner: Runner


@asynccontextmanager
async def running(
    act: Callable[[ConnectionKey], Awaitable[Outcome]], *, workers: int = 4, pass_timeout: float = 900
) -> AsyncIterator[Bench]:
    clock, catalog, listener, passes = ManualClock(), Catalog(), Listener(), Passes(act)
    queue: WorkQueue[ConnectionKey] = WorkQueue(clock, debounce=0.05, backoff=Backoff(1, 60, 0))
    runner = Runner(queue, catalog, passes, clock, observer=listener, workers=workers, timeout=pass_timeout)
    task = asyncio.create_task(runner.run())
    await settle()
    try:
        yield Bench(clock, queue, catalog, passes, listener, runner)
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def at_once(key: ConnectionKey) -> Outcome:
    return Outcome()


async def test_a_pass_gets_what_happened_and_the_next_one_only_what_is_new() -> None:
    async with running(at_once) as bench:
        bench.catalog.upsert("AccessGrant", grant("g", "a"))
        bench.catalog.mark_full(A)
        bench.queue.add(A)
        await bench.clock.advance(1)
        bench.queue.add(A)
        await bench.clock.advance(1)
        first, second = (dirty for _, dirty in bench.passes.runs)
        assert first.full
        assert {key.name for key in first.objects} == {"g"}
        assert not second


async def test_a_pass_says_when_it_wants_to_be_run_again() -> None:
    async def every_ten_minutes(key: ConnectionKey) -> Outcome:
        return Outcome(requeue_after=600)

    async with running(every_ten_minutes) as bench:
        bench.queue.add(A)
        await bench.clock.advance(1799)
        assert len(bench.passes.runs) == 3


async def test_a_failed_pass_is_tried_again_with_growing_pauses_and_loses_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def fails(key: ConnectionKey) -> Outcome:
        raise RuntimeError("something unforeseen")

    async with running(fails) as bench:
        bench.catalog.mark_full(A)
        bench.queue.add(A, after=0)
        with caplog.at_level(logging.ERROR):
            await bench.clock.advance(1 + 2 + 4 + 0.5)
        assert [dirty.full for _, dirty in bench.passes.runs] == [True] * 4
        assert bench.listener.results == [(A, "Error")] * 4
        assert "something unforeseen" in caplog.text
        assert "Traceback" in caplog.text


async def test_a_success_ends_the_growing_of_the_pauses() -> None:
    failures = iter([True, True, False, True, False])

    async def sometimes(key: ConnectionKey) -> Outcome:
        if next(failures):
            raise TransientError(Reason.UNREACHABLE, "no answer")
        return Outcome()

    async with running(sometimes) as bench:
        bench.queue.add(A, after=0)
        await bench.clock.advance(3)
        assert bench.queue.failures(A) == 0
        bench.queue.add(A, after=0)
        await bench.clock.advance(1)
        assert [result for _, result in bench.listener.results] == [
            "Error",
            "Error",
            "Success",
            "Error",
            "Success",
        ]


async def test_a_failure_may_say_how_long_to_wait() -> None:
    async def throttled(key: ConnectionKey) -> Outcome:
        raise TransientError(Reason.CONTROL_PLANE_THROTTLED, "slow down", retry_after=40)

    async with running(throttled) as bench:
        bench.queue.add(A, after=0)
        await bench.clock.advance(39)
        assert len(bench.passes.runs) == 1
        await bench.clock.advance(2)
        assert len(bench.passes.runs) == 2


async def test_a_pass_that_takes_too_long_is_cut_off_and_tried_again() -> None:
    cut = []

    async def hangs(key: ConnectionKey) -> Outcome:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cut.append(key)
            raise
        return Outcome()

    async with running(hangs, pass_timeout=0.01) as bench:
        bench.queue.add(A, after=0)
        await bench.clock.advance(0)
        await asyncio.wait_for(bench.listener.heard.wait(), 5)
        assert cut == [A]
        assert bench.listener.results == [(A, "Timeout")]
        assert bench.queue.failures(A) == 1


async def test_one_connection_that_hangs_holds_one_worker_and_never_more() -> None:
    stuck = asyncio.Event()

    async def a_hangs(key: ConnectionKey) -> Outcome:
        if key == A:
            await stuck.wait()
        return Outcome()

    async with running(a_hangs, workers=2) as bench:
        for _ in range(20):
            for key in (A, B, C):
                bench.queue.add(key)
            await bench.clock.advance(1)
        counts = Counter(key for key, _ in bench.passes.runs)
        assert (counts[A], counts[B], counts[C]) == (1, 20, 20)
        stuck.set()
        await bench.clock.advance(1)
        assert Counter(key for key, _ in bench.passes.runs)[A] == 2


async def test_stopping_lets_a_running_pass_end_and_starts_no_other() -> None:
    going_on = asyncio.Event()

    async def takes_a_while(key: ConnectionKey) -> Outcome:
        await going_on.wait()
        return Outcome()

    async with running(takes_a_while, workers=1) as bench:
        bench.queue.add(A)
        bench.queue.add(B)
        await bench.clock.advance(1)
        stop = asyncio.create_task(bench.runner.stop(grace=5))
        await settle()
        assert not stop.done()
        going_on.set()
        await stop
        assert bench.listener.results == [(A, "Success")]


async def test_stopping_cuts_off_a_pass_after_the_grace_period_and_keeps_what_it_owed() -> None:
    async def hangs(key: ConnectionKey) -> Outcome:
        await asyncio.Event().wait()
        return Outcome()

    async with running(hangs) as bench:
        bench.catalog.mark_full(A)
        bench.queue.add(A)
        await bench.clock.advance(1)
        await asyncio.wait_for(bench.runner.stop(grace=0.01), 5)
        assert bench.listener.results == [(A, "Cancelled")]
        assert bench.catalog.take_dirty(A).full


async def test_the_runner_is_healthy_while_its_workers_live() -> None:
    async with running(at_once) as bench:
        assert bench.runner.healthy
        await bench.runner.stop(grace=1)
        assert not bench.runner.healthy


async def test_a_pass_that_outlives_its_timeout_by_far_is_unhealthy() -> None:
    async def swallows_cancellation(key: ConnectionKey) -> Outcome:
        await asyncio.Event().wait()
        return Outcome()

    async with running(swallows_cancellation, pass_timeout=100) as bench:
        bench.queue.add(A)
        await bench.clock.advance(1)
        assert bench.runner.healthy
        await bench.clock.advance(161)
        assert not bench.runner.healthy


async def test_the_system_clock_is_aware_and_never_goes_back() -> None:
    clock = SystemClock()
    before = clock.monotonic()
    fired = asyncio.Event()
    clock.call_later(0.001, fired.set)
    await clock.sleep(0)
    await asyncio.wait_for(fired.wait(), 5)
    assert clock.monotonic() > before
    assert clock.now().utcoffset() is not None
