"""Runs the parts of the tests, some of them side by side, and sums up. Each part is a pytest of its own, with servers of its own."""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
PARTS = (
    "postgres",  # the longest first, so that nothing waits for it in the end
    "cluster",
    "chart",
    "simulator",
    "databricks",
    "engine_cluster",
    "sandbox",
    "examples",
    "crds",
    "unit",
)
_WORKERS = {"postgres": ("--numprocesses=2", "--dist=worksteal")}
"""The longest part waits for its servers half of the time: two of it at once, with servers of their own, keep the processors busy."""
_MESSAGE_CHARACTERS = 400
_PRINTING = threading.Lock()


@dataclass(frozen=True, slots=True)
class Result:
    """How one part went."""

    part: str
    exit_code: int
    seconds: float
    tests: int = 0
    skipped: int = 0
    failures: tuple[tuple[str, str], ...] = ()
    """The name of each test that failed, and what was wrong."""

    @property
    def failed(self) -> int:
        return len(self.failures)

    @property
    def passed(self) -> int:
        return self.tests - self.failed - self.skipped


def run(part: str) -> Result:
    """Run one part, and show what it prints line by line, with its name before each."""
    started = time.monotonic()
    with _workspace(part) as directory:
        report = directory / "report.xml"
        command = [
            *(sys.executable, "-m", "pytest", f"tests/{part}"),
            # A directory of its own: pytest's common one is cleaned up by whoever ends first.
            *(f"--basetemp={directory / 't'}", f"--junit-xml={report}"),
            *_WORKERS.get(part, ()),
        ]
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        )
        assert process.stdout is not None
        for line in process.stdout:
            with _PRINTING:
                print(f"{part:>14} │ {line.rstrip()}", flush=True)
        code = process.wait()
        seconds = time.monotonic() - started
        return _reported(report, Result(part, code, seconds))


@contextmanager
def _workspace(part: str) -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix=f"lkb-{part}-"))
    directory.chmod(0o711)  # a PostgreSQL server that is another user must come through
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _reported(report: Path, result: Result) -> Result:
    """The result with what pytest reports of it; as it is if it did not come to that."""
    if not report.exists():
        return result
    cases = list(ET.parse(report).getroot().iter("testcase"))  # noqa: S314  # pytest's own
    failures = tuple(
        (f"{case.get('classname')}::{case.get('name')}", wrong.get("message", ""))
        for case in cases
        for wrong in (*case.iterfind("failure"), *case.iterfind("error"))
    )
    skipped = sum(case.find("skipped") is not None for case in cases)
    return replace(result, tests=len(cases), skipped=skipped, failures=failures)


def main() -> int:
    """Exit code 0 only if every part passed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"default: {' '.join(PARTS)}")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1), help="parts side by side")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    parts = [part for part in PARTS if not options.parts or part in options.parts]
    started = time.monotonic()
    with ThreadPoolExecutor(options.jobs) as pool:
        results = list(pool.map(run, parts))
    _sum_up(results, time.monotonic() - started)
    return 0 if all(one.exit_code == 0 for one in results) else 1


def _sum_up(results: list[Result], seconds: float) -> None:
    table = Table(title=f"{seconds / 60:.1f} minutes", title_justify="left")
    table.add_column("part")
    for column in ("passed", "failed", "skipped", "seconds"):
        table.add_column(column, justify="right")
    table.add_column("")
    for one in results:
        good = one.exit_code == 0
        table.add_row(
            one.part,
            *map(str, (one.passed, one.failed, one.skipped)),
            f"{one.seconds:.0f}",
            "[green]ok[/]" if good else f"[red]exit code {one.exit_code}[/]",
        )
    Console().print(table)
    # Once more at the very end: who sees only the end of a log has to see what is wrong.
    for one in results:
        for name, message in one.failures:
            print(f"{name}\n    {' '.join(message.split())[:_MESSAGE_CHARACTERS]}")
    print(f"{sum(one.passed for one in results)} passed, {sum(one.failed for one in results)} failed")


if __name__ == "__main__":
    sys.exit(main())
