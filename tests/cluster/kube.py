"""The API server as its administrator sees it: requests, manifests, and waiting for what becomes of them."""

import asyncio
import copy
import json
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from lakebase_operator.api import KINDS
from lakebase_operator.api.base import FINALIZER, GROUP, VERSION
from lakebase_sandbox.cluster.kubeconfig import read_endpoint

Body = dict[str, Any]
Condition = Callable[[Body], bool]

PLURALS = {model.kind_name: model.plural for model in KINDS}
DEADLINE = 60.0
"""Seconds. Nothing here takes a tenth of it, unless other work keeps the machine."""
MERGE_PATCH = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"


class ApiError(AssertionError):
    """The API server refused a request."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


class Admin:
    """An administrator's requests."""

    def __init__(self, session: aiohttp.ClientSession, server: str) -> None:
        self.session = session
        self.server = server

    async def request(
        self, method: str, path: str, body: object = None, content_type: str = "application/json"
    ) -> Body:
        """Send one request.

        Raises
        ------
        ApiError
            The answer is not a success.
        """
        data = None if body is None else json.dumps(body)
        async with self.session.request(
            method, self.server + path, data=data, headers={"Content-Type": content_type}
        ) as answer:
            text = await answer.text()
            if answer.status >= 300:
                with suppress(ValueError):
                    text = str(json.loads(text).get("message"))
                raise ApiError(answer.status, f"{method} {path}: {text}")
            return dict(json.loads(text))

    async def served(self, path: str) -> None:
        """Wait until the API server answers there."""
        end = time.monotonic() + DEADLINE
        while True:
            try:
                await self.request("GET", path)
            except ApiError as error:
                if error.status not in (404, 429) or time.monotonic() > end:
                    raise
                await asyncio.sleep(0.1)
            else:
                return

    async def find(self, path: str) -> Body | None:
        """One object, or None."""
        try:
            return await self.request("GET", path)
        except ApiError as error:
            if error.status == 404:
                return None
            raise


@asynccontextmanager
async def administrator(kubeconfig: Path) -> AsyncIterator[Admin]:
    """Log in with the only user of a kubeconfig."""
    endpoint = read_endpoint(kubeconfig)
    token = yaml.safe_load(await asyncio.to_thread(kubeconfig.read_text))["users"][0]["user"]["token"]
    trust = ssl.create_default_context(cadata=endpoint.ca.decode())
    async with aiohttp.ClientSession(
        headers={"Authorization": f"Bearer {token}"},
        connector=aiohttp.TCPConnector(ssl=trust, limit=64),
        read_bufsize=2**22,
    ) as session:
        yield Admin(session, endpoint.server)


