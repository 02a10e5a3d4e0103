"""A network between the operator and the API server that breaks, and two operators that must not act at once."""

import asyncio
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from lakebase_operator.external.kube.leader import LeadershipLostError
from tests.cluster.kube import Namespace, is_ready
from tests.cluster.lab import Lab
from tests.cluster.manifests import grant, mapping
from tests.cluster.operators import Operators
from tests.engine_cluster.proxy import Proxy

pytestmark = pytest.mark.asyncio(loop_scope="session")

CONNECTION, READERS, WRITERS = "LakebaseConnection/marketing", "AccessGrant/readers", "AccessGrant/writers"
LEASE = {
    "leader_election": True,
    "lease_duration_seconds": 3,
    "lease_renew_deadline_seconds": 2,
    "lease_retry_seconds": 1,
}


def through(kubeconfig: Path, proxy: Proxy, directory: Path) -> Path:
    """The same kubeconfig, by way of a proxy."""
    document = yaml.safe_load(kubeconfig.read_text())
    document["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{proxy.port}"
    path = directory / "through-proxy.kubeconfig"
    path.write_text(yaml.safe_dump(document))
    return path


def api_server(kubeconfig: Path) -> tuple[str, int]:
    url = urlsplit(yaml.safe_load(kubeconfig.read_text())["clusters"][0]["cluster"]["server"])
    return str(url.hostname), int(url.port or 443)


async def test_changes_during_an_interruption_of_the_watch_are_found(
    lab: Lab, there: Namespace, operators: Operators, operator_kubeconfig: Path, tmp_path: Path
) -> None:
    lab.identity("dave@example.com")
    async with Proxy(*api_server(operator_kubeconfig)) as proxy:
        operator = await operators.start(kubeconfig=str(through(operator_kubeconfig, proxy, tmp_path)))
        sales = await lab.settled(there)
        await sales.run(f"CREATE ROLE person_{sales.name} LOGIN")
        await there.apply(
            mapping("dave", "dave@example.com", "Explicit", postgresUsername=f"person_{sales.name}"),
            grant("daves", "dave@example.com", database=sales.name, tables=["items"]),
        )
        await there.ready("AccessGrant/daves")
        proxy.refusing = True
        proxy.cut()
        await there.delete(READERS)
        await there.delete("UserMapping/dave")  # it is simply gone, and no watch will tell
        await there.apply(grant("writers", sales.analysts, database=sales.name, privileges=["INSERT"]))
        await asyncio.sleep(0.5)
        assert await sales.may(sales.analysts, "SELECT")
        proxy.refusing = False
        await there.ready(WRITERS)
        await there.gone(READERS)
        await there.until("AccessGrant/daves", lambda body: not is_ready(body))
        assert not await sales.may(sales.analysts, "SELECT")
        assert not await sales.may(f"person_{sales.name}", "SELECT", "sales.items")
        await operator.stop()


async def test_an_interruption_during_the_pass_is_survived(
    lab: Lab, there: Namespace, operators: Operators, operator_kubeconfig: Path, tmp_path: Path
) -> None:
    async with Proxy(*api_server(operator_kubeconfig)) as proxy:
        operator = await operators.start(
            kubeconfig=str(through(operator_kubeconfig, proxy, tmp_path)), kubernetes_timeout_seconds=2
        )
        sales = await lab.settled(there)
        await lab.simulator.fault("autoscaling", "slow-sql", 50)
        await there.apply(grant("writers", sales.analysts, database=sales.name, access="Write"))
        for _ in range(5):
            await asyncio.sleep(0.1)
            proxy.cut()
        await there.ready(WRITERS)
        assert await sales.may(sales.analysts, "INSERT")
        await operator.stop()


async def test_of_two_operators_one_acts_and_the_other_takes_over_when_it_is_stopped(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    first = await operators.start(**LEASE)
    second = await operators.start(primed=False, **LEASE)
    sales = await lab.settled(there)
    await first.passed(there.name, 0, at_least=1)
    assert second.count(there.name) == 0
    await first.stop()
    await there.apply(grant("writers", sales.analysts, database=sales.name, access="Write"))
    await there.ready(WRITERS)
    await second.passed(there.name, 0, at_least=1)


async def test_an_operator_that_is_cut_off_ends_itself_and_the_other_takes_over(
    lab: Lab, there: Namespace, operators: Operators, operator_kubeconfig: Path, tmp_path: Path
) -> None:
    async with Proxy(*api_server(operator_kubeconfig)) as proxy:
        first = await operators.start(kubeconfig=str(through(operator_kubeconfig, proxy, tmp_path)), **LEASE)
        second = await operators.start(primed=False, **LEASE)
        sales = await lab.settled(there)
        proxy.refusing = True
        proxy.cut()
        await there.apply(grant("writers", sales.analysts, database=sales.name, access="Write"))
        await there.ready(WRITERS)
        await second.passed(there.name, 0, at_least=1)
        with pytest.raises(LeadershipLostError):
            await asyncio.wait_for(first.task, 60)
        operators.forget(first)
        passes = first.count(there.name)
        await there.annotate(CONNECTION, sync_now="1")
        await second.passed(there.name, 1)
        assert first.count(there.name) == passes
