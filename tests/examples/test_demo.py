"""The parts of the demo that decide, without a sandbox; and its sample data on real servers."""

import asyncio
import io
import socket
from copy import deepcopy
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from rich.console import Console

from lakebase_sandbox.demo import SCENARIOS, connection_test
from lakebase_sandbox.demo.client import MountedSecret, ReconnectingClient
from lakebase_sandbox.demo.database import (
    APPLICATION,
    Allowed,
    Database,
    Refused,
    expect_allowed,
    expect_denied,
)
from lakebase_sandbox.demo.manifests import (
    Example,
    Surroundings,
    adapted,
    ca_secret,
    read_example,
    renamed,
    with_spec,
    write_manifests,
)
from lakebase_sandbox.demo.narrator import Narrator, Observation, UnexpectedError
from lakebase_sandbox.demo.objects import all_ready, condition, readiness, summary
from lakebase_sandbox.errors import SandboxError
from lakebase_sandbox.postgres import PostgresServer
from lakebase_sandbox.simulator_process import AdminClient, Simulator, Target

SURROUNDINGS = Surroundings(
    workspace_url="https://localhost:8443",
    client_id="the-client",
    client_secret="the-secret",
    ca="-----BEGIN CERTIFICATE-----",
    ports={"marketing": 5001, "marketing-db": 5002, "elementum": 5003},
)
EXAMPLES = [read_example(name) for name in SCENARIOS]
QUICKSTART, ELEMENTUM = EXAMPLES
every_example = pytest.mark.parametrize("example", EXAMPLES, ids=list(SCENARIOS))


def connection(name: str) -> dict[str, Any]:
    return adapted(QUICKSTART.find("LakebaseConnection", name), SURROUNDINGS)


def grant(
    *, status: str = "True", reason: str = "Succeeded", generation: int = 1, observed: int = 1
) -> dict[str, Any]:
    ready = {"type": "Ready", "status": status, "reason": reason, "message": "So it is."}
    return {
        "kind": "AccessGrant",
        "metadata": {"name": "readers", "generation": generation},
        "status": {"observedGeneration": observed, "conditions": [ready]},
    }


def narrator() -> tuple[Narrator, io.StringIO]:
    told = io.StringIO()
    return Narrator(Console(file=told), Path("state/logs")), told


# -- manifests ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "port"), [("marketing", 5001), ("marketing-db", 5002)])
def test_a_connection_is_led_to_the_gateway_of_its_target(name: str, port: int) -> None:
    spec = connection(name)["spec"]
    assert spec["workspaceURL"] == "https://localhost:8443"
    assert spec["port"] == port
    assert spec["auth"]["oauthM2M"]["clientID"] == "the-client"
    assert spec["tls"] == {"caRef": {"name": "sandbox-ca", "key": "ca.crt"}}


def test_the_control_planes_name_of_each_target_is_known_before_it_exists() -> None:
    assert QUICKSTART.resources() == {
        "marketing": "projects/marketing/branches/production/endpoints/primary",
        "marketing-db": "instances/marketing-db",
    }
    assert ELEMENTUM.resources() == {"elementum": "instances/elementum-lakebase"}


def test_an_instance_is_led_to_the_workspace_of_the_sandbox() -> None:
    spec = adapted(ELEMENTUM.find("LakebaseInstance", "elementum-lakebase"), SURROUNDINGS)["spec"]
    assert spec["workspaceURL"] == "https://localhost:8443"
    assert spec["auth"]["oauthM2M"]["clientID"] == "the-client"
    assert "port" not in spec


@every_example
def test_the_ca_that_connections_name_is_in_a_secret_beside_them(example: Example) -> None:
    here = example.adapted(SURROUNDINGS)
    for name in example.resources():
        reference = here.find("LakebaseConnection", name)["spec"]["tls"]["caRef"]
        secret = here.find("Secret", reference["name"])
        assert secret == ca_secret(SURROUNDINGS, example.namespace)
        assert reference["key"] in secret["data"]


