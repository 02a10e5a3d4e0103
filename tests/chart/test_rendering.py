"""What the chart renders, from its default values and from all others."""

import re
from typing import Any

import helm_python as helm
import pytest
import yaml

from lakebase_operator import __version__
from lakebase_operator.api import KINDS
from lakebase_operator.settings import Settings
from tests.chart.conftest import CHART, NAMESPACE, ROOT, Manifest, Render

FULL: dict[str, Any] = {
    "commonLabels": {"team": "platform"},
    "watchNamespaces": ["team-a", "team-b"],
    "secrets": {"scope": "namespaces", "namespaces": ["team-a"]},
    "serviceAccount": {"annotations": {"example.com/owner": "platform"}},
    "image": {"registry": "registry.example.com", "digest": f"sha256:{'0' * 64}", "pullPolicy": "Always"},
    "imagePullSecrets": [{"name": "pull"}],
    "replicaCount": 2,
    "log": {"format": "plain", "level": "debug"},
    "workloadIdentity": {"enabled": True, "audience": "lakebase", "expirationSeconds": 7200},
    "caBundle": {"configMapName": "company-ca", "key": "bundle.pem"},
    "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy.example.com:3128"}],
    "extraVolumes": [{"name": "extra", "emptyDir": {}}],
    "extraVolumeMounts": [{"name": "extra", "mountPath": "/extra"}],
    "podDisruptionBudget": {"enabled": True},
    "prometheus": {
        "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
        "rule": {"enabled": True, "labels": {"release": "prometheus"}},
    },
    "networkPolicy": {"enabled": True, "metricsFrom": [{"namespaceSelector": {"matchLabels": {"a": "b"}}}]},
    "podAnnotations": {"example.com/a": "b"},
    "podLabels": {"example.com/c": "d"},
    "priorityClassName": "system-cluster-critical",
    "nodeSelector": {"kubernetes.io/os": "linux"},
    "tolerations": [{"key": "dedicated", "operator": "Exists"}],
    "affinity": {"podAntiAffinity": {}},
    "topologySpreadConstraints": [
        {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway"}
    ],
    "rbac": {"userRoles": {"aggregateToEdit": True}},
}
"""Every switch turned the other way."""


def of_kind(manifests: list[Manifest], kind: str) -> list[Manifest]:
    return [manifest for manifest in manifests if manifest["kind"] == kind]


def one(manifests: list[Manifest], kind: str) -> Manifest:
    (manifest,) = of_kind(manifests, kind)
    return manifest


def pod(manifests: list[Manifest]) -> dict[str, Any]:
    return one(manifests, "Deployment")["spec"]["template"]["spec"]  # type: ignore[no-any-return]  # YAML


def container(manifests: list[Manifest]) -> dict[str, Any]:
    (only,) = pod(manifests)["containers"]
    return only  # type: ignore[no-any-return]  # YAML


def environment(manifests: list[Manifest]) -> dict[str, Any]:
    return {
        entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in container(manifests)["env"]
    }


def test_helm_finds_nothing_wrong_with_the_chart() -> None:
    findings = helm.lint(CHART)
    assert findings["errors"] == []
    assert [found for found in findings["messages"] if found["error"] != "icon is recommended"] == []


def test_chart_image_and_package_have_the_same_version(render: Render) -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == chart["version"] == __version__
    assert container(render())["image"] == f"lakebase-operator:{__version__}"


def test_the_default_installation_is_one_replica_that_is_replaced_and_elects_itself(render: Render) -> None:
    manifests = render()
    deployment = one(manifests, "Deployment")["spec"]
    assert deployment["replicas"] == 1
    assert deployment["strategy"] == {"type": "Recreate"}
    assert environment(manifests) == {
        "LAKEBASE_OPERATOR_NAMESPACE": {"fieldRef": {"fieldPath": "metadata.namespace"}},
        "LAKEBASE_OPERATOR_BIND_ADDRESS": "0.0.0.0",
        "LAKEBASE_OPERATOR_PROBE_PORT": "8080",
        "LAKEBASE_OPERATOR_METRICS_PORT": "9090",
        "LAKEBASE_OPERATOR_WORKERS": "16",
        "LAKEBASE_OPERATOR_LOG_FORMAT": "json",
        "LAKEBASE_OPERATOR_LOG_LEVEL": "info",
        "LAKEBASE_OPERATOR_LEADER_ELECTION": "true",
        "LAKEBASE_OPERATOR_WATCH_SECRETS": "true",
    }
    assert container(manifests)["command"] == ["python", "-m", "lakebase_operator"]
    assert container(manifests)["args"] == ["run"]
    assert {
        kind: len(of_kind(manifests, kind))
        for kind in ("ServiceMonitor", "PrometheusRule", "NetworkPolicy", "PodDisruptionBudget")
    } == {
        "ServiceMonitor": 0,
        "PrometheusRule": 0,
        "NetworkPolicy": 0,
        "PodDisruptionBudget": 0,
    }


