"""The command line: `lakebase-sandbox up`, and what can be done with a sandbox that is up."""

import shlex
import sys
from typing import Any

import click
from rich.console import Console

from lakebase_sandbox.cluster.build import controlplane_binary
from lakebase_sandbox.demo import SCENARIOS, run_demo
from lakebase_sandbox.environment import environment
from lakebase_sandbox.errors import SandboxError
from lakebase_sandbox.lifecycle import Sandbox
from lakebase_sandbox.options import state_option
from lakebase_sandbox.progress import Progress
from lakebase_sandbox.session import ClusterKind
from lakebase_sandbox.simulator_process import AdminClient, read_simulator
from lakebase_sandbox.status import status_table


class _Commands(click.Group):
    """Says an error of ours in one line, without a trace."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except SandboxError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """A Kubernetes control plane and a simulated Databricks Lakebase on this machine, without containers."""


@main.command()
@state_option
@click.option(
    "--cluster",
    type=click.Choice([kind.value for kind in ClusterKind]),
    default=ClusterKind.EMBEDDED.value,
    show_default=True,
    help="embedded: a control plane of its own; kind: a cluster in Docker; kubeconfig: the one kubectl talks to now.",
)
@click.option("--no-operator", is_flag=True, help="Install no chart and start no operator.")
def up(sandbox: Sandbox, cluster: str, no_operator: bool) -> None:
    """Start a sandbox, and return when all of it is ready."""
    with Progress() as progress:
        started = sandbox.up(ClusterKind(cluster), with_operator=not no_operator, progress=progress)
        state = shlex.quote(str(sandbox.state.root))
        progress.note("Ready." if started else "Running already.")
        progress.note(f'To use it from this shell: eval "$(lakebase-sandbox env --state {state})"')


@main.command()
@state_option
def down(sandbox: Sandbox) -> None:
    """Stop a sandbox. Its logs stay; its data do not: the next start begins anew."""
    with Progress() as progress, progress.step("Stopping"):
        stopped = sandbox.down()
    if not stopped:
        click.echo(f"Nothing runs in {sandbox.state.root}.", err=True)


@main.command()
@state_option
def status(sandbox: Sandbox) -> None:
    """Show what runs. The exit code is 0 if everything does, 1 otherwise."""
    session = sandbox.session()
    records = sandbox.processes.all()
    if session is None and not records:
        click.echo(f"Nothing runs in {sandbox.state.root}.", err=True)
        sys.exit(1)
    whole = session is not None and session.ready_at is not None and all(r.find() for r in records)
    console = Console()
    if not console.is_terminal:
        console.width = 160  # nothing is cut off in a file or a pipe
    console.print(status_table(records, read_simulator(sandbox.state.simulator) if whole else None))
    sys.exit(0 if whole else 1)


@main.command()
@state_option
def env(sandbox: Sandbox) -> None:
    """Print `export NAME=…` lines for a shell."""
    simulator = sandbox.simulator()
    session = sandbox.session()
    if session is None:
        raise SandboxError(f"the sandbox in {sandbox.state.root} is not ready")
    variables = environment(simulator, kubeconfig=session.cluster.kubeconfig, bin_directory=sandbox.state.bin)
    for name, value in variables.items():
        click.echo(f"export {name}={shlex.quote(value)}")


@main.command()
@state_option
@click.option("--target", required=True, help="A Postgres of the sandbox: autoscaling or provisioned.")
@click.option("--user", required=True, help="Whose credential: a user's or service principal's name.")
def login(sandbox: Sandbox, target: str, user: str) -> None:
    """Print a database credential (the password of a login) of an identity of the workspace."""
    click.echo(AdminClient(sandbox.simulator()).login(target, user).token)


@main.command("set")
@state_option
@click.argument("target")
@click.argument("state")
def set_state(sandbox: Sandbox, target: str, state: str) -> None:
    """Bring TARGET's compute into STATE, such as ACTIVE, IDLE or STOPPED."""
    AdminClient(sandbox.simulator()).set_state(target, state)


@main.command("native-login")
@state_option
@click.argument("target")
@click.argument("switch", type=click.Choice(["on", "off"]))
def native_login(sandbox: Sandbox, target: str, switch: str) -> None:
    """Let roles log in to TARGET with a Postgres password, or not, as somebody in the workspace would."""
    AdminClient(sandbox.simulator()).set_native_login(target, enabled=switch == "on")


@main.command()
@state_option
@click.argument("resource")
def port(sandbox: Sandbox, resource: str) -> None:
    """Print the port of RESOURCE, such as instances/NAME, whether it exists already or is still to be made."""
    click.echo(AdminClient(sandbox.simulator()).port_of(resource))


@main.command()
@state_option
@click.option("--clear", is_flag=True, help="End all faults.")
@click.argument("target", required=False)
@click.argument("name", required=False)
@click.argument("arguments", nargs=-1, metavar="[ARGS]...")
def fault(
    sandbox: Sandbox, clear: bool, target: str | None, name: str | None, arguments: tuple[str, ...]
) -> None:
    """Let something go wrong at TARGET, or --clear: everything is well again."""
    client = AdminClient(sandbox.simulator())
    if clear:
        client.clear_faults()
    elif target is None or name is None:
        raise click.UsageError("TARGET and NAME are needed, or --clear")
    else:
        client.add_fault(target, name, arguments)


@main.command()
@state_option
@click.option(
    "--scenario",
    type=click.Choice(list(SCENARIOS)),
    default=next(iter(SCENARIOS)),
    show_default=True,
    help="Which of the examples is shown.",
)
@click.option("--keep", is_flag=True, help="Leave everything running at the end, to look at it.")
def demo(sandbox: Sandbox, scenario: str, keep: bool) -> None:
    """Show and check what the operator does, on a sandbox that is started for it and stopped at the end.

    The last line is `N passed, N failed`; the exit code is 0 only if no check failed.
    """
    sys.exit(0 if run_demo(sandbox, SCENARIOS[scenario], keep=keep) else 1)


@main.command()
def build() -> None:
    """Compile the embedded control plane, if that has not been done yet, and print where it is."""
    with Progress() as progress:
        binary = controlplane_binary(progress=progress)
    click.echo(binary)


if __name__ == "__main__":
    main()
