"""The chart on a real API server: installed, upgraded, uninstalled, and who may do what then."""

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import helm_python as helm
import pytest
import yaml
from kubernetes import client
from kubernetes.client.exceptions import ApiException

from lakebase_sandbox.cluster import EmbeddedCluster
from lakebase_sandbox.errors import SandboxError
from lakebase_sandbox.tools.kubectl import Kubectl
from tests.chart.conftest import CHART, NAMESPACE, RELEASE, Render
from tests.chart.test_rendering import FULL

OPERATOR = f"system:serviceaccount:{NAMESPACE}:lakebase-operator"
KINDS = (
    "lakebaseconnections",
    "postgresroles",
    "usermappings",
    "accessgrants",
    "lakebaseinstances",
    "databasecatalogs",
)


def may(
    api: client.ApiClient,
    user: str,
    verb: str,
    resource: str,
    *,
    namespace: str = "elsewhere",
    group: str = "lakebase.dev",
    name: str = "",
) -> bool:
    """What `kubectl auth can-i --as` asks."""
    plural, _, subresource = resource.partition("/")
    review = client.AuthorizationV1Api(api).create_subject_access_review(
        client.V1SubjectAccessReview(
            spec=client.V1SubjectAccessReviewSpec(
                user=user,
                groups=["system:authenticated"],
                resource_attributes=client.V1ResourceAttributes(
                    verb=verb,
                    resource=plural,
                    subresource=subresource,
                    namespace=namespace,
                    group=group,
                    name=name,
                ),
            )
        )
    )
    return bool(review.status.allowed)


def test_the_default_installation_is_taken_by_the_api_server(
    chart_kubectl: Kubectl, releases: helm.Config, installed: str
) -> None:
    assert releases.status(installed)["status"] == "deployed"
    found = chart_kubectl.run(
        "get", "deployment,service,serviceaccount,role,rolebinding", "-n", NAMESPACE, "-o", "name"
    )
    assert "deployment.apps/lakebase-operator\n" in found
    assert "serviceaccount/lakebase-operator\n" in found
    assert "role.rbac.authorization.k8s.io/lakebase-operator-leader-election\n" in found
    chart_kubectl.run(
        "wait",
        "--for=condition=Established",
        "--timeout=30s",
        *(f"crd/{plural}.lakebase.dev" for plural in KINDS),
    )


