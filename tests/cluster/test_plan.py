"""``mode: Plan``: the statements are shown, kept complete in a ConfigMap, and carried out once just they are approved."""

import re

import pytest

from tests.cluster.kube import Body, Namespace, condition_of
from tests.cluster.lab import Lab
from tests.cluster.manifests import grant, role
from tests.cluster.operators import Operators

pytestmark = pytest.mark.asyncio(loop_scope="session")


def has_a_plan(body: Body) -> bool:
    return bool(body.get("status", {}).get("plan"))


async def test_a_plan_waits_for_approval_and_only_the_approved_one_is_carried_out(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    await operators.start()
    sales = await lab.database()
    reader = f"reader_{sales.name}"
    await there.apply(
        await lab.connection(there, sales, mode="Plan"),
        role("reader", roleName=reader, login=False),
        grant("read", reader, database=sales.name),
    )
    connection = await there.until("LakebaseConnection/marketing", has_a_plan)
    plan = connection["status"]["plan"]
    assert await there.reason("LakebaseConnection/marketing", "Planned")
    for waiting in ("PostgresRole/reader", "AccessGrant/read"):
        body = await there.reason(waiting, "Planned")
        assert condition_of(body, "Reconciling")
    assert await sales.value("SELECT count(*) FROM pg_roles WHERE rolname = %s", reader) == 0
    text = (await there.admin.request("GET", there.core(f"configmaps/{plan['configMap']}")))["data"][
        "plan.sql"
    ]
    assert f'CREATE ROLE "{reader}"' in text
    assert re.search(rf'^GRANT SELECT ON TABLE .*"sales"."orders".* TO "{reader}";$', text, re.MULTILINE)
    assert text.startswith(f"-- {plan['statements']} statements, digest {plan['digest']}")

    await there.annotate("LakebaseConnection/marketing", approve="0123456789abcdef")
    await there.apply(grant("write", reader, database=sales.name, privileges=["INSERT"]))

    def has_another(body: Body) -> bool:
        return has_a_plan(body) and body["status"]["plan"]["digest"] != plan["digest"]

    connection = await there.until("LakebaseConnection/marketing", has_another)
    assert await sales.value("SELECT count(*) FROM pg_roles WHERE rolname = %s", reader) == 0
    digest = connection["status"]["plan"]["digest"]
    await there.annotate("LakebaseConnection/marketing", approve=digest)
    await there.ready(
        "LakebaseConnection/marketing", "PostgresRole/reader", "AccessGrant/read", "AccessGrant/write"
    )
    assert await sales.may(reader, "SELECT")
    assert await sales.may(reader, "INSERT")
    assert "plan" not in await there.status("LakebaseConnection/marketing")
    assert await there.admin.find(there.core(f"configmaps/{plan['configMap']}")) is None

    # What comes later needs an approval of its own.
    await there.delete("AccessGrant/write")
    await there.until("LakebaseConnection/marketing", has_a_plan)
    assert await sales.may(reader, "INSERT")
    await there.spec("LakebaseConnection/marketing", mode="Enforce")
    await there.gone("AccessGrant/write")
    assert not await sales.may(reader, "INSERT")
