"""The access report as people find it: a ConfigMap, a status, a condition, an Event; and what else a connection says of itself."""

import csv
import io
import json

import pytest

from lakebase_sandbox.simulator import faults
from tests.cluster.kube import Body, Namespace, condition_of, message_of
from tests.cluster.lab import Lab
from tests.cluster.manifests import role
from tests.cluster.operators import Operators

pytestmark = pytest.mark.asyncio(loop_scope="session")

CONNECTION = "LakebaseConnection/marketing"
MAP = "configmaps/marketing-access-report"


async def lines(there: Namespace, part: str) -> list[dict[str, str]]:
    body = await there.admin.request("GET", there.core(MAP))
    return list(csv.DictReader(io.StringIO(body["data"][part])))


def reviewed(reason: str, status: str = "True"):  # type: ignore[no-untyped-def]  # a condition of ``Namespace.until``
    def holds(body: Body) -> bool:
        found = condition_of(body, "AccessReviewed")
        return found is not None and (found["status"], found["reason"]) == (status, reason)

    holds.__qualname__ = f"AccessReviewed={status}({reason})"
    return holds


@pytest.mark.requirement("R-155", "R-157")
async def test_a_report_is_made_by_default_and_a_new_one_on_demand_tells_what_is_wider_now(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    operator = await operators.start()
    sales = await lab.settled(there)
    await operator.stop()
    operators.forget(operator)
    await operators.start()  # begins with a full pass
    body = await there.until(CONNECTION, lambda one: "report" in one["status"])
    report = body["status"]["report"]
    assert report["configMap"] == "marketing-access-report"
    assert report["roles"] == len(await lines(there, "roles.csv"))
    owner = (await there.admin.request("GET", there.core(MAP)))["metadata"]["ownerReferences"]
    assert [one["uid"] for one in owner] == [body["metadata"]["uid"]]
    (line,) = [one for one in await lines(there, "roles.csv") if one["role"] == sales.analysts]
    assert line["declared_by"] == f"PostgresRole {there.name}/analysts"
    assert line["granted"] == line["granted_declared"]

    async with sales.admin.transaction():
        await sales.run("SET LOCAL ROLE databricks_superuser")
        await sales.run(f'GRANT DELETE ON sales.orders TO "{sales.analysts}"')
    await there.annotate(CONNECTION, sync_now="now")
    body = await there.until(CONNECTION, lambda one: one["status"].get("lastHandledSync") == "now")
    assert body["status"]["report"]["wider"] == report["wider"] + 1
    assert reviewed("WiderThanDeclared")(body)
    given = f'"{sales.analysts}" has DELETE on table sales.orders'
    event = await there.told(CONNECTION, "WiderThanDeclared", given)  # the first report was told, too
    assert given in event["note"]
    wider = [one for one in await lines(there, "wider.csv") if one["role"] == sales.analysts]
    assert [(one["kind"], one["object"], one["privilege"], one["grantor"]) for one in wider] == [
        ("Privilege", "table sales.orders", "DELETE", "databricks_superuser")
    ]
    assert await sales.may(sales.analysts, "DELETE"), "nothing is taken away"


@pytest.mark.requirement("R-157", "R-168")
async def test_a_sleeping_compute_is_not_woken_for_a_report_and_that_it_is_overdue_is_told(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    operator = await operators.start()
    await lab.settled(there, interval="1s", report={"interval": "1s"})
    await there.until(CONNECTION, lambda body: "report" in body["status"])
    await lab.simulator.set_state("autoscaling", "IDLE")
    await there.until(CONNECTION, reviewed("ReviewOverdue", "False"))
    assert lab.simulator.target("autoscaling").state.value == "IDLE"
    assert operator.operator.metrics is not None
    gauge = f'lakebase_operator_access_report_overdue{{connection="marketing",namespace="{there.name}"}} 1.0'
    assert gauge in operator.operator.metrics.exposition().decode()
    await there.annotate(CONNECTION, sync_now="wake")
    await there.until(CONNECTION, lambda body: not reviewed("ReviewOverdue", "False")(body))


@pytest.mark.requirement("R-157")
async def test_without_an_interval_the_report_goes(lab: Lab, there: Namespace, operators: Operators) -> None:
    await operators.start()
    await lab.settled(there)
    await there.annotate(CONNECTION, sync_now="now")
    await there.until(CONNECTION, lambda one: "report" in one["status"])
    await there.spec(CONNECTION, report={"interval": "0s"})
    body = await there.until(CONNECTION, reviewed("ReviewOff", "False"))
    assert "report" not in body["status"]
    assert await there.admin.find(there.core(MAP)) is None


@pytest.mark.requirement("R-50", "R-169")
async def test_a_connection_says_whether_queries_are_audited_and_where_databricks_shows_them(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    await operators.start()
    await lab.settled(there, target="provisioned")
    body = await there.get(CONNECTION)
    audit = condition_of(body, "QueryAuditAvailable")
    assert audit is not None
    assert (audit["status"], audit["reason"]) == ("False", "QueryAuditUnavailable")
    workspace = body["spec"]["workspaceURL"].rstrip("/")
    instance = body["spec"]["target"]["provisioned"]["instance"]
    assert body["status"]["links"] == {
        "queryHistory": f"{workspace}/sql/history",
        "instance": f"{workspace}/compute/database-instances/{instance}",
    }


@pytest.mark.requirement("R-167", "R-158")
async def test_a_login_of_a_declared_role_is_counted_and_kept_over_a_restart(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    operator = await operators.start()
    sales = await lab.settled(there, interval="1s")
    name = f"visitor_{sales.name}"
    await there.apply(role("visitor", roleName=name, login=True))
    await there.ready("PostgresRole/visitor")
    assert operator.operator.metrics is not None
    async with await sales.target.server.connect(sales.name, user=name):
        metrics = operator.operator.metrics

        async def counted() -> bool:
            return 'lakebase_operator_logins_total{result="Seen"} 1.0' in metrics.exposition().decode()

        await there.true("the login is counted", counted)
        await there.annotate(CONNECTION, sync_now="a")
        await there.until(CONNECTION, lambda one: one["status"].get("lastHandledSync") == "a")
    (line,) = [one for one in await lines(there, "roles.csv") if one["role"] == name]
    assert (line["sessions"], line["logins"]) == ("1", "1")
    await operator.stop()
    operators.forget(operator)
    await operators.start()
    await there.annotate(CONNECTION, sync_now="b")
    await there.until(CONNECTION, lambda one: one["status"].get("lastHandledSync") == "b")
    (after,) = [one for one in await lines(there, "roles.csv") if one["role"] == name]
    assert (after["last_seen"], after["sessions"]) == (line["last_seen"], "0")


@pytest.mark.requirement("R-166")
async def test_an_address_that_the_workspace_blocks_is_told_as_such_and_access_stays(
    lab: Lab, there: Namespace, operators: Operators, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator = await operators.start()
    sales = await lab.settled(there)
    blocked = "Source IP address: 203.0.113.7 is blocked by Databricks IP ACL for workspace: 42"
    monkeypatch.setitem(faults._HTTP_ERRORS, 403, lambda: faults.ApiError(403, "PERMISSION_DENIED", blocked))
    await lab.simulator.fault("autoscaling", "http", 403)
    await there.annotate(CONNECTION, sync_now="a")
    body = await there.reason(CONNECTION, "AddressBlocked")
    assert "203.0.113.7" in message_of(body)
    assert await sales.may(sales.analysts, "SELECT")
    await lab.simulator.clear_faults()
    del operator


async def test_a_connection_in_mode_plan_says_who_it_is_logged_in_as_and_makes_no_report(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    await operators.start()
    sales = await lab.database()
    await there.apply(await lab.connection(there, sales, mode="Plan"))
    body = (await there.ready(CONNECTION))[0]
    authenticated = condition_of(body, "Authenticated")
    assert authenticated is not None
    assert authenticated["status"] == "True"
    assert body["status"]["operatorRole"] == lab.operator
    await there.annotate(CONNECTION, sync_now="now")
    body = await there.until(CONNECTION, lambda one: one["status"].get("lastHandledSync") == "now")
    assert "report" not in body["status"]


@pytest.mark.requirement("R-5")
async def test_what_is_known_of_a_registered_server_is_in_its_status_without_any_secret(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    operator = await operators.start()
    sales = await lab.settled(there)
    await there.annotate(CONNECTION, sync_now="now")
    body = await there.until(CONNECTION, lambda one: one["status"].get("lastHandledSync") == "now")
    status = body["status"]
    assert status["endpoint"]["port"] == sales.target.port
    assert status["endpoint"]["host"]
    assert status["serverVersion"].startswith("18")
    assert status["operatorRole"] == lab.operator
    assert [one["name"] for one in status["databases"]] == [sales.name]
    assert status["report"]["roles"] > 0
    shown = json.dumps(
        [body, await there.admin.request("GET", there.core(MAP)), *await there.events(CONNECTION)]
    )
    said = shown + "\n".join(operators.log.lines)
    assert sales.analysts in shown
    for secret in (lab.simulator.client_secret, *lab.tokens):
        assert secret not in said
    del operator
