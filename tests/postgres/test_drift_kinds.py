"""What people change by hand, kind by kind: each is seen, and repaired or told, as the connection's policy says."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from lakebase_operator.api import AccessGrant, Reason
from lakebase_operator.api.lakebase_connection import DriftAction, UnmanagedAction, UnmanagedGrants
from lakebase_operator.domain.plan import Origin
from lakebase_operator.reconcilers import grants as grants_step
from lakebase_operator.reconcilers.grants import Policy
from lakebase_operator.reconcilers.tally import Deviation
from tests.postgres.meddling import assert_the_ledger_agrees
from tests.postgres.objects import PUBLIC as EVERYBODY
from tests.postgres.objects import access_grant, role_subject, tables
from tests.postgres.scenes import PUBLIC, Atom, Stage, Thing, atoms, privilege_statement
from tests.postgres.world import READY, STALLED, WAITING, World, run


@dataclass(frozen=True)
class Case:
    """A privilege of a role on something."""

    name: str
    thing: Thing
    privilege: str
    role: str = "g0"
    option: bool = False
    """It is about the grant option; the privilege itself is held before and after."""
    grantor: str = "made"
    """Who grants by hand. "" for whoever granted it."""
    stuck: bool = False
    """Granted by somebody for whom the operator cannot act."""

    @property
    def atom(self) -> Atom:
        return Atom(self.thing, self.role, f"{self.privilege}*" if self.option else self.privilege)


def table(name: str) -> Thing:
    return Thing("TABLE", "k", name)


def column(name: str) -> Thing:
    return Thing("COLUMN", "k", name, "a")


TAKEN = (
    Case("a privilege on a table", table("t1"), "SELECT"),
    Case("a grant option", table("t2"), "SELECT", option=True),
    Case("a privilege on a column", column("t3"), "SELECT"),
    Case("a privilege on a view", table("v1"), "SELECT"),
    Case("a privilege on a materialized view", table("m1"), "SELECT"),
    Case("a privilege on a partitioned table", table("p1"), "INSERT"),
    Case("USAGE on a schema", Thing("SCHEMA", "", "k1"), "USAGE"),
    Case("CREATE on a schema", Thing("SCHEMA", "", "k1"), "CREATE"),
    Case("a privilege on a sequence", Thing("SEQUENCE", "k", "q1"), "USAGE"),
    Case("EXECUTE on a function", Thing("ROUTINE", "k", "f1"), "EXECUTE"),
    Case("USAGE on a type", Thing("TYPE", "k", "e1"), "USAGE"),
    Case("a privilege on a large object", Thing("LARGE OBJECT", "", "4711"), "SELECT"),
    Case("USAGE on a foreign server", Thing("FOREIGN SERVER", "", "far1"), "USAGE"),
    Case("TEMPORARY on the database", Thing("DATABASE", "", "here"), "TEMPORARY"),
    Case("what PUBLIC was given", table("t4"), "SELECT", role=PUBLIC),
    Case("default privileges", Thing("DEFAULT TABLES", "k", "made"), "SELECT"),
)
"""Declared, and taken away by hand."""

ADDED = (
    Case("to PUBLIC", table("t10"), "SELECT", role=PUBLIC),
    Case("to a role that nobody declares", table("t11"), "SELECT", role="g1"),
    Case("another privilege to a declared role", table("t1"), "UPDATE"),
    Case("a grant option to a declared role", table("t12"), "SELECT", option=True),
    Case("on a column", column("t13"), "UPDATE", role="g1"),
    Case("by another grantor", table("t14"), "SELECT", role="g1", grantor="stranger", stuck=True),
    Case("by somebody with grant option", table("t15"), "SELECT", role="g1", grantor="g2"),
    Case("on a partition", table("p1_part"), "SELECT", role="g1"),
    Case("CREATE on a schema", Thing("SCHEMA", "", "k2"), "CREATE", role="g1"),
    Case("CREATE on the database", Thing("DATABASE", "", "here"), "CREATE", role="g1", grantor="databricks_superuser"),
    Case("on a sequence", Thing("SEQUENCE", "k", "q2"), "UPDATE", role="g1"),
    Case("EXECUTE on a function", Thing("ROUTINE", "k", "f2"), "EXECUTE", role="g1"),
    Case("USAGE on a type", Thing("TYPE", "k", "e2"), "USAGE", role="g1"),
    Case("on a large object", Thing("LARGE OBJECT", "", "4712"), "UPDATE", role="g1"),
    Case("USAGE on a foreign server", Thing("FOREIGN SERVER", "", "far2"), "USAGE", role="g1"),
    Case("default privileges", Thing("DEFAULT SEQUENCES", "k", "made"), "SELECT", role="g1"),
    Case("default privileges everywhere", Thing("DEFAULT TABLES", "", "made"), "SELECT", role=PUBLIC),
)  # fmt: skip
"""Given by hand, and declared by nobody."""

RETURNED = (
    Case("to PUBLIC by default", Thing("ROUTINE", "k", "f3"), "EXECUTE", role=PUBLIC),
    Case("to PUBLIC by default on new ones", Thing("DEFAULT ROUTINES", "", "made"), "EXECUTE", role=PUBLIC),
    Case("on a table", table("t20"), "DELETE", role="g1"),
    Case("a grant option", table("t21"), "SELECT", role="g2", option=True),
    Case("on a column", column("t22"), "SELECT", role="g1"),
    Case("CREATE on a schema", Thing("SCHEMA", "", "k3"), "CREATE", role="g1"),
)
"""Declared absent, and given by hand again."""

MEMBERS = {
    "TABLE": "tables", "COLUMN": "tables", "SEQUENCE": "sequences", "ROUTINE": "routines", "TYPE": "types",
    "SCHEMA": "schemas", "DATABASE": "databases", "FOREIGN SERVER": "foreignServers",
}  # fmt: skip
PASSING_ON = Case("may grant on", table("t15"), "SELECT", role="g2", option=True)


class Place:
    """The roles and things of all cases in a database, and the AccessGrants that declare them."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.stage = Stage(world)
        declared = [*TAKEN, Case("option", table("t12"), "SELECT"), PASSING_ON]
        self.declared = {case: self.grant(case) for case in declared}
        self.forbidden = {case: self.grant(case, ensure="Absent") for case in RETURNED}

    @property
    def grants(self) -> list[AccessGrant]:
        return [*self.declared.values(), *self.forbidden.values()]

    def name(self, role: str) -> str:
        return role if role.startswith("databricks_") else self.stage.name(role)

    def grant(self, case: Case, **more: Any) -> AccessGrant:
        """Declares one case."""
        thing = case.thing
        entry: dict[str, Any]
        if thing.kind.startswith("DEFAULT"):
            entry = {"objectType": thing.kind.split()[1].lower(), "creator": self.name(thing.name)}
            entry |= {"schema": thing.schema} if thing.schema else {}
            member = "defaultPrivileges"
        elif thing.kind == "LARGE OBJECT":
            member, entry = "largeObjects", {"ids": [int(thing.name)]}
        else:
            member = MEMBERS[thing.kind]
            entry = {"names": [self.world.database if thing.kind == "DATABASE" else thing.name]}
            entry |= {"schema": thing.schema} if thing.schema else {}
            entry |= {"columns": [thing.column]} if thing.column else {}
        number = (TAKEN + RETURNED).index(case) if case in TAKEN + RETURNED else 99
        return access_grant(
            f"{case.thing.name}-{number}",
            [EVERYBODY if case.role == PUBLIC else role_subject(self.name(case.role))],
            [{member: entry}],
            database=self.world.database,
            privileges=[case.privilege],
            grantOption=case.option,
            **more,
        )

    async def set_up(self) -> None:
        world = self.world
        for text in ("made", "g2"):
            await world.owned_role(text)
        for text in ("g0", "g1", "stranger"):
            await world.role(text)
        things = {case.thing for case in TAKEN + ADDED + RETURNED} | {table("t12")}
        names = {
            letter: sorted({thing.name for thing in things if thing.name.startswith(letter) and thing.schema})
            for letter in "tvmqfe"
        }
        owned = [f"SCHEMA k{number}" for number in ("", 1, 2, 3)]
        owned += [f"TABLE k.{name}" for name in (*names["t"], *names["v"], "p1", "p1_part")]
        owned += [f"MATERIALIZED VIEW k.{name}" for name in names["m"]]
        owned += [f"SEQUENCE k.{name}" for name in names["q"]]
        owned += [f"FUNCTION k.{name}" for name in names["f"]] + [f"TYPE k.{name}" for name in names["e"]]
        owned += [f"LARGE OBJECT {number}" for number in (4711, 4712)]
        owned += [f"SERVER far{number}" for number in (1, 2)]
        await world.run(
            *(f"CREATE SCHEMA k{number}" for number in ("", 1, 2, 3)),
            *(f"CREATE TABLE k.{name} (id int, a int)" for name in names["t"]),
            *(f"CREATE VIEW k.{name} AS SELECT 1 AS id" for name in names["v"]),
            *(f"CREATE MATERIALIZED VIEW k.{name} AS SELECT 1 AS id" for name in names["m"]),
            "CREATE TABLE k.p1 (id int) PARTITION BY LIST (id)",
            "CREATE TABLE k.p1_part PARTITION OF k.p1 DEFAULT",
            *(f"CREATE SEQUENCE k.{name}" for name in names["q"]),
            *(f"CREATE FUNCTION k.{name}() RETURNS int LANGUAGE sql AS 'SELECT 1'" for name in names["f"]),
            *(f"CREATE TYPE k.{name} AS ENUM ('x')" for name in names["e"]),
            "SELECT lo_create(4711), lo_create(4712)",
            "CREATE FOREIGN DATA WRAPPER wire",
            "GRANT USAGE ON FOREIGN DATA WRAPPER wire TO {made}",
            "CREATE SERVER far1 FOREIGN DATA WRAPPER wire",
            "CREATE SERVER far2 FOREIGN DATA WRAPPER wire",
            *(f"ALTER {what} OWNER TO {{made}}" for what in owned),
            "GRANT USAGE, CREATE ON SCHEMA k TO {stranger}",
            "GRANT USAGE ON SCHEMA k TO {g2}",
            "ALTER TABLE k.t14 OWNER TO {stranger}",
            made=self.name("made"), stranger=self.name("stranger"), g2=self.name("g2"),
        )  # fmt: skip

    async def do(self, case: Case, *, grants: bool) -> None:
        """Grant or revoke it by hand."""
        thing = case.thing
        if thing.kind == "DATABASE":
            thing = thing._replace(name=self.world.database)
        grantor = case.grantor if grants else await self.grantor(case)
        async with self.world.admin.transaction():
            await run(self.world.admin, "SET LOCAL ROLE {r}", r=self.name(grantor))
            await self.world.admin.execute(
                privilege_statement(
                    thing, case.privilege, self.name(case.role), grants=grants, option=case.option
                )
            )

    async def grantor(self, case: Case) -> str:
        """Who has granted it."""
        if case.thing.kind.startswith("DEFAULT"):
            return case.thing.name
        return next(
            key.grantor for key in await self.stage.state()
            if (key.thing, key.grantee, key.privilege) == (case.thing, case.role, case.privilege)
        )  # fmt: skip

    async def held(self, cases: Sequence[Case]) -> set[str]:
        """Names of those that are held."""
        there = atoms(await self.stage.state())
        return {case.name for case in cases if case.atom in there}

    def told(self, case: Case, items: Sequence[Deviation]) -> Deviation | None:
        """What a result says of a case."""
        privilege = case.privilege + (" WITH GRANT OPTION" if case.option else "")
        for item in items:
            if (item.object, item.role, item.privilege) == (
                self.spelled(case.thing),
                self.name(case.role),
                privilege,
            ):
                return item
        return None

    def spelled(self, thing: Thing) -> str:
        """As people read it."""
        if thing.kind.startswith("DEFAULT"):
            where = f" in {thing.schema}" if thing.schema else ""
            return f'new {thing.kind.split()[1].lower()} of "{self.name(thing.name)}"{where}'
        name = self.world.database if thing.kind == "DATABASE" else thing.name
        text = ".".join(filter(None, (thing.schema, name, thing.column)))
        return f"{text}()" if thing.kind == "ROUTINE" else text


