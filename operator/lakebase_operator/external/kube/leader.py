"""Leadership by a Lease: one process acts, the others stand by."""

import asyncio
import logging
import math
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

import aiohttp
from kubernetes.aio.client import ApiException
from kubernetes.aio.leaderelection.electionconfig import Config
from kubernetes.aio.leaderelection.leaderelection import LeaderElection
from kubernetes.aio.leaderelection.leaderelectionrecord import LeaderElectionRecord
from kubernetes.aio.leaderelection.resourcelock.leaselock import LeaseLock

from lakebase_operator.external.kube.client import MERGE_PATCH, KubeClient
from lakebase_operator.external.kube.errors import Forbidden, KubeError

logger = logging.getLogger(__name__)

T = TypeVar("T")


class LeadershipLostError(Exception):
    """Another process leads now, or the Lease could not be renewed in time. This process must not act any more."""


@dataclass(frozen=True, slots=True)
class LeaseTimes:
    """Seconds. The defaults are those of Kubernetes' own components.

    Source: https://pkg.go.dev/k8s.io/component-base/config#LeaderElectionConfiguration
    """

    duration: int = 15
    """How long others wait after the last renewal before one takes over."""
    renew_deadline: float = 10.0
    """How long the leader goes on trying to renew before it gives up."""
    retry_period: float = 2.0


class Leadership:
    """Strives for a Lease and holds it.

    Parameters
    ----------
    identity
        Name of this process; no two may have the same.
    """

    def __init__(
        self, client: KubeClient, *, namespace: str, name: str, identity: str, times: LeaseTimes | None = None
    ) -> None:
        self._client = client
        self._path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{name}"
        self._times = times or LeaseTimes()
        self._lock = _Lock(name, namespace, identity, client, self._times.retry_period)
        self._leading = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def leading(self) -> bool:
        """Whether this process leads."""
        return self._leading.is_set()

    async def acquire(self) -> None:
        """Wait until this process leads.

        Raises
        ------
        LeadershipLostError
            The election itself failed.
        """
        self._task = asyncio.create_task(self._run(), name="leader-election")
        won = asyncio.create_task(self._leading.wait())
        try:
            await asyncio.wait({self._task, won}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            won.cancel()
        if self._task.done():
            self._task.result()

    async def lost(self) -> None:
        """Wait until leadership is lost; never returns otherwise.

        Raises
        ------
        LeadershipLostError
            Always, in the end.
        """
        assert self._task is not None, "not acquired"
        await asyncio.shield(self._task)

    async def release(self) -> None:
        """Stop striving. A leader gives the Lease back, so that another process need not wait until it runs out."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if not self._leading.is_set():
            return
        self._leading.clear()
        try:
            lease = await self._client.request("GET", self._path, operation="get leases")
            if lease["spec"].get("holderIdentity") != self._lock.identity:
                return
            patch = {
                "metadata": {"resourceVersion": lease["metadata"]["resourceVersion"]},
                "spec": {"holderIdentity": ""},
            }
            await self._client.request(
                "PATCH", self._path, operation="release lease", body=patch, content_type=MERGE_PATCH
            )
        except (KubeError, Forbidden) as error:
            logger.warning("The Lease could not be given back; it runs out by itself: %s", error.message)

    async def _run(self) -> None:
        times = self._times
        election = LeaderElection(
            Config(
                self._lock,
                lease_duration=math.ceil(times.duration),  # a Lease holds whole seconds
                renew_deadline=times.renew_deadline,
                retry_period=times.retry_period,
                onstarted_leading=self._started,
                onstopped_leading=_nothing,
            )
        )
        try:
            await election.run()
        finally:
            leading = self._leading.is_set()
        raise LeadershipLostError(
            "the Lease could not be renewed in time" if leading else "the election ended without a result"
        )

    async def _started(self) -> None:
        logger.info("This process leads now")
        self._lock.held = True
        self._leading.set()


async def _nothing() -> None:
    pass


class _Lock(LeaseLock):
    """The library's lock, which takes only the API server's own errors for errors, and waits without a limit.

    Here each request has a timeout, whatever goes wrong with it is an unsuccessful attempt, and a leader that finds
    another holder in the Lease stops at once instead of at its deadline.
    """

    def __init__(self, name: str, namespace: str, identity: str, client: KubeClient, timeout: float) -> None:
        super().__init__(name, namespace, identity, client.api)
        self._timeout = timeout
        self.held = False

    async def get(self, name: str, namespace: str) -> tuple[bool, Any]:
        try:
            found, record = await self._limited(super().get(name, namespace))
        except ApiException as error:
            return False, error
        holder = record.holder_identity if isinstance(record, LeaderElectionRecord) else None
        if found and self.held and holder != self.identity:
            raise LeadershipLostError(f"the Lease is held by {holder or 'nobody'} now")
        return found, record

    async def create(self, name: str, namespace: str, election_record: LeaderElectionRecord) -> bool:
        return await self._attempt(super().create(name, namespace, election_record))

    async def update(self, name: str, namespace: str, updated_record: LeaderElectionRecord) -> bool:
        return await self._attempt(super().update(name, namespace, updated_record))

    async def _attempt(self, request: Coroutine[Any, Any, bool]) -> bool:
        try:
            return await self._limited(request)
        except ApiException as error:
            logger.warning("The Lease could not be written: %s", error.reason)
            return False

    async def _limited(self, request: Coroutine[Any, Any, T]) -> T:
        try:
            async with asyncio.timeout(self._timeout):
                return await request
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ApiException(status=0, reason=f"{type(error).__name__}: {error}") from error
