"""The chart, rendered and installed.

Installing it needs a cluster of its own: Helm wants to be the owner of the CustomResourceDefinitions and of the
ClusterRoles, whose names are the same for the whole cluster.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import helm_python as helm
import pytest
import yaml
from kubernetes import client, config

from lakebase_sandbox.cluster import EmbeddedCluster
from lakebase_sandbox.tools.kubectl import Kubectl

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "lakebase-operator"
RELEASE = "lakebase-operator"
NAMESPACE = "lakebase-system"

Manifest = dict[str, Any]
Render = Callable[..., list[Manifest]]


@pytest.fixture(scope="session")
def render() -> Iterator[Render]:
    """Renders the chart without a cluster: `render(crds={"enabled": False})` gives the objects."""
    with helm.Chart.load(CHART) as chart:

        def objects(**values: Any) -> list[Manifest]:
            # Rendering alone does not look at the schema of the values, as an installation does.
            chart.validate_schema(values)
            texts = chart.render(values, name=RELEASE, namespace=NAMESPACE)
            manifests = (text for path, text in texts.items() if path.endswith(".yaml"))
            return [part for text in manifests for part in yaml.safe_load_all(text) if part]

        yield objects


@pytest.fixture(scope="session")
def chart_cluster(short_tmp: Path) -> Iterator[EmbeddedCluster]:
    """A cluster in which nothing is installed by anybody else."""
    with EmbeddedCluster(short_tmp / "chart-cluster") as running:
        yield running


@pytest.fixture(scope="session")
def chart_kubectl(chart_cluster: EmbeddedCluster) -> Kubectl:
    return Kubectl(chart_cluster.kubeconfig)


@pytest.fixture(scope="session")
def releases(chart_cluster: EmbeddedCluster) -> Iterator[helm.Config]:
    """Helm, towards that cluster."""
    with helm.Config(kubeconfig_path=chart_cluster.kubeconfig, namespace=NAMESPACE) as connected:
        yield connected


@pytest.fixture(scope="session")
def installed(releases: helm.Config) -> str:
    """The chart is installed with its default values; gives the name of the release."""
    releases.install(CHART, RELEASE, namespace=NAMESPACE, create_namespace=True)
    return RELEASE


@pytest.fixture(scope="session")
def admin(chart_cluster: EmbeddedCluster, installed: str) -> Iterator[client.ApiClient]:
    """An administrator's client of the cluster with the chart in it."""
    with config.new_client_from_config(str(chart_cluster.kubeconfig)) as api:
        yield api
