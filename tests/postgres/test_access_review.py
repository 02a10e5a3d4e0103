"""The access report: what roles have beside what is declared, which nobody uses, and who was seen logged in."""

from datetime import timedelta

import pytest

from lakebase_operator.domain.access_review import csv_text
from tests.postgres.objects import access_grant, postgres_role, tables, user, user_mapping
from tests.postgres.reviews import DAY, Reviews
from tests.postgres.world import World

SALES = (
    "CREATE SCHEMA sales",
    "CREATE TABLE sales.orders (id int, total int)",
    "CREATE TABLE sales.lines (id int)",
)


@pytest.mark.requirement("R-155", "R-157")
async def test_the_report_lists_what_roles_hold_beside_what_is_declared_and_nothing_else(
    any_world: World,
) -> None:
    world = any_world
    role = await world.owned_role("analyst")
    await world.run(*SALES)
    if not world.prepared:
        await world.run("GRANT ALL ON SCHEMA sales TO {o} WITH GRANT OPTION", o=world.operator)
        await world.run("GRANT ALL ON ALL TABLES IN SCHEMA sales TO {o} WITH GRANT OPTION", o=world.operator)
    declared = (
        postgres_role(role, login=True),
        access_grant("g", [role], [tables("sales", "orders")], database=world.database),
    )
    reviews = Reviews(world)
    await world.sync(*declared)
    await reviews.look(*declared)
    line = reviews.roles()[role]
    assert line["declared_by"] == f"PostgresRole team/{role}"
    given = 3 if world.prepared else 2  # elsewhere everybody has CONNECT
    assert (line["granted"], line["granted_declared"], line["wider"]) == (str(given), str(given), "0")
    assert reviews.wider(role) == set()

    await world.run(
        "GRANT INSERT ON sales.orders TO {r}", "GRANT SELECT (id) ON sales.lines TO {r}",
        "GRANT pg_read_all_data TO {r}", "ALTER ROLE {r} CREATEDB", "CREATE SCHEMA own AUTHORIZATION {r}",
        "ALTER DEFAULT PRIVILEGES IN SCHEMA sales GRANT SELECT ON TABLES TO {r}",
        "GRANT SET ON PARAMETER log_min_duration_statement TO {r}", r=role,
    )  # fmt: skip
    await reviews.report(*declared)
    found = reviews.wider(role)
    defaults = {one for one in found if "default" in one[1]}
    assert len(defaults) == 1
    assert found - defaults == {
        ("Privilege", "table sales.orders", "INSERT"),
        ("Privilege", "table column sales.lines.id", "SELECT"),
        ("Privilege", "parameter ACL log_min_duration_statement", "SET"),
        ("Membership", "pg_read_all_data", ""),
        ("Attribute", "CREATEDB", ""),
        ("Ownership", "own", "1"),
    }
    line = reviews.roles()[role]
    assert (line["granted"], line["granted_declared"]) == (str(given + 4), str(given))
    assert (line["owned"], line["wider"]) == ("1", "7")
    assert reviews.status["report"]["wider"] == len(reviews.lines("wider.csv"))
    assert not any(one["role"] == world.operator for one in reviews.lines("wider.csv"))
    # Nothing of it was touched.
    assert await world.allowed(role, "INSERT INTO sales.orders VALUES (1)")
    # A parameter belongs to no database, so other tests would find it.
    await world.run("REVOKE SET ON PARAMETER log_min_duration_statement FROM {r}", r=role)


@pytest.mark.requirement("R-155")
async def test_what_a_role_declares_of_memberships_attributes_and_ownership_is_not_wider(
    world: World,
) -> None:
    group = await world.owned_role("group", "NOLOGIN")
    name = await world.owned_role("app")
    await world.run("CREATE SCHEMA own", "CREATE SCHEMA other", "GRANT pg_monitor TO {g}", g=group)
    declared = postgres_role(
        name,
        login=True,
        attributes={"createDB": True},
        memberOf=[{"role": group}],
        owns=[{"schemas": {"matching": ["ow*"]}}],
    )
    await world.run("ALTER ROLE {r} CREATEDB", r=name)
    await world.sync(declared)
    await world.run(
        "ALTER SCHEMA own OWNER TO {r}",
        "ALTER SCHEMA other OWNER TO {r}",
        r=name,
    )
    reviews = Reviews(world)
    await reviews.look(declared)
    assert reviews.wider(name) == {("Ownership", "other", "1")}