class Namespace:
    """One namespace, with the verbs of kubectl. Objects are named as ``Kind/name``."""

    def __init__(self, admin: Admin, name: str, explain: Callable[[], str]) -> None:
        self.admin = admin
        self.name = name
        self._explain = explain

    async def apply(self, *manifests: str | Body) -> None:
        """Create or change objects, from YAML or as they are."""
        for body in _bodies(manifests):
            name = body["metadata"]["name"]
            body["metadata"].setdefault("namespace", self.name)
            query = "?fieldManager=kubectl&force=true"
            await self.admin.request("PATCH", _path(body, name) + query, body, APPLY_PATCH)

    async def create_at_once(self, manifests: Iterable[Body]) -> None:
        """Many new objects, side by side."""
        waiting = iter(list(manifests))

        async def work() -> None:
            for body in waiting:
                await self.admin.request("POST", self.path(f"{body['kind']}/"), body)

        await asyncio.gather(*(work() for _ in range(16)))

    async def patch(self, thing: str, patch: Body, subresource: str = "") -> Body:
        """Merge into an object."""
        return await self.admin.request("PATCH", self.path(thing) + subresource, patch, MERGE_PATCH)

    async def spec(self, thing: str, **fields: Any) -> Body:
        """Change fields of a spec; None takes one away."""
        return await self.patch(thing, {"spec": fields})

    async def annotate(self, thing: str, **annotations: str | None) -> Body:
        """Set annotations of our group, with ``_`` for ``-``."""
        named = {f"{GROUP}/{name.replace('_', '-')}": text for name, text in annotations.items()}
        return await self.patch(thing, {"metadata": {"annotations": named}})

    async def delete(self, thing: str) -> None:
        """Ask for its deletion; see :meth:`gone`."""
        await self.admin.request("DELETE", self.path(thing))

    async def get(self, thing: str) -> Body:
        """The object as it is."""
        return await self.admin.request("GET", self.path(thing))

    async def find(self, thing: str) -> Body | None:
        """The object as it is, if it is."""
        return await self.admin.find(self.path(thing))

    async def status(self, thing: str) -> Body:
        """Its status."""
        return dict((await self.get(thing)).get("status") or {})

    async def all_of(self, kind: str) -> list[Body]:
        """All of one kind."""
        answer = await self.admin.request("GET", self.path(f"{kind}/"))
        return list(answer["items"])

    async def secret(self, name: str, *, watched: bool = False, **values: str) -> None:
        """Create or replace a Secret."""
        labels = {f"{GROUP}/watched": "true"} if watched else {}
        body = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "labels": labels},
            "stringData": values,
        }
        await self.apply(body)

    async def events(self, thing: str) -> list[Body]:
        """Events about an object, oldest first."""
        kind, _, name = thing.partition("/")
        answer = await self.admin.request("GET", f"/apis/events.k8s.io/v1/namespaces/{self.name}/events")
        about = [
            one
            for one in answer["items"]
            if (one["regarding"]["kind"], one["regarding"]["name"]) == (kind, name)
        ]
        return sorted(about, key=lambda one: int(one["metadata"]["resourceVersion"]))

    async def told(self, thing: str, reason: str, saying: str = "") -> Body:
        """Wait for an Event about an object (it comes after the status); gives the last one with this reason and these words."""
        end = time.monotonic() + DEADLINE
        while True:
            told = [one for one in await self.events(thing) if one["reason"] == reason]
            if found := [one for one in told if saying in one["note"]]:
                return found[-1]
            notes = [one["note"] for one in told]
            assert time.monotonic() < end, f"no Event {reason} about {thing}, but {notes}\n{self._explain()}"
            await asyncio.sleep(0.03)

    # -- waiting ---------------------------------------------------------------------------------------------------

    async def until(self, thing: str, condition: Condition, deadline: float = DEADLINE) -> Body:
        """Wait until ``condition`` holds of an object; returns it.

        Raises
        ------
        AssertionError
            It did not in time; with the object's status.
        """
        end = time.monotonic() + deadline
        while True:
            body = await self.find(thing)
            if body is not None and condition(body):
                return body
            if time.monotonic() > end:
                shown = "there is no such object" if body is None else yaml.safe_dump(_interesting(body))
                wanted = getattr(condition, "__qualname__", str(condition))
                raise AssertionError(f"{thing} not {wanted} within {deadline} s:\n{shown}\n{self._explain()}")
            await asyncio.sleep(0.03)

    async def ready(self, *things: str, deadline: float = DEADLINE) -> list[Body]:
        """Wait until objects are ready with what their spec says now."""
        return [await self.until(thing, is_ready, deadline) for thing in things]

    async def reason(
        self, thing: str, reason: str, *, ready: bool = False, deadline: float = DEADLINE
    ) -> Body:
        """Wait until ``Ready`` has this reason, for what the spec says now."""

        def has_reason(body: Body) -> bool:
            found = current(body, "Ready")
            return found is not None and (found["status"], found["reason"]) == (str(ready), reason)

        has_reason.__qualname__ = f"Ready={ready}({reason})"
        return await self.until(thing, has_reason, deadline)

    async def gone(self, *things: str, deadline: float = DEADLINE) -> None:
        """Wait until objects do not exist any more."""
        for thing in things:
            end = time.monotonic() + deadline
            while (body := await self.find(thing)) is not None:
                assert time.monotonic() < end, (
                    f"{thing} not gone within {deadline} s:\n{yaml.safe_dump(_interesting(body))}\n{self._explain()}"
                )
                await asyncio.sleep(0.03)

    async def true(
        self,
        what: str,
        condition: Callable[[], Awaitable[bool]],
        deadline: float = DEADLINE,
        pause: float = 0.03,
    ) -> None:
        """Wait until something outside the cluster holds; ``pause`` seconds between two looks."""
        end = time.monotonic() + deadline
        while not await condition():
            assert time.monotonic() < end, f"not within {deadline} s: {what}\n{self._explain()}"
            await asyncio.sleep(pause)

    # -- beginning and end -----------------------------------------------------------------------------------------

    async def create(self, **labels: str) -> None:
        """Make the namespace itself."""
        body = {"metadata": {"name": self.name, "labels": labels}}
        await self.admin.request("POST", "/api/v1/namespaces", body)

    async def discard(self) -> None:
        """Throw everything away, whatever the finalizers say."""
        if await self.admin.find(f"/api/v1/namespaces/{self.name}") is None:
            return
        for kind in PLURALS:
            for body in await self.all_of(kind):
                await self._discard(f"{kind}/{body['metadata']['name']}", body)
        await self.admin.request("DELETE", f"/api/v1/namespaces/{self.name}")

    async def _discard(self, thing: str, body: Body) -> None:
        with suppress(ApiError):  # gone meanwhile
            if FINALIZER in body["metadata"].get("finalizers", ()):
                await self.patch(thing, {"metadata": {"finalizers": None}})
            await self.delete(thing)

    def core(self, thing: str) -> str:
        """Path of an object of Kubernetes' own, such as ``configmaps/plan``."""
        return f"/api/v1/namespaces/{self.name}/{thing}"

    def path(self, thing: str) -> str:
        """URL path of ``Kind/name``."""
        kind, _, name = thing.partition("/")
        return _path({"kind": kind, "metadata": {"namespace": self.name}}, name).rstrip("/")


