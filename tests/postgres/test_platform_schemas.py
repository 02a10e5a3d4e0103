"""A schema of an application's own: made, taken over or refused; kept out of patterns; kept or dropped in the end."""

from typing import Any

import pytest

from lakebase_operator.api import PostgresRole, Reason
from lakebase_operator.api.lakebase_connection import UnmanagedAction, UnmanagedGrants
from lakebase_operator.reconcilers.grants import Policy
from tests.postgres.logins import Logins
from tests.postgres.objects import access_grant, being_deleted, postgres_role, tables
from tests.postgres.role_facts import exists, memberships, with_spec
from tests.postgres.world import READY, STALLED, Synced, World


def application(world: World, schema: str = "shop_app", name: str = "shop", **spec: Any) -> PostgresRole:
    platform = {"name": schema, **spec.pop("platform", {})}
    return postgres_role(world.name(name), login=True, platformSchema=platform, **spec)


async def owner_of(world: World, schema: str, database: str | None = None) -> str | None:
    found = await world.value(
        "SELECT pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname = %s", schema, database=database
    )
    return str(found) if found is not None else None


def known(role: PostgresRole, synced: Synced) -> PostgresRole:
    """The object with what the pass wrote of its schema."""
    status = type(role.status).model_validate(
        {"platformSchema": synced.of(role).fields["platformSchema"], "created": True}
    )
    return role.model_copy(update={"status": status})


def issue(role: PostgresRole, synced: Synced) -> tuple[str, str]:
    (one,) = synced.of(role).fields["issues"]
    return one["object"], one["reason"]


@pytest.mark.requirement("R-118")
async def test_the_schema_is_made_and_the_role_makes_and_drops_tables_in_it(any_world: World) -> None:
    world = any_world
    role = application(world)
    before = await memberships(world, world.operator)
    synced = await world.sync(role)
    assert synced.said(role) == (READY, Reason.SUCCEEDED), synced.of(role).message
    assert synced.of(role).fields["platformSchema"] == {
        "name": "shop_app", "database": world.database, "created": True,
    }  # fmt: skip
    assert await owner_of(world, "shop_app") == role.role_name
    async with world.login(role.role_name) as connection:
        await connection.execute("CREATE TABLE shop_app.state (id int)")
        await connection.execute("INSERT INTO shop_app.state VALUES (1)")
        await connection.execute("DROP TABLE shop_app.state")
    # The operator has given back what it lent itself; it has ADMIN option on the role that it has made.
    lent = await memberships(world, world.operator) - before
    assert lent <= {(role.role_name, world.server.superuser, "A")}
    again = await world.sync(known(role, synced))
    assert not again.writes
    made = [statement for _, statement, result in await world.change_log() if result == "ok"]
    assert f'CREATE SCHEMA "shop_app" AUTHORIZATION "{role.role_name}"' in made


@pytest.mark.requirement("R-118")
async def test_a_schema_that_was_dropped_or_given_away_is_made_right_by_the_next_full_pass(
    world: World,
) -> None:
    role, other = application(world), await world.owned_role("other")
    await world.sync(role)
    await world.run("DROP SCHEMA shop_app")
    await world.sync(role)
    assert await owner_of(world, "shop_app") == role.role_name
    await world.run("ALTER SCHEMA shop_app OWNER TO {o}", o=other)
    synced = await world.sync(role)
    assert synced.said(role) == (READY, Reason.SUCCEEDED)
    assert await owner_of(world, "shop_app") == role.role_name


@pytest.mark.requirement("R-119")
@pytest.mark.parametrize("way", ["empty", "the role's", "somebody's"])
async def test_a_schema_that_exists_is_taken_over_only_if_it_is_empty_or_the_roles(
    world: World, way: str
) -> None:
    role, other = application(world), await world.owned_role("other")
    await world.sync(postgres_role(role.role_name, login=True))
    await world.run("CREATE SCHEMA shop_app")
    if way == "the role's":
        await world.run("ALTER SCHEMA shop_app OWNER TO {r}", r=role.role_name)
        await world.run(
            "CREATE TABLE shop_app.state (id int)",
            "ALTER TABLE shop_app.state OWNER TO {r}",
            r=role.role_name,
        )
    else:
        await world.run("ALTER SCHEMA shop_app OWNER TO {o}", o=other)
    if way == "somebody's":  # not a table: it is nobody's data, and still not the role's
        await world.run("CREATE FUNCTION shop_app.f() RETURNS int LANGUAGE sql AS 'SELECT 1'")
    synced = await world.sync(role)
    if way == "somebody's":
        assert synced.said(role) == (STALLED, Reason.PLATFORM_SCHEMA_IS_DATA_SCHEMA)
        assert "it is somebody else's, and is not empty" in synced.of(role).message
        assert await owner_of(world, "shop_app") == other
        assert not synced.of(role).fields.get("platformSchema")
    else:
        assert synced.said(role) == (READY, Reason.SUCCEEDED), synced.of(role).message
        assert synced.of(role).fields["platformSchema"]["created"] is False
        assert await owner_of(world, "shop_app") == role.role_name


