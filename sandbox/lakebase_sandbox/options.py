"""What the commands of the command line have in common."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from lakebase_sandbox import paths
from lakebase_sandbox.lifecycle import Programs, Sandbox
from lakebase_sandbox.paths import StateDirectory

_Command = TypeVar("_Command", bound=Callable[..., Any])


def _sandbox_at(context: click.Context, _: click.Parameter, directory: Path) -> Sandbox:
    return Sandbox(StateDirectory.at(directory), context.find_object(Programs))


def state_option(command: _Command) -> _Command:
    """`--state DIR`, as the argument `sandbox`."""
    return click.option(
        "--state",
        "sandbox",
        type=click.Path(file_okay=False, path_type=Path),
        callback=_sandbox_at,
        default=paths.DEFAULT_STATE,
        show_default=True,
        metavar="DIR",
        help="The sandbox's directory.",
    )(command)
