"""Making, changing and deleting Lakebases and catalogs on the simulator, with the real SDK."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import pytest_asyncio

from lakebase_operator.api.lakebase_instance import LakebaseInstanceSpec
from lakebase_operator.api.reasons import Reason
from lakebase_operator.domain import lakebase_instance as domain
from lakebase_operator.domain.errors import InvalidError, LakebaseError, TransientError
from lakebase_operator.domain.instance import InstanceState
from lakebase_operator.domain.lakebase_instance import (
    DeleteStep,
    Found,
    Resource,
    Setting,
    UpdateStep,
)
from lakebase_operator.external.databricks import (
    AutoscalingTarget,
    LakebaseApi,
    OAuthM2M,
    ProvisionedTarget,
    Target,
    Workspace,
)
from lakebase_sandbox.simulator import LakebaseSimulator, SimulatorSettings
from lakebase_sandbox.simulator.permissions import PROJECTS, Level

pytestmark = pytest.mark.asyncio(loop_scope="module")

FAST = SimulatorSettings(
    operation_seconds=0.05, reconciliation_seconds=0.05, wake_seconds=0.1, start_seconds=0.2
)
DEADLINE = 60.0


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def simulator() -> AsyncIterator[LakebaseSimulator]:
    async with LakebaseSimulator(FAST) as running:
        yield running


@pytest.fixture
def workspace(simulator: LakebaseSimulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(simulator.ca_file))
    monkeypatch.setenv("NO_PROXY", "localhost,127.0.0.1")
    executor = ThreadPoolExecutor(max_workers=4)
    auth = OAuthM2M(simulator.client_id, simulator.client_secret)
    yield Workspace(simulator.workspace_url, auth, executor=executor, retry_timeout=4)
    executor.shutdown(wait=False)


@pytest.fixture
def lakebases(workspace: Workspace) -> LakebaseApi:
    return workspace.lakebases()


@pytest_asyncio.fixture(loop_scope="module", autouse=True)
async def healthy(simulator: LakebaseSimulator) -> AsyncIterator[None]:
    yield
    await simulator.clear_faults()


def spec(**fields: Any) -> LakebaseInstanceSpec:
    auth = {"workloadIdentity": {"clientID": "1f0c2a34"}}
    return LakebaseInstanceSpec.model_validate(
        {"workspaceURL": "https://acme.cloud.databricks.com", "auth": auth, **fields}
    )


class Driver:
    """Does what the operator does, without Kubernetes: one look, one step, until there is none left."""

    def __init__(self, lakebases: LakebaseApi) -> None:
        self.lakebases = lakebases
        self.steps: list[str] = []
        self.made: list[str] = []

    async def become(self, declared: LakebaseInstanceSpec) -> dict[Resource, Found]:
        """Carry out what is declared; what is there in the end."""
        wanted = domain.wanted(declared)
        deadline = time.monotonic() + DEADLINE
        while time.monotonic() < deadline:
            found = await self.lakebases.observe(wanted)
            step = domain.next_step(wanted, found, made=self.made)
            if step is not None:
                await self.carry_out(step)
            elif all(one.resource in found and not found[one.resource].busy for one in wanted):
                return found
            await asyncio.sleep(0.02)
        raise AssertionError(f"not within {DEADLINE} s; so far: {self.steps}")

    async def carry_out(self, step: domain.Step) -> None:
        """Ask for it and follow it to its end; a conflict is tried again."""
        self.steps.append(f"{type(step).__name__.removesuffix('Step')} {step.resource.name}")
        while True:
            try:
                name = await self.lakebases.carry_out(step)
                break
            except TransientError as error:
                if error.reason is not Reason.CONTROL_PLANE_CONFLICT:
                    raise
                await asyncio.sleep(0.02)
        self.made.append(step.resource.name)
        while name is not None:
            progress = await self.lakebases.follow(name)
            if progress.error is not None:
                raise progress.error
            if progress.done:
                return
            await asyncio.sleep(0.02)


async def eventually(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not await condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


@pytest.mark.requirement("R-95", "R-97", "R-98", "R-106")
async def test_a_project_is_made_as_declared_grows_a_replica_and_a_branch_and_is_deleted(
    simulator: LakebaseSimulator, lakebases: LakebaseApi
) -> None:
    driver = Driver(lakebases)
    endpoint = {"minCU": 1, "maxCU": 4, "suspendTimeout": "10m"}
    declared = spec(autoscaling={"project": "growing", "endpoint": endpoint}, nativeLogin=True)
    found = await driver.become(declared)
    assert driver.steps == ["Create projects/growing"], "made as wanted, so that nothing is left to change"
    serving = found[domain.database_resource(declared)]
    assert serving.instance is not None
    assert serving.instance.state is InstanceState.AVAILABLE
    assert serving.settings[Setting.SUSPEND_TIMEOUT] == 600
    assert found[domain.main_resource(declared)].settings[Setting.NATIVE_LOGIN] is True

    driver.steps.clear()
    grown = spec(
        autoscaling={
            "project": "growing",
            "endpoint": {**endpoint, "maxCU": 8, "readReplicas": [{"name": "reader"}]},
            "branches": [{"name": "staging", "expiresAfter": "24h"}],
            "historyRetention": "72h",
        },
        nativeLogin=True,
    )
    found = await driver.become(grown)
    base = "projects/growing/branches"
    assert driver.steps == [
        "Update projects/growing",
        f"Update {base}/production/endpoints/primary",
        f"Create {base}/production/endpoints/reader",
        f"Create {base}/staging",
        f"Create {base}/staging/endpoints/primary",
    ]
    staging = found[domain.branch_resource("growing", "staging")]
    assert staging.source == "production"
    assert staging.source_time is not None

    driver.steps.clear()
    less = spec(autoscaling={"project": "growing", "endpoint": {**endpoint, "maxCU": 8}})
    await driver.become(less)
    assert driver.steps == [f"Delete {base}/production/endpoints/reader"]
    await driver.carry_out(DeleteStep(domain.main_resource(declared)))
    gone = await lakebases.observe(domain.wanted(less))
    assert gone[domain.main_resource(less)].deleted
    assert len(gone) == 1


@pytest.mark.requirement("R-95", "R-97", "R-98", "R-106")
async def test_an_instance_is_made_resized_stopped_started_and_deleted(lakebases: LakebaseApi) -> None:
    driver = Driver(lakebases)
    declared = spec(provisioned={"instance": "growing-db", "capacity": "CU_2", "usagePolicyID": "policy-1"})
    resource = domain.main_resource(declared)
    found = (await driver.become(declared))[resource]
    assert driver.steps == ["Create growing-db"]
    assert found.settings[Setting.CAPACITY] == "CU_2"
    assert found.settings[Setting.USAGE_POLICY] == "policy-1"
    assert found.instance is not None
    assert found.instance.state is InstanceState.AVAILABLE

    driver.steps.clear()
    larger = spec(provisioned={"instance": "growing-db", "capacity": "CU_4"})
    found = (await driver.become(larger))[resource]
    assert found.settings[Setting.CAPACITY] == "CU_4", "waited for, since it takes effect at a restart"
    assert driver.steps == ["Update growing-db"]

    off = spec(provisioned={"instance": "growing-db"}, stopped=True)
    found = (await driver.become(off))[resource]
    assert found.instance is not None
    assert found.instance.state is InstanceState.STOPPED
    on = spec(provisioned={"instance": "growing-db"}, stopped=False)
    found = (await driver.become(on))[resource]
    assert found.instance is not None
    assert found.instance.state is InstanceState.AVAILABLE
    await driver.carry_out(DeleteStep(resource))
    assert await lakebases.observe(domain.wanted(on)) == {}


@pytest.mark.requirement("R-96")
async def test_what_exists_is_taken_over_without_a_change(
    simulator: LakebaseSimulator, lakebases: LakebaseApi
) -> None:
    before = simulator.stats()["requests"]
    for declared in (
        spec(autoscaling={"project": "marketing"}),
        spec(provisioned={"instance": "marketing-db", "capacity": "CU_1", "retentionDays": 7}),
    ):
        driver = Driver(lakebases)
        await driver.become(declared)
        assert driver.steps == []
    asked = {name for name, count in simulator.stats()["requests"].items() if before.get(name) != count}
    assert all(name.startswith("GET ") or "/oidc/" in name for name in asked)


@pytest.mark.requirement("R-98")
async def test_a_change_names_only_what_is_changed(
    simulator: LakebaseSimulator, lakebases: LakebaseApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    declared = spec(autoscaling={"project": "marketing", "historyRetention": "96h"})
    await Driver(lakebases).become(declared)
    project = simulator.workspace.projects["projects/marketing"]
    assert project.spec["history_retention_duration"] == "345600s"
    assert project.spec["display_name"] == "marketing", "what the mask does not name is left alone"


@pytest.mark.requirement("R-100")
@pytest.mark.parametrize(
    "target", [{"autoscaling": {"project": "marketing"}}, {"provisioned": {"instance": "marketing-db"}}]
)
async def test_native_login_that_is_ignored_once_is_seen_as_still_off_and_asked_for_again(
    simulator: LakebaseSimulator, lakebases: LakebaseApi, target: dict[str, Any]
) -> None:
    await simulator.fault("all", "ignore-native-login", 1)
    declared = spec(**target, nativeLogin=True)
    driver = Driver(lakebases)
    found = await driver.become(declared)
    assert len(driver.steps) == 2
    assert found[domain.main_resource(declared)].settings[Setting.NATIVE_LOGIN] is True
    await Driver(lakebases).become(spec(**target, nativeLogin=False))


@pytest.mark.requirement("R-204")
async def test_two_changes_of_one_branch_conflict_and_the_second_is_told_so(
    simulator: LakebaseSimulator, lakebases: LakebaseApi
) -> None:
    endpoint = domain.database_resource(spec(autoscaling={"project": "marketing"}))
    await lakebases.carry_out(UpdateStep(endpoint, {Setting.SUSPEND_TIMEOUT: 600}))
    with pytest.raises(TransientError) as refused:
        await lakebases.carry_out(UpdateStep(endpoint, {Setting.SUSPEND_TIMEOUT: 900}))
    assert refused.value.reason is Reason.CONTROL_PLANE_CONFLICT
    declared = spec(autoscaling={"project": "marketing", "endpoint": {"suspendTimeout": "15m"}})
    found = await Driver(lakebases).become(declared)
    assert found[endpoint].settings[Setting.SUSPEND_TIMEOUT] == 900


@pytest.mark.requirement("R-150")
@pytest.mark.parametrize(
    "target", [{"autoscaling": {"project": "too-much"}}, {"provisioned": {"instance": "too-much"}}]
)
async def test_a_limit_of_the_workspace_is_named_with_the_id_of_the_request(
    simulator: LakebaseSimulator, lakebases: LakebaseApi, target: dict[str, Any]
) -> None:
    await simulator.fault("all", "capacity-limit")
    with pytest.raises(InvalidError) as refused:
        await Driver(lakebases).become(spec(**target))
    assert refused.value.reason is Reason.CAPACITY_LIMIT
    assert "maximum" in refused.value.message
    assert refused.value.request_id is not None
    assert refused.value.request_id not in refused.value.message


@pytest.mark.requirement("R-150")
async def test_an_eleventh_instance_is_one_too_many(
    simulator: LakebaseSimulator, lakebases: LakebaseApi
) -> None:
    instances = simulator.workspace.instances
    more = {f"filler-{number}": next(iter(instances.values())) for number in range(10 - len(instances))}
    instances.update(more)
    try:
        with pytest.raises(InvalidError) as refused:
            await Driver(lakebases).become(spec(provisioned={"instance": "eleventh"}))
    finally:
        for name in more:
            del instances[name]
    assert refused.value.reason is Reason.CAPACITY_LIMIT


@pytest.mark.requirement("R-151")
@pytest.mark.parametrize(
    "target", [{"autoscaling": {"project": "marketing"}}, {"provisioned": {"instance": "marketing-db"}}]
)
async def test_a_workspace_without_lakebase_is_named(
    simulator: LakebaseSimulator, lakebases: LakebaseApi, target: dict[str, Any]
) -> None:
    await simulator.fault("all", "not-enabled")
    with pytest.raises(InvalidError) as refused:
        await lakebases.observe(domain.wanted(spec(**target)))
    assert refused.value.reason is Reason.LAKEBASE_NOT_ENABLED


@pytest.mark.requirement("R-152")
@pytest.mark.parametrize(
    "target", [{"autoscaling": {"project": "stuck"}}, {"provisioned": {"instance": "stuck"}}]
)
async def test_what_does_not_come_up_stays_starting_until_it_does(
    simulator: LakebaseSimulator, lakebases: LakebaseApi, target: dict[str, Any]
) -> None:
    await simulator.fault("all", "stuck-starting")
    declared = spec(**target)
    driver = Driver(lakebases)
    creation = domain.next_step(domain.wanted(declared), {})
    assert creation is not None
    await driver.carry_out(creation)

    async def state() -> InstanceState | None:
        found = await lakebases.observe(domain.wanted(declared))
        there = found.get(domain.database_resource(declared))
        return there.instance.state if there is not None and there.instance is not None else None

    async def starting() -> bool:
        return await state() is InstanceState.STARTING

    async def available() -> bool:
        return await state() is InstanceState.AVAILABLE

    await eventually(starting)
    await simulator.clear_faults()
    await eventually(available)
    await driver.carry_out(DeleteStep(domain.main_resource(declared)))


@pytest.mark.requirement("R-94")
async def test_who_may_not_manage_is_known_before_anything_is_changed(
    simulator: LakebaseSimulator, lakebases: LakebaseApi
) -> None:
    project = domain.main_resource(spec(autoscaling={"project": "marketing"}))
    operator = simulator.workspace.operator
    assert await lakebases.may_manage(project) is True
    simulator.workspace.access.grant(PROJECTS, "marketing", operator, Level.CAN_USE)
    try:
        assert await lakebases.may_manage(project) is False
    finally:
        simulator.workspace.access.grant(PROJECTS, "marketing", operator, Level.CAN_MANAGE)


async def test_an_operation_that_is_not_known_any_more_has_ended(lakebases: LakebaseApi) -> None:
    assert (await lakebases.follow("projects/marketing/operations/gone+/=")).done


# -- catalogs ------------------------------------------------------------------------------------------------------

TARGETS: dict[str, Target] = {
    "autoscaling": AutoscalingTarget("marketing", "production", "primary"),
    "provisioned": ProvisionedTarget("marketing-db"),
}


async def register(workspace: Workspace, target: str, name: str, database: str, **options: Any) -> None:
    api = workspace.catalogs(TARGETS[target])
    operation = await api.create(name, database, create_database=options.get("create_database", False))
    while operation is not None:
        progress = await api.follow(operation)
        if progress.error is not None:
            raise progress.error
        if progress.done:
            return
        await asyncio.sleep(0.02)


@pytest.mark.requirement("R-122", "R-123", "R-106")
@pytest.mark.parametrize("target", TARGETS)
async def test_a_database_is_registered_once_shown_and_taken_away(workspace: Workspace, target: str) -> None:
    api, name = workspace.catalogs(TARGETS[target]), f"sales_{target}"
    assert await api.get(name) is None
    await register(workspace, target, name, "databricks_postgres")
    there = await api.get(name)
    assert there is not None
    assert (there.database, there.source) == ("databricks_postgres", api.source)
    with pytest.raises(InvalidError) as refused:
        await register(workspace, target, f"second_{target}", "databricks_postgres")
    assert refused.value.reason is Reason.DATABASE_ALREADY_REGISTERED
    assert name in refused.value.message
    await api.delete(name)

    async def gone() -> bool:
        return await api.get(name) is None

    await eventually(gone)


@pytest.mark.requirement("R-123")
async def test_a_catalog_of_the_other_kind_of_lakebase_is_in_the_way(workspace: Workspace) -> None:
    await register(workspace, "provisioned", "taken", "databricks_postgres")
    with pytest.raises(InvalidError) as refused:
        await register(workspace, "autoscaling", "taken", "databricks_postgres")
    assert refused.value.reason is Reason.CATALOG_NAME_TAKEN
    await workspace.catalogs(TARGETS["provisioned"]).delete("taken")


@pytest.mark.parametrize("target", TARGETS)
async def test_a_database_that_is_missing_is_made_only_if_asked(
    simulator: LakebaseSimulator, workspace: Workspace, target: str
) -> None:
    with pytest.raises(LakebaseError):
        await register(workspace, target, f"fresh_{target}", "fresh")
    await register(workspace, target, f"fresh_{target}", "fresh", create_database=True)
    rows = await simulator.targets[target].execute("SELECT datname FROM pg_database WHERE datname = 'fresh'")
    assert rows == [("fresh",)]
    await workspace.catalogs(TARGETS[target]).delete(f"fresh_{target}")
