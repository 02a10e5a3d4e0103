"""``ensure: Absent``: what is declared not to be held is not held, whoever gave it and wherever it comes from."""

from typing import Any

import pytest

from lakebase_operator.api import AccessGrant, Reason
from lakebase_operator.api.lakebase_connection import DriftAction
from tests.postgres.object_classes import SCHEMA, S, can
from tests.postgres.objects import PUBLIC, access_grant, databases, schemas, tables
from tests.postgres.world import READY, STALLED, World

ORDERS = ("CREATE SCHEMA sales", "CREATE TABLE sales.orders (id int, secret text)")


def absent(
    world: World,
    subjects: list[Any],
    entries: list[Any],
    *privileges: str,
    name: str = "hardening",
    **more: Any,
) -> AccessGrant:
    """An AccessGrant that declares absence."""
    return access_grant(
        name, subjects, entries, privileges=privileges, ensure="Absent", database=world.database, **more
    )


def routines(*names: str, schema: str = "sales", matching: str = "*") -> dict[str, Any]:
    return {"routines": {"schema": schema, **({"names": list(names)} if names else {"matching": [matching]})}}


def defaults(kind: str, creator: str, schema: str | None = None) -> dict[str, Any]:
    where = {} if schema is None else {"schema": schema}
    return {"defaultPrivileges": {"objectType": kind, "creator": creator, **where}}


async def open_sales(world: World, owner: str) -> None:
    """Everybody may look into the schema, and an owner has a table in it."""
    await world.run(
        *ORDERS,
        "GRANT USAGE ON SCHEMA sales TO PUBLIC",
        "ALTER SCHEMA sales OWNER TO {o}",
        "ALTER TABLE sales.orders OWNER TO {o}",
        o=owner,
    )


# -- hardening PUBLIC ----------------------------------------------------------------------------------------------

HARDENING = [
    ((), databases, ("CONNECT", "TEMPORARY"), ("SELECT 1", "CREATE TEMPORARY TABLE x ()")),
    (
        ("GRANT CREATE ON SCHEMA public TO PUBLIC",),
        lambda _: schemas("public"),
        ("CREATE",),
        ("CREATE TABLE public.x ()",),
    ),
    (
        (
            f"CREATE FUNCTION {S}.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
            f"CREATE PROCEDURE {S}.p() LANGUAGE sql AS 'SELECT 1'",
            f"CREATE AGGREGATE {S}.a(int) (SFUNC = int4pl, STYPE = int)",
        ),
        lambda _: routines(schema=SCHEMA),
        ("EXECUTE",),
        (f"SELECT {S}.f()", f"CALL {S}.p()", f"SELECT {S}.a(1)"),
    ),
    (
        (f"CREATE DOMAIN {S}.d AS int", f"CREATE TYPE {S}.e AS ENUM ('a')"),
        lambda _: {"types": {"schema": SCHEMA, "matching": ["*"]}},
        ("USAGE",),
        (f"CREATE TABLE other.x (a {S}.d)", f"CREATE TABLE other.x (a {S}.e)"),
    ),
    (
        (),
        lambda _: {"languages": {"names": ["plpgsql"]}},
        ("USAGE",),
        ("CREATE FUNCTION other.f() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 1; END'",),
    ),
]  # fmt: skip


@pytest.mark.requirement("R-199", "R-201")
@pytest.mark.parametrize(
    ("made", "entry", "privileges", "tries"),
    HARDENING,
    ids=["database", "schema", "routines", "types", "language"],
)
async def test_what_everybody_has_by_default_is_taken_away_and_stays_away(
    superuser_world: World,
    made: tuple[str, ...],
    entry: Any,
    privileges: tuple[str, ...],
    tries: tuple[str, ...],
) -> None:
    world = superuser_world
    anybody = await world.role("anybody")
    await world.run(
        f"CREATE SCHEMA {S}", f"GRANT USAGE ON SCHEMA {S} TO PUBLIC",
        "CREATE SCHEMA other", "GRANT ALL ON SCHEMA other TO PUBLIC", *made,
    )  # fmt: skip
    hardening = absent(world, [PUBLIC], [entry(world.database)], *privileges)
    assert [await can(world, anybody, one) for one in tries] == [True] * len(tries)
    synced = await world.sync(hardening)
    assert synced.said(hardening) == (READY, Reason.SUCCEEDED)
    assert synced.issues(hardening) == []
    assert synced.of(hardening).fields["grants"] == {"wanted": 0, "held": 0}
    assert [await can(world, anybody, one) for one in tries] == [False] * len(tries)
    # Owners keep what is theirs: only the subjects are concerned.
    assert [await can(world, world.server.superuser, one) for one in tries] == [True] * len(tries)
    assert not (await world.sync(hardening)).writes
    # A declaration that goes gives nothing back, and the ledger forgets it.
    synced = await world.sync()
    assert not synced.changes
    assert [await can(world, anybody, one) for one in tries] == [False] * len(tries)
    assert not await world.ledger()


