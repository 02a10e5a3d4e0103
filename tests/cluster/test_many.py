"""Many objects at once."""

import time

import pytest

from tests.cluster.kube import Namespace, current
from tests.cluster.lab import Lab
from tests.cluster.manifests import grant
from tests.cluster.operators import Operators
from tests.cluster.watcher import Watcher

pytestmark = pytest.mark.asyncio(loop_scope="session")

COUNT = 500


async def test_five_hundred_grants_at_once_cost_a_few_passes_and_two_writes_each(
    lab: Lab, there: Namespace, operators: Operators, watcher: Watcher
) -> None:
    operator = await operators.start()
    sales = await lab.settled(there)
    before = operator.count(there.name)
    names = [f"g{number}" for number in range(COUNT)]
    began = time.monotonic()
    await there.apply_at_once(
        grant(name, sales.analysts, database=sales.name, privileges=["INSERT" if number % 2 else "UPDATE"])
        for number, name in enumerate(names)
    )
    applied = time.monotonic() - began
    await _all(there, lambda body: current(body, "Ready") is not None and current(body, "Ready")["status"] == "True")
    assert operator.count(there.name) - before <= 60
    print(f"applied in {applied:.1f} s, ready after {time.monotonic() - began:.1f} s, "
          f"{operator.count(there.name) - before} passes")
    last = await there.get(f"AccessGrant/{names[-1]}")
    await watcher.caught_up("AccessGrant", there.name, names[-1], last["metadata"]["resourceVersion"])
    for name in names:
        kinds = [seen.type for seen in watcher.history("AccessGrant", there.name, name)]
        assert kinds == ["ADDED", "MODIFIED", "MODIFIED"], "its finalizer and its status, once each"
    assert await sales.may(sales.analysts, "INSERT")
    assert (await there.status("LakebaseConnection/marketing"))["grants"] == COUNT + 1
    passes = operator.count(there.name)
    await there.admin.request("DELETE", there.path("AccessGrant/"))
    await there.gone("AccessGrant/readers", *names[:: COUNT // 10], deadline=60)
    await there.gone(*(f"AccessGrant/{name}" for name in names), deadline=60)
    assert operator.count(there.name) - passes <= 60
    assert not await sales.may(sales.analysts, "INSERT")
    assert await sales.held() == 0


async def _all(there: Namespace, condition) -> None:  # type: ignore[no-untyped-def]
    async def asked() -> bool:
        return all(condition(body) for body in await there.all_of("AccessGrant"))

    await there.true("all are ready", asked, deadline=60)
