"""The one writer of status: only what differs, always by the rules of ``domain.status``, never twice at once."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from weakref import WeakValueDictionary

from lakebase_operator.api.base import ObjectMeta
from lakebase_operator.domain.status import complete
from lakebase_operator.external.kube.objects import KubeObjects, ObjectEvent
from lakebase_operator.external.kube.parallel import side_by_side

logger = logging.getLogger(__name__)

Status = Mapping[str, Any]
MakeStatus = Callable[[dict[str, Any]], Status]
"""Makes the new status from the one that is there, for a status to which several passes contribute."""
KnownStatus = Callable[[str, str, str], dict[str, Any]]
"""The last known status by kind, namespace and name; empty if there is none."""

RecordEvents = Callable[[str, ObjectMeta, Iterable[ObjectEvent]], None]
"""Takes Events about an object, by its kind and metadata."""


@dataclass(frozen=True, slots=True)
class StatusUpdate:
    """What there is to say of one object."""

    kind: str
    metadata: ObjectMeta
    status: Status | MakeStatus
    """The whole status, with conditions as ``domain.status.condition`` makes them."""
    events: tuple[ObjectEvent, ...] = ()
    """Created only if the status is written."""
    on_current: Callable[[], object] | None = None
    """Called when the last known status says just this, before anything can change it."""


class StatusWriter:
    """Writes statuses.

    Parameters
    ----------
    known
        Gives the last known status. It must be up to date right after a write (``KubeObjects`` tells of each).
    now
        The time, for ``lastTransitionTime``.
    on_written
        Is told the kind of each status that was written.
    record
        Takes the Events. None: they are written at once.
    parallel
        Writes that are under way at the same time.
    """

    def __init__(
        self,
        objects: KubeObjects,
        known: KnownStatus,
        now: Callable[[], datetime],
        *,
        on_written: Callable[[str], None] | None = None,
        record: RecordEvents | None = None,
        parallel: int = 32,
    ) -> None:
        self._objects = objects
        self._known = known
        self._now = now
        self._on_written = on_written or (lambda _kind: None)
        self._record = record
        self._parallel = parallel
        self._slots = asyncio.Semaphore(parallel)
        self._locks: WeakValueDictionary[tuple[str, str, str], asyncio.Lock] = WeakValueDictionary()

    async def write(self, update: StatusUpdate) -> bool:
        """Write one status if it differs from the last known, then its Events. Returns whether it was written.

        Raises
        ------
        ValueError
            The conditions break the rules of ``domain.status``.
        KubeError, Forbidden
            The API server did not take it.
        """
        kind, meta = update.kind, update.metadata
        key = (kind, meta.namespace, meta.name)
        async with self._lock(key), self._slots:
            previous = self._known(*key)
            wanted = update.status(previous) if callable(update.status) else update.status
            status = complete(wanted, previous=previous, generation=meta.generation, now=self._now())
            if status == previous:
                if update.on_current is not None:
                    update.on_current()
                return False
            body = await self._objects.replace_status(kind, meta, status)
            if body is None:
                return False
            self._on_written(kind)
            if body.get("status") == status:
                if update.on_current is not None:
                    update.on_current()
            else:
                # It would be written again at every pass.
                logger.error(
                    "The API server changed a status on the way; the CustomResourceDefinition is not of this version",
                    extra={"object": f"{kind} {meta.namespace}/{meta.name}"},
                )
        if self._record is not None:
            self._record(kind, meta, update.events)
        else:
            await self._objects.create_events(kind, meta, update.events)
        return True

    async def write_many(self, updates: Iterable[StatusUpdate]) -> int:
        """Write many statuses side by side. Returns how many were written.

        Raises
        ------
        KubeError
            Some could not be written; the others are.
        """
        return sum(await side_by_side("statuses", self.write, updates, limit=self._parallel))

    def _lock(self, key: tuple[str, str, str]) -> asyncio.Lock:
        """A lock for one object; it lives as long as somebody holds or awaits it."""
        lock = self._locks.get(key)
        if lock is None:
            lock = self._locks[key] = asyncio.Lock()
        return lock
