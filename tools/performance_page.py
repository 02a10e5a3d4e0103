"""Writes the figures of bench/results/latest.json into docs/performance.md, between the marks that name them.

``--check`` writes nothing and fails if the page is not up to date.
"""

import json
import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from generated import ROOT, write_or_compare

RESULTS = ROOT / "bench" / "results" / "latest.json"
PAGE = ROOT / "docs" / "performance.md"
_MARKED = re.compile(r"<!-- (?P<name>\w+) -->\n.*?<!-- end -->", re.DOTALL)


def main() -> int:
    """Write the page, or compare it."""
    results = json.loads(RESULTS.read_text())
    scale = results["scale"]["workloads"]
    tables = {"passes": _passes(results["passes"]["workloads"])} | {
        name: _scale(scale[name]) for name in ("grants", "fleet")
    }
    written = _MARKED.sub(
        lambda found: "\n".join((f"<!-- {found['name']} -->", *tables[found["name"]], "<!-- end -->")),
        PAGE.read_text(),
    )
    return write_or_compare(PAGE, written)


def _passes(workloads: Mapping[str, Any]) -> list[str]:
    rows = [
        f"| {name} | {one['postgres']} | {one['what']} | {_amount(one)} | {one['against']} | {one['ratio']:.2f} × |"
        for name, workload in workloads.items()
        for one in workload["figures"]
    ]
    head = ["| | PostgreSQL | what | measured | against | is |", "|---|---|---|---|---|---|"]
    return [*head, *rows, "", *_where(workloads.values())]


def _amount(figure: Mapping[str, Any]) -> str:
    value = figure["seconds"]
    return f"{value / 1e6:.2f} MB" if figure["what"].endswith("bytes") else f"{value:.3f} s"


def _scale(workload: Mapping[str, Any]) -> list[str]:
    rows = []
    for one in workload["figures"]:
        limit = one["limit"]
        bound = "" if limit is None else f"{limit:g} {one['unit']}".strip()
        mark = "" if limit is None else "✓" if one["value"] <= limit else "✗"
        rows.append(f"| {one['what']} | {one['value']:.4g} {one['unit']} | {bound} | {mark} |")
    return ["| what | measured | at most | |", "|---|---|---|---|", *rows, "", *_where([workload])]


def _where(workloads: Any) -> Iterator[str]:
    for place in dict.fromkeys(f"{one['at'][:10]}, {one['machine']}" for one in workloads):
        yield f"Measured {place}."


if __name__ == "__main__":
    sys.exit(main())
