"""Each scenario of the demo, told once from an empty machine to its end."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from lakebase_operator.api.reasons import Reason
from lakebase_sandbox.__main__ import main
from lakebase_sandbox.demo.manifests import EXAMPLES

_CODE = re.compile(r"`([A-Z][A-Za-z]+)`")


pytestmark = pytest.mark.timeout(600)


def run(directory: Path, scenario: str) -> None:
    """Tell a scenario, and expect every check of it to pass."""
    state = str(directory / f"demo-{scenario}")
    answer = CliRunner().invoke(main, ["demo", "--state", state, "--scenario", scenario])
    assert failed_checks(answer.output) == []
    assert answer.exit_code == 0, answer.output
    assert re.fullmatch(r"[1-9]\d* passed, 0 failed", answer.stdout.splitlines()[-1])


def failed_checks(output: str) -> list[str]:
    """What a demo says of each check that failed: the check, what was expected and what was seen, in a line."""
    blocks = re.findall(r"^  ✗ .*(?:\n {6}.*)*", output, flags=re.MULTILINE)
    return [" ".join(block.split()) for block in blocks]


def test_every_check_of_the_quickstart_passes(short_tmp: Path) -> None:
    run(short_tmp, "quickstart")


@pytest.mark.requirement(
    *("R-82", "R-83", "R-86", "R-95", "R-100", "R-103", "R-113", "R-114", "R-115", "R-117", "R-118", "R-122"),
    *("R-124", "R-125", "R-129", "R-131", "R-132", "R-134", "R-135", "R-136", "R-138", "R-141", "R-143"),
    *("R-144", "R-160"),
)
def test_every_check_of_the_elementum_guide_passes(short_tmp: Path) -> None:
    run(short_tmp, "elementum")


def test_the_default_scenario_is_the_quickstart() -> None:
    (option,) = (one for one in main.commands["demo"].params if one.name == "scenario")
    assert option.default == "quickstart"


def test_every_reason_that_the_elementum_guide_names_exists() -> None:
    _, troubleshooting = (EXAMPLES / "elementum" / "README.md").read_text().split("## Troubleshooting")
    rows = [line.split("|") for line in troubleshooting.splitlines() if line.startswith("| ")]
    named = {code for row in rows for code in _CODE.findall(row[-2])}
    assert len(named) > 20
    assert named <= set(Reason)
