"""Who grants, what is read back, and what is told where PostgreSQL says "GRANT" and does nothing."""

import psycopg
import pytest

from lakebase_operator.api import Reason
from lakebase_operator.api.lakebase_connection import DriftAction
from lakebase_operator.api.objects import Privilege
from lakebase_operator.domain.desired import Declared, as_json, desired_in
from lakebase_operator.domain.plan import Plan, plan
from lakebase_operator.domain.privileges import ObjectClass
from lakebase_operator.domain.selectors import selectors_of
from lakebase_operator.domain.statements import ObjectName, PrivilegeStatement, Verb
from lakebase_operator.external.postgres.grants import compare, create_ledger, exclusive, execute
from lakebase_operator.reconcilers.roles import Roles
from tests.postgres.meddling import Before, assert_the_ledger_agrees, entries
from tests.postgres.objects import access_grant, being_deleted, tables
from tests.postgres.world import READY, STALLED, World

SALES = ("CREATE SCHEMA sales", "CREATE TABLE sales.orders (id int)")


async def give_sales_to(world: World, owner: str) -> None:
    """Schema and table belong to the owner from now on, and the operator may pass CONNECT on."""
    await world.run(
        "ALTER SCHEMA sales OWNER TO {o}",
        "ALTER TABLE sales.orders OWNER TO {o}",
        "GRANT CONNECT ON DATABASE {d} TO {op} WITH GRANT OPTION",
        o=owner, d=world.database, op=world.operator,
    )  # fmt: skip


async def memberships(world: World, role: str) -> set[tuple[str, str, bool, bool, bool]]:
    """(member, grantor, ADMIN, INHERIT, SET) of a role."""
    return set(
        await world.rows(
            "SELECT member::regrole::text, grantor::regrole::text, admin_option, inherit_option, set_option"
            " FROM pg_auth_members WHERE roleid = (SELECT oid FROM pg_roles WHERE rolname = %s)",
            role,
        )
    )


# -- granting ------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("R-171", "R-172")
async def test_what_cannot_be_granted_is_told_with_the_owner_and_the_statement_and_the_rest_is_done(
    strict_world: World,
) -> None:
    world = strict_world
    role, stranger, owner = (
        await world.role("role"),
        await world.role("stranger"),
        await world.owned_role("owner"),
    )
    await world.run(
        *SALES, "CREATE TABLE sales.closed (id int)", "ALTER TABLE sales.closed OWNER TO {s}", s=stranger
    )
    await give_sales_to(world, owner)
    await world.run("GRANT USAGE ON SCHEMA sales TO {s}", s=stranger)
    grant = access_grant("g", [role], [tables("sales")], database=world.database)
    synced = await world.sync(grant)
    assert synced.said(grant) == (STALLED, Reason.UNGRANTABLE)
    assert stranger in (synced.of(grant).message or "")
    statement = f'GRANT SELECT ON TABLE "sales"."closed" TO "{role}"'
    assert synced.issues(grant) == [
        {
            "object": "sales.closed",
            "role": role,
            "privilege": "SELECT",
            "reason": "Ungrantable",
            "fix": f"As {stranger} run: {statement}",
        }
    ]
    assert synced.of(grant).fields["grants"] == {"wanted": 2, "held": 1}
    assert await world.acl("sales.orders", role) == {"SELECT"}
    # What was found to be impossible is not tried: it would be tried for ever.
    assert not any("closed" in text for text in synced.changes)
    assert not (await world.sync(grant)).writes
    # The statement is right.
    async with world.login(stranger) as session:
        await session.execute(statement.encode())
    synced = await world.sync(grant)
    assert synced.said(grant) == (READY, Reason.SUCCEEDED)


