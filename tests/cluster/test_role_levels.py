"""``level: Superuser`` with the whole operator, on both kinds of Lakebase and where there is no Databricks API."""

import pytest

from tests.cluster.kube import Body, Namespace, condition_of, message_of
from tests.cluster.lab import Database, Lab
from tests.cluster.manifests import role
from tests.cluster.operators import Operators

pytestmark = pytest.mark.asyncio(loop_scope="session")

APP = "PostgresRole/app"
CONNECTION = "LakebaseConnection/marketing"


async def is_superuser(database: Database, name: str) -> bool:
    return bool(
        await database.value(
            "SELECT count(*) FROM pg_auth_members WHERE roleid = 'databricks_superuser'::regrole AND member = %s::regrole",
            f'"{name}"',
        )
    )


def over_privileged(body: Body) -> tuple[str, str]:
    found = condition_of(body, "OverPrivileged")
    assert found is not None
    return found["status"], found["reason"]


@pytest.mark.requirement("R-110", "R-111", "R-112")
async def test_on_a_project_the_api_gives_it_and_takes_it_again(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    await operators.start()
    sales = await lab.database()
    name = f"app_{sales.name}"
    await there.apply(await lab.connection(there, sales), role("app", roleName=name, login=True))
    (body,) = await there.ready(APP)
    assert body["spec"]["level"] == "Specific"
    assert over_privileged(body) == ("False", "OrdinaryRole")

    await there.spec(APP, level="Superuser")
    (body,) = await there.ready(APP)
    assert await is_superuser(sales, name)
    assert over_privileged(body) == ("True", "SuperuserLevel")
    assert "spec.level asks for" in message_of(body, "OverPrivileged")

    await there.spec(APP, level="Specific")
    (body,) = await there.ready(APP)
    assert not await is_superuser(sales, name)
    assert over_privileged(body) == ("False", "OrdinaryRole")


@pytest.mark.requirement("R-111")
async def test_a_branch_that_is_busy_is_waited_for(lab: Lab, there: Namespace, operators: Operators) -> None:
    await operators.start()
    sales = await lab.database()
    names = [f"{one}_{sales.name}" for one in ("first", "second", "third")]
    await there.apply(
        await lab.connection(there, sales),
        *(role(one.partition("_")[0], roleName=one, level="Superuser") for one in names),
    )
    await there.ready(CONNECTION, *(f"PostgresRole/{one.partition('_')[0]}" for one in names), deadline=60)
    for name in names:
        assert await is_superuser(sales, name)


@pytest.mark.requirement("R-148")
async def test_on_an_instance_it_says_what_to_do_and_takes_over_what_somebody_made(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    await operators.start()
    sales = await lab.database("provisioned")
    name = f"app_{sales.name}"
    await there.apply(await lab.connection(there, sales), role("app", roleName=name, level="Superuser"))
    body = await there.reason(APP, "MissingDatabricksSuperuser")
    assert condition_of(body, "Stalled")
    assert "only when it makes a role" in message_of(body)
    assert f'GRANT databricks_superuser TO "{name}"' in message_of(body)
    assert over_privileged(body) == ("False", "OrdinaryRole")
    # The connection itself is well.
    await there.ready(CONNECTION)
    await sales.run(f'GRANT databricks_superuser TO "{name}"')
    await there.annotate(CONNECTION, sync_now="1")
    (body,) = await there.ready(APP)
    assert over_privileged(body) == ("True", "SuperuserLevel")
    # It is theirs: it is not taken away.
    await there.spec(APP, level="Specific")
    (body,) = await there.ready(APP)
    assert await is_superuser(sales, name)
    assert over_privileged(body) == ("True", "OverPrivileged")


@pytest.mark.requirement("R-148")
async def test_with_a_password_login_there_is_no_api_and_that_is_said(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    await operators.start()
    sales = await lab.database("native")
    password = await lab.native_login(sales, f"admin_{sales.name}")
    name = f"app_{sales.name}"
    await there.apply(
        await lab.native_connection(there, sales, f"admin_{sales.name}", password),
        role("app", roleName=name, level="Superuser"),
    )
    body = await there.reason(APP, "MissingDatabricksSuperuser")
    assert "no Databricks API" in message_of(body)
    assert not await is_superuser(sales, name)


@pytest.mark.requirement("R-110")
async def test_in_plan_mode_it_is_a_line_and_done_only_when_approved(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    await operators.start()
    sales = await lab.database()
    name = f"app_{sales.name}"
    await there.apply(
        await lab.connection(there, sales, mode="Plan"),
        role("app", roleName=name, level="Superuser", platformSchema={"name": "app"}),
    )

    def has_a_plan(body: Body) -> bool:
        return bool(body.get("status", {}).get("plan"))

    body = await there.until(CONNECTION, has_a_plan)
    plan = body["status"]["plan"]
    assert plan["first"] == [
        f'CREATE ROLE "{name}"',
        f'-- ask Databricks: GRANT databricks_superuser TO "{name}"',
        f'CREATE SCHEMA "app" AUTHORIZATION "{name}"',
    ]
    await there.reason(APP, "Planned")
    assert await sales.value("SELECT count(*) FROM pg_roles WHERE rolname = %s", name) == 0
    await there.annotate(CONNECTION, approve=plan["digest"])

    async def is_carried_out() -> bool:
        there_is = await sales.value("SELECT count(*) FROM pg_roles WHERE rolname = %s", name)
        return bool(there_is) and await is_superuser(sales, name)

    await there.true("the plan is carried out", is_carried_out)
    assert await sales.value("SELECT count(*) FROM pg_namespace WHERE nspname = 'app'") == 1
    await there.ready(APP, CONNECTION)
