"""Lakebases by manifest: made, taken over, changed, stopped, branched and deleted, by the whole operator."""

import asyncio
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio

from lakebase_operator.api import LakebaseInstance
from lakebase_operator.api.base import ObjectMeta
from lakebase_operator.external.kube.objects import KubeObjects
from lakebase_sandbox.simulator.permissions import PROJECTS, Level
from tests.cluster.kube import Body, Namespace, condition_of, current, is_ready, message_of
from tests.cluster.lab import Lab
from tests.cluster.manifests import grant, manifest, role
from tests.cluster.operators import Operators, Running

pytestmark = pytest.mark.asyncio(loop_scope="session")

INSTANCE, CONNECTION, CATALOG = (
    "LakebaseInstance/growing",
    "LakebaseConnection/marketing",
    "DatabaseCatalog/sales",
)
MAIN = "projects/growing/branches/production"
READER: Body = {"readReplicas": [{"name": "reader"}]}


@pytest_asyncio.fixture(loop_scope="session", autouse=True)
async def as_it_was(lab: Lab) -> AsyncIterator[None]:
    """What a test makes in the workspace goes with it."""
    workspace = lab.simulator.workspace
    kept = [
        (known, dict(known))
        for known in (
            workspace.projects,
            workspace.branches,
            workspace.endpoints,
            workspace.instances,
            workspace.catalogs,
        )
    ]
    targets = {name: target.enable_pg_native_login for name, target in workspace.targets.items()}
    yield
    workspace.operations.seconds = lab.simulator.settings.operation_seconds
    await workspace.operations.close()
    for target in list(workspace.targets.values()):
        if target.name not in targets:
            await workspace.remove_target(target)
        else:
            target.enable_pg_native_login = targets[target.name]
    for known, before in kept:
        known.clear()
        known.update(before)  # type: ignore[call-overload]  # each with its own


async def start(operators: Operators, **changes: Any) -> Running:
    """An operator that looks at instances all the time."""
    return await operators.start(**{"instance_poll_seconds": 0.3, **changes})


async def instance(lab: Lab, there: Namespace, name: str = "growing", **spec: Any) -> Body:
    """A LakebaseInstance; its Secret is made too."""
    await there.secret("operator-sp", clientSecret=lab.simulator.client_secret)
    return manifest(
        "LakebaseInstance",
        name,
        {
            "workspaceURL": lab.simulator.workspace_url,
            "auth": {
                "oauthM2M": {
                    "clientID": lab.simulator.client_id,
                    "clientSecretRef": {"name": "operator-sp", "key": "clientSecret"},
                }
            },
            **spec,
        },
    )


def settings_of(body: Body) -> dict[str, tuple[str, str | None]]:
    """Wanted and effective values by name."""
    return {one["name"]: (one["wanted"], one.get("effective")) for one in body["status"]["settings"]}


async def looks(lab: Lab, there: Namespace, more: int) -> None:
    """Wait for so many more looks at the project."""
    requests, look = lab.simulator.workspace.stats.requests, "GET /api/2.0/postgres/projects/growing"
    before = requests[look]

    async def looked() -> bool:
        return requests[look] > before + more

    await there.true("it has been looked at", looked)


def changes(lab: Lab) -> Counter[str]:
    """The requests so far that change something, of the Lakebase APIs."""
    return Counter(
        {
            name: count
            for name, count in lab.simulator.workspace.stats.requests.items()
            if not name.startswith("GET ") and "/credentials" not in name and "/oidc" not in name
        }
    )


