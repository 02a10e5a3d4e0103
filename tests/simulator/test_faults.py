"""Faults that are switched on: what a client meets, and that clearing them ends it."""

import asyncio
import re
import time

import psycopg
import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import (
    InternalError,
    PermissionDenied,
    ResourceConflict,
    Unauthenticated,
)
from databricks.sdk.errors.base import DatabricksError
from psycopg import errors

from lakebase_sandbox.simulator import LakebaseSimulator
from tests.simulator.support import ENDPOINT, INSTANCE, TARGETS, call, eventually, log_in, value

pytestmark = pytest.mark.asyncio(loop_scope="module")

both_targets = pytest.mark.parametrize("target", TARGETS)


@both_targets
async def test_refuse_lets_nobody_connect_until_it_is_cleared(
    simulator: LakebaseSimulator, target: str
) -> None:
    async with await log_in(simulator, target) as open_before:
        await simulator.fault(target, "refuse")
        with pytest.raises(psycopg.OperationalError, match="Connection refused"):
            await log_in(simulator, target)
        assert await value(open_before, "SELECT 1") == 1
    await simulator.clear_faults()
    async with await log_in(simulator, target):
        pass


@both_targets
async def test_swallow_gives_no_answer_until_it_is_cleared(simulator: LakebaseSimulator, target: str) -> None:
    async with await log_in(simulator, target) as open_before:
        await simulator.fault(target, "swallow")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await asyncio.open_connection("127.0.0.1", simulator.targets[target].port)
        assert await value(open_before, "SELECT 1") == 1
    await simulator.clear_faults()
    async with await log_in(simulator, target):
        pass


@both_targets
async def test_block_address_turns_logins_down_for_where_they_come_from(
    simulator: LakebaseSimulator, target: str
) -> None:
    await simulator.fault(target, "block-address")
    with pytest.raises(psycopg.OperationalError, match=r"IP address 127\.0\.0\.1 is not allowed"):
        await log_in(simulator, target)
    await simulator.clear_faults()
    async with await log_in(simulator, target):
        pass


@both_targets
async def test_drop_cuts_open_connections_once(simulator: LakebaseSimulator, target: str) -> None:
    async with await log_in(simulator, target) as connection:
        await simulator.fault(target, "drop")
        with pytest.raises(psycopg.OperationalError) as raised:
            await connection.execute("SELECT 1")
        assert raised.value.sqlstate is None
    async with await log_in(simulator, target) as connection:
        assert await value(connection, "SELECT 1") == 1


@both_targets
async def test_drop_with_a_number_cuts_after_so_many_messages(
    simulator: LakebaseSimulator, target: str
) -> None:
    async with await log_in(simulator, target) as connection:
        await simulator.fault(target, "drop", 3)
        for _ in range(2):  # without parameters and results in text form, a statement is one message
            await connection.execute("SELECT 1; SELECT 2")
        with pytest.raises(psycopg.OperationalError):
            await connection.execute("SELECT 1; SELECT 2")
    async with await log_in(simulator, target) as later:
        for _ in range(2):
            await later.execute("SELECT 1; SELECT 2")
        with pytest.raises(psycopg.OperationalError):
            await later.execute("SELECT 1; SELECT 2")


async def test_the_last_statement_before_the_cut_still_takes_effect(simulator: LakebaseSimulator) -> None:
    async with await log_in(simulator, "provisioned") as connection:
        await simulator.fault("provisioned", "drop", 1)
        with pytest.raises(psycopg.OperationalError):
            await connection.execute("CREATE TABLE made_it (); SELECT 1")
    await simulator.clear_faults()
    async with await log_in(simulator, "provisioned") as connection:

        async def is_there() -> bool:
            return bool(await value(connection, "SELECT to_regclass('made_it') IS NOT NULL"))

        await eventually(is_there)
        await connection.execute("DROP TABLE made_it")


@both_targets
async def test_expire_token_ends_the_credentials_issued_so_far(
    simulator: LakebaseSimulator, target: str
) -> None:
    old = simulator.login(target, simulator.client_id).token
    await simulator.fault(target, "expire-token")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        await log_in(simulator, target, password=old)
    async with await log_in(simulator, target):
        pass


