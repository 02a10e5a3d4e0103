"""Showing how a long command gets on: on a terminal what runs now, elsewhere plain lines."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as LiveDisplay

# Often enough to see that it lives, seldom enough for a log.
_PLAIN_LINE_SECONDS = 20.0


class Step:
    """One step while it runs."""

    def __init__(self, name: str, display: LiveDisplay, task: TaskID) -> None:
        self.name = name
        self.started = time.monotonic()
        self.detail = ""
        self._display = display
        self._task = task

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    def update(self, detail: str, *, completed: int | None = None, total: int | None = None) -> None:
        """Say what it does now, and how much of how much is done where that is known."""
        self.detail = detail
        self._display.update(self._task, completed=completed, total=total, detail=escape(detail))


class Progress:
    """Shows steps, which may run side by side: one line each with its seconds when it is done.

    `with Progress() as progress:` and in it `with progress.step("Kubernetes API server"):`
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._display = LiveDisplay(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[detail]}", style="dim"),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._running: list[Step] = []
        self._closing = threading.Event()
        self._ticker = threading.Thread(target=self._print_running, daemon=True)

    def __enter__(self) -> Self:
        self._display.start()
        if not self._console.is_terminal:
            self._ticker.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._display.stop()

    @contextmanager
    def step(self, name: str) -> Iterator[Step]:
        task = self._display.add_task(escape(name), total=None, detail="")
        step = Step(name, self._display, task)
        self._running.append(step)
        try:
            yield step
        except BaseException:
            self._finished(step, task, "[red]✗[/]")
            raise
        self._finished(step, task, "[green]✓[/]")

    def note(self, text: str) -> None:
        """A line of its own, about no step in particular."""
        self._console.print(f"  {escape(text)}", highlight=False, soft_wrap=True)

    def _finished(self, step: Step, task: TaskID, mark: str) -> None:
        self._running.remove(step)
        self._display.remove_task(task)
        self._console.print(f"{mark} {escape(step.name)} [dim]{step.seconds:.1f} s[/]", highlight=False)

    def _print_running(self) -> None:
        while not self._closing.wait(_PLAIN_LINE_SECONDS):
            for step in tuple(self._running):
                detail = f": {step.detail}" if step.detail else ""
                self.note(f"… {step.name}{detail}, {step.seconds:.0f} s")
