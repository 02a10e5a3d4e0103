"""Requests to an API server over few connections."""

import asyncio

from aiohttp import web
from aiohttp.test_utils import TestServer
from kubernetes.aio.client import Configuration

from lakebase_operator.external.kube.client import KubeClient


async def test_a_request_beyond_the_connections_waits_for_one() -> None:
    open_now = most = 0
    full, go_on = asyncio.Event(), asyncio.Event()

    async def answer(_: web.Request) -> web.Response:
        nonlocal open_now, most
        open_now += 1
        most = max(most, open_now)
        if open_now == 3:
            full.set()
        await go_on.wait()
        open_now -= 1
        return web.json_response({"kind": "Status"})

    server = web.Application()
    server.router.add_get("/api", answer)
    async with TestServer(server) as running:
        configuration = Configuration(host=str(running.make_url("")).rstrip("/"))
        async with KubeClient(configuration, connections=3) as client:
            asked = [asyncio.create_task(client.request("GET", "/api", operation="ask")) for _ in range(12)]
            await asyncio.wait_for(full.wait(), 60)
            go_on.set()
            assert await asyncio.gather(*asked) == [{"kind": "Status"}] * 12
    assert most == 3
