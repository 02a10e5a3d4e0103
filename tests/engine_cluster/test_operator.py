"""The whole operator around the passes: real API server, real Kopf, passes that only take notes."""

import asyncio
import functools
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

import aiohttp
import pytest

from lakebase_operator.api import Reason
from lakebase_operator.api.base import FINALIZER
from lakebase_operator.domain.status import Verdict, verdict
from lakebase_operator.engine.catalog import key_of
from lakebase_operator.engine.keys import ConnectionKey, ObjectKey
from lakebase_operator.external.kube.client import MERGE_PATCH
from lakebase_operator.external.kube.leader import LeadershipLostError
from lakebase_operator.external.kube.objects import PLURALS, ObjectEvent
from lakebase_operator.external.kube.status_writer import StatusUpdate
from lakebase_operator.reconcilers.services import Services
from lakebase_operator.runtime import handlers
from lakebase_operator.runtime.sync import Synchroniser, WatchLostError
from lakebase_sandbox.cluster.kubeconfig import Endpoint, read_endpoint, write_kubeconfig
from tests.engine_cluster.harness import Body, Cluster, Notes, eventually, running, settings
from tests.engine_cluster.proxy import Proxy

GRANT = "AccessGrant"
CONNECTION = "LakebaseConnection"


# -- from events to passes ---------------------------------------------------------------------------------------------


async def test_the_first_pass_sees_everything_that_is_there(there: Cluster, kubeconfig: Path) -> None:
    await there.create_many([there.grant(f"g{number}") for number in range(30)])
    await there.create(there.connection())
    notes = Notes()
    async with running(settings(kubeconfig, there.namespace), notes):
        await eventually(lambda: bool(notes.passes), "a pass")
    first = notes.passes[0]
    assert (first.key, first.connection, len(first.grants)) == (there.key(), True, 30)
    assert first.dirty.full
    assert notes.closed


async def test_a_change_of_any_object_brings_a_pass_that_knows_what_changed(
    there: Cluster, kubeconfig: Path
) -> None:
    await there.create(there.connection())
    notes = Notes()
    async with running(settings(kubeconfig, there.namespace), notes):
        await eventually(lambda: bool(notes.passes), "the first pass")
        await there.create(there.grant("g"))
        await eventually(notes.saw(there.key(), "g"), "a pass that sees the new grant")
        assert {str(one) for one in notes.passes[-1].dirty.objects} == {f"AccessGrant {there.namespace}/g"}
        assert not notes.passes[-1].dirty.full
        await there.delete(GRANT, "g")
        await eventually(notes.saw(there.key()), "a pass that does not see it any more")
        count = len(notes.passes)
        await there.patch(
            CONNECTION, "marketing", {"metadata": {"annotations": {"lakebase.dev/sync-now": "1"}}}
        )
        await eventually(lambda: len(notes.passes) > count, "a pass because it was asked for")
        assert notes.passes[-1].dirty.full


async def test_five_hundred_objects_at_once_bring_few_passes(there: Cluster, kubeconfig: Path) -> None:
    await there.create(there.connection())
    notes = Notes()
    configured = settings(kubeconfig, there.namespace, debounce_seconds=0.5)
    async with running(configured, notes):
        await eventually(lambda: bool(notes.passes), "the first pass")
        started = time.monotonic()
        names = [f"g{number}" for number in range(500)]
        await there.create_many([there.grant(name) for name in names])
        await eventually(notes.saw(there.key(), *names), "a pass that sees all", deadline=60)
        took = time.monotonic() - started
        # No more than one for each half second that the creation itself took.
        assert len(notes.passes) <= took / 0.5 + 2


async def test_every_connection_is_worked_on_by_itself(there: Cluster, kubeconfig: Path) -> None:
    stuck = asyncio.Event()

    async def marketing_hangs(_: Services, key: ConnectionKey) -> None:
        if key.name == "marketing":
            await stuck.wait()

    notes = Notes(act=marketing_hangs)
    await there.create(there.connection("marketing"))
    await there.create(there.connection("research"))
    async with running(settings(kubeconfig, there.namespace, workers=2), notes):
        for number in range(3):
            await there.create(there.grant(f"r{number}", "research"))
            await eventually(
                notes.saw(there.key("research"), *(f"r{n}" for n in range(number + 1))), "research"
            )
        assert len(notes.of(there.key("marketing"))) == 1
        stuck.set()


