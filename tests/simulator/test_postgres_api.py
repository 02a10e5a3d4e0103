"""`w.postgres` with the real SDK: operations, roles, databases, branches, endpoints, projects."""

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.common.types.fieldmask import FieldMask
from databricks.sdk.errors import (
    Aborted,
    AlreadyExists,
    BadRequest,
    InvalidParameterValue,
    NotFound,
    ResourceConflict,
)
from databricks.sdk.errors.base import DatabricksError
from databricks.sdk.service.postgres import (
    Branch,
    BranchSpec,
    Database,
    DatabaseDatabaseSpec,
    Endpoint,
    EndpointSpec,
    EndpointStatusState,
    EndpointType,
    Project,
    ProjectDefaultEndpointSettings,
    ProjectSpec,
    Role,
    RoleAttributes,
    RoleAuthMethod,
    RoleIdentityType,
    RoleMembershipRole,
    RoleRoleSpec,
)
from google.protobuf.duration_pb2 import Duration
from psycopg import sql

from lakebase_sandbox.simulator import LakebaseSimulator
from tests.simulator.support import BRANCH, ENDPOINT, call, eventually, log_in, value

pytestmark = pytest.mark.asyncio(loop_scope="module")

OWNER_ROLE = f"{BRANCH}/roles/owner"


async def finish(client: WorkspaceClient, operation: Any) -> dict[str, Any]:
    """Wait for an operation by its name, as something that was restarted would; its answer.

    Raises:
        AssertionError: it failed.
    """
    name = operation.name()
    done = await call(client.postgres.get_operation, name)

    async def is_done() -> bool:
        nonlocal done
        done = await call(client.postgres.get_operation, name)
        return bool(done.done)

    await eventually(is_done)
    assert done.error is None, done.error
    assert done.response is not None
    return dict(done.response)


async def create_role(
    client: WorkspaceClient, spec: RoleRoleSpec, role_id: str | None = None
) -> dict[str, Any]:
    return await finish(
        client, await call(client.postgres.create_role, BRANCH, Role(spec=spec), role_id=role_id)
    )


async def drop_role(client: WorkspaceClient, role_id: str) -> None:
    await finish(client, await call(client.postgres.delete_role, f"{BRANCH}/roles/{role_id}"))


@pytest.fixture
def slow_operations(simulator: LakebaseSimulator) -> Iterator[None]:
    """Operations take long enough to be looked at."""
    usual = simulator.workspace.operations.seconds
    simulator.workspace.operations.seconds = 2.0
    yield
    simulator.workspace.operations.seconds = usual


async def test_an_operation_takes_its_time_and_is_found_by_its_name(
    client: WorkspaceClient, slow_operations: None
) -> None:
    role = Role(spec=RoleRoleSpec(postgres_role="slow_role"))
    operation = await call(client.postgres.create_role, BRANCH, role, role_id="slow-role")
    assert not operation._operation.done
    with pytest.raises(NotFound, match="role id not found"):
        await call(client.postgres.get_role, f"{BRANCH}/roles/slow-role")
    answer = await finish(client, operation)
    assert answer["@type"].endswith("postgres.v1.Role")
    assert (await call(client.postgres.get_role, answer["name"])).role_id == "slow-role"
    await drop_role(client, "slow-role")


async def test_the_sdk_waits_for_operations_and_deletions(client: WorkspaceClient) -> None:
    role = Role(spec=RoleRoleSpec(postgres_role="waited_for"))
    operation = await call(client.postgres.create_role, BRANCH, role, role_id="waited-for")
    created = await call(operation.wait)
    assert created.status.postgres_role == "waited_for"
    deletion = await call(client.postgres.delete_role, created.name)
    await call(deletion.wait)
    with pytest.raises(NotFound):
        await call(client.postgres.get_role, created.name)


