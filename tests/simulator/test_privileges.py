"""What the operator may and may not do in a Postgres that is set up like Lakebase, on both versions."""

import time
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest
import pytest_asyncio
from psycopg import errors

from lakebase_sandbox.postgres import OPERATOR, PROJECT_OWNER, Identity, IdentityKind, PostgresServer
from lakebase_sandbox.simulator import LakebaseSimulator
from tests.simulator.support import TARGETS, log_in, value

pytestmark = pytest.mark.asyncio(loop_scope="module")

CAROL = Identity("carol@example.com", IdentityKind.USER, "901")
APPLICATION = Identity("55555555-aaaa-4bbb-8ccc-000000000001", IdentityKind.SERVICE_PRINCIPAL, "902")
TEAM = Identity("data team", IdentityKind.GROUP, "903")
Connection = psycopg.AsyncConnection[Any]


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=[16, 18])
async def server(request: pytest.FixtureRequest) -> AsyncIterator[PostgresServer]:
    """A prepared server."""
    async with PostgresServer(request.param, identities=[CAROL, APPLICATION, TEAM]) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=[16, 18])
async def frugal_server(request: pytest.FixtureRequest) -> AsyncIterator[PostgresServer]:
    """A prepared server on which databricks_superuser may grant nothing on what others make."""
    async with PostgresServer(request.param, superuser_grants=False) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def operator(server: PostgresServer) -> AsyncIterator[Connection]:
    async with await server.connect(user=OPERATOR.name) as connection:
        yield connection


@pytest_asyncio.fixture(loop_scope="module")
async def owner(server: PostgresServer) -> AsyncIterator[Connection]:
    async with await server.connect(user=PROJECT_OWNER.name) as connection:
        yield connection


async def acl(connection: Connection, table: str) -> set[tuple[str, str, bool, str]]:
    """(grantee, privilege, grant option, grantor) of a relation, the owner's own rights left out."""
    rows = await connection.execute(
        "SELECT grantee::regrole::text, privilege_type, is_grantable, grantor::regrole::text"
        " FROM pg_class, aclexplode(relacl) WHERE oid = %s::regclass AND grantee <> relowner",
        (table,),
    )
    return set(await rows.fetchall())


async def test_the_operator_is_an_inheriting_member_of_databricks_superuser_and_no_more(
    operator: Connection,
) -> None:
    rows = await operator.execute(
        "SELECT m.admin_option, m.inherit_option, m.set_option FROM pg_auth_members AS m"
        " WHERE m.member = current_user::regrole AND m.roleid = 'databricks_superuser'::regrole"
    )
    assert await rows.fetchall() == [(False, True, False)]
    rows = await operator.execute(
        "SELECT rolsuper, rolcreaterole, rolcreatedb, rolbypassrls, rolreplication, rolcanlogin"
        " FROM pg_roles WHERE rolname = current_user"
    )
    assert await rows.fetchone() == (False, True, False, False, False, True)


async def test_set_role_databricks_superuser_is_refused(operator: Connection) -> None:
    with pytest.raises(errors.InsufficientPrivilege, match="permission denied to set role"):
        await operator.execute("SET ROLE databricks_superuser")


async def test_granting_databricks_superuser_is_refused(operator: Connection) -> None:
    await operator.execute("CREATE ROLE ambitious")
    with pytest.raises(errors.InsufficientPrivilege, match="permission denied to grant role"):
        await operator.execute("GRANT databricks_superuser TO ambitious")
    await operator.execute("DROP ROLE ambitious")


async def test_membership_alone_does_not_let_create_roles(server: PostgresServer) -> None:
    async with await server.connect() as admin:
        await admin.execute("CREATE ROLE member_only LOGIN")
        await admin.execute("GRANT databricks_superuser TO member_only")
        async with await server.connect(user="member_only") as member:
            with pytest.raises(errors.InsufficientPrivilege):
                await member.execute("CREATE ROLE somebody")
        await admin.execute("DROP ROLE member_only")


async def test_a_creator_gets_admin_but_neither_inherit_nor_set(operator: Connection) -> None:
    await operator.execute("CREATE ROLE child")
    rows = await operator.execute(
        "SELECT admin_option, inherit_option, set_option FROM pg_auth_members"
        " WHERE roleid = 'child'::regrole AND member = current_user::regrole"
    )
    assert await rows.fetchall() == [(True, False, False)]
    with pytest.raises(errors.InvalidGrantOperation):
        await operator.execute("GRANT child TO CURRENT_USER WITH ADMIN OPTION")
    await operator.execute("GRANT child TO CURRENT_USER WITH INHERIT FALSE, SET TRUE")
    await operator.execute("SET ROLE child")
    await operator.execute("RESET ROLE")
    await operator.execute("DROP ROLE child")


