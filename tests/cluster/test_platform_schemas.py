"""Platform schemas with the whole operator: published, used by the application, and seen through everything that happens to them."""

from pathlib import Path

import pytest

from tests.cluster.kube import Namespace, message_of
from tests.cluster.lab import Database, Lab
from tests.cluster.manifests import grant, role
from tests.cluster.operators import Operators
from tests.cluster.test_logins import log_in, published

pytestmark = pytest.mark.asyncio(loop_scope="session")

APP = "PostgresRole/app"
CONNECTION = "LakebaseConnection/marketing"


async def schemas(database: Database) -> set[str]:
    return {
        name for (name,) in await database.run("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'app%'")
    }


@pytest.mark.requirement("R-118", "R-125")
async def test_an_application_works_in_its_own_schema_with_what_is_published(
    lab: Lab, there: Namespace, operators: Operators, tmp_path: Path
) -> None:
    await operators.start()
    sales = await lab.database("native")
    name = f"app_{sales.name}"
    await there.apply(
        await lab.connection(there, sales),
        role("app", roleName=name, password={}, platformSchema={"name": "app_own"}),
    )
    (body,) = await there.ready(APP)
    assert body["status"]["platformSchema"] == {"name": "app_own", "database": sales.name, "created": True}
    secret = await published(lab, there)
    assert secret["schema"] == "app_own"
    (tmp_path / "ca.crt").write_text(secret["ca.crt"])
    async with await log_in(secret, tmp_path / "ca.crt") as session:
        await session.execute("CREATE TABLE app_own.state (id int)")
        await session.execute("DROP TABLE app_own.state")

    # Gone by somebody's hand: made again by the next look at everything.
    await sales.run("DROP SCHEMA app_own")
    await there.annotate(CONNECTION, sync_now="1")

    async def is_back() -> bool:
        return await schemas(sales) == {"app_own"}

    await there.true("the schema is made again", is_back)

    # Another name: the one before is left, and somebody says so.
    await there.spec(APP, platformSchema={"name": "app_new"})
    (body,) = await there.ready(APP)
    assert body["status"]["platformSchema"]["name"] == "app_new"
    assert await schemas(sales) == {"app_own", "app_new"}
    assert "app_own" in (await there.told(APP, "PlatformSchemaLeft"))["note"]
    assert (await published(lab, there))["schema"] == "app_new"


@pytest.mark.requirement("R-119", "R-143")
async def test_a_schema_with_data_is_refused_and_is_well_again_when_nobody_speaks_of_it_any_more(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    await operators.start()
    sales = await lab.database()
    name = f"app_{sales.name}"
    await there.apply(
        await lab.connection(there, sales), role("app", roleName=name, platformSchema={"name": "sales"})
    )
    body = await there.reason(APP, "PlatformSchemaIsDataSchema")
    assert "it holds table items of" in message_of(body)
    assert "platformSchema" not in body["status"]
    await there.spec(APP, platformSchema={"name": "app_own"})
    await there.ready(APP, CONNECTION)
    # An AccessGrant that comes later, in a pass that would look at nothing else.
    await there.apply(grant("app-readers", sales.analysts, database=sales.name, schema="app_own"))
    body = await there.reason(APP, "PlatformSchemaIsDataSchema")
    assert f"AccessGrant {there.name}/app-readers" in message_of(body)
    await there.delete("AccessGrant/app-readers")
    await there.gone("AccessGrant/app-readers")
    await there.ready(APP)


@pytest.mark.requirement("R-120")
async def test_patterns_leave_it_out_in_narrow_passes_too(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    await operators.start()
    sales = await lab.database()
    name = f"app_{sales.name}"
    await there.apply(
        await lab.connection(there, sales),
        role("app", roleName=name, platformSchema={"name": "app_own"}),
        role("analysts", roleName=sales.analysts),
    )
    await there.ready(CONNECTION, APP, "PostgresRole/analysts")
    everywhere = grant("everywhere", sales.analysts, database=sales.name, privileges=["USAGE"])
    everywhere["spec"]["objects"] = [{"schemas": {"matching": ["*"]}}]
    await there.apply(everywhere)  # after a pass without any trouble, only this is looked at
    await there.ready("AccessGrant/everywhere")

    async def usage(schema: str) -> bool:
        return bool(await sales.value("SELECT has_schema_privilege(%s, %s, 'USAGE')", sales.analysts, schema))

    assert await usage("sales")
    assert not await usage("app_own")
    await there.annotate(CONNECTION, sync_now="1")
    await there.until(CONNECTION, lambda body: body["status"].get("lastHandledSync") == "1")
    assert not await usage("app_own")


@pytest.mark.requirement("R-121")
async def test_deleting_the_login_keeps_the_data_unless_asked(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    await operators.start()
    sales = await lab.database()
    names = {one: f"{one}_{sales.name}" for one in ("kept", "dropped")}
    await there.apply(
        await lab.connection(there, sales),
        role("kept", roleName=names["kept"], deletionPolicy="Drop", platformSchema={"name": "app_kept"}),
        role(
            "dropped",
            roleName=names["dropped"],
            deletionPolicy="Drop",
            platformSchema={"name": "app_dropped", "deletionPolicy": "Drop"},
        ),
    )
    await there.ready("PostgresRole/kept", "PostgresRole/dropped")
    for one, name in names.items():
        await sales.run(f"CREATE TABLE app_{one}.state (id int)")
        await sales.run(f'ALTER TABLE app_{one}.state OWNER TO "{name}"')
    for one in names:
        await there.delete(f"PostgresRole/{one}")
        await there.gone(f"PostgresRole/{one}")
    assert await schemas(sales) == {"app_kept"}
    assert await sales.value("SELECT count(*) FROM app_kept.state") == 0
    assert (
        await sales.value(
            "SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = 'app_kept.state'::regclass"
        )
        == lab.operator
    )
    for name in names.values():
        assert not await sales.value("SELECT count(*) FROM pg_roles WHERE rolname = %s", name)