@every_example
def test_nothing_but_what_leads_to_the_sandbox_is_changed_for_it(example: Example) -> None:
    for manifest in example.manifests:
        changed, original = adapted(manifest, SURROUNDINGS), deepcopy(manifest)
        if manifest["kind"] in {"LakebaseConnection", "LakebaseInstance"}:
            for one in (changed, original):
                for field in ("workspaceURL", "port", "tls"):
                    one["spec"].pop(field, None)
                del one["spec"]["auth"]["oauthM2M"]["clientID"]
        elif manifest["kind"] == "Secret":
            assert changed["stringData"] == {"clientSecret": "the-secret"}
            changed["stringData"] = original["stringData"]
        assert changed == original


@every_example
def test_the_secret_of_an_example_is_a_template(example: Example) -> None:
    secret = example.find("Secret", "lakebase-service-principal")
    assert secret["stringData"]["clientSecret"].startswith("<")


def test_the_client_secret_is_not_shown_with_the_surroundings() -> None:
    assert "the-secret" not in repr(SURROUNDINGS)


def test_editing_and_renaming_leave_the_original_alone() -> None:
    original = QUICKSTART.find("AccessGrant", "research-readers")
    before = deepcopy(original)
    edited = renamed(with_spec(original, access="Write"), "research-writers")
    assert (edited["metadata"]["name"], edited["spec"]["access"]) == ("research-writers", "Write")
    assert edited["spec"]["objects"] == original["spec"]["objects"]
    assert original == before


def test_manifests_are_written_for_us_alone_and_read_back_as_they_were(tmp_path: Path) -> None:
    write_manifests(tmp_path / "all.yaml", QUICKSTART.manifests)
    assert list(yaml.safe_load_all((tmp_path / "all.yaml").read_text())) == QUICKSTART.manifests
    assert (tmp_path / "all.yaml").stat().st_mode & 0o077 == 0


def test_asking_for_a_manifest_that_is_not_there_says_so() -> None:
    with pytest.raises(LookupError, match="no AccessGrant nobody"):
        QUICKSTART.find("AccessGrant", "nobody")


# -- what a status says ------------------------------------------------------------------------------------------


def test_an_object_is_ready_when_its_status_says_so_of_its_current_spec() -> None:
    assert readiness(grant()).holds
    assert not readiness(grant(status="False")).holds
    assert not readiness(grant(generation=2, observed=1)).holds
    assert not readiness({**grant(), "status": {}}).holds


def test_a_reason_counts_only_together_with_its_status() -> None:
    stopped = grant(status="False", reason="InstanceStopped")
    assert readiness(stopped, status="False", reason="InstanceStopped").holds
    assert not readiness(stopped, reason="InstanceStopped").holds
    assert not readiness(stopped, status="False", reason="Unreachable").holds


def test_the_summary_tells_status_reason_and_message() -> None:
    assert summary(grant()) == "AccessGrant readers: Ready=True Succeeded: So it is."
    assert summary(grant(generation=2)).endswith("(of an older version of its spec)")
    assert condition(grant(), "Stalled") is None


def test_all_are_ready_only_when_all_are_there() -> None:
    assert all_ready([grant(), grant()], count=2).holds
    assert all_ready([grant()], count=2).seen.startswith("1 objects instead of 2")
    many = all_ready([grant(status="False")] * 9, count=9)
    assert not many.holds
    assert many.seen.endswith("and 5 more")


# -- what a status says of the connection test ---------------------------------------------------------------------


def a_role(status: str, reason: str, *results: tuple[str, str], ready: str = "True") -> dict[str, Any]:
    """A PostgresRole whose steps have these results and reasons, in their order."""
    role = grant(status=ready)
    role["status"]["conditions"].append({"type": "ConnectionTested", "status": status, "reason": reason})
    role["status"]["test"] = [
        {"step": step, "result": result, "reason": why}
        for step, (result, why) in zip(connection_test.STEPS, results, strict=False)
    ]
    return role


PASSED = ("Passed", "ConnectionTestPassed")
SKIPPED = ("Skipped", "NotTried")
REJECTED = ("Failed", "PasswordRejected")