def test_the_pod_is_allowed_where_pods_are_restricted(
    admin: client.ApiClient, chart_kubectl: Kubectl, render: Render
) -> None:
    for name, values in (("default", {}), ("full", FULL | {"priorityClassName": "", "imagePullSecrets": []})):
        (deployment,) = [m for m in render(**values) if m["kind"] == "Deployment"]
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": f"restricted-{name}", "namespace": NAMESPACE},
            "spec": deepcopy(deployment["spec"]["template"]["spec"]),
        }
        chart_kubectl.run(
            "label", "namespace", NAMESPACE, "--overwrite", "pod-security.kubernetes.io/enforce=restricted"
        )
        try:
            assert client.CoreV1Api(admin).create_namespaced_pod(NAMESPACE, pod, dry_run="All").metadata.name
            pod["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True
            with pytest.raises(ApiException, match="violates PodSecurity"):
                client.CoreV1Api(admin).create_namespaced_pod(NAMESPACE, pod, dry_run="All")
        finally:
            chart_kubectl.run("label", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce-")


@pytest.mark.usefixtures("installed")
def test_an_installation_with_all_values_is_taken_by_the_api_server(
    chart_kubectl: Kubectl, render: Render
) -> None:
    for namespace in FULL["watchNamespaces"]:
        chart_kubectl.run("create", "namespace", namespace)
    # These two are the Prometheus operator's, which is not there.
    manifests = [m for m in render(**FULL) if m["kind"] not in ("ServiceMonitor", "PrometheusRule")]
    applied = chart_kubectl.run(
        "apply",
        "--dry-run=server",
        "--server-side",
        "--force-conflicts",
        "--filename=-",
        stdin=yaml.safe_dump_all(manifests),
    )
    assert len(applied.splitlines()) == len(manifests)


ALLOWED = [
    *((verb, kind, {}) for kind in KINDS for verb in ("get", "list", "watch")),
    *(("patch", kind, {}) for kind in KINDS if kind != "usermappings"),
    *(("patch", f"{kind}/status", {}) for kind in KINDS),
    *((verb, "secrets", {"group": ""}) for verb in ("get", "list", "watch", "create", "patch")),
    ("get", "namespaces", {"group": ""}),
    ("create", "events", {"group": "events.k8s.io"}),
    *(
        (
            verb,
            "leases",
            {"group": "coordination.k8s.io", "namespace": NAMESPACE, "name": "lakebase-operator"},
        )
        for verb in ("get", "update", "patch")
    ),
    ("create", "leases", {"group": "coordination.k8s.io", "namespace": NAMESPACE}),
    *((verb, "configmaps", {"group": ""}) for verb in ("create", "patch", "delete")),  # plans, exposed tables
]
DENIED = [
    *((verb, kind, {}) for kind in KINDS for verb in ("create", "update", "delete", "deletecollection")),
    ("patch", "usermappings", {}),
    *(("update", f"{kind}/status", {}) for kind in KINDS),
    *((verb, "secrets", {"group": ""}) for verb in ("update", "delete", "deletecollection")),
    *(
        (verb, "namespaces", {"group": "", "namespace": ""})
        for verb in ("create", "update", "patch", "delete")
    ),
    *((verb, "pods", {"group": ""}) for verb in ("get", "list", "create", "delete")),
    ("create", "pods/exec", {"group": ""}),
    *((verb, "configmaps", {"group": ""}) for verb in ("get", "list", "watch", "update")),
    *((verb, "events", {"group": "events.k8s.io"}) for verb in ("get", "list", "update", "patch", "delete")),
    ("create", "events", {"group": ""}),
    *((verb, "leases", {"group": "coordination.k8s.io"}) for verb in ("get", "create", "update")),
    *(
        (verb, "leases", {"group": "coordination.k8s.io", "namespace": NAMESPACE, "name": "another"})
        for verb in ("get", "update", "patch", "delete")
    ),
    *(
        (verb, "customresourcedefinitions", {"group": "apiextensions.k8s.io", "namespace": ""})
        for verb in ("get", "list", "watch", "create", "update", "patch", "delete")
    ),
    *(
        (verb, kind, {"group": "rbac.authorization.k8s.io", "namespace": ""})
        for kind in ("clusterroles", "clusterrolebindings")
        for verb in ("get", "create", "update", "bind", "escalate")
    ),
    ("create", "serviceaccounts/token", {"group": ""}),
    ("impersonate", "users", {"group": "", "namespace": ""}),
    ("*", "*", {"group": "*"}),
]


def described(right: tuple[str, str, dict[str, str]]) -> str:
    verb, resource, where = right
    return "-".join([verb, resource, *where.values()])


@pytest.mark.parametrize("right", ALLOWED, ids=described)
def test_the_operator_may(admin: client.ApiClient, right: tuple[str, str, dict[str, str]]) -> None:
    verb, resource, where = right
    assert may(admin, OPERATOR, verb, resource, **where)


@pytest.mark.parametrize("right", DENIED, ids=described)
def test_the_operator_may_not(admin: client.ApiClient, right: tuple[str, str, dict[str, str]]) -> None:
    verb, resource, where = right
    assert not may(admin, OPERATOR, verb, resource, **where)


@pytest.mark.usefixtures("installed")
def test_kubectl_gives_the_same_answers(chart_kubectl: Kubectl) -> None:
    assert (
        chart_kubectl.run(
            "auth", "can-i", "list", "accessgrants.lakebase.dev", "-A", f"--as={OPERATOR}"
        ).strip()
        == "yes"
    )
    with pytest.raises(SandboxError):
        chart_kubectl.run("auth", "can-i", "delete", "accessgrants.lakebase.dev", "-A", f"--as={OPERATOR}")


@pytest.fixture(scope="module")
def bound(admin: client.ApiClient) -> str:
    """A namespace in which each job's ClusterRole is bound to a user of the same name."""
    namespace = "jobs"
    client.CoreV1Api(admin).create_namespace({"metadata": {"name": namespace}})
    for role in (*JOBS, "lakebase-view", "lakebase-edit"):
        client.RbacAuthorizationV1Api(admin).create_namespaced_role_binding(
            namespace,
            {
                "metadata": {"name": role},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
                "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": role}],
            },
        )
    return namespace


