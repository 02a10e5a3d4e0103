"""``lakebase-operator plan``: what the manifests of a directory would change in a database, without Kubernetes."""

import asyncio
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import psycopg
import yaml
from pydantic import ValidationError

from lakebase_operator.api import LakebaseConnection
from lakebase_operator.api.base import API_VERSION, GROUP, Model, ObjectMeta
from lakebase_operator.api.lakebase_connection import TLSMode
from lakebase_operator.domain.instance import Instance, InstanceState
from lakebase_operator.engine.catalog import MODELS, Broken, Catalog, problem_of
from lakebase_operator.engine.clock import SystemClock
from lakebase_operator.engine.keys import ConnectionKey, ObjectKey
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


class _Loader(yaml.SafeLoader):
    """Leaves moments as the texts that they are, as kubectl does."""


_Loader.yaml_implicit_resolvers = {
    first: [one for one in resolvers if one[0] != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read_manifests(paths: Iterable[Path], namespace: str) -> Catalog:
    """The objects of our kinds in files, and in all files below directories. Other objects are left alone.

    Parameters
    ----------
    paths
        Files and directories.
    namespace
        Of objects that name none.

    Raises
    ------
    ManifestError
        A file is not YAML, or an object is not what its kind is.
    """
    catalog = Catalog()
    for file in (file for path in paths for file in _files(path)):
        try:
            for body in _bodies(file):
                _take(catalog, _as_stored(body, namespace))
        except ManifestError as error:
            raise ManifestError(f"{file}: {error}") from error
    return catalog


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    return sorted({file for pattern in MANIFESTS for file in path.rglob(pattern) if not file.is_dir()})


def _bodies(file: Path) -> Iterator[dict[str, Any]]:
    try:
        documents = list(yaml.load_all(file.read_text("utf-8"), _Loader))
    except OSError as error:
        raise ManifestError(f"cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, ValueError) as error:
        # Without the library's own words: they repeat the line, which may be that of a Secret.
        mark = getattr(error, "problem_mark", None)
        where = f": see line {mark.line + 1}, column {mark.column + 1}" if mark else " in UTF-8"
        raise ManifestError(f"is not YAML{where}") from error
    for document in documents:
        yield from _ours(document)


def _ours(document: object) -> Iterator[dict[str, Any]]:
    if not isinstance(document, dict):
        return
    if isinstance(items := document.get("items"), list):
        for item in items:
            yield from _ours(item)
        return
    version, kind = document.get("apiVersion"), document.get("kind")
    if not isinstance(version, str) or not version.startswith(f"{GROUP}/"):
        return
    if version != API_VERSION or kind not in list(MODELS):
        raise ManifestError(f"there is no kind {kind} in {version}")
    try:
        yield json.loads(json.dumps(document))  # what kubectl makes of it, too
    except (TypeError, ValueError) as error:
        raise ManifestError(f"{kind}: is not JSON: {error}") from error


def _as_stored(body: Mapping[str, Any], namespace: str) -> dict[str, Any]:
    """With what the API server would add, and without the status, which it would not take."""
    meta = body.get("metadata")
    if not isinstance(meta, Mapping) or not meta.get("name"):
        raise ManifestError(f"{body['kind']}: metadata.name is missing")
    given = {name: value for name, value in meta.items() if value is not None}
    home = given.get("namespace") or namespace
    added = {
        "namespace": home,
        "uid": f"{body['kind']}/{home}/{meta['name']}",
        "generation": 1,
        "creationTimestamp": "1970-01-01T00:00:00Z",
    }
    return {"kind": body["kind"], "metadata": {**given, **added}, "spec": body.get("spec")}


def _take(catalog: Catalog, body: Mapping[str, Any]) -> None:
    kind, meta = body["kind"], body["metadata"]
    key = ObjectKey(kind, meta["namespace"], meta["name"])
    try:
        ObjectMeta.model_validate(meta)
    except ValidationError as error:
        raise ManifestError(f"{key}: {problem_of(error, 'metadata')}") from error
    catalog.upsert(kind, body)
    found = catalog.get(key)
    if isinstance(found, Broken):
        raise ManifestError(f"{key}: {found.problem}")
    try:
        # Unknown fields would be refused on their way into the cluster.
        cast("type[Model]", MODELS[kind].model_fields["spec"].annotation).model_validate(
            body["spec"], extra="forbid", by_alias=True, by_name=False
        )
    except ValidationError as error:
        raise ManifestError(f"{key}: {problem_of(error, 'spec')}") from error


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
    if not known:
        raise ManifestError("the manifests have no LakebaseConnection")
    listed = ", ".join(map(str, known))
    problem = (
        "name the LakebaseConnection with --connection, as namespace/name"
        if wanted or name is None
        else "no such LakebaseConnection"
    )
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
