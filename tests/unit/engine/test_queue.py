"""The work queue, on a clock that stands still."""

import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakebase_operator.engine.queue import Backoff, WorkQueue
from tests.manual_clock import ManualClock, settle


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def queue(clock: ManualClock) -> WorkQueue[str]:
    return WorkQueue(clock, debounce=0.05, backoff=Backoff(base=1.0, cap=60.0, jitter=0.0))


def taken(queue: WorkQueue[str]) -> list[str]:
    """What is ready now, marked as running."""
    keys = []
    while queue.depth:
        coroutine = queue.get()
        try:
            coroutine.send(None)
        except StopIteration as stop:
            keys.append(stop.value)
    return keys


async def test_five_hundred_adds_within_the_debounce_window_become_one_run(
    queue: WorkQueue[str], clock: ManualClock
) -> None:
    for _ in range(500):
        queue.add("a")
        await clock.advance(0.0001)
    assert taken(queue) == ["a"]
    queue.done("a")
    await clock.advance(1000)
    assert taken(queue) == []


async def test_a_key_that_has_rested_is_worked_on_at_once(queue: WorkQueue[str], clock: ManualClock) -> None:
    queue.add("a")
    assert taken(queue) == ["a"]
    queue.done("a")
    queue.add("a")
    assert taken(queue) == [], "right after a run it rests"
    await clock.advance(0.05)
    assert taken(queue) == ["a"]
    queue.done("a")
    await clock.advance(1)
    queue.add("a")
    assert taken(queue) == ["a"]


async def test_a_steady_stream_of_adds_does_not_put_the_run_off(
    queue: WorkQueue[str], clock: ManualClock
) -> None:
    runs = 0
    for _ in range(100):
        queue.add("a")
        await clock.advance(0.01)
        for key in taken(queue):
            runs += 1
            queue.done(key)
    assert runs == pytest.approx(1.0 / 0.05, abs=4)


async def test_keys_come_in_the_order_in_which_they_became_due(
    queue: WorkQueue[str], clock: ManualClock
) -> None:
    queue.add("late", after=3)
    queue.add("early", after=1)
    queue.add("middle", after=2)
    await clock.advance(5)
    assert taken(queue) == ["early", "middle", "late"]


async def test_a_key_is_never_given_out_twice_at_the_same_time(
    queue: WorkQueue[str], clock: ManualClock
) -> None:
    queue.add("a")
    await clock.advance(1)
    assert taken(queue) == ["a"]
    queue.add("a")
    await clock.advance(1000)
    assert taken(queue) == []
    queue.done("a")
    await clock.advance(0)
    assert taken(queue) == ["a"]


async def test_many_adds_during_a_run_bring_one_more_run(queue: WorkQueue[str], clock: ManualClock) -> None:
    queue.add("a")
    await clock.advance(1)
    assert taken(queue) == ["a"]
    for _ in range(10):
        queue.add("a")
    queue.done("a")
    await clock.advance(1)
    assert taken(queue) == ["a"]
    queue.done("a")
    await clock.advance(1000)
    assert taken(queue) == []


async def test_an_earlier_time_wins_and_a_later_one_changes_nothing(
    queue: WorkQueue[str], clock: ManualClock
) -> None:
    queue.add("a", after=600)
    queue.add("a", after=10)
    queue.add("a", after=300)
    await clock.advance(9.9)
    assert taken(queue) == []
    await clock.advance(0.2)
    assert taken(queue) == ["a"]
    queue.done("a")
    await clock.advance(1000)
    assert taken(queue) == []


async def test_an_event_overtakes_the_pause_after_a_failure(
    queue: WorkQueue[str], clock: ManualClock
) -> None:
    queue.add("a")
    await clock.advance(1)
    assert taken(queue) == ["a"]
    queue.retry("a", at_least=500)
    queue.done("a")
    await clock.advance(10)
    assert taken(queue) == []
    queue.add("a")
    await clock.advance(0.1)
    assert taken(queue) == ["a"]


async def test_failures_in_a_row_wait_longer_up_to_the_cap_until_forgotten(
    queue: WorkQueue[str], clock: ManualClock
) -> None:
    assert [queue.retry("a") for _ in range(8)] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert queue.failures("a") == 8
    queue.forget("a")
    assert queue.failures("a") == 0
    assert queue.retry("a") == 1


async def test_the_other_side_may_ask_for_a_longer_pause(queue: WorkQueue[str]) -> None:
    assert queue.retry("a", at_least=30) == 30
    assert queue.retry("a", at_least=0.5) == 2


async def test_a_thousand_failures_do_not_overflow(queue: WorkQueue[str]) -> None:
    for _ in range(1100):
        delay = queue.retry("a")
    assert delay == 60


@given(failures=st.integers(1, 10_000), seed=st.integers())
def test_a_pause_stays_within_its_jitter(failures: int, seed: int) -> None:
    backoff = Backoff(base=0.5, cap=100, jitter=0.2)
    exact = min(100.0, 0.5 * 2.0 ** min(failures - 1, 40))
    assert exact * 0.8 <= backoff.delay(failures, random.Random(seed)) <= exact * 1.2


async def test_depth_and_age_tell_how_long_ready_keys_wait(queue: WorkQueue[str], clock: ManualClock) -> None:
    queue.add("drift", after=600)
    assert (queue.depth, queue.oldest) == (0, 0.0)
    queue.add("a")
    queue.add("b")
    await clock.advance(10)
    assert queue.depth == 2
    assert queue.oldest == pytest.approx(10)
    assert await queue.get() == "a"
    assert queue.running == {"a"}


async def test_a_worker_that_is_cancelled_while_waiting_loses_no_key(
    queue: WorkQueue[str], clock: ManualClock
) -> None:
    waiting = asyncio.create_task(queue.get())
    await settle()
    queue.add("a", after=0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert await asyncio.wait_for(queue.get(), 1) == "a"


async def test_a_closed_queue_makes_nothing_ready(queue: WorkQueue[str], clock: ManualClock) -> None:
    queue.add("a", after=1)
    queue.close()
    await clock.advance(10)
    assert queue.depth == 0


@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("add"), st.sampled_from("abc"), st.floats(0, 3)),
            st.tuples(st.just("advance"), st.just(""), st.floats(0, 2)),
            st.tuples(st.just("finish"), st.sampled_from("abc"), st.just(0.0)),
        ),
        max_size=60,
    )
)
def test_no_add_is_ever_lost_and_no_key_runs_twice_at_once(steps: list[tuple[str, str, float]]) -> None:
    async def scenario() -> None:
        clock = ManualClock()
        queue: WorkQueue[str] = WorkQueue(clock, debounce=0.05)
        owed: set[str] = set()
        running: set[str] = set()
        for verb, key, number in steps:
            if verb == "add":
                queue.add(key, after=number)
                owed.add(key)
            elif verb == "advance":
                await clock.advance(number)
                for one in taken(queue):
                    assert one not in running
                    running.add(one)
                    owed.discard(one)
            elif key in running:
                running.discard(key)
                queue.done(key)
        for one in running:
            queue.done(one)
        await clock.advance(10)
        assert set(taken(queue)) == owed

    asyncio.run(scenario())
