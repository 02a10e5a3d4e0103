"""Declarations as people write them, built in Python."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from lakebase_operator.api import AccessGrant, LakebaseConnection, PostgresRole, UserMapping

NAMESPACE = "team"
DELETED_AT = "2026-01-02T00:00:00Z"


def metadata(name: str, **meta: Any) -> dict[str, Any]:
    """What the API server adds to an object."""
    namespace = meta.get("namespace", NAMESPACE)
    return {
        "name": name,
        "namespace": namespace,
        "uid": f"uid-{namespace}-{name}",
        "generation": 1,
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "finalizers": ["lakebase.dev/finalizer"],
        **meta,
    }


def user(name: str) -> dict[str, str]:
    return {"kind": "User", "name": name}


def role_subject(name: str) -> dict[str, str]:
    return {"kind": "Role", "name": name}


PUBLIC = {"kind": "Public"}


def tables(schema: str, *names: str, **more: Any) -> dict[str, Any]:
    """An entry of ``objects``. Without names and patterns: all tables of the schema."""
    if names:
        more["names"] = list(names)
    elif "matching" not in more:
        more["matching"] = ["*"]
    if "excluding" in more:
        more["except"] = more.pop("excluding")
    return {"tables": {"schema": schema, **more}}


def schemas(*names: str) -> dict[str, Any]:
    return {"schemas": {"names": list(names)}}


def databases(*names: str) -> dict[str, Any]:
    return {"databases": {"names": list(names)}}


def access_grant(
    name: str,
    subjects: Sequence[str | Mapping[str, str]],
    objects: Sequence[Mapping[str, Any]],
    access: str | None = "Read",
    *,
    database: str,
    privileges: Sequence[str] | None = None,
    meta: Mapping[str, Any] | None = None,
    **spec: Any,
) -> AccessGrant:
    """An AccessGrant. A subject that is a plain string is a role."""
    what = {"privileges": list(privileges)} if privileges else {"access": access}
    return AccessGrant.from_object(
        {
            "metadata": metadata(name, **(meta or {})),
            "spec": {
                "connectionRef": {"name": "marketing"},
                "database": database,
                "subjects": [role_subject(one) if isinstance(one, str) else dict(one) for one in subjects],
                "objects": list(objects),
                **what,
                **spec,
            },
        }
    )


def postgres_role(name: str, meta: Mapping[str, Any] | None = None, **spec: Any) -> PostgresRole:
    """A PostgresRole; the object is called like the role."""
    return PostgresRole.from_object(
        {
            "metadata": metadata(name, **(meta or {})),
            "spec": {"connectionRef": {"name": "marketing"}, "roleName": name, **spec},
        }
    )


def identity_role(name: str, kind: str, meta: Mapping[str, Any] | None = None, **spec: Any) -> PostgresRole:
    """A PostgresRole of a Databricks identity."""
    return PostgresRole.from_object(
        {
            "metadata": metadata(name, **(meta or {})),
            "spec": {
                "connectionRef": {"name": "marketing"},
                "identity": {"type": kind, "name": name},
                **spec,
            },
        }
    )


def user_mapping(name: str, user: str, meta: Mapping[str, Any] | None = None, **spec: Any) -> UserMapping:
    """A UserMapping."""
    return UserMapping.from_object(
        {"metadata": metadata(name, **(meta or {})), "spec": {"user": user, **spec}}
    )


def connection(**spec: Any) -> LakebaseConnection:
    """The connection that everything here refers to. ``spec`` takes fields by their names in Python."""
    found = LakebaseConnection.from_object(
        {
            "metadata": metadata("marketing"),
            "spec": {
                "target": {"server": {"host": "db.example.com"}},
                "auth": {"password": {"secretRef": {"name": "login"}}},
            },
        }
    )
    return found.model_copy(update={"spec": found.spec.model_copy(update=spec)})


def being_deleted(obj: Any) -> Any:
    """The same object on its way out."""
    moment = datetime.fromisoformat(DELETED_AT)
    return obj.model_copy(update={"metadata": obj.metadata.model_copy(update={"deletion_timestamp": moment})})
