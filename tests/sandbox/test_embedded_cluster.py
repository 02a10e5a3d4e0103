"""The embedded control plane does what the operator relies on."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from lakebase_sandbox.cluster import EmbeddedCluster
from lakebase_sandbox.cluster.build import Sources
from lakebase_sandbox.cluster.kubeconfig import read_endpoint, write_kubeconfig
from lakebase_sandbox.errors import SandboxError
from lakebase_sandbox.processes import Processes
from lakebase_sandbox.tools.kubectl import Kubectl
from tests.sandbox.waiting import eventually


def crd(group: str) -> str:
    """A kind with a default and two rules: one on an object, one on its change."""
    spec = {
        "type": "object",
        "required": ["port"],
        "properties": {"port": {"type": "integer"}, "mode": {"type": "string", "default": "Enforce"}},
        "x-kubernetes-validations": [
            {"rule": "self.port > 0", "message": "port must be positive"},
            {"rule": "self.mode == oldSelf.mode", "message": "mode is immutable"},
        ],
    }
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}},
    }
    document = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"probes.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"plural": "probes", "singular": "probe", "kind": "Probe", "listKind": "ProbeList"},
            "versions": [version],
        },
    }
    return yaml.safe_dump(document)


def manifest(kind: str, name: str, *, api: str = "v1", **fields: Any) -> str:
    metadata = {"name": name, **fields.pop("metadata", {})}
    return yaml.safe_dump({"apiVersion": api, "kind": kind, "metadata": metadata, **fields})


def test_the_server_says_which_kubernetes_it_is(kubectl: Kubectl) -> None:
    major, minor, patch = Sources().kubernetes_version

    version = json.loads(kubectl.run("version", "--output=json"))["serverVersion"]

    assert version["gitVersion"] == f"v{major}.{minor}.{patch}"
    assert (version["major"], version["minor"]) == (str(major), str(minor))


def test_custom_resources_are_defaulted_and_held_to_their_rules(kubectl: Kubectl, namespace: str) -> None:
    group = f"{namespace}.example.com"
    kubectl.run("create", "namespace", namespace)
    kubectl.run("apply", "--filename=-", stdin=crd(group))
    kubectl.run("wait", "--for=condition=Established", f"crd/probes.{group}", "--timeout=20s")

    def apply(**spec: Any) -> None:
        probe = manifest("Probe", "probe", api=f"{group}/v1", spec=spec)
        kubectl.run("apply", f"--namespace={namespace}", "--filename=-", stdin=probe)

    apply(port=1)
    mode = ("get", "probe", "probe", f"--namespace={namespace}", "--output=jsonpath={.spec.mode}")
    assert kubectl.run(*mode) == "Enforce"
    with pytest.raises(SandboxError, match="port must be positive"):
        apply(port=0)
    with pytest.raises(SandboxError, match="mode is immutable"):
        apply(port=1, mode="Plan")
    kubectl.run("delete", "crd", f"probes.{group}")


def test_a_service_account_can_do_what_its_role_says_and_no_more(
    kubectl: Kubectl, namespace: str, tmp_path: Path, cluster: EmbeddedCluster
) -> None:
    here = f"--namespace={namespace}"
    kubectl.run("create", "namespace", namespace)
    kubectl.run("create", "serviceaccount", "reader", here)
    kubectl.run("create", "role", "reader", here, "--verb=get,list", "--resource=configmaps")
    kubectl.run(
        "create", "rolebinding", "reader", here, "--role=reader", f"--serviceaccount={namespace}:reader"
    )
    token = kubectl.run("create", "token", "reader", here, "--duration=1h").strip()
    write_kubeconfig(tmp_path / "reader", read_endpoint(cluster.kubeconfig), user="reader", token=token)
    reader = Kubectl(tmp_path / "reader")

    assert f"system:serviceaccount:{namespace}:reader" in reader.run("auth", "whoami")
    assert "kube-root-ca.crt" in reader.run("get", "configmaps", here, "--output=name")
    with pytest.raises(SandboxError, match="cannot list resource"):
        reader.run("get", "secrets", here)
    with pytest.raises(SandboxError, match="cannot list resource"):
        reader.run("get", "configmaps", "--namespace=default")


def test_a_deleted_namespace_goes_with_all_that_is_in_it(kubectl: Kubectl, namespace: str) -> None:
    kubectl.run("create", "namespace", namespace)
    kubectl.run("create", "configmap", "content", f"--namespace={namespace}")

    kubectl.run("delete", "namespace", namespace, "--timeout=30s")

    with pytest.raises(SandboxError, match="not found"):
        kubectl.run("get", "namespace", namespace)


def test_what_an_object_owns_goes_with_it(kubectl: Kubectl, namespace: str) -> None:
    here = f"--namespace={namespace}"
    kubectl.run("create", "namespace", namespace)
    kubectl.run("create", "configmap", "owner", here)
    uid = kubectl.run("get", "configmap", "owner", here, "--output=jsonpath={.metadata.uid}")
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid}
    owned = manifest("ConfigMap", "owned", metadata={"ownerReferences": [owner]})
    kubectl.run("create", here, "--filename=-", stdin=owned)

    kubectl.run("delete", "configmap", "owner", here)

    kubectl.run("wait", "--for=delete", "configmap/owned", here, "--timeout=30s")


def test_what_a_chart_is_made_of_is_admitted(kubectl: Kubectl, namespace: str) -> None:
    kubectl.run("create", "namespace", namespace)
    labels = {"app": "demo"}
    pod = {
        "metadata": {"labels": labels},
        "spec": {"containers": [{"name": "main", "image": "demo:1"}]},
    }
    selector = {"matchLabels": labels}
    objects = [
        manifest("Deployment", "demo", api="apps/v1", spec={"selector": selector, "template": pod}),
        manifest("Service", "demo", spec={"selector": labels, "ports": [{"port": 80}]}),
        manifest("NetworkPolicy", "demo", api="networking.k8s.io/v1", spec={"podSelector": selector}),
        manifest(
            "PodDisruptionBudget", "demo", api="policy/v1", spec={"minAvailable": 1, "selector": selector}
        ),
        manifest("Lease", "demo", api="coordination.k8s.io/v1", spec={"holderIdentity": "demo"}),
    ]

    created = kubectl.run("apply", f"--namespace={namespace}", "--filename=-", stdin="---\n".join(objects))

    assert created.count(" created") == len(objects)


def test_it_ends_with_its_starter_and_starts_again_from_nothing(short_tmp: Path) -> None:
    directory = short_tmp / "killed"
    script = (
        "import signal\n"
        "from pathlib import Path\n"
        "from lakebase_sandbox.cluster import EmbeddedCluster\n"
        f"EmbeddedCluster(Path({str(directory)!r})).start()\n"
        "print('ready', flush=True)\n"
        "signal.pause()"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        assert starter.stdout.readline() == "ready\n"
        Kubectl(directory / "kubeconfig").run("create", "namespace", "earlier")
        records = Processes(directory / "run", directory / "logs").all()
        starter.kill()
    assert {record.name for record in records} == {"kube-apiserver", "controllers"}
    eventually(lambda: all(record.find() is None for record in records))

    with EmbeddedCluster(directory) as cluster:
        names = Kubectl(cluster.kubeconfig).run("get", "namespaces", "--output=name")
        running = Processes(directory / "run", directory / "logs").all()
        assert "namespace/default" in names
        assert "namespace/earlier" not in names

    assert not any(psutil.pid_exists(record.id.pid) for record in running)