@pytest.mark.requirement("R-119", "R-143")
@pytest.mark.parametrize("way", ["public", "tables", "owned", "AccessGrant", "exposes", "owns", "another's"])
async def test_a_schema_with_data_is_refused_and_nothing_is_changed(world: World, way: str) -> None:
    schema = "public" if way == "public" else "sales"
    role, extra = application(world, schema), []
    await world.run(
        "CREATE SCHEMA sales", "CREATE TABLE sales.orders (id int)", "CREATE TABLE public.data (id int)"
    )
    if way == "owned":  # the schema is the role's, a table in it is not
        await world.sync(postgres_role(role.role_name, login=True))
        await world.run("ALTER SCHEMA sales OWNER TO {r}", r=role.role_name)
    elif way not in ("public", "tables"):
        await world.run("DROP SCHEMA sales CASCADE")
    if way == "AccessGrant":
        reader = await world.role("reader")
        extra = [access_grant("readers", [reader], [tables("sales")], database=world.database)]
    elif way == "exposes":
        extra = [postgres_role(world.name("other"), exposes=[{"schema": "sales", "matching": ["*"]}])]
    elif way == "owns":
        extra = [postgres_role(world.name("other"), owns=[{"schemas": {"names": ["sales"]}}])]
    elif way == "another's":
        extra = [application(world, "sales", "older")]
    before = await owner_of(world, schema)
    synced = await world.sync(*extra, role)
    assert synced.said(role) == (STALLED, Reason.PLATFORM_SCHEMA_IS_DATA_SCHEMA)
    assert issue(role, synced) == (f"schema {schema}", Reason.PLATFORM_SCHEMA_IS_DATA_SCHEMA)
    after = await owner_of(world, schema)
    assert after == (extra[0].role_name if way == "another's" else before)  # type: ignore[union-attr]
    assert "platformSchema" not in synced.of(role).fields


async def test_what_the_roles_own_logins_make_in_it_is_not_somebody_elses(world: World) -> None:
    logins = Logins(world)
    role = postgres_role(world.name("shop"), password={}, platformSchema={"name": "shop_app"})
    await logins.sync(role)
    await world.run(
        "CREATE TABLE shop_app.state (id int)",
        "ALTER TABLE shop_app.state OWNER TO {l}",
        l=f"{role.role_name}_1",
    )
    said = await logins.sync(role)
    assert said.reason is Reason.SUCCEEDED, said.message


@pytest.mark.requirement("R-118")
async def test_without_admin_option_on_the_role_the_statement_for_somebody_else_is_told(world: World) -> None:
    name = await world.role("shop")
    role = postgres_role(name, platformSchema={"name": "shop_app"})
    synced = await world.sync(role)
    assert synced.said(role) == (STALLED, Reason.NOT_ROLE_ADMIN)
    assert f'CREATE SCHEMA "shop_app" AUTHORIZATION "{name}"' in synced.of(role).message
    assert await owner_of(world, "shop_app") is None
    await world.run("CREATE SCHEMA shop_app AUTHORIZATION {n}", n=name)
    synced = await world.sync(role)
    assert synced.said(role) == (READY, Reason.SUCCEEDED)
    assert synced.of(role).fields["platformSchema"]["created"] is False


async def test_it_may_be_in_another_database_than_the_first_and_must_be_in_one_of_the_connections(
    world: World,
) -> None:
    second = await world.another_database()
    role = application(world, platform={"database": second})
    synced = await world.sync(role, databases=[world.database, second])
    assert synced.of(role).fields["platformSchema"] == {
        "name": "shop_app",
        "database": second,
        "created": True,
    }
    assert await owner_of(world, "shop_app") is None
    assert await owner_of(world, "shop_app", second) == role.role_name
    synced = await world.sync(role)
    assert synced.said(role) == (STALLED, Reason.DATABASE_NOT_MANAGED)


