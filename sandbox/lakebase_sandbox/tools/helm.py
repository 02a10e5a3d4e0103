"""The everyday part of Helm's command line, for machines without Helm: `python -m lakebase_sandbox.tools.helm`.

The work is done by Helm's own library (package helm-python-sdk); only the command line is ours. Where a real `helm`
is on PATH, the sandbox uses that one.
"""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
import helm_python
import yaml

from lakebase_sandbox.errors import SandboxError
from lakebase_sandbox.tools.kubectl import Kubectl

_UNITS = {"h": 3600, "m": 60, "s": 1}
_LIST_COLUMNS = ("NAME", "NAMESPACE", "REVISION", "UPDATED", "STATUS", "CHART", "APP VERSION")

_Command = TypeVar("_Command", bound=Callable[..., Any])


class _Duration(click.ParamType[int]):
    """`5m`, `1h30m` or `45s`, as whole seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        if not re.fullmatch(r"(\d+[hms])+", value):
            self.fail(f"{value!r} is no duration like 5m, 1h30m or 45s", param, ctx)
        return sum(int(count) * _UNITS[unit] for count, unit in re.findall(r"(\d+)([hms])", value))


def _cluster_options(command: _Command) -> _Command:
    for option in (
        click.option("--kube-context", metavar="NAME", help="Context of the kubeconfig."),
        click.option("--kubeconfig", type=click.Path(path_type=Path), envvar="KUBECONFIG", metavar="FILE"),
        click.option("-n", "--namespace", default="default", show_default=True),
    ):
        command = option(command)
    return command


def _values_options(command: _Command) -> _Command:
    for option in (
        click.option(
            "--set", "sets", multiple=True, metavar="A=1,B.C=2", help="Single values; stronger than files."
        ),
        click.option(
            "--set-string", "set_strings", multiple=True, metavar="A=1", help="The same, never numbers."
        ),
        click.option(
            "-f",
            "--values",
            "files",
            multiple=True,
            type=click.Path(exists=True, dir_okay=False, path_type=Path, allow_dash=True),
            help="A file of values; of several, the last is the strongest.",
        ),
    ):
        command = option(command)
    return command


def _release_options(command: _Command) -> _Command:
    for option in (
        click.option(
            "--timeout", type=_Duration(), default="5m", show_default=True, help="Patience of --wait."
        ),
        click.option(
            "--wait", is_flag=True, help="Wait until pods run, where the cluster has nodes to run them."
        ),
        click.option("--create-namespace", is_flag=True),
    ):
        command = option(command)
    return command


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def helm() -> None:
    """Install charts in a Kubernetes cluster: the everyday part of Helm's command line."""


@helm.command()
@click.argument("name")
@click.argument("chart")
@_cluster_options
@_values_options
@_release_options
def install(
    *,
    name: str,
    chart: str,
    namespace: str,
    kubeconfig: Path | None,
    kube_context: str | None,
    create_namespace: bool,
    wait: bool,
    timeout: int,
    **values: Any,
) -> None:
    """Install CHART (a directory or archive) as release NAME."""
    with _config(namespace, kubeconfig, kube_context) as config:
        release = config.install(
            chart,
            name,
            _merged_values(**values),
            create_namespace=create_namespace,
            wait=_wait_mode(wait, kubeconfig),
            timeout=timeout,
        )
    _print_release(release)


@helm.command()
@click.argument("name")
@click.argument("chart")
@click.option("-i", "--install", "or_install", is_flag=True, help="Install it if there is no such release.")
@_cluster_options
@_values_options
@_release_options
def upgrade(
    *,
    name: str,
    chart: str,
    or_install: bool,
    namespace: str,
    kubeconfig: Path | None,
    kube_context: str | None,
    create_namespace: bool,
    wait: bool,
    timeout: int,
    **values: Any,
) -> None:
    """Upgrade release NAME to CHART and to these values."""
    merged = _merged_values(**values)
    mode = _wait_mode(wait, kubeconfig)
    with _config(namespace, kubeconfig, kube_context) as config:
        if or_install and not _exists(config, name):
            release = config.install(
                chart, name, merged, create_namespace=create_namespace, wait=mode, timeout=timeout
            )
        else:
            release = config.upgrade(chart, name, merged, wait=mode, timeout=timeout)
    _print_release(release)


