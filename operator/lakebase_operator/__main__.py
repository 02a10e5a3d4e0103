"""The command line: ``lakebase-operator run``."""

import asyncio
import logging
import os
import sys

import click
from pydantic import ValidationError

from lakebase_operator import __version__
from lakebase_operator.settings import Settings


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Keep who may do what in Databricks Lakebase Postgres equal to what Kubernetes manifests declare."""


@main.command()
def version() -> None:
    """Print the version."""
    click.echo(__version__)


@main.command()
def run() -> None:
    """Run the operator until SIGTERM. Settings are environment variables LAKEBASE_OPERATOR_…"""
    try:
        settings = Settings()
    except ValidationError as error:
        problems = "\n".join(
            f"  {_place(one['loc'])}: {one['msg']}" for one in error.errors(include_url=False)
        )
        raise click.ClickException(f"the settings are not valid\n{problems}") from error
    sys.exit(_run(settings))


def _run(settings: Settings) -> int:
    # Imported here: the other commands need not wait for it.
    from lakebase_operator import reconcilers  # noqa: PLC0415
    from lakebase_operator.external.databricks import honour_ssl_cert_file  # noqa: PLC0415
    from lakebase_operator.runtime import logs  # noqa: PLC0415
    from lakebase_operator.runtime.app import run_operator  # noqa: PLC0415

    honour_ssl_cert_file(os.environ)
    redactor = logs.Redactor()
    logs.configure(settings.log_format, settings.log_level, redactor)

    async def operate() -> None:
        await run_operator(
            settings,
            asyncio.Event(),
            build_reconciler=reconcilers.build,
            redactor=redactor,
            handle_signals=True,
        )

    logger = logging.getLogger(__package__)
    try:
        asyncio.run(operate())
    except Exception:
        logger.exception("The operator cannot go on; start it again")
        return 1
    logger.info("Stopped as asked")
    return 0


def _place(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in location) or "LAKEBASE_OPERATOR_…"


if __name__ == "__main__":
    main(prog_name="lakebase-operator")