async def test_an_unknown_operation_is_not_found(client: WorkspaceClient) -> None:
    with pytest.raises(NotFound):
        await call(client.postgres.get_operation, f"{BRANCH}/roles/some-role/operations/abc/d+e==")


async def test_one_change_at_a_time_in_a_branch(client: WorkspaceClient, slow_operations: None) -> None:
    role = Role(spec=RoleRoleSpec(postgres_role="first"))
    first = await call(client.postgres.create_role, BRANCH, role, role_id="first-role")
    second = Role(spec=RoleRoleSpec(postgres_role="second"))
    with pytest.raises(ResourceConflict, match="conflicting operations in progress"):
        await call(client.postgres.create_role, BRANCH, second, role_id="second-role")
    await finish(client, first)
    await finish(client, await call(client.postgres.create_role, BRANCH, second, role_id="second-role"))
    await drop_role(client, "first-role")
    await drop_role(client, "second-role")


async def test_the_spec_is_never_echoed(client: WorkspaceClient) -> None:
    bodies = [
        await call(client.api_client.do, "GET", f"/api/2.0/postgres/{name}")
        for name in (
            "projects/marketing",
            BRANCH,
            ENDPOINT,
            OWNER_ROLE,
            f"{BRANCH}/databases/databricks-postgres",
        )
    ]
    for body in bodies:
        assert "status" in body
        assert "spec" not in body


async def test_an_identity_role_of_the_api_is_real_and_not_the_operators(
    simulator: LakebaseSimulator, client: WorkspaceClient
) -> None:
    name = simulator.add_identity("user", "erin@example.com").identity.name
    spec = RoleRoleSpec(postgres_role=name, identity_type=RoleIdentityType.USER)
    answer = await create_role(client, spec, "erin-role")
    assert answer["status"]["auth_method"] == "LAKEBASE_OAUTH_V1"
    assert answer["status"]["attributes"] == {"bypassrls": False, "createdb": False, "createrole": False}
    assert "membership_roles" not in answer["status"]
    async with await log_in(simulator, "autoscaling", name) as connection:
        assert await value(connection, "SELECT current_user::text") == name
    async with await log_in(simulator, "autoscaling") as operator:
        await operator.execute("CREATE ROLE readers")
        try:
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="ADMIN option"):
                await operator.execute(f'GRANT "{name}" TO readers')
        finally:
            await operator.execute("DROP ROLE readers")
    await drop_role(client, "erin-role")


async def test_roles_made_in_sql_show_in_the_api(
    simulator: LakebaseSimulator, client: WorkspaceClient
) -> None:
    async with await log_in(simulator, "autoscaling") as operator:
        await operator.execute("CREATE ROLE made_in_sql NOLOGIN")
        roles = await call(lambda: list(client.postgres.list_roles(BRANCH)))
        found = next(r for r in roles if r.status and r.status.postgres_role == "made_in_sql")
        assert found.role_id == "made-in-sql"
        assert found.status is not None
        assert found.status.auth_method is RoleAuthMethod.NO_LOGIN
        assert found.status.identity_type is None
        await operator.execute("DROP ROLE made_in_sql")
    raw = await call(client.api_client.do, "GET", f"/api/2.0/postgres/{BRANCH}/roles")
    assert all(role["status"]["postgres_role"] != "made_in_sql" for role in raw["roles"])


async def test_system_roles_are_not_shown(client: WorkspaceClient) -> None:
    roles = await call(lambda: list(client.postgres.list_roles(BRANCH, page_size=1)))
    names = {role.status.postgres_role for role in roles if role.status}
    assert "owner@example.com" in names
    assert not [n for n in names if str(n).startswith(("databricks_", "pg_", "cloud_admin"))]


