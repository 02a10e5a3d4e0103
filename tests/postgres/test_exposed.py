"""The tables that an application is shown: which are meant, what they are like, what identifies a row, who may read them."""

from collections.abc import Mapping
from typing import Any

import pytest
from psycopg.rows import dict_row

from lakebase_operator.api import PostgresRole, Reason
from lakebase_operator.api.postgres_role import ExposedTables
from lakebase_operator.domain.exposed import Column, Exposed, ExposedTable, RelationKind, table_selector
from lakebase_operator.external.postgres.exposed import read_exposed
from lakebase_operator.external.postgres.session import SETTINGS
from lakebase_operator.reconcilers import exposing
from tests.postgres.objects import access_grant, postgres_role, tables
from tests.postgres.world import READY, STALLED, WAITING, Synced, World

SCHEMA = "CREATE SCHEMA sales"
NOBODY = "nobody"


def entry(schema: str, **spec: Any) -> ExposedTables:
    """An entry of ``spec.exposes``."""
    return ExposedTables.model_validate({"schema": schema, **spec})


async def exposed(world: World, *entries: ExposedTables, role: str = NOBODY) -> Exposed:
    """What the operator sees in a session of its own."""
    async with world.session() as session:
        return await read_exposed(session, [table_selector(one) for one in entries], role)


async def all_of(world: World, schema: str = "sales", role: str = NOBODY) -> Mapping[str, ExposedTable]:
    """All tables of a schema by name."""
    found = await exposed(world, entry(schema, matching=["*"]), role=role)
    return {table.name: table for table in found.tables}


# -- which ------------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("R-131")
async def test_tables_are_chosen_by_name_by_pattern_and_by_schema(world: World) -> None:
    await world.run(
        SCHEMA, "CREATE SCHEMA crm", "CREATE SCHEMA hidden",
        *(f"CREATE TABLE sales.{name} ()" for name in ("orders", "order_lines", "order_lines_raw", "stock")),
        "CREATE TABLE crm.people ()", "CREATE TABLE hidden.secrets ()",
    )  # fmt: skip
    by_name = await exposed(world, entry("sales", names=["stock", "orders"]))
    by_pattern = await exposed(world, entry("sales", matching=["order_*"], **{"except": ["*_raw"]}))
    by_schema = await exposed(world, entry("sales", matching=["*"]), entry("crm", matching=["*"]))
    assert [str(one) for one in by_name.tables] == ["sales.orders", "sales.stock"]
    assert [str(one) for one in by_pattern.tables] == ["sales.order_lines"]
    assert [str(one) for one in by_schema.tables] == [
        "crm.people", "sales.order_lines", "sales.order_lines_raw", "sales.orders", "sales.stock"
    ]  # fmt: skip


@pytest.mark.requirement("R-131")
async def test_a_table_that_several_entries_select_is_there_once_and_what_is_missing_is_named(
    world: World,
) -> None:
    await world.run(SCHEMA, "CREATE TABLE sales.orders ()")
    found = await exposed(
        world,
        entry("sales", names=["orders", "gone"], matching=["ord*"]),
        entry("sales", names=["orders", "gone"]),
        entry("nowhere", names=["it"], matching=["*"]),
        entry("nowhere", matching=["*"]),
    )
    assert [str(one) for one in found.tables] == ["sales.orders"]
    assert found.missing == (("nowhere", "it"), ("sales", "gone"))


@pytest.mark.requirement("R-131")
async def test_what_is_left_out_is_not_missing(world: World) -> None:
    await world.run(SCHEMA, "CREATE TABLE sales.orders_raw ()")
    found = await exposed(world, entry("sales", names=["orders_raw"], **{"except": ["*_raw"]}))
    assert found == Exposed()


@pytest.mark.requirement("R-131")
async def test_partitions_and_what_an_extension_brought_are_meant_by_their_exact_names_only(
    world: World,
) -> None:
    await world.run(
        SCHEMA, "CREATE TABLE sales.events (at date) PARTITION BY RANGE (at)",
        "CREATE TABLE sales.events_2026 PARTITION OF sales.events FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')",
        "CREATE TABLE sales.brought (id int)", "ALTER EXTENSION plpgsql ADD TABLE sales.brought",
    )  # fmt: skip
    assert list(await all_of(world)) == ["events"]
    named = await exposed(world, entry("sales", names=["brought", "events_2026"]))
    assert [one.name for one in named.tables] == ["brought", "events_2026"]


