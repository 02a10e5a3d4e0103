"""`python -m lakebase_sandbox.simulator --state DIR`: a simulator in the foreground until SIGTERM."""

import asyncio
import logging
import signal
from pathlib import Path

import click

from lakebase_sandbox.simulator.settings import SimulatorSettings
from lakebase_sandbox.simulator.simulator import LakebaseSimulator, run_until


@click.command()
@click.option(
    "--state",
    "state_directory",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Directory for ready.json, the CA certificate and the servers' data.",
)
def main(state_directory: Path) -> None:
    """Run a simulated Lakebase workspace; DIR/ready.json says how to reach it once it is ready."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    state_directory.mkdir(parents=True, exist_ok=True)
    (state_directory / "ready.json").unlink(missing_ok=True)
    asyncio.run(_run(state_directory))


async def _run(state_directory: Path) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    settings = SimulatorSettings(directory=state_directory / "postgres")
    try:
        await run_until(LakebaseSimulator(settings, state_directory=state_directory), stop)
    finally:
        (state_directory / "ready.json").unlink(missing_ok=True)


if __name__ == "__main__":
    main()
