"""What the other tests see of the past they see to its end, also after an interruption."""

import pytest

from tests.cluster.kube import Namespace
from tests.cluster.manifests import grant
from tests.cluster.watcher import Watcher

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_watch_that_begins_with_a_version_long_gone_begins_anew(there: Namespace) -> None:
    await there.apply(*(grant(name, "analysts", database="sales") for name in ("kept", "deleted")))
    watcher = Watcher(there.admin)

    async def sees(name: str, as_type: str) -> None:
        async def is_seen() -> bool:
            history = watcher.history("AccessGrant", there.name, name)
            return bool(history) and history[-1].type == as_type

        await watcher.start(since="1")
        await there.true(f"{name} is {as_type}", is_seen)
        await watcher.stop()

    await sees("kept", "MODIFIED")
    await sees("deleted", "MODIFIED")
    await there.delete("AccessGrant/deleted")
    await there.gone("AccessGrant/deleted")
    await sees("deleted", "DELETED")
    assert watcher.latest("AccessGrant", there.name).keys() == {"kept"}