@helm.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--ignore-not-found", is_flag=True)
@click.option("--wait", is_flag=True, expose_value=False, help="Accepted; deletion is not waited for.")
@_cluster_options
def uninstall(
    *,
    names: tuple[str, ...],
    ignore_not_found: bool,
    namespace: str,
    kubeconfig: Path | None,
    kube_context: str | None,
) -> None:
    """Remove releases."""
    with _config(namespace, kubeconfig, kube_context) as config:
        for name in names:
            answer = config.uninstall(name, ignore_not_found=ignore_not_found)
            if info := answer.get("info"):
                click.echo(info)
            click.echo(f'release "{name}" uninstalled')


@helm.command("list")
@click.option("-A", "--all-namespaces", is_flag=True)
@click.option(
    "-o", "--output", type=click.Choice(["table", "json", "yaml"]), default="table", show_default=True
)
@_cluster_options
def list_releases(
    *, all_namespaces: bool, output: str, namespace: str, kubeconfig: Path | None, kube_context: str | None
) -> None:
    """List releases."""
    # An empty namespace is Helm's word for all of them.
    with _config("" if all_namespaces else namespace, kubeconfig, kube_context) as config:
        releases = config.list(all_namespaces=all_namespaces, all_states=True)
    rows = [
        {
            "name": release["name"],
            "namespace": release["namespace"],
            "revision": str(release["revision"]),
            "updated": release["deployed_at"],
            "status": release["status"],
            "chart": f"{release['chart_name']}-{release['chart_version']}",
            "app_version": release.get("app_version", ""),
        }
        for release in releases
    ]
    if output == "json":
        click.echo(json.dumps(rows))
    elif output == "yaml":
        click.echo(yaml.safe_dump(rows, sort_keys=False), nl=False)
    else:
        _print_table([_LIST_COLUMNS, *(tuple(row.values()) for row in rows)])


@helm.command()
@click.argument("name")
@click.argument("chart")
@click.option("-n", "--namespace", default="default", show_default=True)
@_values_options
def template(*, name: str, chart: str, namespace: str, **values: Any) -> None:
    """Print what installing CHART as NAME would create, without a cluster."""
    with helm_python.Config(namespace=namespace, storage_driver="memory") as config:
        release = config.install(chart, name, _merged_values(**values), dry_run="client")
    click.echo(release["manifest"], nl=False)


@helm.command()
def version() -> None:
    """Print the version of Helm's library."""
    click.echo(helm_python.helm_sdk_version())


def main() -> None:
    """Run the command line; what fails is said in one line, as Helm does."""
    try:
        helm.main(prog_name="helm", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(130)
    except (helm_python.HelmError, SandboxError) as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(1)


def _config(namespace: str, kubeconfig: Path | None, context: str | None) -> helm_python.Config:
    return helm_python.Config(namespace=namespace, kubeconfig_path=kubeconfig, kube_context=context)


def _exists(config: helm_python.Config, name: str) -> bool:
    try:
        return bool(config.history(name, max_revisions=1))
    except helm_python.HelmNotFoundError:
        return False


def _wait_mode(wait: bool, kubeconfig: Path | None) -> str | None:
    """Helm's way to wait. Without nodes no pod ever runs, so there is nothing to wait for but hooks."""
    if not wait:
        return None
    has_nodes = bool(Kubectl(kubeconfig).run("get", "nodes", "--output=name").strip())
    return "watcher" if has_nodes else "hookOnly"


def _merged_values(
    files: tuple[Path, ...], sets: tuple[str, ...], set_strings: tuple[str, ...]
) -> dict[str, Any]:
    """Files first, then --set, then --set-string; later ones are stronger, and maps are merged."""
    merged: dict[str, Any] = {}
    for file in files:
        with click.open_file(str(file)) as content:
            merged = _merge(merged, helm_python.values_from_yaml(content.read()))
    if sets:
        merged = _merge(merged, helm_python.parse_set_string(",".join(sets)))
    if set_strings:
        merged = _merge(merged, helm_python.parse_set_string_values(",".join(set_strings)))
    return merged


def _merge(base: dict[str, Any], stronger: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in stronger.items():
        ours = merged.get(key)
        merged[key] = _merge(ours, value) if isinstance(ours, dict) and isinstance(value, dict) else value
    return merged


def _print_release(release: dict[str, Any]) -> None:
    for label, key in (
        ("NAME", "name"),
        ("LAST DEPLOYED", "deployed_at"),
        ("NAMESPACE", "namespace"),
        ("STATUS", "status"),
        ("REVISION", "revision"),
    ):
        click.echo(f"{label}: {release[key]}")
    if notes := release.get("notes"):
        click.echo(f"NOTES:\n{notes.rstrip()}")


def _print_table(rows: list[tuple[str, ...]]) -> None:
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


if __name__ == "__main__":
    main()
