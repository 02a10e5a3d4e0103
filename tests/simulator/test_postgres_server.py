"""Starting and stopping real PostgreSQL servers."""

import asyncio
import os
import stat
import subprocess
import sys
from pathlib import Path

import psutil
import psycopg
import pytest

from lakebase_sandbox.postgres import PostgresError, PostgresServer
from tests.simulator.support import value


@pytest.mark.parametrize("version", [16, 18])
async def test_a_plain_server_is_just_postgres(version: int) -> None:
    async with PostgresServer(version, prepare=False) as server:
        async with await server.connect() as connection:
            assert connection.info.server_version // 10000 == version
            assert await value(connection, "SELECT current_user::text") == "postgres"
            roles = "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'databricks%%'"
            assert await value(connection, roles) == 0
            assert await value(connection, "SHOW max_connections") == "200"
            assert await value(connection, "SELECT datcollate FROM pg_database LIMIT 1") == "C.UTF-8"
        assert server.running
    assert not server.running
    assert not server.data_directory.exists()


async def test_users_come_in_by_socket_or_prove_their_password_over_tcp() -> None:
    async with PostgresServer(16, prepare=False) as server:
        async with await server.connect() as admin:
            await admin.execute("CREATE ROLE alice LOGIN PASSWORD 'secret'")
        async with await server.connect(user="alice") as connection:
            assert await value(connection, "SELECT system_user") is None
        async with await server.connect(user="alice", password="secret") as connection:
            assert await value(connection, "SELECT system_user") == "scram-sha-256:alice"
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            await server.connect(user="alice", password="wrong")


async def test_only_the_servers_own_account_reaches_the_socket_and_the_data() -> None:
    async with PostgresServer(16, prepare=False) as server:
        for directory in (server.socket_directory, server.data_directory):
            assert stat.S_IMODE(directory.stat().st_mode) == 0o700


async def test_settings_can_be_chosen() -> None:
    server = PostgresServer(18, prepare=False, settings={"work_mem": "9MB"})
    async with server, await server.connect() as connection:
        assert await value(connection, "SHOW work_mem") == "9MB"


async def test_a_server_that_cannot_start_says_why_and_leaves_nothing() -> None:
    server = PostgresServer(16, prepare=False, settings={"shared_buffers": "nonsense"})
    with pytest.raises(PostgresError, match="shared_buffers"):
        await server.start()
    assert not server.running
    assert not server.data_directory.exists()


async def test_an_unknown_version_is_refused() -> None:
    with pytest.raises(ValueError, match="PostgreSQL 15 is not available: the sandbox has 16 and 18"):
        await PostgresServer(15).start()


async def test_servers_start_side_by_side() -> None:
    servers = [PostgresServer(version, prepare=False) for version in (16, 18, 16)]
    await asyncio.gather(*(server.start() for server in servers))
    try:
        assert len({server.port for server in servers}) == 3
    finally:
        await asyncio.gather(*(server.stop() for server in servers))


async def test_a_directory_that_the_server_cannot_reach_is_replaced(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    long = tmp_path / ("long" * 30)
    for wanted in (closed / "server", long):
        server = PostgresServer(16, prepare=False, directory=wanted)
        async with server, await server.connect() as connection:
            assert await value(connection, "SELECT 1") == 1
        assert server.data_directory.exists()


async def test_a_server_that_a_killed_predecessor_left_is_stopped(tmp_path: Path) -> None:
    directory = tmp_path / "server"
    script = (
        "import asyncio, os, signal, sys\n"
        "from pathlib import Path\n"
        "from lakebase_sandbox.postgres import PostgresServer\n"
        "async def main():\n"
        "    server = PostgresServer(16, prepare=False, directory=Path(sys.argv[1]))\n"
        "    await server.start()\n"
        "    print(server.data_directory, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "asyncio.run(main())\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    run = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", script, str(directory)],
        stdout=subprocess.PIPE,
        env=environment,
    )
    pid_file = Path(run.stdout.decode().strip()) / "postmaster.pid"
    left = psutil.Process(int(pid_file.read_text().splitlines()[0]))
    assert left.is_running()
    async with PostgresServer(16, prepare=False, directory=directory) as server:
        assert not left.is_running()
        assert int(pid_file.read_text().splitlines()[0]) != left.pid
        assert server.running
