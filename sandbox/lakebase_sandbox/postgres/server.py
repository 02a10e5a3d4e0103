"""A real PostgreSQL server for tests and for the sandbox."""

import asyncio
import atexit
import secrets
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlencode

import psycopg
from psycopg import sql

from lakebase_sandbox.postgres import lakebase
from lakebase_sandbox.postgres.cluster import copy_cluster, new_cluster, server_environment
from lakebase_sandbox.postgres.directories import ServerDirectory, give_to_server, server_account
from lakebase_sandbox.postgres.identities import OPERATOR, PROJECT_OWNER, Identity, identities_json
from lakebase_sandbox.postgres.installation import private_installation

START_TIMEOUT_SECONDS = 30.0
STOP_TIMEOUT_SECONDS = 10.0
PORT_ATTEMPTS = 3

# Nothing here outlives the sandbox, so nothing is made durable.
DEFAULT_SETTINGS: Mapping[str, str] = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_buffers": "64MB",
    "max_connections": "200",
    "password_encryption": "scram-sha-256",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %q%u@%d ",
}

# The socket is reachable by the server's own account only; the gateway checks credentials before it connects there.
_HOST_BASED_AUTHENTICATION = """\
local all         all trust
local replication {superuser} trust
host  all         all 127.0.0.1/32 scram-sha-256
"""


class PostgresError(RuntimeError):
    """A server could not be set up, started or stopped; the text carries the end of its log."""


