"""Keeps who may do what in Databricks Lakebase Postgres equal to what Kubernetes manifests declare."""

__version__ = "0.1.0"
