"""What the status of a LakebaseInstance shows of its Lakebase."""

from typing import Any

from lakebase_operator.api import LakebaseInstance
from lakebase_operator.domain import lakebase_instance as domain
from lakebase_operator.domain.instance import Instance, InstanceState
from lakebase_operator.domain.lakebase_instance import Found, Resource, ResourceKind, Setting
from lakebase_operator.engine.catalog import Catalog
from lakebase_operator.reconcilers.instance_description import describe
from tests.unit.engine import bodies

MAIN, STAGING = "projects/growing/branches/production", "projects/growing/branches/staging"


def instance(**lakebase: Any) -> LakebaseInstance:
    login = {
        "workspaceURL": "https://acme.cloud.databricks.com",
        "auth": {"workloadIdentity": {"clientID": "1f0c2a34"}},
    }
    return LakebaseInstance.model_validate(
        bodies.body("LakebaseInstance", "growing", spec={**login, **lakebase})
    )


def replica(branch: str, name: str, host: str) -> Found:
    return Found(
        Resource(ResourceKind.ENDPOINT, f"{branch}/endpoints/{name}"),
        {Setting.READ_ONLY: True},
        instance=Instance(InstanceState.AVAILABLE, host),
        read_only_host=host,
    )


def read_only_host(one: LakebaseInstance, *found: Found) -> object:
    seen = {there.resource: there for there in found}
    return describe(one, domain.wanted(one.spec), seen, Catalog()).fields["readOnlyHost"]


def test_the_read_only_host_is_one_of_the_main_branch() -> None:
    staging = {"name": "staging", "endpoint": {"readReplicas": [{"name": "reader"}]}}
    growing = instance(autoscaling={"project": "growing", "branches": [staging]})
    of_staging = replica(STAGING, "reader", "ep-copy.example.com")
    of_main = replica(MAIN, "reader", "ep-live.example.com")
    assert read_only_host(growing, of_staging) is None, "readers would be led to the data of another branch"
    assert read_only_host(growing, of_staging, of_main) == "ep-live.example.com"


def test_the_read_only_host_of_an_instance_is_its_own() -> None:
    there = Found(Resource(ResourceKind.INSTANCE, "growing-db"), {}, read_only_host="instance-ro.example.com")
    growing = instance(provisioned={"instance": "growing-db"})
    assert read_only_host(growing, there) == "instance-ro.example.com"