async def test_a_grant_without_grant_option_is_a_warning_and_nothing_else(
    frugal_server: PostgresServer,
) -> None:
    async with (
        await frugal_server.connect(user=PROJECT_OWNER.name) as owner,
        await frugal_server.connect(user=OPERATOR.name) as operator,
    ):
        await owner.execute("CREATE ROLE reader; CREATE SCHEMA sales; CREATE TABLE sales.orders ()")
        before = await acl(owner, "sales.orders")
        notices: list[str | None] = []
        operator.add_notice_handler(lambda notice: notices.append(notice.sqlstate))
        cursor = await operator.execute("GRANT SELECT ON sales.orders TO reader")
        assert cursor.statusmessage == "GRANT"
        assert notices == ["01007"]
        assert await acl(owner, "sales.orders") == before
        assert "databricks_superuser" not in {grantee for grantee, *_ in before}


async def test_the_owners_grant_option_lets_the_operator_grant(frugal_server: PostgresServer) -> None:
    async with (
        await frugal_server.connect(user=PROJECT_OWNER.name) as owner,
        await frugal_server.connect(user=OPERATOR.name) as operator,
    ):
        await owner.execute("CREATE ROLE listener; CREATE TABLE granted ()")
        await owner.execute("GRANT ALL ON granted TO databricks_superuser WITH GRANT OPTION")
        await operator.execute("GRANT SELECT ON granted TO listener")
        assert ("listener", "SELECT", False, "databricks_superuser") in await acl(owner, "granted")


async def test_new_objects_carry_grants_that_nobody_asked_for(
    owner: Connection, operator: Connection, server: PostgresServer
) -> None:
    await owner.execute("CREATE ROLE someone; CREATE SCHEMA noisy")
    await owner.execute("CREATE TABLE noisy.orders (id serial)")
    await owner.execute("CREATE VIEW noisy.view AS SELECT 1 AS one")
    await owner.execute("CREATE MATERIALIZED VIEW noisy.matview AS SELECT 1 AS one")
    await owner.execute("CREATE SEQUENCE noisy.counter")
    oid = await value(owner, "SELECT oid::text FROM pg_database WHERE datname = current_database()")
    reader, writer = f"databricks_reader_{oid}", f"databricks_writer_{oid}"
    own = f'"{PROJECT_OWNER.name}"'
    for relation in ("orders", "view", "matview"):
        found = await acl(owner, f"noisy.{relation}")
        assert ("databricks_superuser", "SELECT", True, own) in found
        assert ("databricks_superuser", "TRUNCATE", True, own) in found
        assert ("databricks_gateway", "SELECT", False, own) in found
        assert (reader, "SELECT", False, "databricks_superuser") in found
        await operator.execute(f"GRANT SELECT ON noisy.{relation} TO someone")
        assert ("someone", "SELECT", False, "databricks_superuser") in await acl(owner, f"noisy.{relation}")
    for sequence in ("counter", "orders_id_seq"):
        assert ("databricks_superuser", "USAGE", True, own) in await acl(owner, f"noisy.{sequence}")
    rows = await owner.execute(
        "SELECT grantee::regrole::text, privilege_type, is_grantable, grantor::regrole::text"
        " FROM pg_namespace, aclexplode(nspacl) WHERE nspname = 'noisy' AND grantee <> nspowner"
    )
    assert set(await rows.fetchall()) == {
        ("databricks_superuser", "USAGE", True, own),
        ("databricks_superuser", "CREATE", True, own),
        ("databricks_gateway", "USAGE", False, own),
        (reader, "USAGE", False, "databricks_superuser"),
        (writer, "USAGE", False, "databricks_superuser"),
        (writer, "CREATE", False, "databricks_superuser"),
    }
    await owner.execute("CREATE TEMP TABLE passing ()")
    assert await acl(owner, "passing") == set()
    async with await server.connect() as admin:
        rows = await admin.execute("SELECT evtname, evtowner::regrole::text FROM pg_event_trigger")
        assert set(await rows.fetchall()) == {
            ("on_create_schema", "cloud_admin"),
            ("on_create_sequence", "cloud_admin"),
            ("on_create_table_or_view", "cloud_admin"),
        }
    await owner.execute("DROP SCHEMA noisy CASCADE; DROP ROLE someone")


async def test_objects_from_before_the_event_triggers_can_be_made_by_an_admin(
    server: PostgresServer, operator: Connection
) -> None:
    """With `session_replication_role` set to `replica`, as a restore does it, no event trigger fires."""
    async with await server.connect() as admin:
        await admin.execute("SET session_replication_role = replica")
        await admin.execute("CREATE TABLE restored ()")
        assert await acl(admin, "restored") <= {
            ("databricks_superuser", privilege, True, "cloud_admin")  # by default privileges in public
            for _, privilege, *_ in await acl(admin, "restored")
        }
        await admin.execute("CREATE SCHEMA old; CREATE TABLE old.restored (); DROP TABLE restored")
        assert await acl(admin, "old.restored") == set()
        await operator.execute("GRANT SELECT ON old.restored TO PUBLIC")  # a warning, no more
        assert await acl(admin, "old.restored") == set()
        await admin.execute("DROP SCHEMA old CASCADE")


