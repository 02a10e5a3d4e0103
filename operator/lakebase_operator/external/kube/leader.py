"""Leadership by a Lease: one process acts, the others stand by."""

import asyncio
import json
import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from kubernetes.aio.client import ApiException
from kubernetes.aio.leaderelection.electionconfig import Config
from kubernetes.aio.leaderelection.leaderelection import LeaderElection
from kubernetes.aio.leaderelection.leaderelectionrecord import LeaderElectionRecord
from kubernetes.aio.leaderelection.resourcelock.baselock import BaseLock

from lakebase_operator.external.kube.client import MERGE_PATCH, KubeClient
from lakebase_operator.external.kube.errors import Forbidden, KubeError

logger = logging.getLogger(__name__)


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

    @property
    def limit(self) -> float:
        """How long after its last renewal a leader acts at most: no longer than others wait."""
        return min(self.retry_period + self.renew_deadline, self.duration)


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
        self._lock = _Lock(client, namespace, name, identity, self._times)
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
                lease_duration=times.duration,
                renew_deadline=times.renew_deadline,
                retry_period=times.retry_period,
                onstarted_leading=self._started,
                onstopped_leading=_nothing,
            )
        )
        try:
            # The election looks at its own deadline between tries only, and goes by the time of day, which may be set back.
            async with asyncio.timeout(None) as self._lock.deadline:
                await election.run()
        except TimeoutError:
            pass
        except Exception:
            self._leading.clear()
            raise
        self._leading.clear()
        raise LeadershipLostError("the Lease could not be renewed in time")

    async def _started(self) -> None:
        logger.info("This process leads now")
        self._lock.held = True
        self._leading.set()


async def _nothing() -> None:
    pass


class _Lock(BaseLock):
    """The Lease, as the library's election wants it.

    The library's own lock cannot create a Lease (it passes a value that its client refuses), waits for answers without a
    limit, and lets errors of the network through. Here whatever goes wrong is an unsuccessful attempt, and a leader that
    finds another holder stops at once instead of at its deadline.
    """

    def __init__(
        self, client: KubeClient, namespace: str, name: str, identity: str, times: LeaseTimes
    ) -> None:
        super().__init__(name, namespace, identity)
        self._client = client
        self._leases = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._times = times
        self._lease: dict[str, Any] = {}
        """As last read."""
        self.held = False
        self.deadline = asyncio.timeout(None)
        """When this process must not act any more; put off with each renewal."""

    async def get(self, name: str, namespace: str) -> tuple[bool, Any]:  # noqa: ARG002
        """The record in the Lease, or why there is none."""
        try:
            self._lease = await self._send("GET", f"{self._leases}/{name}", "get leases")
        except (KubeError, Forbidden) as error:
            # The election creates the Lease if this looks like the API server's own 404.
            return False, ApiException(
                status=error.status, reason=error.message, body=json.dumps({"code": error.status})
            )
        spec = self._lease.get("spec") or {}
        holder = spec.get("holderIdentity") or None
        if self.held and holder != self.identity:
            raise LeadershipLostError(f"the Lease is held by {holder or 'nobody'} now")
        return True, LeaderElectionRecord(
            holder, spec.get("leaseDurationSeconds"), spec.get("acquireTime"), spec.get("renewTime")
        )

    async def create(self, name: str, namespace: str, election_record: LeaderElectionRecord) -> bool:  # noqa: ARG002
        """Make the Lease, held by this process."""
        body = {"metadata": {"name": name, "namespace": namespace}, "spec": self._spec()}
        return await self._write("POST", self._leases, body)

    async def update(self, name: str, namespace: str, updated_record: LeaderElectionRecord) -> bool:  # noqa: ARG002
        """Take the Lease, or renew it, unless somebody else was faster."""
        body = {**self._lease, "spec": self._spec()}
        return await self._write("PUT", f"{self._leases}/{name}", body)

    def _spec(self) -> dict[str, Any]:
        """The Lease while this process holds it. (The record's times are local and without a zone.)"""
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        old: dict[str, Any] = self._lease.get("spec") or {}
        renewed = old.get("holderIdentity") == self.identity
        return {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": self._times.duration,
            "acquireTime": old["acquireTime"] if renewed else now,
            "renewTime": now,
            "leaseTransitions": old.get("leaseTransitions", -1) + (0 if renewed else 1),
        }

    async def _write(self, method: str, path: str, body: dict[str, Any]) -> bool:
        begun = asyncio.get_running_loop().time()
        try:
            self._lease = await self._send(method, path, "write leases", body)
        except (KubeError, Forbidden) as error:
            logger.warning("The Lease could not be written: %s", error.message)
            return False
        self.deadline.reschedule(begun + self._times.limit)
        return True

    async def _send(
        self, method: str, path: str, operation: str, body: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        try:
            async with asyncio.timeout(self._times.retry_period):
                lease: dict[str, Any] = await self._client.request(
                    method, path, operation=operation, body=body
                )
        except TimeoutError as error:
            raise KubeError(0, f"Kubernetes failed to {operation}: no answer in time") from error
        return lease
