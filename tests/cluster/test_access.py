"""What is declared becomes access that people have."""

import psycopg
import pytest

from tests.cluster.kube import Namespace
from tests.cluster.lab import Lab
from tests.cluster.manifests import grant, mapping, role
from tests.cluster.operators import Operators

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.mark.requirement("R-1", "R-42")
async def test_a_declared_grant_is_access_that_a_person_has_at_the_next_statement(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    sales = await lab.database()
    lab.identity("alice@example.com")
    await operators.start()
    await there.apply(
        await lab.connection(there, sales),
        mapping("alice", "alice@example.com"),
        grant("staff", "alice@example.com", database=sales.name, tables="items"),
    )
    await there.ready("LakebaseConnection/marketing", "UserMapping/alice", "AccessGrant/staff")
    alice = await psycopg.AsyncConnection.connect(
        host="localhost",
        port=sales.target.port,
        dbname=sales.name,
        user="alice@example.com",
        password=lab.simulator.login("autoscaling", "alice@example.com").token,
        sslmode="verify-full",
        sslrootcert=str(lab.simulator.ca_file),
        autocommit=True,
    )
    async with alice:
        await alice.execute("SELECT * FROM sales.items")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await alice.execute("SELECT * FROM sales.orders")
        await there.apply(grant("orders", "alice@example.com", database=sales.name, access="Write"))
        await there.ready("AccessGrant/orders")
        await alice.execute("INSERT INTO sales.orders (total) VALUES (7)")
        await there.delete("AccessGrant/orders")
        await there.gone("AccessGrant/orders")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await alice.execute("SELECT * FROM sales.orders")


@pytest.mark.requirement("R-9")
async def test_one_connection_covers_two_databases_with_independent_grants(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    first, second = await lab.database(), await lab.database()
    await operators.start()
    await there.apply(
        await lab.connection(there, first, second),
        role("analysts", roleName=first.analysts),
        grant("reading", first.analysts, database=first.name),
        grant("writing", first.analysts, database=second.name, access="Write", tables="orders"),
    )
    await there.ready("LakebaseConnection/marketing", "AccessGrant/reading", "AccessGrant/writing")
    assert await first.may(first.analysts, "SELECT", "sales.items")
    assert not await first.may(first.analysts, "INSERT")
    assert await second.may(first.analysts, "INSERT")
    assert not await second.may(first.analysts, "SELECT", "sales.items")
    await there.delete("AccessGrant/reading")
    await there.gone("AccessGrant/reading")
    assert not await first.may(first.analysts, "SELECT")
    assert await second.may(first.analysts, "INSERT")
    databases = (await there.status("LakebaseConnection/marketing"))["databases"]
    assert [one["name"] for one in databases] == [first.name, second.name]


@pytest.mark.requirement("R-25", "R-26")
async def test_a_person_who_is_mapped_or_added_later_gets_access_without_further_action(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    sales = await lab.database()
    late, later = f"late.{sales.name}@example.com", f"later.{sales.name}@example.com"
    lab.identity(late)
    lab.identity(later)
    await operators.start()
    await there.apply(
        await lab.connection(there, sales), grant("readers", late, database=sales.name, tables="orders")
    )
    body = await there.reason("AccessGrant/readers", "UnmappedUsers")
    assert (
        late in next(one for one in body["status"]["conditions"] if one["type"] == "UnmappedUsers")["message"]
    )
    await there.apply(mapping("late", late))
    await there.ready("AccessGrant/readers", "UserMapping/late")
    assert await sales.may(late, "SELECT")
    await there.apply(
        mapping("later", later), grant("readers", late, later, database=sales.name, tables="orders")
    )
    await there.ready("AccessGrant/readers", "UserMapping/later")
    assert await sales.may(later, "SELECT")


@pytest.mark.requirement("R-56", "R-93", "R-106")
async def test_two_connections_with_the_same_role_and_table_names_do_not_touch_each_other(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    lakes = await lab.database("autoscaling"), await lab.database("provisioned")
    name = lakes[0].analysts
    await operators.start()
    for connection, lake, access in zip(("eu", "us"), lakes, ("Read", "Write"), strict=True):
        await there.apply(
            await lab.connection(there, lake, name=connection),
            role(f"analysts-{connection}", connection, roleName=name),
            grant(
                f"orders-{connection}",
                name,
                database=lake.name,
                tables=["orders"],
                connection=connection,
                access=access,
            ),
        )
    await there.ready(
        *(f"LakebaseConnection/{one}" for one in ("eu", "us")),
        *(f"AccessGrant/orders-{one}" for one in ("eu", "us")),
    )
    assert await lakes[0].may(name, "SELECT")
    assert not await lakes[0].may(name, "INSERT")
    assert await lakes[1].may(name, "INSERT")
    for one, version in (("eu", "18"), ("us", "16")):
        assert (await there.status(f"LakebaseConnection/{one}"))["serverVersion"].startswith(version)
    await there.delete("AccessGrant/orders-us")
    await there.gone("AccessGrant/orders-us")
    assert await lakes[0].may(name, "SELECT")
    assert not await lakes[1].may(name, "SELECT")


async def test_two_connections_to_one_database_leave_each_others_grants_alone(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    sales = await lab.database()
    operator = await operators.start()
    await there.apply(
        await lab.connection(there, sales, name="one"),
        await lab.connection(there, sales, name="two"),
        role("analysts", "one", roleName=sales.analysts),
    )
    await there.ready("PostgresRole/analysts")
    await there.apply(
        grant("orders", sales.analysts, database=sales.name, tables=["orders"], connection="one"),
        grant("items", sales.analysts, database=sales.name, tables=["items"], connection="two"),
    )
    await there.ready("AccessGrant/orders", "AccessGrant/items")
    for name in ("one", "two"):
        await there.annotate(f"LakebaseConnection/{name}", sync_now="1")
        await operator.passed(there.name, 1, name)
    assert await sales.may(sales.analysts, "SELECT", "sales.orders")
    assert await sales.may(sales.analysts, "SELECT", "sales.items")


async def test_a_mapping_for_two_connections_of_which_one_is_stopped_has_one_steady_status(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    lakes = await lab.database("autoscaling"), await lab.database("provisioned")
    person = f"frank.{lakes[0].name}@example.com"
    lab.identity(person)
    operator = await operators.start()
    for connection, lake in zip(("eu", "us"), lakes, strict=True):
        await there.apply(await lab.connection(there, lake, name=connection, drift={"interval": "1s"}))
    await there.ready("LakebaseConnection/eu", "LakebaseConnection/us")
    await lab.simulator.set_state("provisioned", "STOPPED")
    await there.apply(mapping("frank", person))

    async def both_twice() -> None:
        for name in ("eu", "us", "eu", "us"):
            await operator.passed(there.name, 1, name)

    await both_twice()
    version = (await there.get("UserMapping/frank"))["metadata"]["resourceVersion"]
    await both_twice()
    assert (await there.get("UserMapping/frank"))["metadata"]["resourceVersion"] == version
    await lab.simulator.set_state("provisioned", "AVAILABLE")
    await there.until("UserMapping/frank", lambda body: len(body["status"].get("roles") or []) == 2)
    (body,) = await there.ready("UserMapping/frank")
    version = body["metadata"]["resourceVersion"]
    await operator.stop()
    operator = await operators.start()
    await both_twice()
    assert (await there.get("UserMapping/frank"))["metadata"]["resourceVersion"] == version, (
        "nor by a restart"
    )
