"""Writes what a pass has to say: statuses that differ, and an Event for each transition."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Literal, TypeAlias

from pydantic_core import to_json

from lakebase_operator.api.base import ObjectMeta
from lakebase_operator.domain.status import Verdict
from lakebase_operator.engine.catalog import key_of, kind_of
from lakebase_operator.engine.keys import ObjectKey
from lakebase_operator.engine.turns import in_turns
from lakebase_operator.external.kube.objects import ObjectEvent
from lakebase_operator.external.kube.status_writer import StatusUpdate
from lakebase_operator.reconcilers.report import Report, Saying, Subject
from lakebase_operator.reconcilers.services import Services

Said: TypeAlias = tuple[int, int]
"""Digests of what was said of an object, and of the status that says it."""


async def add_finalizers(services: Services, subjects: Iterable[Subject]) -> bool:
    """Have the operator asked before these objects go; many at a time.

    Returns
    -------
    Whether it will be. False: some are gone, or on their way, so nothing may be made for them.

    Raises
    ------
    KubeError
        The API server did not take some.
    """
    return await services.kube.add_finalizers((kind_of(one), one.metadata) for one in subjects)


async def write(services: Services, report: Report, said: dict[ObjectKey, Said] | None = None) -> None:
    """Write every status that differs.

    Parameters
    ----------
    said
        What the statuses were found to say already. Brought up to date. None: nothing is known.

    Raises
    ------
    LakebaseError
        The API server did not take one.
    """
    said = {} if said is None else said
    updates = []
    async for saying in in_turns(report.said()):
        key = key_of(saying.subject)
        saying.refresh()
        digest = _digest(saying)
        if said.get(key) != (digest, services.catalog.status_digest(key)):
            updates.append(_update(services, saying, partial(_note, services, said, key, digest)))
    if updates:
        await services.status_writer.write_many(updates)


def _digest(saying: Saying) -> int:
    """Identifies all that becomes of a saying but its Events, which go with a change of the status."""
    meta = saying.subject.metadata
    conditions = (list(saying.facts.values()), sorted(saying.withdrawn))
    parts = (saying.verdict, saying.reason, saying.message, *conditions, saying.fields)
    return hash(to_json((meta.uid, meta.generation, *parts)))


def _note(services: Services, said: dict[ObjectKey, Said], key: ObjectKey, digest: int) -> None:
    said[key] = (digest, services.catalog.status_digest(key))


def _update(services: Services, saying: Saying, on_current: Callable[[], None]) -> StatusUpdate:
    meta: ObjectMeta = saying.subject.metadata
    known = services.catalog.status(key_of(saying.subject))
    return StatusUpdate(
        kind=kind_of(saying.subject),
        metadata=meta,
        status=saying.status,
        events=(*saying.events, *_transition(saying, known)),
        on_current=on_current,
    )


def _transition(saying: Saying, known: dict[str, Any]) -> tuple[ObjectEvent, ...]:
    """An Event when ``Ready`` changes its value or its reason."""
    before = next((one for one in known.get("conditions") or [] if one["type"] == "Ready"), None)
    ready = str(saying.verdict is Verdict.READY)
    if before is not None and (before["status"], before["reason"]) == (ready, saying.reason.value):
        return ()
    kind: Literal["Normal", "Warning"] = "Warning" if saying.verdict is Verdict.STALLED else "Normal"
    return (ObjectEvent(kind, saying.reason, saying.message),)