@pytest.mark.parametrize(
    ("spec", "role_id", "error", "message"),
    [
        (RoleRoleSpec(), "some-role", InvalidParameterValue, "Field 'role' is required and must contain"),
        (RoleRoleSpec(postgres_role="x"), "123", InvalidParameterValue, "role_id must match pattern"),
        (
            RoleRoleSpec(postgres_role="x", auth_method=RoleAuthMethod.NO_LOGIN),
            "some-role",
            InvalidParameterValue,
            "Creating roles with auth_method NO_LOGIN is not currently supported",
        ),
        (RoleRoleSpec(postgres_role="pg_mine"), "some-role", InvalidParameterValue, "is not permitted"),
        (RoleRoleSpec(postgres_role="owner@example.com"), "other", BadRequest, "role with that name already"),
    ],
)
async def test_a_role_that_cannot_be_is_refused_at_once(
    client: WorkspaceClient, spec: RoleRoleSpec, role_id: str, error: type[DatabricksError], message: str
) -> None:
    with pytest.raises(error, match=message):
        await call(client.postgres.create_role, BRANCH, Role(spec=spec), role_id=role_id)


async def test_an_unknown_identity_fails_the_operation(client: WorkspaceClient) -> None:
    spec = RoleRoleSpec(postgres_role="ghost@example.com", identity_type=RoleIdentityType.USER)
    operation = await call(client.postgres.create_role, BRANCH, Role(spec=spec), role_id="ghost")
    with pytest.raises(Exception, match="PRINCIPAL_DOES_NOT_EXIST"):
        await call(operation.wait)


async def test_only_attributes_and_memberships_of_a_role_can_be_changed(
    simulator: LakebaseSimulator, client: WorkspaceClient
) -> None:
    await create_role(client, RoleRoleSpec(postgres_role="changing"), "changing")
    name = f"{BRANCH}/roles/changing"

    async def update(spec: RoleRoleSpec, *mask: str) -> dict[str, Any]:
        operation = await call(
            client.postgres.update_role, name, Role(spec=spec), update_mask=FieldMask(list(mask))
        )
        return dict((await finish(client, operation))["status"])

    attributes = RoleAttributes(createdb=True, createrole=True)
    status = await update(RoleRoleSpec(attributes=attributes), "spec.attributes")
    assert status["attributes"] == {"createdb": True, "createrole": True, "bypassrls": False}
    leaf = RoleRoleSpec(attributes=RoleAttributes(createdb=False))
    status = await update(leaf, "spec.attributes.createdb")
    assert status["attributes"] == {"createdb": False, "createrole": True, "bypassrls": False}
    member = RoleRoleSpec(membership_roles=[RoleMembershipRole.DATABRICKS_SUPERUSER])
    assert (await update(member, "spec.membership_roles"))["membership_roles"] == ["DATABRICKS_SUPERUSER"]
    assert "membership_roles" not in await update(RoleRoleSpec(membership_roles=[]), "spec.membership_roles")
    with pytest.raises(InvalidParameterValue, match="Unknown field path in update_mask"):
        await update(RoleRoleSpec(postgres_role="renamed"), "spec.postgres_role")
    await drop_role(client, "changing")


async def test_replacing_an_existing_role_adopts_it_and_clears_what_is_not_given(
    client: WorkspaceClient,
) -> None:
    member = [RoleMembershipRole.DATABRICKS_SUPERUSER]
    await create_role(client, RoleRoleSpec(postgres_role="adopted", membership_roles=member), "adopted")
    role = Role(spec=RoleRoleSpec(postgres_role="adopted", attributes=RoleAttributes(createdb=True)))
    operation = await call(
        client.postgres.create_role, BRANCH, role, role_id="adopted", replace_existing=True
    )
    status = (await finish(client, operation))["status"]
    assert status["attributes"]["createdb"]
    assert "membership_roles" not in status
    await drop_role(client, "adopted")


