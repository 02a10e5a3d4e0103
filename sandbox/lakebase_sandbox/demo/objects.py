"""The custom resources of a namespace, and what their status says."""

import base64
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import IO, Any, TypeAlias

from lakebase_sandbox.demo.narrator import Observation, UnexpectedError
from lakebase_sandbox.tools.kubectl import Kubectl

Object: TypeAlias = Mapping[str, Any]
"""An object as the API server gives it."""

_MAX_NAMED = 4
"""Objects that are told one by one where many are not as they should be."""


class Objects:
    """Reads the objects of one namespace with kubectl.

    Parameters:
        kinds: those that are meant by all, as kubectl takes them.

    Raises (all methods):
        SandboxError: kubectl failed.
    """

    def __init__(self, kubectl: Kubectl, namespace: str, kinds: str) -> None:
        self._kubectl = kubectl
        self._kinds = kinds
        self._namespace = f"--namespace={namespace}"

    def get(self, kind: str, name: str) -> Object:
        answer: Object = json.loads(self._kubectl.run("get", kind, name, self._namespace, "--output=json"))
        return answer

    def find(self, kind: str, name: str) -> Object | None:
        """The object; None: there is none."""
        answer = self._kubectl.run("get", kind, name, self._namespace, "--ignore-not-found", "--output=json")
        return json.loads(answer) if answer else None

    @contextmanager
    def watch(self, kind: str, name: str) -> Iterator[list[Object]]:
        """All versions of an object from now on, in a list that grows: none is missed, however short it lasts.

        Raises:
            UnexpectedError: there is no such object.
        """
        process = self._kubectl.start("get", kind, name, self._namespace, "--watch", "--output=json")
        output = process.stdout
        assert output is not None
        try:
            versions = [_read_object(output)]
            reader = threading.Thread(target=_read_objects, args=(output, versions), name=f"watch {name}")
            reader.start()
            try:
                yield versions
            finally:
                process.terminate()
                reader.join()
        finally:
            process.terminate()
            process.wait()
            output.close()

    def secret(self, name: str) -> dict[str, bytes]:
        """What a Secret holds."""
        return {key: base64.b64decode(text) for key, text in self.get("secret", name)["data"].items()}

    def all(self) -> list[Object]:
        """All objects of these kinds."""
        listed = json.loads(self._kubectl.run("get", self._kinds, self._namespace, "--output=json"))
        items: list[Object] = listed["items"]
        return items


def _read_objects(output: IO[str], versions: list[Object]) -> None:
    with suppress(UnexpectedError):
        while True:
            versions.append(_read_object(output))


def _read_object(output: IO[str]) -> Object:
    """The next object that kubectl prints.

    Raises:
        UnexpectedError: it has ended.
    """
    lines: list[str] = []
    for line in output:
        lines.append(line)
        if line == "}\n":  # what belongs to an object is indented
            answer: Object = json.loads("".join(lines))
            return answer
    raise UnexpectedError(expected="an object", seen="kubectl get --watch has ended")


def condition(item: Object, type_: str) -> Object | None:
    """The condition of that type, if the status has one."""
    conditions = item.get("status", {}).get("conditions", ())
    return next((one for one in conditions if one["type"] == type_), None)


def is_current(item: Object) -> bool:
    """Whether the status speaks of the spec as it is now."""
    return bool(item.get("status", {}).get("observedGeneration") == item["metadata"]["generation"])


def summary(item: Object) -> str:
    """What `Ready` says, as one line."""
    name = f"{item['kind']} {item['metadata']['name']}"
    ready = condition(item, "Ready")
    if ready is None:
        return f"{name} has no condition Ready"
    stale = "" if is_current(item) else " (of an older version of its spec)"
    return f"{name}: Ready={ready['status']} {ready['reason']}: {ready['message']}{stale}"


def readiness(item: Object, *, reason: str | None = None, status: str = "True") -> Observation:
    """Whether the object as it is now has `Ready` with this status, and this reason if one is given."""
    ready = condition(item, "Ready")
    holds = (
        ready is not None
        and is_current(item)
        and ready["status"] == status
        and reason in {None, ready["reason"]}
    )
    return Observation(holds, summary(item))


def all_ready(items: list[Object], *, count: int) -> Observation:
    """Whether there are `count` objects, all of them ready."""
    looks = [readiness(item) for item in items]
    waiting = [look.seen for look in looks if not look.holds]
    if len(items) != count:
        waiting.insert(0, f"{len(items)} objects instead of {count}")
    more = [f"and {len(waiting) - _MAX_NAMED} more"] if len(waiting) > _MAX_NAMED else []
    return Observation(not waiting, "\n".join([*waiting[:_MAX_NAMED], *more]) or "all are ready")