async def test_a_member_of_an_extension_is_left_alone_by_a_pattern_and_hardened_by_its_name(
    superuser_world: World,
) -> None:
    world = superuser_world
    anybody, role = await world.role("anybody"), await world.role("role")
    await world.run(
        "CREATE SCHEMA sales", "GRANT USAGE ON SCHEMA sales TO PUBLIC", "CREATE EXTENSION vector SCHEMA sales",
        # What it was made with: no EXECUTE for everybody, but for a role.
        "CREATE FUNCTION sales.guarded() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "REVOKE EXECUTE ON FUNCTION sales.guarded() FROM PUBLIC",
        "GRANT EXECUTE ON FUNCTION sales.guarded() TO {r}",
        "ALTER EXTENSION vector ADD FUNCTION sales.guarded()",
        "CREATE FUNCTION sales.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        r=role,
    )  # fmt: skip
    assert (
        await world.value("SELECT count(*) FROM pg_init_privs WHERE objoid = 'sales.guarded'::regproc") == 1
    )
    dims = "SELECT sales.vector_dims('[1,2]'::sales.vector)"
    everything = absent(world, [PUBLIC, {"kind": "Role", "name": role}], [routines()], "EXECUTE")
    await world.sync(everything)
    assert await world.allowed(anybody, dims)
    assert await world.allowed(role, "SELECT sales.guarded()")
    assert not await world.allowed(anybody, "SELECT sales.mine()")

    named = absent(
        world,
        [PUBLIC, {"kind": "Role", "name": role}],
        [routines("vector_dims", "guarded")],
        "EXECUTE",
    )
    synced = await world.sync(named)
    assert synced.said(named) == (READY, Reason.SUCCEEDED)
    assert not await world.allowed(anybody, dims)
    assert not await world.allowed(role, "SELECT sales.guarded()")
    assert not (await world.sync(named)).writes


@pytest.mark.requirement("R-199")
async def test_new_objects_that_are_born_open_are_closed_at_the_next_pass(plain_world: World) -> None:
    world = plain_world
    anybody, owner = await world.role("anybody"), await world.owned_role("owner")
    await open_sales(world, owner)
    hardening = absent(world, [PUBLIC], [routines()], "EXECUTE")
    await world.sync(hardening)
    async with world.login(owner) as session:
        await session.execute(b"CREATE FUNCTION sales.f() RETURNS int LANGUAGE sql AS 'SELECT 1'")
    assert await world.allowed(anybody, "SELECT sales.f()")
    synced = await world.sync(hardening)
    assert synced.results[0].drifted == 0
    assert not await world.allowed(anybody, "SELECT sales.f()")
    assert await world.allowed(owner, "SELECT sales.f()")


@pytest.mark.requirement("R-171", "R-173", "R-199")
async def test_what_cannot_be_taken_from_everybody_is_told_with_the_statement(world: World) -> None:
    anybody = await world.role("anybody")
    hardening = absent(world, [PUBLIC], [databases(world.database)], "CONNECT")
    synced = await world.sync(hardening)
    assert synced.said(hardening) == (STALLED, Reason.UNREVOCABLE)
    (issue,) = synced.issues(hardening)
    statement = f'REVOKE CONNECT ON DATABASE "{world.database}" FROM PUBLIC'
    assert (issue["role"], issue["fix"]) == (
        "PUBLIC",
        f'Granted by "{world.server.superuser}", who must run: {statement}',
    )
    assert synced.of(hardening).fields["grants"] == {"wanted": 0, "held": 1}
    assert not synced.changes
    await world.admin.execute(statement.encode())
    assert (await world.sync(hardening)).said(hardening) == (READY, Reason.SUCCEEDED)
    assert not await can(world, anybody, "SELECT 1")


