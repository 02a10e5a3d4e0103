"""The manifests of an example, and the few fields in which a sandbox differs from the real thing."""

import base64
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from lakebase_sandbox import paths
from lakebase_sandbox.files import write_private
from lakebase_sandbox.simulator_process import AdminClient, Simulator

EXAMPLES = paths.REPOSITORY / "examples"

Manifest = dict[str, Any]

_CA_SECRET = "sandbox-ca"
_CA_KEY = "ca.crt"


@dataclass(frozen=True, slots=True)
class Example:
    """A directory in examples/: everything of one namespace.

    Parameters:
        files: the documents of its YAML files by the files' names, in the order of `kubectl apply`.
    """

    name: str
    files: Mapping[str, list[Manifest]]

    @property
    def manifests(self) -> list[Manifest]:
        return [manifest for manifests in self.files.values() for manifest in manifests]

    @property
    def namespace(self) -> str:
        (namespace,) = (one for one in self.manifests if one["kind"] == "Namespace")
        return str(namespace["metadata"]["name"])

    @property
    def object_count(self) -> int:
        """Objects of the operator's kinds."""
        return sum(manifest["apiVersion"].startswith("lakebase.dev/") for manifest in self.manifests)

    def find(self, kind: str, name: str) -> Manifest:
        """The manifest of that object.

        Raises:
            LookupError: there is none.
        """
        for manifest in self.manifests:
            if (manifest["kind"], manifest["metadata"]["name"]) == (kind, name):
                return manifest
        raise LookupError(f"the example {self.name} has no {kind} {name}")

    def resources(self) -> dict[str, str]:
        """What the control plane calls the targets of the connections, by the connections' names."""
        return {
            manifest["metadata"]["name"]: self._resource(manifest["spec"]["target"])
            for manifest in self.manifests
            if manifest["kind"] == "LakebaseConnection"
        }

    def adapted(self, surroundings: "Surroundings") -> "Example":
        """The same for a sandbox."""
        files = {
            file: [adapted(manifest, surroundings) for manifest in manifests]
            for file, manifests in self.files.items()
        }
        return Example(self.name, {**files, "15-sandbox-ca.yaml": [ca_secret(surroundings, self.namespace)]})

    def _resource(self, target: Mapping[str, Any]) -> str:
        match target:
            case {"autoscaling": {"project": project, "branch": str(branch), "endpoint": str(endpoint)}}:
                return f"projects/{project}/branches/{branch}/endpoints/{endpoint}"
            case {"provisioned": {"instance": instance}}:
                return f"instances/{instance}"
            case {"instanceRef": {"name": name}}:
                return self._resource(self.find("LakebaseInstance", name)["spec"])
        raise LookupError(f"the example {self.name} has a target that no sandbox has: {target}")


def read_example(name: str) -> Example:
    """The example as it is in the checkout."""
    return Example(name, read_manifests(EXAMPLES / name))


def read_manifests(directory: Path) -> dict[str, list[Manifest]]:
    """The documents of all YAML files of a directory, by the name of the file, in the order of `kubectl apply`."""
    return {
        file.name: [document for document in yaml.safe_load_all(file.read_text()) if document]
        for file in sorted(directory.glob("*.yaml"))
    }


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is different in a sandbox.

    Parameters:
        ports: of the gateways, by the name of the connection that leads there.
        ca: the certificates (PEM) with which the gateways are checked.
    """

    workspace_url: str
    client_id: str
    client_secret: str = field(repr=False)
    ca: str
    ports: Mapping[str, int]

    @classmethod
    def of(cls, simulator: Simulator, admin: AdminClient, example: Example) -> "Surroundings":
        """Those of an example, whose Lakebases need not exist yet."""
        return cls(
            workspace_url=simulator.workspace_url,
            client_id=simulator.client_id,
            client_secret=simulator.client_secret,
            ca=simulator.ca_file.read_text(),
            ports={name: admin.port_of(resource) for name, resource in example.resources().items()},
        )


def adapted(manifest: Manifest, surroundings: Surroundings) -> Manifest:
    """The manifest for a sandbox: it leads there, and Secrets are filled in. Everything else stays as it is."""
    changed = deepcopy(manifest)
    spec = changed.get("spec", {})
    if manifest["kind"] == "Secret":
        changed["stringData"] = dict.fromkeys(manifest["stringData"], surroundings.client_secret)
    if "workspaceURL" in spec:
        spec["workspaceURL"] = surroundings.workspace_url
    if "auth" in spec:
        spec["auth"]["oauthM2M"]["clientID"] = surroundings.client_id
    if manifest["kind"] == "LakebaseConnection":
        spec["port"] = surroundings.ports[manifest["metadata"]["name"]]
        spec["tls"] = {**spec.get("tls", {}), "caRef": {"name": _CA_SECRET, "key": _CA_KEY}}
    return changed


def ca_secret(surroundings: Surroundings, namespace: str) -> Manifest:
    """The Secret that `spec.tls.caRef` of every connection names in a sandbox."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": _CA_SECRET, "namespace": namespace},
        "data": {_CA_KEY: base64.b64encode(surroundings.ca.encode()).decode()},
    }


def with_spec(manifest: Manifest, **fields: Any) -> Manifest:
    """The manifest with some fields of its spec replaced or added."""
    return {**manifest, "spec": {**manifest["spec"], **fields}}


def renamed(manifest: Manifest, name: str) -> Manifest:
    """The manifest as that of another object."""
    return {**manifest, "metadata": {**manifest["metadata"], "name": name}}


def write_manifests(path: Path, manifests: Iterable[Manifest]) -> None:
    """Write a YAML file that only we can read: a Secret may be in it."""
    write_private(path, yaml.safe_dump_all(manifests, sort_keys=False, allow_unicode=True))
