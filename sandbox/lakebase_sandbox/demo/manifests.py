"""The manifests of examples/quickstart, and the few fields in which a sandbox differs from the real thing."""

import base64
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from lakebase_sandbox import paths
from lakebase_sandbox.files import write_private
from lakebase_sandbox.simulator_process import Simulator

QUICKSTART = paths.REPOSITORY / "examples" / "quickstart"
NAMESPACE = "lakebase-quickstart"

Manifest = dict[str, Any]

_CA_SECRET = "sandbox-ca"
_CA_KEY = "ca.crt"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is different in a sandbox.

    Parameters:
        ports: of the gateway, by the kind of target (`autoscaling`, `provisioned`).
        ca: the certificates (PEM) with which the gateways are checked.
    """

    workspace_url: str
    client_id: str
    client_secret: str = field(repr=False)
    ca: str
    ports: Mapping[str, int]

    @classmethod
    def of(cls, simulator: Simulator) -> "Surroundings":
        return cls(
            workspace_url=simulator.workspace_url,
            client_id=simulator.client_id,
            client_secret=simulator.client_secret,
            ca=simulator.ca_file.read_text(),
            ports={target.kind: target.gateway_port for target in simulator.targets.values()},
        )


def read_manifests(directory: Path) -> dict[str, list[Manifest]]:
    """The documents of all YAML files of a directory, by the name of the file, in the order of `kubectl apply`."""
    return {
        file.name: [document for document in yaml.safe_load_all(file.read_text()) if document]
        for file in sorted(directory.glob("*.yaml"))
    }


def adapted(manifest: Manifest, surroundings: Surroundings) -> Manifest:
    """The manifest for a sandbox: connections lead to it, and Secrets are filled in. Everything else stays as it is."""
    changed = deepcopy(manifest)
    if manifest["kind"] == "LakebaseConnection":
        spec = changed["spec"]
        (target,) = spec["target"]
        spec["workspaceURL"] = surroundings.workspace_url
        spec["port"] = surroundings.ports[target]
        spec["auth"]["oauthM2M"]["clientID"] = surroundings.client_id
        spec["tls"] = {**spec.get("tls", {}), "caRef": {"name": _CA_SECRET, "key": _CA_KEY}}
    elif manifest["kind"] == "Secret":
        changed["stringData"] = dict.fromkeys(manifest["stringData"], surroundings.client_secret)
    return changed


def ca_secret(surroundings: Surroundings) -> Manifest:
    """The Secret that `spec.tls.caRef` of every connection names in a sandbox."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": _CA_SECRET, "namespace": NAMESPACE},
        "data": {_CA_KEY: base64.b64encode(surroundings.ca.encode()).decode()},
    }


def with_spec(manifest: Manifest, **fields: Any) -> Manifest:
    """The manifest with some fields of its spec replaced or added."""
    return {**manifest, "spec": {**manifest["spec"], **fields}}


def renamed(manifest: Manifest, name: str) -> Manifest:
    """The manifest as that of another object."""
    return {**manifest, "metadata": {**manifest["metadata"], "name": name}}


def find(manifests: Iterable[Manifest], kind: str, name: str) -> Manifest:
    """The manifest of that object.

    Raises:
        LookupError: there is none.
    """
    for manifest in manifests:
        if (manifest["kind"], manifest["metadata"]["name"]) == (kind, name):
            return manifest
    raise LookupError(f"the quickstart has no {kind} {name}")


def write_manifests(path: Path, manifests: Iterable[Manifest]) -> None:
    """Write a YAML file that only we can read: a Secret may be in it."""
    write_private(path, yaml.safe_dump_all(manifests, sort_keys=False, allow_unicode=True))