@pytest.mark.requirement("R-155")
async def test_a_superuser_and_a_member_of_databricks_superuser_stand_out_also_if_nobody_declares_them(
    world: World,
) -> None:
    boss, member = await world.role("boss", "LOGIN SUPERUSER"), await world.role("member")
    await world.run("GRANT databricks_superuser TO {m}", m=member)
    reviews = Reviews(world)
    await reviews.look()
    assert reviews.wider(boss) >= {("Superuser", "SUPERUSER", "")}
    assert reviews.wider(member) == {("Membership", "databricks_superuser", "")}
    assert reviews.roles()[member]["declared_by"] == ""
    assert int(reviews.roles()[member]["member"]) > 0
    assert not any(name.startswith(("databricks_", "pg_", "cloud_")) for name in reviews.roles())


@pytest.mark.requirement("R-157")
async def test_something_new_and_wider_is_an_event_once_and_what_was_known_is_not(world: World) -> None:
    role = await world.role("role")
    await world.run(*SALES)
    reviews = Reviews(world)
    await reviews.look()
    await reviews.report()
    assert reviews.events == []
    await world.run("GRANT UPDATE ON sales.orders TO {r}", r=role)
    await reviews.report()
    (event,) = reviews.events
    assert (event.type, event.reason) == ("Warning", "WiderThanDeclared")
    assert f'"{role}" has UPDATE on table sales.orders' in event.message
    assert reviews.facts["AccessReviewed"]["reason"] == "WiderThanDeclared"
    await reviews.report()
    assert reviews.events == []
    reviews.restart()
    await reviews.report()
    assert reviews.events == []
    reviews.restart()
    await world.run("GRANT DELETE ON sales.orders TO {r}", r=role)
    await reviews.report()
    assert [one.reason for one in reviews.events] == ["WiderThanDeclared"]


@pytest.mark.requirement("R-157")
async def test_a_report_is_made_when_it_is_due_or_asked_for_and_otherwise_nothing_is_written(
    world: World,
) -> None:
    role = await world.owned_role("role")
    await world.run(*SALES)
    grant = access_grant("g", [role], [tables("sales")], database=world.database)
    await world.sync(grant)
    reviews = Reviews(world)
    await reviews.look(grant)
    first = reviews.status["report"]["at"]
    await reviews.report(grant, after=timedelta(hours=23))
    assert reviews.status["report"]["at"] == first
    assert len(reviews.statements) == 1  # the look itself
    await reviews.report(grant, after=timedelta(hours=1))
    assert reviews.status["report"]["at"] == (reviews.now).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert not [
        text for text in reviews.statements if text.startswith(("INSERT", "UPDATE", "DELETE", "CREATE"))
    ]
    reviews.annotations["lakebase.dev/sync-now"] = "please"
    await reviews.report(grant, after=timedelta(minutes=1))
    assert reviews.status["report"]["at"] == (reviews.now).strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.mark.requirement("R-157")
async def test_the_first_pass_over_a_connection_makes_no_report_yet(world: World) -> None:
    reviews = Reviews(world, status={})
    await reviews.look()
    assert reviews.maps == {}
    reviews.status = {"conditions": [{"type": "Synced", "status": "False"}]}
    await reviews.look()
    assert reviews.maps == {}
    reviews.status = {"conditions": [{"type": "Synced", "status": "True"}]}
    await reviews.look()
    assert list(reviews.maps) == ["marketing-access-report"]


