"""What goes wrong on the way to a server and in it, as it is told: from real servers wherever one can be made to say it."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import jwt
import psycopg
import pytest
import pytest_asyncio
import trustme

from lakebase_operator.api.lakebase_connection import TLSMode
from lakebase_operator.api.reasons import Reason
from lakebase_operator.domain.errors import InvalidError, LakebaseError, NotReadyError, TransientError
from lakebase_operator.domain.instance import Credential, Instance, InstanceState
from lakebase_operator.external.postgres.errors import (
    connect_error,
    is_authentication_failure,
    is_concurrent_update,
    query_error,
)
from lakebase_operator.external.postgres.session import Server, Timeouts, connect
from lakebase_operator.reconcilers.access import Access, Login, PasswordLogin
from lakebase_sandbox.gateway import Admission, Backend, Gateway, Refusal
from lakebase_sandbox.postgres import PostgresServer
from tests.postgres.conftest import Servers
from tests.postgres.world import World

SECRET = "a-password-nobody-may-see"
OUTCOME = tuple[type[LakebaseError], Reason]


@dataclass(slots=True)
class Doorman:
    """Lets everybody through to the server, which asks for the password; or turns everybody down."""

    refusal: Refusal | None = None

    async def admit(self, user: str, password: str) -> Admission:
        if self.refusal is not None:
            raise self.refusal
        return Admission(user, password)

    def session_started(self, pid: int, admission: Admission) -> None: ...

    def session_ended(self, pid: int) -> None: ...


@dataclass(slots=True)
class Door:
    """TLS in front of a server."""

    gateway: Gateway
    authority: Path
    doorman: Doorman
    server: PostgresServer
    tls: TLSMode = TLSMode.VERIFY_FULL
    timeouts: Timeouts = field(default_factory=lambda: Timeouts(connect=10))

    def address(self, host: str = "localhost", ca_file: str | None = "") -> Server:
        trusted = str(self.authority) if ca_file == "" else ca_file
        return Server(host, self.gateway.port, self.tls, trusted, self.timeouts)


@pytest_asyncio.fixture
async def door(servers: Servers, version: int, tmp_path: Path) -> AsyncIterator[Door]:
    """A way in with TLS and passwords, as Lakebase's native login."""
    server = await servers.get(version, "plain")
    authority, certificate = trustme.CA(), None
    certificate = authority.issue_cert("localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    doorman = Doorman()
    gateway = Gateway(tls=context, backend=Backend(server.socket_directory, server.port), doorman=doorman)
    gateway.open()
    yield Door(gateway, tmp_path / "ca.pem", doorman, server)
    await gateway.shut_down()


def native(user: str, password: str = SECRET) -> Credential:
    return Credential(user, password, None)


def oauth(user: str, password: str = SECRET) -> Credential:
    return Credential(user, password, time.time() + 3600)


async def failing(server: Server, credential: Credential, database: str) -> LakebaseError:
    """The error of an attempt that must fail, which never gives the password away."""
    with pytest.raises(LakebaseError) as caught:
        await connect(server, credential, database)
    assert SECRET not in str(caught.value)
    assert SECRET not in caught.value.message
    return caught.value


def socket_of(world: World) -> Server:
    """The server's Unix socket, which asks for no password."""
    return Server(
        str(world.server.socket_directory), world.server.port, TLSMode.REQUIRE, None, Timeouts(connect=10)
    )


# -- on the way -----------------------------------------------------------------------------------------------------


async def test_with_the_right_password_and_certificate_the_session_opens(door: Door) -> None:
    connection = await connect(door.address(), native("postgres", door.server.password), "postgres")
    async with connection:
        assert connection.pgconn.ssl_in_use


async def test_a_wrong_password_is_told_as_such_and_a_refused_token_as_expired(door: Door) -> None:
    error = await failing(door.address(), native("postgres"), "postgres")
    assert (type(error), error.reason) == (InvalidError, Reason.PASSWORD_REJECTED)
    assert 'the password of "postgres"' in error.message
    assert "Check the Secret" in error.message
    error = await failing(door.address(), oauth("postgres"), "postgres")
    assert (type(error), error.reason) == (InvalidError, Reason.TOKEN_EXPIRED)
    assert is_authentication_failure(cause(error))


@pytest.mark.requirement("R-166")
@pytest.mark.parametrize("login", [native, oauth])
async def test_an_address_that_is_not_on_the_access_list_is_told_apart_from_a_bad_credential(
    door: Door, login: Callable[[str], Credential]
) -> None:
    refused = "External authorization failed. Source IP address: 203.0.113.7 is blocked by Databricks IP ACL for workspace: 42"
    door.doorman.refusal = Refusal(refused, "28000")
    error = await failing(door.address(), login("postgres"), "postgres")
    assert (type(error), error.reason) == (InvalidError, Reason.ADDRESS_BLOCKED)
    assert "203.0.113.7" in error.message
    assert "IP access list" in error.message
    assert not is_authentication_failure(cause(error)), "another credential would not help"
    door.doorman.refusal = Refusal("External authorization failed", "28000")
    error = await failing(door.address(), login("postgres"), "postgres")
    assert error.reason in {Reason.PASSWORD_REJECTED, Reason.TOKEN_EXPIRED}


def cause(error: LakebaseError) -> psycopg.Error:
    assert isinstance(error.__cause__, psycopg.Error)
    return error.__cause__


OWN = "https://acme.cloud.databricks.com"


@dataclass(slots=True)
class TokenLogin:
    """Logs in with tokens of a workspace."""

    issuer: str
    fresh: list[bool] = field(default_factory=list)
    workspace_url: str | None = OWN

    async def credential(self, *, fresh: bool = False) -> Credential:
        self.fresh.append(fresh)
        claims = {"iss": f"{self.issuer}/oidc", "exp": int(time.time()) + 3600}
        return oauth("app", jwt.encode(claims, "k" * 32, algorithm="HS256"))


@pytest.mark.requirement("R-214")
@pytest.mark.parametrize(
    ("issuer", "reason"),
    [("https://other.cloud.databricks.com", Reason.WORKSPACE_MISMATCH), (OWN, Reason.TOKEN_EXPIRED)],
)
async def test_a_token_of_another_workspace_is_told_from_one_that_has_expired(
    door: Door, issuer: str, reason: Reason
) -> None:
    door.doorman.refusal = Refusal("password authentication failed for user 'app'", "28P01")
    login = TokenLogin(issuer)
    access = Access(cast(Login, login), door.address(), Instance(InstanceState.AVAILABLE, "localhost"))
    with pytest.raises(InvalidError) as caught:
        await access.open("postgres")
    assert caught.value.reason is reason
    assert login.fresh == [False, True], "a fresh one was tried"


@pytest.mark.requirement("R-214")
async def test_a_token_in_the_place_of_a_password_is_told_as_what_it_is(door: Door) -> None:
    door.doorman.refusal = Refusal("password authentication failed for user 'app'", "28P01")
    for issuer, ends, reason in (
        ("https://other.cloud.databricks.com/oidc", 3600, Reason.WORKSPACE_MISMATCH),
        (f"{OWN}/oidc", -60, Reason.TOKEN_EXPIRED),
    ):
        token = jwt.encode({"iss": issuer, "exp": int(time.time()) + ends}, "k" * 32, algorithm="HS256")
        login = PasswordLogin("app", token, "localhost", OWN)
        access = Access(login, door.address(), Instance(InstanceState.AVAILABLE, "localhost"))
        with pytest.raises(InvalidError) as caught:
            await access.open("postgres")
        assert caught.value.reason is reason
        assert token not in caught.value.message


@pytest.mark.requirement("R-166")
async def test_an_address_that_is_not_let_in_is_told_from_a_bad_credential(door: Door) -> None:
    door.doorman.refusal = Refusal("This IP address 203.0.113.7 is not allowed to connect to this endpoint.")
    error = await failing(door.address(), native("app"), "postgres")
    assert (type(error), error.reason) == (InvalidError, Reason.ADDRESS_BLOCKED)
    assert "203.0.113.7" in error.message


async def test_a_role_that_does_not_exist_is_told_with_the_statement_that_makes_it(
    plain_world: World,
) -> None:
    nobody = plain_world.name("nobody")
    error = await failing(socket_of(plain_world), native(nobody), plain_world.database)
    assert (type(error), error.reason) == (InvalidError, Reason.OPERATOR_ROLE_MISSING)
    assert f'CREATE ROLE "{nobody}" LOGIN' in error.message
    error = await failing(socket_of(plain_world), oauth(nobody), plain_world.database)
    assert f"databricks_create_role('{nobody}', 'SERVICE_PRINCIPAL')" in error.message


async def test_a_role_that_may_not_log_in_is_told_with_the_statement_that_lets_it(plain_world: World) -> None:
    role = await plain_world.role("role", "NOLOGIN")
    error = await failing(socket_of(plain_world), native(role), plain_world.database)
    assert (type(error), error.reason) == (InvalidError, Reason.OPERATOR_ROLE_NOT_LOGIN)
    assert f'ALTER ROLE "{role}" LOGIN' in error.message


async def test_a_database_that_does_not_exist_is_named(plain_world: World) -> None:
    error = await failing(socket_of(plain_world), native("postgres"), "nowhere")
    assert (type(error), error.reason) == (InvalidError, Reason.DATABASE_NOT_FOUND)
    assert '"nowhere"' in error.message


async def test_a_database_that_the_operator_may_not_connect_to_is_a_lack_of_rights(
    plain_world: World,
) -> None:
    role = await plain_world.role("role")
    await plain_world.run("REVOKE CONNECT ON DATABASE {d} FROM PUBLIC", d=plain_world.database)
    error = await failing(socket_of(plain_world), native(role), plain_world.database)
    assert (type(error), error.reason) == (InvalidError, Reason.PERMISSION_DENIED)
    assert plain_world.database in error.message


async def test_a_database_that_takes_no_connections_is_a_lack_of_rights(plain_world: World) -> None:
    database = await plain_world.another_database()
    await plain_world.run("ALTER DATABASE {d} ALLOW_CONNECTIONS false", d=database)
    error = await failing(socket_of(plain_world), native("postgres"), database)
    assert (type(error), error.reason) == (InvalidError, Reason.PERMISSION_DENIED)


@pytest.mark.parametrize("limited", ["ROLE", "DATABASE"])
async def test_no_connection_left_passes_by_itself(plain_world: World, limited: str) -> None:
    role = await plain_world.role("role")
    name = role if limited == "ROLE" else plain_world.database
    await plain_world.run(f"ALTER {limited} {{n}} CONNECTION LIMIT 0", n=name)
    error = await failing(socket_of(plain_world), native(role), plain_world.database)
    assert (type(error), error.reason) == (TransientError, Reason.TOO_MANY_CONNECTIONS)


async def test_a_server_without_tls_is_told_as_such(servers: Servers, version: int) -> None:
    plain = await servers.get(version, "plain")
    for mode in TLSMode:
        server = Server("127.0.0.1", plain.port, mode, None, Timeouts(connect=10))
        error = await failing(server, native("postgres"), "postgres")
        assert (type(error), error.reason) == (InvalidError, Reason.TLS_FAILED)
        assert "spec.tls" in error.message


async def test_a_certificate_of_an_unknown_authority_or_for_another_host_is_refused(
    door: Door, tmp_path: Path
) -> None:
    stranger = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(stranger))
    login = native("postgres", door.server.password)
    for server in (
        door.address(ca_file=str(stranger)),
        door.address(ca_file=None),
        door.address(ca_file=str(tmp_path / "missing.pem")),
        door.address("127.0.0.1"),  # the certificate is for localhost
    ):
        error = await failing(server, login, "postgres")
        assert (type(error), error.reason) == (InvalidError, Reason.TLS_FAILED), error


