"""Workers for objects that are units of work of their own."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from lakebase_operator.api.reasons import Reason
from lakebase_operator.domain.errors import TransientError
from lakebase_operator.engine.keys import ObjectKey
from lakebase_operator.engine.object_runner import ObjectRunner
from lakebase_operator.engine.queue import Backoff, WorkQueue
from lakebase_operator.engine.runner import Outcome
from tests.manual_clock import ManualClock

GROWING = ObjectKey("LakebaseInstance", "team", "growing")
OTHER = ObjectKey("LakebaseInstance", "team", "other")


class Scripted:
    """Does what the test says."""

    def __init__(self, act: Callable[[ObjectKey], Awaitable[Outcome]]) -> None:
        self.act = act
        self.looked: list[ObjectKey] = []

    async def reconcile(self, key: ObjectKey) -> Outcome:
        self.looked.append(key)
        return await self.act(key)

    async def aclose(self) -> None:
        pass


async def settle() -> None:
    """Let everything run that can."""
    for _ in range(20):
        await asyncio.sleep(0)


@asynccontextmanager
async def running(
    act: Callable[[ObjectKey], Awaitable[Outcome]], **options: float
) -> AsyncIterator[tuple[Scripted, WorkQueue[ObjectKey], ManualClock, ObjectRunner]]:
    clock = ManualClock()
    queue: WorkQueue[ObjectKey] = WorkQueue(clock, debounce=0.0, backoff=Backoff(1.0, 60.0, 0.0))
    scripted = Scripted(act)
    runner = ObjectRunner(queue, scripted, clock, workers=2, **options)
    task = asyncio.create_task(runner.run())
    try:
        yield scripted, queue, clock, runner
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_an_object_is_looked_at_again_when_its_outcome_says_so() -> None:
    async def act(_key: ObjectKey) -> Outcome:
        return Outcome(10.0)

    async with running(act) as (scripted, queue, clock, runner):
        queue.add(GROWING)
        await settle()
        assert scripted.looked == [GROWING]
        assert runner.healthy
        await clock.advance(9.0)
        await settle()
        assert len(scripted.looked) == 1
        await clock.advance(1.5)
        await settle()
        assert len(scripted.looked) == 2


async def test_a_failure_is_tried_again_not_before_the_other_side_allows() -> None:
    async def act(_key: ObjectKey) -> Outcome:
        raise TransientError(Reason.CONTROL_PLANE_THROTTLED, "Later.", retry_after=30.0)

    async with running(act) as (scripted, queue, clock, runner):
        queue.add(GROWING)
        await settle()
        await clock.advance(29.0)
        await settle()
        assert len(scripted.looked) == 1
        await clock.advance(10.0)
        await settle()
        assert len(scripted.looked) == 2
        assert runner.healthy, "a failure ends no worker"


async def test_one_slow_object_does_not_hold_up_the_others() -> None:
    hold = asyncio.Event()

    async def act(key: ObjectKey) -> Outcome:
        if key == GROWING:
            await hold.wait()
        return Outcome()

    async with running(act) as (scripted, queue, clock, runner):
        queue.add(GROWING)
        await settle()
        queue.add(OTHER)
        await settle()
        assert scripted.looked == [GROWING, OTHER]
        await clock.advance(1000.0)
        assert not runner.healthy, "a worker that has not come back for so long is told to the probes"
        hold.set()
        await settle()
        assert runner.healthy
