"""Telling the demo: chapters, commands with what they print, waits, and one line for each check."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import psycopg
from rich.console import Console
from rich.markup import escape

from lakebase_sandbox.errors import SandboxError

T = TypeVar("T")

_POLL_SECONDS = 0.2
# Where nothing can move on the screen, a wait is only worth a line when it takes long.
_PLAIN_LINE_SECONDS = 3.0


class UnexpectedError(Exception):
    """Something is not as it should be."""

    def __init__(self, *, expected: str, seen: str) -> None:
        super().__init__(f"expected {expected}; seen {seen}")
        self.expected = expected
        self.seen = seen


@dataclass(frozen=True, slots=True)
class Observation:
    """One look at something that is waited for."""

    holds: bool
    seen: str
    """What it is like now, for people."""


class Narrator:
    """Tells what happens, and counts the checks.

    Parameters:
        logs: directory of the sandbox's logs, named where a check fails.
    """

    def __init__(self, console: Console, logs: Path) -> None:
        self.passed = 0
        self.failed = 0
        self._console = console
        self._logs = logs

    @property
    def verdict(self) -> str:
        """The closing line."""
        return f"{self.passed} passed, {self.failed} failed"

    def chapter(self, title: str) -> None:
        self._print(f"\n[bold]{escape(title)}[/]")

    def say(self, text: str) -> None:
        self._print(f"  {escape(text)}")

    def command(self, line: str, output: str = "") -> None:
        """Show a command that was run, and what it printed."""
        self._print(f"  [cyan]$ {escape(line)}[/]")
        for printed in output.rstrip().splitlines():
            self._print(f"    [dim]{escape(printed)}[/]")

    @contextmanager
    def check(self, text: str) -> Iterator[None]:
        """One check: its line is printed at the end of the block, which raises what is wrong.

        What is wrong is told and counted, and the demo goes on.
        """
        started = time.monotonic()
        try:
            yield
        except UnexpectedError as error:
            self._fail(text, error.expected, error.seen)
        except (SandboxError, psycopg.Error) as error:
            self._fail(text, "no error", str(error).strip())
        else:
            self.passed += 1
            self._print(f"  [green]✓[/] {escape(text)}{_seconds(time.monotonic() - started)}")

    def wait(self, what: str, look: Callable[[], Observation], *, seconds: float = 60.0) -> None:
        """Look again and again until it holds, and show meanwhile what is waited for.

        Raises:
            UnexpectedError: it does not within `seconds`.
        """
        started = time.monotonic()
        told = self._console.is_terminal
        with self._console.status(f"waiting until {escape(what)} (at most {seconds:.0f} s)"):
            while not (observation := look()).holds:
                waited = time.monotonic() - started
                if waited > seconds:
                    raise UnexpectedError(expected=f"{what} within {seconds:.0f} s", seen=observation.seen)
                if waited > _PLAIN_LINE_SECONDS and not told:
                    self._print(f"  [dim]… waiting until {escape(what)} (at most {seconds:.0f} s)[/]")
                    told = True
                time.sleep(_POLL_SECONDS)

    def close(self) -> None:
        """The closing line, alone."""
        style = "bold red" if self.failed else "bold green"
        self._print(f"[{style}]{self.verdict}[/]")

    def _fail(self, text: str, expected: str, seen: str) -> None:
        self.failed += 1
        self._print(f"  [red]✗[/] {escape(text)}")
        for label, told in (("expected", expected), ("seen", seen), ("logs", str(self._logs))):
            first, *others = told.splitlines() or [""]
            self._print(f"      {label + ':':<10}{escape(first)}")
            for line in others:
                self._print(f"      {'':<10}{escape(line)}")

    def _print(self, markup: str) -> None:
        self._console.print(markup, highlight=False, soft_wrap=True)


def _seconds(elapsed: float) -> str:
    """What a reader wants to know of a duration: nothing, unless it could be felt."""
    return f" [dim]{elapsed:.1f} s[/]" if elapsed >= 0.5 else ""