async def test_sequences_indexes_and_composite_types_are_no_tables(world: World) -> None:
    await world.run(
        SCHEMA, "CREATE SEQUENCE sales.numbers", "CREATE TYPE sales.pair AS (a int, b int)",
        "CREATE TABLE sales.orders (id int)", "CREATE INDEX by_id ON sales.orders (id)",
    )  # fmt: skip
    assert list(await all_of(world)) == ["orders"]
    assert (await exposed(world, entry("sales", names=["numbers"]))).missing == (("sales", "numbers"),)


async def test_system_schemas_are_never_shown(world: World) -> None:
    with pytest.raises(ValueError, match="pg_catalog is a system schema"):
        await exposed(world, ExposedTables.model_construct(schema_="pg_catalog", names=["pg_authid"]))


# -- what they are like -----------------------------------------------------------------------------------------------


@pytest.mark.requirement("R-6", "R-211")
async def test_columns_have_name_type_nullability_position_and_comment(world: World) -> None:
    await world.run(
        SCHEMA, "CREATE TYPE sales.mood AS ENUM ('good', 'bad')", "CREATE DOMAIN sales.amount AS numeric(10,2)",
        """CREATE TABLE sales."marketing-data" (
             id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "Full Name" varchar(80) NOT NULL, dropped int,
             total numeric(10,2), at timestamptz(3), tags text[], mood sales.mood, price sales.amount)""",
        'ALTER TABLE sales."marketing-data" DROP COLUMN dropped',
        """COMMENT ON TABLE sales."marketing-data" IS 'What was ''sold''.'""",
        'COMMENT ON COLUMN sales."marketing-data"."Full Name" IS \'As on the "passport".\'',
    )  # fmt: skip
    (table,) = (await exposed(world, entry("sales", names=["marketing-data"]))).tables
    assert (table.schema, table.name, table.kind) == ("sales", "marketing-data", RelationKind.TABLE)
    assert (table.comment, table.key, table.key_known) == ("What was 'sold'.", ("id",), True)
    assert table.columns == (
        Column("id", "bigint", False, 1, None, False),
        Column("Full Name", "character varying(80)", False, 2, 'As on the "passport".', False),
        Column("total", "numeric(10,2)", True, 4, None, False),
        Column("at", "timestamp(3) with time zone", True, 5, None, False),
        Column("tags", "text[]", True, 6, None, False),
        Column("mood", "sales.mood", True, 7, None, False),
        Column("price", "sales.amount", True, 8, None, False),
    )


@pytest.mark.requirement("R-211")
async def test_the_description_follows_alter_table(world: World) -> None:
    await world.run(SCHEMA, "CREATE TABLE sales.orders (id int, total int)")

    async def columns() -> list[tuple[str, str, bool, int]]:
        table = (await all_of(world))["orders"]
        return [(one.name, one.type, one.nullable, one.position) for one in table.columns]

    before = await columns()
    assert before == [("id", "integer", True, 1), ("total", "integer", True, 2)]
    await world.run("ALTER TABLE sales.orders ADD COLUMN note text DEFAULT ''")
    assert await columns() == [*before, ("note", "text", True, 3)]
    await world.run("ALTER TABLE sales.orders RENAME COLUMN total TO amount")
    assert (await columns())[1] == ("amount", "integer", True, 2)
    await world.run("ALTER TABLE sales.orders ALTER COLUMN amount TYPE numeric(12,3)")
    assert (await columns())[1] == ("amount", "numeric(12,3)", True, 2)
    await world.run("ALTER TABLE sales.orders ALTER COLUMN amount SET NOT NULL")
    assert (await columns())[1] == ("amount", "numeric(12,3)", False, 2)
    await world.run("ALTER TABLE sales.orders DROP COLUMN amount")
    assert await columns() == [("id", "integer", True, 1), ("note", "text", True, 3)]
    await world.run("ALTER TABLE sales.orders RENAME TO purchases")
    assert list(await all_of(world)) == ["purchases"]