async def test_a_role_that_owns_objects_is_dropped_only_with_an_heir(
    simulator: LakebaseSimulator, client: WorkspaceClient
) -> None:
    await create_role(client, RoleRoleSpec(postgres_role="proprietor"), "proprietor")
    server = simulator.targets["autoscaling"].server
    async with await server.connect() as admin:
        await admin.execute("CREATE SCHEMA estate AUTHORIZATION proprietor")
    name = f"{BRANCH}/roles/proprietor"
    refused = await call(client.postgres.delete_role, name)
    with pytest.raises(Exception, match="some objects depend on it"):
        await call(refused.wait)
    await finish(client, await call(client.postgres.delete_role, name, reassign_owned_to=OWNER_ROLE))
    async with await server.connect() as admin:
        owner = await value(
            admin, "SELECT nspowner::regrole::text FROM pg_namespace WHERE nspname = 'estate'"
        )
        assert owner == '"owner@example.com"'
        await admin.execute("DROP SCHEMA estate")


async def test_the_password_of_a_role_is_revealed_and_works_where_native_login_is_on(
    simulator: LakebaseSimulator, client: WorkspaceClient
) -> None:
    await create_role(client, RoleRoleSpec(postgres_role="with_password"), "with-password")
    revealed = await call(client.postgres.reveal_role_password, f"{BRANCH}/roles/with-password")
    assert revealed.password
    again = await call(client.postgres.reveal_role_password, f"{BRANCH}/roles/with-password")
    assert again.password == revealed.password
    spec = ProjectSpec(enable_pg_native_login=True)
    mask = FieldMask(["spec.enable_pg_native_login"])
    try:
        operation = await call(
            client.postgres.update_project, "projects/marketing", Project(spec=spec), update_mask=mask
        )
        assert (await finish(client, operation))["status"]["enable_pg_native_login"]
        async with await log_in(simulator, "autoscaling", "with_password", revealed.password) as connection:
            assert await value(connection, "SELECT current_user::text") == "with_password"
    finally:
        simulator.targets["autoscaling"].enable_pg_native_login = False
    await drop_role(client, "with-password")


async def test_replacing_a_role_gives_it_another_password(
    simulator: LakebaseSimulator, client: WorkspaceClient
) -> None:
    """Also one that SQL has made, of which there is none to reveal before."""
    await simulator.targets["autoscaling"].execute("CREATE ROLE made_in_sql CREATEDB")
    name = f"{BRANCH}/roles/made-in-sql"
    with pytest.raises(Exception, match="does not log in with a password"):
        await call(client.postgres.reveal_role_password, name)
    passwords = set()
    for _ in range(2):
        spec = RoleRoleSpec(postgres_role="made_in_sql", auth_method=RoleAuthMethod.PG_PASSWORD_SCRAM_SHA_256)
        operation = await call(
            client.postgres.create_role,
            BRANCH,
            Role(spec=spec),
            role_id="made-in-sql",
            replace_existing=True,
        )
        assert not (await finish(client, operation))["status"]["attributes"]["createdb"]
        passwords.add((await call(client.postgres.reveal_role_password, name)).password)
    assert len(passwords) == 2
    await drop_role(client, "made-in-sql")
    await simulator.targets["autoscaling"].execute("CREATE ROLE made_in_sql LOGIN")
    with pytest.raises(Exception, match="no password that could be revealed"):
        await call(client.postgres.reveal_role_password, name)
    await drop_role(client, "made-in-sql")


async def test_a_database_of_the_api_is_prepared_like_the_default_one(
    simulator: LakebaseSimulator, client: WorkspaceClient
) -> None:
    database = Database(spec=DatabaseDatabaseSpec(role=OWNER_ROLE, postgres_database="cs-data"))
    operation = await call(client.postgres.create_database, BRANCH, database, database_id="cs-data")
    answer = await finish(client, operation)
    assert answer["status"] == {
        "database_id": "cs-data",
        "postgres_database": "cs-data",
        "role": OWNER_ROLE,
    }
    async with await log_in(simulator, "autoscaling", dbname="cs-data") as connection:
        assert await value(connection, "SELECT count(*) FROM databricks_list_roles") >= 2
        assert await value(connection, "SELECT count(*) FROM pg_event_trigger") == 3
    with pytest.raises(BadRequest, match="database with that name already exists"):
        await call(client.postgres.create_database, BRANCH, database, database_id="cs-data")
    await finish(client, await call(client.postgres.delete_database, answer["name"]))
    names = [d.database_id for d in await call(lambda: list(client.postgres.list_databases(BRANCH)))]
    assert names == ["databricks-postgres"]


