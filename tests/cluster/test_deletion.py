"""Deleting things, also where what they depend on is gone, stopped or never was."""

from collections.abc import Iterable

import pytest

from lakebase_operator.api.base import FINALIZER, ObjectMeta
from lakebase_operator.external.kube.objects import KubeObjects
from tests.cluster.kube import PLURALS, Namespace, condition_of, current, is_ready, message_of
from tests.cluster.lab import Lab
from tests.cluster.manifests import grant, mapping, role
from tests.cluster.operators import Operators
from tests.cluster.watcher import Watcher

pytestmark = pytest.mark.asyncio(loop_scope="session")

CONNECTION, READERS, ROLE = "LakebaseConnection/marketing", "AccessGrant/readers", "PostgresRole/analysts"


async def test_a_connection_that_goes_first_waits_for_grants_that_go_with_it(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    await operators.start(deletion_grace_seconds=2)
    sales = await lab.settled(there)
    await there.delete(CONNECTION)
    await there.reason(CONNECTION, "WaitingForDependents")
    await there.delete(READERS)
    await there.delete(ROLE)
    await there.gone(READERS, ROLE, CONNECTION)
    assert not await sales.may(sales.analysts, "SELECT")


async def test_a_namespace_that_is_deleted_as_a_whole_takes_its_access_with_it(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    await operators.start()
    sales = await lab.settled(there)
    await there.apply(
        mapping("alice", "alice@example.com"),
        *(grant(f"more-{n}", sales.analysts, database=sales.name, privileges=["INSERT"]) for n in range(5)),
    )
    await there.ready(*(f"AccessGrant/more-{n}" for n in range(5)))
    await there.admin.request("DELETE", f"/api/v1/namespaces/{there.name}")

    async def empty() -> bool:
        return not any([await there.all_of(kind) for kind in PLURALS])

    await there.true("nothing is left", empty)
    assert not await sales.may(sales.analysts, "SELECT")
    assert not await sales.may(sales.analysts, "INSERT")
    assert not await sales.held()


async def test_a_secret_that_goes_first_does_not_keep_access_alive(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    operator = await operators.start()
    sales = await lab.settled(there)
    await there.delete("Secret/marketing-sp")
    await there.delete("Secret/ca")
    await there.reason(CONNECTION, "SecretNotFound")  # noticed before anything else is deleted
    await there.delete(READERS)
    body = await there.reason(READERS, "DeletionBlocked")
    assert 'Secret "' in message_of(body)
    await there.delete(CONNECTION)
    await there.gone(READERS, CONNECTION)
    assert not await sales.may(sales.analysts, "SELECT")
    assert operator.task.done() is False


async def test_a_secret_that_is_gone_since_before_the_start_blocks_with_a_reason_until_it_is_abandoned(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    operator = await operators.start()
    sales = await lab.settled(there)
    await operator.stop()
    await there.delete("Secret/marketing-sp")
    await there.delete(READERS)
    await there.delete(CONNECTION)
    await operators.start()
    for thing in (READERS, CONNECTION):
        body = await there.reason(thing, "DeletionBlocked")
        assert "lakebase.dev/abandon" in message_of(body)
        assert (await there.told(thing, "DeletionBlocked"))["note"] == message_of(body)
    await there.annotate(READERS, abandon="true")
    await there.gone(READERS)
    assert (await there.told(READERS, "Abandoned"))["type"] == "Warning"
    assert await sales.may(sales.analysts, "SELECT"), "as asked, nothing was cleaned up"
    await there.gone(CONNECTION)  # nobody needs its credential any more


async def test_a_stopped_database_keeps_the_object_and_says_why(
    lab: Lab, there: Namespace, operators: Operators, watcher: Watcher
) -> None:
    await operators.start()
    sales = await lab.settled(there, target="provisioned")
    await lab.simulator.set_state("provisioned", "STOPPED")
    await there.delete(READERS)
    body = await there.reason(READERS, "DeletionBlocked")
    assert "The instance is stopped" in message_of(body)
    assert FINALIZER in body["metadata"]["finalizers"]
    assert "The instance is stopped" in (await there.told(READERS, "DeletionBlocked"))["note"]
    after = [
        one for one in watcher.statuses("AccessGrant", there.name, "readers") if one["observedGeneration"] > 1
    ]
    assert [one["conditions"][0]["status"] for one in after] == ["False"], (
        "the first word after it, and the only one"
    )
    await there.reason(CONNECTION, "InstanceStopped")
    await lab.simulator.set_state("provisioned", "AVAILABLE")
    await there.gone(READERS)
    assert not await sales.may(sales.analysts, "SELECT")
    await there.ready(CONNECTION)


@pytest.mark.parametrize("policy", ["Retain", "Revoke"])
@pytest.mark.requirement("R-196")
async def test_the_deletion_policy_of_a_connection_decides_about_its_grants(
    lab: Lab, there: Namespace, operators: Operators, policy: str, watcher: Watcher
) -> None:
    await operators.start()
    sales = await lab.settled(there, deletionPolicy=policy)
    await there.delete(CONNECTION)
    await there.gone(CONNECTION)
    assert await sales.may(sales.analysts, "SELECT") is (policy == "Retain")
    body = await there.reason(READERS, "ConnectionNotFound")
    assert current(body, "Reconciling") is not None

    def said() -> set[str]:
        statuses = watcher.statuses("AccessGrant", there.name, "readers")
        return {one["conditions"][0]["reason"] for one in statuses if one.get("conditions")}

    async def seen() -> bool:
        return "ConnectionNotFound" in said()

    await there.true("the watcher has seen it too", seen)
    assert said() == {"Succeeded", "ConnectionNotFound"}, "nothing untrue on the way"
    assert not await sales.held(), (
        "what is left is nobody's: no later connection would hand it over to this one"
    )


async def test_a_connection_that_leaves_its_grants_goes_also_where_no_ledger_can_forget_it(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    await operators.start()
    sales = await lab.settled(there, target="provisioned")
    await lab.simulator.set_state("provisioned", "STOPPED")
    await there.delete(CONNECTION)
    await there.gone(CONNECTION)
    await lab.simulator.set_state("provisioned", "AVAILABLE")
    sales.admin = await sales.target.server.connect(sales.name)
    assert await sales.may(sales.analysts, "SELECT")


async def test_privileges_left_by_a_connection_belong_to_the_next_one_whatever_its_name(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    await operators.start()
    sales = await lab.settled(there)
    await there.delete(CONNECTION)
    await there.gone(CONNECTION)
    await there.apply(
        await lab.connection(there, sales, name="renamed"),
        grant("successors", sales.analysts, database=sales.name, connection="renamed"),
    )
    await there.ready("LakebaseConnection/renamed", "AccessGrant/successors")
    await there.delete("AccessGrant/successors")
    await there.gone("AccessGrant/successors")
    assert not await sales.may(sales.analysts, "SELECT")


async def test_a_grant_whose_connection_is_gone_goes_with_a_warning(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    await operators.start()
    sales = await lab.settled(there)
    await there.delete(CONNECTION)
    await there.gone(CONNECTION)
    await there.delete(READERS)
    await there.gone(READERS)
    assert (await there.told(READERS, "Abandoned"))["type"] == "Warning"
    assert await sales.may(sales.analysts, "SELECT")


async def test_a_connection_that_comes_back_takes_its_grants_up_again(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    await operators.start()
    sales = await lab.settled(there)
    await there.delete(CONNECTION)
    await there.gone(CONNECTION)
    await there.reason(READERS, "ConnectionNotFound")
    before = await sales.log()
    await there.apply(await lab.connection(there, sales))
    await there.ready(CONNECTION, READERS)
    assert await sales.log() == before, "it held already what is declared"
    await there.delete(READERS)
    await there.gone(READERS)
    assert not await sales.may(sales.analysts, "SELECT")


@pytest.mark.parametrize("gone", [(READERS,), (READERS, ROLE, CONNECTION)], ids=["grant", "everything"])
async def test_what_is_deleted_before_it_has_its_finalizer_gives_no_access(
    lab: Lab, there: Namespace, operators: Operators, gone: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    add, waiting = KubeObjects.add_finalizers, list(gone)

    async def too_late(kube: KubeObjects, objects: Iterable[tuple[str, ObjectMeta]]) -> bool:
        wanted = list(objects)
        if any(kind == "AccessGrant" for kind, _ in wanted):
            while waiting:
                await there.delete(waiting.pop())
        return await add(kube, wanted)

    monkeypatch.setattr(KubeObjects, "add_finalizers", too_late)
    sales = await lab.database()
    await there.apply(
        await lab.connection(there, sales),
        role("analysts", roleName=sales.analysts),
        grant("readers", sales.analysts, database=sales.name),
    )
    operator = await operators.start()
    await there.gone(*gone)
    await operator.passed(there.name, 0, at_least=2)
    if CONNECTION not in gone:
        await there.ready(CONNECTION, ROLE)
    assert not await sales.may(sales.analysts, "SELECT")
    statements = [statement for _, statement, _ in await sales.log()]
    assert not any("ON TABLE" in one for one in statements), "not even for a moment"


async def test_a_grant_that_never_had_a_connection_goes_at_once(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    await operators.start()
    await there.apply(grant("readers", "nobody", database="nowhere"))
    await there.reason(READERS, "ConnectionNotFound")
    await there.delete(READERS)
    await there.gone(READERS)


async def test_what_is_deleted_while_no_operator_runs_is_cleaned_up_at_its_start(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    operator = await operators.start()
    sales = await lab.settled(there)
    await there.apply(role("gone", roleName=f"gone_{sales.name}", deletionPolicy="Drop"))
    await there.ready("PostgresRole/gone")
    await operator.stop()
    await there.delete(READERS)
    await there.delete("PostgresRole/gone")
    await operators.start()
    await there.gone(READERS, "PostgresRole/gone")
    assert not await sales.may(sales.analysts, "SELECT")
    assert not await sales.run("SELECT FROM pg_roles WHERE rolname = %s", f"gone_{sales.name}")


async def test_a_database_that_is_taken_out_keeps_its_grants_and_is_cleaned_up_when_it_comes_back(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    await operators.start()
    sales = await lab.settled(there)
    other = await lab.database()
    await there.spec(CONNECTION, databases=[sales.name, other.name])
    await there.apply(grant("others", sales.analysts, database=other.name))
    await there.ready("AccessGrant/others")
    await there.spec(CONNECTION, databases=[sales.name])
    await there.reason("AccessGrant/others", "DatabaseNotManaged")
    await there.ready(CONNECTION)
    await there.delete("AccessGrant/others")
    await there.gone("AccessGrant/others")
    assert (await there.told("AccessGrant/others", "Abandoned"))["type"] == "Warning"
    assert await other.may(sales.analysts, "SELECT")
    await there.spec(CONNECTION, databases=[sales.name, other.name])
    await there.ready(CONNECTION)
    assert not await other.may(sales.analysts, "SELECT")
    assert await sales.may(sales.analysts, "SELECT")


async def test_a_role_that_takes_over_nothing_is_dropped_if_the_operator_has_made_it(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    await operators.start()
    sales = await lab.database()
    made, found = f"made_{sales.name}", f"found_{sales.name}"
    await there.apply(
        await lab.connection(there, sales),
        role("made", roleName=made, adopt=False, deletionPolicy="Drop"),
    )
    await there.ready("PostgresRole/made")
    await sales.run(f"CREATE ROLE {found}")
    await there.apply(role("found", roleName=found, adopt=False, deletionPolicy="Drop"))
    await there.reason("PostgresRole/found", "RoleExists")
    for name in ("made", "found"):
        await there.delete(f"PostgresRole/{name}")
        await there.gone(f"PostgresRole/{name}")
    left = await sales.run("SELECT rolname FROM pg_roles WHERE rolname = ANY(%s)", [made, found])
    assert left == [(found,)]


async def test_a_role_whose_drop_is_blocked_stays_while_access_grants_come_and_go(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    operator = await operators.start()
    sales = await lab.settled(there)
    made = f"made_{sales.name}"
    await there.apply(role("made", roleName=made, adopt=False, deletionPolicy="Drop"))
    await there.ready("PostgresRole/made")
    await sales.run("CREATE TABLE sales.kept ()")
    await sales.run(f"ALTER TABLE sales.kept OWNER TO {made}")
    await there.delete("PostgresRole/made")
    await there.reason("PostgresRole/made", "RoleDropBlocked")
    for number in range(3):
        passes = operator.count(there.name)
        await there.apply(grant(f"more-{number}", sales.analysts, database=sales.name, access="Write"))
        await there.ready(f"AccessGrant/more-{number}")
        await operator.passed(there.name, 0, at_least=passes + 1)
    body = await there.find("PostgresRole/made")
    assert body is not None, "it went, and the role is still there"
    assert condition_of(body, "Ready")["reason"] == "RoleDropBlocked"
    await sales.run("DROP TABLE sales.kept")
    await there.annotate(CONNECTION, sync_now="1")
    await there.gone("PostgresRole/made")
    assert not await sales.run("SELECT FROM pg_roles WHERE rolname = %s", made)


@pytest.mark.requirement("R-215")
async def test_a_mapping_that_is_deleted_takes_access_back(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    sales = await lab.database()
    await sales.run(f"CREATE ROLE role_{sales.name} LOGIN")
    await operators.start()
    await there.apply(
        await lab.connection(there, sales),
        mapping("bob", "bob@example.com", "Explicit", postgresUsername=f"role_{sales.name}"),
        grant("readers", "bob@example.com", database=sales.name, tables="orders"),
    )
    await there.ready(READERS)
    assert await sales.may(f"role_{sales.name}", "SELECT")
    await there.delete("UserMapping/bob")
    await there.until(READERS, lambda body: not is_ready(body))
    assert not await sales.may(f"role_{sales.name}", "SELECT")


@pytest.mark.requirement("R-29")
async def test_an_access_grant_with_a_privilege_that_the_server_does_not_know_can_be_deleted(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    await operators.start()
    sales = await lab.settled(there, target="provisioned")  # PostgreSQL 16
    unknown = grant("unknown", sales.analysts, database=sales.name, privileges=["INSERT", "MAINTAIN"])
    await there.apply(unknown)
    await there.reason("AccessGrant/unknown", "InvalidSpec")
    assert await sales.may(sales.analysts, "INSERT")
    await there.delete("AccessGrant/unknown")
    await there.gone("AccessGrant/unknown")
    assert not await sales.may(sales.analysts, "INSERT")