async def test_the_operator_does_not_lock_itself_out_of_the_database(plain_world: World) -> None:
    world = plain_world
    anybody, owner = await world.role("anybody"), await world.owned_role("owner")
    await world.run("ALTER DATABASE {d} OWNER TO {o}", d=world.database, o=owner)
    hardening = absent(world, [PUBLIC], [databases(world.database)], "CONNECT", "TEMPORARY")
    for _ in range(2):
        synced = await world.sync(hardening)
        assert synced.said(hardening) == (STALLED, Reason.WOULD_LOCK_OUT)
        (issue,) = synced.issues(hardening)
        assert issue["privilege"] == "CONNECT"
        assert await world.database_acl(None) == {"CONNECT"}
    statement = f'GRANT CONNECT ON DATABASE "{world.database}" TO "{world.operator}"'
    assert statement in issue["fix"]
    await world.admin.execute(statement.encode())
    synced = await world.sync(hardening)
    assert synced.said(hardening) == (READY, Reason.SUCCEEDED)
    assert not await can(world, anybody, "SELECT 1")
    assert not (await world.sync(hardening)).writes


# -- owners --------------------------------------------------------------------------------------------------------


async def test_an_owners_own_privilege_is_taken_away(plain_world: World) -> None:
    world = plain_world
    owner, reader = await world.owned_role("owner"), await world.role("reader")
    await open_sales(world, owner)
    frozen = absent(world, [owner], [tables("sales")], "INSERT", "DELETE", "TRUNCATE")
    reading = access_grant("r", [reader], [tables("sales")], privileges=["SELECT"], database=world.database)
    synced = await world.sync(frozen, reading)
    assert synced.said(frozen) == synced.said(reading) == (READY, Reason.SUCCEEDED)
    assert not await world.allowed(owner, "INSERT INTO sales.orders VALUES (1)")
    assert not await world.allowed(owner, "DELETE FROM sales.orders")
    assert await world.allowed(owner, "SELECT * FROM sales.orders")
    assert await world.allowed(reader, "SELECT * FROM sales.orders")
    assert not (await world.sync(frozen, reading)).writes
    # An owner can always give it back to itself: that is drift.
    async with world.login(owner) as session:
        await session.execute(b"GRANT INSERT ON sales.orders TO CURRENT_USER")
    synced = await world.sync(frozen, reading)
    assert synced.results[0].drifted == 1
    assert not await world.allowed(owner, "INSERT INTO sales.orders VALUES (1)")


# -- default privileges --------------------------------------------------------------------------------------------


async def test_new_routines_are_not_born_executable_for_everybody(plain_world: World) -> None:
    world = plain_world
    anybody, creator = await world.role("anybody"), await world.owned_role("creator")
    await open_sales(world, creator)
    hardening = absent(world, [PUBLIC], [defaults("routines", creator)], "EXECUTE")
    synced = await world.sync(hardening)
    assert synced.said(hardening) == (READY, Reason.SUCCEEDED)
    assert [text for text in synced.statements if "DEFAULT PRIV" in text] == [
        f'ALTER DEFAULT PRIVILEGES FOR ROLE "{creator}" REVOKE EXECUTE ON ROUTINES FROM PUBLIC'
    ]
    async with world.login(creator) as session:
        await session.execute(b"CREATE FUNCTION sales.f() RETURNS int LANGUAGE sql AS 'SELECT 1'")
    assert not await world.allowed(anybody, "SELECT sales.f()")
    assert await world.allowed(creator, "SELECT sales.f()")
    assert not (await world.sync(hardening)).writes
    synced = await world.sync()
    assert not [text for text in synced.statements if "DEFAULT PRIV" in text]


async def test_a_creators_own_privileges_on_its_new_objects_and_those_of_one_schema_are_taken_away(
    plain_world: World,
) -> None:
    world = plain_world
    role, creator = await world.role("role"), await world.owned_role("creator")
    await open_sales(world, creator)
    await world.run(
        "ALTER DEFAULT PRIVILEGES FOR ROLE {c} IN SCHEMA sales GRANT SELECT, INSERT ON TABLES TO {r}",
        c=creator,
        r=role,
    )
    grants = (
        absent(world, [creator], [defaults("tables", creator)], "TRUNCATE", name="own"),
        absent(world, [role], [defaults("tables", creator, "sales")], "INSERT", name="schema"),
    )
    synced = await world.sync(*grants)
    assert [synced.said(one) for one in grants] == [(READY, Reason.SUCCEEDED)] * 2
    async with world.login(creator) as session:
        await session.execute(b"CREATE TABLE sales.later (id int)")
    assert not await world.allowed(creator, "TRUNCATE sales.later")
    assert await world.allowed(creator, "INSERT INTO sales.later VALUES (1)")
    assert await world.acl("sales.later", role) == {"SELECT"}
    assert not (await world.sync(*grants)).writes


