"""Making Lakebases: what a new one begins with, catalogs, and what stands in the way."""

from collections.abc import Callable
from typing import Any

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors.platform import AlreadyExists, BadRequest, NotFound, PermissionDenied
from databricks.sdk.service.database import DatabaseCatalog, DatabaseInstance, DatabaseInstanceState
from databricks.sdk.service.postgres import (
    Catalog,
    CatalogCatalogSpec,
    Endpoint,
    EndpointSpec,
    EndpointStatusState,
    EndpointType,
    InitialEndpointSpec,
    Project,
    ProjectSpec,
)
from google.protobuf.duration_pb2 import Duration

from lakebase_sandbox.simulator import LakebaseSimulator
from tests.simulator.support import BRANCH, INSTANCE, call, eventually, log_in

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def make(client: WorkspaceClient, project_id: str, **first: Any) -> str:
    """A new project; the name of its endpoint."""
    project = Project(spec=ProjectSpec(), initial_endpoint_spec=InitialEndpointSpec(**first))
    operation = await call(client.postgres.create_project, project, project_id)
    await call(operation.wait)
    return f"projects/{project_id}/branches/production/endpoints/primary"


async def purge(client: WorkspaceClient, project_id: str) -> None:
    operation = await call(client.postgres.delete_project, f"projects/{project_id}", purge=True)
    await call(operation.wait)


async def test_a_project_begins_with_the_endpoint_that_was_asked_for(client: WorkspaceClient) -> None:
    name = await make(
        client,
        "sized",
        autoscaling_limit_min_cu=2.0,
        autoscaling_limit_max_cu=4.0,
        suspend_timeout_duration=Duration(seconds=120),
    )
    status = (await call(client.postgres.get_endpoint, name)).status
    assert (status.autoscaling_limit_min_cu, status.autoscaling_limit_max_cu) == (2.0, 4.0)
    assert status.suspend_timeout_duration.ToSeconds() == 120
    await purge(client, "sized")


async def test_a_compute_whose_limits_are_too_far_apart_is_refused(client: WorkspaceClient) -> None:
    spec = EndpointSpec(
        endpoint_type=EndpointType.ENDPOINT_TYPE_READ_ONLY,
        autoscaling_limit_min_cu=1.0,
        autoscaling_limit_max_cu=32.0,
    )
    with pytest.raises(BadRequest, match="at most 16 above"):
        await call(client.postgres.create_endpoint, BRANCH, Endpoint(spec=spec), "large")


async def test_a_read_replica_has_hosts_of_its_own(client: WorkspaceClient) -> None:
    spec = EndpointSpec(endpoint_type=EndpointType.ENDPOINT_TYPE_READ_ONLY)
    operation = await call(client.postgres.create_endpoint, BRANCH, Endpoint(spec=spec), "reports")
    made = await call(operation.wait)
    assert made.status.hosts.read_only_host
    name = f"{BRANCH}/endpoints/reports"

    async def settled() -> bool:
        return (await call(client.postgres.get_endpoint, name)).status.pending_state is None

    await eventually(settled)
    await call((await call(client.postgres.delete_endpoint, name)).wait)
    with pytest.raises(NotFound):
        await call(client.postgres.get_endpoint, name)


def branch_catalog(database: str, **options: Any) -> Catalog:
    return Catalog(spec=CatalogCatalogSpec(postgres_database=database, branch=BRANCH, **options))


async def test_a_branchs_database_is_registered_by_an_operation_and_once_only(
    client: WorkspaceClient,
) -> None:
    operation = await call(client.postgres.create_catalog, branch_catalog("databricks_postgres"), "sales")
    made = await call(operation.wait)
    assert (made.status.postgres_database, made.status.branch) == ("databricks_postgres", BRANCH)
    assert made.status.project == "projects/marketing"
    found = await call(client.postgres.get_catalog, "catalogs/sales")
    assert found.catalog_id == "sales"
    with pytest.raises(BadRequest, match="already registered with catalog 'sales'"):
        await call(client.postgres.create_catalog, branch_catalog("databricks_postgres"), "again")
    with pytest.raises(AlreadyExists, match="catalog with such id already exists"):
        await call(client.postgres.create_catalog, branch_catalog("other"), "sales")
    with pytest.raises(NotFound):
        await call(client.database.get_database_catalog, "sales")
    await call((await call(client.postgres.delete_catalog, "catalogs/sales")).wait)
    with pytest.raises(NotFound):
        await call(client.postgres.get_catalog, "catalogs/sales")