async def test_another_name_leaves_the_schema_before_as_it_is_and_says_so_once(world: World) -> None:
    role = application(world)
    first = await world.sync(role)
    role = known(role, first)
    renamed = with_spec(role, platform_schema=application(world, "shop_new").spec.platform_schema)
    synced = await world.sync(renamed)
    assert synced.of(renamed).fields["platformSchema"]["name"] == "shop_new"
    assert [one.reason for one in synced.of(renamed).events] == [Reason.PLATFORM_SCHEMA_LEFT]
    assert await owner_of(world, "shop_app") == role.role_name
    renamed = known(renamed, synced)
    assert not (await world.sync(renamed)).of(renamed).events
    without = with_spec(role, platform_schema=None)
    synced = await world.sync(without)
    assert [one.reason for one in synced.of(without).events] == [Reason.PLATFORM_SCHEMA_LEFT]
    assert synced.of(without).fields["platformSchema"] is None


async def sales_of(world: World, owner: str, reader: str) -> None:
    """A table of an owner that a role can read."""
    await world.run("CREATE SCHEMA sales", "CREATE TABLE sales.orders (id int)")
    for statement in (
        "ALTER SCHEMA sales OWNER TO {o}",
        "ALTER TABLE sales.orders OWNER TO {o}",
        "GRANT SELECT ON sales.orders TO {r}",
    ):
        await world.run(statement, o=owner, r=reader)


# -- patterns and what nobody declares -------------------------------------------------------------------------------


@pytest.mark.requirement("R-120")
async def test_patterns_leave_it_out_as_long_as_it_is_one(world: World) -> None:
    reader, other = await world.role("reader"), world.name("owner")
    role, before = application(world), await world.owned_role("before")
    await world.run("CREATE SCHEMA sales AUTHORIZATION {b}", b=before)
    grant = access_grant(
        "g",
        [reader],
        [{"schemas": {"matching": ["s*"]}}],
        None,
        privileges=["USAGE"],
        database=world.database,
    )
    owner = postgres_role(other, owns=[{"schemas": {"matching": ["s*"]}}])
    synced = await world.sync(role, owner, grant)
    assert synced.said(grant) == (READY, Reason.SUCCEEDED)
    assert await world.schema_acl("sales", reader) == {"USAGE"}
    assert await world.schema_acl("shop_app", reader) == set()
    assert await owner_of(world, "sales") == other
    assert await owner_of(world, "shop_app") == role.role_name
    # It is an ordinary schema again once nobody declares it.
    await world.sync(owner, grant)
    assert await world.schema_acl("shop_app", reader) == {"USAGE"}
    # And what was granted by a pattern before goes when it becomes one.
    await world.run("ALTER SCHEMA shop_app OWNER TO {r}", r=role.role_name)
    await world.sync(role, grant)
    assert await world.schema_acl("shop_app", reader) == set()


async def test_a_schema_that_is_no_fit_platform_schema_is_no_hiding_place(world: World) -> None:
    """Declaring a schema with data as one's own takes it out of no pattern and no search."""
    reader, role = await world.role("reader"), application(world, "sales")
    await sales_of(world, await world.owned_role("before"), reader)
    grant = access_grant(
        "g",
        [reader],
        [{"schemas": {"matching": ["s*"]}}],
        None,
        privileges=["USAGE"],
        database=world.database,
    )
    strict = Policy(unmanaged=UnmanagedGrants(action=UnmanagedAction.REVOKE))
    await world.sync(role, grant, policy=strict)
    assert await world.schema_acl("sales", reader) == {"USAGE"}
    assert await world.acl("sales.orders", reader) == set()


