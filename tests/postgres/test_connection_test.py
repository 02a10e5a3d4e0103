"""The connection test: each layer as the application meets it, the first failing one named, and nothing done for nothing."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import trustme

from lakebase_operator.api import PostgresRole, Reason
from lakebase_operator.reconcilers import connection_test
from lakebase_sandbox.gateway import Refusal
from tests.postgres.objects import postgres_role
from tests.postgres.tested_logins import TestedLogins, logins_behind_tls
from tests.postgres.world import READY, STALLED, WAITING, World

PASSED = ("Passed", "ConnectionTestPassed")
SKIPPED = ("Skipped", "NotTried")
NOTHING = ("Skipped", "NothingToTest")
HOUR = timedelta(hours=1)


@pytest_asyncio.fixture
async def logins(world: World, tmp_path: Path) -> AsyncIterator[TestedLogins]:
    """Logins on a server like Lakebase's."""
    async with logins_behind_tls(world, tmp_path) as made:
        yield made


async def shop(world: World) -> None:
    """A schema with data: a table with a key, one without, and a view."""
    await world.run(
        "CREATE SCHEMA shop",
        "CREATE TABLE shop.orders (id int PRIMARY KEY, total int)",
        "CREATE TABLE shop.items (id int)",
        "CREATE VIEW shop.totals AS SELECT sum(total) AS total FROM shop.orders",
    )


def app(world: World, generation: int = 1, **spec: Any) -> PostgresRole:
    return postgres_role(
        world.name("app"), {"generation": generation}, **{"password": {"logins": "One"}, **spec}
    )


EXPOSES = [{"schema": "shop", "matching": ["*"]}]


async def allow(world: World, role: PostgresRole, *privileges: str) -> None:
    """Make the role before its first pass, with privileges such as ``SELECT ON shop.orders``."""
    exists = await world.value("SELECT count(*) FROM pg_roles WHERE rolname = %s", role.role_name)
    if not exists:
        async with world.session() as session:
            await session.execute(f'CREATE ROLE "{role.role_name}"'.encode())
    for one in privileges:
        await world.run(f"GRANT {one} TO {{role}}", role=role.role_name)


# -- all is well -------------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("R-126", "R-127", "R-128", "R-129")
@pytest.mark.parametrize("kind", ["One", "Two"])
async def test_a_login_that_works_passes_all_steps_with_the_published_credential(
    world: World, logins: TestedLogins, kind: str
) -> None:
    await shop(world)
    await world.run("DROP TABLE shop.items")
    role = app(world, password={"logins": kind}, binding={"schema": world.name("own")}, exposes=EXPOSES)
    await allow(world, role, "USAGE ON SCHEMA shop", "SELECT ON ALL TABLES IN SCHEMA shop")
    await world.run("CREATE SCHEMA {own} AUTHORIZATION {role}", own=world.name("own"), role=role.role_name)
    saying = await logins.sync(role)
    assert logins.test(role) == dict.fromkeys(("Network", "Authentication", "Schema", "Tables"), PASSED)
    assert logins.condition(role) == ("True", "ConnectionTestPassed")
    assert (saying.verdict, saying.reason) == (READY, Reason.SUCCEEDED)
    assert logins.doorman.asked == [logins.published(role)["username"]]
    assert [(one.type, one.reason, one.action) for one in saying.events] == [
        ("Normal", Reason.CONNECTION_TEST_PASSED, "TestConnection")
    ]
    assert logins.observer.counts["Tables", "Passed"] == 1


