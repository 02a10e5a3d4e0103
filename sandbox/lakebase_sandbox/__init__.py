"""A Kubernetes control plane and a simulated Databricks Lakebase on one machine, without containers."""