@pytest.mark.parametrize(
    ("database_id", "role", "error", "message"),
    [
        ("good", "", InvalidParameterValue, r"Field 'database.spec.role' is required"),
        ("Bad", OWNER_ROLE, InvalidParameterValue, r"database_id must match pattern .*, got 'Bad'"),
        ("good", f"{BRANCH}/roles/nobody", NotFound, 'role not found; role_id:"nobody"'),
    ],
)
async def test_a_database_that_cannot_be_is_refused(
    client: WorkspaceClient, database_id: str, role: str, error: type[DatabricksError], message: str
) -> None:
    database = Database(spec=DatabaseDatabaseSpec(role=role))
    with pytest.raises(error, match=message):
        await call(client.postgres.create_database, BRANCH, database, database_id=database_id)


async def test_a_database_made_in_sql_lacks_databricks_auth_until_the_extension_is_created(
    simulator: LakebaseSimulator,
) -> None:
    await simulator.targets["autoscaling"].execute(
        sql.SQL("CREATE DATABASE raw OWNER {}").format(sql.Identifier(simulator.client_id))
    )
    async with await log_in(simulator, "autoscaling", dbname="raw") as connection:
        with pytest.raises(psycopg.errors.UndefinedFunction):
            await connection.execute("SELECT databricks_create_role('x', 'USER')")
        await connection.execute("CREATE EXTENSION databricks_auth")
        with pytest.raises(psycopg.errors.InvalidParameterValue, match="Identity not found"):
            await connection.execute("SELECT databricks_create_role('x', 'USER')")
    await simulator.targets["autoscaling"].execute("DROP DATABASE raw WITH (FORCE)")


async def test_a_child_branch_gets_a_compute_with_a_copy_of_the_data(
    simulator: LakebaseSimulator, client: WorkspaceClient
) -> None:
    async with await log_in(simulator, "autoscaling") as operator:
        await operator.execute("CREATE TABLE inherited AS SELECT 42 AS answer")
    branch = Branch(spec=BranchSpec(source_branch=BRANCH, no_expiry=True))
    created = await finish(
        client, await call(client.postgres.create_branch, "projects/marketing", branch, "development")
    )
    assert created["status"]["source_branch"] == BRANCH
    with pytest.raises(DatabricksError, match="no read-write endpoint"):
        await call(lambda: list(client.postgres.list_roles(created["name"])))
    endpoint = Endpoint(spec=EndpointSpec(endpoint_type=EndpointType.ENDPOINT_TYPE_READ_WRITE))
    made = await finish(
        client, await call(client.postgres.create_endpoint, created["name"], endpoint, "primary")
    )
    assert made["status"]["current_state"] == "ACTIVE"

    target = "marketing-development"
    async with await log_in(simulator, target) as operator:
        assert await value(operator, "SELECT answer FROM inherited") == 42
        await operator.execute("DROP TABLE inherited")
    async with await log_in(simulator, "autoscaling") as operator:
        assert await value(operator, "SELECT answer FROM inherited") == 42
        await operator.execute("DROP TABLE inherited")
    of_the_parent = simulator.login("autoscaling", simulator.client_id).token
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        await log_in(simulator, target, password=of_the_parent)

    operation = await call(client.postgres.delete_branch, created["name"])
    await finish(client, operation)
    with pytest.raises(NotFound, match="branch id not found"):
        await call(client.postgres.get_branch, created["name"])
    await finish(client, await call(client.postgres.undelete_branch, created["name"]))
    async with await log_in(simulator, target):
        pass
    await finish(client, await call(client.postgres.delete_branch, created["name"], purge=True))
    assert target not in simulator.targets


