"""Noticing that a Secret has changed: at once where it is watched, else by looking from time to time."""

import logging

from lakebase_operator.domain.errors import LakebaseError
from lakebase_operator.engine.catalog import Catalog
from lakebase_operator.engine.clock import Clock
from lakebase_operator.external.kube.objects import KubeObjects
from lakebase_operator.runtime.feed import Feed

logger = logging.getLogger(__name__)


class SecretWatch:
    """Compares the versions of Secrets with those that the passes have read.

    Parameters
    ----------
    interval
        Seconds between two looks.
    """

    def __init__(self, catalog: Catalog, feed: Feed, clock: Clock, *, interval: float) -> None:
        self._catalog = catalog
        self._feed = feed
        self._clock = clock
        self._interval = interval
        self._versions: dict[tuple[str, str], str | None] = {}
        """As last read; None: absent. What nobody has read yet is read by the next pass anyway."""

    def read(self, namespace: str, name: str, version: str | None) -> None:
        """Somebody has read a Secret (``version`` None: there is none). Others that use it may have read an earlier version."""
        self.seen(namespace, name, version)
        self._versions[namespace, name] = version

    def written(self, namespace: str, name: str, version: str | None) -> None:
        """A pass has written a Secret of its own: it knows what is in it."""
        self._versions[namespace, name] = version

    def seen(self, namespace: str, name: str, version: str | None) -> None:
        """A Secret has this version now (None: it is gone). If that is news, its connections get a full pass."""
        key = (namespace, name)
        if key not in self._versions or not _newer(version, self._versions[key]):
            return
        self._versions[key] = version
        users = self._catalog.secret_users(namespace, name)
        if users:
            logger.info("A Secret changed", extra={"object": f"Secret {namespace}/{name}"})
        self._feed.full(users)

    async def run(self, kube: KubeObjects) -> None:
        """Look from time to time, forever."""
        while True:
            await self._clock.sleep(self._interval)
            await self.look(kube)

    async def look(self, kube: KubeObjects) -> None:
        """Look at every Secret that a connection refers to."""
        used = self._catalog.all_secrets()
        for key in self._versions.keys() - set(used):
            del self._versions[key]
        for namespace, name in used:
            try:
                self.seen(namespace, name, await kube.secret_version(namespace, name))
            except LakebaseError as error:
                # The pass over the connection says so in a status; the next look comes anyway.
                logger.debug(
                    "Not looked at: %s", error.message, extra={"object": f"Secret {namespace}/{name}"}
                )


def _newer(version: str | None, known: str | None) -> bool:
    """Events may be older than what has been read since."""
    if version is None or known is None:
        return version != known
    if version.isdecimal() and known.isdecimal():
        return int(version) > int(known)
    return version != known
