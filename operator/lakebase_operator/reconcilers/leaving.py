"""Letting an object go that stands for something outside of the databases."""

from lakebase_operator.api.reasons import Reason
from lakebase_operator.engine.catalog import kind_of
from lakebase_operator.external.kube.objects import ObjectEvent
from lakebase_operator.reconcilers.report import Subject
from lakebase_operator.reconcilers.services import Services
from lakebase_operator.reconcilers.view import is_finalized


async def let_go(services: Services, subject: Subject, *, left_behind: str | None = None) -> None:
    """Remove the finalizer. ``left_behind`` says what stays although that was not declared, which is worth an Event."""
    if not is_finalized(subject):
        return
    if left_behind is not None:
        event = ObjectEvent(
            "Warning", Reason.ABANDONED, f"Let go without cleaning up. {left_behind}", "Delete"
        )
        await services.kube.create_event(kind_of(subject), subject.metadata, event)
    await services.kube.remove_finalizer(kind_of(subject), subject.metadata)
