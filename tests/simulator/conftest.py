"""One running simulator per test module, left as it was found by each test."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from databricks.sdk import WorkspaceClient

from lakebase_sandbox.simulator import LakebaseSimulator, SimulatorSettings
from tests.simulator.support import new_client

FAST = SimulatorSettings(
    operation_seconds=0.05, reconciliation_seconds=0.05, wake_seconds=0.1, start_seconds=0.1
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def simulator() -> AsyncIterator[LakebaseSimulator]:
    """A workspace with the targets `autoscaling` (PostgreSQL 18) and `provisioned` (16)."""
    async with LakebaseSimulator(FAST) as running:
        yield running


@pytest.fixture
def trusted(simulator: LakebaseSimulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK trusts the simulator's certificate authority."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(simulator.ca_file))
    monkeypatch.delenv("CURL_CA_BUNDLE", raising=False)


@pytest_asyncio.fixture(loop_scope="module")
async def client(simulator: LakebaseSimulator, trusted: None) -> WorkspaceClient:
    """The operator's SDK client."""
    return await new_client(simulator)


@pytest_asyncio.fixture(loop_scope="module", autouse=True)
async def left_as_found(request: pytest.FixtureRequest) -> AsyncIterator[None]:
    """No fault and no state outlives a test."""
    yield
    if "simulator" in request.fixturenames:
        simulator: LakebaseSimulator = request.getfixturevalue("simulator")
        await simulator.clear_faults()
        await simulator.set_state("autoscaling", "ACTIVE")
        await simulator.set_state("provisioned", "AVAILABLE")