def names(cases: Sequence[Case]) -> set[str]:
    return {case.name for case in cases}


@pytest.fixture
async def place(world: World, monkeypatch: pytest.MonkeyPatch) -> Place:
    """All that is declared is there."""
    monkeypatch.setattr(
        grants_step, "MAX_STATUS_ISSUES", 1000
    )  # all kinds at once are more than status takes
    place = Place(world)
    await place.set_up()
    return place


@pytest.mark.requirement("R-180", "R-183")
@pytest.mark.parametrize("unmanaged", UnmanagedAction)
@pytest.mark.parametrize("drift", DriftAction)
async def test_each_kind_of_change_by_hand_is_seen_and_repaired_or_told(
    place: Place, unmanaged: UnmanagedAction, drift: DriftAction
) -> None:
    world = place.world
    everyone = [place.name(role) for role in ("g0", "g1", PUBLIC)]
    policy = Policy(drift, UnmanagedGrants(action=unmanaged, roles=everyone))
    for case in RETURNED:
        if case.name not in await place.held(RETURNED):
            await place.do(case, grants=True)
    synced = await world.sync(*place.grants, policy=policy)
    assert {grant.metadata.name: synced.said(grant) for grant in place.grants} == {
        grant.metadata.name: (READY, Reason.SUCCEEDED) for grant in place.grants
    }
    assert await place.held(TAKEN) == names(TAKEN)
    assert await place.held(RETURNED) == set()
    assert synced.results[0].drifted == 0
    for case in TAKEN:
        await place.do(case, grants=False)
    for case in ADDED + RETURNED:
        await place.do(case, grants=True)
    assert await place.held(TAKEN) == set()
    assert await place.held(ADDED + RETURNED) == names(ADDED + RETURNED)

    synced = await world.sync(*place.grants, policy=policy)
    result = synced.results[0]
    # What was seen.
    assert result.drifted == len(TAKEN) + len(RETURNED)
    assert result.repaired is (drift is DriftAction.REPAIR)
    for case in TAKEN:
        found = place.told(case, result.drift)
        assert found is not None, case.name
        assert (found.origin, found.grantor) == (Origin.MISSING, None)
    for case in RETURNED:
        found = place.told(case, result.drift)
        assert found is not None, case.name
        assert (found.origin, found.grantor) == (Origin.FORBIDDEN, place.name(case.grantor))
    # What was done.
    if drift is DriftAction.REPAIR:
        assert await place.held(TAKEN) == names(TAKEN)
        assert await place.held(RETURNED) == set()
        assert {synced.said(grant) for grant in place.grants} == {(READY, Reason.SUCCEEDED)}
    else:
        assert await place.held(TAKEN) == set()
        assert await place.held(RETURNED) == names(RETURNED)
        told: Mapping[Case, AccessGrant] = place.forbidden | {case: place.declared[case] for case in TAKEN}
        for case, grant in told.items():
            assert synced.said(grant) == (STALLED, Reason.DRIFT_FOUND), case.name
            (issue,) = synced.issues(grant)
            assert issue["object"] == place.spelled(case.thing)
            assert ("REVOKE" if case in RETURNED else "GRANT") in issue["fix"]
    stuck = [case for case in ADDED if case.stuck]
    match unmanaged:
        case UnmanagedAction.KEEP:
            assert (result.unmanaged, result.unmanaged_items) == (None, ())
            assert await place.held(ADDED) == names(ADDED)
        case UnmanagedAction.REPORT:
            assert await place.held(ADDED) == names(ADDED)
            for one in ADDED:
                item = place.told(one, result.unmanaged_items)
                assert item is not None, one.name
                assert (item.origin, item.grantor) == (Origin.UNMANAGED, place.name(one.grantor))
        case UnmanagedAction.REVOKE:
            assert await place.held(ADDED) == names(stuck)
            assert [place.told(one, result.unmanaged_items) is not None for one in ADDED] == [
                one.stuck for one in ADDED
            ]
    if unmanaged is not UnmanagedAction.KEEP:
        assert result.unmanaged == len(result.unmanaged_items)

    again = await world.sync(*place.grants, policy=policy)
    assert again.changes == []
    assert again.results[0].drifted == (0 if drift is DriftAction.REPAIR else len(TAKEN) + len(RETURNED))
    assert (again.results[0].unmanaged, again.results[0].unmanaged_items) == (
        result.unmanaged,
        result.unmanaged_items,
    )


