"""Ownership of schemas and objects: handed over where it differs, in every way that the operator has, or told."""

from typing import Any

import pytest

from lakebase_operator.api import PostgresRole, Reason
from lakebase_operator.external.postgres.roles import preflight
from lakebase_operator.reconcilers.ownership import OwnershipStep
from lakebase_operator.reconcilers.report import Report
from lakebase_operator.reconcilers.role_conclusions import conclude_roles
from lakebase_operator.reconcilers.roles import RolesStep
from lakebase_operator.reconcilers.view import View
from tests.postgres.objects import access_grant, being_deleted, postgres_role, tables
from tests.postgres.role_facts import known_as, memberships
from tests.postgres.world import KEY, READY, STALLED, WAITING, Synced, World

EVERYTHING = (
    "SELECT 'schema ' || nspname, nspowner::regrole::text FROM pg_namespace WHERE nspname = 'sales'"
    " UNION ALL SELECT relkind::text || ' ' || relname, relowner::regrole::text FROM pg_class"
    " WHERE relnamespace = 'sales'::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'S')"
    " UNION ALL SELECT 'routine ' || proname, proowner::regrole::text FROM pg_proc WHERE pronamespace = 'sales'::regnamespace"
    " UNION ALL SELECT 'type ' || typname, typowner::regrole::text FROM pg_type"
    " WHERE typnamespace = 'sales'::regnamespace AND (typtype IN ('e', 'd') OR typname = 'pair')"
)

SALES = (
    "CREATE SCHEMA sales",
    "CREATE TABLE sales.orders (id serial, day date)",
    "CREATE TABLE sales.events (day date) PARTITION BY RANGE (day)",
    "CREATE TABLE sales.events_2026 PARTITION OF sales.events FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')",
    "CREATE VIEW sales.recent AS SELECT 1 AS one",
    "CREATE MATERIALIZED VIEW sales.totals AS SELECT 1 AS one",
    "CREATE SEQUENCE sales.counter",
    "CREATE FUNCTION sales.f(integer) RETURNS integer LANGUAGE sql AS 'SELECT 1'",
    "CREATE FUNCTION sales.f(text, sales.orders) RETURNS integer LANGUAGE sql AS 'SELECT 1'",
    "CREATE PROCEDURE sales.p() LANGUAGE sql AS 'SELECT 1'",
    "CREATE AGGREGATE sales.total(integer) (SFUNC = int4pl, STYPE = integer)",
    "CREATE TYPE sales.mood AS ENUM ('good', 'bad')",
    "CREATE DOMAIN sales.positive AS integer CHECK (value > 0)",
    "CREATE TYPE sales.pair AS (a integer, b integer)",
)


def anything(kind: str, *names: str, **more: Any) -> dict[str, Any]:
    """An entry of ``owns``: everything of a kind in the schema sales."""
    return {kind: {"schema": "sales", **({"names": list(names)} if names else {"matching": ["*"]}), **more}}


WHOLE_SCHEMA = [
    {"schemas": {"names": ["sales"]}},
    *(anything(kind) for kind in ("tables", "sequences", "routines", "types")),
]


async def owners(world: World, database: str | None = None) -> dict[str, set[str]]:
    """What each role owns of the schema."""
    found: dict[str, set[str]] = {}
    for thing, owner in await world.rows(EVERYTHING, database=database):
        found.setdefault(owner.strip('"'), set()).add(thing)
    return found


async def sales_of(world: World, owner: str) -> None:
    """A schema with one of everything, all owned by one role."""
    await world.run(*SALES)
    for statement in (
        "ALTER SCHEMA sales OWNER TO {o}",
        *(f"ALTER TABLE sales.{name} OWNER TO {{o}}" for name in ("orders", "events", "events_2026", "recent", "totals")),
        "ALTER SEQUENCE sales.counter OWNER TO {o}",
        *(f"ALTER ROUTINE sales.{name} OWNER TO {{o}}"
          for name in ("f(integer)", "f(text, sales.orders)", "p()", "total(integer)")),
        *(f"ALTER TYPE sales.{name} OWNER TO {{o}}" for name in ("mood", "positive", "pair")),
    ):  # fmt: skip
        await world.run(statement, o=owner)


def told(synced: Synced, role: PostgresRole) -> dict[str, tuple[str, str]]:
    """Issues by object."""
    return {one["object"]: (one["reason"], one["fix"]) for one in synced.of(role).fields["issues"]}