@pytest.mark.requirement("R-120")
@pytest.mark.parametrize("action", [UnmanagedAction.REPORT, UnmanagedAction.REVOKE])
async def test_what_the_owner_grants_in_it_is_nobody_elses_business(
    world: World, action: UnmanagedAction
) -> None:
    friend, role = await world.role("friend"), application(world)
    await world.sync(role)
    async with world.login(role.role_name) as connection:
        for statement in (
            "CREATE TABLE shop_app.state (id int)",
            f'GRANT USAGE ON SCHEMA shop_app TO "{friend}"',
            f'GRANT SELECT ON shop_app.state TO "{friend}"',
            f'ALTER DEFAULT PRIVILEGES IN SCHEMA shop_app GRANT SELECT ON TABLES TO "{friend}"',
        ):
            await connection.execute(statement.encode())
    await sales_of(world, await world.owned_role("before"), friend)
    policy = Policy(unmanaged=UnmanagedGrants(action=action))
    synced = await world.sync(role, policy=policy)
    assert await world.schema_acl("shop_app", friend) == {"USAGE"}
    assert await world.acl("shop_app.state", friend) == {"SELECT"}
    assert (
        await world.value(
            "SELECT count(*) FROM pg_default_acl WHERE defaclnamespace = 'shop_app'::regnamespace"
        )
        == 1
    )
    named = {one.object for one in synced.results[0].unmanaged_items}
    assert not {one for one in named if "shop_app" in one}
    assert (await world.acl("sales.orders", friend) == set()) is (action is UnmanagedAction.REVOKE)


# -- publishing ------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("R-125")
async def test_the_secret_publishes_the_platform_schema_and_never_one_with_data(world: World) -> None:
    logins = Logins(world)
    name = world.name("shop")
    role = postgres_role(name, password={}, platformSchema={"name": "shop_app"})
    said = await logins.sync(role)
    assert said.reason is Reason.SUCCEEDED, said.message
    published = logins.published(role)
    assert published["schema"] == "shop_app"
    user, password = published["username"], published["password"]
    async with await world.server.connect(world.database, user=user, password=password) as connection:
        await connection.execute("CREATE TABLE shop_app.state (id int)")
        await connection.commit()
    assert await world.value("SELECT pg_get_userbyid(relowner) FROM pg_class WHERE relname = 'state'") == name
    await world.run("CREATE SCHEMA sales", "CREATE TABLE sales.orders (id int)")
    other = postgres_role(world.name("other"), password={}, platformSchema={"name": "sales"})
    said = await logins.sync(other)
    assert said.reason is Reason.PLATFORM_SCHEMA_IS_DATA_SCHEMA
    assert "schema" not in logins.published(other)


@pytest.mark.requirement("R-125")
async def test_a_schema_that_is_named_in_the_binding_is_published_instead(world: World) -> None:
    logins = Logins(world)
    role = postgres_role(
        world.name("shop"), password={}, platformSchema={"name": "shop_app"}, binding={"schema": "shop_other"}
    )
    await logins.sync(role)
    assert logins.published(role)["schema"] == "shop_other"
    assert await owner_of(world, "shop_app") == role.role_name


async def test_a_look_in_plan_mode_lists_the_statement_and_makes_nothing(world: World) -> None:
    logins = Logins(world)
    role = postgres_role(world.name("shop"), password={}, platformSchema={"name": "shop_app"})
    await logins.sync(role, dry=True)
    assert f'CREATE SCHEMA "shop_app" AUTHORIZATION "{role.role_name}"' in logins.planned
    assert await owner_of(world, "shop_app") is None


# -- the end ---------------------------------------------------------------------------------------------------------


async def filled(world: World, role: PostgresRole) -> PostgresRole:
    """The schema of a role with one of everything in it."""
    role = known(role, await world.sync(role))
    async with world.login(role.role_name) as connection:
        for statement in (
            b"CREATE TABLE shop_app.state (id serial, note text)",
            b"CREATE VIEW shop_app.notes AS SELECT note FROM shop_app.state",
            b"CREATE FUNCTION shop_app.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
            b"CREATE DOMAIN shop_app.positive AS int CHECK (value > 0)",
            b"INSERT INTO shop_app.state (note) VALUES ('kept')",
        ):
            await connection.execute(statement)
    return role


async def contents(world: World) -> set[tuple[str, str]]:
    return set(
        await world.rows(
            "SELECT relname, pg_get_userbyid(relowner) FROM pg_class WHERE relnamespace = 'shop_app'::regnamespace"
            " UNION SELECT proname, pg_get_userbyid(proowner) FROM pg_proc WHERE pronamespace = 'shop_app'::regnamespace"
            " UNION SELECT typname, pg_get_userbyid(typowner) FROM pg_type"
            " WHERE typnamespace = 'shop_app'::regnamespace AND typtype = 'd'"
        )
    )


EVERYTHING = {"state", "state_id_seq", "notes", "f", "positive"}


