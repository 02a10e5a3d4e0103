"""``bench/results/latest.json``: the last figures of each bench, side by side."""

import json
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def save(bench: str, figures: Sequence[Mapping[str, Any]], machine: str) -> None:
    """Replace the figures of the workloads that were run; those of others stay.

    Parameters
    ----------
    bench
        ``passes`` or ``scale``.
    figures
        Each with its ``workload``.
    machine
        What the figures were measured on.
    """
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / "latest.json"
    report: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    known = report.get(bench, {}).get("workloads", {})
    at = datetime.now(UTC).isoformat(timespec="seconds")
    for name in dict.fromkeys(figure["workload"] for figure in figures):
        of = [
            {key: one[key] for key in one if key != "workload"} for one in figures if one["workload"] == name
        ]
        known[name] = {"at": at, "machine": f"{platform.machine()}, {machine}", "figures": of}
    path.write_text(json.dumps({**report, bench: {"workloads": known}}, indent=1) + "\n")
