"""Fixtures for the sandbox's own tests."""

import pytest

from lakebase_sandbox.cluster import EmbeddedCluster
from lakebase_sandbox.tools.kubectl import Kubectl


@pytest.fixture
def kubectl(cluster: EmbeddedCluster) -> Kubectl:
    """kubectl as an administrator of the shared control plane."""
    return Kubectl(cluster.kubeconfig)
