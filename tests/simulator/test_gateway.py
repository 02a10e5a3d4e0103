"""Logging in through the gateway: who gets in, with what, and what the others read."""

import asyncio
import time
from collections.abc import AsyncIterator

import psycopg
import pytest
import pytest_asyncio
from psycopg import errors, sql

from lakebase_sandbox.postgres import Identity, IdentityKind
from lakebase_sandbox.simulator import LakebaseSimulator
from tests.simulator.support import TARGETS, log_in, value

pytestmark = pytest.mark.asyncio(loop_scope="module")

both_targets = pytest.mark.parametrize("target", TARGETS)


async def add_role(simulator: LakebaseSimulator, target: str, identity: Identity) -> None:
    """An OAuth role for an identity, which the workspace gets to know."""
    simulator.workspace.directory.add(identity)
    await simulator.targets[target].server.create_identity_role(identity)


async def drop_role(simulator: LakebaseSimulator, target: str, name: str) -> None:
    await simulator.targets[target].execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(name)))


@pytest_asyncio.fixture(loop_scope="module")
async def alice(simulator: LakebaseSimulator) -> AsyncIterator[str]:
    """A user with a role in both databases."""
    identity = Identity("alice@example.com", IdentityKind.USER, "801")
    for target in TARGETS:
        await add_role(simulator, target, identity)
    yield identity.name
    for target in TARGETS:
        await drop_role(simulator, target, identity.name)


@both_targets
async def test_the_operator_logs_in_with_a_credential(simulator: LakebaseSimulator, target: str) -> None:
    async with await log_in(simulator, target) as connection:
        assert await value(connection, "SELECT session_user::text") == simulator.client_id
        assert await value(connection, "SELECT rolcreaterole FROM pg_roles WHERE rolname = current_user")


async def test_each_target_has_the_postgres_version_it_should(simulator: LakebaseSimulator) -> None:
    for target, version in (("autoscaling", 18), ("provisioned", 16)):
        async with await log_in(simulator, target) as connection:
            assert connection.info.server_version // 10000 == version


@both_targets
async def test_a_connection_without_tls_is_refused(simulator: LakebaseSimulator, target: str) -> None:
    with pytest.raises(psycopg.OperationalError, match="Invalid protocol version: 196608"):
        await log_in(simulator, target, sslmode="disable", sslrootcert=None)


async def test_the_certificate_is_for_localhost_and_of_the_simulators_authority(
    simulator: LakebaseSimulator,
) -> None:
    async with await log_in(simulator, "autoscaling", host="127.0.0.1") as connection:
        assert connection.pgconn.ssl_in_use
    with pytest.raises(psycopg.OperationalError, match="certificate verify failed"):
        await log_in(simulator, "autoscaling", sslrootcert="system")


@both_targets
async def test_a_wrong_password_is_refused(simulator: LakebaseSimulator, target: str) -> None:
    with pytest.raises(psycopg.OperationalError, match="password authentication failed for user"):
        await log_in(simulator, target, password="wrong")


async def test_a_role_that_does_not_exist_is_named(simulator: LakebaseSimulator) -> None:
    with pytest.raises(psycopg.OperationalError, match=r'role "nobody@example\.com" does not exist'):
        await log_in(simulator, "provisioned", "nobody@example.com")


async def test_a_database_that_does_not_exist_is_named(simulator: LakebaseSimulator) -> None:
    with pytest.raises(psycopg.OperationalError, match='database "nowhere" does not exist'):
        await log_in(simulator, "provisioned", dbname="nowhere")


async def test_a_credential_of_somebody_else_is_refused(simulator: LakebaseSimulator, alice: str) -> None:
    of_the_operator = simulator.login("provisioned", simulator.client_id).token
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        await log_in(simulator, "provisioned", alice, of_the_operator)


async def test_a_credential_for_another_target_is_refused(simulator: LakebaseSimulator, alice: str) -> None:
    elsewhere = simulator.login("autoscaling", alice).token
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        await log_in(simulator, "provisioned", alice, elsewhere)


async def test_an_access_token_of_the_workspace_is_no_credential(simulator: LakebaseSimulator) -> None:
    token = simulator.workspace.issuer.access_token(simulator.workspace.operator.identity, 60).token
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        await log_in(simulator, "provisioned", password=token)


async def test_a_role_without_a_security_label_has_no_oauth_login(simulator: LakebaseSimulator) -> None:
    await simulator.targets["provisioned"].execute('CREATE ROLE "bob@example.com" LOGIN')
    try:
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            await log_in(simulator, "provisioned", "bob@example.com")
    finally:
        await drop_role(simulator, "provisioned", "bob@example.com")


@both_targets
async def test_a_nologin_role_is_not_permitted_to_log_in(
    simulator: LakebaseSimulator, alice: str, target: str
) -> None:
    await simulator.targets[target].execute(f'ALTER ROLE "{alice}" NOLOGIN')
    with pytest.raises(psycopg.OperationalError, match="is not permitted to log in"):
        await log_in(simulator, target, alice)