@pytest.mark.requirement("R-130")
async def test_a_test_is_made_once_an_interval_and_after_each_change_and_never_for_nothing(
    world: World, logins: TestedLogins
) -> None:
    role = app(world)
    await logins.sync(role)
    assert logins.next_at == logins.now + HOUR
    first, written = logins.entry(role, "Network")["at"], logins.writes
    logins.now += 0.5 * HOUR
    await logins.sync(role)
    assert len(logins.doorman.asked) == 1
    assert logins.writes == written
    assert logins.next_at == logins.now + 0.5 * HOUR
    logins.now += 0.5 * HOUR
    await logins.sync(role)
    assert len(logins.doorman.asked) == 2
    assert logins.writes == written + 1
    assert logins.entry(role, "Network")["at"] > first
    await logins.sync(app(world, 2, attributes={"connectionLimit": 5}))
    assert len(logins.doorman.asked) == 3, "another declaration"
    rotated = postgres_role(
        role.role_name,
        {"generation": 2, "annotations": {"lakebase.dev/rotate": "now"}},
        password={"logins": "One"},
        attributes={"connectionLimit": 5},
    )
    await logins.sync(rotated)
    assert len(logins.doorman.asked) == 4, "another password"
    await logins.sync(rotated)
    assert len(logins.doorman.asked) == 4


async def test_an_interval_of_nothing_tests_after_changes_and_on_request_only(
    world: World, logins: TestedLogins
) -> None:
    role = app(world, test={"interval": "0s"})
    await logins.sync(role)
    logins.now += 100 * HOUR
    await logins.sync(role)
    assert len(logins.doorman.asked) == 1
    logins.asked = True
    await logins.sync(role)
    assert len(logins.doorman.asked) == 2


async def test_a_suspended_login_is_not_tested(world: World, logins: TestedLogins) -> None:
    await logins.sync(app(world))
    role = app(world, 2, suspend=True)
    await logins.sync(role)
    assert len(logins.doorman.asked) == 1
    assert logins.condition(role) == ("Unknown", "Suspended")
    role = app(world, 3)
    await logins.sync(role)
    assert logins.condition(role) == ("True", "ConnectionTestPassed")


# -- network ------------------------------------------------------------------------------------------------------------------


async def healed(logins: TestedLogins, role: PostgresRole) -> None:
    """The next pass, at the time that the last asked for, finds that all is well."""
    logins.now = logins.next_at
    saying = await logins.sync(role)
    assert logins.condition(role) == ("True", "ConnectionTestPassed")
    assert (saying.verdict, saying.reason) == (READY, Reason.SUCCEEDED)


async def fails(
    logins: TestedLogins, role: PostgresRole, step: str, reason: Reason, *, verdict: Any = WAITING
) -> str:
    """A pass in which a step is the first to fail; returns what it says."""
    saying = await logins.sync(role)
    steps = ["Network", "Authentication", "Schema", "Tables"]
    place = steps.index(step)
    results = logins.test(role)
    assert results[step] == ("Failed", reason.value), logins.status(role)["test"]
    assert all(results[one][0] in ("Passed", "Skipped") for one in steps[:place])
    assert all(results[one] == SKIPPED for one in steps[place + 1 :])
    assert logins.condition(role) == ("False", reason.value)
    assert (saying.verdict, saying.reason) == (verdict, reason)
    message = logins.entry(role, step)["message"]
    assert saying.message == f"{step}: {message}"
    assert logins.observer.counts[step, "Failed"] >= 1
    return message


@pytest.mark.requirement("R-126", "R-130")
async def test_a_closed_port_is_told_from_a_blocked_way_and_a_name_that_is_unknown(
    world: World, logins: TestedLogins, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_test, "REACH_SECONDS", 1.0)
    role = app(world)
    await logins.gateway.close()
    await fails(logins, role, "Network", Reason.PORT_CLOSED)
    await logins.gateway.swallow()
    message = await fails(logins, role, "Network", Reason.NETWORK_BLOCKED)
    assert "no matter of the password" in message
    logins.gateway.open()
    logins.host = "nowhere.invalid"
    await fails(logins, role, "Network", Reason.HOST_UNRESOLVABLE)
    logins.host = "localhost"
    assert not logins.doorman.asked
    await healed(logins, role)


