"""Requests to the real API server."""

import asyncio
import logging
import shutil
from pathlib import Path

import pytest
from kubernetes.aio.config import incluster_config

from lakebase_operator.api import Reason
from lakebase_operator.api.base import FINALIZER, ObjectMeta
from lakebase_operator.domain.errors import InvalidError, TransientError
from lakebase_operator.domain.status import Verdict, condition, verdict
from lakebase_operator.engine.catalog import Catalog
from lakebase_operator.engine.clock import SystemClock
from lakebase_operator.engine.keys import ObjectKey
from lakebase_operator.external.kube import objects as objects_module
from lakebase_operator.external.kube.client import KubeClient
from lakebase_operator.external.kube.errors import Forbidden, Gone, KubeError
from lakebase_operator.external.kube.objects import KubeObjects, ObjectEvent
from lakebase_operator.external.kube.status_writer import StatusUpdate, StatusWriter
from lakebase_sandbox.cluster.kubeconfig import read_endpoint, write_kubeconfig
from tests.engine_cluster.harness import Body, Cluster

GRANT = "AccessGrant"


def meta(body: Body) -> ObjectMeta:
    return ObjectMeta.model_validate(body["metadata"])


@pytest.fixture
def kube(there: Cluster) -> KubeObjects:
    return KubeObjects(there.client)


async def test_a_list_comes_in_pages_of_one_moment_without_managed_fields(
    there: Cluster, kube: KubeObjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects_module, "CHUNK", 10)
    await there.create_many([there.grant(f"g{number}") for number in range(25)])
    pages = [page async for page in kube.pages(GRANT, there.namespace)]
    assert [len(page.bodies) for page in pages] == [10, 10, 5]
    assert len({page.version for page in pages}) == 1
    assert not any("managedFields" in body["metadata"] for page in pages for body in page.bodies)


async def test_a_status_is_replaced_as_a_whole(there: Cluster, kube: KubeObjects) -> None:
    body = await there.create(there.grant("g"))
    await kube.replace_status(
        GRANT, meta(body), {"observedGeneration": 1, "objects": 7, "grants": {"wanted": 1, "held": 1}}
    )
    written = await kube.replace_status(
        GRANT, meta(body), {"observedGeneration": 1, "grants": {"wanted": 2, "held": 0}}
    )
    assert written is not None
    assert written["status"] == {"observedGeneration": 1, "grants": {"wanted": 2, "held": 0}}
    assert (await there.get(GRANT, "g") or {})["status"] == written["status"]


async def test_the_status_of_an_object_that_is_gone_is_dropped(there: Cluster, kube: KubeObjects) -> None:
    body = await there.create(there.grant("g"))
    await there.delete(GRANT, "g")
    assert await kube.replace_status(GRANT, meta(body), {"observedGeneration": 1}) is None


async def test_the_status_of_an_object_does_not_land_on_its_successor(
    there: Cluster, kube: KubeObjects
) -> None:
    old = await there.create(there.grant("g"))
    await there.delete(GRANT, "g")
    new = await there.create(there.grant("g"))
    assert await kube.replace_status(GRANT, meta(old), {"observedGeneration": 1, "objects": 7}) is None
    assert "objects" not in (await there.get(GRANT, "g") or {})["status"]
    assert new["metadata"]["uid"] != old["metadata"]["uid"]


async def test_a_status_that_the_schema_refuses_is_an_error(there: Cluster, kube: KubeObjects) -> None:
    body = await there.create(there.grant("g"))
    with pytest.raises(KubeError, match="objects"):
        await kube.replace_status(GRANT, meta(body), {"observedGeneration": 1, "objects": "many"})


async def test_a_finalizer_is_added_beside_others_and_removed_alone(there: Cluster) -> None:
    written: list[Body] = []
    kube = KubeObjects(there.client, on_write=lambda _kind, body: written.append(body))
    body = await there.create(there.grant("g", meta={"name": "g", "finalizers": ["example.com/other"]}))
    assert await kube.add_finalizer(GRANT, meta(body))
    assert written[-1]["metadata"]["finalizers"] == ["example.com/other", FINALIZER]
    assert await kube.remove_finalizer(GRANT, meta(written[-1]))
    assert written[-1]["metadata"]["finalizers"] == ["example.com/other"]
    await there.patch(GRANT, "g", {"metadata": {"finalizers": None}})