async def test_reject_logins_refuses_so_many_of_the_next(simulator: LakebaseSimulator) -> None:
    await simulator.fault("autoscaling", "reject-logins", 2)
    for _ in range(2):
        with pytest.raises(psycopg.OperationalError, match="External authorization failed"):
            await log_in(simulator, "autoscaling")
    async with await log_in(simulator, "autoscaling"):
        pass


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, Unauthenticated),
        (403, PermissionDenied),
        (409, ResourceConflict),
        (500, InternalError),
    ],
)
async def test_http_faults_become_the_sdks_errors(
    simulator: LakebaseSimulator, client: WorkspaceClient, status: int, error: type[DatabricksError]
) -> None:
    await call(client.current_user.me)
    await simulator.fault("autoscaling", "http", status)
    with pytest.raises(error):
        await call(client.postgres.get_endpoint, ENDPOINT)
    with pytest.raises(error):
        await call(client.postgres.generate_database_credential, ENDPOINT)
    await call(client.database.get_database_instance, INSTANCE)  # another target is well


async def test_throttling_says_when_to_retry_and_the_sdk_does(
    simulator: LakebaseSimulator, client: WorkspaceClient
) -> None:
    await call(client.current_user.me)
    await simulator.fault("provisioned", "http", 429, 1)
    started = time.monotonic()
    instance = await call(client.database.get_database_instance, INSTANCE)
    assert instance.name == INSTANCE
    assert time.monotonic() - started >= 1.0


async def test_a_fault_of_all_meets_every_request(
    simulator: LakebaseSimulator, client: WorkspaceClient
) -> None:
    await call(client.current_user.me)
    await simulator.fault("all", "http", 500, 2)
    with pytest.raises(InternalError):
        await call(client.current_user.me)
    with pytest.raises(InternalError):
        await call(client.postgres.get_endpoint, ENDPOINT)
    await call(client.current_user.me)


async def test_slow_answers_take_their_time(simulator: LakebaseSimulator, client: WorkspaceClient) -> None:
    await call(client.current_user.me)
    await simulator.fault("autoscaling", "slow", 300)
    started = time.monotonic()
    await call(client.postgres.get_endpoint, ENDPOINT)
    assert time.monotonic() - started >= 0.3


async def test_slow_sql_takes_its_time(simulator: LakebaseSimulator) -> None:
    async with await log_in(simulator, "autoscaling") as connection:
        await simulator.fault("autoscaling", "slow-sql", 300)
        started = time.monotonic()
        await connection.execute("SELECT 1")
        assert time.monotonic() - started >= 0.3


async def test_wrong_host_names_a_host_that_does_not_resolve(
    simulator: LakebaseSimulator, client: WorkspaceClient
) -> None:
    await simulator.fault("autoscaling", "wrong-host")
    endpoint = await call(client.postgres.get_endpoint, ENDPOINT)
    assert endpoint.status is not None
    assert endpoint.status.hosts is not None
    host = str(endpoint.status.hosts.host)
    with pytest.raises(OSError, match=r"Name|known|resolve"):
        await asyncio.get_running_loop().getaddrinfo(host, 5432)


@both_targets
async def test_the_operator_can_be_deprived_of_createrole(simulator: LakebaseSimulator, target: str) -> None:
    await simulator.fault(target, "missing-right", "createrole")
    async with await log_in(simulator, target) as connection:
        with pytest.raises(errors.InsufficientPrivilege):
            await connection.execute("CREATE ROLE somebody")
        await simulator.clear_faults()
        await connection.execute("CREATE ROLE somebody")
        await connection.execute("DROP ROLE somebody")


@both_targets
async def test_the_operator_can_be_deprived_of_its_membership(
    simulator: LakebaseSimulator, target: str
) -> None:
    member = "SELECT pg_has_role(current_user, 'databricks_superuser', 'USAGE')"
    async with await log_in(simulator, target) as connection:
        assert await value(connection, member)
        await simulator.fault(target, "missing-right", "superuser")
        assert not await value(connection, member)
        await simulator.clear_faults()
        assert await value(connection, member)


@both_targets
async def test_the_operator_can_be_deprived_of_its_permission(
    simulator: LakebaseSimulator, client: WorkspaceClient, target: str
) -> None:
    async def mint() -> None:
        if target == "autoscaling":
            await call(client.postgres.generate_database_credential, ENDPOINT)
        else:
            await call(client.database.generate_database_credential, instance_names=[INSTANCE])

    await mint()
    await simulator.fault(target, "missing-right", "permission")
    with pytest.raises(PermissionDenied):
        await mint()
    await simulator.clear_faults()
    await mint()


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        ("nonsense", (), "there is no fault 'nonsense': choose one of refuse, drop"),
        ("http", (418,), "write http 401|403|"),
        ("slow", ("quick",), "write slow MILLISECONDS"),
        ("reject-logins", (), "write reject-logins COUNT"),
        ("refuse", ("please",), "write refuse"),
    ],
)
async def test_a_fault_that_is_written_wrongly_says_how(
    simulator: LakebaseSimulator, name: str, args: tuple[str | int, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        await simulator.fault("autoscaling", name, *args)