class PostgresServer:
    """One PostgreSQL server with a cluster of its own, usable as `async with PostgresServer(version=16) as server:`.

    Parameters:
        version: 16 or 18.
        prepare: set up like a Lakebase compute (roles, rights, event triggers, `databricks_auth`, the database
            `databricks_postgres`). False gives a plain server with the superuser `postgres`.
        superuser_grants: whether `databricks_superuser` holds grant option on whatever is made, as Databricks'
            documentation says; False is what the published engine does. Only with `prepare`.
        identities: the workspace's identities that `databricks_create_role` knows. Only with `prepare`.
        owner: the identity that owns the project and `databricks_postgres`.
        operator: the service principal prepared for the operator: LOGIN CREATEROLE, inheriting member of
            `databricks_superuser` without SET or ADMIN. None prepares none.
        log_directory: where the server's log goes and stays; None: it goes with the server.
        settings: configuration parameters over `DEFAULT_SETTINGS`.
        copy_of: a running server to start as a copy of, instead of as a new cluster.

    The data never survive a restart of this object: every start makes a new cluster.
    """

    def __init__(
        self,
        version: int = 16,
        *,
        prepare: bool = True,
        superuser_grants: bool = True,
        identities: Iterable[Identity] = (),
        owner: Identity = PROJECT_OWNER,
        operator: Identity | None = OPERATOR,
        log_directory: Path | None = None,
        settings: Mapping[str, str] | None = None,
        copy_of: "PostgresServer | None" = None,
    ) -> None:
        self.version = version
        self.superuser = "cloud_admin" if prepare else "postgres"
        self.password = secrets.token_urlsafe(18)
        self.port = 0
        self._prepare = prepare
        self._superuser_grants = superuser_grants
        self._owner = owner
        self._operator = operator
        self._identities = _unique([owner, *([operator] if operator else []), *identities])
        self._log_directory = log_directory
        self._settings = {**DEFAULT_SETTINGS, **(settings or {})}
        self._copy_of = copy_of
        self._base: ServerDirectory | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def _default_database(self) -> str:
        return lakebase.DEFAULT_DATABASE if self._prepare else "postgres"

    @property
    def data_directory(self) -> Path:
        return self._path / "data"

    @property
    def socket_directory(self) -> Path:
        """Where the Unix socket is that trusts whoever reaches it (the account of the server, and root)."""
        return self._path / "run"

    @property
    def log_path(self) -> Path:
        return (self._log_directory or self._path) / "postgres.log"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    async def start(self) -> None:
        """Make the cluster and start it.

        Raises:
            PostgresError: initdb or the server failed, or it took longer than `START_TIMEOUT_SECONDS`.
        """
        try:
            executable = await asyncio.to_thread(self._lay_out)
            await self._start_postmaster(executable)
            await self._set_superuser_password()
            if self._prepare and self._copy_of is None:
                await lakebase.prepare_cluster(self, owner=self._owner, operator=self._operator)
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop the server, ending its sessions, and remove its files."""
        process, self._process = self._process, None
        if process is not None:
            atexit.unregister(process.kill)
            for request in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):  # fast, immediate, by force
                with suppress(ProcessLookupError):
                    process.send_signal(request)
                if await _ended_in_time(process):
                    break
        if self._base is not None:
            await asyncio.to_thread(self._base.remove)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def dsn(
        self, database: str | None = None, *, user: str | None = None, password: str | None = None
    ) -> str:
        """A connection URI.

        Parameters:
            database: default `databricks_postgres`, or `postgres` on a plain server.
            user: default the superuser.
            password: given, the connection goes over TCP and proves it (SCRAM). Without one the superuser's own
                password over TCP is used, and any other user comes in by the Unix socket, which asks nothing.
        """
        database = database or self._default_database
        user = user or self.superuser
        if password is None and user == self.superuser:
            password = self.password
        if password is None:
            return self._socket_dsn(database, user)
        login = f"{quote(user, safe='')}:{quote(password, safe='')}"
        return f"postgresql://{login}@127.0.0.1:{self.port}/{quote(database, safe='')}?sslmode=disable"

    async def connect(
        self, database: str | None = None, *, user: str | None = None, password: str | None = None
    ) -> psycopg.AsyncConnection[tuple[Any, ...]]:
        """An autocommit connection; the parameters are those of `dsn`, but the superuser, too, comes in by the Unix socket."""
        if password is None:
            dsn = self._socket_dsn(database or self._default_database, user or self.superuser)
        else:
            dsn = self.dsn(database, user=user, password=password)
        return await psycopg.AsyncConnection.connect(dsn, autocommit=True)

    async def create_lakebase_database(self, name: str, owner: str) -> None:
        """Create a database as Lakebase's API does: with `databricks_auth`, the event triggers and their roles."""
        await lakebase.create_database(self, name, owner)

    async def create_identity_role(self, identity: Identity) -> None:
        """Create an OAuth role as Lakebase's API does: made by `cloud_admin`, so nobody else holds ADMIN on it."""
        async with await self.connect("postgres") as connection:
            await lakebase.create_identity_role(connection, identity)

    @property
    def identities(self) -> tuple[Identity, ...]:
        return self._identities

    def set_identities(self, identities: Iterable[Identity]) -> None:
        """Replace the identities that `databricks_create_role` knows, in all databases at once."""
        self._identities = _unique(identities)
        document = self._lakebase_directory / "identities.json"
        new = document.with_suffix(".new")
        new.write_text(identities_json(self._identities))
        new.chmod(0o644)
        new.replace(document)

    def record_oauth_session(self, pid: int, expires_at: float) -> None:
        """Tell `databricks_create_role` when the credential of backend `pid` expires (seconds since 1970)."""
        (self._sessions_directory / str(pid)).write_text(f"{expires_at:.3f}")

    def forget_oauth_session(self, pid: int) -> None:
        (self._sessions_directory / str(pid)).unlink(missing_ok=True)

    @property
    def _path(self) -> Path:
        if self._base is None:
            raise PostgresError("the server has not been started")
        return self._base.path

    @property
    def _lakebase_directory(self) -> Path:
        return self.data_directory / "lakebase"

    @property
    def _sessions_directory(self) -> Path:
        return self._lakebase_directory / "sessions"

    def _lay_out(self) -> Path:
        """Make everything the server needs on disk; return its executable."""
        self._base = ServerDirectory()
        if self._log_directory is not None:
            self._log_directory.mkdir(parents=True, exist_ok=True)
            self.log_path.unlink(missing_ok=True)
        self.socket_directory.mkdir(mode=0o700)
        give_to_server(self.socket_directory)
        try:
            if self._copy_of is None:
                new_cluster(self.version, self.superuser, self.data_directory)
            else:
                source = self._copy_of
                copy_cluster(
                    self.version, self.superuser, source.socket_directory, source.port, self.data_directory
                )
        except subprocess.CalledProcessError as error:
            output = (error.output or b"").decode(errors="replace")
            raise PostgresError(
                f"PostgreSQL {self.version}: making the data directory failed:\n{output}"
            ) from error
        if self._prepare:
            shutil.rmtree(self._lakebase_directory, ignore_errors=True)
            self._sessions_directory.mkdir(parents=True)
            give_to_server(self._lakebase_directory)
            give_to_server(self._sessions_directory)
            self.set_identities(self._identities)
        return private_installation(self.version, self._path / "install")

    def _configure(self) -> None:
        settings = {
            **self._settings,
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(self.socket_directory),
        }
        if self._prepare:
            settings["lakebase.superuser_grants"] = "on" if self._superuser_grants else "off"
        with (self.data_directory / "postgresql.conf").open("a") as configuration:
            configuration.writelines(f"{name} = {_quoted(value)}\n" for name, value in settings.items())
        (self.data_directory / "pg_hba.conf").write_text(
            _HOST_BASED_AUTHENTICATION.format(superuser=self.superuser)
        )

    async def _start_postmaster(self, executable: Path) -> None:
        """Start the server on a free port; another program may take that port first, so this can need a second try."""
        for attempts_left in reversed(range(PORT_ATTEMPTS)):
            self.port = _free_port()
            self._configure()
            process = self._spawn(executable)
            try:
                await self._until_ready(process)
            except PostgresError:
                if not attempts_left or "Address already in use" not in self._log_end():
                    raise
                self.log_path.unlink()
            else:
                return

    def _spawn(self, executable: Path) -> subprocess.Popen[bytes]:
        account = server_account()
        with self.log_path.open("ab") as log:
            process = subprocess.Popen(
                [str(executable), "-D", str(self.data_directory)],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd="/",
                env=server_environment(),
                start_new_session=True,  # Ctrl-C is ours to pass on
                user=account,
                group=account,
                extra_groups=None if account is None else [],
            )
        self._process = process
        atexit.register(process.kill)
        return process

    async def _set_superuser_password(self) -> None:
        dsn = self._socket_dsn("postgres", self.superuser)
        async with await psycopg.AsyncConnection.connect(dsn) as connection:
            await connection.execute(
                sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(self.superuser), self.password)
            )

    def _socket_dsn(self, database: str, user: str) -> str:
        query = {"host": str(self.socket_directory), "port": self.port, "user": user}
        return f"postgresql:///{quote(database, safe='')}?{urlencode(query, quote_via=quote)}"

    async def _until_ready(self, process: subprocess.Popen[bytes]) -> None:
        status = self.data_directory / "postmaster.pid"
        deadline = asyncio.get_running_loop().time() + START_TIMEOUT_SECONDS
        while asyncio.get_running_loop().time() < deadline:
            if process.poll() is not None:
                raise PostgresError(f"PostgreSQL {self.version} ended while starting:\n{self._log_end()}")
            with suppress(FileNotFoundError):
                if status.read_text().rstrip().endswith("ready"):
                    return
            await asyncio.sleep(0.01)
        limit = f"{START_TIMEOUT_SECONDS:.0f} s"
        raise PostgresError(f"PostgreSQL {self.version} was not ready in {limit}:\n{self._log_end()}")

    def _log_end(self) -> str:
        return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-20:])


def _unique(identities: Iterable[Identity]) -> tuple[Identity, ...]:
    return tuple({(i.kind, i.name): i for i in identities}.values())


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _quoted(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


async def _ended_in_time(process: subprocess.Popen[bytes]) -> bool:
    deadline = asyncio.get_running_loop().time() + STOP_TIMEOUT_SECONDS
    while process.poll() is None:
        if asyncio.get_running_loop().time() > deadline:
            return False
        await asyncio.sleep(0.01)
    return True