@pytest.mark.requirement("R-95", "R-97", "R-103", "R-106")
async def test_a_project_is_made_and_the_connection_that_waits_for_it_comes_up(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    await start(operators)
    sales = await lab.database()
    connection = await lab.connection(there, sales, databases=["databricks_postgres"])
    connection["spec"]["target"] = {"instanceRef": {"name": "growing"}}
    del connection["spec"]["workspaceURL"]
    await there.apply(connection)
    waiting = await there.reason(CONNECTION, "InstanceNotReady")
    assert current(waiting, "Reconciling") is not None
    endpoint = {"minCU": 1, "maxCU": 2, "suspendTimeout": "5m"}
    await there.apply(
        await instance(
            lab, there, autoscaling={"project": "growing", "postgresVersion": 18, "endpoint": endpoint}
        )
    )
    (made,) = await there.ready(INSTANCE)
    status = made["status"]
    assert status["created"] is True
    assert status["endpoint"] == {"host": "localhost", "port": 5432, "state": "Available"}
    assert status["database"] == "databricks_postgres"
    assert status["serverVersion"] == "18"
    assert settings_of(made) == {
        "production/primary minCU": ("1", "1"),
        "production/primary maxCU": ("2", "2"),
        "production/primary suspendTimeout": ("300s", "300s"),
    }
    assert "operation" not in status
    target = lab.simulator.workspace.branch_target("projects/growing/branches/production")
    assert target is not None
    await there.spec(CONNECTION, port=target.port)
    (reached,) = await there.ready(CONNECTION)
    assert reached["status"]["endpoint"]["state"] == "Available"


@pytest.mark.requirement("R-96", "R-102", "R-106")
async def test_an_existing_lakebase_is_taken_over_unchanged_and_its_connection_works(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    await start(operators)
    sales = await lab.database()
    connection = await lab.connection(there, sales)
    connection["spec"]["target"] = {"instanceRef": {"name": "growing"}}
    del connection["spec"]["workspaceURL"]
    await there.apply(
        connection,
        role("analysts", roleName=sales.analysts),
        grant("readers", sales.analysts, database=sales.name),
    )
    await there.reason(CONNECTION, "InstanceNotReady")
    before = changes(lab)
    await there.apply(await instance(lab, there, autoscaling={"project": "marketing"}))
    (adopted,) = await there.ready(INSTANCE)
    await there.ready(CONNECTION, "AccessGrant/readers")
    assert await sales.may(sales.analysts, "SELECT")
    assert changes(lab) == before, "nothing was changed that is not in the spec"
    assert adopted["status"]["created"] is False
    native = condition_of(adopted, "NativeLogin")
    assert native is not None
    assert (native["status"], native["reason"]) == ("False", "NativeLoginDisabled"), "OAuth needs none"


@pytest.mark.requirement("R-87")
async def test_a_look_with_a_password_does_not_wake_the_sleeping_compute_of_an_instance(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    operator = await start(operators)
    lab.simulator.set_native_login("autoscaling", enabled=True)
    sales = await lab.database()
    user = f"op_{sales.name}"
    connection = await lab.native_connection(
        there, sales, user, await lab.native_login(sales, user), drift={"interval": "1s"}
    )
    connection["spec"]["target"] = {"instanceRef": {"name": "growing"}}
    await there.apply(await instance(lab, there, autoscaling={"project": "marketing"}), connection)
    await there.ready(INSTANCE, CONNECTION)
    stats = lab.simulator.target("autoscaling").stats
    await lab.simulator.set_state("autoscaling", "IDLE")
    await there.until(INSTANCE, lambda body: body["status"]["endpoint"]["state"] == "Asleep")
    await there.until(CONNECTION, lambda body: body["status"]["endpoint"]["state"] == "Asleep")
    before = stats.wake_ups
    await operator.passed(there.name, 3)
    assert stats.wake_ups == before
    await there.apply(role("made", roleName=f"made_{sales.name}"))
    await there.ready("PostgresRole/made", CONNECTION)
    assert stats.wake_ups == before + 1, "a change does"


@pytest.mark.requirement("R-98", "R-135")
async def test_an_instance_is_resized_stopped_and_started(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    await start(operators)
    await there.apply(await instance(lab, there, provisioned={"instance": "growing-db", "capacity": "CU_1"}))
    await there.ready(INSTANCE)
    await lab.simulator.fault("all", "stuck-starting")  # for as long as the test wants to look
    await there.spec(INSTANCE, provisioned={"instance": "growing-db", "capacity": "CU_2"})
    resizing = await there.reason(INSTANCE, "InstanceUpdating")
    applied = condition_of(resizing, "SettingsApplied")
    assert applied is not None
    assert (applied["status"], applied["message"]) == ("False", "capacity: wanted CU_2, is CU_1")
    assert settings_of(resizing)["capacity"] == ("CU_2", "CU_1")
    await lab.simulator.clear_faults()
    (resized,) = await there.ready(INSTANCE)
    assert settings_of(resized)["capacity"] == ("CU_2", "CU_2")
    await there.spec(INSTANCE, stopped=True)
    stopped = await there.until(
        INSTANCE, lambda body: is_ready(body) and body["status"]["endpoint"]["state"] == "Stopped"
    )
    available = condition_of(stopped, "InstanceAvailable")
    assert available is not None
    assert (available["status"], available["reason"]) == ("False", "InstanceStopped")
    await there.spec(INSTANCE, stopped=False)
    (started,) = await there.ready(INSTANCE)
    assert started["status"]["endpoint"]["state"] == "Available"


@pytest.mark.requirement("R-100", "R-101", "R-141")
async def test_native_login_is_verified_and_stays_on_while_a_role_needs_it(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    await start(operators)
    sales = await lab.database()
    await there.apply(
        await lab.connection(there, sales), role("elementum", roleName=f"el_{sales.name}", login=True)
    )
    await there.apply(await instance(lab, there, autoscaling={"project": "marketing"}))
    (off,) = await there.ready(INSTANCE)
    assert "needed by PostgresRole" in message_of(off, "NativeLogin")
    await lab.simulator.fault("all", "ignore-native-login", 1)
    await there.spec(INSTANCE, nativeLogin=True)
    (on,) = await there.ready(INSTANCE)
    native = condition_of(on, "NativeLogin")
    assert native is not None
    assert (native["status"], native["reason"]) == ("True", "NativeLoginEnabled")
    assert lab.simulator.target("autoscaling").enable_pg_native_login
    projects = lab.simulator.workspace.projects
    by_hand = {**projects["projects/marketing"].spec, "enable_pg_native_login": False}
    projects["projects/marketing"] = replace(projects["projects/marketing"], spec=by_hand)

    async def repaired() -> bool:
        return bool(projects["projects/marketing"].spec["enable_pg_native_login"])

    await there.true("native login is on again", repaired)
    await there.ready(INSTANCE)
    before = changes(lab)
    await there.spec(INSTANCE, nativeLogin=False)
    kept = await there.reason(INSTANCE, "NativeLoginInUse")
    assert current(kept, "Stalled") is not None
    assert f"PostgresRole {there.name}/elementum" in message_of(kept)
    assert changes(lab) == before
    await there.spec("PostgresRole/elementum", login=False)
    await there.ready(INSTANCE)
    assert not lab.simulator.target("autoscaling").enable_pg_native_login


async def test_an_operation_is_followed_by_its_name_after_a_restart(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    lab.simulator.workspace.operations.seconds = 1.5
    requests, create = lab.simulator.workspace.stats.requests, "POST /api/2.0/postgres/projects"
    asked = requests[create]
    first = await start(operators)
    await there.apply(await instance(lab, there, autoscaling={"project": "growing"}))
    under_way = await there.until(INSTANCE, lambda body: "name" in body["status"].get("operation", {}))
    operation = under_way["status"]["operation"]
    assert (operation["action"], operation["resource"]) == ("Create", "projects/growing")
    assert current(under_way, "Reconciling") is not None
    await first.kill()
    operators.forget(first)
    await start(operators)
    (made,) = await there.ready(INSTANCE, deadline=40)
    assert made["status"]["created"] is True
    assert requests[create] == asked + 1
    assert requests[f"GET /api/2.0/postgres/{operation['name']}"] > 0


@pytest.mark.requirement("R-152")
@pytest.mark.parametrize(
    "target", [{"provisioned": {"instance": "growing-db"}}, {"autoscaling": {"project": "growing"}}]
)
async def test_what_does_not_come_up_is_stuck_with_ids_for_support_and_recovers(
    lab: Lab, there: Namespace, operators: Operators, target: Body
) -> None:
    await start(operators)
    await lab.simulator.fault("all", "stuck-starting")
    await there.apply(await instance(lab, there, **target, startTimeout="2s"))
    await there.reason(INSTANCE, "InstanceStarting")
    stuck = await there.reason(INSTANCE, "StuckStarting")
    assert current(stuck, "Stalled") is not None
    assert "support" in message_of(stuck)
    assert stuck["status"]["requestIDs"]
    assert stuck["status"]["uid"] in stuck["status"]["requestIDs"]
    await lab.simulator.clear_faults()
    (up,) = await there.ready(INSTANCE, deadline=40)
    assert "startingSince" not in up["status"]


@pytest.mark.requirement("R-94", "R-150", "R-151")
async def test_what_stands_in_the_way_is_named_and_goes_on_when_it_is_gone(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    running = await start(operators)
    await lab.simulator.fault("all", "capacity-limit")
    await there.apply(await instance(lab, there, autoscaling={"project": "growing"}))
    full = await there.reason(INSTANCE, "CapacityLimit")
    assert current(full, "Stalled") is not None
    assert full["status"]["requestIDs"]
    assert "operation" not in full["status"]
    await lab.simulator.fault("all", "not-enabled")
    await there.annotate(INSTANCE, sync_now="1")
    await there.reason(INSTANCE, "LakebaseNotEnabled")
    await lab.simulator.clear_faults()
    await there.spec(INSTANCE, create="Never")
    missing = await there.reason(INSTANCE, "InstanceNotFound")
    assert current(missing, "Reconciling") is not None
    await there.spec(INSTANCE, create="IfMissing")
    await there.ready(INSTANCE)
    await there.apply(await instance(lab, there, "again", autoscaling={"project": "growing"}))
    second = await there.reason("LakebaseInstance/again", "ConflictingDeclarations")
    assert "growing" in message_of(second)
    await there.apply(
        await instance(lab, there, "foreign", autoscaling={"project": "marketing"}, adopt=False)
    )
    await there.reason("LakebaseInstance/foreign", "InstanceExists")
    before = changes(lab)
    access, operator = lab.simulator.workspace.access, lab.simulator.workspace.operator
    access.grant(PROJECTS, "marketing", operator, Level.CAN_USE)
    try:
        await there.apply(
            await instance(lab, there, "foreign", autoscaling={"project": "marketing"}, nativeLogin=True)
        )
        denied = await there.reason("LakebaseInstance/foreign", "ControlPlaneDenied")
    finally:
        access.grant(PROJECTS, "marketing", operator, Level.CAN_MANAGE)
    assert "Nothing has been changed" in message_of(denied)
    assert changes(lab) == before
    assert not running.task.done()


@pytest.mark.requirement("R-210")
async def test_what_becomes_of_grants_on_a_branch_is_said_and_can_be_demanded(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    await start(operators)
    branches = [{"name": "staging", "grants": "Managed"}]
    await there.apply(await instance(lab, there, autoscaling={"project": "growing", "branches": branches}))
    loose = await there.reason(INSTANCE, "BranchNotManaged", deadline=40)
    copied = condition_of(loose, "BranchGrants")
    assert copied is not None
    assert (copied["status"], copied["reason"]) == ("False", "GrantsCopied")
    (branch,) = loose["status"]["branches"]
    assert branch["source"] == "production"
    assert branch["sourceTime"]
    assert branch["endpoint"]["state"] == "Available"
    assert "nothing keeps them equal" in branch["grants"]
    sales = await lab.database()
    connection = await lab.connection(there, sales, databases=["databricks_postgres"])
    connection["spec"]["target"] = {"instanceRef": {"name": "growing", "branch": "staging"}}
    target = lab.simulator.workspace.branch_target("projects/growing/branches/staging")
    assert target is not None
    connection["spec"]["port"] = target.port
    await there.apply(connection)
    (managed,) = await there.ready(INSTANCE)
    kept = condition_of(managed, "BranchGrants")
    assert kept is not None
    assert (kept["status"], kept["reason"]) == ("True", "GrantsManaged")
    assert f"{there.name}/marketing" in managed["status"]["branches"][0]["grants"]


@pytest.mark.requirement("R-99")
async def test_deleting_the_object_keeps_the_lakebase_unless_it_is_asked_for(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    await start(operators)
    instances = lab.simulator.workspace.instances
    await there.apply(await instance(lab, there, provisioned={"instance": "growing-db"}))
    await there.ready(INSTANCE)
    await there.delete(INSTANCE)
    await there.gone(INSTANCE)
    assert "growing-db" in instances
    sales = await lab.database()
    connection = await lab.connection(there, sales, databases=["databricks_postgres"])
    connection["spec"]["target"] = {"instanceRef": {"name": "growing"}}
    await there.apply(
        await instance(lab, there, provisioned={"instance": "growing-db"}, deletionPolicy="Delete"),
        connection,
    )
    await there.ready(INSTANCE)
    await there.delete(INSTANCE)
    held = await there.reason(INSTANCE, "WaitingForDependents")
    assert f"{there.name}/marketing" in message_of(held)
    assert "growing-db" in instances
    await there.delete(CONNECTION)
    await there.gone(INSTANCE)
    assert "growing-db" not in instances


@pytest.mark.requirement("R-88", "R-122", "R-123", "R-146")
@pytest.mark.parametrize("target", ["autoscaling", "provisioned"])
async def test_a_catalog_is_registered_shown_and_deleted_if_asked(
    lab: Lab, there: Namespace, operators: Operators, target: str
) -> None:
    await start(operators)
    sales = await lab.database(target)
    catalogs = lab.simulator.workspace.catalogs
    await there.apply(await lab.connection(there, sales))
    assert not any("/catalogs" in name for name in changes(lab) if sales.name in name)
    catalog = manifest(
        "DatabaseCatalog",
        "sales",
        {
            "connectionRef": {"name": "marketing"},
            "catalog": f"{sales.name}_catalog",
            "database": sales.name,
            "create": "Never",
        },
    )
    await there.apply(catalog)
    missing = await there.reason(CATALOG, "CatalogNotRegistered")
    assert missing["status"]["state"] == "NotRegistered"
    await there.spec(CATALOG, create="IfMissing", deletionPolicy="Delete")
    (registered,) = await there.ready(CATALOG)
    assert registered["status"]["state"] == "Registered"
    assert registered["status"]["created"] is True
    assert catalogs[f"{sales.name}_catalog"].database == sales.name
    catalog["metadata"]["name"] = "second"
    catalog["spec"] |= {"catalog": f"{sales.name}_second", "create": "IfMissing"}
    await there.apply(catalog)
    refused = await there.reason("DatabaseCatalog/second", "DatabaseAlreadyRegistered")
    assert current(refused, "Stalled") is not None
    assert f"{sales.name}_catalog" in message_of(refused)
    await there.delete(CATALOG)
    await there.gone(CATALOG)
    assert f"{sales.name}_catalog" not in catalogs
    await asyncio.gather(there.delete("DatabaseCatalog/second"))
    await there.gone("DatabaseCatalog/second")


async def test_the_longest_names_have_room_in_the_status(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    lab.simulator.workspace.operations.seconds = 1.5
    await start(operators)
    sales = await lab.database()
    await there.apply(await lab.connection(there, sales))
    longest = f"{sales.name}_".ljust(255, "c")
    spec = {"connectionRef": {"name": "marketing"}, "catalog": longest, "database": sales.name}
    await there.apply(manifest("DatabaseCatalog", "sales", spec))
    under_way = await there.until(CATALOG, lambda body: "name" in body["status"].get("operation", {}))
    assert under_way["status"]["operation"]["resource"] == f"catalogs/{longest}"
    await there.ready(CATALOG)


async def test_a_namespace_with_all_of_it_is_deleted_cleanly(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    await start(operators)
    sales = await lab.database()
    connection = await lab.connection(there, sales)
    connection["spec"]["target"] = {"instanceRef": {"name": "growing"}}
    catalog = {
        "connectionRef": {"name": "marketing"},
        "catalog": f"{sales.name}_catalog",
        "database": sales.name,
        "deletionPolicy": "Delete",
    }
    await there.apply(
        await instance(lab, there, autoscaling={"project": "marketing"}),
        connection,
        role("analysts", roleName=sales.analysts),
        grant("readers", sales.analysts, database=sales.name),
        manifest("DatabaseCatalog", "sales", catalog),
    )
    await there.ready(INSTANCE, CONNECTION, CATALOG, "AccessGrant/readers")
    assert await sales.may(sales.analysts, "SELECT")
    await there.admin.request("DELETE", f"/api/v1/namespaces/{there.name}")
    for thing in ("AccessGrant/readers", CATALOG, CONNECTION, INSTANCE):
        await there.gone(thing, deadline=40)
    assert not await sales.may(sales.analysts, "SELECT")
    assert f"{sales.name}_catalog" not in lab.simulator.workspace.catalogs
    assert "projects/marketing" in lab.simulator.workspace.projects


async def test_nothing_is_made_for_an_instance_that_is_deleted_before_it_has_its_finalizer(
    lab: Lab, there: Namespace, operators: Operators, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = KubeObjects.add_finalizers

    async def too_late(kube: KubeObjects, objects: Iterable[tuple[str, ObjectMeta]]) -> bool:
        await there.delete(INSTANCE)
        return await add(kube, objects)

    monkeypatch.setattr(KubeObjects, "add_finalizers", too_late)
    operator = await start(operators)
    asked = changes(lab)
    await there.apply(await instance(lab, there, autoscaling={"project": "growing"}))
    await there.gone(INSTANCE)

    async def at_rest() -> bool:
        known = operator.operator.catalog.of_kind(LakebaseInstance)
        return not (known or operator.operator.objects.depth or operator.operator.objects.running)

    await there.true("it has been seen to be gone", at_rest)
    assert changes(lab) == asked
    assert "projects/growing" not in lab.simulator.workspace.projects


@pytest.mark.requirement("R-205")
async def test_a_workspace_that_fails_is_asked_again_until_it_answers(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    await start(operators)
    await lab.simulator.fault("all", "http", 500)
    await there.apply(await instance(lab, there, autoscaling={"project": "marketing"}))
    failing = await there.reason(INSTANCE, "ControlPlaneError")
    assert current(failing, "Reconciling") is not None
    await lab.simulator.clear_faults()
    await there.ready(INSTANCE, deadline=40)


@pytest.mark.requirement("R-204")
async def test_a_branch_that_is_busy_with_somebody_elses_change_is_tried_again(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    await start(operators)
    await there.apply(await instance(lab, there, autoscaling={"project": "growing"}))
    await there.ready(INSTANCE)
    busy = lab.simulator.workspace.operations._busy
    busy.add("projects/growing/branches/production")
    endpoint = {"minCU": 1, "maxCU": 2}
    await there.spec(INSTANCE, autoscaling={"project": "growing", "endpoint": endpoint})
    conflict = await there.reason(INSTANCE, "ControlPlaneConflict")
    assert current(conflict, "Reconciling") is not None
    busy.clear()
    (resized,) = await there.ready(INSTANCE)
    assert settings_of(resized)["production/primary maxCU"] == ("2", "2")


@pytest.mark.requirement("R-204")
async def test_a_change_that_is_refused_again_and_again_is_asked_for_with_growing_pauses(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    await start(operators)
    await there.apply(await instance(lab, there, autoscaling={"project": "growing"}))
    await there.ready(INSTANCE)
    busy = lab.simulator.workspace.operations._busy
    busy.add(MAIN)
    requests, create = lab.simulator.workspace.stats.requests, f"POST /api/2.0/postgres/{MAIN}/endpoints"
    before = requests[create]
    await there.spec(INSTANCE, autoscaling={"project": "growing", "endpoint": READER})

    async def first() -> bool:
        return requests[create] > before

    async def fifth() -> bool:
        return requests[create] > before + 4

    await there.true("it is asked for", first)
    asked = time.monotonic()
    await there.true("it is asked for again", fifth)
    pauses = [0.2, 0.4, 0.8, 1.6]  # retry_base_seconds, doubled each time; each give or take a quarter
    assert time.monotonic() - asked > 0.7 * sum(pauses)
    busy.discard(MAIN)
    await there.ready(INSTANCE)


async def test_a_replica_of_somebody_else_that_has_the_name_of_one_that_is_gone_is_left_alone(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    await start(operators)
    await there.apply(await instance(lab, there, autoscaling={"project": "growing", "endpoint": READER}))
    await there.ready(INSTANCE)
    endpoints = lab.simulator.workspace.endpoints
    reader = endpoints[f"{MAIN}/endpoints/reader"]
    await there.spec(INSTANCE, autoscaling={"project": "growing", "endpoint": None})

    async def gone() -> bool:
        return reader.name not in endpoints

    await there.true("the replica that the operator made is deleted", gone)
    await there.ready(INSTANCE)
    endpoints[reader.name] = reader
    await looks(lab, there, 3)
    assert reader.name in endpoints


@pytest.mark.parametrize("seen", [True, False])
async def test_what_somebody_has_made_anew_under_the_same_name_is_not_deleted(
    lab: Lab, there: Namespace, operators: Operators, seen: bool
) -> None:
    operator = await start(operators)
    instances = lab.simulator.workspace.instances
    await there.apply(
        await instance(
            lab, there, provisioned={"instance": "growing-db"}, adopt=False, deletionPolicy="Delete"
        )
    )
    await there.ready(INSTANCE)
    if seen:
        instances["growing-db"] = replace(instances["growing-db"], uid=str(uuid.uuid4()))
        body = await there.reason(INSTANCE, "InstanceExists")
        assert "made" not in body["status"] or not body["status"]["made"]
        await there.delete(INSTANCE)
    else:
        await operator.stop()
        instances["growing-db"] = replace(instances["growing-db"], uid=str(uuid.uuid4()))
        await there.delete(INSTANCE)
        await start(operators)
    await there.gone(INSTANCE)
    assert "growing-db" in instances


async def test_what_somebody_else_makes_while_the_operator_is_refused_is_not_the_operators_own(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    await start(operators)
    await there.apply(await instance(lab, there, autoscaling={"project": "growing"}))
    await there.ready(INSTANCE)
    endpoints, busy = lab.simulator.workspace.endpoints, lab.simulator.workspace.operations._busy
    busy.add(MAIN)  # with the same replica, as it happens
    await there.spec(INSTANCE, autoscaling={"project": "growing", "endpoint": READER})
    refused = await there.reason(INSTANCE, "ControlPlaneConflict")
    assert "operation" not in refused["status"]
    primary = endpoints[f"{MAIN}/endpoints/primary"]
    spec = {**primary.spec, "endpoint_type": "ENDPOINT_TYPE_READ_ONLY"}
    theirs = replace(primary, endpoint_id="reader", spec=spec)
    endpoints[theirs.name] = theirs
    busy.discard(MAIN)
    (taken_over,) = await there.ready(INSTANCE)
    assert theirs.name not in taken_over["status"]["made"]
    await there.spec(INSTANCE, autoscaling={"project": "growing", "endpoint": None})
    await looks(lab, there, 3)
    assert theirs.name in endpoints


async def test_what_was_asked_for_just_before_a_crash_is_known_as_the_operators_own(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    requests, create = lab.simulator.workspace.stats.requests, "POST /api/2.0/postgres/projects"
    asked = requests[create]
    first = await start(operators)
    await lab.simulator.fault("all", "slow", 700)
    await there.apply(await instance(lab, there, autoscaling={"project": "growing"}, adopt=False))
    announced = await there.until(INSTANCE, lambda body: "operation" in body["status"])
    assert "name" not in announced["status"]["operation"]

    async def under_way() -> bool:
        return requests[create] == asked + 1

    await there.true("the request has been sent", under_way)
    await first.kill()
    operators.forget(first)
    await lab.simulator.clear_faults()

    async def made() -> bool:
        return "projects/growing" in lab.simulator.workspace.projects

    await there.true("the project is made all the same", made)
    await start(operators)
    (body,) = await there.ready(INSTANCE)
    assert body["status"]["created"] is True
    assert requests[create] == asked + 1


@pytest.mark.parametrize("state", ["ACTIVE", "INIT"])
async def test_looking_again_writes_nothing_as_long_as_nothing_changes(
    lab: Lab, there: Namespace, operators: Operators, state: str
) -> None:
    await start(operators, retry_base_seconds=0.05)
    await lab.simulator.set_state("autoscaling", state)
    branches = [{"name": "staging"}]
    await there.apply(
        await instance(lab, there, autoscaling={"project": "marketing", "branches": branches}, create="Never")
    )
    missing = await there.reason(INSTANCE, "InstanceNotFound")
    assert missing["status"]["endpoint"]["state"] == ("Available" if state == "ACTIVE" else "Starting")
    requests, look = lab.simulator.workspace.stats.requests, "GET /api/2.0/postgres/projects/marketing"
    before, looks = await there.get(INSTANCE), requests[look]

    async def looked() -> bool:
        return requests[look] >= looks + 3

    await there.true("looked at three more times", looked, deadline=60)
    after = await there.get(INSTANCE)
    assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]
