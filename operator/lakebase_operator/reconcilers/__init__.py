"""The pass over one connection: state, roles, people, grants, report; one module per kind of work."""

from lakebase_operator.reconcilers.connection import ConnectionReconciler
from lakebase_operator.reconcilers.services import Services

__all__ = ["ConnectionReconciler", "Services", "build"]


def build(services: Services) -> ConnectionReconciler:
    """The reconciler that the operator runs."""
    return ConnectionReconciler(services)
