"""A cluster that is there already: the one that kubectl talks to now."""

from pathlib import Path

from lakebase_sandbox.errors import SandboxError
from lakebase_sandbox.files import write_private
from lakebase_sandbox.tools.kubectl import Kubectl


class ExistingCluster:
    """The current context of the user's own KUBECONFIG.

    Parameters:
        directory: where a kubeconfig of that context alone is written. Changing the current context afterwards does
            not lead the sandbox to another cluster.
    """

    def __init__(self, directory: Path) -> None:
        self.kubeconfig = directory.absolute() / "kubeconfig"

    def start(self) -> None:
        """Write the kubeconfig and see that the cluster answers.

        Raises:
            SandboxError: there is no current context, or it does not answer.
        """
        context = Kubectl().run("config", "view", "--minify", "--flatten", "--raw")
        write_private(self.kubeconfig, context)
        try:
            Kubectl(self.kubeconfig).run("get", "--raw", "/readyz", "--request-timeout=20s")
        except SandboxError as error:
            raise SandboxError(
                f"the cluster of your current kubectl context does not answer: {error}"
            ) from error

    def stop(self) -> None:
        """The cluster is not ours to stop."""
