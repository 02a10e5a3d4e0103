"""``lakebase-operator plan``: what the manifests of a directory would change in a database, without Kubernetes."""

import asyncio
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import yaml

from lakebase_operator.api import KINDS, LakebaseConnection
from lakebase_operator.api.base import API_VERSION
from lakebase_operator.api.lakebase_connection import TLSMode
from lakebase_operator.domain.instance import Instance, InstanceState
from lakebase_operator.engine.catalog import Catalog
from lakebase_operator.engine.clock import SystemClock
from lakebase_operator.engine.keys import ConnectionKey
from lakebase_operator.engine.observer import NullObserver
from lakebase_operator.external.postgres.errors import query_error
from lakebase_operator.external.postgres.session import SSL_MODES, Server, Timeouts
from lakebase_operator.reconcilers.access import Access, PasswordLogin
from lakebase_operator.reconcilers.planning import Planned, look

MANIFESTS = ("*.yaml", "*.yml", "*.json")


class ManifestError(Exception):
    """A manifest cannot be used; the message says which and why."""


@dataclass(frozen=True, slots=True)
class Target:
    """The database server to look at."""

    host: str
    port: int
    user: str
    password: str
    tls: TLSMode
    ca_file: str | None = None


def read_manifests(path: Path, namespace: str) -> Catalog:
    """The objects of our kinds in a file, or in all files below a directory. Other objects are left alone.

    Parameters
    ----------
    path
        A file or a directory.
    namespace
        Of objects that name none.

    Raises
    ------
    ManifestError
        A file is not YAML, or an object is not what its kind is.
    """
    catalog = Catalog()
    for file in _files(path):
        for body in _bodies(file):
            catalog.upsert(body["kind"], _as_stored(body, namespace))
    for key in catalog.connection_keys():
        for broken in catalog.broken(key):
            meta = broken.metadata
            raise ManifestError(f"{broken.kind} {meta.namespace}/{meta.name}: {broken.problem}")
    return catalog


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    return sorted({file for pattern in MANIFESTS for file in path.rglob(pattern)})


def _bodies(file: Path) -> Iterator[dict[str, Any]]:
    kinds = {model.kind_name for model in KINDS}
    try:
        documents = list(yaml.safe_load_all(file.read_text()))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ManifestError(f"{file}: {error}") from error
    for document in documents:
        items = document.get("items", [document]) if isinstance(document, dict) else []
        for body in items:
            if isinstance(body, dict) and body.get("apiVersion") == API_VERSION and body.get("kind") in kinds:
                yield body


def _as_stored(body: Mapping[str, Any], namespace: str) -> dict[str, Any]:
    """With what the API server would add."""
    meta = dict(body.get("metadata") or {})
    if not meta.get("name"):
        raise ManifestError(f"{body['kind']}: metadata.name is missing")
    meta.setdefault("namespace", namespace)
    meta |= {
        "uid": f"{body['kind']}/{meta['namespace']}/{meta['name']}",
        "generation": 1,
        "creationTimestamp": "1970-01-01T00:00:00Z",
    }
    return {**body, "metadata": meta}


def choose(catalog: Catalog, name: str | None) -> LakebaseConnection:
    """The connection to plan for: the named one (``namespace/name`` or ``name``), or the only one there is.

    Raises
    ------
    ManifestError
        There is none, or more than one.
    """
    known = {
        key: connection
        for key in catalog.connection_keys()
        if (connection := catalog.connection(key)) is not None
    }
    wanted = [key for key in known if name is None or name in (str(key), key.name)]
    if len(wanted) == 1:
        return known[wanted[0]]
    listed = ", ".join(map(str, known)) or "none"
    problem = "no such LakebaseConnection" if name else "name the LakebaseConnection with --connection"
    raise ManifestError(f"{problem}; the manifests have: {listed}")


def plan(catalog: Catalog, connection: LakebaseConnection, target: Target) -> Planned:
    """Look what the operator would do. Changes nothing.

    Raises
    ------
    LakebaseError
        The database cannot be reached or read.
    """
    return asyncio.run(_plan(catalog, connection, target))


async def _plan(catalog: Catalog, connection: LakebaseConnection, target: Target) -> Planned:
    meta = connection.metadata
    access = access_to(target)
    try:
        return await look(catalog, ConnectionKey(meta.namespace, meta.name), access, SystemClock())
    except psycopg.Error as error:
        raise query_error(error, doing="reading the database") from error


def access_to(target: Target) -> Access:
    """A way into the server with a password."""
    return Access(
        PasswordLogin(target.user, target.password, target.host),
        Server(target.host, target.port, target.tls, target.ca_file, Timeouts()),
        Instance(InstanceState.AVAILABLE, target.host),
        NullObserver(),
    )


def target(*, host: str, port: int, user: str, sslmode: str, sslrootcert: str | None) -> Target:
    """The server that the command line names. The password comes from the environment, where no process list shows it."""
    tls = {libpq: mode for mode, libpq in SSL_MODES.items()}[sslmode]
    return Target(host, port, user, os.environ.get("PGPASSWORD", ""), tls, sslrootcert)
