"""The API server as the load sees it: plain requests, many side by side, and a watch that notes when things happened."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from pydantic_core import from_json, to_json

from lakebase_operator.api.base import API_VERSION, GROUP, VERSION
from lakebase_sandbox.cluster.kubeconfig import read_endpoint

Body = dict[str, Any]

PARALLEL = 32
"""Requests that the load has under way at once."""
MERGE_PATCH = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"


class Api:
    """An administrator's requests."""

    def __init__(self, session: aiohttp.ClientSession, server: str) -> None:
        self._session = session
        self._server = server

    async def request(
        self, method: str, path: str, body: object = None, content_type: str = "application/json"
    ) -> Body:
        """Send one request.

        Raises
        ------
        aiohttp.ClientResponseError
            The answer is not a success.
        """
        data = None if body is None else to_json(body)
        async with self._session.request(
            method, self._server + path, data=data, headers={"Content-Type": content_type}
        ) as answer:
            content = await answer.read()
            if answer.status >= 300:
                raise aiohttp.ClientResponseError(
                    answer.request_info, (), status=answer.status, message=f"{path}: {content[:500].decode()}"
                )
            return dict(from_json(content))

    async def many(self, requests: Iterable[tuple[str, str, object, str]]) -> None:
        """Send requests (method, path, body, content type), many side by side."""
        waiting = iter(requests)

        async def work() -> None:
            for one in waiting:
                await self.request(*one)

        async with asyncio.TaskGroup() as group:
            for _ in range(PARALLEL):
                group.create_task(work())

    async def create(self, *bodies: Body) -> None:
        """Create objects of our kinds, Secrets and Namespaces."""
        for body in bodies:
            await self.request("POST", collection(body), body)

    async def create_many(self, bodies: Iterable[Body]) -> None:
        """Create many objects, side by side."""
        await self.many(("POST", collection(body), body, "application/json") for body in bodies)

    async def lines(self, path: str) -> AsyncIterator[Body]:
        """Events of a watch."""
        timeout = aiohttp.ClientTimeout(total=None, sock_read=None)
        async with self._session.get(self._server + path, timeout=timeout) as answer:
            answer.raise_for_status()
            async for line in answer.content:
                yield from_json(line)

    async def served(self, path: str) -> None:
        """Wait until the API server answers there: a kind is served a moment after it is made."""
        async with asyncio.timeout(30):
            while not await self._answers(path):  # noqa: ASYNC110  # it is another process
                await asyncio.sleep(0.1)

    async def _answers(self, path: str) -> bool:
        try:
            await self.request("GET", path)
        except aiohttp.ClientResponseError as error:
            if error.status not in (404, 429, 503):
                raise
            return False
        return True


@asynccontextmanager
async def administrator(kubeconfig: Path) -> AsyncIterator[Api]:
    """Log in with the only user of a kubeconfig."""
    endpoint = read_endpoint(kubeconfig)
    token = yaml.safe_load(await asyncio.to_thread(kubeconfig.read_text))["users"][0]["user"]["token"]
    trust = ssl.create_default_context(cadata=endpoint.ca.decode())
    async with aiohttp.ClientSession(
        headers={"Authorization": f"Bearer {token}"},
        connector=aiohttp.TCPConnector(ssl=trust, limit=2 * PARALLEL),
        read_bufsize=2**22,
    ) as session:
        yield Api(session, endpoint.server)


@dataclass(slots=True)
class Seen:
    """What a watch has shown of one object."""

    generation: int
    version: int
    ready_at: float | None = None
    """When it was first seen ready with this generation, by ``time.perf_counter``."""


@dataclass(slots=True)
class Watch:
    """Notes of all AccessGrants, in one namespace or in all, when they became ready."""

    api: Api
    namespace: str | None = None
    objects: dict[tuple[str, str], Seen] = field(default_factory=dict)
    writes: int = 0
    """Changes of objects that were there."""
    _ready: int = 0
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Watch":
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def until(self, condition: Callable[[], bool], deadline: float) -> None:
        """Wait until a condition on ``objects`` holds.

        Raises
        ------
        TimeoutError
            It did not within ``deadline`` seconds.
        """
        assert self._task is not None
        async with asyncio.timeout(deadline):
            while not condition():
                self._changed.clear()
                if self._task.done():
                    self._task.result()
                await self._changed.wait()

    def ready(self) -> int:
        """How many are ready with what their spec says now."""
        return self._ready

    async def _run(self) -> None:
        scope = f"/namespaces/{self.namespace}" if self.namespace else ""
        path = f"/apis/{GROUP}/{VERSION}{scope}/accessgrants"
        listed = await self.api.request("GET", f"{path}?limit=1")
        # A watch from the beginning sends all that is there.
        version = "0" if listed["items"] else listed["metadata"]["resourceVersion"]
        try:
            while True:  # the API server ends a watch that is slow to read, and after a while any
                async for event in self.api.lines(f"{path}?watch=true&resourceVersion={version}"):
                    version = event["object"]["metadata"]["resourceVersion"]
                    self._take(event["type"], event["object"])
                    self._changed.set()
        finally:
            self._changed.set()  # whoever waits learns of the end

    def _take(self, kind: str, body: Body) -> None:
        meta = body["metadata"]
        key = (meta["namespace"], meta["name"])
        before = self.objects.pop(key, None)
        self._ready -= before is not None and before.ready_at is not None
        if kind == "DELETED":
            return
        self.writes += kind == "MODIFIED"
        ready_at = before.ready_at if before and before.generation == meta["generation"] else None
        if ready_at is None and is_ready(body):
            ready_at = time.perf_counter()
        self._ready += ready_at is not None
        self.objects[key] = Seen(meta["generation"], int(meta["resourceVersion"]), ready_at)


def is_ready(body: Body) -> bool:
    """Whether the status says so of what the spec says now."""
    status = body.get("status") or {}
    if status.get("observedGeneration") != body["metadata"]["generation"]:
        return False
    return any(one["type"] == "Ready" and one["status"] == "True" for one in status.get("conditions") or ())


def manifest(kind: str, namespace: str, name: str, spec: Body) -> Body:
    """An object of one of our kinds."""
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": spec}


def collection(body: Body) -> str:
    """Where objects of this kind are created."""
    metadata, kind = body["metadata"], body["kind"]
    if kind == "Namespace":
        return "/api/v1/namespaces"
    if kind == "Secret":
        return f"/api/v1/namespaces/{metadata['namespace']}/secrets"
    return f"/apis/{GROUP}/{VERSION}/namespaces/{metadata['namespace']}/{kind.lower()}s"
