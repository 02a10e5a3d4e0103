"""How the operator comes to its databases: tokens, Secrets, and what is said where it cannot log in."""

import json
from dataclasses import replace

import pytest

from lakebase_operator.settings import Settings
from lakebase_sandbox.postgres import IdentityKind
from lakebase_sandbox.simulator import AutoscalingTarget, LakebaseSimulator, SimulatorSettings
from lakebase_sandbox.simulator.oauth import OAuthApi
from tests.cluster.kube import Namespace, condition_of, current, is_not_ready, is_ready, message_of
from tests.cluster.lab import Lab
from tests.cluster.manifests import grant, role
from tests.cluster.operators import Operators
from tests.cluster.watcher import Watcher

pytestmark = pytest.mark.asyncio(loop_scope="session")

CONNECTION, READERS = "LakebaseConnection/marketing", "AccessGrant/readers"


@pytest.mark.requirement("R-37", "R-38", "R-39", "R-67")
@pytest.mark.parametrize("target", ["autoscaling", "provisioned"])
async def test_the_operator_logs_in_as_its_service_principal_with_a_token_for_a_password(
    lab: Lab, there: Namespace, operators: Operators, target: str
) -> None:
    stats = lab.simulator.target(target).stats
    before = stats.logins[lab.operator, "oauth"]
    await operators.start()
    await lab.settled(there, target=target)
    assert stats.logins[lab.operator, "oauth"] > before
    assert not stats.logins[lab.operator, "native"]
    assert (await there.status(CONNECTION))["operatorRole"] == lab.operator
    seen = lab.simulator.stats()
    assert seen["requests"]["POST /oidc/v1/token"] > 0
    assert set(seen["secret_sightings"]) <= {"POST /oidc/v1/token"}, "the client secret goes nowhere else"


@pytest.mark.requirement("R-40")
async def test_tokens_of_two_seconds_are_renewed_before_they_expire_and_stored_nowhere(
    there: Namespace, operators: Operators, watcher: Watcher, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = SimulatorSettings(
        targets=(AutoscalingTarget(name="short"),), credential_seconds=2, access_token_seconds=2
    )
    async with LakebaseSimulator(settings) as simulator:
        own = Lab(simulator, tokens=lab.tokens)
        own.note_tokens()
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(simulator.ca_file))
        issued = len(own.tokens)
        operator = await operators.start()
        await own.settled(there, target="short", interval="1s")
        await operator.passed(there.name, 8)
        assert not simulator.target("short").stats.refused_logins
        assert len(own.tokens) - issued > 6, "they were renewed"
        ready = [
            is_ready(seen.body) for seen in watcher.history("LakebaseConnection", there.name, "marketing")
        ]
        assert all(ready[ready.index(True) :])
        stored = "".join(watcher.lines)
        assert not any(token in stored for token in own.tokens)
        await operator.stop()
        await own.reset()


@pytest.mark.requirement("R-41")
@pytest.mark.parametrize("target", ["autoscaling", "provisioned"])
async def test_a_token_that_is_refused_is_replaced_once_and_nobody_notices(
    lab: Lab, there: Namespace, operators: Operators, watcher: Watcher, target: str
) -> None:
    operator = await operators.start()
    await lab.settled(there, target=target)
    stats = lab.simulator.target(target).stats
    refused = stats.refused_logins[lab.operator]
    await lab.simulator.fault(target, "expire-token")
    await there.annotate(CONNECTION, sync_now="1")
    await operator.passed(there.name, 1)
    assert stats.refused_logins[lab.operator] == refused + 1
    ready = [is_ready(seen.body) for seen in watcher.history("LakebaseConnection", there.name, "marketing")]
    assert all(ready[ready.index(True) :])


