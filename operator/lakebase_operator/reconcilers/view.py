"""The declarations that belong to one connection, sorted by what may become of them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from lakebase_operator.api import AccessGrant, LakebaseConnection, PostgresRole, Resource, UserMapping
from lakebase_operator.api.base import ANNOTATION_ABANDON, FINALIZER
from lakebase_operator.api.lakebase_connection import NamespacesFrom
from lakebase_operator.engine.catalog import Broken
from lakebase_operator.engine.keys import ConnectionKey, ObjectKey

Dependent: TypeAlias = PostgresRole | UserMapping | AccessGrant


@dataclass(frozen=True, slots=True)
class View:
    """What a pass looks at: one moment of the catalog."""

    key: ConnectionKey
    connection: LakebaseConnection | None
    roles: tuple[PostgresRole, ...]
    mappings: tuple[UserMapping, ...]
    grants: tuple[AccessGrant, ...]
    broken: tuple[Broken, ...]
    refused: tuple[Dependent, ...]
    """From namespaces that the connection does not allow. They declare nothing."""
    narrow: bool = False
    """Of the AccessGrants, ``grants`` has only those that have changed since the last pass."""
    changed: frozenset[ObjectKey] = frozenset()
    """With ``narrow``: these, and those that are gone since."""
    others: int = 0
    """With ``narrow``: how many AccessGrants there are besides."""

    @property
    def grant_count(self) -> int:
        """How many AccessGrants use the connection and stay."""
        return self.others + sum(not is_deleting(one) for one in self.grants)

    @property
    def dependents(self) -> tuple[Dependent, ...]:
        """All that may use the connection."""
        return self.roles + self.mappings + self.grants


def is_deleting(obj: Resource | Broken) -> bool:
    """Whether the object is on its way out."""
    return obj.metadata.deletion_timestamp is not None


def is_finalized(obj: Resource | Broken) -> bool:
    """Whether the operator still has a say in its deletion."""
    return FINALIZER in obj.metadata.finalizers


def is_abandoned(obj: Resource | Broken) -> bool:
    """Whether a person wants it gone without cleaning up."""
    return obj.metadata.annotations.get(ANNOTATION_ABANDON) == "true"


def allows(connection: LakebaseConnection, namespace: str, labels: Mapping[str, Mapping[str, str]]) -> bool:
    """Whether objects of ``namespace`` may refer to the connection (``spec.allowedNamespaces``)."""
    allowed = connection.spec.allowed_namespaces
    if namespace == connection.metadata.namespace or allowed.from_ is NamespacesFrom.ALL:
        return True
    if allowed.from_ is NamespacesFrom.SAME or not allowed.selector:
        return False
    has = labels.get(namespace, {})
    return all(has.get(name) == value for name, value in allowed.selector.items())


def foreign_namespaces(connection: LakebaseConnection, dependents: Iterable[Dependent]) -> frozenset[str]:
    """Namespaces whose labels decide."""
    if connection.spec.allowed_namespaces.from_ is not NamespacesFrom.SELECTOR:
        return frozenset()
    return frozenset(item.metadata.namespace for item in dependents) - {connection.metadata.namespace}
