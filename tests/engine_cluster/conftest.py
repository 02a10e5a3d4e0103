"""The kinds on a real API server, and a namespace for each test."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from lakebase_operator.external.kube.client import KubeClient
from lakebase_operator.external.kube.errors import KubeError
from lakebase_operator.external.kube.objects import PLURALS
from lakebase_sandbox.cluster import EmbeddedCluster
from lakebase_sandbox.tools.kubectl import Kubectl
from tests.engine_cluster.harness import Cluster

CRDS = Path(__file__).parents[2] / "crds"


@pytest.fixture(scope="session")
def kubeconfig(cluster: EmbeddedCluster) -> Path:
    """An administrator's kubeconfig of a cluster in which the kinds are served."""
    kubectl = Kubectl(cluster.kubeconfig)
    files = [f"--filename={file}" for file in sorted(CRDS.glob("*.yaml"))]
    kubectl.run("apply", "--server-side", "--force-conflicts", *files)
    kubectl.run("wait", "--for=condition=Established", "--timeout=30s", *files)
    asyncio.run(_served(cluster.kubeconfig))
    return cluster.kubeconfig


async def _served(kubeconfig: Path) -> None:
    """``Established`` comes a moment before the paths answer."""
    deadline = time.monotonic() + 30
    async with await KubeClient.connect(str(kubeconfig)) as client:
        for plural in PLURALS.values():
            while True:
                try:
                    await client.request("GET", f"/apis/lakebase.dev/v1alpha1/{plural}", operation="list")
                    break
                except KubeError:  # not there yet, or its storage is not ready
                    assert time.monotonic() < deadline
                    await asyncio.sleep(0.1)


@pytest.fixture
async def there(kubeconfig: Path, namespace: str) -> AsyncIterator[Cluster]:
    """The test's own namespace."""
    async with await KubeClient.connect(str(kubeconfig)) as client:
        cluster = Cluster(client, namespace)
        body = {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": namespace, "labels": {"team": "data"}},
        }
        await cluster.send("POST", "/api/v1/namespaces", body)
        yield cluster
        await cluster.send("DELETE", f"/api/v1/namespaces/{namespace}")