@pytest.mark.requirement("R-41")
async def test_a_token_that_is_refused_again_becomes_a_condition_and_is_tried_again(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    operator = await operators.start()
    await lab.settled(there)
    stats = lab.simulator.target("autoscaling").stats
    refused = stats.refused_logins[lab.operator]
    await lab.simulator.fault("autoscaling", "reject-logins", 4)
    await there.annotate(CONNECTION, sync_now="1")
    body = await there.reason(CONNECTION, "TokenExpired")
    assert stats.refused_logins[lab.operator] == refused + 2, (
        "one try with the token at hand, one with a fresh one"
    )
    assert current(body, "Stalled") is not None
    assert "databricks_create_role" in message_of(body)
    assert is_ready(await there.get(READERS))
    await there.ready(CONNECTION)
    assert operator.task.done() is False


@pytest.mark.requirement("R-54")
async def test_a_persons_login_works_and_is_warned_of(
    lab: Lab, there: Namespace, operators: Operators, monkeypatch: pytest.MonkeyPatch
) -> None:
    sales = await lab.database()
    principal = await lab.principal("autoscaling", role=False)
    person = lab.simulator.add_identity(IdentityKind.USER, f"person.{sales.name}@example.com")
    workspace = lab.simulator.workspace
    workspace.access.grant(
        "database-projects",
        "marketing",
        person,
        workspace.access.level("database-projects", "marketing", principal),
    )
    await lab.login_role("autoscaling", person)
    by_secret = OAuthApi._by_secret
    monkeypatch.setattr(  # a token of a person, which no client secret gives
        OAuthApi,
        "_by_secret",
        lambda self, client, secret: (
            person if client == principal.identity.name else by_secret(self, client, secret)
        ),
    )
    await operators.start()
    await there.apply(await lab.connection(there, sales, principal=principal))
    (body,) = await there.ready(CONNECTION)
    found = condition_of(body, "Authenticated")
    assert found is not None
    assert (found["status"], found["reason"]) == ("True", "NotAServicePrincipal")
    assert "Use a service principal" in found["message"]


@pytest.mark.requirement("R-55")
@pytest.mark.parametrize("target", ["autoscaling", "provisioned"])
async def test_a_missing_role_of_the_operator_is_told_with_the_command_that_creates_it(
    lab: Lab, there: Namespace, operators: Operators, target: str
) -> None:
    sales = await lab.database(target)
    principal = await lab.principal(target, role=False)
    await operators.start()
    await there.apply(await lab.connection(there, sales, principal=principal))
    body = await there.reason(CONNECTION, "OperatorRoleMissing")
    assert current(body, "Stalled") is not None
    command = f"SELECT databricks_create_role('{principal.identity.name}', 'SERVICE_PRINCIPAL')"
    assert command in message_of(body)
    assert message_of(body, "Authenticated") == message_of(body)
    await lab.login_role(target, principal)
    await there.annotate(CONNECTION, sync_now="1")
    await there.ready(CONNECTION)


async def test_an_operators_role_without_login_is_told_with_the_command_that_mends_it(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    sales = await lab.database()
    principal = await lab.principal("autoscaling")
    await sales.run(f'ALTER ROLE "{principal.identity.name}" NOLOGIN')
    await operators.start()
    await there.apply(await lab.connection(there, sales, principal=principal))
    body = await there.reason(CONNECTION, "OperatorRoleNotLogin")
    assert f'ALTER ROLE "{principal.identity.name}" LOGIN' in message_of(body)
    await sales.run(f'ALTER ROLE "{principal.identity.name}" LOGIN')
    await there.annotate(CONNECTION, sync_now="1")
    await there.ready(CONNECTION)


@pytest.mark.requirement("R-19", "R-20", "R-21", "R-85")
@pytest.mark.parametrize(
    ("right", "reason", "advice"),
    [
        ("createrole", "MissingCreateRole", "CREATEROLE"),
        ("superuser", "MissingDatabricksSuperuser", "databricks_superuser"),
        ("permission", "ControlPlaneDenied", "CAN_USE"),
    ],
)
async def test_each_missing_right_is_named_with_what_gives_it(
    lab: Lab, there: Namespace, operators: Operators, right: str, reason: str, advice: str
) -> None:
    sales = await lab.database()
    await lab.simulator.fault("autoscaling", "missing-right", right)
    await operators.start()
    await there.apply(
        await lab.connection(there, sales),
        role("analysts", roleName=sales.analysts),
        grant("readers", sales.analysts, database=sales.name),
    )
    body = await there.reason(CONNECTION, reason)
    assert current(body, "Stalled") is not None
    assert advice in message_of(body)
    waiting = await there.reason(READERS, "ConnectionNotReady")
    assert advice in message_of(waiting)
    if right != "permission":
        found = condition_of(body, "PrivilegesSufficient")
        assert found is not None
        assert (found["status"], found["reason"]) == ("False", reason)
    assert not await sales.log(), "nothing is begun"
    await lab.simulator.clear_faults()
    await there.annotate(CONNECTION, sync_now="1")
    await there.ready(CONNECTION, READERS)


async def test_a_wrong_password_is_told_apart_from_everything_else(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    sales = await lab.database("native")
    user = f"op_{sales.name}"
    password = await lab.native_login(sales, user)
    await operators.start()
    await there.apply(await lab.native_connection(there, sales, user, "not-" + password))
    body = await there.reason(CONNECTION, "PasswordRejected")
    assert "Check the Secret" in message_of(body)
    assert current(body, "Stalled") is not None
    await there.secret("marketing-login", username=user, password=password)
    await there.ready(CONNECTION)
    assert (await there.status(CONNECTION))["operatorRole"] == user


@pytest.mark.requirement("R-68")
@pytest.mark.parametrize("watched", [True, False])
async def test_a_changed_secret_is_used_without_a_restart(
    lab: Lab, there: Namespace, operators: Operators, watched: bool
) -> None:
    sales = await lab.database()
    principal = await lab.principal("autoscaling")
    wrong = replace(principal, secret="dose" + "0" * 32)
    operator = await operators.start(secret_poll_seconds=3600 if watched else 0.5)
    assert Settings.model_fields["secret_poll_seconds"].default <= 60
    await there.secret("marketing-sp", watched=watched, clientSecret=str(wrong.secret))
    connection = await lab.connection(there, sales, principal=wrong)
    await there.secret("marketing-sp", watched=watched, clientSecret=str(wrong.secret))
    await there.apply(connection)
    body = await there.reason(CONNECTION, "OAuthClientRejected")
    assert current(body, "Stalled") is not None
    assert str(wrong.secret) not in json.dumps(body)
    await there.secret("marketing-sp", watched=watched, clientSecret=str(principal.secret))
    await there.ready(CONNECTION)
    rotated = lab.simulator.add_identity(
        IdentityKind.SERVICE_PRINCIPAL, principal.identity.name, secret="dose" + "1" * 32
    )
    await there.secret("marketing-sp", watched=watched, clientSecret=str(rotated.secret))
    await operator.passed(there.name, 1)
    await there.ready(CONNECTION)


async def test_a_secret_that_comes_late_is_waited_for(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    sales = await lab.database()
    connection = await lab.connection(there, sales)
    await there.delete("Secret/marketing-sp")
    await operators.start()
    await there.apply(connection)
    body = await there.reason(CONNECTION, "SecretNotFound")
    assert 'Secret "marketing-sp"' in message_of(body)
    assert current(body, "Reconciling") is not None
    await there.secret("marketing-sp", other="x")
    body = await there.until(
        CONNECTION, lambda body: "no key" in message_of(body) if is_not_ready(body) else False
    )
    assert 'no key "clientSecret"' in message_of(body)
    await there.secret("marketing-sp", clientSecret=lab.simulator.client_secret)
    await there.ready(CONNECTION)


@pytest.mark.requirement("R-61")
async def test_the_host_comes_from_the_control_plane_and_another_one_is_a_mismatch(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    sales = await lab.database()
    await operators.start()
    await there.apply(await lab.connection(there, sales, host="other.database.cloud.databricks.com"))
    body = await there.reason(CONNECTION, "HostnameMismatch")
    assert 'the control plane says "localhost"' in message_of(body)
    assert current(body, "Stalled") is not None
    await there.spec(CONNECTION, host=None)
    (body,) = await there.ready(CONNECTION)
    assert body["status"]["endpoint"]["host"] == "localhost"
    await there.spec(CONNECTION, host="LOCALHOST")
    await there.ready(CONNECTION)


@pytest.mark.requirement("R-104")
async def test_a_host_of_no_known_form_is_warned_of_and_used(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    sales = await lab.database()
    await operators.start()
    await there.apply(await lab.connection(there, sales))
    (body,) = await there.ready(CONNECTION)
    found = condition_of(body, "HostRecognized")
    assert found is not None
    assert (found["status"], found["reason"]) == ("False", "HostnameUnrecognized")


async def test_an_unreachable_host_is_told_and_nothing_that_was_carried_out_is_lost(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    await operators.start(connect_timeout_seconds=2)
    sales = await lab.settled(there)
    await lab.simulator.fault("autoscaling", "wrong-host")
    await there.apply(grant("writers", sales.analysts, database=sales.name, access="Write"))
    body = await there.reason(CONNECTION, "Unreachable")
    assert "ep-gone.database.invalid" in message_of(body)
    assert current(body, "Reconciling") is not None
    await there.reason("AccessGrant/writers", "Unreachable")
    assert is_ready(await there.get(READERS))
    await lab.simulator.clear_faults()
    await lab.simulator.fault("autoscaling", "refuse")
    await there.until(CONNECTION, lambda body: "localhost" in message_of(body))
    await lab.simulator.clear_faults()
    await there.ready(CONNECTION, "AccessGrant/writers")


@pytest.mark.requirement("R-69")
async def test_a_connection_is_ready_only_after_each_check_in_its_order(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    sales = await lab.database()
    principal = await lab.principal("autoscaling", role=False, attributes=())
    connection = await lab.connection(there, sales, principal=principal)
    connection["spec"]["databases"] = ["not_there"]
    await there.secret("marketing-sp", clientSecret="dose" + "2" * 32)
    await lab.simulator.fault("autoscaling", "refuse")
    operator = await operators.start()
    await there.apply(connection)

    async def facts(reason: str) -> dict[str, str]:
        await there.annotate(CONNECTION, sync_now=reason)
        body = await there.reason(CONNECTION, reason)
        return {one["type"]: one["status"] for one in body["status"]["conditions"]}

    token = await facts("OAuthClientRejected")
    assert token["Authenticated"] == "False"
    assert "InstanceAvailable" not in token
    await there.secret("marketing-sp", clientSecret=str(principal.secret))
    network = await facts("Unreachable")
    assert network["InstanceAvailable"] == "True"
    await lab.simulator.clear_faults()
    login = await facts("OperatorRoleMissing")
    assert login["Authenticated"] == "False"
    assert "PrivilegesSufficient" not in login
    await lab.login_role("autoscaling", principal, ())
    catalog = await facts("DatabaseNotFound")
    assert catalog["Synced"] == "False"
    await there.spec(CONNECTION, databases=[sales.name])
    privileges = await facts("MissingCreateRole")
    assert (privileges["Authenticated"], privileges["PrivilegesSufficient"]) == ("True", "False")
    await sales.run(f'ALTER ROLE "{principal.identity.name}" CREATEROLE')
    await there.annotate(CONNECTION, sync_now="last")
    (body,) = await there.ready(CONNECTION)
    last = {one["type"]: one["status"] for one in body["status"]["conditions"]}
    wanted = ("Ready", "InstanceAvailable", "Authenticated", "PrivilegesSufficient", "Synced")
    assert [last[one] for one in wanted] == ["True"] * len(wanted)
    assert operator.task.done() is False