@pytest.mark.requirement("R-6", "R-132")
async def test_every_kind_of_relation_is_shown_and_what_has_no_constraints_has_an_unknown_key(
    world: World,
) -> None:
    await world.run(
        SCHEMA, "CREATE TABLE sales.plain (id int PRIMARY KEY)",
        "CREATE TABLE sales.parted (id int, at date, PRIMARY KEY (at, id)) PARTITION BY RANGE (at)",
        "CREATE VIEW sales.seen AS SELECT id FROM sales.plain",
        "CREATE MATERIALIZED VIEW sales.stored AS SELECT id FROM sales.plain",
        "CREATE UNIQUE INDEX ON sales.stored (id)",
        "CREATE FOREIGN DATA WRAPPER files", "CREATE SERVER elsewhere FOREIGN DATA WRAPPER files",
        "CREATE FOREIGN TABLE sales.far (id int NOT NULL) SERVER elsewhere",
    )  # fmt: skip
    found = await all_of(world)
    assert {name: (one.kind, one.key, one.key_known) for name, one in found.items()} == {
        "far": (RelationKind.FOREIGN_TABLE, None, False),
        "parted": (RelationKind.PARTITIONED_TABLE, ("at", "id"), True),
        "plain": (RelationKind.TABLE, ("id",), True),
        "seen": (RelationKind.VIEW, None, False),
        "stored": (RelationKind.MATERIALIZED_VIEW, None, False),
    }
    assert not any(one.without_key for one in found.values())
    assert [[column.name for column in one.columns] for one in found.values()] == [
        ["id"],
        ["id", "at"],
        ["id"],
        ["id"],
        ["id"],
    ]


# -- what identifies a row --------------------------------------------------------------------------------------------

KEYS = {
    "none (a int, b int)": None,
    "primary_key (a int, b int UNIQUE NOT NULL, PRIMARY KEY (b, a))": ("b", "a"),
    "late_primary_key (a int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED)": ("a",),
    "unique_constraint (a int, b int NOT NULL UNIQUE)": ("b",),
    "the_smallest (a int NOT NULL, b int NOT NULL, c int NOT NULL, UNIQUE (a, b), UNIQUE (c))": ("c",),
    "the_first_by_name (b int NOT NULL UNIQUE, a int NOT NULL UNIQUE)": ("a",),
    "nullable (a int UNIQUE)": None,
    "partly_nullable (a int NOT NULL, b int, UNIQUE (a, b))": None,
    "late (a int NOT NULL UNIQUE DEFERRABLE)": None,
    "included (a int NOT NULL, b int, UNIQUE (a) INCLUDE (b))": ("a",),
    'quoted ("Order No" int PRIMARY KEY)': ("Order No",),
    "columnless ()": None,
}
INDEXES = {
    "partial": ("(a int NOT NULL)", "UNIQUE INDEX ON sales.partial (a) WHERE a > 0", None),
    "computed": ("(a text NOT NULL)", "UNIQUE INDEX ON sales.computed (lower(a))", None),
    "partly_computed": (
        "(a text NOT NULL, b int NOT NULL)",
        "UNIQUE INDEX ON sales.partly_computed (b, lower(a))",
        None,
    ),
    "plain_index": ("(a int NOT NULL)", "INDEX ON sales.plain_index (a)", None),
    "unique_index": ("(a int NOT NULL)", "UNIQUE INDEX ON sales.unique_index (a)", ("a",)),
}


@pytest.mark.requirement("R-132")
async def test_the_unique_identifier_is_the_primary_key_else_the_smallest_that_tells_all_rows_apart(
    world: World,
) -> None:
    await world.run(SCHEMA, *(f"CREATE TABLE sales.{declared}" for declared in KEYS))
    for name, (columns, index, _) in INDEXES.items():
        await world.run(f"CREATE TABLE sales.{name} {columns}", f"CREATE {index}")
    wanted = {declared.split()[0]: key for declared, key in KEYS.items()}
    wanted |= {name: key for name, (_, _, key) in INDEXES.items()}
    found = await all_of(world)
    assert {name: one.key for name, one in found.items()} == wanted
    assert all(one.key_known and one.without_key is (one.key is None) for one in found.values())


@pytest.mark.requirement("R-132")
async def test_an_index_that_is_not_valid_identifies_nothing(world: World) -> None:
    await world.run(
        SCHEMA,
        "CREATE TABLE sales.events (id int NOT NULL) PARTITION BY RANGE (id)",
        "CREATE TABLE sales.events_0 PARTITION OF sales.events FOR VALUES FROM (0) TO (10)",
        "CREATE UNIQUE INDEX whole ON ONLY sales.events (id)",
    )
    assert (await all_of(world))["events"].without_key
    await world.run(
        "CREATE UNIQUE INDEX part ON sales.events_0 (id)",
        "ALTER INDEX sales.whole ATTACH PARTITION sales.part",
    )
    assert (await all_of(world))["events"].key == ("id",)


