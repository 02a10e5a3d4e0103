"""What the steps of one pass share: what they look at, what they may use, and what they have found so far."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeGuard

from lakebase_operator.api import LakebaseConnection, UserMapping
from lakebase_operator.api.base import ANNOTATION_ABANDON, ANNOTATION_SYNC_NOW
from lakebase_operator.api.reasons import Reason
from lakebase_operator.domain.errors import LakebaseError
from lakebase_operator.engine.catalog import key_of
from lakebase_operator.engine.keys import ObjectKey
from lakebase_operator.reconcilers.known import Known
from lakebase_operator.reconcilers.leaving import Leaving
from lakebase_operator.reconcilers.memory import Memory
from lakebase_operator.reconcilers.pending import is_pending
from lakebase_operator.reconcilers.people import MappingResults
from lakebase_operator.reconcilers.report import Report
from lakebase_operator.reconcilers.services import Services
from lakebase_operator.reconcilers.view import Dependent, View, is_deleting

ABANDON = f'It is tried again; the annotation {ANNOTATION_ABANDON}: "true" lets it go without cleaning up.'


class SessionLostError(Exception):
    """A session ended in mid-work, and there is another try."""


class TooNarrowError(Exception):
    """More has changed than what the pass looks at: it must look at everything."""


@dataclass(frozen=True, slots=True)
class Context:
    """One pass over one connection."""

    services: Services
    view: View
    memory: Memory
    mappings: MappingResults
    began: datetime
    """What time changes from then on, in the pass or after it, is for the next one."""
    known: Known | None = None
    """With a narrow view: what was carried out before."""
    tries_left: int = 0
    """Whether a lost session is worth another pass at once."""
    report: Report = field(default_factory=Report)
    """What there is to say of each object."""
    leaving: list[Leaving] = field(default_factory=list)
    """Objects that may go."""
    held_up: set[ObjectKey] = field(default_factory=set)
    """What could not be carried out now."""
    deadlines: list[datetime] = field(default_factory=list)
    """Moments at which there is something to do next: passwords to be replaced."""

    # -- what is there ---------------------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """The connection's status as it was last written."""
        key = self.view.key
        return self.services.catalog.status(ObjectKey(LakebaseConnection.kind_name, key.namespace, key.name))

    def asked_now(self, connection: LakebaseConnection) -> bool:
        """Whether somebody asks for a look at everything at once, by annotation."""
        asked = connection.metadata.annotations.get(ANNOTATION_SYNC_NOW)
        return asked is not None and asked != self.status().get("lastHandledSync")

    def is_pending(self, one: LakebaseConnection | Dependent) -> bool:
        """Whether something is declared that no pass has carried out."""
        if is_for_all(one):
            return not self.mappings.knows(one, self.view.key)
        return is_pending(one, self.services.catalog, self.services.clock.now())

    def has_work(self, connection: LakebaseConnection) -> bool:
        """Whether the connection itself leaves something to do. A failure after it was carried out does not."""
        new = self.memory.carried_out != connection.metadata.generation
        return self.memory.removed or (new and self.is_pending(connection)) or is_deleting(connection)

    def unreadable(self) -> str | None:
        """An object that held something and cannot be read now. Until it can, nothing is revoked: fail static."""
        for broken in self.view.broken:
            if is_deleting(broken):
                continue
            status = self.services.catalog.status(key_of(broken))
            if (status.get("grants") or {}).get("held") or status.get("role"):
                return f"{broken.kind} {broken.metadata.namespace}/{broken.metadata.name}"
        return None

    # -- what is said ----------------------------------------------------------------------------------------------

    def wait(self, one: Dependent, reason: Reason, message: str) -> None:
        """Say of a dependent that it waits."""
        self.held_up.add(key_of(one))
        if is_for_all(one) and self._acknowledged(one):
            return  # another connection has spoken of it; two that take turns would write for ever
        blocked = f"Cannot be cleaned up now: {message} {ABANDON}" if is_deleting(one) else message
        self.report.waiting(one, Reason.DELETION_BLOCKED if is_deleting(one) else reason, blocked)

    def tell_counts(self, connection: LakebaseConnection) -> None:
        """How many declarations belong to the connection."""
        view = self.view
        self.report.fields(
            connection, {"roles": len(view.roles) + len(view.mappings), "grants": view.grant_count}
        )

    def expect_session(self, error: LakebaseError) -> None:
        """Raise SessionLostError where a lost session is worth another pass at once."""
        if error.reason is Reason.CONNECTION_LOST and self.tries_left:
            raise SessionLostError from error

    def _acknowledged(self, one: Dependent) -> bool:
        """Whether something has been said of the object as it is now."""
        observed = self.services.catalog.status(key_of(one)).get("observedGeneration")
        return observed == one.metadata.generation


def is_for_all(one: LakebaseConnection | Dependent) -> TypeGuard[UserMapping]:
    """A mapping for all connections of its namespace: several passes speak of it."""
    return isinstance(one, UserMapping) and one.spec.connection_ref is None
