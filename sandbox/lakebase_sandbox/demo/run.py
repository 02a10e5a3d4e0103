"""From nothing to a sandbox, through the story, and back to nothing."""

import shlex
import shutil
import signal
import time

from rich.console import Console

from lakebase_sandbox.demo.manifests import read_example
from lakebase_sandbox.demo.narrator import Narrator
from lakebase_sandbox.demo.stage import Stage, demo_directory
from lakebase_sandbox.demo.story import Story
from lakebase_sandbox.lifecycle import Sandbox
from lakebase_sandbox.progress import Progress
from lakebase_sandbox.session import ClusterKind
from lakebase_sandbox.tools.kubectl import Kubectl


def run_demo(sandbox: Sandbox, scenario: type[Story], *, keep: bool) -> bool:
    """Start the sandbox if it does not run, tell the story, and stop everything again, also after Ctrl-C.

    Parameters:
        scenario: the story.
        keep: leave everything running and as the story left it.

    Returns:
        Whether all checks passed.

    Raises:
        SandboxError: the sandbox did not start.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C, so that nothing is left running
    narrator = Narrator(Console(), sandbox.state.logs)
    example = read_example(scenario.example)
    started = time.monotonic()
    try:
        narrator.chapter("A Kubernetes control plane, a simulated Lakebase, and the operator from its chart")
        session = sandbox.session()
        kind = session.cluster.kind if session else ClusterKind.EMBEDDED
        with Progress() as progress:
            sandbox.up(kind, with_operator=True, progress=progress)
        ready = time.monotonic()
        scenario(narrator, Stage.of(sandbox, example, scenario.kinds)).tell()
        narrator.chapter(f"Set up in {ready - started:.0f} s, told in {time.monotonic() - ready:.0f} s")
        if keep:
            state = shlex.quote(str(sandbox.state.root))
            narrator.say(f'Everything goes on: eval "$(lakebase-sandbox env --state {state})"')
    finally:
        if not keep:
            _take_down(sandbox, example.namespace)
    narrator.close()
    return narrator.failed == 0


def _take_down(sandbox: Sandbox, namespace: str) -> None:
    with Progress() as progress, progress.step("Stopping everything"):
        session = sandbox.session()
        if session is not None and session.cluster.kind is ClusterKind.KUBECONFIG:
            # The cluster outlives the operator, without which its objects could not be deleted.
            Kubectl(session.cluster.kubeconfig).run("delete", "namespace", namespace, "--ignore-not-found")
        sandbox.down()
    shutil.rmtree(demo_directory(sandbox), ignore_errors=True)
