"""Fixtures that all tests share: one control plane and one PostgreSQL of each version for the whole run."""

import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from lakebase_sandbox.cluster import EmbeddedCluster


@pytest.fixture(scope="session")
def short_tmp() -> Iterator[Path]:
    """A directory with a short path: PostgreSQL's sockets allow about 100 characters."""
    path = Path(tempfile.mkdtemp(prefix="lkb-"))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def cluster(short_tmp: Path) -> Iterator[EmbeddedCluster]:
    """A real control plane."""
    with EmbeddedCluster(short_tmp / "cluster") as running:
        yield running


@pytest.fixture
def namespace() -> str:
    """A name that no other test uses; the test creates the namespace."""
    return f"t-{uuid.uuid4().hex[:10]}"
