"""Events in the background."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import pytest

from lakebase_operator.api.base import ObjectMeta
from lakebase_operator.api.reasons import Reason
from lakebase_operator.external.kube.events import EventRecorder
from lakebase_operator.external.kube.objects import KubeObjects, ObjectEvent

META = ObjectMeta(name="readers", namespace="team", uid="1")


class SlowServer:
    """Takes an Event when it is told to."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.may = asyncio.Semaphore(0)

    async def create_event(self, kind: str, meta: ObjectMeta, event: ObjectEvent) -> None:
        await self.may.acquire()
        self.taken.append(event.message)


def events(*messages: str) -> list[ObjectEvent]:
    return [ObjectEvent("Normal", Reason.SUCCEEDED, message) for message in messages]


@asynccontextmanager
async def running(recorder: EventRecorder) -> AsyncIterator[None]:
    task = asyncio.create_task(recorder.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_events_are_taken_at_once_and_written_in_order() -> None:
    server = SlowServer()
    recorder = EventRecorder(cast("KubeObjects", server))
    async with running(recorder):
        recorder.record("AccessGrant", META, events("one", "two"))
        recorder.record("AccessGrant", META, events("three"))
        assert server.taken == []
        for _ in range(3):
            server.may.release()
        await recorder.drain(5)
    assert server.taken == ["one", "two", "three"]


async def test_where_too_many_wait_the_oldest_are_given_up(caplog: pytest.LogCaptureFixture) -> None:
    server = SlowServer()
    recorder = EventRecorder(cast("KubeObjects", server), most_waiting=2)
    recorder.record("AccessGrant", META, events("one", "two", "three"))
    server.may.release()
    server.may.release()
    async with running(recorder):
        await recorder.drain(5)
    assert server.taken == ["two", "three"]
    assert "1 Events are lost" in caplog.text


async def test_the_end_of_the_operator_does_not_wait_for_events_for_long(
    caplog: pytest.LogCaptureFixture,
) -> None:
    recorder = EventRecorder(cast("KubeObjects", SlowServer()))
    with caplog.at_level(logging.WARNING):
        async with running(recorder):
            recorder.record("AccessGrant", META, events("one"))
            await recorder.drain(0.01)
    assert "the operator stops" in caplog.text