@pytest.mark.requirement("R-166")
async def test_an_address_that_is_blocked_is_told_from_a_wrong_password(
    world: World, logins: TestedLogins
) -> None:
    role = app(world)
    logins.doorman.says = Refusal("This IP address 203.0.113.7 is not allowed to connect to this endpoint.")
    message = await fails(logins, role, "Network", Reason.ADDRESS_BLOCKED)
    assert "203.0.113.7" in message
    logins.doorman.says = None
    await healed(logins, role)


async def test_a_certificate_that_is_not_trusted_is_a_matter_of_the_network(
    world: World, logins: TestedLogins, tmp_path: Path
) -> None:
    role, trusted = app(world), logins.ca_file
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    logins.ca_file = str(other)
    await fails(logins, role, "Network", Reason.TLS_FAILED, verdict=STALLED)
    assert not logins.doorman.asked, "no password was sent"
    logins.ca_file = trusted
    await healed(logins, role)


async def test_a_server_that_says_nothing_holds_up_no_other_login(
    world: World, logins: TestedLogins, monkeypatch: pytest.MonkeyPatch
) -> None:
    role = app(world)
    other = postgres_role(world.name("other"), password={"logins": "One"})
    monkeypatch.setattr(connection_test, "TEST_SECONDS", 1.0)
    judge = logins.doorman.admit

    async def slow(user: str, password: str) -> Any:
        if user == role.role_name:
            await asyncio.Event().wait()
        return await judge(user, password)

    monkeypatch.setattr(logins.doorman, "admit", slow)
    await fails(logins, role, "Network", Reason.UNREACHABLE)
    await logins.sync(role, other)
    assert logins.condition(role) == ("False", "Unreachable")
    assert logins.condition(other) == ("True", "ConnectionTestPassed")


# -- authentication -----------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("R-127", "R-136")
async def test_a_password_that_was_changed_by_hand_is_told_and_set_again(
    world: World, logins: TestedLogins
) -> None:
    role = app(world)
    await logins.sync(role)
    await world.run("ALTER ROLE {role} PASSWORD 'Somebody-elses-1'", role=role.role_name)
    logins.now += HOUR
    message = await fails(logins, role, "Authentication", Reason.PASSWORD_REJECTED)
    assert "set again" in message
    secret = logins.published(role)
    assert not await logins.works(secret["username"], secret["password"])
    await healed(logins, role)
    assert logins.published(role)["password"] == secret["password"]
    assert await logins.works(secret["username"], secret["password"])


@pytest.mark.requirement("R-136")
async def test_a_password_that_is_refused_after_all_is_set_again_once_and_then_told(
    world: World, logins: TestedLogins
) -> None:
    role = app(world)
    logins.doorman.says = Refusal("password authentication failed for user 'app'", "28P01")
    await fails(logins, role, "Authentication", Reason.PASSWORD_REJECTED)
    position = world.log_position()
    await fails(logins, role, "Authentication", Reason.PASSWORD_REJECTED, verdict=STALLED)
    assert any("ALTER ROLE" in text for text in world.logged(position))
    position, written = world.log_position(), logins.writes
    message = await fails(logins, role, "Authentication", Reason.PASSWORD_REJECTED, verdict=STALLED)
    assert "lakebase.dev/rotate" in message
    assert not any("ALTER ROLE" in text for text in world.logged(position))
    assert logins.writes == written, "the same is not written twice"
    logins.doorman.says = None
    await healed(logins, role)


async def test_pauses_grow_while_a_test_fails(world: World, logins: TestedLogins) -> None:
    role = app(world)
    logins.doorman.says = Refusal("password authentication failed for user 'app'", "28P01")
    pauses = []
    for _ in range(12):
        await logins.sync(role)
        pauses.append((logins.next_at - logins.now).total_seconds())
        logins.now = logins.next_at
    assert pauses[0] == 1.0
    assert pauses == sorted(pauses)
    assert pauses[-1] == 300.0


