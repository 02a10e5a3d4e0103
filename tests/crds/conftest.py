"""The CustomResourceDefinitions on a real API server."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException

from lakebase_operator.api.base import GROUP, VERSION
from lakebase_sandbox.cluster import EmbeddedCluster
from lakebase_sandbox.tools.kubectl import Kubectl
from tests.crds.objects import PLURALS, Objects

CRDS = Path(__file__).parents[2] / "crds"


@pytest.fixture(scope="session")
def kubectl(cluster: EmbeddedCluster) -> Kubectl:
    return Kubectl(cluster.kubeconfig)


@pytest.fixture(scope="session")
def api_client(cluster: EmbeddedCluster, kubectl: Kubectl) -> Iterator[client.ApiClient]:
    """An administrator's client of a cluster in which the kinds are served."""
    files = sorted(CRDS.glob("*.yaml"))
    kubectl.run("apply", "--server-side", "--force-conflicts", *(f"--filename={file}" for file in files))
    names = [yaml.safe_load(file.read_text())["metadata"]["name"] for file in files]
    kubectl.run("wait", "--for=condition=Established", "--timeout=30s", *(f"crd/{name}" for name in names))
    with config.new_client_from_config(str(cluster.kubeconfig)) as api:
        _wait_until_served(api)
        yield api


@pytest.fixture
def objects(api_client: client.ApiClient, namespace: str) -> Iterator[Objects]:
    """A namespace of the test's own."""
    core = client.CoreV1Api(api_client)
    core.create_namespace(client.V1Namespace(metadata=client.V1ObjectMeta(name=namespace)))
    yield Objects(client.CustomObjectsApi(api_client), namespace)
    core.delete_namespace(namespace)


def _wait_until_served(api: client.ApiClient, timeout: float = 30) -> None:
    """`Established` comes a moment before the paths answer."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            for plural in PLURALS.values():
                client.CustomObjectsApi(api).list_cluster_custom_object(GROUP, VERSION, plural)
        except ApiException as error:
            if error.status != 404 or time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return
