"""Long-running operations: they take time, one at a time per branch."""

import asyncio
import base64
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import psycopg

from lakebase_sandbox.simulator.errors import ApiError, conflicting_operations, not_found

_TYPES = "type.googleapis.com/databricks.postgres.v1."
EMPTY = {"@type": "type.googleapis.com/google.protobuf.Empty"}

Work = Callable[[], Awaitable[dict[str, Any] | None]]


@dataclass(slots=True)
class _Operation:
    name: str
    kind: str
    done: bool = False
    response: dict[str, Any] | None = None
    error: ApiError | None = None

    def to_json(self) -> dict[str, Any]:
        body: dict[str, Any] = {
            "name": self.name,
            "done": self.done,
            "metadata": {"@type": f"{_TYPES}{self.kind}OperationMetadata"},
        }
        if self.error is not None:
            body["error"] = self.error.body()
        elif self.done:
            body["response"] = (
                EMPTY if self.response is None else {"@type": f"{_TYPES}{self.kind}", **self.response}
            )
        return body


class Operations:
    """All operations of the workspace.

    Parameters:
        seconds: how long each takes before it does its work.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._operations: dict[str, _Operation] = {}
        self._busy: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def refuse_if_busy(self, scope: str) -> None:
        """Raise the conflict error where an operation in this scope (a branch, a project) is under way."""
        if scope in self._busy:
            raise conflicting_operations()

    def start(self, resource: str, kind: str, scope: str, work: Work) -> dict[str, Any]:
        """Begin an operation and return it as it is now: not done.

        Parameters:
            resource: the full name of what it is about.
            kind: Project, Branch, Endpoint, Role or Database.
            scope: the full name of the branch or project in which no other operation may run.
            work: does it; the result is the new resource, None for a deletion.

        Raises:
            ApiError: another operation is under way in the scope.
        """
        self.refuse_if_busy(scope)
        # Names of operations are opaque to clients: this one has slashes, plus signs and padding on purpose.
        name = f"{resource}/operations/{base64.b64encode(secrets.token_bytes(25)).decode()}"
        operation = _Operation(name, kind)
        self._operations[name] = operation
        self._busy.add(scope)
        task = asyncio.create_task(self._run(operation, scope, work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return operation.to_json()

    def get(self, name: str) -> dict[str, Any]:
        operation = self._operations.get(name)
        if operation is None:
            raise not_found("operation")
        return operation.to_json()

    async def close(self) -> None:
        """Give up what is under way."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, operation: _Operation, scope: str, work: Work) -> None:
        try:
            await asyncio.sleep(self.seconds)
            operation.response = await work()
        except ApiError as error:
            operation.error = error
        except psycopg.Error as error:
            operation.error = ApiError(400, "BAD_REQUEST", str(error).splitlines()[0])
        except Exception as error:
            operation.error = ApiError(500, "INTERNAL_ERROR", f"{type(error).__name__}: {error}")
            raise
        finally:
            self._busy.discard(scope)
            operation.done = True