# -- what is held in another way -----------------------------------------------------------------------------------


async def test_in_one_schema_what_the_global_defaults_give_cannot_be_taken_away_and_that_is_told(
    plain_world: World,
) -> None:
    world = plain_world
    creator = await world.owned_role("creator")
    await open_sales(world, creator)
    hardening = absent(world, [PUBLIC], [defaults("routines", creator, "sales")], "EXECUTE")
    synced = await world.sync(hardening)
    assert synced.said(hardening) == (STALLED, Reason.HELD_OTHERWISE)
    (issue,) = synced.issues(hardening)
    assert issue["object"] == f'new routines of "{creator}" in sales'
    assert "leave schema out" in issue["fix"]
    assert synced.of(hardening).fields["grants"] == {"wanted": 0, "held": 1}
    assert not (await world.sync(hardening)).writes


async def test_on_a_column_what_is_held_on_the_table_is_told(plain_world: World) -> None:
    world = plain_world
    role, owner = await world.role("role"), await world.owned_role("owner")
    await open_sales(world, owner)
    await world.run(
        "GRANT SELECT ON sales.orders TO {r}",
        "GRANT SELECT (secret), UPDATE (secret) ON sales.orders TO {r}",
        r=role,
    )
    hidden = absent(world, [role], [tables("sales", "orders", columns=["secret"])], "SELECT", "UPDATE")
    synced = await world.sync(hidden)
    assert synced.said(hidden) == (STALLED, Reason.HELD_OTHERWISE)
    (issue,) = synced.issues(hidden)
    assert (issue["object"], issue["privilege"]) == ("sales.orders.secret", "SELECT")
    assert "sales.orders" in issue["fix"]
    assert not await world.allowed(role, "UPDATE sales.orders SET secret = ''")
    assert not (await world.sync(hidden)).writes
    await world.run("REVOKE SELECT ON sales.orders FROM {r}", r=role)
    synced = await world.sync(hidden)
    assert synced.said(hidden) == (READY, Reason.SUCCEEDED)
    assert not await world.allowed(role, "SELECT secret FROM sales.orders")


async def test_what_a_role_has_through_public_is_told(plain_world: World) -> None:
    world = plain_world
    role, owner = await world.role("role"), await world.owned_role("owner")
    await open_sales(world, owner)
    await world.run("GRANT SELECT ON sales.orders TO PUBLIC, {r}", r=role)
    hidden = absent(world, [role], [tables("sales")], "SELECT")
    synced = await world.sync(hidden)
    assert await world.acl("sales.orders", role) == set()
    assert synced.said(hidden) == (STALLED, Reason.HELD_THROUGH_PUBLIC)
    (issue,) = synced.issues(hidden)
    assert issue["fix"].endswith('REVOKE SELECT ON TABLE "sales"."orders" FROM PUBLIC')
    both = absent(world, [role, PUBLIC], [tables("sales")], "SELECT")
    synced = await world.sync(both)
    assert synced.said(both) == (READY, Reason.SUCCEEDED)
    assert not await world.allowed(role, "SELECT * FROM sales.orders")


async def test_what_everybody_has_on_the_table_or_for_all_schemas_is_told_too(plain_world: World) -> None:
    world = plain_world
    role, owner = await world.role("role"), await world.owned_role("owner")
    await open_sales(world, owner)
    column = absent(world, [role], [tables("sales", "orders", columns=["secret"])], "SELECT", name="column")
    entry = {"creator": owner, "schema": "sales", "objectType": "tables"}
    born = absent(world, [role], [{"defaultPrivileges": entry}], "SELECT", name="born")
    synced = await world.sync(column, born)
    assert synced.said(column) == synced.said(born) == (READY, Reason.SUCCEEDED)
    await world.run(
        "GRANT SELECT ON sales.orders TO PUBLIC",
        "ALTER DEFAULT PRIVILEGES FOR ROLE {o} GRANT SELECT ON TABLES TO PUBLIC",
        o=owner,
    )
    assert await world.allowed(role, "SELECT secret FROM sales.orders")
    synced = await world.sync(column, born)
    assert synced.said(column) == synced.said(born) == (STALLED, Reason.HELD_OTHERWISE)
    assert synced.of(column).fields["grants"] == {"wanted": 0, "held": 1}
    assert [(one["object"], one["role"]) for one in synced.issues(column)] == [("sales.orders.secret", role)]
    # Where its fix leads: on the table itself there is a statement for it.
    table = absent(world, [role], [tables("sales", "orders")], "SELECT", name="table")
    assert (await world.sync(table)).said(table) == (STALLED, Reason.HELD_THROUGH_PUBLIC)