# -- objects and roles that change ----------------------------------------------------------------------------------

SALES = ("CREATE SCHEMA sales", "CREATE TABLE sales.orders (id int, a int)")


async def test_a_schema_renamed_to_a_declared_name_keeps_everything_without_a_statement(world: World) -> None:
    role = await world.role("role")
    await world.run(*SALES)
    old = access_grant("old", [role], [tables("sales")], database=world.database)
    new = access_grant("new", [role], [tables("trade")], database=world.database)
    await world.sync(old, new)
    await world.run("ALTER SCHEMA sales RENAME TO trade")
    synced = await world.sync(old, new)
    assert synced.changes == []
    assert (synced.said(old), synced.said(new)) == ((READY, Reason.NO_OBJECTS), (READY, Reason.SUCCEEDED))
    assert await world.acl("trade.orders", role) == {"SELECT"}
    # Nobody declares anything of the schema once it is called otherwise again.
    await world.run("ALTER SCHEMA trade RENAME TO purchase")
    await world.sync(old, new)
    assert await world.acl("purchase.orders", role) == set()
    assert await world.schema_acl("purchase", role) == set()
    await assert_the_ledger_agrees(world, [role])


async def test_a_table_attached_as_a_partition_is_reached_through_its_parent_until_it_is_detached(
    world: World,
) -> None:
    role = await world.role("role")
    await world.run(
        "CREATE SCHEMA sales",
        "CREATE TABLE sales.orders (id int) PARTITION BY LIST (id)",
        "CREATE TABLE sales.lone (id int)",
    )
    grant = access_grant("g", [role], [tables("sales")], database=world.database)
    await world.sync(grant)
    assert await world.acl("sales.lone", role) == {"SELECT"}
    await world.run("ALTER TABLE sales.orders ATTACH PARTITION sales.lone FOR VALUES IN (1)")
    await world.sync(grant)
    assert await world.acl("sales.lone", role) == set()
    assert await world.allowed(role, "SELECT FROM sales.orders")
    assert not await world.allowed(role, "SELECT FROM sales.lone")
    await world.run("ALTER TABLE sales.orders DETACH PARTITION sales.lone")
    synced = await world.sync(grant)
    assert synced.said(grant) == (READY, Reason.SUCCEEDED)
    assert await world.acl("sales.lone", role) == {"SELECT"}
    await assert_the_ledger_agrees(world, [role])


