"""Where everything is: the parts of the checkout that the sandbox runs, the cache, and a sandbox's own directory."""

import os
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
CONTROLPLANE_SOURCES = REPOSITORY / "sandbox" / "controlplane"
CHART = REPOSITORY / "charts" / "lakebase-operator"

DEFAULT_STATE = Path(".sandbox")


def cache_directory() -> Path:
    """What is made once per machine: LAKEBASE_SANDBOX_CACHE, else `lakebase-sandbox` in the user's cache."""
    if chosen := os.environ.get("LAKEBASE_SANDBOX_CACHE"):
        return Path(chosen).absolute()
    user_cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(user_cache).absolute() / "lakebase-sandbox"


@dataclass(frozen=True, slots=True)
class StateDirectory:
    """The directory of one sandbox.

    Everything in it is the sandbox's own and disposable; it holds secrets, so it ignores itself in git.
    """

    root: Path

    @classmethod
    def at(cls, path: Path) -> "StateDirectory":
        return cls(path.absolute())

    @property
    def session(self) -> Path:
        return self.root / "session.json"

    @property
    def lock(self) -> Path:
        return self.root / "lock"

    @property
    def records(self) -> Path:
        return self.root / "run"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def bin(self) -> Path:
        return self.root / "bin"

    @property
    def cluster(self) -> Path:
        return self.root / "cluster"

    @property
    def simulator(self) -> Path:
        return self.root / "simulator"

    @property
    def operator(self) -> Path:
        return self.root / "operator"

    def create(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        (self.root / ".gitignore").write_text("*\n")
