"""What a story is played on: a running sandbox, seen through kubectl, Helm and the gateways of its databases."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from lakebase_sandbox.demo.database import Database
from lakebase_sandbox.demo.manifests import Example, Manifest, Surroundings, write_manifests
from lakebase_sandbox.demo.objects import Objects
from lakebase_sandbox.errors import SandboxError
from lakebase_sandbox.lifecycle import Sandbox
from lakebase_sandbox.operator_process import NAMESPACE as OPERATOR_NAMESPACE
from lakebase_sandbox.simulator_process import AdminClient
from lakebase_sandbox.tools.kubectl import Kubectl


def demo_directory(sandbox: Sandbox) -> Path:
    """Where the manifests are written as they are applied, secrets included."""
    return sandbox.state.root / "demo"


@dataclass(frozen=True, slots=True)
class Stage:
    """A running sandbox.

    Parameters:
        example: adapted to the sandbox.
        kubectl: as an administrator.
        operator_kubectl: with the operator's own kubeconfig.
        objects: those of the example's namespace.
        directory: for manifests as they are applied.
    """

    sandbox: Sandbox
    example: Example
    kubectl: Kubectl
    operator_kubectl: Kubectl
    objects: Objects
    simulator: AdminClient
    directory: Path
    helm: Path
    kubeconfig: Path

    @classmethod
    def of(cls, sandbox: Sandbox, example: Example, kinds: str) -> "Stage":
        """
        Parameters:
            kinds: of the example, as kubectl takes them.

        Raises:
            SandboxError: the sandbox does not run.
        """
        session, ready = sandbox.session(), sandbox.simulator()
        if session is None:
            raise SandboxError(f"the sandbox in {sandbox.state.root} is not ready")
        kubectl, simulator = Kubectl(session.cluster.kubeconfig), AdminClient(ready)
        return cls(
            sandbox=sandbox,
            example=example.adapted(Surroundings.of(ready, simulator, example)),
            kubectl=kubectl,
            operator_kubectl=Kubectl(sandbox.state.operator / "kubeconfig"),
            objects=Objects(kubectl, example.namespace, kinds),
            simulator=simulator,
            directory=demo_directory(sandbox),
            helm=sandbox.state.bin / "helm",
            kubeconfig=session.cluster.kubeconfig,
        )

    @property
    def namespace(self) -> str:
        return self.example.namespace

    def find_database(self, connection: str) -> Database | None:
        """The database that a connection of the example leads to; None: there is none."""
        port = self.example.find("LakebaseConnection", connection)["spec"]["port"]
        ready = self.sandbox.simulator()
        for name, target in ready.targets.items():
            if target.gateway_port == port:
                return Database(name, target, self.simulator, ready.ca_file)
        return None

    def database(self, connection: str) -> Database:
        """The database that a connection of the example leads to.

        Raises:
            SandboxError: there is none.
        """
        found = self.find_database(connection)
        if found is None:
            raise SandboxError(f"the sandbox has no database for the connection {connection}")
        return found

    def apply_example(self) -> str:
        """Apply all manifests; returns what kubectl says.

        Raises:
            SandboxError: the API server refuses one.
        """
        directory = self.directory / self.example.name
        for file, manifests in self.example.files.items():
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
        self.kubectl.run("delete", "namespace", self.namespace, "--ignore-not-found", "--timeout=120s")

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