@pytest.mark.parametrize("drift", DriftAction)
async def test_a_column_made_anew_gets_its_grant_and_a_renamed_one_loses_it(
    world: World, drift: DriftAction
) -> None:
    role = await world.role("role")
    await world.run(*SALES)
    grant = access_grant("g", [role], [tables("sales", "orders", columns=["a"])], database=world.database)
    await world.sync(grant, drift=drift)
    await world.run("ALTER TABLE sales.orders DROP COLUMN a")
    synced = await world.sync(grant, drift=drift)
    assert synced.said(grant) == (WAITING, Reason.OBJECT_MISSING)
    await world.run("ALTER TABLE sales.orders ADD COLUMN a int")
    synced = await world.sync(grant, drift=drift)
    assert synced.said(grant) == (READY, Reason.SUCCEEDED)
    assert await world.allowed(role, "SELECT a FROM sales.orders")
    await world.run("ALTER TABLE sales.orders RENAME COLUMN a TO b")
    synced = await world.sync(grant, drift=drift)
    assert synced.said(grant) == (WAITING, Reason.OBJECT_MISSING)
    assert not await world.allowed(role, "SELECT b FROM sales.orders")


async def test_a_renamed_role_is_missing_and_loses_what_was_declared_for_its_old_name(world: World) -> None:
    role, renamed = await world.role("role"), world.name("renamed")
    await world.run(*SALES)
    grant = access_grant("g", [role], [tables("sales")], database=world.database)
    await world.sync(grant)
    await world.run("ALTER ROLE {old} RENAME TO {new}", old=role, new=renamed)
    synced = await world.sync(grant)
    assert synced.said(grant) == (WAITING, Reason.ROLE_MISSING)
    assert await world.acl("sales.orders", renamed) == set()
    other = access_grant("g", [renamed], [tables("sales")], database=world.database)
    assert (await world.sync(other)).said(other) == (READY, Reason.SUCCEEDED)
    assert await world.acl("sales.orders", renamed) == {"SELECT"}