async def test_a_finalizer_that_is_there_needs_no_request(there: Cluster) -> None:
    written: list[Body] = []
    kube = KubeObjects(there.client, on_write=lambda _kind, body: written.append(body))
    body = await there.create(there.grant("g"))
    assert await kube.add_finalizer(GRANT, meta(body))
    assert await kube.add_finalizer(GRANT, meta(written[-1]))
    assert len(written) == 1


async def test_a_finalizer_survives_that_somebody_else_was_faster(there: Cluster, kube: KubeObjects) -> None:
    body = await there.create(there.grant("g"))
    await there.patch(GRANT, "g", {"metadata": {"finalizers": ["example.com/faster"]}})
    assert await kube.add_finalizer(GRANT, meta(body))
    now = await there.get(GRANT, "g") or {}
    assert now["metadata"]["finalizers"] == ["example.com/faster", FINALIZER]
    await there.patch(GRANT, "g", {"metadata": {"finalizers": None}})


async def test_an_object_that_is_being_deleted_takes_no_finalizer(there: Cluster, kube: KubeObjects) -> None:
    body = await there.create(there.grant("g", meta={"name": "g", "finalizers": ["example.com/other"]}))
    await there.delete(GRANT, "g")
    assert not await kube.add_finalizer(GRANT, meta(body))
    await there.patch(GRANT, "g", {"metadata": {"finalizers": None}})


async def test_a_finalizer_of_an_object_that_is_gone_is_no_error(there: Cluster, kube: KubeObjects) -> None:
    body = await there.create(there.grant("g", meta={"name": "g", "finalizers": [FINALIZER]}))
    await there.delete(GRANT, "g")
    held = meta(await there.get(GRANT, "g") or {})
    assert await kube.remove_finalizer(GRANT, held)
    assert await there.get(GRANT, "g") is None
    assert not await kube.remove_finalizer(GRANT, held)
    assert not await kube.add_finalizer(GRANT, meta(body).model_copy(update={"finalizers": []}))


async def test_many_finalizers_are_set_side_by_side(there: Cluster, kube: KubeObjects) -> None:
    bodies = [await there.create(there.grant(f"g{number}")) for number in range(40)]
    await kube.add_finalizers((GRANT, meta(body)) for body in bodies)
    pages = [page async for page in kube.pages(GRANT, there.namespace)]
    assert all(one["metadata"]["finalizers"] == [FINALIZER] for page in pages for one in page.bodies)
    await kube.remove_finalizers((GRANT, meta(one)) for page in pages for one in page.bodies)


async def config_map(there: Cluster, name: str) -> Body | None:
    try:
        return await there.send("GET", f"/api/v1/namespaces/{there.namespace}/configmaps/{name}")
    except Gone:
        return None


async def test_a_config_map_beside_an_object_is_made_kept_and_dropped(
    there: Cluster, kube: KubeObjects
) -> None:
    owner = meta(await there.create(there.grant("g")))
    assert await kube.keep_config_map(GRANT, owner, "tables", {"a": "1", "b": "ä"})
    made = await config_map(there, "tables")
    assert made is not None
    assert made["data"] == {"a": "1", "b": "ä"}
    assert made["metadata"]["ownerReferences"][0]["uid"] == owner.uid
    assert made["metadata"]["labels"] == {"app.kubernetes.io/managed-by": "lakebase-operator"}
    assert await kube.keep_config_map(GRANT, owner, "tables", {"a": "1", "b": "ä"})
    same = await config_map(there, "tables")
    assert same is not None
    assert same["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"], "nothing was written"
    assert await kube.keep_config_map(GRANT, owner, "tables", {"a": "2"})
    assert ((await config_map(there, "tables")) or {})["data"] == {"a": "2"}
    await kube.drop_config_map(owner, "tables")
    assert await config_map(there, "tables") is None
    await kube.drop_config_map(owner, "tables")