@pytest.mark.requirement("R-157")
async def test_with_an_interval_of_nought_there_is_no_report_and_the_last_one_goes(world: World) -> None:
    reviews = Reviews(world, interval="0s")
    await reviews.look()
    assert reviews.maps == {}
    assert "AccessReviewed" not in reviews.facts
    reviews.interval = "24h"
    await reviews.look()
    assert list(reviews.maps) == ["marketing-access-report"]
    reviews.interval = "0s"
    await reviews.report()
    assert reviews.maps == {}
    assert reviews.status["report"] is None
    assert reviews.facts["AccessReviewed"]["reason"] == "ReviewOff"


@pytest.mark.requirement("R-158")
async def test_roles_are_unused_that_nobody_saw_that_hold_nothing_and_that_nobody_is_mapped_to(
    world: World,
) -> None:
    idle, holder, owner = await world.role("idle"), await world.role("holder"), await world.role("owner")
    member, person = await world.role("member"), await world.role("person")
    active, empty = await world.role("active"), await world.role("empty", "NOLOGIN")
    await world.run(
        *SALES, "GRANT SELECT ON sales.orders TO {h}", "CREATE SCHEMA own AUTHORIZATION {o}", "GRANT {h} TO {m}",
        h=holder, o=owner, m=member,
    )  # fmt: skip
    declared = (user_mapping("person", person), postgres_role(empty))
    reviews = Reviews(world)
    async with world.login(active):
        await reviews.look(*declared)
    assert reviews.status["report"]["unused"] == 0  # too early to tell
    await reviews.report(*declared, after=DAY + timedelta(minutes=1))
    unused = {name for name, line in reviews.roles().items() if line["unused_since"] and world.tag in name}
    assert unused == {idle, empty}
    assert reviews.roles()[person]["mapped"] == "true"
    assert reviews.roles()[active]["last_seen"] != ""
    assert reviews.status["report"]["unused"] >= 2
    # Only listed: they are as they were.
    assert await world.value("SELECT rolcanlogin FROM pg_roles WHERE rolname = %s", idle)


@pytest.mark.requirement("R-158", "R-170")
async def test_when_a_role_was_last_seen_survives_a_restart_and_is_written_only_where_it_changed(
    world: World,
) -> None:
    role = await world.owned_role("role")
    await world.run(*SALES)
    grant = access_grant("g", [role], [tables("sales")], database=world.database)
    await world.sync(grant)
    reviews = Reviews(world)
    async with world.login(role):
        await reviews.look(grant)
    seen = reviews.roles()[role]["last_seen"]
    assert seen
    assert await world.value("SELECT count(*) FROM lakebase_operator.logins") >= 1
    reviews.restart()
    await reviews.report(grant)
    assert reviews.roles()[role]["last_seen"] == seen
    assert reviews.roles()[role]["sessions"] == "0"


@pytest.mark.requirement("R-167")
async def test_logins_of_declared_roles_are_counted_and_those_of_others_are_not(any_world: World) -> None:
    world = any_world
    role, other = await world.owned_role("role"), await world.role("other")
    declared = postgres_role(role, login=True)
    reviews = Reviews(world)
    await reviews.look(declared)
    assert reviews.observer.counted["Seen"] == 0
    async with world.login(role), world.login(role), world.login(other):
        await reviews.look(declared)
        assert reviews.observer.counted["Seen"] == 2
        await reviews.look(declared)  # the same sessions
        assert reviews.observer.counted["Seen"] == 2
        await reviews.report(declared)
        line = reviews.roles()[role]
        assert (line["sessions"], line["logins"]) == ("2", "2")


@pytest.mark.requirement("R-170")
async def test_tables_are_listed_with_when_they_were_last_read_and_by_whom_is_not_said(world: World) -> None:
    await world.run(*SALES)
    reviews = Reviews(world)
    await reviews.look()
    lines = {line["object"]: line["last_scan"] for line in reviews.lines("tables.csv")}
    assert lines["sales.lines"] == ""
    async with await world.server.connect(world.database) as connection:
        await connection.execute("SELECT FROM sales.orders")
        await connection.execute("SELECT pg_stat_force_next_flush()")
    await reviews.report()
    lines = {line["object"]: line["last_scan"] for line in reviews.lines("tables.csv")}
    assert lines["sales.orders"] != ""
    assert lines["sales.lines"] == ""
    assert list(reviews.lines("tables.csv")[0]) == ["database", "object", "last_scan"]