async def test_a_role_renamed_to_public_in_capitals_is_not_taken_for_everybody(world: World) -> None:
    role = await world.role("role")
    await world.run("CREATE SCHEMA sales", "CREATE TABLE sales.orders (id int)")
    grant = access_grant("g", [role], [tables("sales")], database=world.database)
    await world.sync(grant)
    await world.run("GRANT SELECT ON sales.orders TO PUBLIC", "GRANT USAGE ON SCHEMA sales TO PUBLIC")
    await world.run('DROP ROLE IF EXISTS "PUBLIC"', 'ALTER ROLE {r} RENAME TO "PUBLIC"', r=role)
    try:
        synced = await world.sync(grant)
    finally:
        await world.run('ALTER ROLE "PUBLIC" RENAME TO {r}', r=role)
    assert synced.changes == []
    assert await world.acl("sales.orders") == {"SELECT"}
    assert await world.schema_acl("sales", None) == {"USAGE"}
    # What cannot be revoked from it is told.
    assert {one.privilege.value for one in synced.results[0].unrevocable} == {"SELECT", "USAGE", "CONNECT"}
    await world.sync()
    assert await world.acl("sales.orders", role) == set()
    assert await world.acl("sales.orders") == {"SELECT"}


@pytest.mark.requirement("R-180")
@pytest.mark.parametrize("drift", DriftAction)
async def test_after_a_change_of_owner_what_is_declared_is_held_and_can_be_taken_back(
    world: World, drift: DriftAction
) -> None:
    role, owner = await world.role("role"), await world.owned_role("owner")
    await world.run(*SALES, "GRANT USAGE ON SCHEMA sales TO {o}", o=owner)
    grant = access_grant("g", [role], [tables("sales")], database=world.database)
    await world.sync(grant, drift=drift)
    await world.run("ALTER TABLE sales.orders OWNER TO {o}", o=owner)
    synced = await world.sync(grant, drift=drift)
    assert (synced.results[0].drifted, synced.said(grant)) == (0, (READY, Reason.SUCCEEDED))
    assert await world.acl("sales.orders", role) == {"SELECT"}
    await world.sync(drift=drift)
    assert await world.acl("sales.orders", role) == set()
    assert not await world.ledger()


