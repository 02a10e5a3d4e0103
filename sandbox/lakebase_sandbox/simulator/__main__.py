"""`python -m lakebase_sandbox.simulator --state DIR`: a simulator in the foreground until SIGTERM."""

import asyncio
import logging
import signal
from dataclasses import replace
from pathlib import Path

import click
from pydantic import TypeAdapter, ValidationError

from lakebase_sandbox.simulator.settings import SimulatorSettings
from lakebase_sandbox.simulator.simulator import LakebaseSimulator, run_until


@click.command()
@click.option(
    "--state",
    "state_directory",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Directory for ready.json, the CA certificate and the servers' logs.",
)
@click.option(
    "--settings",
    "settings_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="JSON file with fields of SimulatorSettings, such as the targets.",
)
def main(state_directory: Path, settings_file: Path | None) -> None:
    """Run a simulated Lakebase workspace; DIR/ready.json says how to reach it once it is ready."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    state_directory.mkdir(parents=True, exist_ok=True)
    (state_directory / "ready.json").unlink(missing_ok=True)
    settings = SimulatorSettings()
    if settings_file is not None:
        try:
            settings = TypeAdapter(SimulatorSettings).validate_json(settings_file.read_bytes())
        except ValidationError as error:
            raise click.BadParameter(str(error), param_hint="--settings") from error
    asyncio.run(_run(state_directory, replace(settings, log_directory=state_directory / "postgres")))


async def _run(state_directory: Path, settings: SimulatorSettings) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    try:
        await run_until(LakebaseSimulator(settings, state_directory=state_directory), stop)
    finally:
        (state_directory / "ready.json").unlink(missing_ok=True)


if __name__ == "__main__":
    main()
