"""Whose declarations count: namespaces that a connection allows, and what is suspended."""

import pytest

from tests.cluster.kube import Namespace, current, is_not_ready, is_ready, message_of
from tests.cluster.lab import Lab
from tests.cluster.manifests import grant
from tests.cluster.operators import Operators

pytestmark = pytest.mark.asyncio(loop_scope="session")

CONNECTION, READERS, GUESTS = "LakebaseConnection/marketing", "AccessGrant/readers", "AccessGrant/guests"


@pytest.mark.parametrize(
    "allowed",
    [{"from": "All"}, {"from": "Selector", "selector": {"team": "finance"}}],
    ids=["all", "selector"],
)
async def test_consent_gives_another_namespace_access_and_its_removal_takes_it_back(
    lab: Lab, there: Namespace, other: Namespace, operators: Operators, allowed: dict[str, object]
) -> None:
    await operators.start()
    sales = await lab.settled(there)
    guests = grant("guests", sales.analysts, database=sales.name, privileges=["INSERT"])
    guests["spec"]["connectionRef"] = {"name": "marketing", "namespace": there.name}
    await other.apply(guests)
    body = await other.reason(GUESTS, "ConnectionNotAllowed")
    assert current(body, "Stalled") is not None
    assert "spec.allowedNamespaces" in message_of(body)
    assert not await sales.may(sales.analysts, "INSERT", "sales.items")
    await there.spec(CONNECTION, allowedNamespaces=allowed)
    await other.ready(GUESTS)
    assert await sales.may(sales.analysts, "INSERT", "sales.items")
    await there.spec(CONNECTION, allowedNamespaces={"from": "Same", "selector": None})
    await other.reason(GUESTS, "ConnectionNotAllowed")
    assert not await sales.may(sales.analysts, "INSERT", "sales.items")
    assert await sales.may(sales.analysts, "SELECT"), "the namespace's own goes on"
    await other.delete(GUESTS)
    await other.gone(GUESTS)


async def test_a_namespace_that_loses_its_label_loses_its_access_at_the_next_look(
    lab: Lab, there: Namespace, other: Namespace, operators: Operators
) -> None:
    await operators.start()
    sales = await lab.settled(
        there, interval="1s", allowedNamespaces={"from": "Selector", "selector": {"team": "finance"}}
    )
    guests = grant("guests", sales.analysts, database=sales.name, privileges=["INSERT"])
    guests["spec"]["connectionRef"] = {"name": "marketing", "namespace": there.name}
    await other.apply(guests)
    await other.ready(GUESTS)
    await other.admin.request(
        "PATCH",
        f"/api/v1/namespaces/{other.name}",
        {"metadata": {"labels": {"team": "sales"}}},
        "application/merge-patch+json",
    )
    await other.reason(GUESTS, "ConnectionNotAllowed")
    assert not await sales.may(sales.analysts, "INSERT", "sales.items")


async def test_a_refused_grant_that_is_deleted_goes(
    lab: Lab, there: Namespace, other: Namespace, operators: Operators
) -> None:
    await operators.start()
    sales = await lab.settled(there, allowedNamespaces={"from": "All"})
    guests = grant("guests", sales.analysts, database=sales.name, privileges=["INSERT"])
    guests["spec"]["connectionRef"] = {"name": "marketing", "namespace": there.name}
    await other.apply(guests)
    await other.ready(GUESTS)
    await lab.simulator.set_state("autoscaling", "DISABLED")
    await there.spec(CONNECTION, allowedNamespaces={"from": "Same"})
    await other.reason(GUESTS, "ConnectionNotAllowed")
    await other.delete(GUESTS)
    await other.gone(GUESTS)
    await there.reason(CONNECTION, "EndpointDisabled")
    await lab.simulator.set_state("autoscaling", "ACTIVE")
    await there.ready(CONNECTION)
    assert not await sales.may(sales.analysts, "INSERT", "sales.items")


async def test_a_suspended_connection_leaves_the_database_alone_until_it_is_resumed(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    await operators.start()
    sales = await lab.settled(there, interval="1s")
    logins = lab.simulator.target("autoscaling").stats.logins
    await there.spec(CONNECTION, suspend=True)
    await there.reason(CONNECTION, "Suspended", ready=True)
    before = logins[lab.operator, "oauth"]
    await there.apply(grant("writers", sales.analysts, database=sales.name, access="Write"))
    body = await there.reason("AccessGrant/writers", "ConnectionSuspended")
    assert current(body, "Reconciling") is not None
    assert is_ready(await there.get(READERS))
    assert await sales.may(sales.analysts, "SELECT"), "nothing is revoked"
    await there.delete(READERS)
    body = await there.reason(READERS, "DeletionBlocked")
    assert "suspended" in message_of(body)
    assert logins[lab.operator, "oauth"] == before
    await there.spec(CONNECTION, suspend=False)
    await there.ready(CONNECTION, "AccessGrant/writers")
    await there.gone(READERS)
    assert await sales.may(sales.analysts, "INSERT")


async def test_a_suspended_grant_holds_nothing_until_it_is_resumed(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    await operators.start()
    sales = await lab.settled(there)
    await there.spec(READERS, suspend=True)
    await there.reason(READERS, "Suspended", ready=True)
    assert not await sales.may(sales.analysts, "SELECT")
    await there.spec(READERS, suspend=False)
    await there.reason(READERS, "Succeeded", ready=True)
    assert await sales.may(sales.analysts, "SELECT")


async def test_a_grant_without_its_connection_waits_for_it(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    sales = await lab.database()
    await operators.start()
    await there.apply(grant("readers", "public_api", database=sales.name))
    body = await there.reason(READERS, "ConnectionNotFound")
    assert f"There is no LakebaseConnection {there.name}/marketing" in message_of(body)
    assert current(body, "Reconciling") is not None
    await there.apply(await lab.connection(there, sales))
    await there.until(
        READERS, lambda body: is_not_ready(body) and "ConnectionNotFound" not in str(body["status"])
    )
