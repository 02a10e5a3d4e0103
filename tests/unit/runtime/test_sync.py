"""Lists, the canary, and the look at Secrets, on a clock that stands still."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from lakebase_operator.engine.catalog import MODELS, Catalog
from lakebase_operator.engine.keys import ConnectionKey
from lakebase_operator.engine.queue import WorkQueue
from lakebase_operator.external.kube.errors import Expired, Forbidden, Gone, KubeError
from lakebase_operator.external.kube.objects import KubeObjects, Page
from lakebase_operator.runtime.feed import Feed
from lakebase_operator.runtime.secrets import SecretWatch
from lakebase_operator.runtime.sync import Synchroniser, WatchCanary, WatchLostError
from tests.manual_clock import ManualClock
from tests.unit.engine.bodies import Body, changed, connection, grant

MARKETING = ConnectionKey("team", "marketing")


class ScriptedKube(KubeObjects):
    """Answers that a test prepares: faults at the seam of the network."""

    def __init__(self) -> None:
        self.bodies: dict[str, list[Body]] = {kind: [] for kind in MODELS}
        self.version = 100
        self.faults: list[Exception] = []
        self.fails_after_first_page = False
        self.lists: list[tuple[str, str | None]] = []
        self.secrets: dict[tuple[str, str], str | Exception | None] = {}

    async def pages(self, kind: str, namespace: str | None = None) -> AsyncIterator[Page]:
        self.lists.append((kind, namespace))
        if self.faults:
            raise self.faults.pop(0)
        yield Page(tuple(self.bodies[kind]), str(self.version))
        if self.fails_after_first_page:
            raise KubeError(0, "no answer")

    async def secret_version(self, namespace: str, name: str) -> str | None:
        version = self.secrets.get((namespace, name))
        if isinstance(version, Exception):
            raise version
        return version


class Bench:
    """A synchroniser and what it feeds."""

    def __init__(self, *, namespaces: tuple[str, ...] = (), interval: float = 600) -> None:
        self.clock = ManualClock()
        self.catalog = Catalog()
        self.queue: WorkQueue[ConnectionKey] = WorkQueue(self.clock)
        self.feed = Feed(self.catalog, self.queue)
        self.kube = ScriptedKube()
        self.sync = Synchroniser(
            self.catalog,
            self.feed,
            self.kube,
            self.clock,
            namespaces=namespaces,
            interval=interval,
            rng=random.Random(1),
        )

    async def ready(self) -> list[ConnectionKey]:
        await self.clock.advance(1)
        keys = []
        while self.queue.depth:
            keys.append(await self.queue.get())
            self.queue.done(keys[-1])
        return keys


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_priming_goes_on_until_every_kind_is_listed(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.kube.bodies["AccessGrant"] = [grant("g")]
    bench.kube.faults = [KubeError(0, "no answer"), Gone(404, "not found"), Forbidden("not allowed")]
    task = asyncio.create_task(bench.sync.prime())
    await bench.clock.advance(0.1)
    assert not task.done()
    await bench.clock.advance(60)
    assert task.done()
    assert [one.metadata.name for one in bench.catalog.grants(MARKETING)] == ["g"]
    assert "CustomResourceDefinitions installed?" in caplog.text
    assert await bench.ready() == []  # the start itself decides when passes begin


async def test_a_list_that_became_too_old_on_the_way_is_begun_again(bench: Bench) -> None:
    bench.kube.bodies["AccessGrant"] = [grant("g")]
    bench.kube.faults = [Expired(410, "too old")]
    assert await bench.sync.resync("AccessGrant") == {MARKETING}


async def test_a_list_that_fails_on_the_way_removes_nothing(bench: Bench) -> None:
    bench.kube.bodies["AccessGrant"] = [grant("g1"), grant("g2")]
    await bench.sync.resync("AccessGrant")
    bench.kube.bodies["AccessGrant"] = [grant("g1")]
    bench.kube.fails_after_first_page = True
    with pytest.raises(KubeError):
        await bench.sync.resync("AccessGrant")
    assert [one.metadata.name for one in bench.catalog.grants(MARKETING)] == ["g1", "g2"]


async def running(bench: Bench) -> asyncio.Task[None]:
    """Lists go on, and every watch has begun."""
    await bench.sync.prime()
    for kind in MODELS:
        bench.sync.begins(kind, None, "100")
    task = asyncio.create_task(bench.sync.run())
    await bench.clock.advance(6)
    bench.kube.lists.clear()
    return task


async def stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_the_first_watch_begins_where_the_first_list_ended_so_nothing_is_listed_twice(
    bench: Bench,
) -> None:
    bench.kube.version = 150
    await bench.sync.prime()
    bench.kube.lists.clear()
    task = asyncio.create_task(bench.sync.run())
    assert bench.sync.begins("AccessGrant", None, "200") == "150"
    await bench.clock.advance(60)
    assert bench.kube.lists == []
    await stop(task)


async def test_a_watch_does_not_begin_twice_at_one_list_nor_at_one_from_before_a_restore(
    bench: Bench,
) -> None:
    await bench.sync.prime()
    assert bench.sync.begins("AccessGrant", None, "200") == "100"
    assert bench.sync.begins("AccessGrant", None, "201") == "201"
    bench.kube.version = 300
    await bench.sync.resync("AccessGrant")
    assert bench.sync.begins("AccessGrant", None, "301") == "300"
    await bench.sync.resync("AccessGrant")
    assert bench.sync.begins("AccessGrant", None, "50") == "50"


async def test_every_kind_is_listed_again_and_what_was_missed_is_worked_on(bench: Bench) -> None:
    task = await running(bench)
    bench.kube.bodies["AccessGrant"] = [grant("g")]
    bench.kube.faults = [KubeError(503, "busy")]
    await bench.clock.advance(500)
    assert bench.kube.lists == []
    await bench.clock.advance(200)
    assert {kind for kind, _ in bench.kube.lists} == set(MODELS)
    bench.sync.heard("AccessGrant", "1")
    await bench.clock.advance(600)
    assert MARKETING in await bench.ready()
    assert {one.name for one in bench.catalog.take_dirty(MARKETING).objects} == {"g"}
    await stop(task)


async def test_a_watch_that_begins_anew_brings_a_list_soon_that_finds_what_went_in_between(
    bench: Bench,
) -> None:
    bench.kube.bodies["AccessGrant"] = [grant("g")]
    task = await running(bench)
    bench.kube.bodies["AccessGrant"] = []
    bench.kube.version = 200
    for _ in range(5):
        bench.sync.begins("AccessGrant", None, "200")
    await bench.clock.advance(2)
    assert bench.kube.lists == [("AccessGrant", None)]
    assert MARKETING in await bench.ready()
    assert bench.catalog.grants(MARKETING) == ()
    await bench.clock.advance(300)
    assert bench.kube.lists == [("AccessGrant", None)]
    await stop(task)


async def test_a_list_that_fails_is_tried_again_soon(bench: Bench) -> None:
    task = await running(bench)
    bench.kube.bodies["AccessGrant"] = [grant("g", version=190)]
    bench.kube.faults = [KubeError(0, "no answer"), KubeError(503, "busy")]
    bench.sync.begins("AccessGrant", None, "200")
    await bench.clock.advance(30)
    assert bench.kube.lists == [("AccessGrant", None)] * 3
    assert MARKETING in await bench.ready()
    await stop(task)


async def test_given_namespaces_are_listed_one_by_one() -> None:
    bench = Bench(namespaces=("team", "other"))
    await bench.sync.resync("AccessGrant")
    assert bench.kube.lists == [("AccessGrant", "team"), ("AccessGrant", "other")]


async def test_a_watch_that_does_not_bring_what_a_list_has_shown_ends_the_process(bench: Bench) -> None:
    task = await running(bench)
    bench.kube.bodies["AccessGrant"] = [grant("g", version=190)]
    await bench.clock.advance(659)
    assert not task.done()
    await bench.clock.advance(200)
    with pytest.raises(WatchLostError, match="AccessGrant"):
        task.result()


@pytest.mark.parametrize("begun", [True, False])
async def test_a_watch_that_brings_it_late_or_begins_anew_is_alive(bench: Bench, begun: bool) -> None:
    task = await running(bench)
    bench.kube.bodies["AccessGrant"] = [grant("g", version=190)]
    await bench.clock.advance(659)
    if begun:
        bench.sync.begins("AccessGrant", None, "190")
    else:
        bench.sync.heard("AccessGrant", "190")
    await bench.clock.advance(500)
    assert not task.done()
    await stop(task)


async def test_what_happened_before_a_watch_began_anew_is_not_expected_of_it(bench: Bench) -> None:
    task = await running(bench)
    bench.kube.bodies["AccessGrant"] = [grant("g", version=190)]
    bench.sync.begins("AccessGrant", None, "195")
    await bench.clock.advance(500)
    assert MARKETING in await bench.ready()
    assert not task.done()
    await stop(task)


async def test_what_the_first_list_shows_is_not_expected_of_a_watch_that_has_not_begun(bench: Bench) -> None:
    bench.kube.bodies["AccessGrant"] = [grant("g", version=90)]
    await bench.sync.prime()
    bench.clock.elapsed = 500
    assert bench.sync.canary.lost == ()


def test_the_canary_waits_for_the_version_that_was_missed() -> None:
    clock = ManualClock()
    canary = WatchCanary(clock)
    canary.missed("AccessGrant", 90)
    canary.heard("AccessGrant", "80")
    canary.heard("UserMapping", "95")
    clock.elapsed = 121
    assert list(canary.lost) == ["AccessGrant"]
    canary.heard("AccessGrant", "91")
    assert list(canary.lost) == []


# -- Secrets -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def secrets(bench: Bench) -> SecretWatch:
    bench.catalog.upsert("LakebaseConnection", connection())
    bench.catalog.take_dirty(MARKETING)
    return SecretWatch(bench.catalog, bench.feed, bench.clock, interval=30)


KEY = ("team", "marketing-login")


async def test_a_secret_that_nobody_has_read_yet_is_no_news(bench: Bench, secrets: SecretWatch) -> None:
    secrets.seen(*KEY, "5")
    assert await bench.ready() == []


async def test_a_secret_that_differs_from_what_was_read_brings_a_full_pass_once(
    bench: Bench, secrets: SecretWatch
) -> None:
    secrets.read(*KEY, "5")
    for version in ("5", "4", "6", "6"):
        secrets.seen(*KEY, version)
    assert await bench.ready() == [MARKETING]
    assert bench.catalog.take_dirty(MARKETING).full
    secrets.seen(*KEY, "6")
    assert await bench.ready() == []


@pytest.mark.parametrize(("before", "after"), [(None, "5"), ("5", None)])
async def test_a_secret_that_appears_or_goes_is_news(
    bench: Bench, secrets: SecretWatch, before: str | None, after: str | None
) -> None:
    secrets.read(*KEY, before)
    secrets.seen(*KEY, after)
    assert await bench.ready() == [MARKETING]


async def test_a_change_that_one_reader_finds_is_news_to_all_that_use_the_secret(
    bench: Bench, secrets: SecretWatch
) -> None:
    secrets.read(*KEY, "5")
    secrets.read(*KEY, "6")  # such as for a LakebaseInstance, which is looked at more often
    bench.kube.secrets[KEY] = "6"
    await secrets.look(bench.kube)
    assert await bench.ready() == [MARKETING]
    assert bench.catalog.take_dirty(MARKETING).full
    secrets.read(*KEY, "6")
    assert await bench.ready() == []


async def test_a_secret_that_the_operator_writes_itself_is_no_news(
    bench: Bench, secrets: SecretWatch
) -> None:
    secrets.read(*KEY, None)
    secrets.written(*KEY, "5")
    secrets.seen(*KEY, "5")
    assert await bench.ready() == []


@pytest.mark.requirement("R-68")
async def test_secrets_are_looked_at_within_a_minute_and_a_failing_one_does_not_hide_the_others(
    bench: Bench, secrets: SecretWatch
) -> None:
    bench.catalog.upsert("LakebaseConnection", connection("research"))
    secrets.read(*KEY, "5")
    secrets.read("team", "research-login", "5")
    bench.kube.secrets = {KEY: KubeError(0, "no answer"), ("team", "research-login"): "6"}
    task = asyncio.create_task(secrets.run(bench.kube))
    await bench.clock.advance(60)
    assert await bench.ready() == [ConnectionKey("team", "research")]
    bench.kube.secrets[KEY] = "7"
    await bench.clock.advance(30)
    assert await bench.ready() == [MARKETING]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_secret_that_is_not_referred_to_any_more_is_forgotten(
    bench: Bench, secrets: SecretWatch
) -> None:
    secrets.read(*KEY, "5")
    bench.catalog.remove("LakebaseConnection", "team", "marketing")
    bench.kube.secrets[KEY] = "5"
    await secrets.look(bench.kube)
    bench.catalog.upsert("LakebaseConnection", changed(connection(), 9, meta={"uid": "new"}))
    bench.kube.secrets[KEY] = "6"
    await secrets.look(bench.kube)
    assert await bench.ready() == []
