"""A cluster of kind: Kubernetes in Docker, with a node that runs pods."""

import shutil
import subprocess
from pathlib import Path

from lakebase_sandbox.errors import SandboxError

START_TIMEOUT_SECONDS = 300


class KindCluster:
    """A kind cluster of one node.

    Parameters:
        name: its name in kind, by which any later process finds it again.
        directory: where its administrator's kubeconfig is written.
    """

    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        self.kubeconfig = directory.absolute() / "kubeconfig"

    @staticmethod
    def check_requirements() -> None:
        """See that kind and a running docker are there.

        Raises:
            SandboxError: they are not.
        """
        for program in ("docker", "kind"):
            if shutil.which(program) is None:
                raise SandboxError(
                    f"--cluster kind needs {program} on PATH: install it, or use --cluster embedded"
                )
        try:
            subprocess.run(["docker", "info"], capture_output=True, text=True, check=True, timeout=30)
        except subprocess.CalledProcessError as error:
            raise SandboxError(f"--cluster kind needs a running docker: {error.stderr.strip()}") from error
        except subprocess.TimeoutExpired as error:
            raise SandboxError("--cluster kind needs a running docker: it does not answer") from error

    def start(self) -> None:
        """Create it anew; one of that name that an earlier run left is deleted first.

        Raises:
            SandboxError: kind failed; with what it said.
        """
        self.stop()
        self.kubeconfig.parent.mkdir(parents=True, exist_ok=True)
        self._kind("create", f"--wait={START_TIMEOUT_SECONDS}s")

    def stop(self) -> None:
        """Delete it, if it is there."""
        self._kind("delete")

    def _kind(self, verb: str, *options: str) -> None:
        command = [
            "kind",
            verb,
            "cluster",
            f"--name={self.name}",
            f"--kubeconfig={self.kubeconfig}",
            *options,
        ]
        try:
            subprocess.run(command, capture_output=True, text=True, check=True)
        except subprocess.CalledProcessError as error:
            raise SandboxError(f"kind {verb} cluster failed: {error.stderr.strip()}") from error
        except FileNotFoundError as error:
            raise SandboxError(f"kind is not on PATH any more: it is needed to {verb} {self.name}") from error