@pytest.mark.requirement("R-180")
async def test_what_the_owner_gave_besides_is_not_taken_for_ours_when_ours_is_revoked(world: World) -> None:
    role, owner = await world.role("role"), await world.owned_role("owner")
    await world.run(
        *SALES, "GRANT USAGE ON SCHEMA sales TO {o}", "ALTER TABLE sales.orders OWNER TO {o}", o=owner
    )
    await world.sync(access_grant("g", [role], [tables("sales")], database=world.database))
    assert await world.grantors("sales.orders", role) == {("SELECT", "databricks_superuser")}
    await world.run("SET ROLE {o}", "GRANT SELECT ON sales.orders TO {r}", "RESET ROLE", o=owner, r=role)
    for _ in range(2):
        await world.sync()
        assert await world.grantors("sales.orders", role) == {("SELECT", owner)}
        assert not await world.ledger()


@pytest.mark.requirement("R-181")
@pytest.mark.parametrize("drift", DriftAction)
@pytest.mark.parametrize(
    "loss", ["DELETE FROM lakebase_operator.held WHERE class = 'TABLE'", "TRUNCATE lakebase_operator.held"]
)
async def test_rows_that_the_ledger_lost_are_written_again_without_a_grant(
    world: World, drift: DriftAction, loss: str
) -> None:
    role = await world.role("role")
    await world.run(*SALES)
    grant = access_grant("g", [role], [tables("sales")], database=world.database)
    hard = access_grant(
        "hard", [role], [tables("sales")], database=world.database, privileges=["DELETE"], ensure="Absent"
    )
    await world.sync(grant, hard, drift=drift)
    await world.run(loss)
    synced = await world.sync(grant, hard, drift=drift)
    assert synced.changes == []
    assert (synced.results[0].drifted, synced.said(grant)) == (0, (READY, Reason.SUCCEEDED))
    assert not (await world.sync(grant, hard, drift=drift)).writes
    # What was given then is drift, and what was lost together with the ledger is simply granted.
    await world.run(
        loss, "SET ROLE databricks_superuser", "REVOKE SELECT ON sales.orders FROM {r}", "RESET ROLE", r=role
    )
    synced = await world.sync(grant, hard, drift=drift)
    assert (synced.results[0].drifted, synced.said(grant)) == (0, (READY, Reason.SUCCEEDED))
    assert await world.acl("sales.orders", role) == {"SELECT"}


