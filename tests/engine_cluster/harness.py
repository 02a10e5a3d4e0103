"""An operator with passes that only take notes, and a namespace to put objects in."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lakebase_operator.engine.catalog import Dirty
from lakebase_operator.engine.keys import ConnectionKey
from lakebase_operator.engine.runner import Outcome
from lakebase_operator.external.kube.client import MERGE_PATCH, KubeClient
from lakebase_operator.external.kube.errors import Gone
from lakebase_operator.external.kube.objects import PLURALS
from lakebase_operator.reconcilers.services import Services
from lakebase_operator.runtime.app import Operator
from lakebase_operator.settings import Settings
from tests.unit.engine import bodies

Body = dict[str, Any]
DEADLINE = 60.0
"""Seconds. Nothing here takes a tenth of it, unless other work keeps the machine."""


async def eventually(condition: Callable[[], bool], what: str, deadline: float = DEADLINE) -> None:
    """Wait until something holds."""
    end = time.monotonic() + deadline
    while not condition():
        assert time.monotonic() < end, f"not within {deadline} s: {what}"
        await asyncio.sleep(0.01)


class Cluster:
    """An administrator's view of one namespace."""

    def __init__(self, client: KubeClient, namespace: str) -> None:
        self.client = client
        self.namespace = namespace

    async def create(self, body: Body) -> Body:
        """Create an object of one of our kinds; what the server fills in is left out of ``body``."""
        kind = body["kind"]
        plain = {
            "apiVersion": body["apiVersion"],
            "kind": kind,
            "metadata": {"name": body["metadata"]["name"], "namespace": self.namespace},
            "spec": body["spec"],
        }
        for part in ("labels", "annotations", "finalizers"):
            if part in body["metadata"]:
                plain["metadata"][part] = body["metadata"][part]
        return await self._send("POST", self._path(kind), plain)

    async def create_many(self, many: list[Body]) -> None:
        """Create objects, 16 at a time."""
        waiting = iter(many)

        async def work() -> None:
            for body in waiting:
                await self.create(body)

        await asyncio.gather(*(work() for _ in range(16)))

    async def patch(self, kind: str, name: str, patch: Body) -> Body:
        return await self._send("PATCH", f"{self._path(kind)}/{name}", patch, MERGE_PATCH)

    async def delete(self, kind: str, name: str) -> None:
        await self._send("DELETE", f"{self._path(kind)}/{name}")

    async def get(self, kind: str, name: str) -> Body | None:
        try:
            return await self._send("GET", f"{self._path(kind)}/{name}")
        except Gone:
            return None

    async def put_secret(
        self, name: str, values: dict[str, str], labels: dict[str, str] | None = None
    ) -> Body:
        """Create or change a Secret."""
        path = f"/api/v1/namespaces/{self.namespace}/secrets"
        body = {"metadata": {"name": name, "labels": labels or {}}, "stringData": values}
        try:
            return await self._send("PATCH", f"{path}/{name}", body, MERGE_PATCH)
        except Gone:
            return await self._send("POST", path, {"apiVersion": "v1", "kind": "Secret", **body})

    async def events(self, name: str) -> list[Body]:
        """Events about an object."""
        path = f"/apis/events.k8s.io/v1/namespaces/{self.namespace}/events"
        answer = await self._send("GET", path)
        return [one for one in answer["items"] if one["regarding"]["name"] == name]

    async def send(self, method: str, path: str, body: Body | None = None) -> Body:
        return await self._send(method, path, body)

    def _path(self, kind: str) -> str:
        return f"/apis/lakebase.dev/v1alpha1/namespaces/{self.namespace}/{PLURALS[kind]}"

    async def _send(
        self, method: str, path: str, body: Body | None = None, content_type: str = "application/json"
    ) -> Body:
        answer: Body = await self.client.request(
            method, path, operation=f"{method} {path}", body=body, content_type=content_type
        )
        return answer

    # -- objects of this namespace ---------------------------------------------------------------------------------

    def connection(self, name: str = "marketing", **parts: Any) -> Body:
        return bodies.connection(name, self.namespace, **parts)

    def grant(self, name: str, to: str = "marketing", **parts: Any) -> Body:
        return bodies.grant(name, to, self.namespace, **parts)

    def key(self, name: str = "marketing") -> ConnectionKey:
        return ConnectionKey(self.namespace, name)


@dataclass
class Pass:
    """One run of the reconciler, with what it saw at its beginning."""

    key: ConnectionKey
    dirty: Dirty
    grants: tuple[str, ...]
    connection: bool


Act = Callable[[Services, ConnectionKey], Awaitable[None]]


@dataclass
class Notes:
    """A reconciler that only takes notes, unless it is told to act."""

    act: Act | None = None
    passes: list[Pass] = field(default_factory=list)
    ended: int = 0
    """Passes that are over."""
    services: Services | None = None
    closed: bool = False

    def build(self, services: Services) -> "Notes":
        self.services = services
        return self

    async def reconcile(self, key: ConnectionKey, dirty: Dirty) -> Outcome:
        assert self.services is not None
        catalog = self.services.catalog
        names = tuple(one.metadata.name for one in catalog.grants(key))
        self.passes.append(Pass(key, dirty, names, catalog.connection(key) is not None))
        if self.act is not None:
            await self.act(self.services, key)
        self.ended += 1
        return Outcome()

    async def aclose(self) -> None:
        self.closed = True

    def of(self, key: ConnectionKey) -> list[Pass]:
        return [one for one in self.passes if one.key == key]

    def saw(self, key: ConnectionKey, *grants: str) -> Callable[[], bool]:
        """Whether the latest pass over ``key`` saw exactly these grants."""
        return lambda: bool(self.of(key)) and set(self.of(key)[-1].grants) == set(grants)


def settings(kubeconfig: Path, namespace: str, **changes: Any) -> Settings:
    """Settings for a test: one namespace, loopback, any port, no Lease unless asked for."""
    return Settings(
        **{
            "kubeconfig": str(kubeconfig),
            "namespace": namespace,
            "watch_namespaces": (namespace,),
            "bind_address": "127.0.0.1",
            "probe_port": 0,
            "metrics_port": 0,
            "leader_election": False,
            "retry_base_seconds": 0.1,
            "secret_poll_seconds": 3600,
            "resync_seconds": 3600,
            **changes,
        }
    )


@asynccontextmanager
async def running(configured: Settings, notes: Notes, *, primed: bool = True) -> AsyncIterator[Operator]:
    """A running operator."""
    operator = Operator(configured, notes.build)
    stop = asyncio.Event()
    task = asyncio.create_task(operator.run(stop))
    try:
        if primed:
            waiting = asyncio.create_task(operator.primed.wait())
            done, _ = await asyncio.wait(
                {task, waiting}, timeout=DEADLINE, return_when=asyncio.FIRST_COMPLETED
            )
            if task in done:
                task.result()
            assert waiting in done, "not primed"
        yield operator
    finally:
        stop.set()
        await asyncio.wait_for(asyncio.gather(task, return_exceptions=True), DEADLINE)
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error