@pytest.mark.requirement("R-171")
async def test_a_grant_that_postgres_answers_with_success_and_does_not_make_is_found_out(
    world: World,
) -> None:
    role = await world.role("role")
    await world.run(*SALES, "CREATE TABLE sales.lines (id int)")
    grant = access_grant("g", [role], [tables("sales")], database=world.database)

    async def take_the_grant_option() -> None:
        await world.run(
            "REVOKE GRANT OPTION FOR ALL ON sales.orders FROM databricks_superuser CASCADE",
        )

    with Before(world, "GRANT SELECT", take_the_grant_option):
        synced = await world.sync(grant)
    assert synced.said(grant) == (STALLED, Reason.UNGRANTABLE)
    assert [one["object"] for one in synced.issues(grant)] == ["sales.orders"]
    assert await world.acl("sales.orders", role) == set()
    assert await world.acl("sales.lines", role) == {"SELECT"}
    await assert_the_ledger_agrees(world, [role])


@pytest.mark.requirement("R-174")
async def test_the_grantor_is_databricks_superuser_where_it_has_the_grant_option(world: World) -> None:
    role, stranger = await world.role("role"), await world.role("stranger")
    await world.run(*SALES, "ALTER TABLE sales.orders OWNER TO {s}", s=stranger)
    grant = access_grant("g", [role], [tables("sales")], database=world.database)
    synced = await world.sync(grant)
    assert await world.grantors("sales.orders", role) == {("SELECT", "databricks_superuser")}
    assert not any("SET LOCAL ROLE" in text for text in synced.statements)
    await world.sync()
    assert await world.grantors("sales.orders", role) == set()


@pytest.mark.requirement("R-174", "R-186")
async def test_the_operator_acts_as_an_owner_that_it_administers_and_keeps_no_membership(
    plain_world: World,
) -> None:
    world = plain_world
    role, owner = await world.role("role"), await world.owned_role("owner")
    await world.run(*SALES)
    await give_sales_to(world, owner)
    before = await memberships(world, owner)
    grant = access_grant("g", [role], [tables("sales")], "Write", database=world.database)
    synced = await world.sync(grant)
    assert synced.said(grant) == (READY, Reason.SUCCEEDED)
    assert {grantor for _, grantor in await world.grantors("sales.orders", role)} == {owner}
    assert f'SET LOCAL ROLE "{owner}"' in synced.statements
    assert await memberships(world, owner) == before
    await assert_the_ledger_agrees(world, [role])
    synced = await world.sync()
    assert await entries(world, [role]) == set()
    assert await memberships(world, owner) == before


@pytest.mark.requirement("R-185")
async def test_an_owner_that_became_a_superuser_holds_up_nothing_but_what_it_owns(plain_world: World) -> None:
    """ADMIN option on a superuser is not enough to become a member of it."""
    world = plain_world
    role, owner, other = (
        await world.role("role"),
        await world.owned_role("owner"),
        await world.owned_role("other"),
    )
    await world.run(
        "CREATE SCHEMA sales",
        "GRANT USAGE ON SCHEMA sales TO PUBLIC",
        "CREATE TABLE sales.orders (id int)",
        "CREATE TABLE sales.free (id int)",
        "ALTER TABLE sales.orders OWNER TO {o}",
        "ALTER TABLE sales.free OWNER TO {x}",
        "ALTER ROLE {o} SUPERUSER",
        o=owner, x=other,
    )  # fmt: skip
    grant = access_grant("g", [role], [tables("sales")], privileges=["SELECT"], database=world.database)
    synced = await world.sync(grant)
    assert await world.acl("sales.free", role) == {"SELECT"}
    assert synced.said(grant) == (STALLED, Reason.UNGRANTABLE)
    (issue,) = synced.issues(grant)
    assert issue["fix"] == f'As {owner} run: GRANT SELECT ON TABLE "sales"."orders" TO "{role}"'
    assert not (await world.sync(grant)).writes


