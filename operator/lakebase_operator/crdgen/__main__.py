"""``python -m lakebase_operator.crdgen``: writes the CRDs and the API reference, or checks that they are up to date."""

import sys
from pathlib import Path

import click

from lakebase_operator.crdgen.files import CHART_CRDS, differences, generate, write
from lakebase_operator.crdgen.schema import UnsupportedSchema

_DIFF_LINES = 12


@click.command(name="python -m lakebase_operator.crdgen")
@click.option(
    "--check", is_flag=True, help="Change nothing; exit 1 and say what differs if something is out of date."
)
@click.option(
    "--root",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=Path(),
    help="The project's top folder; by default the current one.",
)
def main(check: bool, root: Path) -> None:
    """Write crds/, the chart's CRD templates and docs/reference/ from the models."""
    if not (root / CHART_CRDS.parts[0]).is_dir():
        raise click.UsageError(f"{root.resolve()} is not the project's top folder; run there or give --root")
    try:
        files = generate()
    except UnsupportedSchema as problem:
        raise click.ClickException(str(problem)) from problem
    if check:
        _report(differences(root, files), total=len(files))
    else:
        for path in write(root, files):
            click.echo(f"wrote {path}")


def _report(found: dict[Path, str], *, total: int) -> None:
    for path, difference in found.items():
        lines = difference.splitlines()
        click.echo(f"{path}: out of date", err=True)
        for line in lines[:_DIFF_LINES]:
            click.echo(f"  {line}", err=True)
        if len(lines) > _DIFF_LINES:
            click.echo(f"  … and {len(lines) - _DIFF_LINES} more lines", err=True)
    if found:
        click.echo(
            f"{len(found)} of {total} generated files differ; run: python -m lakebase_operator.crdgen",
            err=True,
        )
        sys.exit(1)
    click.echo(f"{total} generated files are up to date")


if __name__ == "__main__":
    main()
