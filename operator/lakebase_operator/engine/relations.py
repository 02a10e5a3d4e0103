"""Which objects concern which: what has a unit of work of its own, beside the connections."""

from collections.abc import Iterator

from lakebase_operator.api import DatabaseCatalog, LakebaseConnection, LakebaseInstance, PostgresRole
from lakebase_operator.engine.catalog import Catalog
from lakebase_operator.engine.keys import ConnectionKey, ObjectKey


def concerned(catalog: Catalog, key: ObjectKey) -> frozenset[ObjectKey]:
    """The LakebaseInstances and DatabaseCatalogs to be looked at, since an object has changed, come or gone."""
    if key.kind == DatabaseCatalog.kind_name:
        return frozenset({key})
    if key.kind == LakebaseInstance.kind_name:
        users = connections_of(catalog, key)
        return frozenset({key, *(one for user in users for one in _catalogs_of(catalog, user))})
    if key.kind == LakebaseConnection.kind_name:
        user = ConnectionKey(key.namespace, key.name)
        connection = catalog.connection(user)
        reference = connection.spec.target.instance_ref if connection is not None else None
        instances = (
            _all_instances(catalog, key.namespace)  # whichever it pointed at
            if reference is None
            else (ObjectKey(LakebaseInstance.kind_name, key.namespace, reference.name),)
        )
        return frozenset({*instances, *_catalogs_of(catalog, user)})
    if key.kind == PostgresRole.kind_name:
        # It may be the last that kept native login on.
        waiting = (one for one in catalog.of_kind(LakebaseInstance) if one.spec.native_login is False)
        return frozenset(
            ObjectKey(LakebaseInstance.kind_name, one.metadata.namespace, one.metadata.name)
            for one in waiting
        )
    return frozenset()


def connections_of(catalog: Catalog, instance: ObjectKey) -> tuple[ConnectionKey, ...]:
    """The connections that point at a LakebaseInstance."""
    return tuple(
        key
        for key in catalog.connections_in(instance.namespace)
        if (connection := catalog.connection(key)) is not None
        and (reference := connection.spec.target.instance_ref) is not None
        and reference.name == instance.name
    )


def _catalogs_of(catalog: Catalog, connection: ConnectionKey) -> Iterator[ObjectKey]:
    for one in catalog.of_kind(DatabaseCatalog):
        if one.metadata.namespace == connection.namespace and one.spec.connection_ref.name == connection.name:
            yield ObjectKey(DatabaseCatalog.kind_name, one.metadata.namespace, one.metadata.name)


def _all_instances(catalog: Catalog, namespace: str) -> tuple[ObjectKey, ...]:
    return tuple(
        ObjectKey(LakebaseInstance.kind_name, namespace, one.metadata.name)
        for one in catalog.of_kind(LakebaseInstance)
        if one.metadata.namespace == namespace
    )
