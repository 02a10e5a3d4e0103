"""deploy/ gives what the chart gives."""

from typing import Any

import pytest
import yaml

from lakebase_operator.api import KINDS
from lakebase_sandbox.tools.kubectl import Kubectl
from tests.chart.conftest import NAMESPACE, ROOT, Manifest, Render

RBAC = {"ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"}


def build(name: str) -> list[Manifest]:
    return list(yaml.safe_load_all(Kubectl().run("kustomize", str(ROOT / "deploy" / name))))


def rights(manifests: list[Manifest]) -> dict[tuple[str, str, str], Any]:
    """Roles and bindings by kind, namespace and name, without what only describes them."""
    return {
        (m["kind"], m["metadata"].get("namespace", ""), m["metadata"]["name"]): (
            m.get("rules"),
            m.get("roleRef"),
            m.get("subjects"),
            {k for k in m["metadata"].get("labels", {}) if "aggregate" in k},
        )
        for m in manifests
        if m["kind"] in RBAC
    }


def pod_template(manifests: list[Manifest]) -> dict[str, Any]:
    (deployment,) = [m for m in manifests if m["kind"] == "Deployment"]
    return deployment["spec"]["template"]["spec"]  # type: ignore[no-any-return]  # YAML


@pytest.mark.parametrize(
    ("overlay", "values"),
    [
        ("base", {}),
        ("overlays/debug", {}),
        ("overlays/namespaced", {"watchNamespaces": [NAMESPACE]}),
    ],
)
def test_the_rights_are_those_of_the_chart(render: Render, overlay: str, values: dict[str, Any]) -> None:
    chart, kustomize = rights(render(**values)), rights(build(overlay))
    assert len(chart) >= 10
    assert kustomize == chart


def test_the_pod_is_that_of_the_chart(render: Render) -> None:
    assert pod_template(build("base")) == pod_template(render())


def test_the_debug_overlay_changes_the_logs_and_nothing_else() -> None:
    def without_logs(template: dict[str, Any]) -> dict[str, Any]:
        (container,) = template["containers"]
        env = [entry for entry in container["env"] if "_LOG_" not in entry["name"]]
        return template | {"containers": [container | {"env": env}]}

    base, debug = pod_template(build("base")), pod_template(build("overlays/debug"))
    assert without_logs(debug) == without_logs(base)
    logs = {e["name"]: e["value"] for e in debug["containers"][0]["env"] if "_LOG_" in e["name"]}
    assert logs == {"LAKEBASE_OPERATOR_LOG_FORMAT": "plain", "LAKEBASE_OPERATOR_LOG_LEVEL": "debug"}


def test_the_namespaced_overlay_tells_the_operator_to_stay_in_its_namespace() -> None:
    (container,) = pod_template(build("overlays/namespaced"))["containers"]
    (watched,) = [e for e in container["env"] if e["name"] == "LAKEBASE_OPERATOR_WATCH_NAMESPACES"]
    assert watched["valueFrom"] == {"fieldRef": {"fieldPath": "metadata.namespace"}}


@pytest.mark.parametrize("overlay", ["base", "overlays/namespaced", "overlays/debug"])
def test_everything_is_there_and_in_one_namespace(overlay: str) -> None:
    manifests = build(overlay)
    assert len([m for m in manifests if m["kind"] == "CustomResourceDefinition"]) == len(KINDS)
    assert {m["metadata"]["namespace"] for m in manifests if "namespace" in m["metadata"]} == {NAMESPACE}
    assert [m["metadata"]["name"] for m in manifests if m["kind"] == "Namespace"] == [NAMESPACE]


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("overlay", ["base", "overlays/namespaced", "overlays/debug"])
def test_the_api_server_takes_every_object(chart_kubectl: Kubectl, overlay: str) -> None:
    # Into the namespace of the installed chart, because a dry run makes no namespace for what comes after it. The
    # selector of a Deployment cannot change, so it goes by another name than the chart's.
    manifests = build(overlay)
    for manifest in manifests:
        if manifest["kind"] == "Deployment":
            manifest["metadata"]["name"] = "from-kustomize"
    applied = chart_kubectl.run(
        "apply",
        "--dry-run=server",
        "--server-side",
        "--force-conflicts",
        "--filename=-",
        stdin=yaml.safe_dump_all(manifests),
    )
    assert len(applied.splitlines()) == len(manifests)