async def test_the_operator_reads_and_writes_all_data_but_alters_nothing(
    owner: Connection, operator: Connection
) -> None:
    await owner.execute("CREATE TABLE private AS SELECT 1 AS one")
    await operator.execute("INSERT INTO private VALUES (2)")
    assert await value(operator, "SELECT count(*) FROM private") == 2
    with pytest.raises(errors.InsufficientPrivilege, match="must be owner"):
        await operator.execute("ALTER TABLE private ADD COLUMN two int")
    await owner.execute("DROP TABLE private")


async def test_the_operator_may_make_its_schema_in_the_default_database(operator: Connection) -> None:
    await operator.execute("CREATE SCHEMA own_things; DROP SCHEMA own_things")


@pytest.mark.parametrize(
    ("identity", "kind"), [(CAROL, "USER"), (APPLICATION, "SERVICE_PRINCIPAL"), (TEAM, "GROUP")]
)
async def test_databricks_create_role_makes_a_labelled_login_role(
    operator: Connection, server: PostgresServer, identity: Identity, kind: str
) -> None:
    assert (
        await value(operator, "SELECT databricks_create_role(%s, %s)", identity.name, kind) == identity.name
    )
    rows = await operator.execute(
        "SELECT rolcanlogin, rolinherit, rolcreatedb, rolcreaterole, rolbypassrls, rolsuper, label"
        " FROM pg_roles AS r JOIN pg_shseclabel AS l ON l.objoid = r.oid"
        " AND l.classoid = 'pg_authid'::regclass AND provider = 'databricks_auth' WHERE rolname = %s",
        (identity.name,),
    )
    assert await rows.fetchone() == (
        *(True, True, False, False, False, False),
        f"id={identity.id},type={kind.lower()}",
    )
    listed = await operator.execute("SELECT role_name, identity_type FROM databricks_list_roles")
    assert (identity.name, kind.lower()) in await listed.fetchall()
    with pytest.raises(errors.DuplicateObject):
        await operator.execute("SELECT databricks_create_role(%s, %s)", (identity.name, kind))
    await operator.execute("CREATE ROLE others")
    await operator.execute(f'GRANT "{identity.name}" TO others')  # the operator has ADMIN on it
    await operator.execute(f'DROP ROLE others; DROP ROLE "{identity.name}"')
    async with await server.connect() as admin:
        labels = "SELECT count(*) FROM pg_shseclabel WHERE label = %s"
        assert await value(admin, labels, identity.label) == 0


async def test_databricks_create_role_knows_only_identities_of_the_workspace(operator: Connection) -> None:
    with pytest.raises(errors.InvalidParameterValue, match=r"\[Databricks Auth\] Identity not found\."):
        await operator.execute("SELECT databricks_create_role('nobody@example.com', 'USER')")
    with pytest.raises(errors.InvalidParameterValue, match=r"Identity not found\."):
        await operator.execute("SELECT databricks_create_role(%s, 'GROUP')", (CAROL.name,))
    with pytest.raises(errors.InvalidParameterValue, match="Invalid identity type"):
        await operator.execute("SELECT databricks_create_role(%s, 'ROBOT')", (CAROL.name,))


async def test_databricks_create_role_needs_createrole(server: PostgresServer, operator: Connection) -> None:
    await operator.execute("SELECT databricks_create_role(%s, 'USER')", (CAROL.name,))
    async with await server.connect(user=CAROL.name) as carol:
        with pytest.raises(errors.InsufficientPrivilege, match="Permission denied to create role"):
            await carol.execute("SELECT databricks_create_role(%s, 'SERVICE_PRINCIPAL')", (APPLICATION.name,))
    await operator.execute(f'DROP ROLE "{CAROL.name}"')


@pytest.fixture(scope="module")
def joined(simulator: LakebaseSimulator) -> str:
    return simulator.add_identity("user", "gina@example.com").identity.name


@pytest.mark.parametrize("target", TARGETS)
async def test_databricks_create_role_needs_a_session_with_a_live_credential(
    simulator: LakebaseSimulator, joined: str, target: str
) -> None:
    running = simulator.targets[target]
    create = "SELECT databricks_create_role(%s, 'USER')"
    async with await log_in(simulator, target) as connection:
        await connection.execute(create, (joined,))
        await connection.execute(f'DROP ROLE "{joined}"')
        running.server.record_oauth_session(connection.info.backend_pid, time.time() - 1)
        with pytest.raises(errors.InsufficientPrivilege, match=r"\[Databricks Auth\] Permission denied"):
            await connection.execute(create, (joined,))
    await running.execute(f"ALTER ROLE \"{OPERATOR.name}\" PASSWORD 'a password'")
    running.enable_pg_native_login = True
    try:
        async with await log_in(simulator, target, password="a password") as connection:
            with pytest.raises(errors.InsufficientPrivilege, match=r"\[Databricks Auth\] Permission denied"):
                await connection.execute(create, (joined,))
            await connection.execute("CREATE ROLE ordinary; DROP ROLE ordinary")
    finally:
        running.enable_pg_native_login = False
        await running.execute(f'ALTER ROLE "{OPERATOR.name}" PASSWORD NULL')
