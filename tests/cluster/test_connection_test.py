"""The connection test with the whole operator: faults on the way to a login are in its status, and gone when they are."""

from collections.abc import Callable
from typing import Any

import pytest

from lakebase_operator.reconcilers import connection_test, unreachable_logins
from tests.cluster.kube import Body, Namespace, condition_of, current, is_ready, message_of
from tests.cluster.lab import Database, Lab
from tests.cluster.manifests import grant, manifest, role
from tests.cluster.operators import Operators

pytestmark = pytest.mark.asyncio(loop_scope="session")

CONNECTION, APP = "LakebaseConnection/marketing", "PostgresRole/app"


async def set_up(lab: Lab, there: Namespace, target: str = "native", **spec: Any) -> Database:
    """A database with a connection, and a login that reads it and works."""
    sales = await lab.database(target)
    name = f"app_{sales.name}"
    await there.apply(
        await lab.connection(there, sales),
        role("app", roleName=name, **{"password": {"logins": "One"}, **spec}),
        grant("app-reads", name, database=sales.name),
    )
    await there.ready(APP, "AccessGrant/app-reads")
    await there.until(APP, finds("True", "ConnectionTestPassed"))
    return sales


def finds(status: str, reason: str) -> Callable[[Body], bool]:
    """The condition ``ConnectionTested``."""

    def has_found(body: Body) -> bool:
        found = condition_of(body, "ConnectionTested")
        return found is not None and (found["status"], found["reason"]) == (status, reason)

    has_found.__qualname__ = f"ConnectionTested={status}({reason})"
    return has_found


def steps(body: Body) -> dict[str, tuple[str, str]]:
    return {one["step"]: (one["result"], one["reason"]) for one in body["status"]["test"]}


async def look(there: Namespace, value: str) -> None:
    """Have the operator look at everything."""
    await there.annotate(CONNECTION, sync_now=value)


