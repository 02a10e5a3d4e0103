"""Where Databricks shows what is left to it."""

from typing import Any

import pytest

from lakebase_operator.api.lakebase_connection import LakebaseConnectionSpec
from lakebase_operator.domain.links import links

AUTH = {"password": {"secretRef": {"name": "login"}}}


def spec(workspace: str | None, **target: Any) -> LakebaseConnectionSpec:
    return LakebaseConnectionSpec.model_validate({"workspaceURL": workspace, "target": target, "auth": AUTH})


@pytest.mark.requirement("R-169")
@pytest.mark.parametrize(
    ("workspace", "console"),
    [
        ("https://acme.cloud.databricks.com", "https://accounts.cloud.databricks.com/usage"),
        ("https://adb-42.7.azuredatabricks.net", "https://accounts.azuredatabricks.net/usage"),
        ("https://42.1.gcp.databricks.com", "https://accounts.gcp.databricks.com/usage"),
        ("https://acme.databricks.us", None),
    ],
)
def test_a_workspace_has_links_to_its_queries_and_where_known_to_its_account(
    workspace: str, console: str | None
) -> None:
    found = links(spec(workspace, autoscaling={"project": "marketing"}))
    expected = {"queryHistory": f"{workspace}/sql/history"}
    assert found == (expected | {"usage": console} if console else expected)


@pytest.mark.requirement("R-169")
def test_an_instance_has_a_page_of_its_own_and_a_plain_server_has_none() -> None:
    found = links(spec("https://acme.cloud.databricks.com", provisioned={"instance": "marketing-db"}))
    assert found is not None
    assert found["instance"] == "https://acme.cloud.databricks.com/compute/database-instances/marketing-db"
    assert links(spec(None, server={"host": "db.example.com"})) is None
    assert links(spec("https://acme.cloud.databricks.com", server={"host": "db.example.com"})) is None
