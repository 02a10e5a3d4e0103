"""What the API server takes and refuses of LakebaseInstances, DatabaseCatalogs, and references to them."""

from copy import deepcopy
from typing import Any

import pytest

from tests.crds.manifests import (
    ABSENT,
    CATALOG,
    INSTANCE,
    PASSWORD,
    autoscaling,
    catalog,
    connection,
    instance,
    provisioned,
)
from tests.crds.objects import Objects, Refused

REFERENCE = {"instanceRef": {"name": "marketing"}}

REFUSED = {
    "no-lakebase": (instance(autoscaling=ABSENT), "give exactly one of autoscaling, provisioned"),
    "two-lakebases": (
        instance(provisioned={"instance": "a"}),
        "give exactly one of autoscaling, provisioned",
    ),
    "no-login": (instance(auth={}), "give exactly one of oauthM2M, workloadIdentity"),
    "a-password": (instance(auth=PASSWORD), 'unknown field "spec.auth.password"'),
    "no-workspace": (instance(workspaceURL=ABSENT), "spec.workspaceURL: Required"),
    "one-limit": (autoscaling(endpoint={"minCU": 1}), "give both of minCU and maxCU"),
    "limits-crossed": (autoscaling(endpoint={"minCU": 4, "maxCU": 2}), "maxCU has to be at least minCU"),
    "limits-too-far-apart": (autoscaling(endpoint={"minCU": 1, "maxCU": 18}), "at most 16 above it"),
    "too-small": (autoscaling(endpoint={"minCU": 0.25, "maxCU": 1}), "0.5"),
    "impatient": (autoscaling(endpoint={"suspendTimeout": "30s"}), "has to be between 60s and 168h"),
    "short-history": (autoscaling(historyRetention="1h"), "has to be between 48h and 840h"),
    "main-branch-twice": (
        autoscaling(branches=[{"name": "production"}]),
        "the main branch does not go into branches",
    ),
    "seven-replicas": (
        autoscaling(endpoint={"readReplicas": [{"name": f"r{n}"} for n in range(7)]}),
        "must have at most 6 items",
    ),
    "odd-capacity": (provisioned(capacity="CU_3"), 'supported values: "CU_1", "CU_2", "CU_4", "CU_8"'),
    "long-retention": (provisioned(retentionDays=36), "35"),
    "no-node": (provisioned(nodes=0), "spec.provisioned.nodes"),
    "catalog-with-a-dot": (catalog(catalog="a.b"), "spec.catalog"),
    "two-targets": (
        connection(target={**REFERENCE, "provisioned": {"instance": "a"}}),
        "give exactly one of autoscaling, provisioned, server, instanceRef",
    ),
}
ACCEPTED = {
    "autoscaling": INSTANCE,
    "large": autoscaling(
        postgresVersion=17,
        historyRetention="840h",
        endpoint={
            "minCU": 0.5,
            "maxCU": 16,
            "suspendTimeout": "168h",
            "readReplicas": [{"name": "r", "minCU": 1, "maxCU": 1}],
        },
        branches=[{"name": "staging", "grants": "Managed", "expiresAfter": "720h", "stopped": True}],
    ),
    "provisioned": provisioned(capacity="CU_8", retentionDays=2, nodes=3, readableSecondaries=True),
    "catalog": CATALOG,
    "reference": connection(target=REFERENCE, workspaceURL=ABSENT),
    "reference-to-a-branch": connection(
        target={"instanceRef": {"name": "marketing", "branch": "staging"}}, workspaceURL=ABSENT
    ),
    "reference-with-a-password": connection(target=REFERENCE, workspaceURL=ABSENT, auth=PASSWORD),
}


@pytest.mark.parametrize(("body", "message"), REFUSED.values(), ids=REFUSED)
def test_the_api_server_refuses_with_a_message_that_says_why(
    objects: Objects, body: dict[str, Any], message: str
) -> None:
    with pytest.raises(Refused) as refusal:
        objects.create(body, dry_run=True)
    assert message in str(refusal.value)


@pytest.mark.requirement("R-106")
@pytest.mark.parametrize("body", ACCEPTED.values(), ids=ACCEPTED)
def test_the_api_server_accepts(objects: Objects, body: dict[str, Any]) -> None:
    assert objects.create(body, dry_run=True)["metadata"]["name"] == body["metadata"]["name"]


@pytest.mark.requirement("R-99")
def test_what_is_left_out_keeps_the_lakebase_and_takes_over_what_exists(objects: Objects) -> None:
    objects.create(INSTANCE)
    spec = objects.read("LakebaseInstance", "marketing")["spec"]
    assert (spec["deletionPolicy"], spec["create"], spec["adopt"]) == ("Retain", "IfMissing", True)
    assert spec["startTimeout"] == "15m"
    assert spec["autoscaling"]["branch"] == "production"
    assert not {"stopped", "nativeLogin"} & spec.keys(), "left as it is"
    objects.create(CATALOG)
    spec = objects.read("DatabaseCatalog", "marketing")["spec"]
    assert (spec["deletionPolicy"], spec["database"]) == ("Retain", "databricks_postgres")


@pytest.mark.parametrize(
    "change",
    [
        {"autoscaling": {"project": "other"}},
        {"workspaceURL": "https://other.cloud.databricks.com"},
        {"autoscaling": None, "provisioned": {"instance": "marketing-db"}},
    ],
    ids=["project", "workspace", "kind"],
)
def test_which_lakebase_it_is_cannot_be_changed(objects: Objects, change: dict[str, Any]) -> None:
    objects.create(deepcopy(INSTANCE))
    with pytest.raises(Refused, match=r"immutable|cannot change"):
        objects.patch("LakebaseInstance", "marketing", {"spec": change})
