"""What is declared becomes access that people have."""

import pytest

from tests.cluster.kube import Namespace
from tests.cluster.lab import Lab
from tests.cluster.manifests import grant, mapping, role
from tests.cluster.operators import Operators

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.mark.requirement("R-1", "R-42")
async def test_a_declared_grant_becomes_access(lab: Lab, there: Namespace, operators: Operators) -> None:
    sales = await lab.database()
    lab.identity("alice@example.com")
    await operators.start()
    await there.apply(
        await lab.connection(there, sales),
        mapping("alice", "alice@example.com"),
        grant("readers", "alice@example.com", database=sales.name),
    )
    await there.ready("LakebaseConnection/marketing", "UserMapping/alice", "AccessGrant/readers")
    assert await sales.may("alice@example.com", "SELECT")
    assert not await sales.may("alice@example.com", "INSERT")
