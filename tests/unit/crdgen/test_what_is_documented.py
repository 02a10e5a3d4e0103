"""Every condition, reason, Event and metric that the code can give is in the reference."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from lakebase_operator.api.conditions import CONDITIONS, ConditionType
from lakebase_operator.api.reasons import Reason
from lakebase_operator.engine.catalog import Catalog
from lakebase_operator.engine.clock import SystemClock
from lakebase_operator.engine.keys import ConnectionKey, ObjectKey
from lakebase_operator.engine.queue import WorkQueue
from lakebase_operator.runtime.metrics import PREFIX, Metrics

ROOT = Path(__file__).parents[3]
CODE = ROOT / "operator" / "lakebase_operator"
REFERENCE = ROOT / "docs" / "reference"
pytestmark = pytest.mark.requirement("R-208")


def trees() -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted(CODE.rglob("*.py")):
        yield path, ast.parse(path.read_text())


def test_each_reason_is_documented_and_given_somewhere() -> None:
    page = (REFERENCE / "reasons.md").read_text().partition("## All is well")[2]
    rows = dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", page, re.MULTILINE))
    assert rows.keys() == {reason.value for reason in Reason}
    assert all(len(meaning.split()) >= 3 for meaning in rows.values())
    used = {
        node.attr
        for path, tree in trees()
        if path.name != "reasons.py"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "Reason"
    }
    assert used <= set(Reason.__members__)
    unused = set(Reason.__members__) - used
    assert unused <= NOT_GIVEN, f"documented, and given nowhere: {sorted(unused - NOT_GIVEN)}"


NOT_GIVEN: set[str] = set()
"""Reasons that are reserved."""


def test_a_condition_or_an_event_never_carries_a_word_that_is_no_reason() -> None:
    """Reasons are members of the enumeration wherever one is given, never text."""
    for path, tree in trees():
        for call in ast.walk(tree):
            if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name)):
                continue
            where = f"{path.name}:{call.lineno}"
            match call.func.id, call.args:
                case "condition", [ast.Constant(value=kind), _, reason, *_]:
                    assert kind in {one.value for one in ConditionType}, where
                    assert not isinstance(reason, ast.Constant), where
                case "ObjectEvent", [_, reason, *_]:
                    assert not isinstance(reason, ast.Constant), where


def test_each_condition_is_on_the_page_of_its_kind() -> None:
    for kind, types in CONDITIONS.items():
        page = (REFERENCE / f"{kind.lower()}.md").read_text()
        found = re.findall(r"^\| `(\w+)` \| \S.*\|$", page.partition("### Conditions")[2], re.MULTILINE)
        assert found == [str(one) for one in types]


def test_each_metric_is_on_the_page_of_metrics_and_nothing_else_is() -> None:
    page = (REFERENCE / "metrics.md").read_text()
    documented = dict(re.findall(r"^\| `(\w+)` \| .* \| (.+) \|$", page, re.MULTILINE))
    queue: WorkQueue[ConnectionKey] = WorkQueue(SystemClock())
    objects: WorkQueue[ObjectKey] = WorkQueue(SystemClock())
    served = {
        f"{family.name}_total" if family.type == "counter" else family.name: family.documentation
        for family in Metrics(Catalog(), queue, objects).registry.collect()
        if family.name.startswith(PREFIX)
    }
    assert documented == served


def test_each_action_of_an_event_is_on_the_page_of_reasons_and_nothing_else_is() -> None:
    page = (REFERENCE / "reasons.md").read_text().partition("## Events")[2].partition("\n## ")[0]
    documented = set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))
    given = {"Reconcile"}  # unless said otherwise
    for _, tree in trees():
        for call in ast.walk(tree):
            match call:
                case ast.Call(func=ast.Name(id="ObjectEvent"), keywords=keywords):
                    given |= {one.value.value for one in keywords if isinstance(one.value, ast.Constant)}
                case _:
                    pass
    assert documented == given
