"""Writes what a pass has to say: statuses that differ, and an Event for each transition."""

import asyncio
from collections.abc import Iterable
from typing import Any, Literal

from lakebase_operator.api.base import ObjectMeta
from lakebase_operator.domain.status import Verdict
from lakebase_operator.engine.catalog import key_of, kind_of
from lakebase_operator.external.kube.objects import ObjectEvent
from lakebase_operator.external.kube.status_writer import StatusUpdate
from lakebase_operator.reconcilers.report import Report, Saying, Subject
from lakebase_operator.reconcilers.services import Services


async def add_finalizers(services: Services, subjects: Iterable[Subject]) -> None:
    """Have the operator asked before these objects go; many at a time."""
    slots = asyncio.Semaphore(services.settings.status_writes)

    async def add(subject: Subject) -> None:
        async with slots:
            await services.kube.add_finalizer(kind_of(subject), subject.metadata)

    async with asyncio.TaskGroup() as group:
        for subject in subjects:
            group.create_task(add(subject))


async def write(services: Services, report: Report) -> None:
    """Write every status that differs.

    Raises
    ------
    LakebaseError
        The API server did not take one.
    """
    updates = [_update(services, saying) for saying in report.said()]
    if updates:
        await services.status_writer.write_many(updates)


def _update(services: Services, saying: Saying) -> StatusUpdate:
    meta: ObjectMeta = saying.subject.metadata
    known = services.catalog.status(key_of(saying.subject))
    return StatusUpdate(
        kind=kind_of(saying.subject),
        metadata=meta,
        status=saying.status,
        events=(*saying.events, *_transition(saying, known)),
    )


def _transition(saying: Saying, known: dict[str, Any]) -> tuple[ObjectEvent, ...]:
    """An Event when ``Ready`` changes its value or its reason."""
    before = next((one for one in known.get("conditions") or [] if one["type"] == "Ready"), None)
    ready = str(saying.verdict is Verdict.READY)
    if before is not None and (before["status"], before["reason"]) == (ready, saying.reason.value):
        return ()
    kind: Literal["Normal", "Warning"] = "Warning" if saying.verdict is Verdict.STALLED else "Normal"
    return (ObjectEvent(kind, saying.reason, saying.message),)