async def test_a_look_tests_what_is_published_and_repairs_nothing(world: World, logins: TestedLogins) -> None:
    role = app(world)
    await logins.sync(role, dry=True)
    assert not logins.doorman.asked, "nothing is published yet"
    await logins.sync(role)
    await world.run("ALTER ROLE {role} PASSWORD 'Somebody-elses-1'", role=role.role_name)
    logins.now += HOUR
    given = await world.rows("SELECT * FROM lakebase_operator.passwords")
    await logins.sync(role, dry=True)
    assert logins.test(role)["Authentication"] == ("Failed", "PasswordRejected")
    assert "set again" not in logins.entry(role, "Authentication")["message"]
    assert await world.rows("SELECT * FROM lakebase_operator.passwords") == given


@pytest.mark.requirement("R-141")
async def test_native_login_that_is_off_is_told_from_a_wrong_password(
    world: World, logins: TestedLogins
) -> None:
    role = app(world)
    logins.doorman.says = Refusal("password authentication failed for user 'app'", "28P01")
    logins.native_login = False
    message = await fails(logins, role, "Authentication", Reason.NATIVE_LOGIN_DISABLED, verdict=STALLED)
    assert "nativeLogin" in message
    logins.doorman.says = None
    await healed(logins, role)


@pytest.mark.requirement("R-142")
async def test_a_role_without_login_is_told_while_it_is_and_repaired(
    world: World, logins: TestedLogins
) -> None:
    role = app(world)
    await logins.sync(role)

    async def take_login() -> None:
        await world.run("ALTER ROLE {role} NOLOGIN", role=role.role_name)

    logins.meddle = take_login
    logins.now += HOUR
    message = await fails(logins, role, "Authentication", Reason.ROLE_NOT_LOGIN)
    assert f'ALTER ROLE "{role.role_name}" LOGIN' in message
    logins.meddle = None
    await healed(logins, role)


@pytest.mark.requirement("R-137", "R-140")
async def test_a_role_that_is_gone_is_told_with_near_names_and_made_anew(
    world: World, logins: TestedLogins
) -> None:
    role = app(world)
    await world.role("apq")
    await logins.sync(role)

    async def drop() -> None:
        await world.run("DROP ROLE {role}", role=role.role_name)

    logins.meddle = drop
    logins.now += HOUR
    message = await fails(logins, role, "Authentication", Reason.ROLE_MISSING)
    assert f'Did you mean "{world.name("apq")}"' in message
    logins.meddle = None
    await healed(logins, role)


async def test_a_password_that_is_not_valid_any_more_is_told_as_that(
    world: World, logins: TestedLogins
) -> None:
    role = app(world, attributes={"validUntil": "2020-01-01T00:00:00Z"})
    message = await fails(logins, role, "Authentication", Reason.PASSWORD_REJECTED, verdict=STALLED)
    assert "spec.attributes.validUntil" in message


@pytest.mark.requirement("R-138", "R-147")
async def test_a_login_that_may_not_connect_is_told_the_grant(world: World, logins: TestedLogins) -> None:
    role = app(world)
    await world.run("REVOKE CONNECT ON DATABASE {db} FROM PUBLIC", db=world.database)
    await world.run(
        "GRANT CONNECT ON DATABASE {db} TO {operator}", db=world.database, operator=world.operator
    )
    message = await fails(logins, role, "Authentication", Reason.MISSING_GRANTS, verdict=STALLED)
    statement = f'GRANT CONNECT ON DATABASE "{world.database}" TO "{role.role_name}"'
    assert statement in message
    (issue,) = logins.status(role)["issues"]
    assert (issue["privilege"], issue["reason"], issue["fix"]) == ("CONNECT", "MissingGrants", statement)
    await world.run(statement)
    await healed(logins, role)