async def test_a_restart_finds_what_changed_meanwhile(there: Cluster, kubeconfig: Path) -> None:
    await there.create(there.connection())
    await there.create(there.grant("old"))
    configured = settings(kubeconfig, there.namespace)
    before = Notes()
    async with running(configured, before):
        await eventually(before.saw(there.key(), "old"), "the first life")
    await there.delete(GRANT, "old")
    await there.create(there.grant("new"))
    after = Notes()
    async with running(configured, after):
        await eventually(after.saw(there.key(), "new"), "the second life")
        assert after.passes[0].grants == ("new",)
        assert after.passes[0].dirty.full


async def test_declarations_for_a_connection_that_does_not_exist_get_a_pass_too(
    there: Cluster, kubeconfig: Path
) -> None:
    notes = Notes()
    async with running(settings(kubeconfig, there.namespace), notes):
        await there.create(there.grant("g", "nowhere"))
        await eventually(notes.saw(there.key("nowhere"), "g"), "a pass without a connection")
        assert not notes.passes[-1].connection
        await there.create(there.connection("nowhere"))
        await eventually(lambda: notes.of(there.key("nowhere"))[-1].connection, "a pass with it")


# -- own writes --------------------------------------------------------------------------------------------------------


async def test_own_writes_bring_no_pass(there: Cluster, kubeconfig: Path) -> None:
    """Finalizers and statuses come back as events; they are known already."""

    async def report(services: Services, key: ConnectionKey) -> None:
        grants = services.catalog.grants(key)
        await services.kube.add_finalizers((GRANT, one.metadata) for one in grants)
        status = {"conditions": verdict(Verdict.READY, Reason.SUCCEEDED)}
        fresh = services.catalog.grants(key)
        await services.status_writer.write_many(StatusUpdate(GRANT, one.metadata, status) for one in fresh)

    await there.create(there.connection())
    await there.create_many([there.grant(f"g{number}") for number in range(20)])
    notes = Notes(act=report)
    async with running(settings(kubeconfig, there.namespace), notes) as operator:
        await eventually(lambda: operator.catalog.readiness().get((GRANT, "True")) == 20, "the statuses")
        # The watch keeps the order: when it has brought this one, it has brought all echoes.
        await there.create(there.grant("last", "research"))
        await eventually(lambda: bool(notes.of(there.key("research"))), "what comes after the echoes")
        assert len(notes.of(there.key())) == 1
        for number in range(20):
            body = await there.get(GRANT, f"g{number}") or {}
            assert body["metadata"]["finalizers"] == [FINALIZER]
            assert body["status"]["conditions"][0]["status"] == "True"

    for one in operator.catalog.grants(there.key()) + operator.catalog.grants(there.key("research")):
        await there.patch(GRANT, one.metadata.name, {"metadata": {"finalizers": None}})


async def test_an_object_that_is_let_go_wakes_its_connection(there: Cluster, kubeconfig: Path) -> None:
    """A connection that is being deleted waits for its grants."""

    async def let_go(services: Services, key: ConnectionKey) -> None:
        for one in services.catalog.grants(key):
            if one.metadata.deletion_timestamp:
                await services.kube.remove_finalizer(GRANT, one.metadata)

    await there.create(there.connection())
    await there.create(there.grant("g", meta={"name": "g", "finalizers": [FINALIZER]}))
    notes = Notes(act=let_go)
    async with running(settings(kubeconfig, there.namespace), notes):
        await eventually(notes.saw(there.key(), "g"), "the grant")
        await there.delete(GRANT, "g")
        await eventually(notes.saw(there.key()), "a pass without it")
        assert await there.get(GRANT, "g") is None


async def test_an_edit_that_meets_an_own_write_is_not_lost(there: Cluster, kubeconfig: Path) -> None:
    generations: list[int] = []

    async def report(services: Services, key: ConnectionKey) -> None:
        for one in services.catalog.grants(key):
            generations.append(one.metadata.generation)
            if one.metadata.generation == 1:
                await there.patch(GRANT, "g", {"spec": {"suspend": True}})
            status = {"conditions": verdict(Verdict.READY, Reason.SUCCEEDED)}
            await services.status_writer.write(StatusUpdate(GRANT, one.metadata, status))

    await there.create(there.connection())
    await there.create(there.grant("g"))
    async with running(settings(kubeconfig, there.namespace), Notes(act=report)) as operator:
        await eventually(lambda: generations[-1:] == [2], "a pass over the edited grant")

        def acknowledged() -> bool:
            (grant,) = operator.catalog.grants(there.key())
            return operator.catalog.status(key_of(grant)).get("observedGeneration") == 2

        await eventually(acknowledged, "the status of the edited grant")