@pytest.mark.requirement("R-132")
async def test_a_key_says_nothing_of_the_rows_of_children(world: World) -> None:
    await world.run(
        SCHEMA,
        "CREATE TABLE sales.parent (id int PRIMARY KEY)",
        "CREATE TABLE sales.child (PRIMARY KEY (id)) INHERITS (sales.parent)",
        "INSERT INTO sales.parent VALUES (1)",
        "INSERT INTO sales.child VALUES (1)",
    )
    assert await world.value("SELECT count(*) FROM sales.parent WHERE id = 1") == 2
    found = await all_of(world)
    assert found["parent"].without_key
    assert found["child"].key == ("id",)


@pytest.mark.requirement("R-132")
async def test_from_18_on_a_not_null_that_was_not_checked_promises_nothing(world: World) -> None:
    if world.version < 18:
        pytest.skip("NOT NULL constraints are always valid before PostgreSQL 18")
    await world.run(
        SCHEMA, "CREATE TABLE sales.orders (id int UNIQUE)", "INSERT INTO sales.orders VALUES (NULL)",
        "ALTER TABLE sales.orders ADD CONSTRAINT there NOT NULL id NOT VALID",
    )  # fmt: skip
    table = (await all_of(world))["orders"]
    assert (table.key, table.columns[0].nullable) == (None, True)
    await world.run("DELETE FROM sales.orders", "ALTER TABLE sales.orders VALIDATE CONSTRAINT there")
    table = (await all_of(world))["orders"]
    assert (table.key, table.columns[0].nullable) == (("id",), False)


# -- who may read it --------------------------------------------------------------------------------------------------


def shown(world: World, name: str, *entries: Mapping[str, Any], **spec: Any) -> PostgresRole:
    """A role that logs in and is shown something."""
    return postgres_role(world.name(name), login=True, exposes=list(entries), **spec)


ORDERS = {"schema": "sales", "names": ["orders"]}


def issues(synced: Synced, role: PostgresRole) -> list[tuple[str, str, str]]:
    """(object, reason, fix) of ``status.issues``."""
    return [(one["object"], one["reason"], one["fix"]) for one in synced.of(role).fields["issues"]]


@pytest.mark.requirement("R-7", "R-133")
async def test_an_access_grant_decides_what_a_login_role_can_read_and_the_description_says_so(
    world: World,
) -> None:
    await world.run(SCHEMA, "CREATE TABLE sales.orders (id int PRIMARY KEY, total int)")
    role = shown(world, "app", ORDERS)
    before = await world.sync(role)
    assert not await world.allowed(role.role_name, "SELECT * FROM sales.orders")
    assert before.said(role) == (WAITING, Reason.MISSING_GRANTS)
    assert issues(before, role) == [
        ("sales", "MissingGrants", f'GRANT USAGE ON SCHEMA "sales" TO "{role.role_name}"'),
        ("sales.orders", "MissingGrants", f'GRANT SELECT ON TABLE "sales"."orders" TO "{role.role_name}"'),
    ]
    assert before.of(role).fields["exposed"] == {
        "configMap": f"{role.metadata.name}-tables", "tables": 1, "readable": 0, "withoutKey": 0
    }  # fmt: skip

    grant = access_grant("readers", [role.role_name], [tables("sales")], database=world.database)
    after = await world.sync(role, grant)
    assert await world.allowed(role.role_name, "SELECT * FROM sales.orders")
    assert after.said(role) == (READY, Reason.SUCCEEDED)
    assert issues(after, role) == []
    found = world.config_maps.read(role)
    assert (found["connection"], found["leftOut"]) == ("team/marketing", 0)
    (table,) = found["tables"]
    assert [table["database"], table["schema"], table["name"]] == [world.database, "sales", "orders"]
    assert (table["kind"], table["key"], table["keyKnown"], table["readable"]) == (
        "Table",
        ["id"],
        True,
        True,
    )

    again = await world.sync(role)
    assert not await world.allowed(role.role_name, "SELECT * FROM sales.orders")
    assert again.said(role) == (WAITING, Reason.MISSING_GRANTS)
    assert not world.config_maps.read(role)["tables"][0]["readable"]


