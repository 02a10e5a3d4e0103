"""The API server that the examples are shown to."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from lakebase_sandbox.cluster import EmbeddedCluster
from lakebase_sandbox.errors import SandboxError
from lakebase_sandbox.tools.kubectl import Kubectl

CRDS = Path(__file__).parents[2] / "crds"
NAMESPACE = "examples"


@pytest.fixture(scope="session")
def kubectl(cluster: EmbeddedCluster) -> Iterator[Kubectl]:
    """An administrator's kubectl for a cluster that serves the kinds and has the namespace `examples`."""
    kubectl = Kubectl(cluster.kubeconfig)
    files = sorted(CRDS.glob("*.yaml"))
    kubectl.run("apply", "--server-side", "--force-conflicts", *(f"--filename={file}" for file in files))
    names = [yaml.safe_load(file.read_text())["metadata"]["name"] for file in files]
    kubectl.run("wait", "--for=condition=Established", "--timeout=30s", *(f"crd/{name}" for name in names))
    _wait_until_served(kubectl, names)
    kubectl.run("create", "namespace", NAMESPACE)
    yield kubectl
    kubectl.run("delete", "namespace", NAMESPACE, "--wait=false")


def _wait_until_served(kubectl: Kubectl, resources: list[str], timeout: float = 30) -> None:
    """`Established` comes a moment before the paths answer."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            for resource in resources:
                kubectl.run("get", resource, "--all-namespaces")
        except SandboxError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return