async def test_root_branches_and_read_write_endpoints_are_protected(client: WorkspaceClient) -> None:
    with pytest.raises(BadRequest, match="Root branches cannot be deleted independently") as raised:
        await call(client.postgres.delete_branch, BRANCH)
    info = raised.value.get_error_details().error_info
    assert info is not None
    assert (info.domain, info.reason) == ("databricks.com", "RESOURCE_CONFLICT")
    with pytest.raises(BadRequest, match="Read-write endpoints cannot be deleted"):
        await call(client.postgres.delete_endpoint, ENDPOINT)


async def test_an_endpoint_is_disabled_through_the_api_and_reconciles_for_a_while(
    simulator: LakebaseSimulator, client: WorkspaceClient
) -> None:
    async def set_disabled(disabled: bool) -> None:
        kind = EndpointType.ENDPOINT_TYPE_READ_WRITE
        endpoint = Endpoint(spec=EndpointSpec(endpoint_type=kind, disabled=disabled))
        mask = FieldMask(["spec.disabled"])
        await finish(
            client, await call(client.postgres.update_endpoint, ENDPOINT, endpoint, update_mask=mask)
        )

    await set_disabled(True)
    with pytest.raises(psycopg.OperationalError, match="has been disabled"):
        await log_in(simulator, "autoscaling")

    async def settled() -> bool:
        status = (await call(client.postgres.get_endpoint, ENDPOINT)).status
        return status is not None and status.pending_state is None

    await eventually(settled)
    await set_disabled(False)
    status = (await call(client.postgres.get_endpoint, ENDPOINT)).status
    assert status is not None
    assert status.current_state is EndpointStatusState.ACTIVE


async def test_an_endpoint_that_reconciles_takes_no_change(
    simulator: LakebaseSimulator, client: WorkspaceClient
) -> None:
    endpoint = Endpoint(
        spec=EndpointSpec(endpoint_type=EndpointType.ENDPOINT_TYPE_READ_WRITE, autoscaling_limit_max_cu=2.0)
    )
    mask = FieldMask(["spec.autoscaling_limit_max_cu"])
    workspace, settings = simulator.workspace, simulator.workspace.settings
    before = workspace.endpoints[ENDPOINT]
    workspace.endpoints[ENDPOINT] = replace(before, pending_until=0.0)
    workspace.settings = replace(settings, reconciliation_seconds=3600.0)
    try:
        operation = await call(client.postgres.update_endpoint, ENDPOINT, endpoint, update_mask=mask)
        await finish(client, operation)
        with pytest.raises(Aborted, match="Endpoint reconciliation still in progress"):
            await call(client.postgres.update_endpoint, ENDPOINT, endpoint, update_mask=mask)
        status = (await call(client.postgres.get_endpoint, ENDPOINT)).status
        assert status is not None
        assert status.pending_state is EndpointStatusState.ACTIVE
    finally:
        workspace.settings = settings
        workspace.endpoints[ENDPOINT] = before


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("projects/nowhere", "project id not found"),
        ("projects/nowhere/branches/production", "project id not found"),
        ("projects/marketing/branches/nowhere/endpoints/primary", "branch id not found"),
        (f"{BRANCH}/endpoints/nowhere", "endpoint id not found"),
        (f"{BRANCH}/roles/nowhere", "role id not found"),
        (f"{BRANCH}/databases/nowhere", "database id not found"),
        ("projects/nowhere/branches/nowhere/roles", "branch id not found"),
    ],
)
async def test_what_is_missing_is_named_from_the_outside(
    client: WorkspaceClient, name: str, message: str
) -> None:
    with pytest.raises(NotFound, match=rf"{message} \[TraceId: "):
        await call(client.api_client.do, "GET", f"/api/2.0/postgres/{name}")


