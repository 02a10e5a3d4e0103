"""What a state directory remembers from one command to the next."""

from datetime import datetime
from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from lakebase_sandbox.files import write_private
from lakebase_sandbox.operator_process import Operator


class ClusterKind(StrEnum):
    """Which Kubernetes a sandbox runs against."""

    EMBEDDED = "embedded"
    KIND = "kind"
    KUBECONFIG = "kubeconfig"


class ClusterSession(BaseModel):
    """The cluster of a sandbox."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: ClusterKind
    kubeconfig: Path
    """An administrator's."""
    kind_name: str | None = None
    """Its name in kind, if it is one of kind's."""


class Session(BaseModel):
    """A sandbox that is being started, runs, or was not stopped properly.

    Its processes are recorded one by one elsewhere (`lakebase_sandbox.processes`), so that none is forgotten
    however a start ends.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    cluster: ClusterSession
    ready_at: datetime | None = None
    operator: Operator | None = None

    def save(self, path: Path) -> None:
        write_private(path, self.model_dump_json(indent=2))

    @classmethod
    def load(cls, path: Path) -> "Session | None":
        """What was saved; None: nothing, or something that another version saved, which is as good as nothing."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except (FileNotFoundError, ValidationError):
            return None
