"""Fixtures for tests of the operator's side of Databricks, over real HTTPS."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import trustme
from aiohttp import web

from lakebase_operator.external.databricks import OAuthM2M, Workspace
from tests.databricks.scripted import CLIENT_ID, CLIENT_SECRET, ScriptedWorkspace


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """A certificate authority of the tests' own."""
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> Path:
    """Its certificate."""
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return path


@pytest.fixture
def trusted(ca_file: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The authority is trusted, as the operator does it at start-up."""
    monkeypatch.delenv("CURL_CA_BUNDLE", raising=False)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(ca_file))
    monkeypatch.setenv("NO_PROXY", "localhost,127.0.0.1")
    return ca_file


@pytest.fixture
async def scripted(authority: trustme.CA) -> AsyncIterator[ScriptedWorkspace]:
    """A scripted workspace, running."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    app = web.Application()
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    holder: list[ScriptedWorkspace] = []

    async def handle(request: web.Request) -> web.StreamResponse:
        return await holder[0].handle(request)

    app.router.add_route("*", "/{anything:.*}", handle)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    port = runner.addresses[0][1]
    holder.append(ScriptedWorkspace(f"https://localhost:{port}"))
    yield holder[0]
    holder[0].over.set()
    await runner.cleanup()


@pytest.fixture
async def executor() -> AsyncIterator[ThreadPoolExecutor]:
    """Threads for the SDK."""
    pool = ThreadPoolExecutor(max_workers=8)
    yield pool
    await asyncio.to_thread(pool.shutdown)  # the server that they may wait for runs on this loop


@pytest.fixture
def workspace(scripted: ScriptedWorkspace, executor: ThreadPoolExecutor, trusted: Path) -> Workspace:
    """The operator's side of the scripted workspace, with short times."""
    return Workspace(
        scripted.url,
        OAuthM2M(CLIENT_ID, CLIENT_SECRET),
        executor=executor,
        call_timeout=10.0,
        http_timeout=2.0,
        retry_timeout=5,
    )
