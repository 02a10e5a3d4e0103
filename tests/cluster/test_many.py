"""Many objects at once."""

import pytest

from tests.cluster.kube import Namespace, is_ready
from tests.cluster.lab import Lab
from tests.cluster.manifests import grant
from tests.cluster.operators import Operators
from tests.cluster.watcher import Watcher

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(400)]

COUNT = 500
MOST_PASSES = 50


async def test_five_hundred_grants_at_once_cost_a_few_passes_and_two_writes_each(
    lab: Lab, there: Namespace, operators: Operators, watcher: Watcher
) -> None:
    operator = await operators.start()
    sales = await lab.settled(there)
    before = operator.count(there.name)
    names = [f"g{number}" for number in range(COUNT)]
    await there.create_at_once(
        grant(name, sales.analysts, database=sales.name, privileges=["INSERT" if number % 2 else "UPDATE"])
        for number, name in enumerate(names)
    )

    async def all_ready() -> bool:
        grants = watcher.latest("AccessGrant", there.name)
        return len(grants) == COUNT + 1 and all(is_ready(body) for body in grants.values())

    await there.true("all are ready", all_ready, deadline=170, pause=0.3)
    assert operator.count(there.name) - before <= MOST_PASSES
    for name in names:
        kinds = [seen.type for seen in watcher.history("AccessGrant", there.name, name)]
        assert kinds == ["ADDED", "MODIFIED", "MODIFIED"], "its finalizer and its status, once each"
    assert await sales.may(sales.analysts, "INSERT")
    assert (await there.status("LakebaseConnection/marketing"))["grants"] == COUNT + 1

    before = operator.count(there.name)
    await there.admin.request("DELETE", there.path("AccessGrant/"))

    async def none_left() -> bool:
        return not watcher.latest("AccessGrant", there.name)

    await there.true("all are gone", none_left, deadline=170, pause=0.3)
    assert operator.count(there.name) - before <= MOST_PASSES
    assert not await sales.may(sales.analysts, "INSERT")
    assert await sales.held() == 0