@pytest.mark.requirement("R-174")
@pytest.mark.parametrize("inherit", ["TRUE", "FALSE"])
async def test_the_operator_sets_the_owner_as_role_where_it_may(plain_world: World, inherit: str) -> None:
    world = plain_world
    role, owner = await world.role("role"), await world.role("owner")
    await world.run(
        *SALES, f"GRANT {{o}} TO {{op}} WITH INHERIT {inherit}, SET TRUE", o=owner, op=world.operator
    )
    await give_sales_to(world, owner)
    grant = access_grant("g", [role], [tables("sales")], database=world.database)
    await world.sync(grant)
    assert await world.grantors("sales.orders", role) == {("SELECT", owner)}
    await world.sync()
    assert await world.grantors("sales.orders", role) == set()
    assert not await world.ledger()


@pytest.mark.requirement("R-174")
async def test_with_several_memberships_the_owner_is_still_the_grantor_and_a_revoke_takes_effect(
    plain_world: World,
) -> None:
    world = plain_world
    names = [f"m{number}" for number in range(4)]
    role, members = await world.role("role"), [await world.role(name) for name in names]
    await world.run(*SALES)
    owner = members[2]
    await give_sales_to(world, owner)
    for member in members:
        if member != owner:
            await world.run("GRANT ALL ON sales.orders TO {m} WITH GRANT OPTION", m=member)
        await world.run("GRANT {m} TO {op} WITH INHERIT TRUE, SET TRUE", m=member, op=world.operator)
    grant = access_grant("g", [role], [tables("sales")], "Write", database=world.database)
    await world.sync(grant)
    assert {grantor for _, grantor in await world.grantors("sales.orders", role)} == {owner}
    await world.sync(being_deleted(grant))
    assert await world.grantors("sales.orders", role) == set()


@pytest.mark.requirement("R-174", "R-173")
async def test_what_each_of_several_grantors_gave_is_revoked_as_that_grantor(plain_world: World) -> None:
    world = plain_world
    role, owner, other = await world.role("role"), await world.role("owner"), await world.role("other")
    await world.run(*SALES)
    await give_sales_to(world, owner)
    await world.run(
        "GRANT USAGE ON SCHEMA sales TO {x}",
        "GRANT SELECT, INSERT ON sales.orders TO {x} WITH GRANT OPTION",
        "GRANT {o}, {x} TO {op} WITH INHERIT FALSE, SET TRUE",
        "SET ROLE {x}",
        "GRANT SELECT ON sales.orders TO {r}",
        "RESET ROLE",
        o=owner, x=other, r=role, op=world.operator,
    )  # fmt: skip
    grant = access_grant("g", [role], [tables("sales")], "Write", database=world.database)
    await world.sync(grant)
    made = await world.grantors("sales.orders", role)
    assert ("SELECT", other) in made
    assert {grantor for privilege, grantor in made if privilege != "SELECT"} == {owner}
    await assert_the_ledger_agrees(world, [role])
    synced = await world.sync(being_deleted(grant))
    assert await world.grantors("sales.orders", role) == set()
    assert not await world.ledger()
    assert {text for text in synced.statements if "SET LOCAL ROLE" in text} == {
        f'SET LOCAL ROLE "{owner}"',
        f'SET LOCAL ROLE "{other}"',
    }


@pytest.mark.requirement("R-174")
async def test_grant_options_on_two_privileges_from_two_roles_are_both_used(plain_world: World) -> None:
    world = plain_world
    role, stranger = await world.role("role"), await world.role("stranger")
    readers, writers = await world.role("readers"), await world.role("writers")
    await world.run(*SALES)
    await give_sales_to(world, stranger)
    await world.run(
        "GRANT SELECT ON sales.orders TO {a} WITH GRANT OPTION",
        "GRANT INSERT ON sales.orders TO {b} WITH GRANT OPTION",
        "GRANT USAGE ON SCHEMA sales TO {op}",
        "GRANT {a}, {b} TO {op} WITH INHERIT TRUE, SET FALSE",
        a=readers, b=writers, op=world.operator,
    )  # fmt: skip
    grant = access_grant(
        "g", [role], [tables("sales")], privileges=["SELECT", "INSERT"], database=world.database
    )
    synced = await world.sync(grant)
    assert synced.said(grant) == (READY, Reason.SUCCEEDED)
    assert await world.grantors("sales.orders", role) == {("SELECT", readers), ("INSERT", writers)}
    await world.sync()
    assert await world.grantors("sales.orders", role) == set()