# -- several grantors ----------------------------------------------------------------------------------------------


@pytest.mark.requirement("R-173", "R-174")
async def test_what_several_roles_gave_is_taken_as_each_of_them(plain_world: World) -> None:
    world = plain_world
    role, owner, other = (
        await world.role("role"),
        await world.owned_role("owner"),
        await world.owned_role("other"),
    )
    await open_sales(world, owner)
    await world.run(
        "SET ROLE {o}", "GRANT SELECT ON sales.orders TO {x} WITH GRANT OPTION", "GRANT SELECT ON sales.orders TO {r}",
        "SET ROLE {x}", "GRANT SELECT ON sales.orders TO {r}", "RESET ROLE",
        o=owner, x=other, r=role,
    )  # fmt: skip
    assert await world.grantors("sales.orders", role) == {("SELECT", owner), ("SELECT", other)}
    hidden = absent(world, [role], [tables("sales")], "SELECT")
    synced = await world.sync(hidden)
    assert synced.said(hidden) == (READY, Reason.SUCCEEDED)
    assert await world.acl("sales.orders", role) == set()
    assert not (await world.sync(hidden)).writes


@pytest.mark.requirement("R-173")
async def test_a_grantor_that_the_operator_cannot_act_for_is_named(plain_world: World) -> None:
    world = plain_world
    role, owner, other = await world.role("role"), await world.owned_role("owner"), await world.role("other")
    await open_sales(world, owner)
    await world.run(
        "SET ROLE {o}", "GRANT SELECT ON sales.orders TO {x} WITH GRANT OPTION", "GRANT SELECT ON sales.orders TO {r}",
        "SET ROLE {x}", "GRANT SELECT ON sales.orders TO {r}", "RESET ROLE",
        o=owner, x=other, r=role,
    )  # fmt: skip
    hidden = absent(world, [role], [tables("sales")], "SELECT")
    synced = await world.sync(hidden)
    assert synced.said(hidden) == (STALLED, Reason.UNREVOCABLE)
    (issue,) = synced.issues(hidden)
    statement = f'REVOKE SELECT ON TABLE "sales"."orders" FROM "{role}"'
    assert issue["fix"] == f'Granted by "{other}", who must run: {statement}'
    assert await world.grantors("sales.orders", role) == {("SELECT", other)}
    assert not (await world.sync(hidden)).writes
    async with world.login(other) as session:
        await session.execute(statement.encode())
    assert (await world.sync(hidden)).said(hidden) == (READY, Reason.SUCCEEDED)


async def test_what_was_granted_on_is_told_when_its_source_is_to_be_absent(plain_world: World) -> None:
    world = plain_world
    role, owner, other = await world.role("role"), await world.owned_role("owner"), await world.role("other")
    await open_sales(world, owner)
    await world.run(
        "SET ROLE {o}", "GRANT SELECT ON sales.orders TO {x} WITH GRANT OPTION",
        "SET ROLE {x}", "GRANT SELECT ON sales.orders TO {r}", "RESET ROLE",
        o=owner, x=other, r=role,
    )  # fmt: skip
    hidden = absent(world, [other], [tables("sales")], "SELECT")
    synced = await world.sync(hidden)
    assert synced.said(hidden) == (STALLED, Reason.DEPENDENT_PRIVILEGES)
    assert await world.acl("sales.orders", role) == {"SELECT"}


# -- conflicts -----------------------------------------------------------------------------------------------------


