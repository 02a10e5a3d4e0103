"""Probes and metrics over HTTP."""

from datetime import UTC, datetime

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from lakebase_operator.engine.catalog import Catalog
from lakebase_operator.engine.keys import ConnectionKey, ObjectKey
from lakebase_operator.engine.observer import Observer
from lakebase_operator.engine.queue import WorkQueue
from lakebase_operator.runtime.metrics import Metrics
from lakebase_operator.runtime.probes import Probes
from tests.manual_clock import ManualClock
from tests.unit.engine.bodies import grant, role


async def fetch(port: int, path: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}{path}") as answer:
        return answer.status, await answer.text()


def probes(probe_port: int = 0, metrics_port: int = 0, **checks: bool) -> Probes:
    return Probes(
        live={"workers": lambda: checks.get("workers", True), "watches": lambda: checks.get("watches", True)},
        ready={"primed": lambda: checks.get("primed", True)},
        metrics=lambda: b"up 1\n",
        address="127.0.0.1",
        probe_port=probe_port,
        metrics_port=metrics_port,
    )


async def test_one_port_serves_everything() -> None:
    async with probes() as served:
        assert served.port == served.metrics_port
        assert await fetch(served.port, "/healthz") == (200, "[+] workers\n[+] watches\n")
        assert await fetch(served.port, "/readyz") == (200, "[+] primed\n")
        assert await fetch(served.port, "/metrics") == (200, "up 1\n")


async def test_two_ports_keep_the_metrics_apart(unused_tcp_port: int) -> None:
    async with probes(metrics_port=unused_tcp_port) as served:
        assert served.port != served.metrics_port == unused_tcp_port
        assert (await fetch(served.port, "/metrics"))[0] == 404
        assert (await fetch(served.metrics_port, "/healthz"))[0] == 404
        assert (await fetch(served.metrics_port, "/metrics"))[0] == 200


@pytest.mark.parametrize("failing", ["workers", "watches"])
async def test_one_check_that_fails_makes_it_unhealthy_and_is_named(failing: str) -> None:
    async with probes(**{failing: False}) as served:
        status, text = await fetch(served.port, "/healthz")
        assert status == 503
        assert f"[-] {failing}" in text
        assert (await fetch(served.port, "/readyz"))[0] == 200


async def test_it_is_not_ready_before_it_is_primed() -> None:
    async with probes(primed=False) as served:
        assert (await fetch(served.port, "/readyz"))[0] == 503
        assert (await fetch(served.port, "/healthz"))[0] == 200


async def test_what_is_observed_can_be_scraped() -> None:
    clock, catalog, key = ManualClock(), Catalog(), ConnectionKey("team", "marketing")
    queue: WorkQueue[ConnectionKey] = WorkQueue(clock)
    objects: WorkQueue[ObjectKey] = WorkQueue(ManualClock())
    metrics = Metrics(catalog, queue, objects)
    observer: Observer = metrics
    catalog.upsert("AccessGrant", grant("g", status={"conditions": [{"type": "Ready", "status": "True"}]}))
    queue.add(key)
    await clock.advance(3)
    observer.pass_finished(key, "Success", 0.3)
    observer.statements("GRANT", 4)
    observer.drift("Repaired", 2)
    observer.credential("Renewed")
    observer.request("databricks", "get instance", "Success", 0.1)
    observer.status_written("AccessGrant")
    samples = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(metrics.exposition().decode())
        for sample in family.samples
    }
    assert samples["lakebase_operator_passes_total", "Success"] == 1
    assert samples["lakebase_operator_queue_depth",] == 1
    assert samples["lakebase_operator_queue_oldest_seconds",] == pytest.approx(3.0)
    assert samples["lakebase_operator_objects", "AccessGrant", "True"] == 1
    assert samples["lakebase_operator_statements_total", "GRANT"] == 4
    assert samples["lakebase_operator_drift_total", "Repaired"] == 2
    assert samples["lakebase_operator_credentials_total", "Renewed"] == 1
    assert samples["lakebase_operator_status_writes_total", "AccessGrant"] == 1
    assert (
        samples[
            "lakebase_operator_external_request_duration_seconds_count",
            "Success",
            "databricks",
            "get instance",
        ]
        == 1
    )
    assert any(name == "process_resident_memory_bytes" for name, *_ in samples)


@pytest.mark.requirement("R-159")
def test_the_age_of_passwords_and_the_next_change_can_be_scraped() -> None:
    catalog = Catalog()
    queue: WorkQueue[ConnectionKey] = WorkQueue(ManualClock())
    objects: WorkQueue[ObjectKey] = WorkQueue(ManualClock())
    spec = {"connectionRef": {"name": "marketing"}, "password": {}}
    for name, set_at, due in (
        ("old", "2026-01-01T00:00:00Z", "2026-04-01T00:00:00Z"),
        ("new", "2126-01-01T00:00:00Z", "2126-04-01T00:00:00Z"),
    ):
        catalog.upsert(
            "PostgresRole",
            role(name, spec=spec, status={"password": {"login": name, "setAt": set_at, "nextRotation": due}}),
        )
    catalog.upsert("PostgresRole", role("group"))
    samples = {
        sample.name: sample.value
        for family in text_string_to_metric_families(Metrics(catalog, queue, objects).exposition().decode())
        for sample in family.samples
        if sample.labels == {"namespace": "team", "connection": "marketing"}
    }
    set_at = datetime(2026, 1, 1, tzinfo=UTC)
    age = (datetime.now(UTC) - set_at).total_seconds()
    assert samples["lakebase_operator_password_age_seconds"] == pytest.approx(age, abs=60)
    due = datetime(2026, 4, 1, tzinfo=UTC).timestamp()
    assert samples["lakebase_operator_password_next_rotation_timestamp_seconds"] == due
    assert samples["lakebase_operator_passwords_overdue"] == (1 if due < datetime.now(UTC).timestamp() else 0)


def test_every_metric_is_explained() -> None:
    queue: WorkQueue[ConnectionKey] = WorkQueue(ManualClock())
    objects: WorkQueue[ObjectKey] = WorkQueue(ManualClock())
    text = Metrics(Catalog(), queue, objects).exposition().decode()
    for family in text_string_to_metric_families(text):
        assert family.documentation, family.name
