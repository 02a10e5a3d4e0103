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

from lakebase_sandbox.postgres import PostgresError, PostgresServer, directories
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


async def test_only_the_log_stays_and_the_directory_may_be_anything(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    long = tmp_path / ("long" * 30)
    for directory in (closed / "server", long):
        server = PostgresServer(16, prepare=False, log_directory=directory)
        async with server, await server.connect() as connection:
            assert await value(connection, "SELECT 1") == 1
        assert "database system is ready" in (directory / "postgres.log").read_text()
        assert not server.data_directory.exists()


def postmaster_of(data_directory: Path) -> psutil.Process:
    return psutil.Process(int((data_directory / "postmaster.pid").read_text().splitlines()[0]))


def is_over(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


async def test_a_server_whose_starter_was_killed_is_stopped_by_the_next(tmp_path: Path) -> None:
    script = (
        "import asyncio, os, signal\n"
        "from lakebase_sandbox.postgres import PostgresServer\n"
        "async def main():\n"
        "    server = PostgresServer(16, prepare=False)\n"
        "    await server.start()\n"
        "    print(server.data_directory, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "asyncio.run(main())\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    async with PostgresServer(16, prepare=False) as alive:
        command = [sys.executable, "-c", script]
        run = await asyncio.to_thread(subprocess.run, command, stdout=subprocess.PIPE, env=environment)
        abandoned = Path(run.stdout.decode().strip())
        left = postmaster_of(abandoned)
        assert left.is_running()
        async with PostgresServer(16, prepare=False) as next_one:
            assert is_over(left)
            assert abandoned.parent not in set(next_one.data_directory.parents[1].iterdir())
        assert alive.running


def test_a_directory_that_goes_while_abandoned_ones_are_looked_for_is_in_nobodys_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directories, "_scratch_roots", lambda: [tmp_path])
    abandoned = tmp_path / "server-abandoned"
    abandoned.mkdir()
    alive = directories.ServerDirectory()
    assert not abandoned.exists()
    (tmp_path / "server-gone").symlink_to(tmp_path / "was removed after it was listed")
    another = directories.ServerDirectory()
    assert alive.path.is_dir()
    assert another.path.is_dir()
    for one in (alive, another):
        one.remove()
        assert not one.path.exists()
