"""Manifests of the four kinds, short enough to read in a test."""

from typing import Any

from lakebase_operator.api.base import API_VERSION
from tests.cluster.kube import Body


def manifest(kind: str, name: str, spec: Body, **metadata: Any) -> Body:
    """An object of one of the kinds."""
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name, **metadata}, "spec": spec}


def role(name: str, connection: str = "marketing", **spec: Any) -> Body:
    """A PostgresRole; its name is the role's unless ``roleName`` is given."""
    return manifest("PostgresRole", name, {"connectionRef": {"name": connection}, **spec})


def mapping(name: str, user: str, how: str = "SameName", **spec: Any) -> Body:
    """A UserMapping for all connections of its namespace."""
    return manifest("UserMapping", name, {"user": user, "mapping": how, **spec})


def grant(
    name: str,
    *subjects: str,
    database: str,
    tables: str | list[str] = "*",
    schema: str = "sales",
    connection: str = "marketing",
    **spec: Any,
) -> Body:
    """An AccessGrant; subjects with an ``@`` are users, the others roles, and tables are patterns or a list of names."""
    if not {"access", "privileges"} & spec.keys():
        spec["access"] = "Read"
    which = {"matching": [tables]} if isinstance(tables, str) else {"names": tables}
    return manifest(
        "AccessGrant",
        name,
        {
            "connectionRef": {"name": connection},
            "database": database,
            "subjects": [{"kind": "User" if "@" in one else "Role", "name": one} for one in subjects],
            "objects": [{"tables": {"schema": schema, **which}}],
            **spec,
        },
    )