async def test_expiry_is_looked_at_only_at_login(simulator: LakebaseSimulator, alice: str) -> None:
    entry = simulator.workspace.directory.find(IdentityKind.USER, alice)
    assert entry is not None
    target = simulator.targets["provisioned"]
    credential = simulator.workspace.issuer.database_credential(entry.identity, [target.resource], 3.0)
    async with await log_in(simulator, "provisioned", alice, credential.token) as connection:
        await asyncio.sleep(credential.expires_at - time.time())
        assert await value(connection, "SELECT 1") == 1
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            await log_in(simulator, "provisioned", alice, credential.token)


async def test_a_member_of_a_group_logs_in_as_the_group(simulator: LakebaseSimulator, alice: str) -> None:
    group = simulator.add_identity("group", "data team", members=[alice])
    await simulator.targets["provisioned"].server.create_identity_role(group.identity)
    try:
        own_token = simulator.login("provisioned", alice).token
        async with await log_in(simulator, "provisioned", "data team", own_token) as connection:
            assert await value(connection, "SELECT session_user::text") == "data team"
        async with await log_in(simulator, "provisioned", "data team"):
            pass
        simulator.workspace.directory.set_members(group, frozenset())
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            await log_in(simulator, "provisioned", "data team", own_token)
    finally:
        await drop_role(simulator, "provisioned", "data team")


@both_targets
async def test_native_passwords_work_only_where_they_are_switched_on(
    simulator: LakebaseSimulator, target: str
) -> None:
    running = simulator.targets[target]
    await running.execute("CREATE ROLE application LOGIN PASSWORD 'correct horse'")
    try:
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            await log_in(simulator, target, "application", "correct horse")
        running.enable_pg_native_login = True
        async with await log_in(simulator, target, "application", "correct horse") as connection:
            assert await value(connection, "SELECT session_user::text") == "application"
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            await log_in(simulator, target, "application", "wrong horse")
        assert simulator.stats()["targets"][target]["logins"]["application"] == {"native": 1}
    finally:
        running.enable_pg_native_login = False
        await drop_role(simulator, target, "application")


async def test_a_running_statement_can_be_cancelled(simulator: LakebaseSimulator) -> None:
    async with await log_in(simulator, "autoscaling") as connection:
        sleeping = asyncio.create_task(connection.execute("SELECT pg_sleep(30)"))
        await asyncio.sleep(0.1)
        await connection.cancel_safe()
        with pytest.raises(errors.QueryCanceled):
            await sleeping
        assert await value(connection, "SELECT 1") == 1


async def test_large_results_and_copies_pass_through_unharmed(simulator: LakebaseSimulator) -> None:
    async with await log_in(simulator, "autoscaling") as connection:
        length = 20_000_000
        assert len(await value(connection, "SELECT repeat('x', %s)", length)) == length
        await connection.execute("CREATE TEMP TABLE copied (id int, word text)")
        async with connection.cursor().copy("COPY copied FROM STDIN") as copy:
            for number in range(100_000):
                await copy.write_row((number, "word"))
        assert await value(connection, "SELECT sum(id)::bigint FROM copied") == sum(range(100_000))


async def test_many_sessions_are_served_at_the_same_time(simulator: LakebaseSimulator) -> None:
    async def one() -> int:
        async with await log_in(simulator, "provisioned") as connection:
            return int(await value(connection, "SELECT count(*) FROM pg_class"))

    assert len(set(await asyncio.gather(*(one() for _ in range(100))))) == 1


async def test_logins_are_counted_by_user_and_method(simulator: LakebaseSimulator, alice: str) -> None:
    before = simulator.stats()["targets"]["autoscaling"]["logins"].get(alice, {}).get("oauth", 0)
    for _ in range(2):
        async with await log_in(simulator, "autoscaling", alice):
            pass
    assert simulator.stats()["targets"]["autoscaling"]["logins"][alice] == {"oauth": before + 2}


@both_targets
async def test_a_project_takes_no_verifier_for_a_password_and_an_instance_does(
    simulator: LakebaseSimulator, target: str
) -> None:
    async with await log_in(simulator, target) as connection:
        verifier = connection.pgconn.encrypt_password(b"a-Password-1", b"shop", b"scram-sha-256").decode()
        await connection.execute("CREATE ROLE shop LOGIN")
        by_verifier = sql.SQL("ALTER ROLE shop PASSWORD {}").format(verifier)
        try:
            for prepare in (True, False):
                if target == "provisioned":
                    await connection.execute(by_verifier, prepare=prepare)
                    continue
                with pytest.raises(
                    errors.InternalError_, match="only supports being given plaintext passwords"
                ):
                    await connection.execute(by_verifier, prepare=prepare)
            rows = await simulator.targets[target].execute(
                "SELECT rolpassword IS NULL FROM pg_authid WHERE rolname = 'shop'"
            )
            assert rows == [(target == "autoscaling",)]
            await connection.execute("ALTER ROLE shop PASSWORD 'a-Password-1'")
        finally:
            await connection.execute("DROP ROLE shop")


async def test_large_messages_pass_where_each_is_looked_at(simulator: LakebaseSimulator) -> None:
    async with await log_in(simulator, "autoscaling") as connection:
        text = "x" * (3 << 20)
        assert await value(connection, sql.SQL("SELECT length({})").format(text)) == len(text)
