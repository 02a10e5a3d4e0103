"""The tables that an application is shown, with the whole operator: described beside the role, and kept like the tables."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.cluster.kube import Body, Namespace
from tests.cluster.lab import Lab
from tests.cluster.manifests import grant, role
from tests.cluster.operators import Operators

pytestmark = pytest.mark.asyncio(loop_scope="session")

CONNECTION, APP, TABLES = "LakebaseConnection/marketing", "PostgresRole/app", "ConfigMap/app-tables"
ORDERS = [{"schema": "sales", "names": ["orders"]}]


def tables(body: Body) -> dict[str, Any]:
    """What is described, by name."""
    return {one["name"]: one for one in json.loads(body["data"]["tables.json"])["tables"]}


def column(table: str, name: str, **expected: Any) -> Callable[[Body], bool]:
    """Whether a column is there, and like that."""

    def is_described(body: Body) -> bool:
        found = {one["name"]: one for one in tables(body)[table]["columns"]}
        return name in found and found[name].items() >= expected.items()

    return is_described


@pytest.mark.requirement("R-131", "R-133", "R-211")
async def test_the_tables_of_an_application_are_described_and_the_description_follows_them(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    await operators.start()
    sales = await lab.settled(there, interval="1s")
    name = f"app_{sales.name}"
    await there.apply(role("app", roleName=name, login=True, exposes=ORDERS))
    body = await there.reason(APP, "MissingGrants")
    assert body["status"]["exposed"] == {
        "configMap": "app-tables",
        "tables": 1,
        "readable": 0,
        "withoutKey": 0,
    }
    assert f'GRANT SELECT ON TABLE "sales"."orders" TO "{name}"' in [
        one["fix"] for one in body["status"]["issues"]
    ]
    assert not await sales.may(name, "SELECT")
    described = await there.get(TABLES)
    assert not tables(described)["orders"]["readable"]
    assert list(tables(described)) == ["orders"]

    await there.apply(grant("app-reads", name, database=sales.name))
    await there.ready(APP, "AccessGrant/app-reads")
    assert await sales.may(name, "SELECT")
    described = await there.get(TABLES)
    assert tables(described)["orders"]["readable"]
    assert tables(described)["orders"]["key"] == ["id"]

    await sales.run_as_owner("ALTER TABLE sales.orders ADD COLUMN note varchar(20)")
    added = column("orders", "note", type="character varying(20)", nullable=True, comment=None)
    await there.until(TABLES, added)
    await sales.run_as_owner("ALTER TABLE sales.orders RENAME COLUMN note TO remark")
    await there.until(TABLES, column("orders", "remark", type="character varying(20)"))
    await sales.run_as_owner("ALTER TABLE sales.orders ALTER COLUMN remark TYPE text")
    await there.until(TABLES, column("orders", "remark", type="text"))
    await sales.run_as_owner("COMMENT ON COLUMN sales.orders.remark IS 'What was said'")
    await there.until(TABLES, column("orders", "remark", comment="What was said"))


async def test_what_can_be_read_is_told_as_soon_as_an_access_grant_comes_or_goes(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    await operators.start()
    sales = await lab.settled(there)
    group, name = f"group_{sales.name}", f"app_{sales.name}"
    await there.apply(
        role("group", roleName=group),
        role("app", roleName=name, login=True, memberOf=[{"role": group}], exposes=ORDERS),
    )
    await there.reason(APP, "MissingGrants")
    await there.apply(grant("group-reads", group, database=sales.name))
    await there.ready(APP)
    assert (await there.status(APP))["exposed"]["readable"] == 1
    await there.delete("AccessGrant/group-reads")
    await there.reason(APP, "MissingGrants")
    assert not tables(await there.get(TABLES))["orders"]["readable"]


@pytest.mark.requirement("R-131")
async def test_the_description_goes_with_the_role_and_when_nothing_is_shown_any_more(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    await operators.start()
    sales = await lab.settled(there)
    shown = role("app", roleName=f"app_{sales.name}", exposes=ORDERS, memberOf=[{"role": sales.analysts}])
    await there.apply(shown)
    await there.ready(APP)
    await there.get(TABLES)
    await there.spec(APP, exposes=None)
    await there.gone(TABLES)
    await there.until(APP, lambda body: "exposed" not in body["status"])
    await there.ready(APP)
    await there.apply(shown)
    await there.ready(APP)
    assert list(tables(await there.get(TABLES))) == ["orders"]
    await there.delete(APP)
    await there.gone(APP, TABLES)


async def test_a_config_map_of_somebody_else_is_left_alone_until_it_is_gone(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    await operators.start()
    sales = await lab.settled(there)
    theirs = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "app-tables"},
        "data": {"mine": "!"},
    }
    await there.apply(theirs)
    await there.apply(
        role("app", roleName=f"app_{sales.name}", exposes=ORDERS, memberOf=[{"role": sales.analysts}])
    )
    body = await there.reason(APP, "ConfigMapExists")
    assert "exposed" not in body["status"]
    assert (await there.get(TABLES))["data"] == {"mine": "!"}
    await there.spec(APP, exposes=None)
    await there.ready(APP)
    assert (await there.get(TABLES))["data"] == {"mine": "!"}
    await there.delete(TABLES)
    await there.spec(APP, exposes=ORDERS)
    await there.ready(APP)
    assert list(tables(await there.get(TABLES))) == ["orders"]


async def test_with_mode_plan_nothing_is_described(lab: Lab, there: Namespace, operators: Operators) -> None:
    await operators.start()
    sales = await lab.database()
    await there.apply(
        await lab.connection(there, sales, mode="Plan"),
        role("app", roleName=f"app_{sales.name}", exposes=[{"schema": "sales", "names": ["gone"]}, *ORDERS]),
    )
    await there.until(CONNECTION, lambda body: bool((body.get("status") or {}).get("plan")))
    await there.reason(APP, "Planned")
    assert [one["reason"] for one in (await there.status(APP))["issues"]] == ["TableMissing"]
    assert await there.find(TABLES) is None
    await there.spec(CONNECTION, mode="Enforce")
    await there.reason(APP, "TableMissing")
    assert list(tables(await there.get(TABLES))) == ["orders"]
