"""Real PostgreSQL 16 and 18, started once for the whole run; each test has a database of its own."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from lakebase_sandbox.postgres import OPERATOR, Identity, IdentityKind, PostgresServer
from tests.postgres.world import World, new_world

VERSIONS = (16, 18)

PERSON = Identity("person@example.com", IdentityKind.USER, "9001")
APPLICATION = Identity("5d1f7a3c-0a1e-4a53-9f0a-0f5b8d3f2c11", IdentityKind.SERVICE_PRINCIPAL, "9002")
TEAM = Identity("data team", IdentityKind.GROUP, "9003")
IDENTITIES = (PERSON, APPLICATION, TEAM)


@pytest.fixture(scope="session", params=VERSIONS)
def version(request: pytest.FixtureRequest) -> int:
    """Major version of PostgreSQL."""
    return int(request.param)


class Servers:
    """Servers by what they are like, each started when it is first asked for."""

    def __init__(self) -> None:
        self._running: dict[tuple[int, str], PostgresServer] = {}

    async def get(self, version: int, kind: str) -> PostgresServer:
        """``lakebase``, ``strict`` (databricks_superuser may grant nothing on others' objects) or ``plain``."""
        if (version, kind) not in self._running:
            server = PostgresServer(
                version,
                prepare=kind != "plain",
                superuser_grants=kind != "strict",
                identities=IDENTITIES,
                settings={"max_connections": "100", "log_statement": "all"},
            )
            await server.start()
            self._running[version, kind] = server
            if kind == "plain":
                async with await server.connect() as connection:
                    await connection.execute("CREATE ROLE operator LOGIN CREATEROLE")
        return self._running[version, kind]

    async def stop(self) -> None:
        for server in self._running.values():
            await server.stop()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def servers() -> AsyncIterator[Servers]:
    """All servers of this run."""
    running = Servers()
    yield running
    await running.stop()


@pytest_asyncio.fixture
async def world(servers: Servers, version: int) -> AsyncIterator[World]:
    """A database like Lakebase's; the operator is a member of databricks_superuser with CREATEROLE, and no more."""
    server = await servers.get(version, "lakebase")
    async with new_world(server, prepared=True, operator=OPERATOR.name) as fresh:
        yield fresh


@pytest_asyncio.fixture
async def strict_world(servers: Servers, version: int) -> AsyncIterator[World]:
    """Like ``world``, but databricks_superuser has no grant option on what others own."""
    server = await servers.get(version, "strict")
    async with new_world(server, prepared=True, operator=OPERATOR.name) as fresh:
        yield fresh


@pytest_asyncio.fixture
async def plain_world(servers: Servers, version: int) -> AsyncIterator[World]:
    """A plain PostgreSQL; the operator is a login role with CREATEROLE that owns nothing."""
    server = await servers.get(version, "plain")
    async with new_world(server, prepared=False, operator="operator") as fresh:
        yield fresh


@pytest_asyncio.fixture
async def superuser_world(servers: Servers, version: int) -> AsyncIterator[World]:
    """A plain PostgreSQL; the operator is its superuser."""
    server = await servers.get(version, "plain")
    async with new_world(server, prepared=False, operator=server.superuser) as fresh:
        yield fresh


@pytest_asyncio.fixture(params=["lakebase", "plain"])
async def any_world(servers: Servers, version: int, request: pytest.FixtureRequest) -> AsyncIterator[World]:
    """Both kinds of server."""
    prepared = request.param == "lakebase"
    server = await servers.get(version, request.param)
    operator = OPERATOR.name if prepared else "operator"
    async with new_world(server, prepared=prepared, operator=operator) as fresh:
        yield fresh
