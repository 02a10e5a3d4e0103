"""One small acceptable object of each kind, and how to change it."""

from copy import deepcopy
from typing import Any

CONNECTION: dict[str, Any] = {
    "apiVersion": "lakebase.dev/v1alpha1",
    "kind": "LakebaseConnection",
    "metadata": {"name": "marketing"},
    "spec": {
        "workspaceURL": "https://acme.cloud.databricks.com",
        "target": {"autoscaling": {"project": "marketing"}},
        "auth": {
            "oauthM2M": {"clientID": "1f0c2a34", "clientSecretRef": {"name": "login", "key": "clientSecret"}}
        },
    },
}
ROLE: dict[str, Any] = {
    "apiVersion": "lakebase.dev/v1alpha1",
    "kind": "PostgresRole",
    "metadata": {"name": "analysts"},
    "spec": {"connectionRef": {"name": "marketing"}},
}
MAPPING: dict[str, Any] = {
    "apiVersion": "lakebase.dev/v1alpha1",
    "kind": "UserMapping",
    "metadata": {"name": "alice"},
    "spec": {"user": "alice@example.com"},
}
GRANT: dict[str, Any] = {
    "apiVersion": "lakebase.dev/v1alpha1",
    "kind": "AccessGrant",
    "metadata": {"name": "readers"},
    "spec": {
        "connectionRef": {"name": "marketing"},
        "subjects": [{"kind": "User", "name": "alice@example.com"}],
        "access": "Read",
        "objects": [{"tables": {"schema": "sales", "names": ["orders"]}}],
    },
}

INSTANCE: dict[str, Any] = {
    "apiVersion": "lakebase.dev/v1alpha1",
    "kind": "LakebaseInstance",
    "metadata": {"name": "marketing"},
    "spec": {
        "workspaceURL": "https://acme.cloud.databricks.com",
        "auth": {"workloadIdentity": {"clientID": "1f0c2a34"}},
        "autoscaling": {"project": "marketing"},
    },
}
CATALOG: dict[str, Any] = {
    "apiVersion": "lakebase.dev/v1alpha1",
    "kind": "DatabaseCatalog",
    "metadata": {"name": "marketing"},
    "spec": {"connectionRef": {"name": "marketing"}, "catalog": "marketing_lakebase"},
}

ABSENT = object()


def named(base: dict[str, Any], name: str) -> dict[str, Any]:
    return base | {"metadata": {"name": name}}


def with_spec(base: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """The object with some fields of its spec replaced, added, or (`ABSENT`) left out."""
    changed = deepcopy(base)
    changed["spec"] |= fields
    changed["spec"] = {name: value for name, value in changed["spec"].items() if value is not ABSENT}
    return changed


def connection(**fields: Any) -> dict[str, Any]:
    return with_spec(CONNECTION, **fields)


def role(**fields: Any) -> dict[str, Any]:
    return with_spec(ROLE, **fields)


def mapping(**fields: Any) -> dict[str, Any]:
    return with_spec(MAPPING, **fields)


def grant(**fields: Any) -> dict[str, Any]:
    return with_spec(GRANT, **fields)


def instance(**fields: Any) -> dict[str, Any]:
    return with_spec(INSTANCE, **fields)


def autoscaling(**fields: Any) -> dict[str, Any]:
    return instance(autoscaling={"project": "marketing", **fields})


def provisioned(**fields: Any) -> dict[str, Any]:
    return instance(autoscaling=ABSENT, provisioned={"instance": "marketing-db", **fields})


def catalog(**fields: Any) -> dict[str, Any]:
    return with_spec(CATALOG, **fields)


def on(*entries: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return grant(objects=list(entries), **fields)


def to(*subjects: dict[str, Any]) -> dict[str, Any]:
    return grant(subjects=list(subjects))


def oauth(client_id: str, **secret: str) -> dict[str, Any]:
    return {
        "oauthM2M": {
            "clientID": client_id,
            "clientSecretRef": {"name": "login", "key": "clientSecret"} | secret,
        }
    }


SERVER = {"server": {"host": "db.example.com"}}
PASSWORD = {"password": {"secretRef": {"name": "login"}}}
