"""How a generated page is written, or with ``--check`` compared."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def write_or_compare(page: Path, text: str) -> int:
    """Write a page; with ``--check`` on the command line only see whether it is up to date.

    Returns
    -------
    The exit code.
    """
    if "--check" not in sys.argv[1:]:
        page.write_text(text)
        return 0
    if not page.exists() or page.read_text() != text:
        print(f"{page.relative_to(ROOT)} is not up to date: run `make generate`", file=sys.stderr)
        return 1
    return 0
