"""The states of endpoints and instances, as the API shows them and as a client meets them."""

import asyncio
import time

import psycopg
import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import NotFound
from databricks.sdk.service.database import DatabaseInstance, DatabaseInstanceState
from databricks.sdk.service.postgres import EndpointStatus, EndpointStatusState
from psycopg import errors

from lakebase_sandbox.simulator import LakebaseSimulator
from tests.simulator.support import ENDPOINT, INSTANCE, call, eventually, log_in, value

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def endpoint_status(client: WorkspaceClient) -> EndpointStatus:
    status = (await call(client.postgres.get_endpoint, ENDPOINT)).status
    assert status is not None
    return status


async def instance_state(client: WorkspaceClient) -> DatabaseInstanceState | None:
    return (await call(client.database.get_database_instance, INSTANCE)).state


def wake_ups(simulator: LakebaseSimulator) -> int:
    return int(simulator.stats()["targets"]["autoscaling"]["wake_ups"])


async def test_an_idle_endpoint_wakes_up_for_a_connection(
    simulator: LakebaseSimulator, client: WorkspaceClient
) -> None:
    await simulator.set_state("autoscaling", "IDLE")
    before = wake_ups(simulator)
    assert (await endpoint_status(client)).current_state is EndpointStatusState.IDLE
    started = time.monotonic()
    connections = await asyncio.gather(*(log_in(simulator, "autoscaling") for _ in range(5)))
    assert time.monotonic() - started >= simulator.settings.wake_seconds
    assert (await endpoint_status(client)).current_state is EndpointStatusState.ACTIVE
    assert wake_ups(simulator) == before + 1
    for connection in connections:
        await connection.close()


async def test_a_refused_login_wakes_nothing(simulator: LakebaseSimulator) -> None:
    await simulator.set_state("autoscaling", "IDLE")
    before = wake_ups(simulator)
    with pytest.raises(psycopg.OperationalError):
        await log_in(simulator, "autoscaling", password="wrong")
    assert wake_ups(simulator) == before


async def test_reading_the_api_wakes_nothing(simulator: LakebaseSimulator, client: WorkspaceClient) -> None:
    await simulator.set_state("autoscaling", "IDLE")
    before = wake_ups(simulator)
    await call(client.postgres.get_project, "projects/marketing")
    await call(lambda: list(client.postgres.list_roles("projects/marketing/branches/production")))
    await call(client.postgres.generate_database_credential, ENDPOINT)
    assert (await endpoint_status(client)).current_state is EndpointStatusState.IDLE
    assert wake_ups(simulator) == before


@pytest.mark.parametrize(
    ("target", "state"),
    [
        ("autoscaling", "IDLE"),
        ("autoscaling", "DISABLED"),
        ("provisioned", "STOPPED"),
        ("provisioned", "FAILING_OVER"),
    ],
)
async def test_losing_the_compute_ends_open_sessions(
    simulator: LakebaseSimulator, target: str, state: str
) -> None:
    async with await log_in(simulator, target) as connection:
        await simulator.set_state(target, state)
        with pytest.raises(errors.AdminShutdown):
            await connection.execute("SELECT 1")


async def test_a_disabled_endpoint_says_so_and_wakes_for_nobody(
    simulator: LakebaseSimulator, client: WorkspaceClient
) -> None:
    await simulator.set_state("autoscaling", "DISABLED")
    with pytest.raises(psycopg.OperationalError, match=r"The endpoint has been disabled\. Enable it"):
        await log_in(simulator, "autoscaling")
    status = await endpoint_status(client)
    assert status.disabled
    assert status.current_state is EndpointStatusState.IDLE


async def test_an_endpoint_that_is_being_made_is_temporarily_unavailable(
    simulator: LakebaseSimulator, client: WorkspaceClient
) -> None:
    await simulator.set_state("autoscaling", "INIT")
    with pytest.raises(psycopg.OperationalError, match="endpoint is temporarily unavailable"):
        await log_in(simulator, "autoscaling")
    assert (await endpoint_status(client)).current_state is EndpointStatusState.INIT