@pytest.mark.requirement("R-174")
async def test_a_superuser_grants_and_revokes_as_the_owner(superuser_world: World) -> None:
    world = superuser_world
    role, owner = await world.role("role"), await world.role("owner")
    await world.run(*SALES)
    await give_sales_to(world, owner)
    grant = access_grant("g", [role], [tables("sales")], "Write", database=world.database)
    synced = await world.sync(grant)
    assert synced.said(grant) == (READY, Reason.SUCCEEDED)
    assert {grantor for _, grantor in await world.grantors("sales.orders", role)} == {owner}
    await world.sync()
    assert await entries(world, [role]) == set()


@pytest.mark.requirement("R-173")
async def test_a_superuser_revokes_what_another_than_the_owner_granted(superuser_world: World) -> None:
    world = superuser_world
    role, owner, other = await world.role("role"), await world.role("owner"), await world.role("other")
    await world.run(*SALES)
    await give_sales_to(world, owner)
    await world.run(
        "GRANT USAGE ON SCHEMA sales TO {x}",
        "GRANT SELECT ON sales.orders TO {x} WITH GRANT OPTION",
        "SET ROLE {x}",
        "GRANT SELECT ON sales.orders TO {r}",
        "RESET ROLE",
        x=other, r=role,
    )  # fmt: skip
    grant = access_grant("g", [role], [tables("sales")], database=world.database)
    await world.sync(grant)
    assert await world.grantors("sales.orders", role) == {("SELECT", other)}
    await world.sync(being_deleted(grant))
    assert await world.grantors("sales.orders", role) == set()


@pytest.mark.requirement("R-174")
async def test_a_change_of_owner_changes_who_must_revoke(plain_world: World) -> None:
    world = plain_world
    role, first, second = (
        await world.role("role"),
        await world.owned_role("first"),
        await world.owned_role("second"),
    )
    await world.run(*SALES)
    await give_sales_to(world, first)
    grant = access_grant("g", [role], [tables("sales")], database=world.database)
    await world.sync(grant)
    await world.run("ALTER TABLE sales.orders OWNER TO {s}", "GRANT USAGE ON SCHEMA sales TO {s}", s=second)
    assert await world.grantors("sales.orders", role) == {("SELECT", second)}
    await world.sync()
    assert await world.grantors("sales.orders", role) == set()
    assert not await world.ledger()


# -- revoking ------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("R-173")
async def test_what_another_granted_besides_stays_and_is_told_with_the_grantor_and_the_statement(
    world: World,
) -> None:
    role, stranger = await world.role("role"), await world.role("stranger")
    await world.run(
        *SALES, "ALTER TABLE sales.orders OWNER TO {s}", "GRANT USAGE ON SCHEMA sales TO {s}", s=stranger
    )
    grant = access_grant("g", [role], [tables("sales")], database=world.database)
    await world.sync(grant)
    await world.run("SET ROLE {s}", "GRANT SELECT ON sales.orders TO {r}", "RESET ROLE", s=stranger, r=role)
    over = access_grant("g", [role], [tables("sales")], database=world.database, suspend=True)
    synced = await world.sync(over)
    assert await world.grantors("sales.orders", role) == {("SELECT", stranger)}
    statement = f'REVOKE SELECT ON TABLE "sales"."orders" FROM "{role}"'
    assert synced.issues(over) == [
        {
            "object": "sales.orders",
            "role": role,
            "privilege": "SELECT",
            "reason": "Unrevocable",
            "fix": f'Granted by "{stranger}", who must run: {statement}',
        }
    ]
    assert not await world.ledger()
    await world.run("SET ROLE {s}", statement, "RESET ROLE", s=stranger)
    assert await world.acl("sales.orders", role) == set()