@pytest.mark.requirement("R-121")
@pytest.mark.parametrize("heir", [True, False])
async def test_when_the_role_is_dropped_its_schema_and_data_stay_and_get_another_owner(
    any_world: World, heir: bool
) -> None:
    world = any_world
    to = await world.owned_role("heir") if heir else world.operator
    more = {"reassignOwnedTo": to} if heir else {}
    role = await filled(world, application(world, deletionPolicy="Drop", **more))
    synced = await world.sync(being_deleted(role))
    assert synced.dropped[role.role_name], synced.report.said()
    assert not await exists(world, role.role_name)
    assert await owner_of(world, "shop_app") == to
    assert await contents(world) == {(one, to) for one in EVERYTHING}
    assert await world.value("SELECT note FROM shop_app.state") == "kept"


async def test_whatever_the_server_remembers_first_the_schema_is_handed_over_before_what_is_in_it(
    any_world: World,
) -> None:
    world = any_world
    heir = await world.owned_role("heir")
    role = await filled(world, application(world, deletionPolicy="Drop", reassignOwnedTo=heir))
    # REASSIGN OWNED goes by pg_shdepend, where the schema now comes last.
    await world.run("ALTER SCHEMA shop_app OWNER TO {h}", h=heir)
    await world.run("ALTER SCHEMA shop_app OWNER TO {r}", r=role.role_name)
    synced = await world.sync(being_deleted(role))
    assert synced.dropped[role.role_name], synced.of(role).message
    assert await contents(world) == {(one, heir) for one in EVERYTHING}


async def test_a_role_that_comes_back_gets_its_data_again_by_owning_it(world: World) -> None:
    role = await filled(world, application(world, deletionPolicy="Drop"))
    await world.sync(being_deleted(role))
    again = application(world)
    synced = await world.sync(again)
    assert synced.said(again) == (STALLED, Reason.PLATFORM_SCHEMA_IS_DATA_SCHEMA)
    everything = [
        {"schemas": {"names": ["shop_app"]}},
        *({kind: {"schema": "shop_app", "matching": ["*"]}} for kind in ("tables", "routines", "types")),
    ]
    again = application(world, owns=everything)
    await world.sync(again)
    synced = await world.sync(again)
    assert synced.said(again) == (READY, Reason.SUCCEEDED), synced.of(again).message
    assert await contents(world) == {(one, role.role_name) for one in EVERYTHING}


@pytest.mark.requirement("R-121")
async def test_by_default_nothing_happens_to_it_when_the_object_goes(world: World) -> None:
    role = await filled(world, application(world))
    synced = await world.sync(being_deleted(role))
    assert synced.dropped[role.role_name]
    assert await owner_of(world, "shop_app") == role.role_name
    assert await world.value("SELECT note FROM shop_app.state") == "kept"


async def test_what_the_role_owns_elsewhere_keeps_it_from_being_dropped_all_the_same(world: World) -> None:
    role = await filled(world, application(world, deletionPolicy="Drop"))
    await world.run(
        "CREATE TABLE public.other (id int)", "ALTER TABLE public.other OWNER TO {r}", r=role.role_name
    )
    synced = await world.sync(being_deleted(role))
    assert not synced.dropped[role.role_name]
    assert await exists(world, role.role_name)
    assert await world.value("SELECT count(*) FROM public.other") == 0


@pytest.mark.requirement("R-121")
@pytest.mark.parametrize("policy", ["Retain", "Drop"])
async def test_only_if_asked_for_it_is_dropped_with_everything(any_world: World, policy: str) -> None:
    world = any_world
    role = await filled(world, application(world, platform={"deletionPolicy": "Drop"}, deletionPolicy=policy))
    await world.run("CREATE SCHEMA sales", "CREATE TABLE sales.orders (id int)")
    synced = await world.sync(being_deleted(role))
    assert synced.dropped[role.role_name], [one.message for one in synced.report.said()]
    assert await owner_of(world, "shop_app") is None
    assert await exists(world, role.role_name) is (policy == "Retain")
    assert await world.value("SELECT count(*) FROM sales.orders") == 0


