"""`lakebase-sandbox`, with a real control plane; simulator and operator are stand-ins that keep their contracts."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from lakebase_sandbox.__main__ import main
from lakebase_sandbox.cluster import EmbeddedCluster
from lakebase_sandbox.errors import SandboxError
from lakebase_sandbox.lifecycle import Programs
from lakebase_sandbox.operator_process import install_chart
from lakebase_sandbox.paths import StateDirectory
from lakebase_sandbox.processes import Processes, ProcessRecord
from lakebase_sandbox.tools.kubectl import Kubectl
from tests.sandbox.shell import exports
from tests.sandbox.waiting import eventually

HERE = Path(__file__).parent
STAND_INS = Programs(
    simulator=[sys.executable, str(HERE / "stand_in_simulator.py")],
    operator=[sys.executable, str(HERE / "stand_in_operator.py")],
)
BROKEN_SIMULATOR = Programs(simulator=[*STAND_INS.simulator, "--fail"])

Command = Callable[..., Result]


def command_for(state: Path, programs: Programs = STAND_INS) -> Command:
    """`lakebase-sandbox VERB --state STATE ...`"""

    def run(verb: str, *arguments: str) -> Result:
        return CliRunner().invoke(main, [verb, "--state", str(state), *arguments], obj=programs)

    return run


def records(state: Path) -> dict[str, ProcessRecord]:
    directory = StateDirectory.at(state)
    return {record.name: record for record in Processes(directory.records, directory.logs).all()}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The state directory of a sandbox that runs without an operator."""
    state = tmp_path_factory.mktemp("running") / "state"
    command = command_for(state)
    result = command("up", "--no-operator")
    assert result.exit_code == 0, result.output
    yield state
    result = command("down")
    assert result.exit_code == 0, result.output
    assert records(state) == {}


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    """A state directory of its own, with nothing left running at the end."""
    directory = tmp_path / "state"
    yield directory
    command_for(directory)("down")


