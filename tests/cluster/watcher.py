"""Everything that is written to the four kinds and to Events during the session, and whether the rules hold for it."""

import asyncio
import json
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import aiohttp

from lakebase_operator.api.base import GROUP, VERSION
from tests.cluster.kube import PLURALS, Admin, Body


def violations(body: Body) -> list[str]:
    """Which rules for what GitOps tools read are broken by an object as it is in the API server.

    1. Never without a verdict. 2. Never a generation acknowledged with the verdict on an older one. 3. Not ready means
    exactly one of Reconciling and Stalled, ready means neither. 5. What is being deleted is not ready once that is
    acknowledged.
    """
    meta, status = body["metadata"], body.get("status")
    if status is None or "observedGeneration" not in status:
        return ["there is no status.observedGeneration"]
    conditions: list[Body] = status.get("conditions") or []
    if not conditions:
        unseen = status["observedGeneration"] == -1
        return [] if unseen else ["a generation is acknowledged without any condition"]
    broken = []
    observed = status["observedGeneration"]
    kinds = [one["type"] for one in conditions]
    if len(kinds) != len(set(kinds)):
        broken.append("a condition is there twice")
    if kinds.count("Ready") != 1:
        broken.append("there is not exactly one Ready")
        return broken
    if observed > meta["generation"]:
        broken.append("a generation is acknowledged that does not exist yet")
    broken += [
        f"{one['type']} speaks of generation {one.get('observedGeneration')}, the status of {observed}"
        for one in conditions
        if one.get("observedGeneration") != observed
    ]
    true = {one["type"] for one in conditions if one["status"] == "True"}
    beside = {"Reconciling", "Stalled"} & true
    if "Ready" in true and beside:
        broken.append(f"Ready=True beside {sorted(beside)}")
    if "Ready" not in true and len(beside) != 1:
        broken.append(f"Ready is not True, beside {sorted(beside)}")
    if "Ready" in true and meta.get("deletionTimestamp") and observed == meta["generation"]:
        broken.append("Ready=True although its deletion is acknowledged")
    if "Ready" not in true and not next(one for one in conditions if one["type"] == "Ready")["message"]:
        broken.append("it is not ready and does not say why")
    return broken


@dataclass(frozen=True, slots=True)
class Seen:
    """One event of a watch."""

    type: str
    body: Body

    @property
    def thing(self) -> str:
        meta = self.body["metadata"]
        return f"{self.body['kind']} {meta.get('namespace')}/{meta['name']}"


class Watcher:
    """Watches from the beginning of the session to its end."""

    def __init__(self, admin: Admin) -> None:
        self._admin = admin
        self._tasks: list[asyncio.Task[None]] = []
        self.lines: list[str] = []
        """Everything that came, as it came."""
        self.broken: list[str] = []
        """Rules that were broken, in words."""
        self._history: defaultdict[tuple[str, str, str], list[Seen]] = defaultdict(list)

    async def start(self, since: str | None = None) -> None:
        """Begin; what happens after this is seen, or after the version ``since`` of the cluster."""
        paths = [f"/apis/{GROUP}/{VERSION}/{plural}" for plural in PLURALS.values()]
        paths.append("/apis/events.k8s.io/v1/events")
        for path in paths:
            version = since or (await self._admin.request("GET", path))["metadata"]["resourceVersion"]
            self._tasks.append(asyncio.create_task(self._watch(path, version)))

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        for result in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(result, Exception):
                raise result

    def history(self, kind: str, namespace: str, name: str) -> list[Seen]:
        """What happened to an object, in order."""
        return self._history[kind, namespace, name]

    def statuses(self, kind: str, namespace: str, name: str) -> list[Body]:
        """The different statuses that an object has had, in order."""
        found: list[Body] = []
        for seen in self.history(kind, namespace, name):
            status = seen.body.get("status") or {}
            if not found or status != found[-1]:
                found.append(status)
        return found

    def latest(self, kind: str, namespace: str) -> dict[str, Body]:
        """The objects that exist, by name."""
        return {
            name: seen[-1].body
            for (of, where, name), seen in self._history.items()
            if (of, where) == (kind, namespace) and seen[-1].type != "DELETED"
        }

    async def caught_up(self, kind: str, namespace: str, name: str, version: str) -> None:
        """Wait until a version of an object has come."""
        async with asyncio.timeout(60):
            while not any(  # noqa: ASYNC110 - it comes within milliseconds
                int(seen.body["metadata"]["resourceVersion"]) >= int(version)
                for seen in self.history(kind, namespace, name)
            ):
                await asyncio.sleep(0.01)

    async def _watch(self, path: str, version: str) -> None:
        while True:
            query = f"?watch=1&allowWatchBookmarks=true&resourceVersion={version}"
            with suppress(aiohttp.ClientError):
                async with self._admin.session.get(
                    self._admin.server + path + query, timeout=aiohttp.ClientTimeout(total=None)
                ) as answer:
                    if answer.status != HTTPStatus.OK:  # kinds that are new may have no storage for a moment
                        await asyncio.sleep(0.1)
                        continue
                    async for line in answer.content:
                        event: dict[str, Any] = json.loads(line)
                        if event["type"] == "ERROR":
                            version = await self._begin_anew(path, event["object"])
                            break
                        version = event["object"]["metadata"]["resourceVersion"]
                        if event["type"] != "BOOKMARK":
                            self._take(line.decode(), Seen(event["type"], event["object"]))

    async def _begin_anew(self, path: str, error: Body) -> str:
        """A watch that was interrupted for long enough: the API server has forgotten what happened since. Returns where to go on."""
        assert error["code"] == HTTPStatus.GONE, error
        listed = await self._admin.request("GET", path)
        for body in listed["items"]:
            if "kind" in body:  # Events of a list have none
                self._take(json.dumps(body), Seen("MODIFIED", body))
        there = {body["metadata"]["uid"] for body in listed["items"]}
        kind = next((kind for kind, plural in PLURALS.items() if path.endswith(f"/{plural}")), None)
        for (of, _, _), seen in self._history.items():
            if of == kind and seen[-1].type != "DELETED" and seen[-1].body["metadata"]["uid"] not in there:
                seen.append(Seen("DELETED", seen[-1].body))
        return str(listed["metadata"]["resourceVersion"])

    def _take(self, line: str, seen: Seen) -> None:
        self.lines.append(line)
        body = seen.body
        if body["kind"] not in PLURALS:
            return
        meta = body["metadata"]
        key = (body["kind"], meta["namespace"], meta["name"])
        self._history[key].append(seen)
        for rule in violations(body):
            self.broken.append(f"{seen.thing}: {rule}: {json.dumps(body.get('status'))}")