@pytest.mark.requirement("R-191", "R-192", "R-193")
async def test_of_present_and_absent_absent_holds_and_both_say_so(plain_world: World) -> None:
    world = plain_world
    role, other, owner = await world.role("role"), await world.role("other"), await world.owned_role("owner")
    await open_sales(world, owner)
    await world.run("CREATE TABLE sales.lines (id int)", "ALTER TABLE sales.lines OWNER TO {o}", o=owner)
    giving = access_grant(
        "g", [role, other], [tables("sales")], privileges=["SELECT", "INSERT"], database=world.database
    )
    taking = absent(world, [role], [tables("sales", "orders")], "SELECT")
    synced = await world.sync(giving, taking)
    assert synced.said(giving) == (STALLED, Reason.CONFLICTING_DECLARATIONS)
    assert synced.said(taking) == (READY, Reason.SUCCEEDED)
    for grant in (giving, taking):
        (issue,) = synced.issues(grant)
        assert (issue["reason"], issue["object"], issue["role"], issue["privilege"]) == (
            "ConflictingDeclarations", "sales.orders", role, "SELECT",
        )  # fmt: skip
    assert synced.of(giving).fields["grants"] == {"wanted": 8, "held": 7}
    assert await world.acl("sales.orders", role) == {"INSERT"}
    assert (
        await world.acl("sales.lines", role) == await world.acl("sales.orders", other) == {"SELECT", "INSERT"}
    )
    assert not (await world.sync(giving, taking)).writes

    # Without the absence, what is declared is given.
    synced = await world.sync(giving)
    assert synced.said(giving) == (READY, Reason.SUCCEEDED)
    assert await world.acl("sales.orders", role) == {"SELECT", "INSERT"}
    # And it is taken away again, though the operator itself gave it.
    await world.sync(giving, taking)
    assert await world.acl("sales.orders", role) == {"INSERT"}


@pytest.mark.requirement("R-192")
async def test_what_makes_access_usable_may_be_declared_absent_and_that_is_told_too(
    plain_world: World,
) -> None:
    world = plain_world
    role, owner = await world.role("role"), await world.owned_role("owner")
    await world.run(
        *ORDERS, "ALTER SCHEMA sales OWNER TO {o}", "ALTER TABLE sales.orders OWNER TO {o}", o=owner
    )
    giving = access_grant("g", [role], [tables("sales")], database=world.database)
    taking = absent(world, [role], [schemas("sales")], "USAGE")
    synced = await world.sync(giving, taking)
    assert synced.said(giving) == (STALLED, Reason.CONFLICTING_DECLARATIONS)
    assert [one["object"] for one in synced.issues(giving)] == ["sales"]
    assert synced.of(giving).fields["grants"] == {"wanted": 1, "held": 1}
    assert await world.schema_acl("sales", role) == set()
    assert not await world.allowed(role, "SELECT * FROM sales.orders")


# -- drift ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("everybody", [False, True], ids=["role", "public"])
async def test_what_was_given_again_by_hand_is_drift_and_taken_away(
    plain_world: World, everybody: bool
) -> None:
    world = plain_world
    role, owner = await world.role("role"), await world.owned_role("owner")
    await open_sales(world, owner)
    by_hand = "GRANT SELECT ON sales.orders TO PUBLIC" if everybody else "GRANT SELECT ON sales.orders TO {r}"
    hidden = absent(world, [PUBLIC if everybody else role], [tables("sales")], "SELECT")
    assert (await world.sync(hidden)).results[0].drifted == 0
    await world.run(by_hand, r=role)
    synced = await world.sync(hidden)
    assert (synced.results[0].drifted, synced.results[0].repaired) == (1, True)
    assert synced.said(hidden) == (READY, Reason.SUCCEEDED)
    assert not await world.allowed(role, "SELECT * FROM sales.orders")
    assert (await world.sync(hidden)).results[0].drifted == 0


async def test_with_report_what_was_given_again_stays_and_is_told_at_every_pass(plain_world: World) -> None:
    world = plain_world
    role, owner = await world.role("role"), await world.owned_role("owner")
    await open_sales(world, owner)
    await world.run("GRANT SELECT ON sales.orders TO {r}", r=role)
    hidden = absent(world, [role], [tables("sales")], "SELECT")
    # The first time it is no drift: it was never as declared.
    assert (await world.sync(hidden, drift=DriftAction.REPORT)).said(hidden) == (READY, Reason.SUCCEEDED)
    await world.run("GRANT SELECT ON sales.orders TO {r}", r=role)
    for _ in range(3):
        synced = await world.sync(hidden, drift=DriftAction.REPORT)
        assert (synced.results[0].drifted, synced.results[0].repaired) == (1, False)
        assert synced.said(hidden) == (STALLED, Reason.DRIFT_FOUND)
        assert synced.of(hidden).fields["grants"] == {"wanted": 0, "held": 1}
        assert not synced.changes
    assert not synced.writes
    assert await world.allowed(role, "SELECT * FROM sales.orders")
    await world.sync(hidden)
    assert not await world.allowed(role, "SELECT * FROM sales.orders")


