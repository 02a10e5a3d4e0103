"""The rules that the watcher holds every status of the session to: it does see where they are broken."""

import copy

import pytest

from tests.cluster.kube import Body
from tests.cluster.watcher import violations

READY = {"type": "Ready", "status": "True", "reason": "Succeeded", "message": "", "observedGeneration": 2}
NOT_READY = READY | {"status": "False", "reason": "InstanceStopped", "message": "The instance is stopped."}
RECONCILING = NOT_READY | {"type": "Reconciling", "status": "True"}
STALLED = NOT_READY | {"type": "Stalled", "status": "True"}


def body(*conditions: Body, observed: int = 2, **metadata: object) -> Body:
    return {
        "kind": "AccessGrant",
        "metadata": {"namespace": "n", "name": "g", "generation": 2, **metadata},
        "status": {"observedGeneration": observed, "conditions": [copy.deepcopy(one) for one in conditions]},
    }


@pytest.mark.parametrize(
    "good",
    [
        body(READY),
        body(NOT_READY, RECONCILING),
        body(NOT_READY, STALLED, deletionTimestamp="2030-01-01T00:00:00Z"),
        body(READY, deletionTimestamp="2030-01-01T00:00:00Z", generation=3),
        {**body(), "status": {"observedGeneration": -1}},
    ],
    ids=["ready", "waiting", "blocked deletion", "deletion not seen yet", "not seen yet"],
)
def test_what_keeps_the_rules_is_let_through(good: Body) -> None:
    assert violations(good) == []


@pytest.mark.parametrize(
    ("bad", "word"),
    [
        ({**body(), "status": {}}, "no status.observedGeneration"),
        ({**body(), "status": {"observedGeneration": 2}}, "without any condition"),
        (body(RECONCILING), "not exactly one Ready"),
        (body(READY, READY), "twice"),
        (body(READY, RECONCILING), "beside"),
        (body(READY, STALLED), "beside"),
        (body(NOT_READY), "beside"),
        (body(NOT_READY, RECONCILING, STALLED), "beside"),
        (body(READY, observed=1), "speaks of generation 2"),
        (body(READY | {"observedGeneration": 1}), "speaks of generation 1"),
        (body(READY, generation=1), "does not exist yet"),
        (body(READY, deletionTimestamp="2030-01-01T00:00:00Z"), "deletion is acknowledged"),
        (body(NOT_READY | {"message": ""}, RECONCILING), "does not say why"),
    ],
)
def test_what_breaks_a_rule_is_named(bad: Body, word: str) -> None:
    assert any(word in told for told in violations(bad)), violations(bad)