async def test_a_config_map_that_is_somebody_elses_is_neither_written_nor_dropped(
    there: Cluster, kube: KubeObjects
) -> None:
    owner = meta(await there.create(there.grant("g")))
    other = meta(await there.create(there.grant("other")))
    path = f"/api/v1/namespaces/{there.namespace}/configmaps"
    await there.send("POST", path, {"metadata": {"name": "orphan"}, "data": {"a": "1"}})
    await kube.keep_config_map(GRANT, other, "others", {"a": "1"})
    for name in ("orphan", "others"):
        before = await config_map(there, name)
        assert not await kube.keep_config_map(GRANT, owner, name, {"a": "2"})
        await kube.drop_config_map(owner, name)
        assert await config_map(there, name) == before


async def test_a_config_map_that_the_api_server_does_not_take_is_an_error(
    there: Cluster, kube: KubeObjects
) -> None:
    owner = meta(await there.create(there.grant("g")))
    await kube.keep_config_map(GRANT, owner, "tables", {"a": "1"})
    with pytest.raises(KubeError, match="Too long"):
        await kube.keep_config_map(GRANT, owner, "tables", {"a": "x" * 1_200_000})


async def test_a_secret_is_decoded_and_does_not_show_its_values(there: Cluster) -> None:
    reads: list[tuple[str, str, str | None]] = []
    kube = KubeObjects(there.client, on_secret_read=lambda *read: reads.append(read))
    body = await there.put_secret("login", {"username": "operator", "password": "geheim-Ä"})
    secret = await kube.read_secret(there.namespace, "login")
    assert secret is not None
    assert secret.values == {"username": b"operator", "password": "geheim-Ä".encode()}
    assert "geheim" not in repr(secret)
    version = body["metadata"]["resourceVersion"]
    assert secret.resource_version == version == await kube.secret_version(there.namespace, "login")
    assert await kube.read_secret(there.namespace, "absent") is None
    assert await kube.secret_version(there.namespace, "absent") is None
    assert reads == [(there.namespace, "login", version), (there.namespace, "absent", None)]


async def test_a_secret_that_may_not_be_read_says_which_right_is_missing(
    there: Cluster, kubeconfig: Path, tmp_path: Path
) -> None:
    account = f"/api/v1/namespaces/{there.namespace}/serviceaccounts"
    await there.send("POST", account, {"metadata": {"name": "nobody"}})
    token = await there.send("POST", f"{account}/nobody/token", {"spec": {"expirationSeconds": 600}})
    own = tmp_path / "kubeconfig"
    write_kubeconfig(own, read_endpoint(kubeconfig), user="nobody", token=token["status"]["token"])
    await there.put_secret("login", {"password": "geheim"})
    async with await KubeClient.connect(str(own)) as client:
        kube = KubeObjects(client)
        with pytest.raises(InvalidError, match="right to get Secrets") as caught:
            await kube.read_secret(there.namespace, "login")
        assert caught.value.reason is Reason.SECRET_NOT_FOUND
        with pytest.raises(Forbidden, match="ServiceAccount"):
            await kube.namespace_labels(there.namespace)


async def test_labels_of_a_namespace_are_read(there: Cluster, kube: KubeObjects) -> None:
    labels = await kube.namespace_labels(there.namespace)
    assert labels is not None
    assert labels["team"] == "data"
    assert await kube.namespace_labels("does-not-exist") is None


async def test_an_event_is_about_its_object(there: Cluster, kube: KubeObjects) -> None:
    name = "a-name-that-is-so-long-that-nothing-would-fit-behind-it-in-an-events-name"
    body = await there.create(there.grant(name))
    await kube.create_event(
        GRANT, meta(body), ObjectEvent("Warning", Reason.ABANDONED, "x" * 2000, action="Delete")
    )
    (event,) = await there.events(name)
    assert len(event["metadata"]["name"]) <= 63
    assert (event["type"], event["reason"], event["action"]) == ("Warning", "Abandoned", "Delete")
    assert event["reportingController"] == "lakebase.dev/operator"
    assert event["regarding"]["uid"] == body["metadata"]["uid"]
    assert len(event["note"]) == 1024


async def test_an_event_that_cannot_be_created_is_logged_and_fails_nothing(
    there: Cluster, kube: KubeObjects, caplog: pytest.LogCaptureFixture
) -> None:
    body = await there.create(there.grant("g"))
    unfit = meta(body).model_copy(update={"uid": "x" * 2_000_000})
    await kube.create_event(GRANT, unfit, ObjectEvent("Normal", Reason.SUCCEEDED, "done"))
    assert "Succeeded is lost" in caplog.text


