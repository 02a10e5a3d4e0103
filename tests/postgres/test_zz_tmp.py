import time
import pytest
from tests.postgres.objects import *
from tests.postgres.world import World, KEY
from lakebase_operator.external.postgres.grants import Scope
from lakebase_operator.external.postgres.queries import with_rules

async def test_long(world):
    if world.version == 18: return
    n, m = 500, 300
    names = [f"table_with_a_rather_long_name_{number:04}" for number in range(n)]
    roles = [world.name(f"r{number}") for number in range(m)]
    await world.run("CREATE SCHEMA sales")
    await world.admin.execute("; ".join(f"CREATE TABLE sales.{name} ()" for name in names).encode())
    await world.admin.execute("; ".join(f"CREATE ROLE {name}" for name in roles).encode())
    entries = [tables("sales", *names[start : start + 250]) for start in range(0, n, 250)]
    grant = access_grant("g", roles, entries, database=world.database)
    await world.sync(grant)
    async with world.session() as c:
        cur = await c.execute("EXPLAIN (ANALYZE, COSTS OFF, SUMMARY OFF) " + with_rules("compare"), Scope().parameters(str(KEY), []))
        for row in await cur.fetchall(): 
            line = row["QUERY PLAN"]
            print(line)