@pytest.mark.parametrize(
    "full", ["sorry, too many clients already", "Too many connections to this endpoint. Please wait."]
)
async def test_a_server_without_a_free_connection_is_told(
    world: World, logins: TestedLogins, full: str
) -> None:
    role = app(world)
    logins.doorman.says = Refusal(full, "53300")
    await fails(logins, role, "Authentication", Reason.TOO_MANY_CONNECTIONS)
    logins.doorman.says = None
    await healed(logins, role)


async def test_an_application_that_uses_all_its_connections_is_well(
    world: World, logins: TestedLogins
) -> None:
    role = app(world, attributes={"connectionLimit": 1})
    await logins.sync(role)
    secret = logins.published(role)
    async with await world.server.connect(
        world.database, user=secret["username"], password=secret["password"]
    ):
        logins.now += HOUR
        saying = await logins.sync(role)
    assert logins.test(role)["Authentication"] == ("Warning", "TooManyConnections")
    assert logins.condition(role) == ("True", "ConnectionTestPassed")
    assert saying.verdict is READY


async def test_a_database_that_does_not_exist_is_told(world: World, logins: TestedLogins) -> None:
    role = app(world, binding={"database": "nowhere"})
    await fails(logins, role, "Authentication", Reason.DATABASE_NOT_FOUND, verdict=STALLED)


# -- the application's own schema -------------------------------------------------------------------------------------------------


@pytest.mark.requirement("R-128", "R-147")
async def test_usage_and_create_on_its_own_schema_are_what_an_application_needs(
    world: World, logins: TestedLogins
) -> None:
    role, own = app(world, binding={"schema": "own"}), "own"
    message = await fails(logins, role, "Schema", Reason.SCHEMA_MISSING, verdict=STALLED)
    assert "spec.binding.schema" in message
    await world.run("CREATE SCHEMA {own}", own=own)
    await allow(world, role, f"USAGE ON SCHEMA {own}")
    message = await fails(logins, role, "Schema", Reason.SCHEMA_ACCESS_DENIED, verdict=STALLED)
    assert f'GRANT CREATE ON SCHEMA "own" TO "{role.role_name}"' in message
    assert "GRANT USAGE" not in message
    await allow(world, role, f"CREATE ON SCHEMA {own}")
    await healed(logins, role)


@pytest.mark.requirement("R-128")
async def test_a_platform_schema_that_the_operator_makes_is_fit_from_the_start(
    world: World, logins: TestedLogins
) -> None:
    role = app(world, password={"logins": "Two"}, platformSchema={"name": "own"})
    saying = await logins.sync(role)
    assert logins.test(role)["Schema"] == PASSED
    assert logins.test(role)["Tables"] == ("Warning", "NoReadableTables")
    assert saying.verdict is READY
    assert logins.published(role)["schema"] == "own"


@pytest.mark.requirement("R-143")
async def test_a_platform_schema_with_data_in_it_is_told_by_the_declaration_and_by_the_test(
    world: World, logins: TestedLogins
) -> None:
    await shop(world)
    role = app(world, platformSchema={"name": "shop"}, exposes=EXPOSES)
    saying = await logins.sync(role)
    assert (saying.verdict, saying.reason) == (STALLED, Reason.PLATFORM_SCHEMA_IS_DATA_SCHEMA)
    assert logins.test(role)["Schema"] == ("Failed", "PlatformSchemaIsDataSchema")
    assert logins.test(role)["Tables"] == SKIPPED


@pytest.mark.requirement("R-143")
async def test_a_data_schema_in_the_place_of_its_own_is_told_before_anything_about_rights(
    world: World, logins: TestedLogins
) -> None:
    await shop(world)
    role = app(world, binding={"schema": "shop"}, exposes=EXPOSES)
    message = await fails(logins, role, "Schema", Reason.PLATFORM_SCHEMA_IS_DATA_SCHEMA, verdict=STALLED)
    assert "items, orders, totals" in message