# -- secrets -----------------------------------------------------------------------------------------------------------


async def read_secrets(services: Services, key: ConnectionKey) -> None:
    for namespace, name in services.catalog.secrets_used(key):
        await services.kube.read_secret(namespace, name)


@pytest.mark.requirement("R-68")
async def test_a_labelled_secret_that_changes_brings_a_full_pass_at_once(
    there: Cluster, kubeconfig: Path
) -> None:
    label = {"lakebase.dev/watched": "true"}
    await there.put_secret("marketing-login", {"password": "old"}, label)
    await there.create(there.connection())
    notes = Notes(act=read_secrets)
    async with running(settings(kubeconfig, there.namespace, secret_poll_seconds=3600), notes):
        await eventually(lambda: notes.ended == 1, "the first pass")
        await there.put_secret("marketing-login", {"password": "new"}, label)
        await eventually(lambda: notes.ended == 2, "a pass with the new Secret")
        assert notes.passes[-1].dirty.full


@pytest.mark.requirement("R-68")
async def test_an_unlabelled_secret_that_appears_and_changes_is_noticed_by_looking(
    there: Cluster, kubeconfig: Path
) -> None:
    await there.create(there.connection())
    notes = Notes(act=read_secrets)
    configured = settings(kubeconfig, there.namespace, secret_poll_seconds=0.2, watch_secrets=False)
    async with running(configured, notes):
        await eventually(lambda: notes.ended == 1, "the first pass, without the Secret")
        await there.put_secret("marketing-login", {"password": "first"})
        await eventually(lambda: notes.ended == 2, "a pass with the Secret")
        await there.put_secret("marketing-login", {"password": "second"})
        await eventually(lambda: notes.ended == 3, "a pass with the changed Secret")
        await there.put_secret("other", {"password": "of nobody"})
        await asyncio.sleep(0.6)  # three more looks
        assert len(notes.passes) == 3


# -- a network that fails ----------------------------------------------------------------------------------------------


def through(proxy: Proxy, kubeconfig: Path, directory: Path) -> Path:
    """A kubeconfig for the API server behind ``proxy``, as the administrator."""
    behind = directory / "through-proxy"
    server = read_endpoint(kubeconfig).server
    behind.write_text(kubeconfig.read_text().replace(server, f"https://127.0.0.1:{proxy.port}"))
    return behind


def proxy_to(kubeconfig: Path) -> Proxy:
    host, _, port = read_endpoint(kubeconfig).server.removeprefix("https://").rpartition(":")
    return Proxy(host, int(port))


async def test_a_watch_that_is_cut_goes_on_and_misses_nothing(
    there: Cluster, kubeconfig: Path, tmp_path: Path
) -> None:
    await there.create(there.connection())
    notes = Notes()
    async with proxy_to(kubeconfig) as proxy:
        configured = settings(through(proxy, kubeconfig, tmp_path), there.namespace)
        async with running(configured, notes):
            await there.create(there.grant("g"))
            await eventually(notes.saw(there.key(), "g"), "what the watch brings")
            for number in range(3):
                proxy.refusing = True
                proxy.cut()
                await there.create(there.grant(f"g{number}"))
                proxy.refusing = False
                names = ["g", *(f"g{n}" for n in range(number + 1))]
                await eventually(notes.saw(there.key(), *names), f"what was made during cut {number}")
            proxy.refusing = True
            proxy.cut()
            await there.delete(GRANT, "g1")
            proxy.refusing = False
            await eventually(notes.saw(there.key(), "g", "g0", "g2"), "what was deleted during a cut")