@pytest.mark.requirement("R-173")
async def test_an_adopted_grant_of_somebody_for_whom_the_operator_cannot_act_is_told_as_unrevocable(
    strict_world: World,
) -> None:
    world = strict_world
    role, stranger = await world.role("role"), await world.role("stranger")
    await world.run(*SALES)
    await give_sales_to(world, stranger)
    await world.run("GRANT SELECT ON sales.orders TO {r}", "GRANT USAGE ON SCHEMA sales TO {r}", r=role)
    grant = access_grant("g", [role], [tables("sales")], database=world.database)
    synced = await world.sync(grant)
    assert synced.said(grant) == (READY, Reason.SUCCEEDED)
    over = access_grant("g", [role], [tables("sales")], database=world.database, suspend=True)
    synced = await world.sync(over)
    assert synced.said(over) == (STALLED, Reason.UNREVOCABLE)
    statement = f'REVOKE SELECT ON TABLE "sales"."orders" FROM "{role}"'
    assert {(one["object"], one["reason"], one["fix"]) for one in synced.issues(over)} == {
        ("sales.orders", "Unrevocable", f'Granted by "{stranger}", who must run: {statement}'),
        (
            "sales",
            "Unrevocable",
            f'Granted by "{stranger}", who must run: REVOKE USAGE ON SCHEMA "sales" FROM "{role}"',
        ),
    }
    assert {one.object.name for result in synced.results for one in result.unrevocable} == {"sales", "orders"}
    # It stays known as ours, is not tried again and again, and goes with the grantor's own statement.
    assert not (await world.sync(over)).writes
    await assert_the_ledger_agrees(world, [role])
    await world.run(
        "SET ROLE {s}", statement, 'REVOKE USAGE ON SCHEMA "sales" FROM {r}', "RESET ROLE", s=stranger, r=role
    )
    synced = await world.sync(over)
    assert synced.said(over) == (READY, Reason.SUSPENDED)
    assert not await world.ledger()


@pytest.mark.requirement("R-173", "R-174")
async def test_a_revoke_of_which_postgres_chooses_another_grantor_is_not_taken_for_done(
    plain_world: World,
) -> None:
    world = plain_world
    role, owner, other = await world.role("role"), await world.role("owner"), await world.role("other")
    await world.run(*SALES)
    await give_sales_to(world, owner)
    await world.run(
        "GRANT SELECT ON sales.orders TO {x} WITH GRANT OPTION",
        "GRANT USAGE ON SCHEMA sales TO {op} WITH GRANT OPTION",
        "GRANT {x} TO {op} WITH INHERIT TRUE, SET FALSE",
        x=other, op=world.operator,
    )  # fmt: skip
    grant = access_grant("g", [role], [tables("sales")], database=world.database)
    await world.sync(grant)
    assert await world.grantors("sales.orders", role) == {("SELECT", other)}
    # From now on a plain REVOKE counts as the owner's if PostgreSQL comes upon the owner first.
    await world.run("GRANT {o} TO {op} WITH INHERIT TRUE, SET FALSE", o=owner, op=world.operator)
    over = access_grant("g", [role], [tables("sales")], database=world.database, suspend=True)
    synced = await world.sync(over)
    left = await world.grantors("sales.orders", role)
    if left:
        assert synced.said(over) == (STALLED, Reason.UNREVOCABLE)
        assert ("SELECT", role) in {(privilege, who) for _, _, privilege, who in await world.ledger()}
    else:
        assert synced.said(over) == (READY, Reason.SUSPENDED)
    await assert_the_ledger_agrees(world, [role])


@pytest.mark.requirement("R-173")
async def test_a_foreign_grant_made_while_ours_is_revoked_is_left_alone(world: World) -> None:
    role, stranger = await world.role("role"), await world.role("stranger")
    await world.run(
        *SALES, "ALTER TABLE sales.orders OWNER TO {s}", "GRANT USAGE ON SCHEMA sales TO {s}", s=stranger
    )
    grant = access_grant("g", [role], [tables("sales")], database=world.database)
    await world.sync(grant)

    async def grant_it_too() -> None:
        await world.run(
            "SET ROLE {s}", "GRANT SELECT ON sales.orders TO {r}", "RESET ROLE", s=stranger, r=role
        )

    with Before(world, "REVOKE SELECT", grant_it_too):
        await world.sync(being_deleted(grant))
    assert await world.grantors("sales.orders", role) == {("SELECT", stranger)}
    assert not await world.ledger()