def test_the_container_can_write_nothing_but_memory_and_is_nobody_special(render: Render) -> None:
    manifests = render()
    assert pod(manifests)["securityContext"]["runAsNonRoot"] is True
    assert pod(manifests)["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container(manifests)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod(manifests)["volumes"] == [
        {"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": "16Mi"}}
    ]


def test_probes_and_metrics_are_where_the_operator_serves_them(render: Render) -> None:
    manifests = render()
    ports = {port["name"]: port["containerPort"] for port in container(manifests)["ports"]}
    assert ports == {"probes": 8080, "metrics": 9090}
    for probe, path in (
        ("startupProbe", "/healthz"),
        ("livenessProbe", "/healthz"),
        ("readinessProbe", "/readyz"),
    ):
        assert container(manifests)[probe]["httpGet"] == {"path": path, "port": "probes"}
    (port,) = one(manifests, "Service")["spec"]["ports"]
    assert (port["port"], port["targetPort"]) == (9090, "metrics")


def test_the_service_and_the_disruption_budget_select_the_pod(render: Render) -> None:
    manifests = render(podDisruptionBudget={"enabled": True}, networkPolicy={"enabled": True})
    labels = one(manifests, "Deployment")["spec"]["template"]["metadata"]["labels"].items()
    for selector in (
        one(manifests, "Service")["spec"]["selector"],
        one(manifests, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        one(manifests, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
        one(manifests, "Deployment")["spec"]["selector"]["matchLabels"],
    ):
        assert selector
        assert selector.items() <= labels


def test_custom_resource_definitions_stay_when_the_release_goes_unless_told_otherwise(render: Render) -> None:
    kept = of_kind(render(), "CustomResourceDefinition")
    assert len(kept) == len(KINDS)
    assert all(crd["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"} for crd in kept)
    going = of_kind(render(crds={"keep": False}), "CustomResourceDefinition")
    assert all("annotations" not in crd["metadata"] for crd in going)
    assert of_kind(render(crds={"enabled": False}), "CustomResourceDefinition") == []


def test_the_charts_definitions_are_those_in_crds(render: Render) -> None:
    plain = {path.stem: yaml.safe_load(path.read_text())["spec"] for path in (ROOT / "crds").glob("*.yaml")}
    chart = {
        crd["spec"]["names"]["plural"]: crd["spec"] for crd in of_kind(render(), "CustomResourceDefinition")
    }
    assert chart == plain


def test_workload_identity_mounts_a_token_for_its_audience_and_says_where(render: Render) -> None:
    manifests = render(workloadIdentity={"enabled": True, "audience": "lakebase"})
    (volume,) = [v for v in pod(manifests)["volumes"] if v["name"] == "workload-identity"]
    (mount,) = [m for m in container(manifests)["volumeMounts"] if m["name"] == "workload-identity"]
    (source,) = volume["projected"]["sources"]
    token = source["serviceAccountToken"]
    assert token == {"audience": "lakebase", "expirationSeconds": 3600, "path": "token"}
    assert environment(manifests)["LAKEBASE_OPERATOR_TOKEN_PATH"] == f"{mount['mountPath']}/{token['path']}"


@pytest.mark.parametrize(
    ("values", "source"),
    [
        (
            {"configMapName": "ca"},
            {"configMap": {"name": "ca", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        ),
        (
            {"secretName": "ca", "key": "x"},
            {"secret": {"secretName": "ca", "items": [{"key": "x", "path": "ca.crt"}]}},
        ),
    ],
    ids=["ConfigMap", "Secret"],
)
def test_a_ca_bundle_is_mounted_and_named_to_both_http_libraries(
    render: Render, values: dict[str, str], source: dict[str, Any]
) -> None:
    manifests = render(caBundle=values)
    assert {"name": "ca-bundle"} | source in pod(manifests)["volumes"]
    (mount,) = [m for m in container(manifests)["volumeMounts"] if m["name"] == "ca-bundle"]
    variables = environment(manifests)
    assert variables["SSL_CERT_FILE"] == variables["REQUESTS_CA_BUNDLE"] == f"{mount['mountPath']}/ca.crt"


def test_all_values_together_render_what_they_say(render: Render) -> None:
    manifests = render(**FULL)
    assert all(manifest["metadata"]["labels"]["team"] == "platform" for manifest in manifests)
    assert container(manifests)["image"] == f"registry.example.com/lakebase-operator@sha256:{'0' * 64}"
    variables = environment(manifests)
    assert variables["LAKEBASE_OPERATOR_WATCH_NAMESPACES"] == "team-a,team-b"
    assert variables["LAKEBASE_OPERATOR_WATCH_SECRETS"] == "false"
    assert variables["HTTPS_PROXY"] == "http://proxy.example.com:3128"
    assert one(manifests, "ServiceMonitor")["metadata"]["labels"]["release"] == "prometheus"
    assert one(manifests, "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1


def alerts(render: Render) -> dict[str, Manifest]:
    (group,) = one(render(**FULL), "PrometheusRule")["spec"]["groups"]
    return {rule["alert"]: rule for rule in group["rules"]}


@pytest.mark.requirement("R-168")
def test_every_metric_that_an_alert_names_exists_with_the_labels_that_it_names(render: Render) -> None:
    page = (ROOT / "docs" / "reference" / "metrics.md").read_text()
    metrics = dict(re.findall(r"^\| `(lakebase_operator\w*)` \| \w+ \| ([^|]*) \|", page, re.MULTILINE))
    assert len(metrics) > 20
    for name, rule in alerts(render).items():
        named = set(re.findall(r"lakebase_operator_\w+", rule["expr"]))
        assert named, name
        assert named <= metrics.keys(), name
        known = {label for metric in named for label in re.findall(r"\w+", metrics[metric])}
        used = set(re.findall(r"\$labels\.(\w+)", str(rule["annotations"])))
        used |= set(re.findall(r"by \((\w+)\)", rule["expr"])) | set(re.findall(r"{(\w+)[=!]", rule["expr"]))
        assert used <= known, name
        assert not re.search(r"{{(?! \$labels\.\w+ }})", str(rule["annotations"])), name


@pytest.mark.requirement("R-168")
def test_there_is_an_alert_for_failed_logins_drift_overdue_passwords_and_expired_access_and_each_is_documented(
    render: Render,
) -> None:
    found = alerts(render)
    page = (ROOT / "docs" / "access-review.md").read_text()
    wanted = {"LoginsRejected", "Drift", "PasswordsOverdue", "ExpiredAccess", "AccessReportOverdue"}
    assert {f"Lakebase{name}" for name in wanted} <= found.keys()
    for name, rule in found.items():
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}
        assert rule["annotations"].keys() == {"summary", "description"}
        assert f"| `{name}` |" in page
    assert set(re.findall(r"^\| `(Lakebase\w+)` \|", page, re.MULTILINE)) == found.keys()


@pytest.mark.requirement("R-168")
def test_the_namespace_of_a_metric_stays_that_of_the_connection(render: Render) -> None:
    (endpoint,) = one(render(**FULL), "ServiceMonitor")["spec"]["endpoints"]
    assert endpoint["honorLabels"] is True


def test_with_watched_namespaces_nothing_is_bound_for_the_whole_cluster(render: Render) -> None:
    manifests = render(watchNamespaces=["team-a", "team-b"])
    assert of_kind(manifests, "ClusterRoleBinding") == []
    bound = {(b["metadata"]["namespace"], b["roleRef"]["name"]) for b in of_kind(manifests, "RoleBinding")}
    assert bound == {
        ("team-a", "lakebase-operator"),
        ("team-b", "lakebase-operator"),
        ("team-a", "lakebase-operator-secrets"),
        ("team-b", "lakebase-operator-secrets"),
        (NAMESPACE, "lakebase-operator-leader-election"),
    }


def test_secrets_can_be_readable_in_some_namespaces_only(render: Render) -> None:
    manifests = render(secrets={"scope": "namespaces", "namespaces": ["team-a"]})
    assert [b["roleRef"]["name"] for b in of_kind(manifests, "ClusterRoleBinding")] == ["lakebase-operator"]
    (binding,) = [
        b for b in of_kind(manifests, "RoleBinding") if b["roleRef"]["name"] == "lakebase-operator-secrets"
    ]
    assert binding["metadata"]["namespace"] == "team-a"


@pytest.mark.parametrize(
    "values",
    [{"secrets": {"watch": False}}, {"secrets": {"scope": "namespaces", "namespaces": ["team-a"]}}],
    ids=["not-watched", "in-namespaces"],
)
def test_without_watching_secrets_they_cannot_be_listed_and_the_operator_is_told(
    render: Render, values: dict[str, Any]
) -> None:
    manifests = render(**values)
    (role,) = [
        r for r in of_kind(manifests, "ClusterRole") if r["metadata"]["name"] == "lakebase-operator-secrets"
    ]
    assert [rule["verbs"] for rule in role["rules"]] == [["get"], ["create", "patch"]]
    assert environment(manifests)["LAKEBASE_OPERATOR_WATCH_SECRETS"] == "false"


def test_without_publishing_logins_the_operator_can_write_no_secret(render: Render) -> None:
    manifests = render(secrets={"publish": False, "watch": False})
    verbs = {
        verb
        for role in of_kind(manifests, "ClusterRole")
        for rule in role["rules"]
        if "secrets" in rule["resources"]
        for verb in rule["verbs"]
    }
    assert verbs == {"get"}


@pytest.mark.parametrize("values", [{}, FULL], ids=["default", "full"])
def test_the_operator_understands_every_setting_that_the_chart_gives(
    render: Render, values: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {k: v for k, v in environment(render(**values)).items() if k.startswith("LAKEBASE_OPERATOR_")}
    for name, value in given.items():
        monkeypatch.setenv(name, value if isinstance(value, str) else "lakebase-system")
    settings = Settings()
    fields = {name.removeprefix("LAKEBASE_OPERATOR_").lower() for name in given}
    assert fields <= Settings.model_fields.keys()
    assert settings.namespace == "lakebase-system"
    assert settings.lease_name == "lakebase-operator", "the Role names this Lease"
    assert str(settings.workers) == given["LAKEBASE_OPERATOR_WORKERS"]
    assert settings.watch_secrets is (not values)
    assert settings.watch_namespaces == tuple(values.get("watchNamespaces", ()))


@pytest.mark.parametrize("values", [{}, FULL], ids=["default", "full"])
def test_no_role_has_a_wildcard(render: Render, values: dict[str, Any]) -> None:
    roles = [m for m in render(**values) if m["kind"] in ("ClusterRole", "Role")]
    assert len(roles) >= 9
    for role in roles:
        for rule in role["rules"]:
            assert not [word for words in rule.values() for word in words if "*" in word], role["metadata"][
                "name"
            ]


def test_every_rule_of_the_operator_says_what_it_is_for() -> None:
    lines = (CHART / "templates" / "rbac.yaml").read_text().splitlines()
    starts = [number for number, line in enumerate(lines) if line.lstrip().startswith("- apiGroups:")]
    assert len(starts) >= 7
    assert all(lines[number - 1].lstrip().startswith("# ") for number in starts)


def test_only_reading_is_added_to_the_built_in_roles_unless_told_otherwise(render: Render) -> None:
    def aggregated(manifests: list[Manifest]) -> dict[str, set[str]]:
        prefix = "rbac.authorization.k8s.io/aggregate-to-"
        return {
            role["metadata"]["name"]: found
            for role in of_kind(manifests, "ClusterRole")
            if (found := {k.removeprefix(prefix) for k in role["metadata"]["labels"] if k.startswith(prefix)})
        }

    assert aggregated(render()) == {"lakebase-view": {"view", "edit", "admin"}}
    everything = aggregated(render(rbac={"userRoles": {"aggregateToEdit": True}}))
    assert everything == {"lakebase-view": {"view", "edit", "admin"}, "lakebase-edit": {"edit", "admin"}}


def test_without_rbac_no_role_is_rendered(render: Render) -> None:
    manifests = render(rbac={"create": False, "userRoles": {"create": False}})
    assert not [m for m in manifests if "Role" in m["kind"]]


@pytest.mark.parametrize(
    "wrong",
    [
        {"replicas": 2},
        {"log": {"level": "verbose"}},
        {"image": {"digest": "latest"}},
        {"caBundle": {"configMapName": "a", "secretName": "b"}},
        {"workloadIdentity": {"expirationSeconds": 60}},
        {"watchNamespaces": "team-a"},
        {"watchNamespaces": ["Team A"]},
        {"secrets": {"scope": "none"}},
        {"serviceAccount": {"name": ""}},
        {"serviceAccount": {"name": "My account"}},
        {"nameOverride": "My operator"},
        {"podDisruptionBudget": {"maxUnavailable": "some"}},
        {"podDisruptionBudget": {"maxUnavailable": -1}},
        {"extraArgs": ["--verbose"]},
    ],
    ids=str,
)
def test_values_that_would_not_work_are_refused_before_anything_is_rendered(
    render: Render, wrong: dict[str, Any]
) -> None:
    with pytest.raises(helm.HelmError):
        render(**wrong)


@pytest.mark.parametrize("away", [0, 1, "25%", "100%"])
def test_a_disruption_budget_takes_a_number_or_a_percentage(render: Render, away: int | str) -> None:
    manifests = render(podDisruptionBudget={"enabled": True, "maxUnavailable": away})
    assert one(manifests, "PodDisruptionBudget")["spec"]["maxUnavailable"] == away


def test_the_roles_for_people_are_those_that_the_values_and_the_readme_name(render: Render) -> None:
    names = {role["metadata"]["name"] for role in of_kind(render(rbac={"create": False}), "ClusterRole")}
    comment = re.search(r"userRoles:\n((?: +#.*\n)+)", (CHART / "values.yaml").read_text())
    assert comment is not None
    assert set(re.findall(r"lakebase-[\w-]+", comment[1])) == names
    assert (
        set(re.findall(r"^\| `(lakebase-[\w-]+)`", (CHART / "README.md").read_text(), re.MULTILINE)) == names
    )


def test_secrets_in_namespaces_without_saying_which_is_refused_with_the_name_of_the_value(
    render: Render,
) -> None:
    with pytest.raises(helm.HelmError, match=r"secrets\.namespaces: name the namespaces"):
        render(secrets={"scope": "namespaces"})


def test_every_value_is_documented_and_in_the_schema() -> None:
    lines = (CHART / "values.yaml").read_text().splitlines()
    documented: set[str] = set()
    path: list[str] = []
    comment = False
    for line in lines:
        if found := re.match(r"^( *)([A-Za-z]+):", line):
            path[len(found[1]) // 2 :] = [found[2]]
            if comment:
                documented.add(".".join(path))
            comment = False
        elif line.strip().startswith("# --") or (comment and line.strip().startswith("#")):
            comment = True

    schema = yaml.safe_load((CHART / "values.schema.json").read_text())

    def leaves(node: dict[str, Any], at: str) -> set[str]:
        children = node.get("properties")
        if not children:
            return {at}
        return {
            leaf for name, child in children.items() for leaf in leaves(child, f"{at}.{name}" if at else name)
        }

    assert leaves(schema, "") - {"global"} == documented


def test_the_notes_name_the_next_steps_and_warn_of_what_deletes_data() -> None:
    with helm.Chart.load(CHART) as chart:
        notes = {
            name: next(
                text
                for path, text in chart.render(values, name="x", namespace=NAMESPACE).items()
                if path.endswith("NOTES.txt")
            )
            for name, values in {"default": {}, "dropping": {"crds": {"keep": False}}}.items()
        }
    assert "kubectl get lakebase -A -o wide" in notes["default"]
    assert "WARNING" not in notes["default"]
    assert "crds.keep is false" in notes["dropping"]
    assert all(f"{kind.kind_name}s" in notes["dropping"] for kind in KINDS)
    for job in ("connection", "role", "mapping", "grant", "instance", "catalog"):
        assert f"lakebase-{job}-admin" in notes["default"]