async def test_an_event_in_a_namespace_that_is_being_deleted_is_no_failure(
    there: Cluster, kube: KubeObjects, caplog: pytest.LogCaptureFixture
) -> None:
    body = await there.create(there.grant("g", finalizers=["example.com/stays"]))
    await there.send("DELETE", f"/api/v1/namespaces/{there.namespace}")
    with caplog.at_level(logging.DEBUG):
        await kube.create_event(GRANT, meta(body), ObjectEvent("Normal", Reason.SUCCEEDED, "done"))
    (said,) = [record for record in caplog.records if "is lost" in record.message]
    assert said.levelno == logging.DEBUG
    await there.patch(GRANT, "g", {"metadata": {"finalizers": None}})


async def test_no_answer_is_a_transient_error_and_is_counted(tmp_path: Path, kubeconfig: Path) -> None:
    endpoint = read_endpoint(kubeconfig)
    nobody = tmp_path / "kubeconfig"
    closed = type(endpoint)("https://127.0.0.1:1", endpoint.ca)
    write_kubeconfig(nobody, closed, user="x", token="x")
    told: list[tuple[str, str]] = []
    async with await KubeClient.connect(
        str(nobody), on_request=lambda op, out, _: told.append((op, out))
    ) as client:
        with pytest.raises(TransientError, match="list accessgrants"):
            async for _ in KubeObjects(client).pages(GRANT):
                pass
    assert told == [("list accessgrants", "Unreachable")]


async def test_a_kind_that_is_not_installed_is_told_apart(there: Cluster) -> None:
    with pytest.raises(Gone):
        await there.client.request("GET", "/apis/lakebase.dev/v1alpha1/unknownkinds", operation="list")


