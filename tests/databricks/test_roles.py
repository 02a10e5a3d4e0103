"""Membership in databricks_superuser through the Databricks API: on the simulator, and with answers that only a script gives."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import pytest_asyncio

from lakebase_operator.api.reasons import Reason
from lakebase_operator.domain.errors import InvalidError, NotReadyError, TransientError
from lakebase_operator.external.databricks import (
    AutoscalingTarget,
    OAuthM2M,
    ProvisionedTarget,
    RoleApi,
    Workspace,
)
from lakebase_sandbox.postgres import IdentityKind
from lakebase_sandbox.simulator import LakebaseSimulator, SimulatorSettings
from lakebase_sandbox.simulator.permissions import PROJECTS, Level
from tests.databricks.scripted import BRANCH, Answer, ScriptedWorkspace

AUTOSCALING = AutoscalingTarget("marketing", "production", "primary")
PROVISIONED = ProvisionedTarget("marketing-db")
DEADLINE = 60.0

on_the_simulator = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def simulator() -> AsyncIterator[LakebaseSimulator]:
    async with LakebaseSimulator(SimulatorSettings(operation_seconds=0.3)) as running:
        yield running


@pytest.fixture
def simulated(simulator: LakebaseSimulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(simulator.ca_file))
    monkeypatch.setenv("NO_PROXY", "localhost,127.0.0.1")
    executor = ThreadPoolExecutor(max_workers=4)
    auth = OAuthM2M(simulator.client_id, simulator.client_secret)
    yield Workspace(simulator.workspace_url, auth, executor=executor, retry_timeout=4)
    executor.shutdown(wait=False)


async def is_superuser(simulator: LakebaseSimulator, role: str, target: str = "autoscaling") -> bool:
    rows = await simulator.target(target).execute(
        "SELECT pg_has_role(oid, 'databricks_superuser', 'MEMBER') FROM pg_roles WHERE rolname = %s", (role,)
    )
    return bool(rows[0][0])


async def ended(roles: RoleApi, operation: str | None) -> None:
    """Look at an operation until it is over."""
    assert operation is not None
    deadline = time.monotonic() + DEADLINE
    while not (progress := await roles.follow(operation)).done:
        assert time.monotonic() < deadline, "the operation does not end"
        await asyncio.sleep(0.05)
    assert progress.error is None


@on_the_simulator
@pytest.mark.requirement("R-108")
async def test_databricks_makes_a_password_for_a_role_made_in_sql_and_tells_it(
    simulator: LakebaseSimulator, simulated: Workspace
) -> None:
    """What the role is otherwise stays: the API overwrites all that it has of it."""
    target = simulator.target("autoscaling")
    await target.execute('CREATE ROLE "Shop.Login" CREATEDB BYPASSRLS')
    await target.execute('GRANT databricks_superuser TO "Shop.Login"')
    roles = simulated.control_plane(AUTOSCALING).roles()
    assert roles.password_problem() is None
    passwords = set()
    for _ in range(2):
        await ended(roles, await roles.make_password("Shop.Login"))
        passwords.add(password := await roles.reveal_password("Shop.Login"))
        assert await roles.reveal_password("Shop.Login") == password
    assert len(passwords) == 2
    rows = await target.execute(
        "SELECT rolcanlogin, rolcreatedb, rolbypassrls, rolcreaterole, rolpassword IS NOT NULL"
        " FROM pg_authid WHERE rolname = 'Shop.Login'"
    )
    assert rows == [(True, True, True, False, True)]
    assert await is_superuser(simulator, "Shop.Login")


@on_the_simulator
async def test_there_is_no_password_of_a_role_that_the_api_does_not_know(simulated: Workspace) -> None:
    roles = simulated.control_plane(AUTOSCALING).roles()
    for asking in (roles.make_password("nobody"), roles.reveal_password("nobody")):
        with pytest.raises(NotReadyError, match="does not know the role"):
            await asking


@on_the_simulator
async def test_an_instance_has_no_api_for_passwords(simulated: Workspace) -> None:
    roles = simulated.control_plane(PROVISIONED).roles()
    assert "makes no passwords" in (roles.password_problem() or "")
    for asking in (roles.make_password("shop"), roles.reveal_password("shop")):
        with pytest.raises(InvalidError) as error:
            await asking
        assert error.value.reason is Reason.PASSWORD_REFUSED


@on_the_simulator
@pytest.mark.requirement("R-111")
async def test_a_role_made_in_sql_becomes_a_member_and_is_none_any_more(
    simulator: LakebaseSimulator, simulated: Workspace
) -> None:
    """Its id in the API is not its name, so it is found by that."""
    await simulator.target("autoscaling").execute('CREATE ROLE "Shop.App" LOGIN')
    roles = simulated.control_plane(AUTOSCALING).roles()
    started = time.monotonic()
    operation = await roles.set_superuser("Shop.App", member=True)
    assert time.monotonic() - started < 0.3 or not await is_superuser(simulator, "Shop.App")  # nobody waited
    await ended(roles, operation)
    assert await is_superuser(simulator, "Shop.App")
    assert await roles.set_superuser("Shop.App", member=True) is None
    await ended(roles, await roles.set_superuser("Shop.App", member=False))
    assert not await is_superuser(simulator, "Shop.App")
    assert await roles.set_superuser("Shop.App", member=False) is None


@on_the_simulator
@pytest.mark.requirement("R-111")
async def test_a_second_change_on_the_branch_is_refused_for_now(
    simulator: LakebaseSimulator, simulated: Workspace
) -> None:
    for name in ("first", "second"):
        await simulator.target("autoscaling").execute(f"CREATE ROLE {name}")
    roles = simulated.control_plane(AUTOSCALING).roles()
    operation = await roles.set_superuser("first", member=True)
    with pytest.raises(TransientError) as refused:
        await roles.set_superuser("second", member=True)
    assert refused.value.reason is Reason.CONTROL_PLANE_CONFLICT
    await ended(roles, operation)
    await ended(roles, await roles.set_superuser("second", member=True))
    assert await is_superuser(simulator, "second")


@on_the_simulator
async def test_a_role_that_the_api_does_not_know_is_waited_for(simulated: Workspace) -> None:
    with pytest.raises(NotReadyError) as missing:
        await simulated.control_plane(AUTOSCALING).roles().set_superuser("nobody", member=True)
    assert missing.value.reason is Reason.ROLE_MISSING


@on_the_simulator
async def test_without_the_right_to_manage_the_project_it_says_which_right(
    simulator: LakebaseSimulator, simulated: Workspace
) -> None:
    await simulator.target("autoscaling").execute("CREATE ROLE third")
    access = simulator.workspace.access
    operator = simulator.workspace.directory.find(IdentityKind.SERVICE_PRINCIPAL, simulator.client_id)
    assert operator is not None
    access.grant(PROJECTS, "marketing", operator, Level.CAN_USE)
    try:
        with pytest.raises(InvalidError) as refused:
            await simulated.control_plane(AUTOSCALING).roles().set_superuser("third", member=True)
    finally:
        access.grant(PROJECTS, "marketing", operator, Level.CAN_MANAGE)
    assert refused.value.reason is Reason.CONTROL_PLANE_DENIED
    assert "CAN_MANAGE on project marketing" in refused.value.message


@on_the_simulator
@pytest.mark.requirement("R-148")
async def test_of_an_instance_it_says_that_the_api_gives_it_at_birth_only_and_what_to_do(
    simulator: LakebaseSimulator, simulated: Workspace
) -> None:
    roles = simulated.control_plane(PROVISIONED).roles()
    requests = dict(simulator.stats()["requests"])
    with pytest.raises(InvalidError) as refused:
        await roles.set_superuser("shop", member=True)
    assert refused.value.reason is Reason.MISSING_DATABRICKS_SUPERUSER
    assert 'GRANT databricks_superuser TO "shop"' in refused.value.message
    assert "/api/2.0/database/instances/marketing-db/roles" in refused.value.message
    with pytest.raises(InvalidError) as kept:
        await roles.set_superuser("shop", member=False)
    assert kept.value.reason is Reason.UNREVOCABLE
    assert 'REVOKE databricks_superuser FROM "shop"' in kept.value.message
    assert simulator.stats()["requests"] == requests  # there is nothing to ask for


ROLE = f"{BRANCH}/roles/shop-role"
NAME = ROLE.removeprefix("/api/2.0/postgres/")


def role(*memberships: str) -> Answer:
    status = {"postgres_role": "shop", "role_id": "shop-role"}
    return Answer(
        {
            "name": NAME,
            "status": {**status, **({"membership_roles": list(memberships)} if memberships else {})},
        }
    )


@pytest.mark.requirement("R-111")
@pytest.mark.parametrize(
    ("before", "member", "sent"),
    [
        (["DATABRICKS_AUDITOR"], True, {"membership_roles": ["DATABRICKS_AUDITOR", "DATABRICKS_SUPERUSER"]}),
        (["DATABRICKS_SUPERUSER", "DATABRICKS_AUDITOR"], False, {"membership_roles": ["DATABRICKS_AUDITOR"]}),
        ([], True, {"membership_roles": ["DATABRICKS_SUPERUSER"]}),
        (["DATABRICKS_SUPERUSER"], False, {}),
    ],
)
async def test_the_whole_list_is_sent_and_memberships_that_the_sdk_does_not_know_are_kept(
    scripted: ScriptedWorkspace,
    workspace: Workspace,
    before: list[str],
    member: bool,
    sent: dict[str, list[str]],
) -> None:
    listed = role(*before).body
    scripted.say(f"{BRANCH}/roles", Answer({"roles": [listed]}))
    scripted.say(ROLE, role(*before), Answer({"name": f"{NAME}/operations/a+b/c=", "done": False}))
    roles = workspace.control_plane(AUTOSCALING).roles()
    assert await roles.set_superuser("shop", member=member) == f"{NAME}/operations/a+b/c="
    change = scripted.requests(ROLE)[-1]
    assert change.method == "PATCH"
    assert change.path.partition("?")[2] == "update_mask=spec.membership_roles"
    assert json.loads(change.body) == {"spec": sent}
    assert change.headers["X-Databricks-Workspace-Id"] == "1234567890"