def test_a_connection_test_has_passed_when_all_its_steps_have_and_the_role_is_ready() -> None:
    assert connection_test.passed(a_role("True", "ConnectionTestPassed", *[PASSED] * 4)).holds
    assert not connection_test.passed(a_role("True", "ConnectionTestPassed", *[PASSED] * 3)).holds
    assert not connection_test.passed(a_role("Unknown", "InstanceStopped", *[PASSED] * 4)).holds
    assert not connection_test.passed(a_role("True", "", *[PASSED] * 4, ready="False")).holds
    assert not connection_test.passed(grant()).holds


def test_a_failure_counts_with_its_step_and_its_reason_only() -> None:
    role = a_role("False", "PasswordRejected", PASSED, REJECTED, SKIPPED, SKIPPED)
    assert connection_test.failed([role], "Authentication", "PasswordRejected").holds
    assert not connection_test.failed([role], "Network", "PasswordRejected").holds
    assert not connection_test.failed([role], "Authentication", "RoleMissing").holds
    assert not connection_test.failed([role], None, "PasswordRejected").holds
    assert connection_test.told(role).splitlines()[1] == "Authentication: Failed PasswordRejected"


def test_a_failure_that_is_over_has_been_seen_all_the_same() -> None:
    versions = [
        a_role("False", "PasswordRejected", PASSED, REJECTED, SKIPPED, SKIPPED),
        a_role("True", "ConnectionTestPassed", *[PASSED] * 4),
    ]
    assert connection_test.failed(versions, "Authentication", "PasswordRejected").holds
    assert connection_test.first_failure(versions, "Authentication", "PasswordRejected") is versions[0]
    assert connection_test.first_failure(versions, "Network", "PortClosed") is None


def test_a_test_that_could_not_be_made_is_told_beside_the_last_one() -> None:
    role = a_role("Unknown", "InstanceStopped", *[PASSED] * 4)
    assert connection_test.failed([role], None, "InstanceStopped").holds
    assert connection_test.told(role).splitlines()[-1] == "ConnectionTested: Unknown InstanceStopped"


def test_a_warning_lets_the_role_be_ready() -> None:
    role = a_role("True", "ConnectionTestPassed", PASSED, PASSED, PASSED, ("Warning", "NoUniqueKey"))
    assert connection_test.warned(role, "Tables", "NoUniqueKey").holds
    assert not connection_test.warned(role, "Tables", "SchemaEmpty").holds
    assert not connection_test.passed(role).holds


# -- what a statement shows --------------------------------------------------------------------------------------

DENIED = Refused("42501", "permission denied for table orders")
BROKEN = Refused("42P01", 'relation "orders" does not exist')


def test_who_may_is_refused_nothing() -> None:
    expect_allowed(Allowed(), "alice", "SELECT")
    for refused in (DENIED, BROKEN):
        with pytest.raises(UnexpectedError, match="alice may SELECT") as error:
            expect_allowed(refused, "alice", "SELECT")
        assert error.value.seen == str(refused)


def test_who_may_not_is_denied_for_lack_of_privileges_and_for_nothing_else() -> None:
    expect_denied(DENIED, "alice", "SELECT")
    for outcome in (Allowed(), BROKEN):
        with pytest.raises(UnexpectedError, match="alice may not SELECT"):
            expect_denied(outcome, "alice", "SELECT")


# -- telling -----------------------------------------------------------------------------------------------------


def test_the_closing_line_counts_the_checks_and_stands_alone() -> None:
    tell, told = narrator()
    for wrong in (None, UnexpectedError(expected="white", seen="black"), SandboxError("gone")):
        with tell.check("the swan"):
            if wrong:
                raise wrong
    tell.close()
    assert told.getvalue().splitlines()[-1] == "1 passed, 2 failed"


def test_a_failed_check_tells_what_was_expected_what_was_seen_and_where_the_logs_are() -> None:
    tell, told = narrator()
    with tell.check("the swan"):
        raise UnexpectedError(expected="white", seen="black\nvery black")
    assert told.getvalue().splitlines() == [
        "  ✗ the swan",
        "      expected: white",
        "      seen:     black",
        "                very black",
        "      logs:     state/logs",
    ]