@pytest.mark.requirement("R-6")
async def test_tables_with_hyphens_in_their_names_are_listed_and_grantable(world: World) -> None:
    names = ["cs-data", "marketing-data", "research-data"]
    await world.run(SCHEMA, *(f'CREATE TABLE sales."{name}" (id int PRIMARY KEY)' for name in names))
    role = shown(world, "app", {"schema": "sales", "matching": ["*-data"]})
    grant = access_grant("readers", [role.role_name], [tables("sales", *names)], database=world.database)
    assert (await world.sync(role, grant)).said(role) == (READY, Reason.SUCCEEDED)
    assert [one["name"] for one in world.config_maps.read(role)["tables"] if one["readable"]] == names
    for name in names:
        assert await world.allowed(role.role_name, f'SELECT * FROM sales."{name}"')


async def test_the_statements_of_an_issue_are_just_what_is_missing(world: World) -> None:
    await world.run(SCHEMA, 'CREATE TABLE sales."research-data" (id int PRIMARY KEY)')
    role = shown(world, "app", {"schema": "sales", "matching": ["*"]})
    await world.run(*(fix for _, _, fix in issues(await world.sync(role), role)))
    assert await world.allowed(role.role_name, 'SELECT * FROM sales."research-data"')
    assert (await world.sync(role)).said(role) == (READY, Reason.SUCCEEDED)


@pytest.mark.requirement("R-133")
async def test_a_grant_on_some_columns_shows_which(world: World) -> None:
    await world.run(SCHEMA, "CREATE TABLE sales.orders (id int PRIMARY KEY, total int, secret text)")
    role = shown(world, "app", ORDERS)
    grant = access_grant(
        "some",
        [role.role_name],
        [tables("sales", "orders", columns=["id", "total"])],
        database=world.database,
    )
    synced = await world.sync(role, grant)
    assert synced.said(role) == (READY, Reason.SUCCEEDED)
    (table,) = world.config_maps.read(role)["tables"]
    assert table["readable"]
    assert [one["name"] for one in table["columns"] if one["readable"]] == ["id", "total"]
    assert await world.allowed(role.role_name, "SELECT id, total FROM sales.orders")
    assert not await world.allowed(role.role_name, "SELECT secret FROM sales.orders")


@pytest.mark.parametrize("way", ["membership", "public", "owner", "superuser", "predefined"])
async def test_every_way_to_read_a_table_counts(world: World, way: str) -> None:
    await world.run(SCHEMA, "CREATE TABLE sales.orders (id int PRIMARY KEY)")
    role = shown(world, "app", ORDERS)
    await world.sync(role)
    group = await world.role("group")
    assert not (await all_of(world, role=role.role_name))["orders"].readable
    give = {
        "membership": (
            "GRANT USAGE ON SCHEMA sales TO {g}", "GRANT SELECT ON sales.orders TO {g}", "GRANT {g} TO {r}"
        ),
        "public": ("GRANT USAGE ON SCHEMA sales TO PUBLIC", "GRANT SELECT ON sales.orders TO PUBLIC"),
        "owner": ("GRANT USAGE ON SCHEMA sales TO {r}", "ALTER TABLE sales.orders OWNER TO {r}"),
        "superuser": ("ALTER ROLE {r} SUPERUSER",),
        "predefined": ("GRANT pg_read_all_data TO {r}",),
    }  # fmt: skip
    await world.run(*give[way], r=role.role_name, g=group)
    assert (await all_of(world, role=role.role_name))["orders"].readable
    assert await world.allowed(role.role_name, "SELECT * FROM sales.orders")


async def test_a_privilege_that_takes_set_role_does_not_count(world: World) -> None:
    await world.run(SCHEMA, "CREATE TABLE sales.orders (id int)")
    role, group = await world.role("app"), await world.role("group")
    await world.run(
        "GRANT USAGE ON SCHEMA sales TO PUBLIC", "GRANT SELECT ON sales.orders TO {g}", "GRANT {g} TO {r} WITH INHERIT FALSE",
        r=role, g=group,
    )  # fmt: skip
    assert not (await all_of(world, role=role))["orders"].readable
    assert not await world.allowed(role, "SELECT * FROM sales.orders")