# -- what is none of our business -----------------------------------------------------------------------------------

EVERYTHING = Policy(unmanaged=UnmanagedGrants(action=UnmanagedAction.REVOKE))


@pytest.mark.requirement("R-183")
async def test_what_lakebase_does_by_itself_is_neither_shown_nor_touched(world: World) -> None:
    """Event triggers grant on each new object; the platform has roles, schemas and a table of its own."""
    owner = await world.owned_role("owner")
    oid = await world.value("SELECT oid FROM pg_database WHERE datname = current_database()")
    reader = f"databricks_reader_{oid}"
    stage = Stage(world)
    await world.run(
        *SALES,
        "CREATE SEQUENCE sales.numbers",
        "CREATE VIEW sales.overview AS SELECT id FROM sales.orders",
        "CREATE MATERIALIZED VIEW sales.total AS SELECT 1 AS id",
        "CREATE FUNCTION sales.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE TYPE sales.color AS ENUM ('red')",
        "ALTER TABLE sales.orders OWNER TO {owner}",
        "CREATE TABLE public.health_check (id int)",
        "GRANT SELECT ON public.health_check TO PUBLIC",
        "GRANT SELECT ON public.health_check TO {owner}",
        "CREATE TABLE __db_system.state (id int)",
        "GRANT SELECT ON __db_system.state TO PUBLIC",
        "GRANT SELECT ON pg_catalog.pg_authid TO {owner}",
        "GRANT SELECT (id) ON sales.orders TO {reader}",
        "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO {owner}",
        "GRANT CONNECT ON DATABASE {d} TO {reader}",
        owner=owner, reader=reader, d=world.database,
    )  # fmt: skip
    for policy in (Policy(unmanaged=UnmanagedGrants(action=UnmanagedAction.REPORT)), EVERYTHING):
        await world.sync(policy=policy)
        before = await stage.state()
        synced = await world.sync(policy=policy)
        assert synced.results[0].unmanaged_items == ()
        assert synced.results[0].unmanaged == 0
        assert synced.changes == []
        assert await stage.state() == before
    assert {
        role for role, in await world.rows(
            "SELECT DISTINCT pg_get_userbyid(x.grantee) FROM pg_class c, aclexplode(c.relacl) x"
            " WHERE c.oid = 'sales.numbers'::regclass"
        )
    } >= {"databricks_superuser", "databricks_gateway", reader}  # fmt: skip
    assert await world.value("SELECT has_table_privilege(%s, 'public.health_check', 'SELECT')", owner)
    assert await world.value("SELECT has_table_privilege(%s, 'pg_catalog.pg_authid', 'SELECT')", owner)


