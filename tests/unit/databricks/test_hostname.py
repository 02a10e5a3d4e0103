"""Host names of Lakebase databases are told from others."""

import pytest

from lakebase_operator.external.databricks import recognized

UUID = "6b53ca76-0b54-4c0b-9b6c-5e1f0c2d3a4b"


@pytest.mark.requirement("R-104")
@pytest.mark.parametrize(
    "host",
    [
        f"instance-{UUID}.database.cloud.databricks.com",
        f"instance-ro-{UUID}.database.cloud.databricks.com",
        f"instance-{UUID}.database.azuredatabricks.net",
        f"instance-{UUID}.database.gcp.databricks.com",
        f"Instance-{UUID.upper()}.Database.Cloud.Databricks.com",
        f"instance-{UUID}.database.cloud.databricks.com.",
        "ep-cool-darkness-a1b2c3d4.database.us-east-1.cloud.databricks.com",
        "ep-cool-darkness-a1b2c3d4-pooler.database.us-east-1.cloud.databricks.com",
        "ep-cool-darkness-a1b2c3d4.database.cloud.databricks.com",
        "ep-cool-darkness-a1b2c3d4.database.westeurope.azuredatabricks.net",
        "ep-cool-darkness-a1b2c3d4.database.us-central1.gcp.databricks.com",
        "ep-cool-darkness-a1b2c3d4.database.us-gov-west-1.cloud.databricks.us",
    ],
)
def test_a_host_of_a_lakebase_database_is_recognized(host: str) -> None:
    assert recognized(host)


@pytest.mark.requirement("R-104")
@pytest.mark.parametrize(
    "host",
    [
        "",
        "localhost",
        "127.0.0.1",
        "db.example.com",
        "acme.cloud.databricks.com",  # a workspace
        "adb-1234567890.12.azuredatabricks.net",  # a workspace
        "instance-marketing.database.cloud.databricks.com",  # not a UUID
        f"instance-{UUID}.database.cloud.databricks.com.evil.example",
        f"evil.example/instance-{UUID}.database.cloud.databricks.com",
        f"instance-{UUID}.cloud.databricks.com",
        "ep-.database.us-east-1.cloud.databricks.com",
        "ep-cool-darkness-a1b2c3d4.us-east-2.aws.neon.tech",
        f"instance-{UUID}.database.cloud.databricks.com\n",
    ],
)
def test_any_other_host_is_not(host: str) -> None:
    assert not recognized(host)