async def test_a_schema_and_everything_in_it_is_handed_over_in_one_pass(any_world: World) -> None:
    """The operator has made both roles: it has ADMIN option on them, and no more."""
    world = any_world
    old, name = await world.owned_role("old"), world.name("owner")
    await sales_of(world, old)
    before = await memberships(world, world.operator)
    role = postgres_role(name, owns=WHOLE_SCHEMA)
    synced = await world.sync(role)
    assert synced.said(role) == (READY, Reason.SUCCEEDED), synced.of(role).message
    assert set(await owners(world)) == {name}
    # What the operator lent itself is given back; it has ADMIN option on the role that it has made.
    assert await memberships(world, world.operator) - before <= {(name, world.server.superuser, "A")}
    assert synced.of(role).fields["owned"] == 14
    again = await world.sync(role)
    assert not again.writes
    assert again.of(role).fields["owned"] == 14
    # What is made later by somebody else is handed over with the next pass; what is not declared any more stays.
    await world.run("CREATE TABLE sales.late ()", "ALTER TABLE sales.late OWNER TO {o}", o=old)
    await world.sync(role)
    assert set(await owners(world)) == {name}
    await world.sync(postgres_role(name))
    assert set(await owners(world)) == {name}


@pytest.mark.parametrize("way", ["inherits", "becomes", "superuser"])
async def test_any_way_to_act_for_the_owner_will_do(
    plain_world: World, superuser_world: World, way: str
) -> None:
    world = superuser_world if way == "superuser" else plain_world
    old, name = await world.role("old"), world.name("owner")
    await sales_of(world, old)
    if way != "superuser":
        options = "INHERIT TRUE, SET FALSE" if way == "inherits" else "INHERIT FALSE, SET TRUE"
        await world.run(f"GRANT {{r}} TO {{o}} WITH {options}", r=old, o=world.operator)
        await world.run("GRANT CREATE ON DATABASE {d} TO {r}", d=world.database, r=old)
    before = await memberships(world, old) | await memberships(world, world.operator)
    role = postgres_role(name, owns=WHOLE_SCHEMA)
    synced = await world.sync(role)
    assert synced.said(role) == (READY, Reason.SUCCEEDED), synced.of(role).message
    assert set(await owners(world)) == {name}
    after = await memberships(world, old) | await memberships(world, world.operator)
    assert after - before <= {(name, world.server.superuser, "A")}
    assert not (await world.sync(role)).writes


async def test_a_new_owner_gets_create_on_the_schema_for_the_moment_that_it_needs_it(
    any_world: World,
) -> None:
    world = any_world
    old, name = await world.owned_role("old"), world.name("owner")
    await sales_of(world, old)
    role = postgres_role(name, owns=[anything("tables", "orders")])
    synced = await world.sync(role)
    assert synced.said(role) == (READY, Reason.SUCCEEDED), synced.of(role).message
    assert (await owners(world))[name] == {"r orders", "S orders_id_seq"}  # its sequence goes with it
    assert await world.schema_acl("sales", name) == set()


async def test_exact_names_and_exceptions_select_what_they_say(world: World) -> None:
    old, name = await world.owned_role("old"), world.name("owner")
    await sales_of(world, old)
    role = postgres_role(
        name,
        owns=[
            anything("tables", matching=["*"], **{"except": ["e*", "totals"]}),
            anything("routines", "f(text, sales.orders)", "p"),
            anything("types", "mood"),
        ],
    )
    synced = await world.sync(role)
    assert synced.said(role) == (READY, Reason.SUCCEEDED), synced.of(role).message
    assert (await owners(world))[name] == {
        "r orders", "S orders_id_seq", "v recent", "routine f", "routine p", "type mood",
    }  # fmt: skip
    assert (
        await world.value(
            "SELECT proowner::regrole::text FROM pg_proc WHERE oid = 'sales.f(integer)'::regprocedure"
        )
        == old
    )
    assert not (await world.sync(role)).writes