# -- tables -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("R-138", "R-144", "R-147")
async def test_exposed_tables_that_cannot_be_read_are_told_with_their_grants(
    world: World, logins: TestedLogins
) -> None:
    await shop(world)
    role = app(world, exposes=EXPOSES)
    message = await fails(logins, role, "Tables", Reason.SCHEMA_USAGE_MISSING, verdict=STALLED)
    assert f'GRANT USAGE ON SCHEMA "shop" TO "{role.role_name}"' in message
    await allow(world, role, "USAGE ON SCHEMA shop")
    message = await fails(logins, role, "Tables", Reason.NO_READABLE_TABLES, verdict=STALLED)
    wanted = {
        f'GRANT SELECT ON TABLE "shop"."{one}" TO "{role.role_name}"' for one in ("items", "orders", "totals")
    }
    assert all(one in message for one in wanted)
    assert {one["fix"] for one in logins.status(role)["issues"]} == wanted
    for one in wanted:
        await world.run(one)
    logins.now = logins.next_at
    await logins.sync(role)
    assert logins.test(role)["Tables"] == ("Warning", "NoUniqueKey")
    assert "issues" not in logins.status(role) or not logins.status(role)["issues"]


@pytest.mark.requirement("R-138", "R-149")
async def test_a_single_table_without_its_grant_is_named(world: World, logins: TestedLogins) -> None:
    await shop(world)
    role = app(world, exposes=[{"schema": "shop", "names": ["orders", "items"]}])
    await allow(world, role, "USAGE ON SCHEMA shop", "SELECT ON shop.items")
    message = await fails(logins, role, "Tables", Reason.MISSING_GRANTS, verdict=STALLED)
    assert "shop.orders" in message
    assert "shop.items" not in message
    (issue,) = logins.status(role)["issues"]
    assert (issue["object"], issue["privilege"]) == ("shop.orders", "SELECT")


@pytest.mark.requirement("R-145")
async def test_tables_that_do_not_exist_are_told(world: World, logins: TestedLogins) -> None:
    await shop(world)
    role = app(world, exposes=[{"schema": "shop", "names": ["orders", "ordres"]}])
    await allow(world, role, "USAGE ON SCHEMA shop", "SELECT ON ALL TABLES IN SCHEMA shop")
    message = await fails(logins, role, "Tables", Reason.TABLE_MISSING, verdict=STALLED)
    assert "shop.ordres" in message
    empty = app(world, 2, exposes=[{"schema": "shop", "matching": ["x*"]}])
    await fails(logins, empty, "Tables", Reason.SCHEMA_EMPTY, verdict=STALLED)


async def test_what_is_exposed_in_another_database_is_read_there(world: World, logins: TestedLogins) -> None:
    elsewhere = await world.another_database()
    async with await world.server.connect(elsewhere) as session:
        await session.execute("CREATE TABLE public.there (id int PRIMARY KEY)")
    role = app(world, exposes=[{"database": elsewhere, "schema": "public", "names": ["there"]}])
    await fails(logins, role, "Tables", Reason.NO_READABLE_TABLES, verdict=STALLED)
    async with await world.server.connect(elsewhere) as session:
        await session.execute(f'GRANT SELECT ON public.there TO "{role.role_name}"'.encode())
    await healed(logins, role)


@pytest.mark.requirement("R-132")
async def test_tables_without_a_unique_key_are_a_warning_and_no_failure(
    world: World, logins: TestedLogins
) -> None:
    await shop(world)
    role = app(world, exposes=EXPOSES)
    await allow(world, role, "USAGE ON SCHEMA shop", "SELECT ON ALL TABLES IN SCHEMA shop")
    saying = await logins.sync(role)
    assert logins.test(role)["Tables"] == ("Warning", "NoUniqueKey")
    message = logins.entry(role, "Tables")["message"]
    assert message.endswith("Without a unique key: shop.items.")
    assert logins.condition(role) == ("True", "ConnectionTestPassed")
    assert saying.verdict is READY


