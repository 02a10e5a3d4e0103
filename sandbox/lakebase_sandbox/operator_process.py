"""The operator as a local process: what the chart would run in a pod, as the same ServiceAccount, and no more.

The chart is installed for real; its Deployment says which ServiceAccount and which settings the operator has. Only
what a pod gets from its surroundings is replaced: addresses, and a token of that ServiceAccount.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any

import urllib3
from pydantic import BaseModel, ConfigDict

from lakebase_sandbox import paths
from lakebase_sandbox.cluster.kubeconfig import read_endpoint, write_kubeconfig
from lakebase_sandbox.errors import SandboxError
from lakebase_sandbox.processes import Processes, free_port, wait_until_ready
from lakebase_sandbox.tools.kubectl import Kubectl

NAME = "operator"
RELEASE = "lakebase-operator"
NAMESPACE = "lakebase-system"
START_TIMEOUT_SECONDS = 60.0
TOKEN_DURATION = "24h"

COMMAND: Sequence[str] = (sys.executable, "-P", "-m", "lakebase_operator", "run")

# The operator's settings that depend on where it runs, by their names in its environment.
_SETTINGS_PREFIX = "LAKEBASE_OPERATOR_"
_NAMESPACE = "LAKEBASE_OPERATOR_NAMESPACE"
_BIND_ADDRESS = "LAKEBASE_OPERATOR_BIND_ADDRESS"
_PROBE_PORT = "LAKEBASE_OPERATOR_PROBE_PORT"
_METRICS_PORT = "LAKEBASE_OPERATOR_METRICS_PORT"

# Of our own environment the operator gets what any program needs, and nothing that leads it to another workspace.
_INHERITED = ("HOME", "LANG", "LC_ALL", "PATH", "PYTHONPATH", "TMPDIR", "TZ", "VIRTUAL_ENV")


class Operator(BaseModel):
    """An operator that was started and was ready."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    service_account: str
    probe_url: str
    metrics_url: str

    def ready(self) -> bool:
        try:
            answer = urllib3.request("GET", f"{self.probe_url}/readyz", retries=False, timeout=5.0)
        except urllib3.exceptions.HTTPError:
            return False
        return answer.status == HTTPStatus.OK


def install_chart(
    helm: Path, kubeconfig: Path, *, values: Mapping[str, str], chart: Path = paths.CHART
) -> None:
    """Install or upgrade the operator's chart.

    Raises:
        SandboxError: the chart is not there, or Helm refused; with what Helm said.
    """
    if not (chart / "Chart.yaml").exists():
        raise SandboxError(
            f"the operator's chart is not in {chart}: run from a complete checkout, or use --no-operator"
        )
    sets = [f"--set={name}={value}" for name, value in values.items()]
    try:
        subprocess.run(
            [
                *(helm, "upgrade", "--install", RELEASE, chart),
                *("--namespace", NAMESPACE, "--create-namespace", "--kubeconfig", kubeconfig),
                *sets,
            ],
            capture_output=True,
            text=True,
            check=True,
        )
    except subprocess.CalledProcessError as error:
        raise SandboxError(f"installing {chart} failed: {error.stderr.strip()}") from error


def start_operator(
    processes: Processes,
    directory: Path,
    admin_kubeconfig: Path,
    ca_file: Path,
    command: Sequence[str] = COMMAND,
) -> Operator:
    """Start the operator of the installed chart and return when it is ready.

    Parameters:
        directory: where its kubeconfig is written; it holds the ServiceAccount's token and nothing else.
        ca_file: the certificate authority that it trusts for HTTPS to the workspace.

    Raises:
        SandboxError: the chart is not installed, or the operator ended or was not ready in time.
    """
    kubectl = Kubectl(admin_kubeconfig)
    pod = _pod_template(kubectl)
    account = pod["serviceAccountName"]
    token = kubectl.run(
        "create", "token", account, f"--namespace={NAMESPACE}", f"--duration={TOKEN_DURATION}"
    )
    kubeconfig = directory / "kubeconfig"
    endpoint = read_endpoint(admin_kubeconfig)
    write_kubeconfig(kubeconfig, endpoint, user=account, token=token.strip(), namespace=NAMESPACE)

    probe_port, metrics_port = free_port(), free_port()
    environment = {
        **{name: os.environ[name] for name in _INHERITED if name in os.environ},
        **_settings_of(pod),
        _NAMESPACE: NAMESPACE,
        _BIND_ADDRESS: "127.0.0.1",
        _PROBE_PORT: str(probe_port),
        _METRICS_PORT: str(metrics_port),
        "KUBECONFIG": str(kubeconfig),
        "SSL_CERT_FILE": str(ca_file),
        "REQUESTS_CA_BUNDLE": str(ca_file),
    }
    operator = Operator(
        service_account=f"{NAMESPACE}/{account}",
        probe_url=f"http://127.0.0.1:{probe_port}",
        metrics_url=f"http://127.0.0.1:{metrics_port}/metrics",
    )
    record = processes.start(NAME, command, environment=environment, address=operator.probe_url)
    wait_until_ready(record, operator.ready, timeout=START_TIMEOUT_SECONDS)
    return operator


def _pod_template(kubectl: Kubectl) -> dict[str, Any]:
    """The pod that the chart's Deployment describes."""
    answer = kubectl.run(
        *("get", "deployments", f"--namespace={NAMESPACE}", "--output=json"),
        f"--selector=app.kubernetes.io/instance={RELEASE}",
    )
    deployments = json.loads(answer)["items"]
    if len(deployments) != 1:
        raise SandboxError(
            f"release {RELEASE} in namespace {NAMESPACE} has {len(deployments)} Deployments; expected one"
        )
    pod: dict[str, Any] = deployments[0]["spec"]["template"]["spec"]
    return pod


def _settings_of(pod: Mapping[str, Any]) -> dict[str, str]:
    """The operator's own settings in the pod; what refers to the pod itself has no meaning here."""
    return {
        variable["name"]: variable["value"]
        for variable in pod["containers"][0].get("env", ())
        if variable["name"].startswith(_SETTINGS_PREFIX) and "value" in variable
    }
