"""A control plane that refuses, throttles and conflicts, and sessions that break."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from lakebase_operator.api.base import ObjectMeta
from lakebase_operator.external.kube.errors import KubeError
from lakebase_operator.external.kube.objects import KubeObjects
from lakebase_sandbox.simulator import faults
from tests.cluster.kube import ApiError, Body, Namespace, current, is_ready, message_of
from tests.cluster.lab import Lab
from tests.cluster.manifests import grant
from tests.cluster.operators import Operators
from tests.cluster.watcher import Watcher

pytestmark = pytest.mark.asyncio(loop_scope="session")

CONNECTION, READERS, WRITERS = "LakebaseConnection/marketing", "AccessGrant/readers", "AccessGrant/writers"
ADVISORY_LOCK = 0x6C616B6562617365


@pytest.mark.requirement("R-204", "R-205")
@pytest.mark.parametrize("target", ["autoscaling", "provisioned"])
@pytest.mark.parametrize(
    ("status", "reason"),
    [(409, "ControlPlaneConflict"), (500, "ControlPlaneError"), (429, "ControlPlaneThrottled")],
)
async def test_a_busy_control_plane_is_asked_again_with_growing_pauses(
    lab: Lab,
    there: Namespace,
    operators: Operators,
    target: str,
    status: int,
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "lakebase_operator.external.databricks.sdk._LONGEST_PAUSE", 0.2
    )  # the SDK's own patience
    operator = await operators.start()
    sales = await lab.settled(there, target=target)
    passes = operator.count(there.name)
    await lab.simulator.fault(target, "http", status)
    await there.apply(grant("writers", sales.analysts, database=sales.name, access="Write"))
    body = await there.reason(WRITERS, reason)
    assert current(body, "Reconciling") is not None
    body = await there.reason(CONNECTION, reason)
    assert current(body, "Reconciling") is not None
    assert is_ready(await there.get(READERS))
    await asyncio.sleep(1.5)
    assert operator.count(there.name) - passes <= 8, "no hot loop"
    await lab.simulator.clear_faults()
    await there.ready(WRITERS, CONNECTION)
    assert await sales.may(sales.analysts, "INSERT")


@asynccontextmanager
async def policy(there: Namespace, allows: str, message: str) -> AsyncIterator[None]:
    """A policy of the cluster for changes of AccessGrants."""
    api, name = "/apis/admissionregistration.k8s.io/v1", f"policy-{there.name}"
    policies, bindings = f"{api}/validatingadmissionpolicies", f"{api}/validatingadmissionpolicybindings"
    rule = {
        "apiGroups": ["lakebase.dev"],
        "apiVersions": ["*"],
        "operations": ["UPDATE"],
        "resources": ["accessgrants"],
    }
    spec = {
        "matchConstraints": {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": there.name}},
            "resourceRules": [rule],
        },
        "validations": [
            {"expression": f"object.metadata.name != 'trial' && ({allows})", "message": message},
        ],
    }
    binding = {"policyName": name, "validationActions": ["Deny"]}
    await there.apply(grant("trial", "nobody", database="nowhere", connection="nowhere"))
    await there.reason("AccessGrant/trial", "ConnectionNotFound")
    await there.admin.request("POST", policies, {"metadata": {"name": name}, "spec": spec})
    await there.admin.request("POST", bindings, {"metadata": {"name": name}, "spec": binding})

    async def in_force() -> bool:
        try:
            await there.annotate("AccessGrant/trial", tried=str(time.monotonic()))
        except ApiError:
            return True
        return False

    try:
        await there.true("the policy is in force", in_force)
        yield
    finally:
        await there.admin.request("DELETE", f"{bindings}/{name}")
        await there.admin.request("DELETE", f"{policies}/{name}")


async def test_that_the_api_server_refuses_a_finalizer_is_told_and_nothing_is_granted_without_it(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    await operators.start()
    sales = await lab.settled(there)
    async with policy(there, "!has(object.metadata.finalizers)", "no finalizers here"):
        await there.apply(grant("writers", sales.analysts, database=sales.name, access="Write"))
        for thing in (CONNECTION, WRITERS):
            body = await there.reason(thing, "ApiServerError")
            assert "no finalizers here" in message_of(body)
            assert current(body, "Reconciling") is not None
        assert is_ready(await there.get(READERS))
        assert not await sales.may(sales.analysts, "INSERT")
    await there.ready(WRITERS, CONNECTION)
    assert await sales.may(sales.analysts, "INSERT")


async def test_an_object_that_the_api_server_does_not_let_go_says_so_and_holds_up_no_other(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    await operators.start()
    sales = await lab.settled(there)
    await there.apply(grant("writers", sales.analysts, database=sales.name, access="Write"))
    await there.ready(WRITERS)
    kept = "object.metadata.name != 'readers' || has(object.metadata.finalizers)"
    async with policy(there, kept, "readers are kept"):
        for thing in (READERS, WRITERS):
            await there.delete(thing)
        await there.gone(WRITERS)
        body = await there.reason(READERS, "DeletionBlocked")
        assert "readers are kept" in message_of(body)
        assert not await sales.may(sales.analysts, "SELECT")
        await there.ready(CONNECTION)
    await there.gone(READERS)


@pytest.mark.requirement("R-205")
async def test_a_control_plane_that_names_a_time_is_left_alone_until_then(
    lab: Lab, there: Namespace, operators: Operators, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lakebase_operator.external.databricks.sdk._LONGEST_PAUSE", 0.2)
    operator = await operators.start()
    await lab.settled(there)
    await lab.simulator.fault("autoscaling", "http", 429, 1)
    monkeypatch.setitem(
        faults._HTTP_ERRORS,
        429,
        lambda: faults.ApiError(
            429, "REQUEST_LIMIT_EXCEEDED", "Too many requests.", headers={"Retry-After": "3"}
        ),
    )
    requests = lab.simulator.workspace.stats.requests
    await there.annotate(CONNECTION, sync_now="1")
    await there.reason(CONNECTION, "ControlPlaneThrottled")
    asked, began = sum(requests.values()), time.monotonic()
    await there.ready(CONNECTION)
    assert time.monotonic() - began >= 2.0
    assert sum(requests.values()) - asked <= 4, "one look and one credential, after the pause"
    assert operator.task.done() is False


@pytest.mark.requirement("R-92")
async def test_a_session_that_is_ended_in_mid_work_is_replaced_and_nobody_is_alarmed(
    lab: Lab, there: Namespace, operators: Operators, watcher: Watcher
) -> None:
    await operators.start()
    sales = await lab.settled(there)
    async with sales.admin.transaction():
        await sales.run(
            "SELECT pg_advisory_xact_lock(%s)", ADVISORY_LOCK
        )  # holds the pass in its transaction
        await there.apply(grant("writers", sales.analysts, database=sales.name, access="Write"))

        async def waits() -> bool:
            return bool(
                await sales.target.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE application_name = 'lakebase-operator' AND wait_event = 'advisory'"
                )
            )

        await there.true("the pass waits for the lock", waits)
    await there.ready(WRITERS, CONNECTION)
    assert await sales.may(sales.analysts, "INSERT")
    for kind, name in (("LakebaseConnection", "marketing"), ("AccessGrant", "writers")):
        reasons = {
            one["reason"]
            for status in watcher.statuses(kind, there.name, name)
            for one in status.get("conditions") or []
            if one["type"] == "Ready"
        }
        assert reasons == {"Succeeded"}


async def test_sessions_that_keep_breaking_are_said_in_the_end(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    await operators.start()
    sales = await lab.settled(there)
    before = await sales.acl()
    await lab.simulator.fault("autoscaling", "drop", 8)
    await there.apply(grant("writers", sales.analysts, database=sales.name, access="Write"))
    body = await there.until(
        CONNECTION, lambda body: not is_ready(body) and "tried again" in message_of(body)
    )
    assert current(body, "Reconciling") is not None
    assert await sales.acl() == before, "nothing half-done is left"
    await lab.simulator.clear_faults()
    await there.ready(WRITERS, CONNECTION)


async def test_a_status_that_could_not_be_written_is_written_by_the_next_pass_whatever_that_is_about(
    lab: Lab, there: Namespace, operators: Operators, monkeypatch: pytest.MonkeyPatch
) -> None:
    await operators.start()
    sales = await lab.settled(there)
    late = f"late_{sales.name}"
    await there.apply(
        grant("late", late, database=sales.name), grant("writers", sales.analysts, database=sales.name)
    )
    await there.reason("AccessGrant/late", "RoleMissing")
    await there.ready(WRITERS)
    await sales.run(f"CREATE ROLE {late}")  # which is seen at the next look at the server
    write, refused = KubeObjects.replace_status, []

    async def refuses_once(
        self: KubeObjects, kind: str, meta: ObjectMeta, status: Mapping[str, Any]
    ) -> Body | None:
        if meta.name == "late" and not refused:
            refused.append(meta)
            raise KubeError(500, "etcdserver: request timed out")
        return await write(self, kind, meta, status)

    monkeypatch.setattr(KubeObjects, "replace_status", refuses_once)
    await there.spec(WRITERS, access="Write")
    await there.ready(WRITERS)
    await there.ready("AccessGrant/late", deadline=20)
    assert refused
    assert await sales.may(late, "SELECT")