async def test_it_makes_no_difference_whose_session_it_is(world: World) -> None:
    await world.run(
        SCHEMA, "CREATE TABLE sales.orders (id int PRIMARY KEY)", "COMMENT ON COLUMN sales.orders.id IS 'Its number'"
    )  # fmt: skip
    role = await world.role("app")
    expected = await exposed(world, entry("sales", matching=["*"], names=["gone"]), role=role)
    async with world.login(role) as connection:
        for name, value in SETTINGS.items():
            await connection.execute("SELECT set_config(%s, %s, false)", [name, value])
        connection.row_factory = dict_row
        selectors = [table_selector(entry("sales", matching=["*"], names=["gone"]))]
        assert await read_exposed(connection, selectors, role) == expected
    assert (len(expected.tables), expected.missing) == (1, (("sales", "gone"),))


# -- the step ---------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("R-131")
async def test_a_missing_table_is_told_and_the_role_waits_for_it(world: World) -> None:
    await world.run(SCHEMA, "GRANT USAGE ON SCHEMA sales TO PUBLIC")
    role = shown(world, "app", {"schema": "sales", "names": ["orders", "stock"]})
    synced = await world.sync(role)
    assert synced.said(role) == (WAITING, Reason.TABLE_MISSING)
    assert "sales.orders does not exist in " + world.database in synced.of(role).message
    assert [one[:2] for one in issues(synced, role)] == [
        ("sales.orders", "TableMissing"),
        ("sales.stock", "TableMissing"),
    ]
    await world.run(*(f"CREATE TABLE sales.{name} (id int PRIMARY KEY)" for name in ("orders", "stock")))
    await world.run(*(f"GRANT SELECT ON sales.{name} TO PUBLIC" for name in ("orders", "stock")))
    assert (await world.sync(role)).said(role) == (READY, Reason.SUCCEEDED)


@pytest.mark.requirement("R-23")
async def test_a_table_that_is_made_later_is_shown_with_its_columns_for_as_long_as_it_is_there(
    world: World,
) -> None:
    await world.run(SCHEMA, "CREATE TABLE sales.orders (id int PRIMARY KEY)")
    role = shown(world, "app", {"schema": "sales", "matching": ["*"]})
    grant = access_grant("readers", [role.role_name], [tables("sales")], database=world.database)

    async def described() -> dict[str, list[tuple[str, str]]]:
        assert (await world.sync(role, grant)).said(role) == (READY, Reason.SUCCEEDED)
        return {
            table["name"]: [(column["name"], column["type"]) for column in table["columns"]]
            for table in world.config_maps.read(role)["tables"]
        }

    before = await described()
    assert before == {"orders": [("id", "integer")]}
    await world.run("CREATE TABLE sales.stock (item text PRIMARY KEY, amount bigint)")
    assert await described() == {**before, "stock": [("item", "text"), ("amount", "bigint")]}
    await world.run("DROP TABLE sales.stock")
    assert await described() == before


@pytest.mark.requirement("R-132")
async def test_a_table_without_a_unique_key_is_listed_and_the_role_is_ready(world: World) -> None:
    await world.run(
        SCHEMA, "CREATE TABLE sales.orders (id int)", "CREATE VIEW sales.seen AS SELECT id FROM sales.orders"
    )  # fmt: skip
    role = shown(world, "app", {"schema": "sales", "matching": ["*"]})
    grant = access_grant("readers", [role.role_name], [tables("sales")], database=world.database)
    synced = await world.sync(role, grant)
    assert synced.said(role) == (READY, Reason.SUCCEEDED)
    assert [one[:2] for one in issues(synced, role)] == [("sales.orders", "NoUniqueKey")]
    assert synced.of(role).fields["exposed"]["withoutKey"] == 1
    found = {one["name"]: (one["key"], one["keyKnown"]) for one in world.config_maps.read(role)["tables"]}
    assert found == {"orders": (None, True), "seen": (None, False)}


