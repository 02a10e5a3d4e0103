"""The description of tables, as an application reads it."""

import json
from dataclasses import replace

import pytest

from lakebase_operator.api.postgres_role import PostgresRoleSpec
from lakebase_operator.domain.exposed import (
    Column,
    Exposed,
    ExposedTable,
    RelationKind,
    TableSelector,
    describe,
    missing_grants,
    selectors_by_database,
)

ID = Column("id", "bigint", False, 1, None, True)
ORDERS = ExposedTable(
    "sales",
    "orders",
    RelationKind.TABLE,
    'The "orders"',
    ("id",),
    True,
    True,
    True,
    (ID, replace(ID, name="größe")),
)


def spec(**fields: object) -> PostgresRoleSpec:
    return PostgresRoleSpec.model_validate({"connectionRef": {"name": "marketing"}, **fields})


@pytest.mark.requirement("R-6", "R-7", "R-211")
def test_a_table_is_described_with_its_path_key_and_columns() -> None:
    description = describe("team/marketing", {"app": Exposed((ORDERS,))}, limit=10_000)
    assert json.loads(description.text) == {
        "connection": "team/marketing",
        "tables": [
            {
                "database": "app", "schema": "sales", "name": "orders", "kind": "Table", "comment": 'The "orders"',
                "key": ["id"], "keyKnown": True, "readable": True,
                "columns": [
                    {"name": "id", "type": "bigint", "nullable": False, "position": 1, "comment": None, "readable": True},
                    {"name": "größe", "type": "bigint", "nullable": False, "position": 1, "comment": None, "readable": True},
                ],
            }
        ],
        "leftOut": 0,
    }  # fmt: skip


def test_the_order_is_that_of_the_databases_and_of_their_tables() -> None:
    stock = replace(ORDERS, name="stock")
    one = describe("c", {"b": Exposed((ORDERS,)), "a": Exposed((ORDERS, stock))}, limit=10_000)
    two = describe("c", {"a": Exposed((ORDERS, stock)), "b": Exposed((ORDERS,))}, limit=10_000)
    assert one == two
    paths = [(table["database"], table["name"]) for table in json.loads(one.text)["tables"]]
    assert paths == [("a", "orders"), ("a", "stock"), ("b", "orders")]


@pytest.mark.parametrize("limit", [60, 500, 1_000, 2_000, 3_000, 100_000])
def test_what_does_not_fit_is_left_out_and_counted(limit: int) -> None:
    tables = tuple(replace(ORDERS, name=f"o_{number:02}") for number in range(11))
    description = describe("team/marketing", {"app": Exposed(tables)}, limit=limit)
    assert len(description.text.encode()) <= limit
    found = json.loads(description.text)
    assert [table["name"] for table in found["tables"]] == [
        f"o_{number:02}" for number in range(11 - description.left_out)
    ]
    assert found["leftOut"] == description.left_out
    one_more = describe(
        "team/marketing", {"app": Exposed(tables[: 12 - description.left_out])}, limit=100_000
    )
    assert description.left_out == 0 or len(one_more.text.encode()) > limit - 2, (
        "as many as there is room for"
    )


def test_without_tables_there_is_an_empty_list() -> None:
    assert json.loads(describe("c", {}, limit=100).text) == {"connection": "c", "tables": [], "leftOut": 0}


def test_nothing_of_a_table_is_readable_without_its_schema() -> None:
    table = replace(ORDERS, usable=False)
    (found,) = json.loads(describe("c", {"app": Exposed((table,))}, limit=10_000).text)["tables"]
    assert not found["readable"]
    assert not any(column["readable"] for column in found["columns"])


def test_the_missing_grants_are_named_those_on_a_schema_once() -> None:
    closed, hidden = (
        replace(ORDERS, usable=False),
        replace(ORDERS, name="stock", usable=False, selectable=False),
    )
    unselectable = replace(ORDERS, schema="crm", name="people", selectable=False)
    tables = (ORDERS, closed, hidden, unselectable)
    assert [one.text for one in missing_grants(tables, "app")] == [
        'GRANT USAGE ON SCHEMA "sales" TO "app"',
        'GRANT SELECT ON TABLE "sales"."stock" TO "app"',
        'GRANT SELECT ON TABLE "crm"."people" TO "app"',
    ]
    assert [one.readable for one in tables] == [True, False, False, False]
    assert missing_grants([ORDERS], "app") == []


@pytest.mark.requirement("R-131")
def test_the_database_is_that_of_the_entry_else_the_one_that_is_published() -> None:
    orders = {"schema": "sales", "names": ["orders"]}
    people = {"schema": "crm", "database": "people", "matching": ["*"], "except": ["*_raw"]}
    sales = TableSelector("sales", ("orders",))
    crm = TableSelector("crm", (), ("%",), (r"%\_raw",))
    assert selectors_by_database(spec(exposes=[orders, people]), "home") == {"home": [sales], "people": [crm]}
    assert selectors_by_database(spec(exposes=[orders, people]), "people") == {"people": [sales, crm]}
    assert selectors_by_database(spec(), "home") == {}