def test_a_mistake_in_the_demo_itself_is_not_taken_for_a_failed_check() -> None:
    tell, _ = narrator()
    with pytest.raises(KeyError), tell.check("the swan"):
        raise KeyError("swan")
    assert (tell.passed, tell.failed) == (0, 0)


def test_square_brackets_in_what_is_told_are_no_markup() -> None:
    tell, told = narrator()
    tell.say("matching: [bold]")
    assert told.getvalue() == "  matching: [bold]\n"


def test_waiting_ends_as_soon_as_it_holds() -> None:
    tell, _ = narrator()
    looks = iter([Observation(False, "not yet"), Observation(True, "now")])
    tell.wait("it holds", lambda: next(looks))
    assert next(looks, None) is None


def test_waiting_ends_at_its_deadline_with_what_was_seen_last() -> None:
    tell, _ = narrator()
    with pytest.raises(UnexpectedError, match="it holds within 0 s") as error:
        tell.wait("it holds", lambda: Observation(False, "not yet"), seconds=0)
    assert error.value.seen == "not yet"


# -- an application with a mounted Secret ------------------------------------------------------------------------


def mounted(directory: Path, versions: list[dict[str, bytes]]) -> MountedSecret:
    return MountedSecret(directory / "login", iter(versions).__next__)


def test_the_files_of_a_secret_are_replaced_all_at_once_and_only_when_the_kubelet_does_it(
    tmp_path: Path,
) -> None:
    versions = [{"username": b"app_1", "old": b""}, {"username": b"app_2"}]
    secret = mounted(tmp_path, versions)
    assert secret.text("username") == "app_1"
    secret.refresh()
    assert secret.text("username") == "app_2"
    assert {file.name for file in secret.directory.iterdir()} == {"username"}
    assert (secret.directory / "username").stat().st_mode & 0o077 == 0


def test_a_key_that_a_secret_has_not_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnexpectedError, match="has the key schema"):
        mounted(tmp_path, [{}]).text("schema")


def test_a_client_that_cannot_log_in_remembers_why(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        uri = f"postgresql://app@127.0.0.1:{closed.getsockname()[1]}/x?sslmode=require".encode()
        with ReconnectingClient(mounted(tmp_path, [{"uri": uri}])) as client:
            narrator()[0].wait(
                "the client has failed", lambda: Observation(bool(client.errors), "it has not"), seconds=20
            )
    assert "refused" in client.errors[0]
    assert client.users == []


# -- the sample data ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [16, 18])
async def test_the_sample_data_belong_to_an_ordinary_role_and_can_be_made_anew(
    short_tmp: Path, version: int
) -> None:
    async with PostgresServer(version=version) as server:
        target = Target(
            kind="autoscaling",
            postgres_version=version,
            admin_dsn=server.dsn(),
            gateway_host="localhost",
            gateway_port=1,
        )
        database = Database("autoscaling", target, unused_simulator(), short_tmp)
        for _ in range(2):
            await asyncio.to_thread(database.load_sample_data)
        with psycopg.connect(server.dsn()) as connection:
            rows = connection.execute(
                "SELECT c.relkind::text, r.rolname, r.rolsuper FROM pg_class AS c JOIN pg_roles AS r ON r.oid = c.relowner"
                " WHERE c.relnamespace::regnamespace::text LIKE '%-data%' AND c.relkind IN ('r', 'p', 'v', 'm', 'S')"
            ).fetchall()
    assert {(owner, superuser) for _, owner, superuser in rows} == {(APPLICATION, False)}
    assert {kind for kind, _, _ in rows} == {"r", "p", "v", "m", "S"}


def unused_simulator() -> AdminClient:
    return AdminClient(
        Simulator(
            workspace_url="https://localhost:1",
            ca_file=Path("ca.crt"),
            client_id="",
            client_secret="",
            admin_url="http://localhost:1",
            admin_token="",
            targets={},
        )
    )