@pytest.mark.requirement("R-121")
@pytest.mark.parametrize("outside", ["view", "key", "table", "column", "function", "type"])
async def test_it_is_not_dropped_while_something_outside_depends_on_it(world: World, outside: str) -> None:
    role = await filled(world, application(world, platform={"deletionPolicy": "Drop"}, deletionPolicy="Drop"))
    await world.run("CREATE SCHEMA sales")
    match outside:
        case "view":
            await world.run("CREATE VIEW sales.notes AS SELECT note FROM shop_app.state")
        case "key":
            await world.run(
                "ALTER TABLE shop_app.state ADD PRIMARY KEY (id)",
                "CREATE TABLE sales.orders (state int REFERENCES shop_app.state)",
            )
        case "column":
            await world.run("CREATE TABLE sales.orders (id shop_app.positive)")
        case "function":
            await world.run("CREATE FUNCTION shop_app.orders() RETURNS int LANGUAGE sql AS 'SELECT 1'")
        case "type":
            other = await world.role("other")
            await world.run(
                "CREATE TYPE shop_app.orders AS ENUM ('open')",
                "ALTER TYPE shop_app.orders OWNER TO {o}",
                o=other,
            )
        case _:
            await world.run("CREATE TABLE shop_app.orders (id int)")
    deleted = being_deleted(role)
    synced = await world.sync(deleted)
    assert not synced.dropped[role.role_name]
    assert synced.said(deleted) == (STALLED, Reason.PLATFORM_SCHEMA_IN_USE)
    assert ("orders" if outside != "view" else "sales.notes") in synced.of(deleted).message
    assert await world.value("SELECT note FROM shop_app.state") == "kept"
    assert await exists(world, role.role_name)
    if outside in ("table", "function", "type"):
        await world.run(f"DROP {outside} shop_app.orders")
    else:
        await world.run("DROP SCHEMA sales CASCADE")
    synced = await world.sync(deleted)
    assert synced.dropped[role.role_name]
    assert await owner_of(world, "shop_app") is None


@pytest.mark.requirement("R-121")
@pytest.mark.parametrize("name", ["shop-app", 'Ünïcode "x" %s {y}'])
async def test_it_is_dropped_whatever_its_name_is(any_world: World, name: str) -> None:
    world = any_world
    role = application(world, name, platform={"deletionPolicy": "Drop"}, deletionPolicy="Drop")
    role = known(role, await world.sync(role))
    quoted = '"' + name.replace('"', '""') + '"'
    async with world.login(role.role_name) as connection:
        for statement in (
            "CREATE TABLE {0}.state (id serial PRIMARY KEY, note text DEFAULT 'x' CHECK (note <> ''))",
            "CREATE VIEW {0}.notes AS SELECT note FROM {0}.state",
            "CREATE FUNCTION {0}.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
            "CREATE TRIGGER t BEFORE INSERT ON {0}.state FOR EACH ROW EXECUTE FUNCTION {0}.f()",
            "CREATE POLICY p ON {0}.state USING (true)",
            "CREATE DOMAIN {0}.positive AS int CHECK (value > 0)",
        ):
            await connection.execute(statement.replace("{0}", quoted).encode())
    await world.run(
        "CREATE SCHEMA sales", "CREATE VIEW sales.notes AS SELECT note FROM {schema}.notes", schema=name
    )
    deleted = being_deleted(role)
    synced = await world.sync(deleted)
    assert synced.said(deleted) == (STALLED, Reason.PLATFORM_SCHEMA_IN_USE)
    told = synced.of(deleted).message.split("is not dropped: ")[1]
    assert "sales.notes" in told
    assert quoted not in told, "what is in it is not in the way"
    await world.run("DROP SCHEMA sales CASCADE")
    synced = await world.sync(deleted)
    assert synced.dropped[role.role_name], [one.message for one in synced.report.said()]
    assert await owner_of(world, name) is None


@pytest.mark.requirement("R-121")
async def test_another_schema_that_has_its_name_by_now_is_not_dropped(any_world: World) -> None:
    world = any_world
    role = await filled(world, application(world, platform={"deletionPolicy": "Drop"}, deletionPolicy="Drop"))
    other = await world.owned_role("other")
    await world.run(
        "ALTER SCHEMA shop_app RENAME TO moved", "CREATE SCHEMA shop_app AUTHORIZATION {o}", o=other
    )
    deleted = being_deleted(role)
    await world.sync(deleted)
    assert await owner_of(world, "shop_app") == other
    assert await world.value("SELECT note FROM moved.state") == "kept"


@pytest.mark.requirement("R-121")
async def test_a_schema_that_was_refused_is_never_dropped(world: World) -> None:
    await world.run("CREATE SCHEMA sales", "CREATE TABLE sales.orders (id int)")
    role = application(world, "sales", platform={"deletionPolicy": "Drop"}, deletionPolicy="Drop")
    await world.sync(role)
    await world.sync(being_deleted(role))
    assert await world.value("SELECT count(*) FROM sales.orders") == 0
