"""What all stories have in common: how they are told, and the steps that recur."""

import shlex
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import ClassVar, TypeAlias

import psycopg

from lakebase_sandbox.demo.manifests import Manifest
from lakebase_sandbox.demo.narrator import Narrator, Observation, UnexpectedError
from lakebase_sandbox.demo.objects import Object, condition, readiness
from lakebase_sandbox.demo.stage import Stage
from lakebase_sandbox.errors import SandboxError
from lakebase_sandbox.operator_process import NAMESPACE as OPERATOR_NAMESPACE

Chapters: TypeAlias = Iterable[tuple[str, Callable[[], None]]]
"""Titles, and what is told under each."""

SYNC_NOW = "lakebase.dev/sync-now"
"""The annotation that asks for a comparison, by each new value."""

_SERVICE_ACCOUNT = f"system:serviceaccount:{OPERATOR_NAMESPACE}:lakebase-operator"


@dataclass(frozen=True, slots=True)
class Story(ABC):
    """Chapter by chapter, on a sandbox that runs."""

    example: ClassVar[str]
    """The directory in examples/ whose manifests it is about, and the scenario's name."""
    kinds: ClassVar[str]
    """The kinds in that directory, as kubectl takes them."""

    narrator: Narrator
    stage: Stage

    @abstractmethod
    def beginning(self) -> Chapters:
        """How what the story is about comes to be."""

    @abstractmethod
    def rest(self) -> Chapters:
        """What happens to it."""

    def tell(self) -> None:
        """All chapters, but only the beginning if what they are about does not come to be."""
        self._tell([("Installed with Helm", self.installed), *self.beginning()])
        if self.narrator.failed:
            self.narrator.say("The rest is about these objects, so it is not told.")
            return
        self._tell(self.rest())

    def _tell(self, chapters: Chapters) -> None:
        """If a chapter cannot go on, that counts as a failed check, and the next one is told."""
        for title, chapter in chapters:
            self.narrator.chapter(title)
            try:
                chapter()
            except (SandboxError, UnexpectedError, psycopg.Error):
                with self.narrator.check("the chapter is told to its end"):
                    raise

    # -- the first chapter of each -------------------------------------------------------------------------------

    def installed(self) -> None:
        self.narrator.command(
            f"helm upgrade --install lakebase-operator charts/lakebase-operator -n {OPERATOR_NAMESPACE} --create-namespace"
        )
        self.narrator.command(f"helm list -n {OPERATOR_NAMESPACE}", self.stage.releases())
        with self.narrator.check(
            "the operator runs as the chart's ServiceAccount, with the rights of the chart"
        ):
            expected, seen = _SERVICE_ACCOUNT, self.stage.operator_user()
            if seen != expected:
                raise UnexpectedError(expected=expected, seen=seen)

    # -- the steps that recur ------------------------------------------------------------------------------------

    def kubectl(self, *arguments: str, comment: str = "") -> str:
        """Run kubectl in the story's namespace, and show the command and what it printed.

        Raises:
            SandboxError: it failed.
        """
        namespace = self.stage.namespace
        printed = self.stage.kubectl.run(*arguments, f"--namespace={namespace}")
        line = shlex.join(["kubectl", *arguments, "-n", namespace])
        self.narrator.command(f"{line}   # {comment}" if comment else line, printed)
        return printed

    def apply_all(self) -> None:
        """Apply the example's manifests.

        Raises:
            SandboxError: the API server refuses one.
        """
        self.narrator.say(
            "Applied as they are, but for URL, port, CA, client and secret, which are the sandbox's."
        )
        self.narrator.command(f"kubectl apply -f examples/{self.example}", self.stage.apply_example())

    def apply(self, manifest: Manifest, comment: str) -> None:
        """Apply one manifest.

        Raises:
            SandboxError: the API server refuses it.
        """
        file = f"{manifest['metadata']['name']}.yaml"
        self.narrator.command(f"kubectl apply -f {file}   # {comment}", self.stage.apply(file, manifest))

    def until_ready(
        self, kind: str, name: str, *, status: str = "True", reason: str | None = None, seconds: float = 60
    ) -> None:
        """Wait until the object as it is now says so.

        Raises:
            UnexpectedError: it does not in time.
        """
        self.narrator.wait(
            f"{kind} {name} says Ready={status}{f' {reason}' if reason else ''}",
            lambda: readiness(self.stage.objects.get(kind, name), status=status, reason=reason),
            seconds=seconds,
        )

    def sync_now(self, connection: str) -> None:
        """Ask for a full comparison, and wait for its end.

        Raises:
            UnexpectedError: it does not end in time.
        """
        value = now()
        setting = f"{SYNC_NOW}={value}"
        self.stage.kubectl.run(
            "annotate", "lbc", connection, f"--namespace={self.stage.namespace}", "--overwrite", setting
        )
        self.narrator.command(f"kubectl annotate lbc {connection} {setting} --overwrite")

        def look() -> Observation:
            handled = self.stage.objects.get("lbc", connection).get("status", {}).get("lastHandledSync")
            return Observation(handled == value, f"status.lastHandledSync is {handled}")

        self.narrator.wait(f"LakebaseConnection {connection} has handled it", look)

    def tell_condition(self, item: Object, type_: str) -> None:
        """Say what a condition says, if the object has it."""
        found = condition(item, type_)
        if found is not None:
            self.narrator.say(f"{type_}={found['status']} {found['reason']}: {found.get('message', '')}")


def now() -> str:
    """A value that no annotation has had before."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
