"""Kubeconfig files: how a program reaches an API server, and as whom."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lakebase_sandbox.errors import SandboxError
from lakebase_sandbox.files import write_private


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An API server and the certificate authority to trust it by."""

    server: str
    ca: bytes
    """PEM."""


def write_kubeconfig(
    path: Path, endpoint: Endpoint, *, user: str, token: str, namespace: str = "default"
) -> None:
    """Write a kubeconfig with one context, for one bearer token."""
    name = "lakebase-sandbox"
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": name,
                "cluster": {
                    "server": endpoint.server,
                    "certificate-authority-data": base64.b64encode(endpoint.ca).decode(),
                },
            }
        ],
        "users": [{"name": user, "user": {"token": token}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": user, "namespace": namespace}}],
        "current-context": name,
    }
    write_private(path, yaml.safe_dump(document, sort_keys=False))


def read_endpoint(path: Path) -> Endpoint:
    """The API server of the only context in a self-contained kubeconfig (`kubectl config view --minify --flatten`).

    Raises:
        SandboxError: it has no such server, or no certificate authority for it.
    """
    try:
        cluster: Mapping[str, Any] = yaml.safe_load(path.read_text())["clusters"][0]["cluster"]
        return Endpoint(cluster["server"], base64.b64decode(cluster["certificate-authority-data"]))
    except (KeyError, IndexError, TypeError) as error:
        raise SandboxError(
            f"{path} names no API server with a certificate authority of its own: {error!r}"
        ) from error
