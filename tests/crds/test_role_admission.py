"""What the API server takes and refuses of a PostgresRole's settings, comment and ownership."""

from typing import Any

import pytest

from tests.crds.manifests import role
from tests.crds.objects import Objects, Refused

ORDERS = {"tables": {"schema": "sales", "names": ["orders"]}}

REFUSED: list[tuple[dict[str, Any], str]] = [
    (role(comment=""), "spec.comment"),
    (role(comment="x" * 1025), "spec.comment"),
    (role(databaseSettings={"sales": {}}), "spec.databaseSettings"),
    (role(databaseSettings={"s" * 64: {"work_mem": "8MB"}}), "spec.databaseSettings"),
    (role(databaseSettings={"sales": {"work mem": "8MB"}}), "spec.databaseSettings"),
    (role(owns=[{}]), "give exactly one of tables"),
    (role(owns=[ORDERS | {"schemas": {"names": ["sales"]}}]), "give exactly one of tables"),
    (role(owns=[{"database": "sales"}]), "give exactly one of tables"),
    (role(owns=[{"tables": ORDERS["tables"] | {"columns": ["id"]}}]), "a table is owned as a whole"),
    (role(owns=[{"tables": {"schema": "pg_catalog", "matching": ["*"]}}]), "is a system schema"),
    (role(owns=[{"schemas": {"names": ["information_schema"]}}]), "is a system schema"),
    (role(owns=[{"parameters": {"names": ["work_mem"]}}]), "cannot be owned this way"),
    (role(owns=[{"tablespaces": {"names": ["fast"]}}]), "cannot be owned this way"),
    (
        role(owns=[{"defaultPrivileges": {"objectType": "tables", "creator": "x"}}]),
        "cannot be owned this way",
    ),
    (role(owns=[ORDERS] * 33), "spec.owns"),
    (role(level="Admin"), "spec.level"),
    (
        role(level="Superuser", memberOf=[{"role": "analysts"}, {"role": "databricks_superuser"}]),
        "level: Superuser is the membership in databricks_superuser",
    ),
    (role(platformSchema={}), "spec.platformSchema.name"),
    (role(platformSchema={"name": "public"}), "belongs to everybody"),
    (role(platformSchema={"name": "pg_app"}), "is a system schema"),
    (role(platformSchema={"name": "lakebase_operator"}), "is a system schema"),
    (role(platformSchema={"name": "s" * 64}), "spec.platformSchema.name"),
    (role(platformSchema={"name": "shop", "deletionPolicy": "Keep"}), "spec.platformSchema.deletionPolicy"),
]

ACCEPTED: list[dict[str, Any]] = [
    role(comment="For the app", databaseSettings={"Sales DB": {"work_mem": "8MB", "app.tenant": "1"}}),
    role(memberOf=[{"role": "pg_read_all_data"}]),
    role(
        owns=[
            ORDERS | {"database": "sales"},
            {"schemas": {"matching": ["*"], "except": ["public"]}},
            {"sequences": {"schema": "sales", "matching": ["*"]}},
            {"routines": {"schema": "sales", "names": ["f(integer, sales.money)", "g"]}},
            {"types": {"schema": "sales", "names": ["mood"]}},
            {"databases": {"names": ["sales"]}},
            {"languages": {"names": ["plpgsql"]}},
            {"foreignDataWrappers": {"names": ["w"]}},
            {"foreignServers": {"names": ["s"]}},
            {"largeObjects": {"ids": [4711]}},
        ]
    ),
    role(level="Superuser", memberOf=[{"role": "analysts"}], platformSchema={"name": "Shop own"}),
    role(level="Specific", memberOf=[{"role": "databricks_superuser"}]),
]


@pytest.mark.parametrize(("body", "message"), REFUSED)
def test_the_api_server_refuses_what_a_role_cannot_be(
    objects: Objects, body: dict[str, Any], message: str
) -> None:
    with pytest.raises(Refused) as refusal:
        objects.create(body, dry_run=True)
    assert message in str(refusal.value)


@pytest.mark.parametrize("body", ACCEPTED)
def test_the_api_server_accepts_what_a_role_can_be(objects: Objects, body: dict[str, Any]) -> None:
    created = objects.create(body, dry_run=True)["spec"]
    for field in ("comment", "databaseSettings", "owns"):
        assert created.get(field) == body["spec"].get(field)


@pytest.mark.requirement("R-110", "R-112", "R-121")
def test_the_level_is_specific_and_a_platform_schema_is_kept_unless_somebody_says_otherwise(
    objects: Objects,
) -> None:
    created = objects.create(role(platformSchema={"name": "shop"}), dry_run=True)["spec"]
    assert created["level"] == "Specific"
    assert created["platformSchema"]["deletionPolicy"] == "Retain"


def test_the_largest_role_that_the_bounds_allow_is_within_what_rules_may_cost(objects: Objects) -> None:
    largest = role(
        owns=[
            {"tables": {"schema": "s" * 63, "names": [f"{n:03}{'t' * 60}" for n in range(256)]}}
            for _ in range(32)
        ],
        databaseSettings={
            f"{database:02}": {f"s{setting}": "v" for setting in range(64)} for database in range(32)
        },
    )
    assert len(objects.create(largest, dry_run=True)["spec"]["owns"]) == 32