async def test_a_kubeconfig_that_is_rewritten_is_read_again(
    there: Cluster, kubeconfig: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tokens are rotated under a running process."""
    monkeypatch.setattr("lakebase_operator.external.kube.client.RELOAD_SECONDS", 0.0)
    own = tmp_path / "kubeconfig"
    write_kubeconfig(own, read_endpoint(kubeconfig), user="x", token="expired")
    async with await KubeClient.connect(str(own)) as client:
        with pytest.raises(KubeError) as caught:
            await KubeObjects(client).namespace_labels(there.namespace)
        assert caught.value.status == 401
        shutil.copy(kubeconfig, own)
        assert await KubeObjects(client).namespace_labels(there.namespace) is not None


async def test_in_a_pod_the_service_account_is_used(
    there: Cluster, kubeconfig: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    accounts = f"/api/v1/namespaces/{there.namespace}/serviceaccounts"
    await there.send("POST", accounts, {"metadata": {"name": "pod"}})
    token = await there.send("POST", f"{accounts}/pod/token", {"spec": {"expirationSeconds": 600}})
    endpoint = read_endpoint(kubeconfig)
    (tmp_path / "token").write_text(token["status"]["token"])
    (tmp_path / "ca.crt").write_bytes(endpoint.ca)
    host, _, port = endpoint.server.removeprefix("https://").rpartition(":")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", port)
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(tmp_path / "ca.crt"))
    async with await KubeClient.connect() as client:
        review = await client.request(
            "POST",
            "/apis/authentication.k8s.io/v1/selfsubjectreviews",
            operation="ask who I am",
            body={"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"},
        )
        access = await client.access()
    assert review["status"]["userInfo"]["username"] == f"system:serviceaccount:{there.namespace}:pod"
    assert access.server == endpoint.server
    assert token["status"]["token"] not in repr(access)


async def test_without_credentials_it_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(KubeError, match="set KUBECONFIG"):
        await KubeClient.connect(str(tmp_path / "absent"))


# -- the status writer -------------------------------------------------------------------------------------------------


class Writing:
    """A status writer with the catalog behind it."""

    def __init__(self, there: Cluster) -> None:
        self.catalog = Catalog()
        self.written: list[str] = []
        self.kube = KubeObjects(there.client, on_write=self.catalog.absorb)
        self.writer = StatusWriter(
            self.kube,
            lambda kind, namespace, name: self.catalog.status(ObjectKey(kind, namespace, name)),
            SystemClock().now,
            on_written=self.written.append,
        )

    def know(self, body: Body) -> ObjectMeta:
        self.catalog.upsert(body["kind"], body)
        return meta(body)


READY = {"conditions": verdict(Verdict.READY, Reason.SUCCEEDED, "done"), "objects": 3}
WAITING = {"conditions": verdict(Verdict.RECONCILING, Reason.INSTANCE_STOPPED, "waits")}


async def test_a_status_is_written_once_and_its_event_with_it(there: Cluster) -> None:
    writing = Writing(there)
    known = writing.know(await there.create(there.grant("g")))
    event = ObjectEvent("Normal", Reason.SUCCEEDED, "done")
    update = StatusUpdate(GRANT, known, READY, (event,))
    assert await writing.writer.write(update)
    assert not await writing.writer.write(update)
    assert writing.written == [GRANT]
    assert len(await there.events("g")) == 1
    status = (await there.get(GRANT, "g") or {})["status"]
    assert status["observedGeneration"] == 1
    assert [one["observedGeneration"] for one in status["conditions"]] == [1]


async def test_a_condition_keeps_its_time_until_its_status_changes(there: Cluster) -> None:
    writing = Writing(there)
    known = writing.know(await there.create(there.grant("g")))
    await writing.writer.write(StatusUpdate(GRANT, known, WAITING))
    first = (await there.get(GRANT, "g") or {})["status"]["conditions"][0]["lastTransitionTime"]
    await asyncio.sleep(1.1)  # times have whole seconds
    other = {"conditions": verdict(Verdict.RECONCILING, Reason.UNREACHABLE, "no answer")}
    await writing.writer.write(StatusUpdate(GRANT, known, other))
    status = (await there.get(GRANT, "g") or {})["status"]
    assert [(one["reason"], one["lastTransitionTime"]) for one in status["conditions"]] == [
        ("Unreachable", first)
    ] * 2
    await writing.writer.write(StatusUpdate(GRANT, known, READY))
    (ready,) = (await there.get(GRANT, "g") or {})["status"]["conditions"]
    assert ready["lastTransitionTime"] > first


async def test_many_statuses_are_written_side_by_side_and_failures_are_told_together(there: Cluster) -> None:
    writing = Writing(there)
    await there.create_many([there.grant(f"g{number}") for number in range(50)])
    known = [
        writing.know({**body, "kind": GRANT})
        async for page in writing.kube.pages(GRANT, there.namespace)
        for body in page.bodies
    ]
    assert await writing.writer.write_many(StatusUpdate(GRANT, one, READY) for one in known) == 50
    assert await writing.writer.write_many(StatusUpdate(GRANT, one, READY) for one in known) == 0
    bad = {"conditions": [condition("Ready", False, Reason.PENDING)]}
    updates = [StatusUpdate(GRANT, one, bad if one.name == "g7" else WAITING) for one in known]
    with pytest.raises(TransientError, match="1 of 50 statuses") as caught:
        await writing.writer.write_many(updates)
    assert isinstance(caught.value.__cause__, ExceptionGroup)
    assert len(writing.written) == 99


async def test_two_passes_that_contribute_to_one_status_do_not_overwrite_each_other(there: Cluster) -> None:
    """A UserMapping that names no connection has a result on each connection of its namespace."""
    writing = Writing(there)
    body = there.grant("m")
    body |= {"kind": "UserMapping", "spec": {"user": "alice@example.com"}}
    known = writing.know(await there.create(body))

    def contribute(connection: str) -> StatusUpdate:
        def make(previous: Body) -> Body:
            roles = [one for one in previous.get("roles", []) if one["connection"] != connection]
            roles.append({"connection": connection, "role": "alice", "state": "Resolved"})
            return {
                "conditions": READY["conditions"],
                "roles": sorted(roles, key=lambda one: one["connection"]),
            }

        return StatusUpdate("UserMapping", known, make)

    names = [f"team/c{number}" for number in range(8)]
    await asyncio.gather(*(writing.writer.write(contribute(name)) for name in names))
    status = (await there.get("UserMapping", "m") or {})["status"]
    assert [one["connection"] for one in status["roles"]] == names
