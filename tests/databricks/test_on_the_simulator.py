"""The operator's side of Databricks on the Lakebase simulator: the real SDK over HTTPS, the real login to PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import jwt
import psycopg
import pytest
import pytest_asyncio

from lakebase_operator.api.reasons import Reason
from lakebase_operator.domain.errors import InvalidError, TransientError
from lakebase_operator.domain.instance import Credential, InstanceState
from lakebase_operator.external.databricks import (
    AutoscalingTarget,
    ControlPlane,
    IdentityKind,
    OAuthM2M,
    ProvisionedTarget,
    Target,
    WorkloadIdentity,
    Workspace,
)
from lakebase_sandbox.simulator import FederationPolicy, LakebaseSimulator, SimulatorSettings

pytestmark = pytest.mark.asyncio(loop_scope="module")

TARGETS: dict[str, Target] = {
    "autoscaling": AutoscalingTarget("marketing", "production", "primary"),
    "provisioned": ProvisionedTarget("marketing-db"),
}
CREDENTIAL_SECONDS = 2.0


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def simulator() -> AsyncIterator[LakebaseSimulator]:
    """A simulator whose database credentials live for two seconds, and access tokens for one minute."""
    settings = SimulatorSettings(credential_seconds=CREDENTIAL_SECONDS, access_token_seconds=60.0)
    async with LakebaseSimulator(settings) as running:
        yield running


@pytest.fixture
def workspace(simulator: LakebaseSimulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    """A workspace that the operator has just been told of."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(simulator.ca_file))
    monkeypatch.setenv("NO_PROXY", "localhost,127.0.0.1")
    executor = ThreadPoolExecutor(max_workers=4)
    yield Workspace(
        simulator.workspace_url,
        OAuthM2M(simulator.client_id, simulator.client_secret),
        executor=executor,
        retry_timeout=4,
    )
    executor.shutdown(wait=False)


@pytest_asyncio.fixture(loop_scope="module", autouse=True)
async def healthy(simulator: LakebaseSimulator) -> AsyncIterator[None]:
    """Leaves the simulator as it was found."""
    yield
    await simulator.clear_faults()
    await simulator.set_state("autoscaling", "ACTIVE")
    await simulator.set_state("provisioned", "AVAILABLE")


def planes(workspace: Workspace) -> dict[str, ControlPlane]:
    return {name: workspace.control_plane(target) for name, target in TARGETS.items()}


async def log_in(simulator: LakebaseSimulator, target: str, credential: Credential) -> str:
    """Log in through the gateway; the session's user."""
    connection = await psycopg.AsyncConnection.connect(
        host="localhost",
        port=simulator.targets[target].gateway.port,
        dbname="databricks_postgres",
        user=credential.user,
        password=credential.password,
        sslmode="verify-full",
        sslrootcert=str(simulator.ca_file),
    )
    async with connection:
        row = await (await connection.execute("SELECT session_user::text")).fetchone()
    assert row is not None
    return str(row[0])


@pytest.mark.requirement("R-37", "R-38", "R-39", "R-67", "R-106")
@pytest.mark.parametrize("target", TARGETS)
async def test_the_operator_logs_in_to_the_database_with_what_databricks_gives_it(
    simulator: LakebaseSimulator, workspace: Workspace, target: str
) -> None:
    plane = planes(workspace)[target]
    identity = await plane.identity()
    assert identity.user_name == simulator.client_id
    assert identity.is_service_principal
    credential = await plane.credential()
    assert await log_in(simulator, target, credential) == simulator.client_id
    assert not simulator.stats()["secret_sightings"].keys() - {"POST /oidc/v1/token"}


@pytest.mark.requirement("R-61", "R-97", "R-106")
@pytest.mark.parametrize(
    ("target", "state", "expected"),
    [
        ("autoscaling", "ACTIVE", InstanceState.AVAILABLE),
        ("autoscaling", "IDLE", InstanceState.ASLEEP),
        ("autoscaling", "INIT", InstanceState.STARTING),
        ("autoscaling", "DEGRADED", InstanceState.AVAILABLE),
        ("autoscaling", "DISABLED", InstanceState.DISABLED),
        ("autoscaling", "DELETED", InstanceState.NOT_FOUND),
        ("provisioned", "AVAILABLE", InstanceState.AVAILABLE),
        ("provisioned", "STOPPED", InstanceState.STOPPED),
        ("provisioned", "STARTING", InstanceState.STARTING),
        ("provisioned", "FAILING_OVER", InstanceState.FAILING_OVER),
        ("provisioned", "UPDATING", InstanceState.UPDATING),
        ("provisioned", "DELETED", InstanceState.NOT_FOUND),
    ],
)
async def test_each_state_is_read(
    simulator: LakebaseSimulator, workspace: Workspace, target: str, state: str, expected: InstanceState
) -> None:
    await simulator.set_state(target, state)
    instance = await planes(workspace)[target].instance()
    assert instance.state is expected
    assert instance.host == (None if expected is InstanceState.NOT_FOUND else "localhost")


async def test_reading_the_state_wakes_nothing(simulator: LakebaseSimulator, workspace: Workspace) -> None:
    await simulator.set_state("autoscaling", "IDLE")
    plane = planes(workspace)["autoscaling"]
    for _ in range(3):
        assert (await plane.instance()).state is InstanceState.ASLEEP
        await plane.credential()
    assert simulator.targets["autoscaling"].stats.wake_ups == 0


