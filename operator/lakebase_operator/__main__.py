"""The command line: ``lakebase-operator run``, ``plan``, ``access``."""

import asyncio
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from pydantic import ValidationError

from lakebase_operator import __version__
from lakebase_operator.domain.status import Verdict
from lakebase_operator.settings import Settings


class _Commands(click.Group):
    """A command line that is wrong ends with 1, as other errors do: 2, which is Click's, is what ``plan`` says of changes."""

    def make_context(self, *arguments: Any, **extra: Any) -> click.Context:
        with _ending_with_1():
            return super().make_context(*arguments, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        with _ending_with_1():
            return super().invoke(ctx)


@contextmanager
def _ending_with_1() -> Iterator[None]:
    try:
        yield
    except click.UsageError as error:
        error.show()
        raise click.exceptions.Exit(1) from error


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
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


def server_options(command: Callable[..., None]) -> Callable[..., None]:
    """Where the database is and who logs in, as libpq's environment variables say it."""
    options: tuple[Callable[[Callable[..., None]], Callable[..., None]], ...] = (
        click.option(
            "--sslrootcert",
            envvar="PGSSLROOTCERT",
            help="File with the certificates to trust. [PGSSLROOTCERT]",
        ),
        click.option(
            "--sslmode",
            envvar="PGSSLMODE",
            default="verify-full",
            show_default=True,
            type=click.Choice(["require", "verify-ca", "verify-full"]),
            help="TLS; it cannot be switched off. [PGSSLMODE]",
        ),
        click.option(
            "--user", envvar="PGUSER", required=True, help="A role; its password is PGPASSWORD. [PGUSER]"
        ),
        click.option("--port", envvar="PGPORT", default=5432, show_default=True, help="Its port. [PGPORT]"),
        click.option("--host", envvar="PGHOST", required=True, help="Host of the database. [PGHOST]"),
    )
    for option in options:
        command = option(command)
    return command


@main.command()
@click.option(
    "-f",
    "--filename",
    "paths",
    type=click.Path(exists=True, path_type=Path),
    required=True,
    multiple=True,
    help="A manifest, or a directory of manifests; may be given several times.",
)
@click.option("-n", "--namespace", default="default", show_default=True, help="Of objects that name none.")
@click.option("--connection", help="The LakebaseConnection, if the manifests have several.")
@server_options
def plan(paths: tuple[Path, ...], namespace: str, connection: str | None, **server: Any) -> None:
    """Print what manifests would change in a database. Changes nothing.

    Log in as the operator's role. Exit codes: 0, nothing would change; 2, something would; 1, it could not be found out, or
    a declaration cannot be carried out.
    """
    from lakebase_operator.runtime import offline  # noqa: PLC0415

    with _told():
        catalog = offline.read_manifests(paths, namespace)
        planned = offline.plan(catalog, offline.choose(catalog, connection), offline.target(**server))
    for finding in planned.findings:
        click.secho(f"{finding.key}: {finding.reason.value}: {finding.message}", err=True, fg="yellow")
    click.echo(planned.plan.text(), nl=False)
    stalled = any(finding.verdict is Verdict.STALLED for finding in planned.findings)
    sys.exit(1 if stalled else 2 if planned.plan else 0)


@main.command()
@click.option("--database", envvar="PGDATABASE", required=True, help="The database. [PGDATABASE]")
@click.option("--role", "roles", multiple=True, help="Only of these roles; by default of all that log in.")
@click.option("--schema", "schemas", multiple=True, help="Only in these schemas.")
@click.option("-o", "--output", type=click.Choice(["csv", "json"]), default="csv", show_default=True)
@server_options
def access(
    database: str, roles: tuple[str, ...], schemas: tuple[str, ...], output: str, **server: Any
) -> None:
    """Print who can do what in a database in the end, and by which way. Changes nothing.

    Counts what is granted, owned, held through PUBLIC, memberships and predefined roles, and tells of views and functions
    that may lend their owners' rights.
    """
    from lakebase_operator.runtime import access_report, offline  # noqa: PLC0415

    with _told():
        rows = access_report.report(offline.target(**server), database, roles or None, schemas or None)
    write = access_report.write_csv if output == "csv" else access_report.write_json
    write(rows, sys.stdout)


@contextmanager
def _told() -> Iterator[None]:
    """Failures that a person can do something about are one line, not a trace."""
    from lakebase_operator.domain.errors import LakebaseError  # noqa: PLC0415
    from lakebase_operator.runtime.offline import ManifestError  # noqa: PLC0415

    try:
        yield
    except ManifestError as error:
        raise click.ClickException(str(error)) from error
    except LakebaseError as error:
        raise click.ClickException(f"{error.reason.value}: {error.message}") from error


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