async def test_what_the_operator_cannot_hand_over_is_told_with_the_statement_and_the_rest_is_done(
    any_world: World,
) -> None:
    world = any_world
    old, stranger, name = await world.owned_role("old"), await world.role("stranger"), world.name("owner")
    await sales_of(world, old)
    await world.run("ALTER TABLE sales.orders OWNER TO {s}", s=stranger)
    role = postgres_role(name, owns=[*WHOLE_SCHEMA, anything("tables", "nowhere")])
    synced = await world.sync(role)
    statement = f'ALTER TABLE sales.orders OWNER TO "{name}"'
    assert synced.said(role) == (WAITING, Reason.OBJECT_MISSING)
    found = told(synced, role)
    assert {thing: reason for thing, (reason, _) in found.items()} == {
        "table sales.orders": "NotOwner",
        "table sales.nowhere": "ObjectMissing",
    }
    assert statement in found["table sales.orders"][1]
    assert await owners(world) == {
        stranger: {"r orders", "S orders_id_seq"},
        name: (await owners(world))[name],
    }
    await world.run(
        statement, "CREATE TABLE sales.nowhere ()", "ALTER TABLE sales.nowhere OWNER TO {n}", n=name
    )
    assert (await world.sync(role)).said(role) == (READY, Reason.SUCCEEDED)


async def test_a_table_that_somebody_works_on_is_left_for_later_and_the_others_are_handed_over(
    world: World,
) -> None:
    world.lock_timeout = 0.3
    old, name = await world.owned_role("old"), world.name("owner")
    await sales_of(world, old)
    role = postgres_role(name, owns=[anything("tables")])
    async with world.login(world.server.superuser) as somebody:
        await somebody.set_autocommit(False)
        await somebody.execute("LOCK TABLE sales.events, sales.orders")
        synced = await world.sync(role)
        assert synced.said(role) == (WAITING, Reason.NOT_OWNER)
        assert (await owners(world))[name] == {"v recent", "m totals"}
        assert await world.schema_acl("sales", name) == set()
        await somebody.rollback()
    assert (await world.sync(role)).said(role) == (READY, Reason.SUCCEEDED)
    assert (await owners(world))[name] >= {"p events", "r orders"}


async def test_of_two_roles_for_one_object_the_older_one_owns_it(world: World) -> None:
    old = await world.owned_role("old")
    await sales_of(world, old)
    first = postgres_role(world.name("first"), owns=[anything("tables", "orders")])
    second = postgres_role(world.name("second"), owns=[anything("tables", "orders", "recent")])
    for _ in range(2):  # the second pass does not turn it round
        synced = await world.sync(first, second)
        assert synced.said(first) == (READY, Reason.SUCCEEDED)
        assert synced.said(second) == (STALLED, Reason.CONFLICTING_DECLARATIONS)
        assert told(synced, second)["table sales.orders"][0] == "ConflictingDeclarations"
        assert (await owners(world))[world.name("first")] == {"r orders", "S orders_id_seq"}
        assert (await owners(world))[world.name("second")] == {"v recent"}
    assert not synced.writes


async def test_each_database_has_its_own_and_an_unmanaged_one_is_told(any_world: World) -> None:
    world = any_world
    old, name, other = await world.owned_role("old"), world.name("owner"), await world.another_database()
    await sales_of(world, old)
    async with await world.server.connect(other) as admin:
        await admin.execute("CREATE SCHEMA sales")
        await admin.execute(f'ALTER SCHEMA sales OWNER TO "{old}"'.encode())
    schema = {"schemas": {"names": ["sales"]}}
    role = postgres_role(name, owns=[{**schema, "database": other}])
    synced = await world.sync(role)
    assert synced.said(role) == (STALLED, Reason.DATABASE_NOT_MANAGED)
    both = await world.sync(role, databases=[world.database, other])
    assert both.said(role) == (READY, Reason.SUCCEEDED), both.of(role).message
    owner_of_schema = "SELECT nspowner::regrole::text FROM pg_namespace WHERE nspname = 'sales'"
    assert await world.value(owner_of_schema, database=other) == name
    assert await world.value(owner_of_schema) == old
    assert both.of(role).fields["owned"] == 1
    no_more = postgres_role(name)
    assert (await world.sync(no_more)).of(no_more).fields["owned"] is None, "nothing is said of it any more"
    assert await world.value(owner_of_schema, database=other) == name


