"""What the looks at objects that are units of work of their own have in common. A look never waits."""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from datetime import UTC
from typing import Any, Generic, TypeVar

from lakebase_operator.api import DatabaseCatalog, LakebaseInstance
from lakebase_operator.api.base import ANNOTATION_ABANDON
from lakebase_operator.api.reasons import Reason
from lakebase_operator.domain.errors import InvalidError, LakebaseError
from lakebase_operator.engine.catalog import key_of
from lakebase_operator.engine.keys import ObjectKey
from lakebase_operator.engine.runner import Outcome
from lakebase_operator.reconcilers.leaving import let_go
from lakebase_operator.reconcilers.report import Report
from lakebase_operator.reconcilers.services import Services
from lakebase_operator.reconcilers.timing import Pauses, observed
from lakebase_operator.reconcilers.view import is_deleting
from lakebase_operator.reconcilers.workspaces import DeclaredAuth, SecretValues, Workspaces, read_secrets
from lakebase_operator.reconcilers.writing import write

LONGEST_PAUSE = 15.0
"""Seconds between two looks at something that is changing."""
SLOW_RETRY = 60.0
"""Seconds between two looks at something that a person must change."""


@dataclass(slots=True, kw_only=True)
class ObjectMemory:
    """What is remembered of an object between two looks. Losing it costs a request or two."""

    uid: str
    pauses: Pauses
    """While something changes."""
    secrets: dict[str, Mapping[str, bytes]] = field(default_factory=dict)
    """The last that were read: a namespace that is deleted may lose its Secret before the object."""


S = TypeVar("S", LakebaseInstance, DatabaseCatalog)
M = TypeVar("M", bound=ObjectMemory)
T = TypeVar("T")


@dataclass
class ObjectLook(ABC, Generic[S, M]):
    """One look at one object."""

    services: Services
    workspaces: Workspaces
    subject: S
    memory: M
    report: Report = field(default_factory=Report)
    fields: dict[str, Any] = field(default_factory=dict)
    """Fields of the status as they are to be; what is not named stays as it was."""
    goes: bool | None = None
    """Whether the object may go: True cleaned up, False without, None not yet."""

    @property
    @abstractmethod
    def thing(self) -> str:
        """What the object stands for, in words that go after "the"."""

    @abstractmethod
    async def _look(self) -> Outcome:
        """Make it as declared, a step at a time.

        Raises
        ------
        LakebaseError
            What is in the way.
        """

    @abstractmethod
    async def _leave(self) -> Outcome:
        """Clean up as declared, a step at a time, and set ``goes``.

        Raises
        ------
        LakebaseError
            What is in the way.
        """

    async def run(self) -> Outcome:
        """Look, and write the status.

        Raises
        ------
        LakebaseError
            What could not be said in the status.
        """
        try:
            outcome = await (self._leave() if is_deleting(self.subject) else self._look())
        except LakebaseError as error:
            outcome = self._failed(error)
        self.report.fields(self.subject, self.fields)
        await write(self.services, self.report)
        if self.goes is not None:
            left = f"Let go without cleaning up. The {self.thing} is left as it is."
            await let_go(self.services, self.subject, left_behind=None if self.goes else left)
        return outcome

    def _failed(self, error: LakebaseError) -> Outcome:
        """Something is in the way."""
        if is_deleting(self.subject):
            self.report.waiting(
                self.subject,
                Reason.DELETION_BLOCKED,
                f'Cannot be deleted now: {error.message} The annotation {ANNOTATION_ABANDON}: "true" lets the object go '
                "without it.",
            )
        else:
            self.report.failed(self.subject, error)
        if isinstance(error, InvalidError):
            return Outcome(SLOW_RETRY)
        return Outcome(max(self.memory.pauses.next(), error.retry_after or 0.0))

    async def _announce(self, operation: Mapping[str, object], message: str) -> None:
        """Write down what is about to be made, so that it is known as the operator's own whatever happens in between."""
        self.fields["operation"] = operation
        announcement = Report()
        announcement.fields(self.subject, self.fields)
        announcement.waiting(self.subject, Reason.PROGRESSING, message)
        await write(self.services, announcement)

    def _operation(self, action: str, resource: str) -> dict[str, object]:
        """What is under way, for ``status.operation``."""
        started = self.services.clock.now().astimezone(UTC)
        return {"action": action, "resource": resource, "startTime": started}

    async def _secrets(self, auth: DeclaredAuth) -> SecretValues:
        namespace, remember = self.subject.metadata.namespace, is_deleting(self.subject)
        return await read_secrets(self.services, namespace, auth, self.memory.secrets, remember=remember)

    def _status(self) -> dict[str, Any]:
        return self.services.catalog.status(key_of(self.subject))

    async def _observed(self, operation: str, request: Awaitable[T]) -> T:
        return await observed(self.services.observer, "databricks", operation, request)


class ObjectLooks(ABC, Generic[S, M]):
    """Looks at the objects of one kind, any number side by side, and remembers something of each."""

    def __init__(self, services: Services, workspaces: Workspaces) -> None:
        self._services = services
        self._workspaces = workspaces
        self._memories: dict[ObjectKey, M] = {}

    @abstractmethod
    def _new_memory(self, uid: str) -> M:
        """What is known of an object that has not been looked at."""

    @abstractmethod
    def _new_look(self, subject: S, memory: M) -> ObjectLook[S, M]:
        """A look at one object."""

    async def reconcile(self, subject: S) -> Outcome:
        """Look at one that exists.

        Raises
        ------
        LakebaseError
            What could not be said in its status.
        """
        key, uid = key_of(subject), subject.metadata.uid
        memory = self._memories.get(key)
        if memory is None or memory.uid != uid:  # new, or deleted and made anew
            memory = self._memories[key] = self._new_memory(uid)
        return await self._new_look(subject, memory).run()

    def forget(self, key: ObjectKey) -> None:
        """It does not exist any more."""
        self._memories.pop(key, None)
