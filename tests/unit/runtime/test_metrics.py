"""What the metrics say of access, read off the catalog at a scrape."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from lakebase_operator.engine.catalog import Catalog
from lakebase_operator.engine.clock import SystemClock
from lakebase_operator.engine.keys import ConnectionKey, ObjectKey
from lakebase_operator.engine.queue import WorkQueue
from lakebase_operator.runtime.metrics import Metrics

HOUR = timedelta(hours=1)
Body = dict[str, Any]


def moment(after: timedelta) -> str:
    return (datetime.now(UTC) + after).strftime("%Y-%m-%dT%H:%M:%SZ")


def body(name: str, spec: Body, status: Body) -> Body:
    meta = {"name": name, "namespace": "team", "uid": name, "generation": 1, "resourceVersion": "1"}
    return {"metadata": meta, "spec": spec, "status": status}


def grant(name: str, expires: timedelta | None, ready: str, reason: str, **more: Any) -> Body:
    spec = {
        "connectionRef": {"name": "marketing"},
        "database": "db",
        "subjects": [{"kind": "Role", "name": "r"}],
        "objects": [{"schemas": {"names": ["s"]}}],
        "access": "Read",
        **more,
    }
    if expires is not None:
        spec["expiresAt"] = moment(expires)
    condition = {"type": "Ready", "status": ready, "reason": reason, "message": ""}
    return body(name, spec, {"observedGeneration": 1, "conditions": [condition]})


def connection(interval: str, report: Body | None) -> Body:
    spec = {
        "target": {"server": {"host": "db.example.com"}},
        "auth": {"password": {"secretRef": {"name": "login"}}},
        "report": {"interval": interval},
    }
    return body("marketing", spec, {"report": report} if report else {})


def scrape(catalog: Catalog) -> dict[str, float]:
    """Samples by name and labels."""
    queue: WorkQueue[ConnectionKey] = WorkQueue(SystemClock())
    objects: WorkQueue[ObjectKey] = WorkQueue(SystemClock())
    text = Metrics(catalog, queue, objects).exposition().decode()
    lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in lines}


OF = '{connection="marketing",namespace="team"}'


def test_a_connection_is_ready_as_its_status_says_until_it_is_gone() -> None:
    catalog = Catalog()
    sample = 'lakebase_operator_connection_ready{name="marketing",namespace="team"}'
    for version, (ready, value) in enumerate((("True", 1), ("False", 0), ("True", 1)), start=2):
        one = connection("24h", None)
        one["metadata"]["resourceVersion"] = str(version)
        one["status"] = {"conditions": [{"type": "Ready", "status": ready}]}
        catalog.upsert("LakebaseConnection", one)
        assert scrape(catalog)[sample] == value
    catalog.remove("LakebaseConnection", "team", "marketing")
    assert sample not in scrape(catalog)


@pytest.mark.requirement("R-168")
def test_access_is_counted_as_expired_until_its_end_is_found_in_the_database() -> None:
    catalog = Catalog()
    catalog.upsert("LakebaseConnection", connection("24h", None))
    catalog.upsert("AccessGrant", grant("ended", -HOUR, "True", "Expired"))
    catalog.upsert("AccessGrant", grant("current", HOUR, "True", "Succeeded"))
    catalog.upsert("AccessGrant", grant("endless", None, "True", "Succeeded"))
    assert scrape(catalog)[f"lakebase_operator_expired_access{OF}"] == 0
    catalog.upsert("AccessGrant", grant("asleep", -HOUR, "True", "Succeeded"))
    catalog.upsert("AccessGrant", grant("stuck", -HOUR, "False", "Unrevocable"))
    absent = {"access": None, "privileges": ["USAGE"], "ensure": "Absent"}
    catalog.upsert("AccessGrant", grant("absence", -HOUR, "True", "Succeeded", **absent))
    assert scrape(catalog)[f"lakebase_operator_expired_access{OF}"] == 2


@pytest.mark.requirement("R-168", "R-202")
def test_a_scrape_reads_no_status_of_access_that_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = Catalog()
    for number in range(50):
        catalog.upsert("AccessGrant", grant(f"endless-{number}", None, "True", "Succeeded"))
        catalog.upsert("AccessGrant", grant(f"current-{number}", HOUR, "True", "Succeeded"))
    catalog.upsert("AccessGrant", grant("asleep", -HOUR, "True", "Succeeded"))
    read: list[str] = []
    status = catalog.status
    monkeypatch.setattr(catalog, "status", lambda key: read.append(key.name) or status(key))
    assert scrape(catalog)['lakebase_operator_objects{kind="AccessGrant",ready="True"}'] == 101
    assert read == ["asleep"]


@pytest.mark.requirement("R-168", "R-157")
def test_a_report_that_is_older_than_twice_its_interval_is_overdue() -> None:
    report = {"at": moment(-3 * HOUR), "wider": 5, "unused": 2, "roles": 9}
    catalog = Catalog()
    catalog.upsert("LakebaseConnection", connection("2h", report))
    found = scrape(catalog)
    assert found[f"lakebase_operator_access_wider{OF}"] == 5
    assert found[f"lakebase_operator_unused_roles{OF}"] == 2
    assert found[f"lakebase_operator_access_report_overdue{OF}"] == 0
    catalog = Catalog()
    catalog.upsert("LakebaseConnection", connection("1h", report))
    assert scrape(catalog)[f"lakebase_operator_access_report_overdue{OF}"] == 1
    catalog = Catalog()
    catalog.upsert("LakebaseConnection", connection("0s", report))
    assert scrape(catalog)[f"lakebase_operator_access_report_overdue{OF}"] == 0


@pytest.mark.requirement("R-168")
def test_results_of_logins_are_there_from_the_beginning_so_that_the_first_is_an_increase() -> None:
    found = scrape(Catalog())
    for result in ("Seen", "Rejected"):
        assert found[f'lakebase_operator_logins_total{{result="{result}"}}'] == 0
    for step in ("Network", "Authentication", "Schema", "Tables"):
        assert found[f'lakebase_operator_connection_tests_total{{result="Failed",step="{step}"}}'] == 0
    for action in ("Repaired", "Reported"):
        assert found[f'lakebase_operator_drift_total{{action="{action}"}}'] == 0