async def test_what_happens_before_the_watches_begin_is_seen_without_another_list(
    there: Cluster, kubeconfig: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await there.create(there.connection())
    await there.create_many([there.grant(name) for name in ("stays", "goes")])
    watch = handlers.watch

    async def late(*arguments: Any) -> NoReturn:
        await there.delete(GRANT, "goes")
        await there.create(there.grant("new"))
        await watch(*arguments)

    monkeypatch.setattr(handlers, "watch", late)
    notes = Notes()
    async with running(settings(kubeconfig, there.namespace), notes) as operator:
        await eventually(notes.saw(there.key(), "stays", "new"), "what happened in between")
        assert notes.passes[0].grants == ("goes", "stays")
        text = operator.metrics.exposition().decode()
        listed = r'external_request_duration_seconds_count{operation="list accessgrants",.*} (.*)'
        assert re.findall(listed, text) == ["1.0"]


async def test_a_watch_whose_beginning_is_too_old_begins_anew_and_a_list_finds_what_went_in_between(
    there: Cluster, kubeconfig: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await there.create(there.connection())
    await there.create_many([there.grant(name) for name in ("stays", "goes")])
    begins, began = Synchroniser.begins, list[str]()

    def too_old(synchroniser: Synchroniser, kind: str, namespace: str | None, version: str) -> str:
        begun = begins(synchroniser, kind, namespace, version)
        if kind == GRANT:
            began.append(begun)
        return begun if kind != GRANT or len(began) > 1 else "1"

    monkeypatch.setattr(Synchroniser, "begins", too_old)
    watch = handlers.watch

    async def late(*arguments: Any) -> NoReturn:
        await there.delete(GRANT, "goes")
        await watch(*arguments)

    monkeypatch.setattr(handlers, "watch", late)
    notes = Notes()
    async with running(settings(kubeconfig, there.namespace), notes):
        await eventually(notes.saw(there.key(), "stays"), "what went before the watch began anew")
        assert len(began) == 2
        await there.create(there.grant("new"))
        await eventually(notes.saw(there.key(), "stays", "new"), "what the watch brings")


async def test_what_a_silent_watch_does_not_say_is_found_by_a_list(
    there: Cluster, kubeconfig: Path, tmp_path: Path
) -> None:
    await there.create(there.connection())
    await there.create_many([there.grant(name) for name in ("stays", "goes", "edited")])
    notes = Notes()
    async with proxy_to(kubeconfig) as proxy:
        configured = settings(
            through(proxy, kubeconfig, tmp_path),
            there.namespace,
            resync_seconds=1,
            kubernetes_timeout_seconds=2,
        )
        async with running(configured, notes):
            await eventually(notes.saw(there.key(), "stays", "goes", "edited"), "the first pass")
            await there.create(there.grant("new"))
            await eventually(notes.saw(there.key(), "stays", "goes", "edited", "new"), "what is new")
            proxy.freeze()
            await there.delete(GRANT, "goes")
            await there.patch(GRANT, "edited", {"spec": {"suspend": True}})
            await eventually(notes.saw(there.key(), "stays", "edited", "new"), "what the watch did not say")
            told = {one.name for one in notes.passes[-1].dirty.objects}
            assert told & {"goes", "edited"}


async def test_an_operator_whose_credentials_are_revoked_ends(
    there: Cluster, kubeconfig: Path, tmp_path: Path
) -> None:
    """It cannot mend that; started anew, it reads fresh ones."""
    accounts = f"/api/v1/namespaces/{there.namespace}/serviceaccounts"
    bindings = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{there.namespace}/rolebindings"
    await there.send("POST", accounts, {"metadata": {"name": "operator"}})
    token = await there.send("POST", f"{accounts}/operator/token", {"spec": {"expirationSeconds": 600}})
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}
    subject = {"kind": "ServiceAccount", "name": "operator", "namespace": there.namespace}
    await there.send("POST", bindings, {"metadata": {"name": "x"}, "roleRef": role, "subjects": [subject]})

    async def revoked() -> None:
        async with proxy_to(kubeconfig) as proxy:
            own = tmp_path / "own"
            endpoint = Endpoint(f"https://127.0.0.1:{proxy.port}", read_endpoint(kubeconfig).ca)
            write_kubeconfig(own, endpoint, user="operator", token=token["status"]["token"])
            async with running(settings(own, there.namespace), Notes()) as operator:
                await eventually(lambda: proxy.accepted >= 5, "the watches")
                await there.send("DELETE", f"{accounts}/operator")
                end = time.monotonic() + 60
                while operator.primed.is_set() and time.monotonic() < end:
                    proxy.cut()  # a request that goes on is not asked for its token again
                    await asyncio.sleep(0.2)

    with pytest.raises(WatchLostError):
        await revoked()


async def test_an_operator_that_starts_without_an_api_server_waits_for_it(
    there: Cluster, kubeconfig: Path, tmp_path: Path
) -> None:
    await there.create(there.connection())
    notes = Notes()
    async with proxy_to(kubeconfig) as proxy:
        proxy.refusing = True
        configured = settings(through(proxy, kubeconfig, tmp_path), there.namespace)
        async with running(configured, notes, primed=False) as operator:
            await eventually(lambda: operator.probes.port > 0, "the probes")
            assert await probe(operator.probes.port, "readyz") == 503
            assert await probe(operator.probes.port, "healthz") == 200
            assert notes.passes == []
            proxy.refusing = False
            await eventually(lambda: bool(notes.passes), "a pass")
            assert await probe(operator.probes.port, "readyz") == 200


# -- leadership --------------------------------------------------------------------------------------------------------

QUICK = {
    "leader_election": True,
    "lease_duration_seconds": 15,
    "lease_renew_deadline_seconds": 3,
    "lease_retry_seconds": 1,
}


async def test_of_two_operators_one_acts_and_the_other_takes_over_when_it_ends(
    there: Cluster, kubeconfig: Path
) -> None:
    await there.create(there.connection())
    configured = settings(kubeconfig, there.namespace, **QUICK)
    first, second = Notes(), Notes()
    async with running(configured, first) as leader:
        await eventually(lambda: bool(first.passes), "the leader's pass")
        waiting = running(configured, second, primed=False)
        follower = await waiting.__aenter__()
        await eventually(lambda: follower.probes.port > 0, "the follower's probes")
        assert await probe(follower.probes.port, "readyz") == 200
        await there.create(there.grant("g"))
        await eventually(first.saw(there.key(), "g"), "the leader's pass over the grant")
        assert second.passes == []
        assert b"lakebase_operator_leader 1.0" in leader.metrics.exposition()
        assert b"lakebase_operator_leader 0.0" in follower.metrics.exposition()
    ended = time.monotonic()
    await eventually(second.saw(there.key(), "g"), "the follower's pass")
    assert time.monotonic() - ended < QUICK["lease_duration_seconds"] - 3, "the Lease was not given back"
    await waiting.__aexit__(None, None, None)


async def test_an_operator_that_loses_its_lease_ends_at_once(there: Cluster, kubeconfig: Path) -> None:
    cut = asyncio.Event()

    async def hangs(_: Services, key: ConnectionKey) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cut.set()
            raise

    await there.create(there.connection())
    notes = Notes(act=hangs)
    configured = settings(kubeconfig, there.namespace, **QUICK, shutdown_grace_seconds=30)
    lease = f"/apis/coordination.k8s.io/v1/namespaces/{there.namespace}/leases/lakebase-operator"

    async def robbed() -> None:
        async with running(configured, notes):
            await eventually(lambda: bool(notes.passes), "a pass")
            theft = {"spec": {"holderIdentity": "somebody-else"}}
            await there.client.request(
                "PATCH", lease, operation="steal", body=theft, content_type=MERGE_PATCH
            )
            await asyncio.wait_for(cut.wait(), 60)

    with pytest.raises(LeadershipLostError, match="somebody-else"):
        await robbed()


async def test_the_lease_is_renewed_while_all_connections_for_the_work_are_busy(
    there: Cluster, kubeconfig: Path
) -> None:
    seconds = 2 * QUICK["lease_duration_seconds"]
    watch = f"/apis/lakebase.dev/v1alpha1/namespaces/{there.namespace}/lakebaseconnections"

    async def occupies_them_all(services: Services, _: ConnectionKey) -> None:
        query = {"watch": "1", "timeoutSeconds": str(seconds)}
        request = services.kube._client.request
        asked = (request("GET", watch, query=query, operation="wait") for _ in range(50))
        await asyncio.gather(*asked, return_exceptions=True)

    await there.create(there.connection())
    notes = Notes(act=occupies_them_all)
    configured = settings(kubeconfig, there.namespace, **QUICK, status_writes=1, kubernetes_timeout_seconds=6)
    async with running(configured, notes) as operator:
        await eventually(lambda: bool(notes.ended), "the end of the pass")
        assert operator.primed.is_set(), "it gave up because of its Lease"


@pytest.mark.parametrize("fault", ["freeze", "refuse"])
async def test_an_operator_that_cannot_renew_its_lease_ends_before_another_takes_over(
    there: Cluster, kubeconfig: Path, tmp_path: Path, fault: str
) -> None:
    async def cut_off() -> None:
        async with proxy_to(kubeconfig) as proxy:
            configured = settings(through(proxy, kubeconfig, tmp_path), there.namespace, **QUICK)
            async with running(configured, Notes()) as operator:
                proxy.refusing = True
                if fault == "freeze":
                    proxy.freeze()
                else:
                    proxy.cut()
                started = time.monotonic()
                await eventually(lambda: not operator.primed.is_set(), "its end")
                assert time.monotonic() - started < QUICK["lease_duration_seconds"]

    with pytest.raises(LeadershipLostError):
        await cut_off()


# -- probes, rights, ending --------------------------------------------------------------------------------------------


async def probe(port: int, path: str) -> int:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/{path}") as answer:
        await answer.read()
        return answer.status


async def test_probes_and_metrics_tell_how_it_goes(there: Cluster, kubeconfig: Path) -> None:
    await there.create(there.connection())
    await there.create(there.grant("g"))
    notes = Notes()
    async with running(settings(kubeconfig, there.namespace), notes) as operator:
        await eventually(lambda: bool(notes.passes), "a pass")
        port = operator.probes.port
        assert (await probe(port, "healthz"), await probe(port, "readyz"), await probe(port, "metrics")) == (
            200,
        ) * 3
        text = operator.metrics.exposition().decode()
        assert 'lakebase_operator_passes_total{result="Success"} 1.0' in text
        assert 'lakebase_operator_objects{kind="AccessGrant",ready="Unknown"} 1.0' in text
        assert 'system="kubernetes"' in text
        assert "lakebase_operator_queue_depth 0.0" in text


RULES: list[Body] = [
    {
        "apiGroups": ["lakebase.dev"],
        "resources": list(PLURALS.values()),
        "verbs": ["get", "list", "watch", "patch"],
    },
    {
        "apiGroups": ["lakebase.dev"],
        "resources": [f"{one}/status" for one in PLURALS.values()],
        "verbs": ["patch"],
    },
    {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "list", "watch"]},
    {"apiGroups": [""], "resources": ["namespaces"], "verbs": ["get"]},
    {"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["create"]},
]
LEASE_RULES: list[Body] = [
    {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create"]},
    {
        "apiGroups": ["coordination.k8s.io"],
        "resources": ["leases"],
        "resourceNames": ["lakebase-operator"],
        "verbs": ["get", "update", "patch"],
    },
]


async def test_the_operator_needs_no_more_rights_than_these(
    there: Cluster, kubeconfig: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """All namespaces, the Lease, Secrets by label and by name, statuses, finalizers, Events."""
    rbac = "/apis/rbac.authorization.k8s.io/v1"
    accounts = f"/api/v1/namespaces/{there.namespace}/serviceaccounts"
    subject = {"kind": "ServiceAccount", "name": "operator", "namespace": there.namespace}
    own = f"{rbac}/namespaces/{there.namespace}"
    await there.send("POST", accounts, {"metadata": {"name": "operator"}})
    await there.send("POST", f"{rbac}/clusterroles", {"metadata": {"name": there.namespace}, "rules": RULES})
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": there.namespace}
    body = {"metadata": {"name": there.namespace}, "roleRef": role, "subjects": [subject]}
    await there.send("POST", f"{rbac}/clusterrolebindings", body)
    await there.send("POST", f"{own}/roles", {"metadata": {"name": "lease"}, "rules": LEASE_RULES})
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "lease"}
    body = {"metadata": {"name": "lease"}, "roleRef": role, "subjects": [subject]}
    await there.send("POST", f"{own}/rolebindings", body)
    token = await there.send("POST", f"{accounts}/operator/token", {"spec": {"expirationSeconds": 600}})
    restricted = tmp_path / "restricted"
    write_kubeconfig(restricted, read_endpoint(kubeconfig), user="operator", token=token["status"]["token"])

    async def everything(services: Services, key: ConnectionKey) -> None:
        if key.namespace != there.namespace:
            return  # left behind by another test
        await read_secrets(services, key)
        await services.kube.namespace_labels(key.namespace)
        grants = services.catalog.grants(key)
        await services.kube.add_finalizers((GRANT, one.metadata) for one in grants)
        status = {"conditions": verdict(Verdict.READY, Reason.SUCCEEDED)}
        for one in services.catalog.grants(key):
            event = ObjectEvent("Normal", Reason.SUCCEEDED, "done")
            await services.status_writer.write(StatusUpdate(GRANT, one.metadata, status, (event,)))
            await services.kube.remove_finalizer(GRANT, one.metadata)

    await there.put_secret("marketing-login", {"password": "old"}, {"lakebase.dev/watched": "true"})
    await there.create(there.connection())
    await there.create(there.grant("g"))
    notes = Notes(act=everything)
    configured = settings(restricted, there.namespace, **QUICK, watch_namespaces=())
    try:
        async with running(configured, notes) as operator:
            status = functools.partial(operator.catalog.status, ObjectKey(GRANT, there.namespace, "g"))
            await eventually(lambda: bool(status().get("conditions")), "the status")
            await there.put_secret("marketing-login", {"password": "new"}, {"lakebase.dev/watched": "true"})
            await eventually(lambda: len(notes.of(there.key())) == 2, "a pass because of the Secret")
        assert len(await there.events("g")) == 1
        assert "orbidden" not in caplog.text
        assert "403" not in caplog.text
    finally:
        await there.send("DELETE", f"{rbac}/clusterrolebindings/{there.namespace}")
        await there.send("DELETE", f"{rbac}/clusterroles/{there.namespace}")


PROGRAM = """
import asyncio, sys
from lakebase_operator.runtime.app import run_operator
from lakebase_operator.runtime import logs
from lakebase_operator.engine.runner import Outcome
from lakebase_operator.settings import Settings

class Slow:
    async def reconcile(self, key, dirty):
        print("PASS", flush=True)
        await asyncio.sleep(float(sys.argv[1]))
        print("ENDED", flush=True)
        return Outcome()

    async def aclose(self):
        print("CLOSED", flush=True)

async def main():
    settings = Settings()
    logs.configure(settings.log_format, settings.log_level, logs.Redactor())
    await run_operator(settings, asyncio.Event(), build_reconciler=lambda _: Slow(), handle_signals=True)

asyncio.run(main())
"""


@pytest.mark.parametrize(("length", "ends"), [("1", True), ("600", False)])
async def test_the_process_ends_cleanly_on_sigterm(
    there: Cluster, kubeconfig: Path, length: str, ends: bool
) -> None:
    """A running pass may end; one that takes too long is cut off."""
    await there.create(there.connection())
    environment = {
        "PYTHONPATH": ":".join(sys.path),
        "KUBECONFIG": str(kubeconfig),
        "LAKEBASE_OPERATOR_NAMESPACE": there.namespace,
        "LAKEBASE_OPERATOR_WATCH_NAMESPACES": there.namespace,
        "LAKEBASE_OPERATOR_BIND_ADDRESS": "127.0.0.1",
        "LAKEBASE_OPERATOR_PROBE_PORT": "0",
        "LAKEBASE_OPERATOR_METRICS_PORT": "0",
        "LAKEBASE_OPERATOR_SHUTDOWN_GRACE_SECONDS": "2",
    }
    program = [sys.executable, "-c", PROGRAM, length]
    # No asyncio subprocess: its pipes may still be closing when the test's event loop is closed already.
    process = await asyncio.to_thread(
        subprocess.Popen, program, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    with process:
        assert process.stdout is not None
        try:
            assert await asyncio.wait_for(asyncio.to_thread(process.stdout.readline), 60) == b"PASS\n"
            await asyncio.sleep(0.3)
            asked = time.monotonic()
            process.send_signal(signal.SIGTERM)
            out, log = await asyncio.to_thread(process.communicate, timeout=60)
        finally:
            if process.returncode is None:
                process.kill()
    assert process.returncode == 0, log.decode()
    assert (b"ENDED" in out) is ends
    assert out.endswith(b"CLOSED\n")
    assert time.monotonic() - asked < 10
    for line in log.decode().splitlines():
        json.loads(line)