@pytest.mark.requirement("R-52")
@pytest.mark.parametrize(
    "target",
    [
        AutoscalingTarget("nowhere", "production", "primary"),
        AutoscalingTarget("marketing", "nowhere", "primary"),
        AutoscalingTarget("marketing", "production", "nowhere"),
        ProvisionedTarget("nowhere"),
        ProvisionedTarget("marketing-db#"),
    ],
)
async def test_a_target_that_does_not_exist_is_not_found(
    workspace: Workspace, target: AutoscalingTarget | ProvisionedTarget
) -> None:
    instance = await workspace.control_plane(target).instance()
    assert instance.state is InstanceState.NOT_FOUND
    assert str(target) in instance.detail


@pytest.mark.requirement("R-40")
@pytest.mark.parametrize("target", TARGETS)
async def test_no_login_fails_while_credentials_of_two_seconds_come_and_go(
    simulator: LakebaseSimulator, workspace: Workspace, target: str
) -> None:
    plane = planes(workspace)[target]
    passwords: set[str] = set()
    until = asyncio.get_running_loop().time() + 2 * CREDENTIAL_SECONDS
    while asyncio.get_running_loop().time() < until:
        credential = await plane.credential()
        assert credential.expires_at is not None
        assert credential.expires_at > datetime.now(UTC)
        await log_in(simulator, target, credential)
        passwords.add(credential.password)
    assert 3 <= len(passwords) <= 8


@pytest.mark.requirement("R-41")
async def test_after_a_refused_login_a_fresh_credential_is_accepted(
    simulator: LakebaseSimulator, workspace: Workspace
) -> None:
    plane = planes(workspace)["autoscaling"]
    refused = await plane.credential()
    await simulator.fault("autoscaling", "expire-token")
    with pytest.raises(psycopg.OperationalError):
        await log_in(simulator, "autoscaling", refused)
    fresh = await plane.credential(fresh=True)
    assert fresh.password != refused.password
    assert await log_in(simulator, "autoscaling", fresh) == simulator.client_id


async def test_a_projected_service_account_token_stands_in_for_a_secret(
    simulator: LakebaseSimulator, workspace: Workspace, tmp_path: Path
) -> None:
    account = "system:serviceaccount:lakebase-system:lakebase-operator"
    issuer = "https://kubernetes.default.svc"
    token = jwt.encode({"iss": issuer, "sub": account, "aud": "databricks"}, "x" * 32, algorithm="HS256")
    file = tmp_path / "token"
    file.write_text(token)
    with ThreadPoolExecutor(max_workers=1) as executor:
        auth = WorkloadIdentity(simulator.client_id, file)
        federated = Workspace(simulator.workspace_url, auth, executor=executor)
        with pytest.raises(InvalidError) as refused:
            await federated.identity()
        assert refused.value.reason is Reason.OAUTH_CLIENT_REJECTED
        assert "federation policy" in refused.value.message
        assert token not in str(refused.value)
        simulator.add_federation_policy(
            FederationPolicy(
                client_id=simulator.client_id, issuer=issuer, subject=account, audiences=("databricks",)
            )
        )
        assert (await federated.identity()).user_name == simulator.client_id
        credential = await planes(federated)["autoscaling"].credential()
    assert await log_in(simulator, "autoscaling", credential) == simulator.client_id


async def test_a_wrong_client_secret_is_refused(simulator: LakebaseSimulator, workspace: Workspace) -> None:
    with ThreadPoolExecutor(max_workers=1) as executor:
        wrong = Workspace(
            simulator.workspace_url, OAuthM2M(simulator.client_id, "wrong-secret"), executor=executor
        )
        with pytest.raises(InvalidError) as refused:
            await wrong.identity()
    assert refused.value.reason is Reason.OAUTH_CLIENT_REJECTED
    assert "wrong-secret" not in str(refused.value)


@pytest.mark.requirement("R-204", "R-205")
@pytest.mark.parametrize(
    ("status", "kind", "reason"),
    [
        ("403", InvalidError, Reason.CONTROL_PLANE_DENIED),
        ("401", InvalidError, Reason.OAUTH_CLIENT_REJECTED),
        ("409", TransientError, Reason.CONTROL_PLANE_CONFLICT),
        ("429", TransientError, Reason.CONTROL_PLANE_THROTTLED),
        ("500", TransientError, Reason.CONTROL_PLANE_ERROR),
        ("503", TransientError, Reason.CONTROL_PLANE_ERROR),
        ("504", TransientError, Reason.CONTROL_PLANE_ERROR),
    ],
)
async def test_each_fault_of_the_api_has_its_reason(
    simulator: LakebaseSimulator, workspace: Workspace, status: str, kind: type[Exception], reason: Reason
) -> None:
    await simulator.fault("autoscaling", "http", status)
    with pytest.raises(kind) as raised:
        await planes(workspace)["autoscaling"].instance()
    assert raised.value.reason is reason  # type: ignore[attr-defined]  # both kinds have one


@pytest.mark.requirement("R-205")
@pytest.mark.parametrize("status", ["401", "429", "503"])
async def test_a_fault_that_passes_at_once_is_not_noticed(
    simulator: LakebaseSimulator, workspace: Workspace, status: str
) -> None:
    await simulator.fault("autoscaling", "http", status, "1")
    assert (await planes(workspace)["autoscaling"].instance()).state is InstanceState.AVAILABLE


@pytest.mark.parametrize(
    ("kind", "name", "expected"),
    [
        ("ServicePrincipal", "the operator", True),
        ("User", "the operator", False),
        ("Group", "nobody", False),
        ("User", "nobody@example.com", False),
    ],
)
async def test_identities_are_found_by_kind_and_name(
    simulator: LakebaseSimulator, workspace: Workspace, kind: IdentityKind, name: str, expected: bool
) -> None:
    wanted = simulator.client_id if name == "the operator" else name
    assert await workspace.identity_exists(kind, wanted) is expected
