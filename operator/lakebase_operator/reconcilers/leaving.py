"""Letting objects go: their finalizer is removed, and what was left behind is told."""

from collections.abc import Iterable
from dataclasses import dataclass

from lakebase_operator.api.reasons import Reason
from lakebase_operator.domain.errors import LakebaseError
from lakebase_operator.engine.catalog import kind_of
from lakebase_operator.external.kube.errors import Forbidden, Rejected
from lakebase_operator.external.kube.objects import ObjectEvent
from lakebase_operator.reconcilers.report import Report, Subject
from lakebase_operator.reconcilers.services import Services
from lakebase_operator.reconcilers.view import is_finalized
from lakebase_operator.reconcilers.writing import write

NOT_CLEANED = "Let go without cleaning up: what it gave may still be in the database."


@dataclass(frozen=True, slots=True)
class Leaving:
    """An object that a pass has finished with."""

    subject: Subject
    cleaned: bool
    """False: what it gave is still in the database."""


async def let_all_go(services: Services, leaving: Iterable[Leaving]) -> None:
    """Let go what a pass has finished with.

    Raises
    ------
    LakebaseError
        The API server does not answer, or refused to let some go, which holds up no other.
    """
    refused: list[LakebaseError] = []
    for one in leaving:
        try:
            await let_go(services, one.subject, left_behind=None if one.cleaned else NOT_CLEANED)
        except (Rejected, Forbidden) as error:
            refused.append(error)
    if refused:
        raise refused[0]


async def let_go(services: Services, subject: Subject, *, left_behind: str | None = None) -> None:
    """Remove the finalizer. ``left_behind`` says what stays although that was not declared, which is worth an Event.

    Raises
    ------
    LakebaseError
        That was not possible. If the API server refused it, the status says so.
    """
    if not is_finalized(subject):
        return
    if left_behind is not None:
        event = ObjectEvent("Warning", Reason.ABANDONED, left_behind, action="Delete")
        await services.kube.create_event(kind_of(subject), subject.metadata, event)
    try:
        await services.kube.remove_finalizer(kind_of(subject), subject.metadata)
    except (Rejected, Forbidden) as error:
        report = Report()
        report.waiting(subject, Reason.DELETION_BLOCKED, f"Cannot go: {error.message} It is tried again.")
        await write(services, report)
        raise