# -- grant options -------------------------------------------------------------------------------------------------


async def test_the_absence_of_a_grant_option_leaves_the_privilege(plain_world: World) -> None:
    world = plain_world
    role, owner = await world.role("role"), await world.owned_role("owner")
    await open_sales(world, owner)
    await world.run("GRANT SELECT, INSERT ON sales.orders TO {r} WITH GRANT OPTION", r=role)
    modest = absent(world, [role], [tables("sales")], "SELECT", grantOption=True)
    synced = await world.sync(modest)
    assert synced.said(modest) == (READY, Reason.SUCCEEDED)
    assert synced.changes == [f'REVOKE GRANT OPTION FOR SELECT ON TABLE "sales"."orders" FROM "{role}"']
    assert await world.acl("sales.orders", role) == {"SELECT", "INSERT"}
    assert await world.value("SELECT relacl::text FROM pg_class WHERE oid = 'sales.orders'::regclass") == (
        f"{{{owner}=arwdDxtm/{owner},{role}=a*r/{owner}}}" if world.version > 16 else f"{{{owner}=arwdDxt/{owner},{role}=a*r/{owner}}}"
    )  # fmt: skip
    assert not (await world.sync(modest)).writes
    await world.run("GRANT SELECT ON sales.orders TO {r} WITH GRANT OPTION", r=role)
    synced = await world.sync(modest, drift=DriftAction.REPORT)
    assert synced.said(modest) == (STALLED, Reason.DRIFT_FOUND)
    assert synced.of(modest).fields["grants"] == {"wanted": 0, "held": 1}


async def test_a_present_grant_with_option_and_the_absence_of_the_option_conflict(plain_world: World) -> None:
    world = plain_world
    role, owner = await world.role("role"), await world.owned_role("owner")
    await open_sales(world, owner)
    giving = access_grant(
        "g", [role], [tables("sales")], privileges=["SELECT"], grantOption=True, database=world.database
    )
    taking = absent(world, [role], [tables("sales")], "SELECT", grantOption=True)
    synced = await world.sync(giving, taking)
    assert synced.said(giving) == (STALLED, Reason.CONFLICTING_DECLARATIONS)
    (issue,) = synced.issues(giving)
    assert issue["privilege"] == "SELECT WITH GRANT OPTION"
    assert await world.acl("sales.orders", role) == {"SELECT"}
    assert not (await world.sync(giving, taking)).writes
    assert synced.changes == [f'GRANT SELECT ON TABLE "sales"."orders" TO "{role}"']


async def test_a_role_that_does_not_exist_and_an_object_that_does_not_exist_hold_nothing(
    world: World,
) -> None:
    gone = absent(world, [world.name("nobody")], [tables("sales", "nothing")], "SELECT")
    synced = await world.sync(gone)
    assert not synced.issues(gone)
    assert not synced.changes


async def test_a_look_at_one_role_only_leaves_what_is_known_of_the_others(plain_world: World) -> None:
    world = plain_world
    role, other, owner = await world.role("role"), await world.role("other"), await world.owned_role("owner")
    await open_sales(world, owner)
    await world.run("GRANT SELECT ON sales.orders TO {r}, {x}", r=role, x=other)
    hidden = absent(world, [role, other], [tables("sales")], "SELECT")
    await world.sync(hidden)
    known = await world.ledger()
    await world.run("GRANT SELECT ON sales.orders TO {r}, {x}", r=role, x=other)
    synced = await world.sync(hidden, focus=frozenset({role}))
    assert synced.results[0].drifted == 1
    assert not await world.allowed(role, "SELECT * FROM sales.orders")
    assert await world.allowed(other, "SELECT * FROM sales.orders")
    assert await world.ledger() == known
    synced = await world.sync(hidden)
    assert synced.results[0].drifted == 1
    assert not await world.allowed(other, "SELECT * FROM sales.orders")
    assert not (await world.sync(hidden)).writes
    assert await world.ledger() == known
