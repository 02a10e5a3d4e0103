"""``bench/results/latest.json``: the last figures of each bench, side by side."""

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

RESULTS = Path(__file__).parent / "results"


def write(report: Mapping[str, Any]) -> None:
    """Replace these parts of the report; the others stay."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / "latest.json"
    known: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**known, **report}, indent=1) + "\n")


def save(bench: str, figures: Sequence["DataclassInstance"], machine: str) -> None:
    """Replace the figures of one bench."""
    write(
        {
            bench: {
                "at": datetime.now(UTC).isoformat(timespec="seconds"),
                "machine": f"{platform.machine()}, {machine}",
                "figures": [asdict(figure) for figure in figures],
            }
        }
    )