@pytest.mark.requirement("R-183")
async def test_a_member_of_an_extension_is_unmanaged_only_beyond_what_its_extension_gave(
    world: World,
) -> None:
    role = await world.role("role")
    # databricks_list_roles belongs to an extension, which lets PUBLIC read it.
    await world.run("CREATE EXTENSION IF NOT EXISTS vector SCHEMA public")
    report = Policy(unmanaged=UnmanagedGrants(action=UnmanagedAction.REPORT))
    synced = await world.sync(policy=report)
    assert synced.results[0].unmanaged_items == ()
    await world.run("GRANT SELECT ON public.databricks_list_roles TO {r}", r=role)
    synced = await world.sync(policy=report)
    assert [(item.object, item.role, item.privilege) for item in synced.results[0].unmanaged_items] == [
        ("public.databricks_list_roles", role, "SELECT")
    ]
    assert await world.acl("public.databricks_list_roles") == {"SELECT"}


async def test_what_was_given_on_another_database_is_not_this_connections_to_judge(world: World) -> None:
    """It may be another connection's, whose ledger is in that database."""
    role, elsewhere = await world.role("role"), await world.another_database()
    await world.run(*SALES)
    async with await world.server.connect(elsewhere) as admin:
        await run(admin, "CREATE SCHEMA sales", "CREATE TABLE sales.orders (id int)")
    there = access_grant("there", [role], [tables("sales")], database=elsewhere)
    await world.sync(there, owner="team/there", databases=[elsewhere])
    synced = await world.sync(policy=EVERYTHING)
    assert synced.results[0].unmanaged_items == ()
    assert await world.database_acl(role, elsewhere) == {"CONNECT"}


@pytest.mark.requirement("R-180")
async def test_what_nobody_declares_is_looked_for_only_where_and_of_whom_it_is_asked_for(
    world: World,
) -> None:
    """A declaration that speaks of a place or a role does not widen the search to it."""
    role, other = await world.role("role"), await world.role("other")
    await world.run(
        *SALES, "CREATE SCHEMA hr", "CREATE TABLE hr.people (id int)",
        "SET ROLE databricks_superuser",
        "GRANT UPDATE ON sales.orders TO {r}, {o}", "GRANT UPDATE ON hr.people TO {r}, {o}",
        "GRANT TEMPORARY ON DATABASE {d} TO {r}",
        "RESET ROLE",
        r=role, o=other, d=world.database,
    )  # fmt: skip
    both = access_grant("g", [role, other], [tables("sales"), tables("hr")], database=world.database)

    async def found(**narrow: Any) -> set[tuple[str, str]]:
        policy = Policy(unmanaged=UnmanagedGrants(action=UnmanagedAction.REPORT, **narrow))
        (result,) = (await world.sync(both, policy=policy)).results
        assert result.unmanaged == len(result.unmanaged_items)
        return {(item.object, item.role) for item in result.unmanaged_items}

    here = world.database
    assert await found(schemas=["sales"]) == {("sales.orders", role), ("sales.orders", other)}
    assert await found(roles=[role]) == {("sales.orders", role), ("hr.people", role), (here, role)}
    assert await found(schemas=["hr"], roles=[other]) == {("hr.people", other)}
    # The same of a pass that looks at one role only: the others' grants are declared, and not in view.
    await world.sync(both)
    before = await Stage(world).state()
    await world.sync(both, policy=EVERYTHING, focus=frozenset({role}))
    after = await Stage(world).state()
    gone = {(key.thing.name, key.grantee, key.privilege) for key in before.keys() - after.keys()}
    assert gone == {("orders", role, "UPDATE"), ("people", role, "UPDATE"), ("here", role, "TEMPORARY")}