async def test_a_deleted_project_is_gone_from_api_and_gateway(
    simulator: LakebaseSimulator, client: WorkspaceClient
) -> None:
    await simulator.set_state("autoscaling", "DELETED")
    with pytest.raises(psycopg.OperationalError, match="endpoint cannot be found"):
        await log_in(simulator, "autoscaling")
    with pytest.raises(NotFound, match="branch id not found"):
        await endpoint_status(client)
    with pytest.raises(NotFound, match="endpoint id not found"):
        await call(client.postgres.generate_database_credential, ENDPOINT)
    project = await call(client.postgres.get_project, "projects/marketing")
    assert project.delete_time is not None
    assert not await call(lambda: list(client.postgres.list_projects()))
    assert len(await call(lambda: list(client.postgres.list_projects(show_deleted=True)))) == 1


async def test_a_stopped_instance_refuses_connections(
    simulator: LakebaseSimulator, client: WorkspaceClient
) -> None:
    await simulator.set_state("provisioned", "STOPPED")
    with pytest.raises(psycopg.OperationalError, match="Connection refused"):
        await log_in(simulator, "provisioned")
    instance = await call(client.database.get_database_instance, INSTANCE)
    assert instance.state is DatabaseInstanceState.STOPPED
    assert instance.effective_stopped


async def test_a_stopped_instance_keeps_its_data_and_its_port(simulator: LakebaseSimulator) -> None:
    port = simulator.targets["provisioned"].port
    async with await log_in(simulator, "provisioned") as connection:
        await connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    await simulator.set_state("provisioned", "STOPPED")
    await simulator.set_state("provisioned", "AVAILABLE")
    async with await log_in(simulator, "provisioned") as connection:
        assert await value(connection, "SELECT answer FROM kept") == 42
        await connection.execute("DROP TABLE kept")
    assert simulator.targets["provisioned"].port == port


async def test_an_instance_is_stopped_and_started_through_the_api(
    simulator: LakebaseSimulator, client: WorkspaceClient
) -> None:
    stop = DatabaseInstance(name=INSTANCE, stopped=True)
    answer = await call(client.database.update_database_instance, INSTANCE, stop, "stopped")
    assert answer.state is DatabaseInstanceState.STOPPED
    start = DatabaseInstance(name=INSTANCE, stopped=False)
    answer = await call(client.database.update_database_instance, INSTANCE, start, "stopped")
    assert answer.state is DatabaseInstanceState.STARTING
    with pytest.raises(psycopg.OperationalError, match="Connection refused"):
        await log_in(simulator, "provisioned")

    async def available() -> bool:
        return await instance_state(client) is DatabaseInstanceState.AVAILABLE

    await eventually(available)
    async with await log_in(simulator, "provisioned"):
        pass


async def test_an_instance_that_fails_over_is_starting_up(
    simulator: LakebaseSimulator, client: WorkspaceClient
) -> None:
    await simulator.set_state("provisioned", "FAILING_OVER")
    with pytest.raises(psycopg.OperationalError, match="the database system is starting up"):
        await log_in(simulator, "provisioned")
    assert await instance_state(client) is DatabaseInstanceState.FAILING_OVER


async def test_an_instance_that_is_updated_goes_on_serving(
    simulator: LakebaseSimulator, client: WorkspaceClient
) -> None:
    async with await log_in(simulator, "provisioned") as connection:
        await simulator.set_state("provisioned", "UPDATING")
        assert await value(connection, "SELECT 1") == 1
    assert await instance_state(client) is DatabaseInstanceState.UPDATING


async def test_a_deleted_instance_is_gone(simulator: LakebaseSimulator, client: WorkspaceClient) -> None:
    await simulator.set_state("provisioned", "DELETED")
    with pytest.raises(NotFound, match=f"database instance with name '{INSTANCE}' not found"):
        await instance_state(client)
    with pytest.raises(psycopg.OperationalError, match="Connection refused"):
        await log_in(simulator, "provisioned")


@pytest.mark.parametrize(("target", "state"), [("autoscaling", "STOPPED"), ("provisioned", "IDLE")])
async def test_a_state_of_the_other_kind_is_refused(
    simulator: LakebaseSimulator, target: str, state: str
) -> None:
    with pytest.raises(ValueError, match=f"has no state {state}: choose one of"):
        await simulator.set_state(target, state)
