"""A change of one AccessGrant costs a look at its roles, and is carried out as if everything had been looked at."""

import pytest

from lakebase_operator.api import Reason
from tests.cluster.kube import Namespace
from tests.cluster.lab import Lab
from tests.cluster.manifests import grant, role
from tests.cluster.operators import Operators
from tests.cluster.watcher import Watcher

pytestmark = pytest.mark.asyncio(loop_scope="session")

CONNECTION, READERS, NOBODY = "LakebaseConnection/marketing", "AccessGrant/readers", "AccessGrant/nobody"
SOON = 20.0
"""Seconds; the next comparison of everything is an hour away."""


async def test_an_edit_looks_at_the_roles_that_it_concerns_and_leaves_the_rest_to_the_next_comparison(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    await operators.start()
    sales = await lab.settled(there)
    other = f"writers_{sales.name}"
    await there.apply(role("writers", roleName=other), grant("writers", other, database=sales.name))
    await there.ready("AccessGrant/writers")
    await sales.take(other)
    await there.spec(READERS, access="Write")
    await there.ready(READERS)
    assert await sales.may(sales.analysts, "INSERT")
    assert not await sales.may(other, "SELECT"), "nobody looked"
    await there.annotate(CONNECTION, sync_now="please")

    async def repaired() -> bool:
        return await sales.may(other, "SELECT")

    await there.true("the comparison of everything finds it", repaired)
    assert (await there.status(CONNECTION))["grants"] == 2


async def test_the_first_access_grant_of_a_connection_that_had_none_lands_without_an_error(
    lab: Lab, there: Namespace, operators: Operators, watcher: Watcher
) -> None:
    """The ledger is made in a session that prepares what it executes, and several commands cannot be prepared."""
    await operators.start()
    sales = await lab.database()
    await sales.run(f"CREATE ROLE {sales.analysts}")
    await there.apply(await lab.connection(there, sales))
    await there.ready(CONNECTION)
    await there.apply(grant("readers", sales.analysts, database=sales.name))
    await there.ready(READERS)
    assert await sales.may(sales.analysts, "SELECT")
    seen = watcher.statuses("AccessGrant", there.name, "readers")
    reasons = {one["reason"] for status in seen for one in status.get("conditions", ())}
    assert Reason.INTERNAL_ERROR.value not in reasons


async def test_what_another_access_grant_gives_to_the_same_role_stays(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    await operators.start()
    sales = await lab.settled(there)
    await there.apply(grant("more", sales.analysts, database=sales.name, privileges=["SELECT", "INSERT"]))
    await there.ready("AccessGrant/more")
    await there.delete("AccessGrant/more")
    await there.gone("AccessGrant/more")
    assert await sales.may(sales.analysts, "SELECT")
    assert not await sales.may(sales.analysts, "INSERT")
    await there.spec(READERS, objects=[{"tables": {"schema": "sales", "names": ["items"]}}])
    await there.ready(READERS)
    assert await sales.may(sales.analysts, "SELECT", "sales.items")
    assert not await sales.may(sales.analysts, "SELECT")


async def test_another_role_of_the_same_name_is_noticed(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    await operators.start()
    sales = await lab.settled(there)
    other = f"other_{sales.name}"
    await sales.run(f"CREATE ROLE {other}")
    await there.apply(grant("other", other, database=sales.name))
    await there.ready("AccessGrant/other")
    await sales.run(f"ALTER ROLE {other} RENAME TO former_{other}")
    await sales.run(f"CREATE ROLE {other}")
    await there.spec(READERS, access="Write")  # has nothing to do with it
    await there.ready(READERS)

    async def granted() -> bool:
        return await sales.may(other, "SELECT")

    await there.true("the new role has what is declared for it", granted)


@pytest.mark.requirement("R-191")
async def test_what_others_take_away_or_give_to_everybody_is_told_where_it_matters(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    await operators.start()
    sales = await lab.settled(there)
    absent = grant(
        "nobody",
        sales.analysts,
        database=sales.name,
        privileges=["SELECT"],
        ensure="Absent",
        tables=["orders"],
    )
    await there.apply(absent)
    await there.reason(READERS, Reason.CONFLICTING_DECLARATIONS, deadline=SOON)
    await there.ready(NOBODY)
    assert not await sales.may(sales.analysts, "SELECT")
    everybody = [{"kind": "Public"}]
    await there.apply(
        grant("all", database=sales.name, privileges=["SELECT"], subjects=everybody, tables=["orders"])
    )
    await there.reason(NOBODY, Reason.HELD_THROUGH_PUBLIC, deadline=SOON)
    await there.delete("AccessGrant/all")
    await there.gone("AccessGrant/all")
    await there.ready(NOBODY, deadline=SOON)
    await there.delete(NOBODY)
    await there.gone(NOBODY)
    await there.ready(READERS, deadline=SOON)
    assert await sales.may(sales.analysts, "SELECT")


async def test_whoever_may_create_in_a_schema_is_a_creator_for_default_privileges_at_once_and_no_longer(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    await operators.start()
    sales = await lab.settled(there)
    maker = f"makers_{sales.name}"
    tables = [{"defaultPrivileges": {"schema": "sales", "objectType": "tables"}}]
    await there.apply(
        role("makers", roleName=maker),
        grant("defaults", sales.analysts, database=sales.name, privileges=["SELECT"], objects=tables),
    )
    await there.ready("PostgresRole/makers", "AccessGrant/defaults")
    schema = [{"schemas": {"names": ["sales"]}}]
    create = grant("makers", maker, database=sales.name, privileges=["CREATE", "USAGE"], objects=schema)

    async def is_creator() -> bool:
        query = "SELECT count(*) FROM pg_default_acl WHERE defaclrole = %s::regrole"
        return bool(await sales.value(query, f'"{maker}"'))

    await there.apply(create)
    await there.true("what it makes can be read", is_creator, deadline=SOON)
    await there.delete("AccessGrant/makers")
    await there.gone("AccessGrant/makers")
    assert not await is_creator()