@pytest.mark.requirement("R-211")
async def test_a_pass_writes_the_description_only_when_a_table_has_changed(world: World) -> None:
    await world.run(SCHEMA, "CREATE TABLE sales.orders (id int PRIMARY KEY)")
    role = shown(world, "app", ORDERS)
    grant = access_grant("readers", [role.role_name], [tables("sales")], database=world.database)
    await world.sync(role, grant)
    await world.sync(role, grant)
    before = world.config_maps.writes
    quiet = await world.sync(role, grant)
    assert (world.config_maps.writes, quiet.writes) == (before, [])
    for number, (change, column) in enumerate(
        (
            ("ALTER TABLE sales.orders ADD COLUMN note text", ("note", "text", None)),
            ("ALTER TABLE sales.orders RENAME COLUMN note TO remark", ("remark", "text", None)),
            ("ALTER TABLE sales.orders ALTER COLUMN remark TYPE varchar(9)", ("remark", "character varying(9)", None)),
            ("COMMENT ON COLUMN sales.orders.remark IS 'What was said'", ("remark", "character varying(9)", "What was said")),
        ),
        start=1,
    ):  # fmt: skip
        await world.run(change)
        after = await world.sync(role, grant)
        assert (world.config_maps.writes, after.writes) == (before + number, []), change
        (table,) = world.config_maps.read(role)["tables"]
        found = table["columns"][-1]
        assert (found["name"], found["type"], found["comment"]) == column
    # A comment is no matter of privileges: their comparison ends with the fingerprint, and the tables are read all the same.
    assert len(after.statements) == len(quiet.statements)


@pytest.mark.requirement("R-7", "R-131")
async def test_tables_of_several_databases_are_listed_level_by_level(world: World) -> None:
    other = await world.another_database()
    await world.run(SCHEMA, "CREATE TABLE sales.orders (id int PRIMARY KEY)")
    async with await world.server.connect(other) as connection:
        await connection.execute("CREATE SCHEMA crm")
        await connection.execute("CREATE TABLE crm.people (id int PRIMARY KEY)")
    role = shown(world, "app", ORDERS, {"database": other, "schema": "crm", "matching": ["*"]})
    synced = await world.sync(role, databases=(world.database, other))
    assert synced.of(role).fields["exposed"]["tables"] == 2
    found = world.config_maps.read(role)
    listed = found["tables"]
    assert found["connection"] == "team/marketing"
    assert {one["database"] for one in listed} == {world.database, other}
    assert {one["schema"] for one in listed if one["database"] == other} == {"crm"}
    assert [one["name"] for one in listed if (one["database"], one["schema"]) == (other, "crm")] == ["people"]


async def test_what_finds_no_place_in_the_config_map_is_counted(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exposing, "MAX_BYTES", 600)
    await world.run(SCHEMA, *(f"CREATE TABLE sales.t_{number} (id int PRIMARY KEY)" for number in range(5)))
    role = shown(world, "app", {"schema": "sales", "matching": ["*"]})
    status = (await world.sync(role)).of(role).fields["exposed"]
    found = world.config_maps.read(role)
    assert status["tables"] == 5
    assert 0 < status["leftOut"] == found["leftOut"] == 5 - len(found["tables"]) < 5


async def test_a_database_that_is_not_the_connections_is_told_and_nothing_is_described(world: World) -> None:
    await world.run(SCHEMA, "CREATE TABLE sales.orders (id int PRIMARY KEY)", "GRANT USAGE ON SCHEMA sales TO PUBLIC",
                    "GRANT SELECT ON sales.orders TO PUBLIC")  # fmt: skip
    role = shown(world, "app", ORDERS, {"database": "elsewhere", "schema": "crm", "matching": ["*"]})
    synced = await world.sync(role)
    assert synced.said(role) == (STALLED, Reason.DATABASE_NOT_MANAGED)
    assert world.config_maps.texts == {}


async def test_when_nothing_is_shown_any_more_the_description_goes(world: World) -> None:
    await world.run(SCHEMA, "CREATE TABLE sales.orders (id int PRIMARY KEY)")
    role = shown(world, "app", ORDERS)
    await world.sync(role)
    assert role.tables_name in world.config_maps.texts
    plain = postgres_role(role.role_name, login=True)
    synced = await world.sync(plain)
    assert world.config_maps.texts == {}
    assert synced.of(plain).fields["exposed"] is None
    assert synced.said(plain) == (READY, Reason.SUCCEEDED)


async def test_a_config_map_that_is_somebody_elses_is_left_alone(world: World) -> None:
    await world.run(SCHEMA, "CREATE TABLE sales.orders (id int PRIMARY KEY)", "GRANT USAGE ON SCHEMA sales TO PUBLIC",
                    "GRANT SELECT ON sales.orders TO PUBLIC")  # fmt: skip
    role = shown(world, "app", ORDERS)
    world.config_maps.owners[role.tables_name] = "somebody"
    synced = await world.sync(role)
    assert synced.said(role) == (STALLED, Reason.CONFIG_MAP_EXISTS)
    assert world.config_maps.texts == {}
