"""What the operator's login needs, and how a missing right is told before anything is changed."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from lakebase_operator.api import Reason
from lakebase_operator.domain.errors import InvalidError
from lakebase_operator.external.postgres.grants import create_ledger
from lakebase_operator.external.postgres.ledger import VERSION
from lakebase_operator.external.postgres.roles import Preflight, preflight
from lakebase_operator.reconcilers.preflight import check
from lakebase_operator.reconcilers.report import Report
from tests.postgres.objects import connection
from tests.postgres.world import World


@asynccontextmanager
async def logged_in_as(world: World, role: str) -> AsyncIterator[Preflight]:
    """What a login finds out about itself."""
    before, world.operator = world.operator, role
    try:
        yield await world.preflight()
    finally:
        world.operator = before


def refused(found: Preflight) -> tuple[Reason, str, str]:
    """Reason, message, and the status of the condition."""
    report, subject = Report(), connection()
    with pytest.raises(InvalidError) as error:
        check(subject, found, report, home=True)
    report.failed(subject, error.value)
    (said,) = report.said()
    return error.value.reason, error.value.message, said.facts["PrivilegesSufficient"]["status"]


@pytest.mark.requirement("R-19")
async def test_the_operator_of_all_these_tests_has_databricks_superuser_and_createrole_and_no_more(
    world: World,
) -> None:
    found = await world.preflight()
    check(connection(), found, Report(), home=True)
    assert await world.rows(
        "SELECT rolsuper, rolcreatedb, rolcreaterole, rolbypassrls, rolreplication FROM pg_roles WHERE rolname = %s",
        world.operator,
    ) == [(False, False, True, False, False)]
    given = await world.rows(
        "SELECT pg_get_userbyid(roleid), inherit_option, set_option, admin_option FROM pg_auth_members m"
        " WHERE pg_get_userbyid(member) = %s AND NOT EXISTS (SELECT FROM pg_roles r"
        "  WHERE r.oid = m.roleid AND m.admin_option AND NOT m.inherit_option AND NOT m.set_option)",
        world.operator,
    )
    assert given == [("databricks_superuser", True, False, False)]
    owned = await world.rows(
        "SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE pg_get_userbyid(c.relowner) = %s AND n.nspname <> 'lakebase_operator'",
        world.operator,
    )
    assert owned == []


@pytest.mark.requirement("R-4", "R-20")
async def test_a_login_that_is_no_member_of_databricks_superuser_is_told_so(world: World) -> None:
    login = await world.role("login", "LOGIN CREATEROLE")
    async with logged_in_as(world, login) as found:
        reason, message, status = refused(found)
    assert (reason, status) == (Reason.MISSING_DATABRICKS_SUPERUSER, "False")
    assert login in message


@pytest.mark.requirement("R-4", "R-21")
async def test_createrole_counts_on_the_login_itself_and_not_through_a_membership(world: World) -> None:
    login = await world.role("login", "LOGIN IN ROLE databricks_superuser")
    assert await world.value("SELECT rolcreaterole FROM pg_roles WHERE rolname = 'databricks_superuser'")
    async with logged_in_as(world, login) as found:
        reason, message, status = refused(found)
    assert (reason, status) == (Reason.MISSING_CREATE_ROLE, "False")
    # The statement that it names helps.
    await world.admin.execute(message.split("Run as an administrator: ")[1].encode())
    async with logged_in_as(world, login) as found:
        check(connection(), found, Report(), home=True)


@pytest.mark.requirement("R-4")
async def test_a_login_that_cannot_make_its_ledger_is_told_the_statement_that_helps(
    plain_world: World,
) -> None:
    world = plain_world
    login = await world.role("login", "LOGIN CREATEROLE")
    async with logged_in_as(world, login) as found:
        reason, message, _ = refused(found)
    assert reason is Reason.MISSING_CREATE_ON_DATABASE
    await world.admin.execute(message.split("Run as its owner: ")[1].encode())
    async with logged_in_as(world, login) as found:
        check(connection(), found, Report(), home=True)


async def test_the_ledger_of_another_operator_is_not_touched(world: World) -> None:
    await world.sync()
    async with world.session() as session:
        await create_ledger(session)
    other = await world.role("other", "LOGIN CREATEROLE IN ROLE databricks_superuser")
    async with logged_in_as(world, other) as found:
        assert refused(found)[0] is Reason.LEDGER_UNUSABLE


async def test_a_ledger_of_a_newer_operator_is_refused_before_anything_is_changed(world: World) -> None:
    async with world.session() as session:
        await create_ledger(session)
        assert (await preflight(session)).ledger_version == VERSION
        await session.execute("UPDATE lakebase_operator.version SET number = %s", [VERSION + 1])
    reason, message, status = refused(await world.preflight())
    assert (reason, status) == (Reason.LEDGER_UNUSABLE, "False")
    assert "newer operator" in message
    assert "Upgrade this operator" in message
    # Also where that version has other tables than ours.
    await world.run("DROP TABLE lakebase_operator.held")
    assert refused(await world.preflight())[0] is Reason.LEDGER_UNUSABLE


@pytest.mark.requirement("R-209")
async def test_a_session_that_only_reads_is_recognised(world: World) -> None:
    await world.run("ALTER DATABASE {d} SET default_transaction_read_only = on", d=world.database)
    assert refused(await world.preflight())[0] is Reason.READ_ONLY_ENDPOINT
