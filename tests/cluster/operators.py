"""Operators that run in the test's event loop, as many as a test wants, to be stopped and killed at will."""

import asyncio
import io
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lakebase_operator.engine.catalog import Dirty
from lakebase_operator.engine.keys import ConnectionKey
from lakebase_operator.engine.runner import Outcome, Reconciler
from lakebase_operator.reconcilers import Services, build
from lakebase_operator.runtime.app import Operator
from lakebase_operator.settings import Settings

START_DEADLINE = 60.0
Build = Callable[[Services], Reconciler]


def settings(**changes: Any) -> Settings:
    """Settings with short times, for loopback, without a Lease unless asked for."""
    return Settings(
        **{
            "namespace": "lakebase-system",
            "bind_address": "127.0.0.1",
            "probe_port": 0,
            "metrics_port": 0,
            "leader_election": False,
            "debounce_seconds": 0.02,
            "retry_base_seconds": 0.2,
            "retry_cap_seconds": 1.0,
            "secret_poll_seconds": 0.5,
            "resync_seconds": 3600,
            "connect_timeout_seconds": 5,
            "deletion_grace_seconds": 0.3,
            "shutdown_grace_seconds": 2,
            **changes,
        }
    )


@dataclass(frozen=True, slots=True)
class Pass:
    """One pass that ended."""

    key: ConnectionKey
    dirty: Dirty
    outcome: Outcome


class Counting:
    """The real reconciler, with its passes counted."""

    def __init__(self, reconciler: Reconciler, passes: list[Pass]) -> None:
        self._reconciler = reconciler
        self._passes = passes

    async def reconcile(self, key: ConnectionKey, dirty: Dirty) -> Outcome:
        outcome = await self._reconciler.reconcile(key, dirty)
        self._passes.append(Pass(key, dirty, outcome))
        return outcome

    async def aclose(self) -> None:
        await self._reconciler.aclose()


@dataclass
class Running:
    """One operator."""

    settings: Settings
    operator: Operator
    task: asyncio.Task[None]
    stop_asked: asyncio.Event
    passes: list[Pass] = field(default_factory=list)

    def count(self, namespace: str, name: str = "marketing") -> int:
        """Passes over a connection that have ended."""
        return sum(one.key == ConnectionKey(namespace, name) for one in self.passes)

    async def passed(
        self, namespace: str, more: int, name: str = "marketing", *, at_least: int = 0, deadline: float = 60.0
    ) -> None:
        """Wait for so many more passes over a connection, or for so many in all."""
        end, wanted = time.monotonic() + deadline, max(self.count(namespace, name) + more, at_least)
        while self.count(namespace, name) < wanted:
            assert time.monotonic() < end, (
                f"fewer than {more} passes over {name} in {deadline} s\n{_where_workers_are()}"
            )
            await asyncio.sleep(0.02)

    async def stop(self) -> None:
        """End in good order."""
        self.stop_asked.set()
        await asyncio.wait_for(asyncio.shield(self.task), START_DEADLINE)

    async def kill(self) -> None:
        """End at once."""
        self.task.cancel()
        with suppress(asyncio.CancelledError):
            await self.task


def _where_workers_are() -> str:
    """Where the passes that run now are waiting."""
    out = io.StringIO()
    for task in asyncio.all_tasks():
        if task.get_name().startswith("worker-") and len(task.get_stack()) > 0:
            task.print_stack(file=out)
    return "\n".join(line for line in out.getvalue().splitlines() if "queue.get" not in line)


class Operators:
    """Starts operators, and ends what a test leaves running."""

    def __init__(self, kubeconfig: Path, log: "Log") -> None:
        self.kubeconfig = kubeconfig
        self.log = log
        self._all: list[Running] = []

    async def start(
        self, *, wrap: Callable[[Build], Build] | None = None, primed: bool = True, **changes: Any
    ) -> Running:
        """Start one; returns once its first passes may run.

        Parameters
        ----------
        wrap
            Puts something between the operator and its reconciler.
        primed
            Wait for that; not where another one leads.
        """
        passes: list[Pass] = []

        def counting(services: Services) -> Reconciler:
            made = wrap(build) if wrap is not None else build
            return Counting(made(services), passes)

        chosen = settings(**{"kubeconfig": str(self.kubeconfig), **changes})
        operator, stop = Operator(chosen, counting), asyncio.Event()
        task = asyncio.create_task(operator.run(stop), name="operator")
        running = Running(chosen, operator, task, stop, passes)
        self._all.append(running)
        if primed:
            waiting = asyncio.create_task(operator.primed.wait())
            done, _ = await asyncio.wait(
                {task, waiting}, timeout=START_DEADLINE, return_when=asyncio.FIRST_COMPLETED
            )
            waiting.cancel()
            if task in done:
                task.result()
            assert done, f"the operator was not ready within {START_DEADLINE} s\n{self.log.tail()}"
        return running

    def forget(self, running: Running) -> None:
        """This one has ended as it should."""
        self._all.remove(running)

    async def end_all(self) -> None:
        """End what still runs.

        Raises
        ------
        Exception
            What one of them has ended with by itself.
        """
        for one in self._all:
            if not one.task.done():
                await one.stop()
            elif not one.task.cancelled():
                one.task.result()
        self._all.clear()


class Log(logging.Handler):
    """Every record of the session, before anything is hidden in it."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.setFormatter(
            logging.Formatter(
                "%(asctime)s %(levelname)s %(name)s %(message)s %(connection)s", defaults={"connection": ""}
            )
        )
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))

    def tail(self, lines: int = 25) -> str:
        """The last of what the operator said."""
        own = [line for line in self.lines if " lakebase_operator" in line or " kopf" in line]
        return "\n".join(own[-lines:])