async def test_verify_ca_takes_another_host_name_and_require_any_certificate(door: Door) -> None:
    login = native("postgres", door.server.password)
    door.tls = TLSMode.VERIFY_CA
    await (await connect(door.address("127.0.0.1"), login, "postgres")).close()
    door.tls = TLSMode.REQUIRE
    await (await connect(door.address("127.0.0.1", ca_file=None), login, "postgres")).close()


async def test_a_refused_port_passes_by_itself(door: Door) -> None:
    await door.gateway.close()
    error = await failing(door.address(), native("postgres"), "postgres")
    assert (type(error), error.reason) == (TransientError, Reason.UNREACHABLE)
    assert f"localhost:{door.gateway.port}" in error.message
    assert "refused" in error.message


async def test_a_host_that_does_not_resolve_is_unreachable(version: int) -> None:
    server = Server("nowhere.invalid", 5432, TLSMode.REQUIRE, None, Timeouts(connect=20))
    error = await failing(server, native("postgres"), "postgres")
    assert (type(error), error.reason) == (TransientError, Reason.UNREACHABLE)
    assert "nowhere.invalid:5432" in error.message


@asynccontextmanager
async def listener(answer: bytes | None) -> AsyncIterator[int]:
    """Something that listens and is no server: it closes after the answer, or, without one, never says anything."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            await reader.read(8)
            if answer is None:
                await reader.read()
            else:
                writer.write(answer)
                await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


async def test_a_server_that_never_answers_is_given_up_in_time(version: int) -> None:
    async with listener(None) as port:
        began = time.monotonic()
        server = Server("127.0.0.1", port, TLSMode.REQUIRE, None, Timeouts(connect=1))
        error = await failing(server, native("postgres"), "postgres")
    assert (type(error), error.reason) == (TransientError, Reason.UNREACHABLE)
    assert "did not answer in time" in error.message
    assert time.monotonic() - began < 5


async def test_a_connection_that_is_broken_off_during_the_handshake_passes_by_itself(version: int) -> None:
    for answer in (b"", b"S"):
        async with listener(answer) as port:
            server = Server("127.0.0.1", port, TLSMode.REQUIRE, None, Timeouts(connect=10))
            error = await failing(server, native("postgres"), "postgres")
        assert (type(error), error.reason) == (TransientError, Reason.UNREACHABLE), error


@pytest.mark.parametrize(
    ("refusal", "kind", "reason"),
    [
        (Refusal("External authorization failed. Token expired"), InvalidError, Reason.PASSWORD_REJECTED),
        (Refusal("Failed to acquire permit to connect to the database."), TransientError, Reason.TOO_MANY_CONNECTIONS),
        (Refusal("sorry, too many clients already", "53300"), TransientError, Reason.TOO_MANY_CONNECTIONS),
        (
            Refusal("remaining connection slots are reserved for roles with the SUPERUSER attribute", "53300"),
            TransientError,
            Reason.TOO_MANY_CONNECTIONS,
        ),
        (Refusal("The endpoint has been disabled. Enable it using the API and retry."), NotReadyError, Reason.ENDPOINT_DISABLED),
        (Refusal("the database system is starting up", "57P03"), NotReadyError, Reason.RESUMING),
        (Refusal("the database system is shutting down", "57P03"), NotReadyError, Reason.RESUMING),
        (Refusal("the database system is not yet accepting connections", "57P03"), NotReadyError, Reason.RESUMING),
        (Refusal("the database system is in recovery mode", "57P03"), NotReadyError, Reason.RESUMING),
        (Refusal('no pg_hba.conf entry for host "10.0.0.1", user "postgres"', "28000"), InvalidError, Reason.PERMISSION_DENIED),
        (Refusal('pg_hba.conf rejects connection for host "10.0.0.1"', "28000"), InvalidError, Reason.PERMISSION_DENIED),
        (Refusal("something new"), TransientError, Reason.UNREACHABLE),
    ],
    ids=lambda value: value.message if isinstance(value, Refusal) else "",
)  # fmt: skip
async def test_what_a_proxy_or_a_server_says_while_it_turns_a_login_down(
    door: Door, refusal: Refusal, kind: type[LakebaseError], reason: Reason
) -> None:
    door.doorman.refusal = refusal
    error = await failing(door.address(), native("postgres"), "postgres")
    assert (type(error), error.reason) == (kind, reason), error


def test_an_error_that_is_not_the_drivers_names_its_type_only() -> None:
    error = connect_error(
        OSError(f"no route {SECRET}"), host="db", port=5432, database="d", user="u", oauth=False
    )
    assert (type(error), error.reason) == (TransientError, Reason.UNREACHABLE)
    assert SECRET not in error.message


def test_what_a_host_is_called_does_not_decide_what_its_error_means() -> None:
    refused = psycopg.OperationalError(
        'connection failed: connection to server at "certificates.example.com" (10.0.0.1), port 5432 failed:'
        " Connection refused\n\tIs the server running on that host and accepting TCP/IP connections?"
    )
    error = connect_error(
        refused, host="certificates.example.com", port=5432, database="d", user="u", oauth=False
    )
    assert (type(error), error.reason) == (TransientError, Reason.UNREACHABLE)
    assert error.message.startswith("certificates.example.com:5432 cannot be reached: Connection refused")


# -- at work --------------------------------------------------------------------------------------------------------

QUERIES: dict[str, OUTCOME] = {
    "42501": (InvalidError, Reason.PERMISSION_DENIED),
    "25006": (InvalidError, Reason.READ_ONLY_ENDPOINT),
    "08006": (TransientError, Reason.CONNECTION_LOST),
    "57P01": (TransientError, Reason.CONNECTION_LOST),
    "57P03": (TransientError, Reason.CONNECTION_LOST),
    "40001": (TransientError, Reason.ROLE_IN_USE),
    "40P01": (TransientError, Reason.ROLE_IN_USE),
    "55P03": (TransientError, Reason.ROLE_IN_USE),
    "23505": (TransientError, Reason.ROLE_IN_USE),
    "57014": (TransientError, Reason.INTERNAL_ERROR),
    "42601": (TransientError, Reason.INTERNAL_ERROR),
    "XX000": (TransientError, Reason.INTERNAL_ERROR),
}


async def raised(world: World, statement: str) -> psycopg.Error:
    """The error of a statement of the operator that must fail."""
    async with world.session() as session:
        with pytest.raises(psycopg.Error) as caught:
            await session.execute(statement.encode())
    return caught.value


@pytest.mark.parametrize("state", QUERIES)
async def test_each_class_of_error_at_work_has_its_meaning(plain_world: World, state: str) -> None:
    error = await raised(
        plain_world, f"DO $$ BEGIN RAISE EXCEPTION 'oh dear' USING ERRCODE = '{state}'; END $$"
    )
    told = query_error(error, doing="trying things")
    assert (type(told), told.reason) == QUERIES[state]
    assert told.message.startswith(f"Trying things failed: oh dear (SQLSTATE {state}).")
    assert "\n" not in told.message


@pytest.mark.requirement("R-176")
@pytest.mark.parametrize(
    ("text", "state", "concurrent"),
    [
        ("tuple concurrently updated", "XX000", True),
        ("tuple concurrently deleted", "XX000", True),
        ("could not find tuple for role 16384", "XX000", True),
        ("cache lookup failed", "XX000", False),
        ("deadlock detected", "40P01", True),
        ("could not serialize access", "40001", True),
        ("duplicate key value", "23505", True),
        ("canceling statement due to lock timeout", "55P03", True),
        ("tuple concurrently updated", "42501", False),
    ],
)
async def test_what_somebody_else_did_at_the_same_time_is_tried_again(
    plain_world: World, text: str, state: str, concurrent: bool
) -> None:
    error = await raised(
        plain_world, f"DO $$ BEGIN RAISE EXCEPTION '{text}' USING ERRCODE = '{state}'; END $$"
    )
    assert is_concurrent_update(error) is concurrent
    told = query_error(error, doing="x")
    assert (told.reason is Reason.ROLE_IN_USE) is concurrent


async def test_real_statements_that_the_server_refuses(plain_world: World) -> None:
    refused = query_error(await raised(plain_world, "CREATE ROLE x SUPERUSER"), doing="creating role x")
    assert (type(refused), refused.reason) == (InvalidError, Reason.PERMISSION_DENIED)
    read_only = await raised(plain_world, "SET transaction_read_only = on; CREATE SCHEMA s")
    told = query_error(read_only, doing="creating the ledger")
    assert (type(told), told.reason) == (InvalidError, Reason.READ_ONLY_ENDPOINT)
    assert "read-write endpoint" in told.message


async def test_a_session_that_an_administrator_ends_is_a_lost_connection(plain_world: World) -> None:
    async with plain_world.session() as session:
        await plain_world.admin.execute("SELECT pg_terminate_backend(%s, 10000)", [session.info.backend_pid])
        with pytest.raises(psycopg.Error) as caught:
            await session.execute("SELECT 1")
        told = query_error(caught.value, doing="reading")
        assert (type(told), told.reason) == (TransientError, Reason.CONNECTION_LOST)
        # And on the connection that is known to be gone by now.
        with pytest.raises(psycopg.Error) as again:
            await session.execute("SELECT 1")
        told = query_error(again.value, doing="reading")
        assert (type(told), told.reason) == (TransientError, Reason.CONNECTION_LOST)
