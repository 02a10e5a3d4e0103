"""What a pass has to say, put together from its steps."""

from lakebase_operator.api import LakebaseConnection
from lakebase_operator.api.reasons import Reason
from lakebase_operator.domain.status import Verdict, condition
from lakebase_operator.reconcilers.report import Report


def connection() -> LakebaseConnection:
    return LakebaseConnection.from_object(
        {
            "metadata": {"name": "marketing", "namespace": "team", "uid": "u"},
            "spec": {
                "target": {"server": {"host": "db.example.com"}},
                "auth": {"password": {"secretRef": {"name": "login"}}},
            },
        }
    )


def test_what_a_dry_run_found_of_an_object_is_said_beside_what_is_said_already() -> None:
    subject, first, second = connection(), Report(), Report()
    first.fact(subject, condition("InstanceAvailable", True, Reason.AVAILABLE))
    first.fields(subject, {"endpoint": {"state": "ACTIVE"}})
    second.fact(subject, condition("Authenticated", True, Reason.AUTHENTICATED))
    second.fact(subject, condition("InstanceAvailable", False, Reason.UNREACHABLE))
    second.fields(subject, {"operatorRole": "operator", "endpoint": {}})
    first.take(second)
    assert not first.said(), "nobody has given a verdict"
    first.ready(subject, Reason.SUCCEEDED, "As declared.")
    (saying,) = first.said()
    assert saying.facts.keys() == {"InstanceAvailable", "Authenticated"}
    assert saying.facts["InstanceAvailable"]["reason"] == Reason.AVAILABLE
    assert saying.fields == {"endpoint": {"state": "ACTIVE"}, "operatorRole": "operator"}


def test_a_verdict_that_was_given_stands() -> None:
    subject, first, second = connection(), Report(), Report()
    first.waiting(subject, Reason.PLANNED, "Waits.")
    second.ready(subject, Reason.SUCCEEDED, "As declared.")
    first.take(second)
    (saying,) = first.said()
    assert (saying.verdict, saying.reason) == (Verdict.RECONCILING, Reason.PLANNED)
