"""Kubernetes clusters to run against: one of our own without containers, one of kind, or one that is there."""

from lakebase_sandbox.cluster.embedded import EmbeddedCluster
from lakebase_sandbox.cluster.existing import ExistingCluster
from lakebase_sandbox.cluster.kind import KindCluster

__all__ = ["EmbeddedCluster", "ExistingCluster", "KindCluster"]
