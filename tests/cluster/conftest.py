"""The whole operator, on a real API server and against a simulated workspace with real PostgreSQL servers.

There is one cluster and one workspace for the session. Each test has a namespace and databases of its own, so that what one
test leaves behind concerns no other. The operator runs in the test's event loop, as the ServiceAccount of the chart and
with no more rights than the chart gives it.
"""

import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import helm_python as helm
import pytest
import pytest_asyncio
import yaml

from lakebase_operator.api.base import GROUP, VERSION
from lakebase_sandbox.cluster import EmbeddedCluster
from lakebase_sandbox.cluster.kubeconfig import read_endpoint, write_kubeconfig
from lakebase_sandbox.simulator import (
    AutoscalingTarget,
    LakebaseSimulator,
    ProvisionedTarget,
    SimulatorSettings,
)
from lakebase_sandbox.tools.kubectl import Kubectl
from tests.cluster.kube import PLURALS, Admin, Namespace, administrator
from tests.cluster.lab import Lab
from tests.cluster.operators import Log, Operators
from tests.cluster.watcher import Watcher

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "lakebase-operator"
SYSTEM = "lakebase-system"
ACCOUNT_KINDS = ("ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding")

WORKSPACE = SimulatorSettings(
    targets=(
        AutoscalingTarget(),
        ProvisionedTarget(),
        ProvisionedTarget(name="native", instance="native-db", enable_pg_native_login=True),
    ),
    operation_seconds=0.05,
    reconciliation_seconds=0.05,
    wake_seconds=0.1,
    start_seconds=0.3,
)


@pytest.fixture(scope="session")
def operator_kubeconfig(cluster: EmbeddedCluster, short_tmp: Path) -> Path:
    """The kinds and the chart's ServiceAccount are in the cluster; gives a kubeconfig of that account."""
    kubectl = Kubectl(cluster.kubeconfig)
    crds = [f"--filename={file}" for file in sorted((ROOT / "crds").glob("*.yaml"))]
    kubectl.run("apply", "--server-side", "--force-conflicts", *crds)
    kubectl.run("wait", "--for=condition=Established", "--timeout=30s", *crds)
    kubectl.run("apply", "--server-side", "--filename=-", stdin=_account())
    token = kubectl.run("create", "token", "lakebase-operator", f"--namespace={SYSTEM}", "--duration=24h")
    path = short_tmp / "operator.kubeconfig"
    write_kubeconfig(
        path,
        read_endpoint(cluster.kubeconfig),
        user="lakebase-operator",
        token=token.strip(),
        namespace=SYSTEM,
    )
    return path


def _account() -> str:
    """What the chart installs for the operator to act as."""
    with helm.Chart.load(CHART) as chart:
        texts = chart.render({"crds": {"enabled": False}}, name="lakebase-operator", namespace=SYSTEM)
    parts = [
        part
        for path, text in texts.items()
        if path.endswith(".yaml")
        for part in yaml.safe_load_all(text)
        if part
    ]
    account = [part for part in parts if part.get("kind") in ACCOUNT_KINDS]
    for part in account:
        if part["kind"] in ("ServiceAccount", "Role", "RoleBinding"):
            part["metadata"].setdefault("namespace", SYSTEM)
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM}}
    return yaml.safe_dump_all([space, *account])


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def admin(cluster: EmbeddedCluster, operator_kubeconfig: Path) -> AsyncIterator[Admin]:
    """The cluster's administrator."""
    async with administrator(cluster.kubeconfig) as logged_in:
        for plural in PLURALS.values():  # "Established" comes a moment before the paths answer
            await logged_in.served(f"/apis/{GROUP}/{VERSION}/{plural}")
        yield logged_in


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def watcher(admin: Admin) -> AsyncIterator[Watcher]:
    """Sees every write of the session."""
    watching = Watcher(admin)
    await watching.start()
    yield watching
    await watching.stop()


@pytest.fixture(scope="session")
def log() -> Iterator[Log]:
    """Hears every record of the session."""
    handler, root = Log(), logging.getLogger()
    names = ("lakebase_operator", "kopf", "databricks", "psycopg")
    before = {name: logging.getLogger(name).level for name in names}
    logging.getLogger("lakebase_operator").setLevel(logging.DEBUG)
    for name in names[1:]:
        logging.getLogger(name).setLevel(logging.WARNING if name == "kopf" else logging.INFO)
    root.addHandler(handler)
    yield handler
    root.removeHandler(handler)
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def workspace() -> AsyncIterator[Lab]:
    """The simulated workspace with three servers: two with OAuth only (PostgreSQL 18 and 16), one with passwords."""
    async with LakebaseSimulator(WORKSPACE) as simulator:
        lab = Lab(simulator)
        lab.note_tokens()
        yield lab


@pytest_asyncio.fixture(loop_scope="session")
async def lab(workspace: Lab, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Lab]:
    """The workspace, left as it was found; its certificate authority is trusted as in the operator's pod."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(workspace.simulator.ca_file))
    monkeypatch.delenv("CURL_CA_BUNDLE", raising=False)
    monkeypatch.setenv("NO_PROXY", "localhost,127.0.0.1")
    yield workspace
    await workspace.reset()


@pytest_asyncio.fixture(loop_scope="session")
async def operators(operator_kubeconfig: Path, log: Log) -> AsyncIterator[Operators]:
    """Starts operators."""
    running = Operators(operator_kubeconfig, log)
    yield running
    await running.end_all()


@pytest_asyncio.fixture(loop_scope="session")
async def there(
    admin: Admin, watcher: Watcher, log: Log, namespace: str, lab: Lab
) -> AsyncIterator[Namespace]:
    """The test's own namespace. What was written in it has kept the rules."""
    broken = len(watcher.broken)
    own = Namespace(admin, namespace, log.tail)
    await own.create(team="data")
    yield own
    await own.discard()
    assert not watcher.broken[broken:], "\n".join(watcher.broken[broken:])


@pytest_asyncio.fixture(loop_scope="session")
async def other(admin: Admin, watcher: Watcher, log: Log, namespace: str) -> AsyncIterator[Namespace]:
    """A second namespace."""
    own = Namespace(admin, f"{namespace}-b", log.tail)
    await own.create(team="finance")
    yield own
    await own.discard()
