"""What the simulator's tests share."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import psycopg
from databricks.sdk import WorkspaceClient
from databricks.sdk.config import Config

from lakebase_sandbox.simulator import LakebaseSimulator

T = TypeVar("T")

BRANCH = "projects/marketing/branches/production"
ENDPOINT = f"{BRANCH}/endpoints/primary"
INSTANCE = "marketing-db"
TARGETS = ("autoscaling", "provisioned")


async def call(function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """Call the SDK, which blocks, outside the event loop that serves it."""
    return await asyncio.to_thread(function, *args, **kwargs)


async def new_client(simulator: LakebaseSimulator, **settings: Any) -> WorkspaceClient:
    """The real SDK, logged in as the operator unless told otherwise."""
    settings = settings or {"client_id": simulator.client_id, "client_secret": simulator.client_secret}

    def build() -> WorkspaceClient:
        config = Config(
            host=simulator.workspace_url, retry_timeout_seconds=5, http_timeout_seconds=30, **settings
        )
        return WorkspaceClient(config=config)

    return await call(build)


async def log_in(
    simulator: LakebaseSimulator,
    target: str,
    user: str | None = None,
    password: str | None = None,
    **settings: Any,
) -> psycopg.AsyncConnection[Any]:
    """Log in through the gateway, as the operator and with a credential unless told otherwise."""
    user = user or simulator.client_id
    values: dict[str, Any] = {
        "host": "localhost",
        "port": simulator.targets[target].port,
        "user": user,
        "password": password if password is not None else simulator.login(target, user).token,
        "dbname": "databricks_postgres",
        "sslmode": "verify-full",
        "sslrootcert": str(simulator.ca_file),
        "connect_timeout": 30,
        "autocommit": True,
        **settings,
    }
    return await psycopg.AsyncConnection.connect(**values)


async def value(connection: psycopg.AsyncConnection[Any], query: str, *parameters: Any) -> Any:
    """The first column of the first row."""
    row = await (await connection.execute(query, parameters or None)).fetchone()
    assert row is not None
    return row[0]


async def eventually(condition: Callable[[], Awaitable[bool]], seconds: float = 60.0) -> None:
    """Wait until a condition holds.

    Raises:
        AssertionError: it did not in time.
    """
    deadline = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        await asyncio.sleep(0.02)
