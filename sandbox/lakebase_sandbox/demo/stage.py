"""What the story is played on: a running sandbox, seen through kubectl, Helm and the gateways of its databases."""

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lakebase_sandbox.demo.database import Database
from lakebase_sandbox.demo.manifests import (
    NAMESPACE,
    QUICKSTART,
    Manifest,
    Surroundings,
    adapted,
    ca_secret,
    find,
    read_manifests,
    write_manifests,
)
from lakebase_sandbox.demo.objects import Objects
from lakebase_sandbox.errors import SandboxError
from lakebase_sandbox.lifecycle import Sandbox
from lakebase_sandbox.operator_process import NAMESPACE as OPERATOR_NAMESPACE
from lakebase_sandbox.simulator_process import AdminClient
from lakebase_sandbox.tools.kubectl import Kubectl

MARKETING = "marketing"
MARKETING_DB = "marketing-db"

_TARGETS = {MARKETING: "autoscaling", MARKETING_DB: "provisioned"}
"""The sandbox's targets, by the name of the connection that leads to them."""


def demo_directory(sandbox: Sandbox) -> Path:
    """Where the manifests are written as they are applied, secrets included."""
    return sandbox.state.root / "demo"


@dataclass(frozen=True, slots=True)
class Stage:
    """A running sandbox.

    Parameters:
        kubectl: as an administrator.
        operator_kubectl: with the operator's own kubeconfig.
        databases: by the name of the connection that leads to them.
        manifests: of the quickstart, adapted to the sandbox, by file name.
        directory: for manifests as they are applied.
    """

    kubectl: Kubectl
    operator_kubectl: Kubectl
    objects: Objects
    simulator: AdminClient
    databases: Mapping[str, Database]
    manifests: Mapping[str, list[Manifest]]
    directory: Path
    helm: Path
    kubeconfig: Path

    @classmethod
    def of(cls, sandbox: Sandbox) -> "Stage":
        """
        Raises:
            SandboxError: the sandbox does not run.
        """
        session, ready = sandbox.session(), sandbox.simulator()
        if session is None:
            raise SandboxError(f"the sandbox in {sandbox.state.root} is not ready")
        kubectl, simulator = Kubectl(session.cluster.kubeconfig), AdminClient(ready)
        surroundings = Surroundings.of(ready)
        quickstart = {
            file: [adapted(manifest, surroundings) for manifest in manifests]
            for file, manifests in read_manifests(QUICKSTART).items()
        }
        return cls(
            kubectl=kubectl,
            operator_kubectl=Kubectl(sandbox.state.operator / "kubeconfig"),
            objects=Objects(kubectl, NAMESPACE),
            simulator=simulator,
            databases={
                connection: Database(target, ready.targets[target], simulator, ready.ca_file)
                for connection, target in _TARGETS.items()
            },
            manifests={**quickstart, "15-sandbox-ca.yaml": [ca_secret(surroundings)]},
            directory=demo_directory(sandbox),
            helm=sandbox.state.bin / "helm",
            kubeconfig=session.cluster.kubeconfig,
        )

    @property
    def object_count(self) -> int:
        """Objects of the operator's kinds in the quickstart."""
        return sum(
            manifest["apiVersion"].startswith("lakebase.dev/")
            for manifests in self.manifests.values()
            for manifest in manifests
        )

    def grant(self, name: str) -> Manifest:
        """An AccessGrant of the quickstart."""
        return find((one for manifests in self.manifests.values() for one in manifests), "AccessGrant", name)

    def apply_quickstart(self) -> str:
        """Apply all manifests; returns what kubectl says.

        Raises:
            SandboxError: the API server refuses one.
        """
        directory = self.directory / "quickstart"
        for file, manifests in self.manifests.items():
            write_manifests(directory / file, manifests)
        return self.kubectl.run("apply", f"--filename={directory}")

    def apply(self, file: str, manifest: Manifest) -> str:
        """Write a manifest into a file and apply it; returns what kubectl says.

        Raises:
            SandboxError: the API server refuses it.
        """
        write_manifests(self.directory / file, [manifest])
        return self.kubectl.run("apply", f"--filename={self.directory / file}")

    def clear(self) -> None:
        """Remove what an earlier run has declared; with its grants, of which the operator takes care."""
        self.kubectl.run("delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=120s")

    def releases(self) -> str:
        """What `helm list` shows.

        Raises:
            SandboxError: Helm failed.
        """
        answer = subprocess.run(
            [self.helm, "list", "--namespace", OPERATOR_NAMESPACE, "--kubeconfig", self.kubeconfig],
            capture_output=True,
            text=True,
            check=False,
        )
        if answer.returncode:
            raise SandboxError(f"helm list: {answer.stderr.strip()}")
        return answer.stdout

    def operator_user(self) -> str:
        """Who the operator is for the API server."""
        answer = json.loads(self.operator_kubectl.run("auth", "whoami", "--output=json"))
        return str(answer["status"]["userInfo"]["username"])