@pytest.mark.requirement("R-126", "R-127", "R-128", "R-129")
async def test_a_login_that_works_says_so_step_by_step(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    await operators.start()
    await set_up(lab, there)
    body = await there.get(APP)
    assert steps(body) == {
        "Network": ("Passed", "ConnectionTestPassed"),
        "Authentication": ("Passed", "ConnectionTestPassed"),
        "Schema": ("Skipped", "NothingToTest"),
        "Tables": ("Warning", "NoUniqueKey"),
    }
    assert "sales.items" in message_of(body, "ConnectionTested")
    event = await there.told(APP, "ConnectionTestPassed")
    assert (event["type"], event["action"]) == ("Normal", "TestConnection")


@pytest.mark.requirement("R-126", "R-130", "R-166")
@pytest.mark.parametrize(
    ("fault", "reason", "says"),
    [
        ("refuse", "PortClosed", "refuses connections on port"),
        ("swallow", "NetworkBlocked", "swallows connections"),
        ("block-address", "AddressBlocked", "not allowed to connect"),
        ("wrong-host", "HostUnresolvable", "cannot be resolved"),
    ],
)
async def test_a_way_that_is_closed_is_told_of_the_login_and_passes(
    lab: Lab,
    there: Namespace,
    operators: Operators,
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
    reason: str,
    says: str,
) -> None:
    for module in (connection_test, unreachable_logins):
        monkeypatch.setattr(module, "REACH_SECONDS", 1.0)
    await operators.start(connect_timeout_seconds=2)
    await set_up(lab, there)
    await lab.simulator.fault("native", fault)
    await look(there, "1")
    body = await there.reason(APP, reason)
    assert steps(body)["Network"] == ("Failed", reason)
    assert steps(body)["Authentication"] == ("Skipped", "NotTried")
    assert finds("False", reason)(body)
    assert says in message_of(body)
    assert current(body, "Reconciling") is not None
    assert (await there.told(APP, reason))["regarding"]["name"] == "app"
    assert is_ready(await there.get("AccessGrant/app-reads")), "what was granted stays so"
    await lab.simulator.clear_faults()
    await there.ready(APP)
    await there.until(APP, finds("True", "ConnectionTestPassed"))


@pytest.mark.requirement("R-139")
async def test_a_host_that_is_not_the_instances_is_told_with_the_right_one(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    await operators.start()
    await set_up(lab, there)
    await there.spec(CONNECTION, host="instance-0000.database.cloud.databricks.com")
    body = await there.reason(APP, "HostnameMismatch")
    assert '"localhost"' in message_of(body)
    assert steps(body)["Network"] == ("Failed", "HostnameMismatch")
    await there.spec(CONNECTION, host=None)
    await there.ready(APP)


@pytest.mark.requirement("R-135")
@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ("STOPPED", "InstanceStopped"),
        ("FAILING_OVER", "InstanceFailingOver"),
        ("UPDATING", "InstanceUpdating"),
        ("STARTING", "InstanceStarting"),
    ],
)
async def test_a_login_says_that_its_instance_is_not_available_and_stays_ready(
    lab: Lab, there: Namespace, operators: Operators, state: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await operators.start()
    await set_up(lab, there)
    if state == "STARTING":
        await lab.simulator.fault("all", "stuck-starting")
    await lab.simulator.set_state("native", state)
    await look(there, "1")
    not_tested = finds("Unknown", reason)
    # Nothing is wrong with the login. A pass that was in mid-work when the sessions ended may say otherwise until the next.
    await there.until(APP, lambda body: not_tested(body) and is_ready(body))
    await lab.simulator.clear_faults()
    await lab.simulator.set_state("native", "AVAILABLE")
    await there.until(APP, finds("True", "ConnectionTestPassed"))


@pytest.mark.requirement("R-127", "R-136")
@pytest.mark.parametrize("target", ["native", "autoscaling"])
async def test_a_password_that_was_changed_by_hand_is_told_and_replaced(
    lab: Lab, there: Namespace, operators: Operators, target: str
) -> None:
    """On a project, which refuses verifiers, by another that Databricks makes."""
    await operators.start(retry_base_seconds=1.0)
    lab.simulator.set_native_login(target, enabled=True)
    sales = await set_up(lab, there, target)
    await sales.run(f"ALTER ROLE app_{sales.name} PASSWORD 'Somebody-elses-1'")
    await there.spec(APP, test={"interval": "30m"})
    body = await there.reason(APP, "PasswordRejected")
    assert steps(body)["Network"][0] == "Passed"
    assert steps(body)["Authentication"] == ("Failed", "PasswordRejected")
    await there.told(APP, "PasswordRejected")
    await there.ready(APP)


@pytest.mark.requirement("R-141")
async def test_native_login_that_is_switched_off_is_told_and_repaired_where_it_is_managed(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    await operators.start()
    await set_up(lab, there)
    lab.simulator.set_native_login("native", enabled=False)
    await there.spec(APP, test={"interval": "30m"})
    body = await there.reason(APP, "NativeLoginDisabled")
    assert steps(body)["Authentication"] == ("Failed", "NativeLoginDisabled")
    assert current(body, "Stalled") is not None
    connection = (await there.get(CONNECTION))["spec"]
    await there.apply(
        manifest(
            "LakebaseInstance",
            "native",
            {
                "workspaceURL": connection["workspaceURL"],
                "auth": connection["auth"],
                "provisioned": {"instance": "native-db"},
                "nativeLogin": True,
            },
        )
    )
    await there.ready(APP)
    assert lab.simulator.target("native").enable_pg_native_login


@pytest.mark.requirement("R-141")
async def test_native_login_of_an_autoscaling_project_is_asked_for(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    await operators.start()
    sales = await lab.database()
    await there.apply(
        await lab.connection(there, sales), role("app", roleName=f"app_{sales.name}", password={})
    )
    await there.reason(APP, "NativeLoginDisabled")
    lab.simulator.set_native_login("autoscaling", enabled=True)
    await there.ready(APP)


@pytest.mark.requirement("R-130")
async def test_a_test_that_is_due_or_fails_wakes_no_compute(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    operator = await operators.start()
    lab.simulator.set_native_login("autoscaling", enabled=True)
    sales = await set_up(lab, there, "autoscaling", test={"interval": "1s"})
    target = lab.simulator.target("autoscaling")
    await there.spec(CONNECTION, drift={"interval": "1s"})
    await there.ready(CONNECTION)
    await lab.simulator.set_state("autoscaling", "IDLE")
    woken = target.stats.wake_ups
    await look(there, "1")  # asked for by a person: that wakes it
    await operator.passed(there.name, 1)
    assert target.stats.wake_ups == woken + 1
    await sales.run(f"ALTER ROLE app_{sales.name} PASSWORD 'Somebody-elses-1'")
    await lab.simulator.set_state("autoscaling", "IDLE")
    passes = operator.count(there.name)
    await operator.passed(there.name, 2, at_least=passes + 2)
    assert target.stats.wake_ups == woken + 1


@pytest.mark.requirement("R-133", "R-138", "R-149")
async def test_a_missing_grant_is_told_as_sql_and_gone_once_it_is_declared(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    await operators.start()
    sales = await lab.database("native")
    name = f"app_{sales.name}"
    await there.apply(
        await lab.connection(there, sales),
        role(
            "app",
            roleName=name,
            password={},
            exposes=[{"schema": "sales", "names": ["orders", "totals"]}],
        ),
        grant("orders", name, database=sales.name, tables=["orders"]),
    )
    body = await there.reason(APP, "MissingGrants")
    statement = f'GRANT SELECT ON TABLE "sales"."totals" TO "{name}"'
    assert statement in message_of(body)
    (issue,) = body["status"]["issues"]
    assert (issue["object"], issue["privilege"], issue["fix"]) == ("sales.totals", "SELECT", statement)
    await there.apply(grant("totals", name, database=sales.name, tables=["totals"]))
    await there.ready(APP)
    assert "issues" not in (await there.status(APP)) or not (await there.status(APP))["issues"]
