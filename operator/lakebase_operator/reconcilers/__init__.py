"""The pass over one connection: state, roles, people, grants, report; one module per kind of work."""

from lakebase_operator.reconcilers.connection import ConnectionReconciler
from lakebase_operator.reconcilers.objects import ObjectReconcilers
from lakebase_operator.reconcilers.services import Services

__all__ = ["ConnectionReconciler", "ObjectReconcilers", "Services", "build", "build_objects"]


def build(services: Services) -> ConnectionReconciler:
    """The reconciler that the operator runs."""
    return ConnectionReconciler(services)


def build_objects(services: Services) -> ObjectReconcilers:
    """The reconcilers of objects that no connection's pass works on."""
    return ObjectReconcilers(services)
