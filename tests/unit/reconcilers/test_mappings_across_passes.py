"""A UserMapping without a connection holds for all of its namespace, whose passes end in any order; it has one status."""

from datetime import UTC, datetime
from typing import Any, cast

import pytest

from lakebase_operator.api import LakebaseConnection, PostgresRole, UserMapping
from lakebase_operator.api.reasons import Reason
from lakebase_operator.domain.status import Verdict
from lakebase_operator.engine.catalog import Catalog
from lakebase_operator.engine.keys import ConnectionKey
from lakebase_operator.reconcilers.context import Context
from lakebase_operator.reconcilers.ending import count_pending
from lakebase_operator.reconcilers.known_roles import Roles
from lakebase_operator.reconcilers.memory import Memory
from lakebase_operator.reconcilers.people import MappingResults, resolve
from lakebase_operator.reconcilers.report import Report
from lakebase_operator.reconcilers.services import Services
from lakebase_operator.reconcilers.timing import Pauses
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
    (saying,) = (one for one in report.said() if isinstance(one.subject, UserMapping))
    status = saying.status({})
    return saying.verdict, saying.reason, [one["connection"] for one in status["roles"]]


def pending(report: Report, subject: LakebaseConnection) -> int:
    """``status.pendingChanges``."""
    (saying,) = (one for one in report.said() if one.subject is subject)
    return int(saying.fields["pendingChanges"])


def test_a_pass_that_writes_last_says_what_the_others_have_found_meanwhile(results: MappingResults) -> None:
    first = look(results, ONE, mapping())
    second = look(results, OTHER, mapping())
    assert written(second) == (Verdict.READY, Reason.NO_ACCOUNT, ["team/one", "team/other"])
    assert written(first) == written(second)


def test_until_then_it_waits_for_the_others(results: MappingResults) -> None:
    report = look(results, ONE, mapping())
    assert written(report) == (Verdict.RECONCILING, Reason.CONNECTION_NOT_READY, ["team/one"])


def test_what_waits_for_another_connection_only_is_no_pending_change_of_this_one(
    results: MappingResults,
) -> None:
    report, subject = Report(), LakebaseConnection.from_object(connection("one"))
    view = View(ONE, subject, (), (mapping(),), (), (), ())
    memory = Memory("one", Pauses(1, 2))
    context = Context(cast(Services, None), view, memory, results, datetime.now(UTC), report=report)
    resolve(view, Roles({}), results, report)
    report.ready(subject, Reason.SUCCEEDED, "")
    count_pending(context, subject)
    assert written(report)[:2] == (Verdict.RECONCILING, Reason.CONNECTION_NOT_READY)
    assert pending(report, subject) == 0
    role = PostgresRole.from_object(
        {
            "metadata": {"name": "app", "namespace": "team", "uid": "app"},
            "spec": {"connectionRef": {"name": "one"}},
        }
    )
    report.waiting(role, Reason.CONNECTION_NOT_READY, "The database is out of reach.")
    count_pending(context, subject)
    assert pending(report, subject) == 1


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
