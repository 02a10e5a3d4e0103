"""From what happens in the cluster to what is worked on: the catalog decides which connections are concerned."""

from collections.abc import Iterable, Mapping
from typing import Any

from lakebase_operator.engine.catalog import Catalog
from lakebase_operator.engine.keys import ConnectionKey
from lakebase_operator.engine.queue import WorkQueue


class Feed:
    """The only way into the catalog and the queue."""

    def __init__(self, catalog: Catalog, queue: WorkQueue[ConnectionKey]) -> None:
        self._catalog = catalog
        self._queue = queue

    def is_news(self, kind: str, meta: Mapping[str, Any]) -> bool:
        """Whether an object with this metadata is later than what is known of it."""
        return self._catalog.is_news(kind, meta)

    def changed(self, kind: str, body: Mapping[str, Any]) -> None:
        """An object is there, perhaps with changes."""
        self.enqueue(self._catalog.upsert(kind, body))

    def removed(self, kind: str, body: Mapping[str, Any]) -> None:
        """An object is gone; ``body`` is its last state."""
        meta = body["metadata"]
        self.enqueue(
            self._catalog.remove(
                kind,
                meta["namespace"],
                meta["name"],
                uid=meta["uid"],
                version=meta.get("resourceVersion", ""),
            )
        )

    def written(self, kind: str, body: Mapping[str, Any]) -> None:
        """The API server answered to a write of our own."""
        meta = body["metadata"]
        if meta.get("deletionTimestamp") and not meta.get("finalizers"):
            self.removed(kind, body)  # ours was the last finalizer
        else:
            self.enqueue(self._catalog.absorb(kind, body))

    def full(self, keys: Iterable[ConnectionKey]) -> None:
        """Everything about these connections is to be compared."""
        for key in keys:
            self._catalog.mark_full(key)
            self._queue.add(key)

    def enqueue(self, keys: Iterable[ConnectionKey]) -> None:
        """Have these connections worked on."""
        for key in keys:
            self._queue.add(key)
