"""Between a LakebaseInstance and the connections that point at it."""

from lakebase_operator.api import LakebaseConnection, LakebaseInstance, PostgresRole
from lakebase_operator.api.lakebase_connection import (
    AutoscalingTarget,
    LakebaseConnectionSpec,
    ProvisionedTarget,
    Target,
)
from lakebase_operator.api.reasons import Reason
from lakebase_operator.domain.errors import InvalidError, NotReadyError
from lakebase_operator.domain.instance import InstanceState
from lakebase_operator.domain.lakebase_instance import database_resource, main_resource
from lakebase_operator.engine.catalog import Catalog, key_of
from lakebase_operator.engine.keys import ConnectionKey, ObjectKey


def resolved(connection: LakebaseConnection, catalog: Catalog) -> LakebaseConnectionSpec:
    """The connection's spec with the target that its ``instanceRef`` stands for; as it is if it has none.

    Raises
    ------
    NotReadyError
        The instance is not there yet. The connection is woken when it is.
    InvalidError
        The two contradict each other.
    """
    spec = connection.spec
    reference = spec.target.instance_ref
    if reference is None:
        return spec
    instance = _referenced(connection, catalog)
    if instance is None:
        raise NotReadyError(
            Reason.INSTANCE_NOT_READY,
            f'spec.target.instanceRef: there is no LakebaseInstance "{reference.name}" in this namespace. It is taken up when '
            "it appears.",
        )
    if spec.workspace_url is not None and _same(spec.workspace_url) != _same(instance.spec.workspace_url):
        raise InvalidError(
            Reason.INVALID_SPEC,
            f'spec.workspaceURL is not the one of the LakebaseInstance "{reference.name}": leave it out.',
        )
    try:
        database_resource(instance.spec, reference.branch)
    except LookupError as error:
        raise InvalidError(
            Reason.INVALID_SPEC,
            f'spec.target.instanceRef.branch: LakebaseInstance "{reference.name}": {error}.',
        ) from error
    endpoint = _endpoint(catalog.status(key_of(instance)), reference.branch, instance)
    if not endpoint.get("state"):
        raise NotReadyError(
            Reason.INSTANCE_NOT_READY,
            f'The LakebaseInstance "{reference.name}" is not there yet; its own Ready says why. This connection is taken up '
            "when it is.",
        )
    changes: dict[str, object] = {
        "target": _target(instance, reference.branch),
        "workspace_url": instance.spec.workspace_url,
    }
    if spec.auth.password is not None and spec.host is None:
        changes["host"] = endpoint.get("host")
    return spec.model_copy(update=changes)


def is_asleep(connection: LakebaseConnection, catalog: Catalog) -> bool:
    """Whether the LakebaseInstance that a connection points at has found the compute asleep when it last looked."""
    reference, instance = connection.spec.target.instance_ref, _referenced(connection, catalog)
    if reference is None or instance is None:
        return False
    endpoint = _endpoint(catalog.status(key_of(instance)), reference.branch, instance)
    return endpoint.get("state") == InstanceState.ASLEEP


def _referenced(connection: LakebaseConnection, catalog: Catalog) -> LakebaseInstance | None:
    """The LakebaseInstance that a connection points at, if it does and that is there and can be read."""
    reference = connection.spec.target.instance_ref
    if reference is None:
        return None
    key = ObjectKey(LakebaseInstance.kind_name, connection.metadata.namespace, reference.name)
    found = catalog.get(key)
    return found if isinstance(found, LakebaseInstance) else None


def _endpoint(status: dict[str, object], branch: str | None, instance: LakebaseInstance) -> dict[str, object]:
    """Where the database of a branch is, as the instance's status says."""
    lakebase = instance.spec.autoscaling
    found: object = status.get("endpoint")
    if lakebase is not None and branch not in (None, lakebase.branch):
        branches = status.get("branches")
        named = [one for one in branches if one.get("name") == branch] if isinstance(branches, list) else []
        found = named[0].get("endpoint") if named else None
    return found if isinstance(found, dict) else {}


def _target(instance: LakebaseInstance, branch: str | None) -> Target:
    lakebase = instance.spec.autoscaling
    if lakebase is None:
        return Target(provisioned=ProvisionedTarget(instance=main_resource(instance.spec).name))
    endpoint = database_resource(instance.spec, branch)
    return Target(
        autoscaling=AutoscalingTarget(
            project=lakebase.project, branch=branch or lakebase.branch, endpoint=endpoint.id
        )
    )


def branches_of(instance: LakebaseInstance, catalog: Catalog) -> dict[str, tuple[LakebaseConnection, ...]]:
    """The connections of any namespace that point at an instance, by branch; an instance of Lakebase Provisioned has one
    branch without a name."""
    lakebase = instance.spec.autoscaling
    users: dict[str, tuple[LakebaseConnection, ...]] = {}
    for connection in catalog.of_kind(LakebaseConnection):
        branch = _branch_of(connection, instance)
        if branch is not None:
            name = branch or (lakebase.branch if lakebase is not None else "")
            users[name] = (*users.get(name, ()), connection)
    return users


def _branch_of(connection: LakebaseConnection, instance: LakebaseInstance) -> str | None:
    """The branch of the instance that a connection points at, empty for its main one; None: it points elsewhere."""
    target = connection.spec.target
    if target.instance_ref is not None:
        same = (
            connection.metadata.namespace == instance.metadata.namespace
            and target.instance_ref.name == instance.metadata.name
        )
        return target.instance_ref.branch or "" if same else None
    if _same(connection.spec.workspace_url or "") != _same(instance.spec.workspace_url):
        return None
    autoscaling, provisioned = instance.spec.autoscaling, instance.spec.provisioned
    if target.autoscaling is not None and autoscaling is not None:
        return target.autoscaling.branch if target.autoscaling.project == autoscaling.project else None
    if target.provisioned is not None and provisioned is not None:
        return "" if target.provisioned.instance == provisioned.instance else None
    return None


def native_logins(instance: LakebaseInstance, catalog: Catalog) -> tuple[str, ...]:
    """Everything declared that logs in to an instance with a PostgreSQL password, for messages."""
    users = []
    for connections in branches_of(instance, catalog).values():
        for connection in connections:
            meta = connection.metadata
            if connection.spec.auth.password is not None:
                users.append(f"LakebaseConnection {meta.namespace}/{meta.name}")
            users += [
                f"PostgresRole {role.metadata.namespace}/{role.metadata.name}"
                for role in catalog.roles(ConnectionKey(meta.namespace, meta.name))
                if _logs_in_natively(role)
            ]
    return tuple(sorted(users))


def _logs_in_natively(role: PostgresRole) -> bool:
    return role.spec.identity is None and (bool(role.spec.login) or role.spec.password is not None)


def _same(url: str) -> str:
    return url.rstrip("/").casefold()
