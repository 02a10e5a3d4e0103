"""The `helm` that the sandbox puts on PATH where there is none."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from lakebase_sandbox.cluster import EmbeddedCluster
from lakebase_sandbox.tools import install_tools
from lakebase_sandbox.tools.kubectl import Kubectl

TEMPLATE = """\
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ .Release.Name }}-colours
data:
  first: {{ .Values.colours.first | quote }}
  second: {{ .Values.colours.second | quote }}
  portIsText: {{ kindIs "string" .Values.port | quote }}
"""


@pytest.fixture
def chart(tmp_path: Path) -> Path:
    directory = tmp_path / "demo"
    (directory / "templates").mkdir(parents=True)
    (directory / "Chart.yaml").write_text(
        "apiVersion: v2\nname: demo\nversion: 0.1.0\nappVersion: '7'\nkubeVersion: '>=1.30.0'\n"
    )
    (directory / "values.yaml").write_text("colours: {first: red, second: green}\nport: 1\n")
    (directory / "templates" / "configmap.yaml").write_text(TEMPLATE)
    (directory / "templates" / "NOTES.txt").write_text("Well done, {{ .Release.Name }}.\n")
    return directory


class Helm:
    """The installed command, as a person calls it."""

    def __init__(self, bin_directory: Path, kubeconfig: Path) -> None:
        self._executable = bin_directory / "helm"
        self._environment = {**os.environ, "KUBECONFIG": str(kubeconfig)}

    def __call__(self, *arguments: str | Path) -> str:
        return self.run(*arguments, check=True).stdout

    def run(self, *arguments: str | Path, check: bool = False) -> subprocess.CompletedProcess[str]:
        command = [self._executable, *arguments]
        return subprocess.run(command, env=self._environment, capture_output=True, text=True, check=check)


@pytest.fixture
def helm(tmp_path: Path, cluster: EmbeddedCluster, monkeypatch: pytest.MonkeyPatch) -> Helm:
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.setenv("PATH", str(empty))
    install_tools(tmp_path / "bin")
    monkeypatch.undo()
    return Helm(tmp_path / "bin", cluster.kubeconfig)


def test_a_chart_is_installed_upgraded_listed_and_removed(
    helm: Helm, kubectl: Kubectl, chart: Path, tmp_path: Path, namespace: str
) -> None:
    here = f"--namespace={namespace}"
    values = tmp_path / "values.yaml"
    values.write_text("colours: {first: blue, second: black}\n")

    def colours() -> dict[str, str]:
        answer = kubectl.run("get", "configmap", "shop-colours", here, "--output=json")
        data: dict[str, str] = json.loads(answer)["data"]
        return data

    upgrade = ("upgrade", "--install", "shop", chart, "-n", namespace, "--create-namespace", "--wait")
    installed = helm(*upgrade, "-f", values, "--set", "colours.second=white")
    assert "STATUS: deployed\nREVISION: 1\nNOTES:\nWell done, shop." in installed
    assert colours() == {"first": "blue", "second": "white", "portIsText": "false"}

    assert "REVISION: 2" in helm(*upgrade, "--set-string", "port=2")
    assert colours() == {"first": "red", "second": "green", "portIsText": "true"}

    (release,) = json.loads(helm("list", "-n", namespace, "-o", "json"))
    assert release["name"] == "shop"
    assert release["revision"] == "2"
    assert release["chart"] == "demo-0.1.0"
    assert namespace in helm("list", "-A")

    assert 'release "shop" uninstalled' in helm("uninstall", "shop", "-n", namespace)
    assert kubectl.run("get", "configmap", here, "--output=name") == "configmap/kube-root-ca.crt\n"
    assert json.loads(helm("list", "-n", namespace, "-o", "json")) == []


def test_install_refuses_a_name_that_is_taken(helm: Helm, chart: Path, namespace: str) -> None:
    install = ("install", "shop", chart, "-n", namespace, "--create-namespace")
    helm(*install)

    again = helm.run(*install)

    assert again.returncode == 1
    assert again.stderr.startswith("Error: ")
    assert "in use" in again.stderr


def test_template_needs_no_cluster(helm: Helm, chart: Path) -> None:
    printed = helm("template", "shop", chart, "-n", "elsewhere", "--set", "colours.first=pink")

    assert "# Source: demo/templates/configmap.yaml" in printed
    assert 'first: "pink"' in printed
    assert "Well done" not in printed


def test_a_chart_that_is_not_there_is_said_in_one_line(helm: Helm) -> None:
    failed = helm.run("template", "shop", "no-such-chart")

    assert failed.returncode == 1
    assert "no-such-chart" in failed.stderr
    assert len(failed.stderr.splitlines()) == 1


def test_a_real_helm_on_the_path_is_preferred_to_a_stand_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other_sandbox, real = tmp_path / "other", tmp_path / "real"
    monkeypatch.setenv("PATH", str(tmp_path))
    install_tools(other_sandbox)
    real.mkdir()
    (real / "helm").write_text("#!/bin/sh\necho the real one\n")
    (real / "helm").chmod(0o755)
    monkeypatch.setenv("PATH", f"{other_sandbox}:{real}")

    install_tools(tmp_path / "bin")

    assert (tmp_path / "bin" / "helm").resolve() == real / "helm"
    assert (other_sandbox / "helm").read_text().startswith("#!/bin/sh\nexec ")
