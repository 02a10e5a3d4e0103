"""The table of `lakebase-sandbox status`."""

import time
from collections.abc import Iterable
from contextlib import suppress
from datetime import timedelta

import psutil
from rich.table import Table

from lakebase_sandbox.processes import ProcessRecord
from lakebase_sandbox.simulator_process import Simulator


def status_table(records: Iterable[ProcessRecord], simulator: Simulator | None) -> Table:
    """One row for each process, and one for each Postgres behind the simulator's gateway."""
    table = Table(box=None, header_style="bold")
    for column in ("component", "state", "pid", "address", "uptime", "memory"):
        table.add_column(column, no_wrap=True, overflow="ignore" if column == "address" else "ellipsis")
    for record in records:
        process = record.find()
        if process is None:
            table.add_row(record.name, "[red]ended[/]", str(record.id.pid), record.address or "", "", "")
            continue
        uptime = timedelta(seconds=round(time.time() - record.id.create_time))
        memory = f"{_resident_bytes(process) / 2**20:.0f} MiB"
        table.add_row(
            record.name, "[green]running[/]", str(record.id.pid), record.address or "", str(uptime), memory
        )
    for name, target in simulator.targets.items() if simulator else ():
        kind = f"PostgreSQL {target.postgres_version}"
        table.add_row(f"  {name}", kind, "", f"{target.gateway_host}:{target.gateway_port}", "", "")
    return table


def _resident_bytes(process: psutil.Process) -> int:
    """Memory of a process and all its own processes; what they share is counted in each."""
    total = 0
    with suppress(psutil.NoSuchProcess):
        for member in [process, *process.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                total += member.memory_info().rss
    return total