def current(body: Body, kind: str) -> Body | None:
    """A condition that speaks of the spec as it is now, or None."""
    status = body.get("status") or {}
    if status.get("observedGeneration") != body["metadata"]["generation"]:
        return None
    return condition_of(body, kind)


def condition_of(body: Body, kind: str) -> Body | None:
    """A condition, or None."""
    conditions = (body.get("status") or {}).get("conditions") or []
    return next((one for one in conditions if one["type"] == kind), None)


def message_of(body: Body, kind: str = "Ready") -> str:
    """What a condition says to people."""
    found = condition_of(body, kind)
    assert found is not None, f"there is no condition {kind}"
    return str(found["message"])


def is_ready(body: Body) -> bool:
    found = current(body, "Ready")
    return found is not None and found["status"] == "True"


def is_not_ready(body: Body) -> bool:
    found = current(body, "Ready")
    return found is not None and found["status"] == "False"


def _path(body: Mapping[str, Any], name: str) -> str:
    namespace, kind = body["metadata"]["namespace"], body["kind"]
    if kind in PLURALS:
        return f"/apis/{GROUP}/{VERSION}/namespaces/{namespace}/{PLURALS[kind]}/{name}"
    return f"/api/v1/namespaces/{namespace}/{kind.lower()}s/{name}"


def _bodies(manifests: Iterable[str | Body]) -> list[Body]:
    bodies: list[Body] = []
    for one in manifests:
        bodies += (
            [part for part in yaml.safe_load_all(one) if part]
            if isinstance(one, str)
            else [copy.deepcopy(one)]
        )
    return bodies


def _interesting(body: Body) -> Body:
    meta = body["metadata"]
    names = ("name", "generation", "deletionTimestamp", "finalizers", "annotations")
    return {
        "metadata": {name: meta[name] for name in names if name in meta},
        "spec": body.get("spec"),
        "status": body.get("status"),
    }