@pytest.mark.requirement("R-157")
async def test_all_databases_of_the_connection_are_in_one_report(world: World) -> None:
    role = await world.role("role")
    other = await world.another_database()
    await world.run("CREATE TABLE public.here (id int)", "GRANT SELECT ON public.here TO {r}", r=role)
    async with await world.server.connect(other) as admin:
        await admin.execute(
            f'CREATE TABLE public.there (id int); GRANT SELECT ON public.there TO "{role}"'.encode()
        )
    reviews = Reviews(world, databases=[world.database, other])
    await reviews.look()
    found = {
        (line["database"], line["object"]) for line in reviews.lines("wider.csv") if line["role"] == role
    }
    assert found == {(world.database, "table public.here"), (other, "table public.there")}
    assert reviews.roles()[role]["granted"] == "2"


@pytest.mark.requirement("R-155")
async def test_what_another_connection_declares_in_the_same_database_is_not_wider(world: World) -> None:
    role = await world.owned_role("role")
    await world.run(*SALES)
    await world.sync(
        access_grant("g", [role], [tables("sales")], database=world.database), owner="team/finance"
    )
    reviews = Reviews(world)
    await reviews.look()
    assert reviews.wider(role) == set()
    assert int(reviews.roles()[role]["granted_declared"]) == 4


@pytest.mark.requirement("R-157")
async def test_a_report_that_fails_is_told_and_fails_nothing_else(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    reviews = Reviews(world, databases=[world.database, "no_such_database"])
    await reviews.look()
    condition = reviews.facts["AccessReviewed"]
    assert (condition["status"], condition["reason"]) == ("False", "DatabaseNotFound")
    assert reviews.maps == {}
    del monkeypatch


@pytest.mark.requirement("R-50")
async def test_whether_queries_are_audited_is_said_as_far_as_the_operator_may_see(any_world: World) -> None:
    world = any_world
    reviews = Reviews(world)
    await reviews.look()
    condition = reviews.facts["QueryAuditAvailable"]
    assert (condition["status"], condition["reason"]) == ("False", "QueryAuditUnavailable")
    # A setting of that name that nobody reads is no audit.
    await world.run("ALTER ROLE {o} SET pgaudit.log = 'all'", o=world.operator)
    try:
        await reviews.look()
        assert reviews.facts["QueryAuditAvailable"]["status"] == "False"
    finally:
        await world.run("ALTER ROLE {o} RESET pgaudit.log", o=world.operator)
    # PostgreSQL from the wheels has no pgaudit: the catalog says that it is installed.
    await world.run(
        "INSERT INTO pg_extension SELECT 999999, 'pgaudit', extowner, extnamespace, false, '1.0', NULL, NULL"
        " FROM pg_extension WHERE extname = 'plpgsql'"
    )
    await reviews.look()
    condition = reviews.facts["QueryAuditAvailable"]
    assert (condition["status"], condition["reason"]) == ("True", "QueryAuditAvailable")


@pytest.mark.requirement("R-157")
def test_a_part_that_is_too_large_is_cut_between_lines_and_says_how_many_are_left_out() -> None:
    lines = [("ä" * 10, number) for number in range(10)]
    text, omitted = csv_text(("name", "number"), lines, 100)
    assert len(text) <= 100
    assert text.decode().count("\n") == 1 + 10 - omitted
    assert text.decode().endswith("\n")
    assert csv_text(("name", "number"), lines, 10_000)[1] == 0


async def test_people_who_are_only_subjects_count_as_mapped(world: World) -> None:
    person = await world.role("person")
    await world.run(*SALES)
    grant = access_grant("g", [user(person)], [tables("none_such")], database=world.database)
    reviews = Reviews(world)
    await reviews.look(grant)
    await reviews.report(grant)
    assert reviews.roles()[person]["mapped"] == "true"
    assert reviews.roles()[person]["unused_since"] == ""