@pytest.mark.parametrize("arguments", [("env",), ("login", "--target=t", "--user=u"), ("fault", "--clear")])
def test_without_a_running_sandbox_one_is_told_how_to_start_it(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    result = command_for(tmp_path / "none")(*arguments)

    assert result.exit_code == 1
    assert f"lakebase-sandbox up --state {tmp_path / 'none'}" in result.stderr


def test_status_and_down_say_that_nothing_runs(tmp_path: Path) -> None:
    command = command_for(tmp_path / "none")

    status, down = command("status"), command("down")

    assert (status.exit_code, down.exit_code) == (1, 0)
    assert "Nothing runs in" in status.stderr
    assert "Nothing runs in" in down.stderr
    assert not (tmp_path / "none").exists()


def test_up_shows_its_steps_with_their_seconds(state: Path) -> None:
    result = command_for(state)("up", "--no-operator")

    steps = [line for line in result.stderr.splitlines() if line.startswith("✓")]
    assert sorted(" ".join(line.split()[1:-2]) for line in steps) == [
        "Kubernetes (embedded)",
        "Lakebase simulator",
    ]
    assert all(line.endswith(" s") for line in steps)
    assert 'eval "$(lakebase-sandbox env' in result.stderr


def test_up_on_a_running_sandbox_changes_nothing(running: Path) -> None:
    before = records(running)

    result = command_for(running)("up", "--no-operator")

    assert result.exit_code == 0, result.output
    assert "Running already" in result.stderr
    assert records(running) == before


def test_up_with_another_kind_of_cluster_is_refused(running: Path) -> None:
    result = command_for(running)("up", "--no-operator", "--cluster", "kubeconfig")

    assert result.exit_code == 1
    assert "runs with --cluster embedded: stop it first" in result.stderr


def test_env_prints_what_a_shell_needs(running: Path) -> None:
    variables = exports(command_for(running)("env").stdout)

    assert variables["LAKEBASE_WORKSPACE_URL"] == "https://localhost:8443"
    assert variables["LAKEBASE_CA_FILE"] == str(running / "simulator" / "ca.pem")
    assert variables["LAKEBASE_CLIENT_ID"] == "client"
    assert variables["LAKEBASE_CLIENT_SECRET"] == "secret value"
    assert variables["ADMIN_DSN_autoscaling"] == "postgresql://cloud_admin:it's@127.0.0.1:5432/postgres"
    assert variables["GATEWAY_HOST_autoscaling"] == "localhost"
    assert variables["GATEWAY_PORT_autoscaling"] == "5433"
    assert variables["PATH"].split(os.pathsep)[0] == str(running / "bin")
    assert "namespace/default" in Kubectl(Path(variables["KUBECONFIG"])).run("get", "ns", "--output=name")
    assert (running / "bin" / "kubectl").exists()
    assert (running / "bin" / "helm").exists()


def test_status_shows_each_component_with_its_process(running: Path) -> None:
    result = command_for(running)("status")

    assert result.exit_code == 0, result.output
    for name, record in records(running).items():
        (line,) = [line for line in result.stdout.splitlines() if line.split()[0] == name]
        assert "running" in line
        assert str(record.id.pid) in line
        assert (record.address or "") in line
        assert "MiB" in line
    assert "localhost:5433" in result.stdout


def test_what_happens_to_a_lakebase_is_asked_of_the_simulator(running: Path) -> None:
    command = command_for(running)
    asked = running / "simulator" / "requests.jsonl"
    asked.unlink(missing_ok=True)

    login = command("login", "--target", "autoscaling", "--user", "alice@example.com")
    results = [
        command("set", "autoscaling", "STOPPED"),
        command("fault", "autoscaling", "http", "429", "3"),
        command("fault", "--clear"),
        command("native-login", "autoscaling", "off"),
    ]
    port = command("port", "instances/elementum-lakebase")

    assert port.stdout == "5544\n"
    assert login.stdout == "a-credential\n"
    assert [result.exit_code for result in results] == [0, 0, 0, 0]
    assert [json.loads(line) for line in asked.read_text().splitlines()] == [
        ["POST", "/login", {"target": "autoscaling", "user": "alice@example.com"}],
        ["POST", "/state", {"target": "autoscaling", "state": "STOPPED"}],
        ["POST", "/faults", {"target": "autoscaling", "name": "http", "args": ["429", "3"]}],
        ["DELETE", "/faults", {}],
        ["POST", "/native-login", {"target": "autoscaling", "enabled": False}],
        ["POST", "/ports", {"resource": "instances/elementum-lakebase"}],
    ]


def test_what_the_simulator_refuses_is_passed_on(running: Path) -> None:
    result = command_for(running)("set", "nowhere", "STOPPED")

    assert result.exit_code == 1
    assert result.stderr == "Error: there is no target nowhere\n"


def test_the_operator_runs_as_the_service_account_of_the_chart(running: Path) -> None:
    result = command_for(running)("up")

    assert result.exit_code == 0, result.output
    report = json.loads((running / "operator" / "operator.json").read_text())
    environment = report["environment"]
    assert report["user"] == "system:serviceaccount:lakebase-system:lakebase-operator"
    assert environment["LAKEBASE_OPERATOR_NAMESPACE"] == "lakebase-system"
    assert environment["LAKEBASE_OPERATOR_BIND_ADDRESS"] == "127.0.0.1"
    assert environment["LAKEBASE_OPERATOR_LOG_FORMAT"] == "json"  # the chart's own default
    assert environment["SSL_CERT_FILE"] == str(running / "simulator" / "ca.pem")
    assert environment["REQUESTS_CA_BUNDLE"] == environment["SSL_CERT_FILE"]
    kubeconfig = Path(environment["KUBECONFIG"])
    with pytest.raises(SandboxError, match="forbidden"):
        Kubectl(kubeconfig).run("create", "namespace", "not-allowed")
    assert "operator" in command_for(running)("status").stdout


def test_an_operator_that_ended_is_started_again_beside_the_rest(running: Path) -> None:
    command = command_for(running)
    assert command("up").exit_code == 0
    before = records(running)
    operator = before["operator"].find()
    assert operator is not None
    operator.kill()
    eventually(lambda: before["operator"].find() is None)

    result = command("up")

    assert result.exit_code == 0, result.output
    after = records(running)
    assert after["operator"].find() is not None
    assert {**after, "operator": before["operator"]} == before


def test_after_a_crash_up_starts_everything_anew(state: Path) -> None:
    command = command_for(state)
    assert command("up", "--no-operator").exit_code == 0
    before = records(state)
    child = before["simulator"].children[0]
    simulator = before["simulator"].find()
    assert simulator is not None
    simulator.kill()
    eventually(lambda: before["simulator"].find() is None)
    status = command("status")

    result = command("up", "--no-operator")

    assert status.exit_code == 1
    assert "ended" in status.stdout
    assert result.exit_code == 0, result.output
    assert all(record.find() is None for record in before.values())
    assert child.find() is None
    assert all(record.find() is not None for record in records(state).values())
    after = records(state)
    assert command("down").exit_code == 0
    assert all(record.find() is None for record in after.values())


def test_a_start_that_fails_leaves_nothing_running(state: Path) -> None:
    result = command_for(state, BROKEN_SIMULATOR)("up", "--no-operator")

    assert result.exit_code == 1
    assert "simulator ended while starting" in result.stderr
    assert "the stand-in was told to fail" in result.stderr
    assert records(state) == {}
    assert command_for(state)("status").exit_code == 1
    assert (state / "logs" / "kube-apiserver.log").exists()


def test_a_cluster_that_is_there_is_used_and_left(
    state: Path, cluster: EmbeddedCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    command = command_for(state)

    up = command("up", "--no-operator", "--cluster", "kubeconfig")
    monkeypatch.delenv("KUBECONFIG")
    kubeconfig = Path(exports(command("env").stdout)["KUBECONFIG"])

    assert up.exit_code == 0, up.output
    assert set(records(state)) == {"simulator"}
    assert kubeconfig != cluster.kubeconfig
    assert Kubectl(kubeconfig).run("get", "--raw=/readyz") == "ok"
    assert command("down").exit_code == 0
    assert Kubectl(cluster.kubeconfig).run("get", "--raw=/readyz") == "ok"


def test_a_cluster_that_does_not_answer_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "no-such-file"))

    result = command_for(tmp_path / "state")("up", "--no-operator", "--cluster", "kubeconfig")

    assert result.exit_code == 1
    assert "kubectl config" in result.stderr


def test_kind_without_docker_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    result = command_for(tmp_path / "state")("up", "--no-operator", "--cluster", "kind")

    assert result.exit_code == 1
    assert "--cluster kind needs docker on PATH" in result.stderr


def test_a_missing_chart_is_reported_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match="use --no-operator"):
        install_chart(Path("helm"), tmp_path / "kubeconfig", values={}, chart=tmp_path)
