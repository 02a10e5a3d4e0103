"""When a leader gives up its Lease, with an API server that answers as a test wants."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from lakebase_operator.external.kube.client import KubeClient
from lakebase_operator.external.kube.errors import Gone
from lakebase_operator.external.kube.leader import Leadership, LeadershipLostError, LeaseTimes

TIMES = LeaseTimes(duration=5, renew_deadline=2.5, retry_period=1.0)


class Leases:
    """An API server with one Lease. Once ``slow``, it answers late and writes nothing any more."""

    def __init__(self) -> None:
        self.lease: dict[str, Any] | None = None
        self.slow = False
        self.renewed_at = 0.0

    async def request(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        if method != "GET":
            if self.slow:
                await asyncio.Event().wait()
            self.lease = {"metadata": {"resourceVersion": "1"}, "spec": request["body"]["spec"]}
            self.renewed_at = time.monotonic()
        elif self.slow:
            await asyncio.sleep(0.45)
        if self.lease is None:
            raise Gone(404, f"there is no {path}")
        return self.lease


@pytest.fixture
def leases() -> Leases:
    return Leases()


@pytest.fixture
async def leadership(leases: Leases) -> AsyncIterator[Leadership]:
    leads = Leadership(
        cast(KubeClient, leases), namespace="system", name="operator", identity="one", times=TIMES
    )
    await leads.acquire()
    yield leads
    leases.slow = False
    await leads.release()


async def test_a_leader_is_gone_before_another_may_take_over_however_slowly_renewing_fails(
    leases: Leases, leadership: Leadership
) -> None:
    leases.slow = True
    with pytest.raises(LeadershipLostError, match="in time"):
        await leadership.lost()
    assert not leadership.leading
    assert time.monotonic() - leases.renewed_at < TIMES.duration


async def test_a_leader_that_renews_stays(leases: Leases, leadership: Leadership) -> None:
    acquired_at = leases.renewed_at
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(leadership.lost(), TIMES.limit + TIMES.retry_period)
    assert leadership.leading
    assert leases.renewed_at - acquired_at > TIMES.retry_period
