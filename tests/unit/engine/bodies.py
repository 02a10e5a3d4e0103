"""Objects as the API server gives them."""

from typing import Any

Body = dict[str, Any]


def body(kind: str, name: str, namespace: str = "team", *, version: int = 1, **parts: Any) -> Body:
    """One object; ``meta``, ``spec`` and ``status`` are merged in."""
    return {
        "apiVersion": "lakebase.dev/v1alpha1",
        "kind": kind,
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": f"{kind}-{namespace}-{name}",
            "generation": 1,
            "resourceVersion": str(version),
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "managedFields": [{"manager": "kubectl", "fieldsV1": {"f:spec": {}}}],
            **parts.get("meta", {}),
        },
        "spec": parts.get("spec", {}),
        **({"status": parts["status"]} if "status" in parts else {}),
    }


def connection(name: str = "marketing", namespace: str = "team", **parts: Any) -> Body:
    spec = {
        "target": {"server": {"host": "db.example.com"}},
        "auth": {"password": {"secretRef": {"name": f"{name}-login"}}},
    }
    return body("LakebaseConnection", name, namespace, **{"spec": spec, **parts})


def role(name: str, to: str = "marketing", namespace: str = "team", **parts: Any) -> Body:
    return body("PostgresRole", name, namespace, **{"spec": {"connectionRef": {"name": to}}, **parts})


def mapping(name: str, to: str | None = None, namespace: str = "team", **parts: Any) -> Body:
    spec: Body = {"user": f"{name}@example.com"} | ({"connectionRef": {"name": to}} if to else {})
    return body("UserMapping", name, namespace, **{"spec": spec, **parts})


def grant(name: str, to: str = "marketing", namespace: str = "team", **parts: Any) -> Body:
    spec = {
        "connectionRef": {"name": to},
        "subjects": [{"kind": "User", "name": "alice@example.com"}],
        "access": "Read",
        "objects": [{"tables": {"schema": "sales", "names": ["orders"]}}],
    }
    return body("AccessGrant", name, namespace, **{"spec": spec, **parts})


def changed(original: Body, version: int, *, generation: int | None = None, **parts: Any) -> Body:
    """The object later on."""
    meta = {**original["metadata"], "resourceVersion": str(version), **parts.pop("meta", {})}
    if generation is not None:
        meta["generation"] = generation
    return {**original, "metadata": meta, **parts}
