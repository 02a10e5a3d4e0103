"""What was changed by hand, and what nobody declares: in status, as an Event and as a metric."""

import pytest

from tests.cluster.kube import Body, Condition, Namespace, condition_of
from tests.cluster.lab import Lab
from tests.cluster.operators import Operators

pytestmark = pytest.mark.asyncio(loop_scope="session")

CONNECTION = "LakebaseConnection/marketing"


def has(field: str) -> Condition:
    def there(body: Body) -> bool:
        return field in body.get("status", {})

    return there


def has_not(field: str) -> Condition:
    def not_there(body: Body) -> bool:
        return "status" in body and field not in body["status"]

    return not_there


def drifts(exposition: bytes) -> dict[str, float]:
    """Drift that the metrics count, by what was done about it."""
    lines = [line for line in exposition.decode().splitlines() if line.startswith("lakebase_operator_drift")]
    return {line.split('"')[1]: float(line.split()[-1]) for line in lines if '"' in line}


async def test_drift_is_told_with_what_and_since_when_and_repaired_when_that_is_wanted(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    operator = await operators.start()
    sales = await lab.settled(there, interval="1s")
    assert operator.operator.metrics is not None
    await there.spec(CONNECTION, drift={"interval": "1s", "action": "Report"})
    await sales.take(sales.analysts)
    connection = await there.until(CONNECTION, has("drift"))
    drift = connection["status"]["drift"]
    wanted = {"database": sales.name, "object": "sales.orders", "role": sales.analysts, "privilege": "SELECT"}
    assert drift["items"] == [wanted | {"what": "Missing"}]
    assert (drift["total"], drift["since"][:2]) == (1, "20")
    drifted = condition_of(connection, "Drifted")
    assert drifted is not None
    assert (drifted["status"], drifted["reason"]) == ("True", "DriftFound")
    assert (await there.told(CONNECTION, "DriftFound"))["type"] == "Warning"
    assert drifts(operator.operator.metrics.exposition())["Reported"] >= 1
    assert not await sales.may(sales.analysts, "SELECT")
    since = drift["since"]
    await operator.passed(there.name, 2, "marketing")
    assert (await there.status(CONNECTION))["drift"]["since"] == since

    await there.spec(CONNECTION, drift={"interval": "1s", "action": "Repair"})
    await there.told(CONNECTION, "DriftRepaired")
    await there.until(CONNECTION, has_not("drift"))
    assert await sales.may(sales.analysts, "SELECT")
    assert drifts(operator.operator.metrics.exposition())["Repaired"] >= 1


@pytest.mark.requirement("R-180")
async def test_what_nobody_declares_is_kept_then_reported_then_revoked_as_the_connection_says(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    await operators.start()
    sales = await lab.settled(there, interval="1s")
    async with sales.admin.transaction():  # by somebody whose grants the operator can take back
        await sales.run("SET LOCAL ROLE databricks_superuser")
        await sales.run(f'GRANT UPDATE ON sales.orders TO "{sales.analysts}"')
    assert "unmanaged" not in await there.status(CONNECTION)
    await there.spec(CONNECTION, unmanagedGrants={"action": "Report", "roles": [sales.analysts]})
    unmanaged = (await there.until(CONNECTION, has("unmanaged")))["status"]["unmanaged"]
    (item,) = unmanaged["items"]
    assert unmanaged["total"] == 1
    assert (item["object"], item["privilege"], item["what"]) == ("sales.orders", "UPDATE", "Unmanaged")
    assert item["grantor"] == "databricks_superuser"
    assert await sales.may(sales.analysts, "UPDATE")
    await there.spec(CONNECTION, unmanagedGrants={"action": "Revoke", "roles": [sales.analysts]})

    def none_left(body: Body) -> bool:
        return body.get("status", {}).get("unmanaged", {}).get("total") == 0

    body = await there.until(CONNECTION, none_left)
    assert condition_of(body, "UnmanagedGrants")
    assert not await sales.may(sales.analysts, "UPDATE")
    assert await sales.may(sales.analysts, "SELECT")
    await there.spec(CONNECTION, unmanagedGrants={"action": "Keep", "roles": None})
    body = await there.until(CONNECTION, has_not("unmanaged"))
    assert condition_of(body, "UnmanagedGrants") is None, "it is not looked for any more"
