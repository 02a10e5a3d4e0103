"""Compiling the control plane: when, with which Go, and only once. (A Go of our own stands in for the compiler.)"""

import shutil
import threading
from pathlib import Path

import pytest

from lakebase_sandbox import paths
from lakebase_sandbox.cluster.build import Sources, controlplane_binary, find_go
from lakebase_sandbox.errors import SandboxError

FAKE_GO = """#!/bin/sh
case "$1" in
env) echo go{version} ;;
list) printf 'fmt\\nk8s.io/api\\n' ;;
build)
    echo built >> {builds}
    echo 'go: downloading k8s.io/api v1.0.0' >&2
    echo fmt >&2
    while [ "$1" != -o ]; do shift; done
    {action}
esac
"""


@pytest.fixture
def sources(tmp_path: Path) -> Sources:
    """A copy of the real sources, to be changed."""
    copy = tmp_path / "controlplane"
    copy.mkdir()
    for file in Sources().files:
        shutil.copy(file, copy)
    return Sources(copy)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "cache"
    monkeypatch.setenv("LAKEBASE_SANDBOX_CACHE", str(directory))
    return directory


def install_fake_go(
    directory: Path, monkeypatch: pytest.MonkeyPatch, *, version: str = "9.9", action: str = 'echo ok > "$2"'
) -> Path:
    """Put a `go` first on PATH; return the file that gets one line for each build."""
    builds = directory / "builds"
    go = directory / "bin" / "go"
    go.parent.mkdir()
    go.write_text(FAKE_GO.format(version=version, builds=builds, action=action))
    go.chmod(0o755)
    monkeypatch.setenv("PATH", f"{go.parent}:/usr/bin:/bin")
    return builds


@pytest.mark.parametrize("name", ["go.mod", "go.sum", "main.go", "serve.go", "controllers.go"])
def test_a_changed_source_changes_the_key(sources: Sources, name: str) -> None:
    before = sources.cache_key()
    file = sources.directory / name
    file.write_text(file.read_text() + "\n// changed\n")

    assert sources.cache_key() != before


def test_a_new_source_file_changes_the_key(sources: Sources) -> None:
    before = sources.cache_key()
    (sources.directory / "more.go").write_text("package main\n")

    assert sources.cache_key() != before


def test_what_is_not_compiled_does_not_change_the_key(sources: Sources) -> None:
    before = sources.cache_key()
    (sources.directory / "README.md").write_text("about")

    assert sources.cache_key() == before


def test_missing_sources_are_reported_with_their_place(tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match=f"sources are not in {tmp_path}"):
        controlplane_binary(Sources(tmp_path))


def test_the_cache_is_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LAKEBASE_SANDBOX_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert paths.cache_directory() == tmp_path / "xdg" / "lakebase-sandbox"
    monkeypatch.setenv("LAKEBASE_SANDBOX_CACHE", str(tmp_path / "own"))
    assert paths.cache_directory() == tmp_path / "own"


def test_the_program_is_built_once_and_then_taken_from_the_cache(
    sources: Sources, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    builds = install_fake_go(tmp_path, monkeypatch)

    binary = controlplane_binary(sources)

    assert binary == cache / "controlplane" / sources.cache_key() / "controlplane"
    assert binary.read_text() == "ok\n"
    assert controlplane_binary(sources) == binary
    assert builds.read_text() == "built\n"


def test_two_at_a_time_build_once(sources: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    builds = install_fake_go(tmp_path, monkeypatch, action='sleep 0.5; echo ok > "$2"')
    results: list[Path] = []
    threads = [
        threading.Thread(target=lambda: results.append(controlplane_binary(sources))) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(results) == 2
    assert builds.read_text() == "built\n"


def test_a_failed_build_says_why_and_leaves_nothing_in_the_cache(
    sources: Sources, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_fake_go(tmp_path, monkeypatch, action="echo serve.go:1: syntax error >&2; exit 1")

    with pytest.raises(SandboxError, match=r"failed(?s:.*)serve\.go:1: syntax error"):
        controlplane_binary(sources)
    assert not list(cache.glob("controlplane/*/controlplane"))


def test_a_go_that_is_too_old_gives_way_to_the_one_from_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_fake_go(tmp_path, monkeypatch, version="1.20.3")

    go = find_go(Sources().required_go)

    assert go.version >= Sources().required_go
    assert go.executable != tmp_path / "bin" / "go"
    assert go.environment["GOTOOLCHAIN"] == "local"
    assert go.environment["GOFLAGS"] == "-mod=readonly"


def test_without_a_go_that_is_new_enough_what_was_found_is_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_fake_go(tmp_path, monkeypatch, version="1.20.3")

    with pytest.raises(SandboxError, match=r"needs Go 99 or later; found: .*bin/go \(1\.20\.3\), "):
        find_go((99,))