async def test_an_owner_grants_what_is_declared_in_the_same_pass(any_world: World) -> None:
    world = any_world
    old, reader, name = await world.owned_role("old"), world.name("reader"), world.name("owner")
    await sales_of(world, old)
    declared = [
        postgres_role(name, owns=WHOLE_SCHEMA),
        postgres_role(reader, login=True),
        access_grant("g", [reader], [tables("sales", "orders")], database=world.database),
    ]
    synced = await world.sync(*declared)
    assert synced.said(declared[2]) == (READY, Reason.SUCCEEDED), synced.of(declared[2]).message
    assert await world.allowed(reader, "SELECT FROM sales.orders")
    if not world.prepared:  # there, databricks_superuser has the grant option as well
        assert await world.grantors("sales.orders", reader) == {("SELECT", name)}


async def test_a_role_that_cannot_be_managed_owns_nothing(world: World) -> None:
    old, taken = await world.owned_role("old"), await world.role("taken")
    await sales_of(world, old)
    role = postgres_role(taken, adopt=False, owns=WHOLE_SCHEMA)
    synced = await world.sync(role)
    assert synced.said(role) == (STALLED, Reason.ROLE_EXISTS)
    assert set(await owners(world)) == {old}


async def test_servers_wrappers_languages_large_objects_and_databases_are_owned_too(
    superuser_world: World,
) -> None:
    world = superuser_world
    name = world.name("owner")
    await world.run(
        "CREATE FOREIGN DATA WRAPPER w", "CREATE SERVER s FOREIGN DATA WRAPPER w", "SELECT lo_create(4711)"
    )
    role = postgres_role(
        name,
        owns=[
            {"foreignServers": {"names": ["s"]}},
            {"languages": {"names": ["plpgsql"]}},
            {"largeObjects": {"ids": [4711]}},
            {"databases": {"names": [world.database]}},
        ],
    )
    synced = await world.sync(role)
    assert synced.said(role) == (READY, Reason.SUCCEEDED), synced.of(role).message
    found = await world.rows(
        "SELECT srvowner::regrole::text FROM pg_foreign_server WHERE srvname = 's'"
        " UNION ALL SELECT lanowner::regrole::text FROM pg_language WHERE lanname = 'plpgsql'"
        " UNION ALL SELECT lomowner::regrole::text FROM pg_largeobject_metadata WHERE oid = 4711"
        " UNION ALL SELECT datdba::regrole::text FROM pg_database WHERE datname = current_database()"
    )
    assert found == [(name,)] * 4
    assert not (await world.sync(role)).writes
    # The owner of a wrapper must be a superuser: PostgreSQL's refusal is told.
    wrapper = known_as(postgres_role(name, owns=[{"foreignDataWrappers": {"names": ["w"]}}]), "wrapper")
    synced = await world.sync(wrapper)
    assert synced.said(wrapper) == (STALLED, Reason.NOT_OWNER)
    assert f'ALTER FOREIGN DATA WRAPPER w OWNER TO "{name}"' in synced.of(wrapper).message


async def test_what_a_dropped_role_owned_by_declaration_goes_to_its_heir(any_world: World) -> None:
    world = any_world
    old, heir, name = await world.owned_role("old"), await world.owned_role("heir"), world.name("owner")
    await sales_of(world, old)
    role = postgres_role(name, owns=WHOLE_SCHEMA, deletionPolicy="Drop", reassignOwnedTo=heir)
    await world.sync(role)
    gone = await world.sync(being_deleted(role))
    assert gone.dropped == {name: True}
    assert set(await owners(world)) == {heir}


async def test_a_dry_run_says_what_would_be_handed_over_and_only_the_approved_is(any_world: World) -> None:
    world = any_world
    old, name = await world.owned_role("old"), await world.owned_role("owner")
    await sales_of(world, old)
    role = postgres_role(name, owns=[anything("tables", "orders", "recent")])
    await world.sync(postgres_role(name))

    async def run(**how: Any) -> list[tuple[str, str]]:
        async with world.session() as session:
            found, report = await preflight(session), Report()
            view = View(KEY, None, (role,), (), (), (), ())
            roles = await RolesStep(session, found, str(KEY), report, dry=True).run(view)
            step = OwnershipStep(world.database, session, found, str(KEY), roles, **how)
            await step.run(home=True)
            conclude_roles(roles, [world.database], {}, report)
            return [(text, result) for _, text, result in step.executed]

    statements = [f'ALTER TABLE sales.{one} OWNER TO "{name}"' for one in ("orders", "recent")]
    assert await run(dry=True) == [(text, "planned") for text in statements]
    assert set(await owners(world)) == {old}
    assert await run(approved=frozenset(statements[1:])) == [(statements[1], "ok")]
    assert (await owners(world))[name] == {"v recent"}