async def test_an_empty_list_is_an_empty_object(client: WorkspaceClient) -> None:
    await finish(
        client,
        await call(
            client.postgres.create_branch,
            "projects/marketing",
            Branch(spec=BranchSpec(no_expiry=True)),
            "empty",
        ),
    )
    branch = "projects/marketing/branches/empty"
    assert await call(client.api_client.do, "GET", f"/api/2.0/postgres/{branch}/endpoints") == {}
    await finish(client, await call(client.postgres.delete_branch, branch, purge=True))


async def test_a_project_of_the_api_is_a_whole_one(
    simulator: LakebaseSimulator, client: WorkspaceClient
) -> None:
    project = Project(spec=ProjectSpec(display_name="Research", pg_version=16))
    created = await finish(client, await call(client.postgres.create_project, project, "research"))
    assert created["status"]["display_name"] == "Research"
    assert created["status"]["default_branch"] == "projects/research/branches/production"
    with pytest.raises(AlreadyExists, match="project with such id already exists in the workspace"):
        await call(client.postgres.create_project, project, "research")
    async with await log_in(simulator, "research") as connection:
        assert connection.info.server_version // 10000 == 16
    endpoint = await call(
        client.postgres.get_endpoint, "projects/research/branches/production/endpoints/primary"
    )
    assert endpoint.status is not None
    assert endpoint.status.current_state is EndpointStatusState.ACTIVE
    await finish(client, await call(client.postgres.delete_project, "projects/research"))
    assert (await call(client.postgres.get_project, "projects/research")).delete_time is not None
    await finish(client, await call(client.postgres.undelete_project, "projects/research"))
    async with await log_in(simulator, "research"):
        pass
    await finish(client, await call(client.postgres.delete_project, "projects/research", purge=True))
    with pytest.raises(NotFound, match="project id not found"):
        await call(client.postgres.get_project, "projects/research")


async def test_the_masks_of_projects_are_checked(client: WorkspaceClient) -> None:
    async def update(spec: ProjectSpec, *mask: str) -> dict[str, Any]:
        operation = await call(
            client.postgres.update_project,
            "projects/marketing",
            Project(spec=spec),
            update_mask=FieldMask(list(mask)),
        )
        return dict((await finish(client, operation))["status"])

    settings = ProjectDefaultEndpointSettings(autoscaling_limit_max_cu=4.0)
    with pytest.raises(InvalidParameterValue, match="suspension' is in update_mask but not provided"):
        await update(ProjectSpec(default_endpoint_settings=settings), "spec.default_endpoint_settings")
    with pytest.raises(InvalidParameterValue, match="Unknown field path"):
        await update(ProjectSpec(), "initial_endpoint_spec")
    mask = "spec.default_endpoint_settings.autoscaling_limit_max_cu"
    status = await update(ProjectSpec(default_endpoint_settings=settings), mask)
    assert status["default_endpoint_settings"]["autoscaling_limit_max_cu"] == 4.0
    assert status["default_endpoint_settings"]["suspend_timeout_duration"] == "86400s"


@pytest.mark.parametrize(("seconds", "good"), [(300, True), (3600, True), (10, False), (7200, False)])
async def test_a_credential_lives_as_long_as_it_is_asked_to(
    client: WorkspaceClient, seconds: int, good: bool
) -> None:
    ttl = Duration()
    ttl.FromTimedelta(timedelta(seconds=seconds))
    if not good:
        with pytest.raises(InvalidParameterValue, match="between 300s and 3600s"):
            await call(client.postgres.generate_database_credential, ENDPOINT, ttl=ttl)
        return
    credential = await call(client.postgres.generate_database_credential, ENDPOINT, ttl=ttl)
    assert credential.expire_time is not None
    assert seconds - 60 < credential.expire_time.seconds - time.time() <= seconds