@pytest.mark.requirement("R-144", "R-145")
async def test_without_exposed_tables_those_count_where_the_role_holds_something(
    world: World, logins: TestedLogins
) -> None:
    await shop(world)
    role = app(world)
    saying = await logins.sync(role)
    assert logins.test(role)["Tables"] == ("Warning", "NoReadableTables")
    assert saying.verdict is READY, "an application may have nothing to read"
    await allow(world, role, "SELECT ON shop.orders")
    logins.now += HOUR
    message = await fails(logins, role, "Tables", Reason.SCHEMA_USAGE_MISSING, verdict=STALLED)
    assert f'GRANT USAGE ON SCHEMA "shop" TO "{role.role_name}"' in message
    await allow(world, role, "USAGE ON SCHEMA shop")
    await healed(logins, role)
    assert "can read 1 of the 3 tables in shop" in logins.entry(role, "Tables")["message"]
    await world.run("REVOKE SELECT ON shop.orders FROM {role}", role=role.role_name)
    logins.now += HOUR
    message = await fails(logins, role, "Tables", Reason.NO_READABLE_TABLES, verdict=STALLED)
    assert f'GRANT SELECT ON ALL TABLES IN SCHEMA "shop" TO "{role.role_name}"' in message
    await world.run("DROP SCHEMA shop CASCADE", "CREATE SCHEMA shop")
    await allow(world, role, "USAGE ON SCHEMA shop")
    logins.now = logins.next_at
    await logins.sync(role)
    assert logins.test(role)["Tables"] == ("Warning", "SchemaEmpty")


@pytest.mark.requirement("R-132")
async def test_what_tells_all_rows_apart_is_a_key_and_nothing_else(
    world: World, logins: TestedLogins
) -> None:
    await world.run(
        "CREATE SCHEMA shop",
        "CREATE TABLE shop.a_primary (id int PRIMARY KEY DEFERRABLE)",
        "CREATE TABLE shop.a_unique (id int NOT NULL, at int, UNIQUE (id) INCLUDE (at))",
        "CREATE TABLE shop.k_null (id int UNIQUE)",
        "CREATE TABLE shop.l_partial (id int NOT NULL)",
        "CREATE UNIQUE INDEX ON shop.l_partial (id) WHERE id > 0",
        "CREATE TABLE shop.m_expression (id int NOT NULL)",
        "CREATE UNIQUE INDEX ON shop.m_expression (abs(id))",
        "CREATE TABLE shop.n_parent (id int PRIMARY KEY)",
        "CREATE TABLE shop.o_child (PRIMARY KEY (id)) INHERITS (shop.n_parent)",
        "CREATE VIEW shop.view AS SELECT 1 AS id",
    )
    role = app(world)
    await allow(world, role, "USAGE ON SCHEMA shop", "SELECT ON ALL TABLES IN SCHEMA shop")
    await logins.sync(role)
    message = logins.entry(role, "Tables")["message"]
    assert message.endswith(
        "Without a unique key: shop.k_null, shop.l_partial, shop.m_expression, shop.n_parent."
    )


async def test_what_a_group_holds_counts_for_its_member(world: World, logins: TestedLogins) -> None:
    await shop(world)
    group = await world.owned_role("readers", "NOLOGIN")
    await world.run(
        "GRANT USAGE ON SCHEMA shop TO {group}", "GRANT SELECT ON shop.orders TO {group}", group=group
    )
    role = app(world, memberOf=[{"role": group}], password={"logins": "Two"})
    await logins.sync(role)
    assert logins.test(role)["Tables"] == PASSED


async def test_no_password_is_in_what_the_test_says(world: World, logins: TestedLogins) -> None:
    role = app(world)
    logins.doorman.says = Refusal("password authentication failed for user 'app'", "28P01")
    await logins.sync(role)
    password = logins.published(role)["password"]
    assert password not in f"{logins.status(role)}{logins.report.said()}"
