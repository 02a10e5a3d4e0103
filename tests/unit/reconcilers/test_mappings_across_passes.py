"""A UserMapping without a connection holds for all of its namespace, whose passes end in any order; it has one status."""

from typing import Any

import pytest

from lakebase_operator.api import LakebaseConnection, UserMapping
from lakebase_operator.api.reasons import Reason
from lakebase_operator.domain.status import Verdict
from lakebase_operator.engine.catalog import Catalog
from lakebase_operator.engine.keys import ConnectionKey
from lakebase_operator.reconcilers.known_roles import Roles
from lakebase_operator.reconcilers.people import MappingResults, resolve
from lakebase_operator.reconcilers.report import Report
from lakebase_operator.reconcilers.view import View

ONE, OTHER = ConnectionKey("team", "one"), ConnectionKey("team", "other")


def connection(name: str) -> dict[str, Any]:
    target = {"target": {"server": {"host": "db.example.com"}}}
    auth = {"auth": {"password": {"secretRef": {"name": "login"}}}}
    return {"metadata": {"name": name, "namespace": "team", "uid": name}, "spec": target | auth}


def mapping(generation: int = 1) -> UserMapping:
    meta = {"name": "carol", "namespace": "team", "uid": "carol", "generation": generation}
    return UserMapping.from_object(
        {"metadata": meta, "spec": {"user": "carol@example.com", "mapping": "None"}}
    )


@pytest.fixture
def results() -> MappingResults:
    catalog = Catalog()
    for name in ("one", "other"):
        catalog.upsert("LakebaseConnection", connection(name))
    return MappingResults(catalog)


def look(
    results: MappingResults, key: ConnectionKey, of: UserMapping, report: Report | None = None
) -> Report:
    """What a pass over a connection finds."""
    report = report or Report()
    subject = LakebaseConnection.from_object(connection(key.name))
    resolve(View(key, subject, (), (of,), (), (), ()), Roles({}), results, report)
    return report


def written(report: Report) -> tuple[Verdict | None, Reason, list[str]]:
    """What the status is made of when its turn comes."""
    (saying,) = report.said()
    status = saying.status({})
    return saying.verdict, saying.reason, [one["connection"] for one in status["roles"]]


def test_a_pass_that_writes_last_says_what_the_others_have_found_meanwhile(results: MappingResults) -> None:
    first = look(results, ONE, mapping())
    second = look(results, OTHER, mapping())
    assert written(second) == (Verdict.READY, Reason.NO_ACCOUNT, ["team/one", "team/other"])
    assert written(first) == written(second)


def test_until_then_it_waits_for_the_others(results: MappingResults) -> None:
    report = look(results, ONE, mapping())
    assert written(report) == (Verdict.RECONCILING, Reason.CONNECTION_NOT_READY, ["team/one"])


def test_a_verdict_that_somebody_else_has_given_stands(results: MappingResults) -> None:
    report, subject = Report(), mapping()
    report.stalled(subject, Reason.CONFLICTING_DECLARATIONS, "Delete one of them.")
    look(results, ONE, subject, report)
    look(results, OTHER, subject)
    assert written(report) == (Verdict.STALLED, Reason.CONFLICTING_DECLARATIONS, ["team/one", "team/other"])
    planned = look(results, ONE, subject)
    planned.planned(subject, "Waits.")
    assert written(planned)[:2] == (Verdict.RECONCILING, Reason.PLANNED)


def test_a_pass_that_began_before_an_edit_and_ends_after_it_says_nothing(results: MappingResults) -> None:
    look(results, OTHER, mapping(generation=2))
    late = look(results, ONE, mapping())
    assert late.said() == ()
    assert written(look(results, ONE, mapping(generation=2))) == (
        *(Verdict.READY, Reason.NO_ACCOUNT),
        ["team/one", "team/other"],
    )


def test_what_was_found_of_an_older_spec_is_said_as_it_was(results: MappingResults) -> None:
    old = look(results, ONE, mapping())
    new = look(results, OTHER, mapping(generation=2))
    assert written(old) == (Verdict.RECONCILING, Reason.CONNECTION_NOT_READY, ["team/one"])
    assert written(new) == (Verdict.RECONCILING, Reason.CONNECTION_NOT_READY, ["team/other"])