async def test_an_operation_on_a_database_that_is_missing_fails_in_the_operation(
    client: WorkspaceClient,
) -> None:
    operation = await call(client.postgres.create_catalog, branch_catalog("nowhere"), "nowhere")
    with pytest.raises(Exception, match="database id not found"):
        await call(operation.wait)


async def test_an_instances_database_is_registered_at_once(
    simulator: LakebaseSimulator, client: WorkspaceClient
) -> None:
    catalog = DatabaseCatalog(
        name="research",
        database_instance_name=INSTANCE,
        database_name="research",
        create_database_if_not_exists=True,
    )
    made = await call(client.database.create_database_catalog, catalog)
    assert made.uid
    rows = await simulator.targets["provisioned"].execute(
        "SELECT count(*) FROM pg_database WHERE datname = 'research'"
    )
    assert rows == [(1,)]
    await call(client.database.delete_database_catalog, "research")
    with pytest.raises(NotFound):
        await call(client.database.get_database_catalog, "research")


async def test_a_full_workspace_says_so_with_an_id_for_support(
    simulator: LakebaseSimulator, client: WorkspaceClient
) -> None:
    await simulator.fault("all", "capacity-limit")
    attempts: list[Callable[[], Any]] = [
        lambda: client.postgres.create_project(Project(spec=ProjectSpec()), "too-much"),
        lambda: client.database.create_database_instance(DatabaseInstance(name="too-much")),
    ]
    for attempt in attempts:
        with pytest.raises(BadRequest) as refused:
            await call(attempt)
        assert refused.value.error_code == "RESOURCE_LIMIT_EXCEEDED"
        assert refused.value.get_error_details().request_info.request_id


async def test_a_workspace_without_lakebase_refuses_both_apis(
    simulator: LakebaseSimulator, client: WorkspaceClient
) -> None:
    await simulator.fault("all", "not-enabled")
    for attempt in (
        lambda: client.postgres.get_project("projects/marketing"),
        lambda: client.database.get_database_instance(INSTANCE),
    ):
        with pytest.raises(PermissionDenied) as refused:
            await call(attempt)
        assert refused.value.error_code == "FEATURE_DISABLED"
    assert (await call(client.current_user.me)).user_name == simulator.client_id


async def test_what_is_stuck_comes_up_when_it_is_let_go(
    simulator: LakebaseSimulator, client: WorkspaceClient
) -> None:
    await simulator.fault("all", "stuck-starting")
    endpoint = await make(client, "stuck")
    await call(client.database.create_database_instance, DatabaseInstance(name="stuck"))

    async def states() -> tuple[Any, Any]:
        return (
            (await call(client.postgres.get_endpoint, endpoint)).status.current_state,
            (await call(client.database.get_database_instance, "stuck")).state,
        )

    assert await states() == (EndpointStatusState.INIT, DatabaseInstanceState.STARTING)
    await simulator.clear_faults()

    async def up() -> bool:
        return await states() == (EndpointStatusState.ACTIVE, DatabaseInstanceState.AVAILABLE)

    await eventually(up)
    await call(client.database.delete_database_instance, "stuck", purge=True)
    await purge(client, "stuck")


async def test_a_fault_of_the_workspace_is_not_one_of_a_target(simulator: LakebaseSimulator) -> None:
    with pytest.raises(ValueError, match="concerns the whole workspace"):
        await simulator.fault("provisioned", "stuck-starting")


async def test_what_is_made_listens_on_the_port_that_was_named_before(
    simulator: LakebaseSimulator, client: WorkspaceClient
) -> None:
    endpoint = "projects/foreseen/branches/production/endpoints/primary"
    ports = {resource: simulator.workspace.port_of(resource) for resource in ("instances/foreseen", endpoint)}
    await make(client, "foreseen")
    await call(client.database.create_database_instance, DatabaseInstance(name="foreseen"))

    async def available() -> bool:
        made = await call(client.database.get_database_instance, "foreseen")
        return made.state is DatabaseInstanceState.AVAILABLE

    await eventually(available)
    made = {target.resource: target for target in simulator.targets.values() if target.resource in ports}
    assert {resource: target.port for resource, target in made.items()} == ports
    for target in made.values():
        async with await log_in(simulator, target.name):
            pass
    await call(client.database.delete_database_instance, "foreseen", purge=True)
    await purge(client, "foreseen")
    assert {resource: simulator.workspace.port_of(resource) for resource in ports} == ports
