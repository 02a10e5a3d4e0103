"""``bench/results/latest.json``: the last figures of each bench, one beside the other."""

import json
import platform
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

RESULTS = Path(__file__).parent / "results"


def save(bench: str, figures: Sequence["DataclassInstance"]) -> None:
    """Replace the figures of one bench."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / "latest.json"
    report: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    report[bench] = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
        "figures": [asdict(figure) for figure in figures],
    }
    path.write_text(json.dumps(report, indent=1) + "\n")
