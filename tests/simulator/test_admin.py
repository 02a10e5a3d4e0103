"""The simulator as a process: `ready.json`, the admin API, its end."""

import asyncio
import json
import os
import signal
import ssl
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import psycopg
import pytest
import pytest_asyncio

from tests.simulator.support import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")


def is_over(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


class Process:
    """A simulator in a process of its own."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.ready_file = state / "ready.json"
        self.process: subprocess.Popen[bytes] | None = None
        self.ready: dict[str, Any] = {}

    async def start(self, *options: str) -> None:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, "-m", "lakebase_sandbox.simulator", "--state", str(self.state), *options]
        self.process = await asyncio.to_thread(subprocess.Popen, command, env=environment)

        async def is_ready() -> bool:
            assert self.process is not None
            assert self.process.poll() is None
            return self.ready_file.exists()

        await eventually(is_ready, 60)
        self.ready = json.loads(self.ready_file.read_text())

    def servers(self) -> list[psutil.Process]:
        assert self.process is not None
        return psutil.Process(self.process.pid).children()

    async def signal(self, number: signal.Signals) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return await asyncio.to_thread(self.process.wait, 30)

    async def request(
        self, method: str, path: str, body: Any = None, token: str | None = None
    ) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {token or self.ready['admin_token']}"}
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, self.ready["admin_url"] + path, json=body, headers=headers) as answer,
        ):
            return answer.status, await answer.json()

    async def connect(self, target: str, user: str, password: str) -> psycopg.AsyncConnection[Any]:
        return await psycopg.AsyncConnection.connect(
            host=self.ready["targets"][target]["gateway_host"],
            port=self.ready["targets"][target]["gateway_port"],
            user=user,
            password=password,
            dbname="databricks_postgres",
            sslmode="verify-full",
            sslrootcert=self.ready["ca_file"],
        )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def process(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Process]:
    running = Process(tmp_path_factory.mktemp("simulator"))
    await running.start()
    yield running
    await running.signal(signal.SIGTERM)


async def test_ready_json_is_private_and_says_how_to_reach_everything(process: Process) -> None:
    assert stat.S_IMODE(process.ready_file.stat().st_mode) == 0o600
    ready = process.ready
    assert ready["workspace_url"].startswith("https://localhost:")
    assert ssl.create_default_context(cafile=ready["ca_file"]).cert_store_stats()["x509_ca"] == 1
    autoscaling, provisioned = ready["targets"]["autoscaling"], ready["targets"]["provisioned"]
    assert (autoscaling["kind"], autoscaling["postgres_version"]) == ("autoscaling", 18)
    assert (autoscaling["project"], autoscaling["branch"]) == ("marketing", "production")
    assert (provisioned["kind"], provisioned["postgres_version"]) == ("provisioned", 16)
    assert provisioned["instance"] == "marketing-db"
    for target in (autoscaling, provisioned):
        async with await psycopg.AsyncConnection.connect(target["admin_dsn"]) as admin:
            cursor = await admin.execute("SELECT current_user::text, current_database()::text")
            assert await cursor.fetchone() == ("cloud_admin", "databricks_postgres")


async def test_login_gives_a_credential_that_works(process: Process) -> None:
    user = process.ready["client_id"]
    status, answer = await process.request("POST", "/login", {"target": "provisioned", "user": user})
    assert status == 200
    assert datetime.fromisoformat(answer["expires_at"]) > datetime.now(UTC)
    async with await process.connect("provisioned", user, answer["token"]):
        pass
    _, stats = await process.request("GET", "/stats")
    assert stats["targets"]["provisioned"]["logins"][user]["oauth"] >= 1


async def test_login_makes_an_unknown_user_an_identity(process: Process) -> None:
    await process.request("POST", "/login", {"target": "provisioned", "user": "new@example.com"})
    dsn = process.ready["targets"]["provisioned"]["admin_dsn"]
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as admin:
        await admin.execute("SELECT databricks_create_role('new@example.com', 'USER')")


async def test_states_and_faults_are_set_and_cleared(process: Process) -> None:
    user = process.ready["client_id"]
    _, credential = await process.request("POST", "/login", {"target": "provisioned", "user": user})

    async def connect() -> None:
        async with await process.connect("provisioned", user, credential["token"]):
            pass

    for method, path, on, off in (
        ("POST", "/state", {"state": "stopped"}, {"state": "AVAILABLE"}),
        ("POST", "/faults", {"name": "refuse", "args": []}, None),
    ):
        assert await process.request(method, path, {"target": "provisioned", **on}) == (200, {})
        with pytest.raises(psycopg.OperationalError, match="Connection refused"):
            await connect()
        if off is None:
            assert await process.request("DELETE", "/faults") == (200, {})
        else:
            assert await process.request(method, path, {"target": "provisioned", **off}) == (200, {})
        await connect()


async def test_native_login_is_switched_past_the_operator(process: Process) -> None:
    dsn = process.ready["targets"]["provisioned"]["admin_dsn"]
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as admin:
        await admin.execute("CREATE ROLE native_app LOGIN PASSWORD 'a-password'")
    for enabled in (True, False):
        body = {"target": "provisioned", "enabled": enabled}
        assert await process.request("POST", "/native-login", body) == (200, {})
        if enabled:
            async with await process.connect("provisioned", "native_app", "a-password"):
                pass
        else:
            with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
                await process.connect("provisioned", "native_app", "a-password")


async def test_the_port_of_an_endpoint_or_instance_is_known_whether_it_exists_or_not(
    process: Process,
) -> None:
    async def port(resource: str) -> int:
        status, answer = await process.request("POST", "/ports", {"resource": resource})
        assert status == 200
        return int(answer["port"])

    targets = process.ready["targets"]
    assert await port("instances/marketing-db") == targets["provisioned"]["gateway_port"]
    endpoint = "projects/marketing/branches/production/endpoints/primary"
    assert await port(endpoint) == targets["autoscaling"]["gateway_port"]
    reserved = await port("instances/not-yet")
    assert await port("instances/not-yet") == reserved
    assert reserved not in {target["gateway_port"] for target in targets.values()}


async def test_identities_are_added(process: Process) -> None:
    _, user = await process.request("POST", "/identities", {"kind": "user", "name": "hugo@example.com"})
    assert (user["kind"], user["name"]) == ("user", "hugo@example.com")
    body = {"kind": "group", "name": "analysts", "members": ["hugo@example.com"]}
    status, group = await process.request("POST", "/identities", body)
    assert (status, group["kind"]) == (200, "group")
    body = {"kind": "service_principal", "name": "66666666-aaaa-4bbb-8ccc-000000000001"}
    _, principal = await process.request("POST", "/identities", body)
    assert principal["secret"]


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        (
            "/login",
            {"target": "nowhere", "user": "x"},
            404,
            "there is no target 'nowhere': choose one of auto",
        ),
        ("/login", {"target": "autoscaling"}, 400, "user: Field required"),
        ("/state", {"target": "autoscaling", "state": "SLEEPY"}, 400, "there is no state 'SLEEPY'"),
        ("/state", {"target": "autoscaling", "state": "STOPPED"}, 400, "has no state STOPPED"),
        ("/faults", {"target": "autoscaling", "name": "odd"}, 400, "there is no fault 'odd'"),
        ("/identities", {"kind": "robot", "name": "x"}, 400, "kind: "),
        ("/identities", {"kind": "group", "name": "g", "members": ["nobody"]}, 404, "no identity 'nobody'"),
        ("/native-login", {"target": "nowhere", "enabled": True}, 404, "there is no target 'nowhere'"),
        ("/ports", {"resource": "marketing-db"}, 400, "'marketing-db' is neither projects/"),
        ("/nonsense", {}, 404, "Not Found"),
    ],
)
async def test_what_is_wrong_is_said(
    process: Process, path: str, body: Any, status: int, message: str
) -> None:
    got, answer = await process.request("POST", path, body)
    assert got == status
    assert message in answer["message"]


async def test_the_admin_token_is_needed(process: Process) -> None:
    assert (await process.request("GET", "/stats", token="wrong"))[0] == 401
    assert (await process.request("GET", "/healthz", token="wrong"))[0] == 200


async def test_sigterm_stops_everything_and_a_killed_predecessors_servers_are_stopped_later(
    tmp_path: Path,
) -> None:
    first = Process(tmp_path)
    await first.start()
    orphans = first.servers()
    assert len(orphans) == 2
    await first.signal(signal.SIGKILL)
    assert not any(map(is_over, orphans))

    first.ready_file.unlink()
    settings_file = tmp_path / "settings.json"
    settings_file.write_text(json.dumps({"targets": [{"name": "other", "instance": "other-db"}]}))
    second = Process(tmp_path)
    await second.start("--settings", str(settings_file))
    assert {name: target["instance"] for name, target in second.ready["targets"].items()} == {
        "other": "other-db"
    }
    assert all(map(is_over, orphans))
    servers = second.servers()
    assert await second.signal(signal.SIGTERM) == 0
    assert all(map(is_over, servers))
    assert not second.ready_file.exists()