JOBS = {
    "lakebase-connection-admin": "lakebaseconnections",
    "lakebase-role-admin": "postgresroles",
    "lakebase-mapping-admin": "usermappings",
    "lakebase-grant-admin": "accessgrants",
    "lakebase-instance-admin": "lakebaseinstances",
    "lakebase-catalog-admin": "databasecatalogs",
}


@pytest.mark.requirement("R-53", "R-70")
@pytest.mark.parametrize("job", JOBS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("verb", ["create", "update", "patch", "delete"])
def test_each_job_writes_its_own_kind_and_no_other(
    admin: client.ApiClient, bound: str, job: str, kind: str, verb: str
) -> None:
    assert may(admin, job, verb, kind, namespace=bound) == (kind == JOBS[job])


@pytest.mark.parametrize("user", [*JOBS, "lakebase-view"])
@pytest.mark.parametrize("kind", KINDS)
def test_each_job_sees_all_kinds_in_its_namespace_only(
    admin: client.ApiClient, bound: str, user: str, kind: str
) -> None:
    for verb in ("get", "list", "watch"):
        assert may(admin, user, verb, kind, namespace=bound)
        assert not may(admin, user, verb, kind, namespace="elsewhere")


@pytest.mark.parametrize("user", [*JOBS, "lakebase-view", "lakebase-edit"])
def test_no_job_writes_a_status_or_reads_secrets(admin: client.ApiClient, bound: str, user: str) -> None:
    assert not may(admin, user, "get", "secrets", namespace=bound, group="")
    for kind in KINDS:
        for verb in ("update", "patch"):
            assert not may(admin, user, verb, f"{kind}/status", namespace=bound)


@pytest.mark.requirement("R-53", "R-70")
def test_a_mapping_administrator_maps_a_user_but_is_refused_a_connection(
    bound: str, chart_cluster: EmbeddedCluster
) -> None:
    as_mapper = Kubectl(chart_cluster.kubeconfig)
    mapping: dict[str, Any] = {
        "apiVersion": "lakebase.dev/v1alpha1",
        "kind": "UserMapping",
        "metadata": {"name": "alice", "namespace": bound},
        "spec": {"user": "alice@example.com"},
    }
    connection: dict[str, Any] = {
        "apiVersion": "lakebase.dev/v1alpha1",
        "kind": "LakebaseConnection",
        "metadata": {"name": "marketing", "namespace": bound},
        "spec": {
            "target": {"server": {"host": "db.example.com"}},
            "auth": {"password": {"secretRef": {"name": "login"}}},
        },
    }

    def create(user: str, body: dict[str, Any]) -> str:
        return as_mapper.run("create", f"--as={user}", "--filename=-", stdin=yaml.safe_dump(body))

    assert create("lakebase-mapping-admin", mapping) == "usermapping.lakebase.dev/alice created\n"
    with pytest.raises(SandboxError, match='cannot create resource "lakebaseconnections"'):
        create("lakebase-mapping-admin", connection)
    assert (
        create("lakebase-connection-admin", connection)
        == "lakebaseconnection.lakebase.dev/marketing created\n"
    )
    with pytest.raises(SandboxError, match='cannot create resource "usermappings"'):
        create("lakebase-connection-admin", mapping | {"metadata": {"name": "bob", "namespace": bound}})


@pytest.fixture
def operator(admin: client.ApiClient) -> Iterator[client.CustomObjectsApi]:
    """The operator's own ServiceAccount, with a token of its own."""
    token = client.CoreV1Api(admin).create_namespaced_service_account_token(
        "lakebase-operator", NAMESPACE, {"spec": {"expirationSeconds": 600}}
    )
    configuration = client.Configuration(host=admin.configuration.host)
    configuration.ssl_ca_cert = admin.configuration.ssl_ca_cert
    configuration.api_key = {"authorization": f"Bearer {token.status.token}"}
    with client.ApiClient(configuration) as api:
        yield client.CustomObjectsApi(api)


def test_the_operators_own_token_reads_and_reports_but_declares_nothing(
    admin: client.ApiClient, operator: client.CustomObjectsApi, bound: str
) -> None:
    grants = ("lakebase.dev", "v1alpha1", bound, "accessgrants")
    body = {
        "apiVersion": "lakebase.dev/v1alpha1",
        "kind": "AccessGrant",
        "metadata": {"name": "readers"},
        "spec": {
            "connectionRef": {"name": "marketing"},
            "subjects": [{"kind": "Public"}],
            "access": "Read",
            "objects": [{"schemas": {"names": ["sales"]}}],
        },
    }
    with pytest.raises(ApiException, match="cannot create resource"):
        operator.create_namespaced_custom_object(*grants, body)
    client.CustomObjectsApi(admin).create_namespaced_custom_object(*grants, body)

    assert len(operator.list_namespaced_custom_object(*grants)["items"]) == 1
    status = {"observedGeneration": 1}
    after = operator.patch_namespaced_custom_object_status(*grants, "readers", {"status": status})
    assert after["status"] == status
    finalizers = ["lakebase.dev/finalizer"]
    after = operator.patch_namespaced_custom_object(
        *grants, "readers", {"metadata": {"finalizers": finalizers}}
    )
    assert after["metadata"]["finalizers"] == finalizers
    after = operator.patch_namespaced_custom_object(*grants, "readers", {"metadata": {"finalizers": None}})
    assert "finalizers" not in after["metadata"]

    with pytest.raises(ApiException, match="cannot delete resource"):
        operator.delete_namespaced_custom_object(*grants, "readers")
    with pytest.raises(ApiException, match="cannot list resource"):
        client.CoreV1Api(operator.api_client).list_namespaced_pod(bound)


def test_an_upgrade_changes_the_deployment_and_keeps_objects(
    chart_kubectl: Kubectl, releases: helm.Config, bound: str
) -> None:
    releases.upgrade(CHART, RELEASE, {"log": {"level": "debug"}}, namespace=NAMESPACE)
    env = chart_kubectl.run(
        "get",
        "deployment",
        "lakebase-operator",
        "-n",
        NAMESPACE,
        "-o",
        "jsonpath={.spec.template.spec.containers[0].env}",
    )
    assert '"debug"' in env
    assert bound in chart_kubectl.run("get", "lakebase", "-A", "--no-headers")


def test_uninstalling_leaves_definitions_and_objects_and_installing_again_finds_them(
    chart_kubectl: Kubectl, releases: helm.Config, bound: str
) -> None:
    before = chart_kubectl.run("get", "lakebase", "-A", "-o", "name")
    releases.uninstall(RELEASE)
    with pytest.raises(SandboxError, match="not found"):
        chart_kubectl.run("get", "deployment", "lakebase-operator", "-n", NAMESPACE)
    assert chart_kubectl.run("get", "lakebase", "-A", "-o", "name") == before != ""
    with pytest.raises(SandboxError, match="not found"):
        chart_kubectl.run("get", "clusterrole", "lakebase-operator")

    assert releases.install(CHART, RELEASE, namespace=NAMESPACE)["status"] == "deployed"
    assert chart_kubectl.run("get", "lakebase", "-A", "-o", "name") == before