# -- what is read --------------------------------------------------------------------------------------------------


@pytest.mark.requirement("R-175")
async def test_grants_by_others_on_a_materialized_view_are_seen_and_adopted(strict_world: World) -> None:
    world = strict_world
    role, stranger = await world.role("role"), await world.role("stranger")
    await world.run(*SALES, "CREATE MATERIALIZED VIEW sales.totals AS SELECT count(*) FROM sales.orders")
    await give_sales_to(world, stranger)
    await world.run(
        "ALTER MATERIALIZED VIEW sales.totals OWNER TO {s}",
        "GRANT SELECT ON sales.totals, sales.orders TO {r}",
        "GRANT USAGE ON SCHEMA sales TO {r}",
        r=role, s=stranger,
    )  # fmt: skip
    async with world.session() as session:
        cursor = await session.execute(
            "SELECT table_name FROM information_schema.role_table_grants WHERE grantee = %s", [role]
        )
        assert await cursor.fetchall() == []  # where other tools look there is nothing
    grant = access_grant("g", [role], [tables("sales", "totals", "orders")], database=world.database)
    synced = await world.sync(grant)
    assert synced.said(grant) == (READY, Reason.SUCCEEDED)
    assert all("DATABASE" in text for text in synced.changes)
    await assert_the_ledger_agrees(world, [role])


@pytest.mark.requirement("R-175")
async def test_a_materialized_view_is_granted_verified_and_repaired(world: World) -> None:
    role = await world.role("role")
    await world.run(*SALES, "CREATE MATERIALIZED VIEW sales.totals AS SELECT count(*) FROM sales.orders")
    grant = access_grant("g", [role], [tables("sales", "totals")], database=world.database)
    await world.sync(grant)
    assert await world.allowed(role, "SELECT * FROM sales.totals")
    await world.run(
        "SET ROLE databricks_superuser", "REVOKE SELECT ON sales.totals FROM {r}", "RESET ROLE", r=role
    )
    assert not await world.allowed(role, "SELECT * FROM sales.totals")
    (result,) = (await world.sync(grant)).results
    assert (result.drifted, result.repaired) == (1, True)
    assert await world.allowed(role, "SELECT * FROM sales.totals")


async def test_drift_that_is_only_reported_is_told_with_the_statement_and_stays_known(world: World) -> None:
    role = await world.role("role")
    await world.run(*SALES)
    grant = access_grant("g", [role], [tables("sales")], database=world.database)
    await world.sync(grant)
    await world.run(
        "SET ROLE databricks_superuser", "REVOKE SELECT ON sales.orders FROM {r}", "RESET ROLE", r=role
    )
    for _ in range(2):
        synced = await world.sync(grant, drift=DriftAction.REPORT)
        assert synced.said(grant) == (STALLED, Reason.DRIFT_FOUND)
        assert not synced.changes
        assert [one["reason"] for one in synced.issues(grant)] == ["DriftFound"]
    synced = await world.sync(grant)
    assert synced.said(grant) == (READY, Reason.SUCCEEDED)
    assert await world.acl("sales.orders", role) == {"SELECT"}


# -- the session and its transactions ------------------------------------------------------------------------------


@pytest.mark.requirement("R-182")
async def test_every_session_has_bounds_and_a_fixed_search_path(any_world: World) -> None:
    await any_world.run(
        "ALTER ROLE {op} SET search_path TO public",
        "ALTER ROLE {op} SET lock_timeout TO 0",
        op=any_world.operator,
    )
    try:
        async with any_world.session() as session:
            settings = {}
            for name in (
                "lock_timeout",
                "statement_timeout",
                "idle_in_transaction_session_timeout",
                "search_path",
            ):
                row = await (await session.execute("SELECT current_setting(%s) AS value", [name])).fetchone()
                settings[name] = row["value"] if row else None
            assert settings == {
                "lock_timeout": "10s",
                "statement_timeout": "5min",
                "idle_in_transaction_session_timeout": "1min",
                "search_path": "pg_catalog",
            }
    finally:
        await any_world.run("ALTER ROLE {op} RESET ALL", op=any_world.operator)


