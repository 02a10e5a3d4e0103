"""`w.database` with the real SDK: instances, their roles, credentials."""

from datetime import UTC, datetime

import psycopg
import pytest
from databricks.sdk import WorkspaceClient, errors
from databricks.sdk.errors import AlreadyExists, BadRequest, InvalidParameterValue, NotFound
from databricks.sdk.service.database import (
    DatabaseCatalog,
    DatabaseInstance,
    DatabaseInstanceRole,
    DatabaseInstanceRoleAttributes,
    DatabaseInstanceRoleIdentityType,
    DatabaseInstanceRoleMembershipRole,
    DatabaseInstanceState,
)

from lakebase_sandbox.simulator import LakebaseSimulator
from tests.simulator.support import INSTANCE, call, eventually, log_in, value

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_input_only_fields_are_not_echoed(client: WorkspaceClient) -> None:
    body = await call(client.api_client.do, "GET", f"/api/2.0/database/instances/{INSTANCE}")
    inputs = {"stopped", "enable_pg_native_login", "node_count", "retention_window_in_days", "custom_tags"}
    assert not inputs & set(body)
    assert body["effective_enable_pg_native_login"] is False
    assert body["state"] == "AVAILABLE"
    assert body["pg_version"] == "PG_VERSION_16"


async def test_instances_are_listed_and_found_by_uid(client: WorkspaceClient) -> None:
    listed = await call(lambda: list(client.database.list_database_instances()))
    assert [instance.name for instance in listed] == [INSTANCE]
    found = await call(client.database.find_database_instance_by_uid, uid=listed[0].uid)
    assert found.name == INSTANCE


async def test_a_missing_instance_is_named(client: WorkspaceClient) -> None:
    with pytest.raises(NotFound, match="database instance with name 'nowhere' not found"):
        await call(client.database.get_database_instance, "nowhere")
    with pytest.raises(NotFound, match="database instance with name 'nowhere' not found"):
        await call(client.database.generate_database_credential, instance_names=["nowhere"])


async def test_a_credential_names_its_instances_and_expires(client: WorkspaceClient) -> None:
    credential = await call(client.database.generate_database_credential, instance_names=[INSTANCE])
    assert credential.expiration_time is not None
    left = datetime.fromisoformat(credential.expiration_time) - datetime.now(UTC)
    assert 3500 < left.total_seconds() <= 3600
    with pytest.raises(InvalidParameterValue, match="instance_names"):
        await call(client.database.generate_database_credential)


async def test_an_instance_is_created_becomes_available_and_is_deleted(
    simulator: LakebaseSimulator, client: WorkspaceClient
) -> None:
    wanted = DatabaseInstance(name="research-db", capacity="CU_2")
    waiter = await call(client.database.create_database_instance, wanted)
    assert waiter.response.state is DatabaseInstanceState.STARTING
    with pytest.raises(AlreadyExists):
        await call(client.database.create_database_instance, wanted)
    instance = await call(waiter.result)
    assert instance.state is DatabaseInstanceState.AVAILABLE
    assert instance.effective_capacity == "CU_2"
    async with await log_in(simulator, "research-db") as connection:
        assert await value(connection, "SELECT 1") == 1
    await call(client.database.delete_database_instance, "research-db", purge=True)
    with pytest.raises(NotFound):
        await call(client.database.get_database_instance, "research-db")


async def test_an_update_says_what_it_did_and_a_get_only_what_is(client: WorkspaceClient) -> None:
    change = DatabaseInstance(name="", capacity="CU_4")
    updated = await call(client.database.update_database_instance, INSTANCE, change, "capacity")
    assert (updated.capacity, updated.effective_capacity) == ("CU_4", "CU_1")
    assert updated.state is DatabaseInstanceState.UPDATING

    async def settled() -> bool:
        instance = await call(client.database.get_database_instance, INSTANCE)
        return instance.state is DatabaseInstanceState.AVAILABLE and instance.effective_capacity == "CU_4"

    await eventually(settled)
    back = DatabaseInstance(name=INSTANCE, capacity="CU_1")
    await call(client.database.update_database_instance, INSTANCE, back, "capacity")
    with pytest.raises(InvalidParameterValue, match="Unknown field path in update_mask"):
        await call(client.database.update_database_instance, INSTANCE, back, "uid")
    wrong = DatabaseInstance(name=INSTANCE, capacity="CU_3")
    with pytest.raises(InvalidParameterValue, match="capacity must be one of"):
        await call(client.database.update_database_instance, INSTANCE, wrong, "capacity")


async def test_native_login_is_switched_on_through_the_api(
    simulator: LakebaseSimulator, client: WorkspaceClient
) -> None:
    async def switch(on: bool) -> bool | None:
        change = DatabaseInstance(name=INSTANCE, enable_pg_native_login=on)
        answer = await call(
            client.database.update_database_instance, INSTANCE, change, "enable_pg_native_login"
        )
        return answer.effective_enable_pg_native_login

    target = simulator.targets["provisioned"]
    await target.execute("CREATE ROLE native LOGIN PASSWORD 'a password'")
    assert await switch(True)
    async with await log_in(simulator, "provisioned", "native", "a password"):
        pass
    assert await switch(False) is False
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        await log_in(simulator, "provisioned", "native", "a password")
    await target.execute("DROP ROLE native")


async def test_roles_are_created_at_once_and_cannot_be_updated(
    simulator: LakebaseSimulator, client: WorkspaceClient
) -> None:
    simulator.add_identity("user", "frank@example.com")
    wanted = DatabaseInstanceRole(
        name="frank@example.com",
        identity_type=DatabaseInstanceRoleIdentityType.USER,
        membership_role=DatabaseInstanceRoleMembershipRole.DATABRICKS_SUPERUSER,
        attributes=DatabaseInstanceRoleAttributes(createdb=True),
    )
    created = await call(client.database.create_database_instance_role, INSTANCE, wanted)
    assert created.membership_role is DatabaseInstanceRoleMembershipRole.DATABRICKS_SUPERUSER
    assert created.effective_attributes is not None
    assert created.effective_attributes.createdb
    async with await log_in(simulator, "provisioned", "frank@example.com") as connection:
        assert await value(connection, "SELECT pg_has_role('databricks_superuser', 'USAGE')")
    with pytest.raises(BadRequest, match="role with that name already exists"):
        await call(client.database.create_database_instance_role, INSTANCE, wanted)
    path = f"/api/2.0/database/instances/{INSTANCE}/roles/frank@example.com"
    with pytest.raises(NotFound, match="No API found"):
        await call(client.api_client.do, "PATCH", path, body={})
    names = [r.name for r in await call(lambda: list(client.database.list_database_instance_roles(INSTANCE)))]
    assert "frank@example.com" in names
    await call(client.database.delete_database_instance_role, INSTANCE, "frank@example.com")
    with pytest.raises(NotFound, match=r"role with name 'frank@example\.com' not found"):
        await call(client.database.delete_database_instance_role, INSTANCE, "frank@example.com")
    await call(
        client.database.delete_database_instance_role, INSTANCE, "frank@example.com", allow_missing=True
    )


async def test_what_is_not_implemented_says_so(client: WorkspaceClient) -> None:
    catalog = DatabaseCatalog(name="sales", database_instance_name=INSTANCE, database_name="sales")
    with pytest.raises(errors.NotImplemented, match="Update Database Catalog is not yet implemented"):
        await call(client.database.update_database_catalog, "sales", catalog, "database_name")
    with pytest.raises(errors.NotImplemented):
        await call(lambda: list(client.database.list_database_catalogs(INSTANCE)))
