import pytest
from tests.postgres.objects import access_grant, tables
from tests.postgres.world import READY, World
from lakebase_operator.api import Reason


@pytest.mark.requirement("R-15")
async def test_read_gives_select_and_nothing_else(world: World) -> None:
    reader = await world.role("reader")
    await world.run("CREATE SCHEMA sales", "CREATE TABLE sales.orders (id int)")
    grant = access_grant("g", [reader], [tables("sales", "orders")], database=world.database)
    synced = await world.sync(grant)
    assert synced.said(grant) == (READY, Reason.SUCCEEDED)
    assert await world.acl("sales.orders", reader) == {"SELECT"}
    assert await world.allowed(reader, "SELECT * FROM sales.orders")
    print(synced.statements)