@pytest.mark.requirement("R-182")
async def test_functions_and_operators_planted_in_public_are_not_called(world: World) -> None:
    role = await world.role("role")
    await world.run(
        *SALES,
        "CREATE TABLE public.caught (who text)",
        "GRANT ALL ON public.caught TO PUBLIC",
        "CREATE FUNCTION public.caught() RETURNS bigint LANGUAGE sql AS"
        " 'INSERT INTO public.caught VALUES (current_user) RETURNING 1'",
        "CREATE FUNCTION public.pg_advisory_xact_lock(int) RETURNS bigint LANGUAGE sql AS 'SELECT public.caught()'",
        "CREATE FUNCTION public.has_table_privilege(oid, varchar) RETURNS boolean LANGUAGE sql AS"
        " 'SELECT public.caught() = 1'",
    )
    await world.sync(access_grant("g", [role], [tables("sales")], "Write", database=world.database))
    assert await world.rows("SELECT * FROM public.caught") == []


@pytest.mark.requirement("R-185")
async def test_a_plan_that_is_rolled_back_leaves_nothing(plain_world: World) -> None:
    world = plain_world
    role, owner = await world.role("role"), await world.owned_role("owner")
    await world.run(*SALES)
    await give_sales_to(world, owner)
    executed: list[PrivilegeStatement] = []
    async with world.session() as session:
        await create_ledger(session)
        before = await entries(world, [role, owner]), await memberships(world, owner)
        roles = await Roles.read(session)
        grant = access_grant("g", [role], [tables("sales")], "Write", database=world.database)
        declared = Declared(grant, {}, selectors_of(grant, world.version), frozenset({role}), active=True)
        rules = as_json(desired_in(world.database, [declared]), roles.oids)
        found = await compare(session, "team/dry", rules)
        steps = plan(found.differences, roles.actors, roles.name_of, superuser=False)
        assert steps.temporary_set == (owner,)
        async with exclusive(session):
            failures = await execute(session, steps, world.operator, executed.append)
            tried = await compare(session, "team/dry", rules)
            raise psycopg.Rollback  # ends the block quietly
    assert not failures
    assert executed
    assert tried.differences == ()
    assert (await entries(world, [role, owner]), await memberships(world, owner)) == before


@pytest.mark.requirement("R-185")
async def test_a_statement_that_fails_takes_none_of_the_others_with_it(world: World) -> None:
    role = await world.role("role")
    await world.run("CREATE SCHEMA sales", *(f"CREATE TABLE sales.t{number} (id int)" for number in range(9)))
    names = [f"t{number}" for number in range(9)]
    things = tuple(
        ObjectName(ObjectClass.TABLE, "sales", name) for name in (*names[:5], "absent", *names[5:])
    )
    statement = PrivilegeStatement(
        Verb.GRANT, things, (Privilege.INSERT, Privilege.SELECT), (role, world.name("nobody")), None
    )
    executed: list[PrivilegeStatement] = []
    async with world.session() as session, exclusive(session):
        failures = await execute(
            session,
            Plan((statement,), (), ()),
            world.operator,
            executed.append,
        )
    for name in names:
        assert await world.acl(f"sales.{name}", role) == {"SELECT", "INSERT"}
    # Each culprit is alone: the table that is not there, and the role that is not there on each of the others.
    assert {failure.sqlstate for failure in failures} == {"42P01", "42704"}
    assert {
        (len(failure.statement.objects), len(failure.statement.grantees), len(failure.statement.privileges))
        for failure in failures
    } == {(1, 1, 1)}
    assert all(failure.may_pass for failure in failures)
