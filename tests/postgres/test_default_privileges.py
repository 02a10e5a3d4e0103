"""What new objects are born with: for each creator, each kind of object, in one schema and anywhere."""

from typing import Any

import pytest

from lakebase_operator.api import AccessGrant, Reason
from tests.postgres.object_classes import SCHEMA, S, can
from tests.postgres.objects import PUBLIC, access_grant
from tests.postgres.world import READY, STALLED, WAITING, World

BORN = {
    "tables": (["SELECT", "INSERT"], f'CREATE TABLE {S}."New T" (id int)', f'SELECT * FROM {S}."New T"'),
    "sequences": (["USAGE"], f'CREATE SEQUENCE {S}."New Q"', f"SELECT nextval('{S}.\"New Q\"')"),
    "routines": (
        ["EXECUTE"],
        f"CREATE FUNCTION {S}.\"New F\"() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        f'SELECT {S}."New F"()',
    ),
    "types": (["USAGE"], f'CREATE DOMAIN {S}."New D" AS int', f'CREATE TABLE other.x (a {S}."New D")'),
    "schemas": (["USAGE", "CREATE"], 'CREATE SCHEMA "New S"', 'CREATE TABLE "New S".x ()'),
    "largeObjects": (["SELECT"], "SELECT lo_create(99)", "SELECT lo_get(99)"),
}
"""By kind of object: privileges, how one is made, and what can be done with it."""
DROPPED = {
    "tables": f'DROP TABLE {S}."New T"',
    "sequences": f'DROP SEQUENCE {S}."New Q"',
    "routines": f'DROP FUNCTION {S}."New F"',
    "types": f'DROP DOMAIN {S}."New D"',
    "schemas": 'DROP SCHEMA "New S"',
    "largeObjects": "SELECT lo_unlink(99)",
}
WHERE = [(kind, place) for kind in BORN for place in ("anywhere", "schema")
         if not (place == "schema" and kind in ("schemas", "largeObjects"))]  # fmt: skip


def defaults(kind: str, creator: str | None = None, schema: str | None = None) -> dict[str, Any]:
    """An entry of ``objects``."""
    entry = {"objectType": kind, "creator": creator, "schema": schema}
    return {"defaultPrivileges": {key: value for key, value in entry.items() if value is not None}}


async def prepare(world: World, *creators: str) -> None:
    """A schema of the first creator in which the others may create things too; nothing is born open to everybody."""
    await world.run(
        f"CREATE SCHEMA {S} AUTHORIZATION {{o}}",
        f"GRANT USAGE ON SCHEMA {S} TO PUBLIC",
        "CREATE SCHEMA other",
        "GRANT ALL ON SCHEMA other TO PUBLIC",
        o=creators[0],
    )
    for creator in creators:
        await world.run(
            f"GRANT CREATE ON SCHEMA {S} TO {{c}}",
            "GRANT CREATE ON DATABASE {d} TO {c}",
            "ALTER DEFAULT PRIVILEGES FOR ROLE {c} REVOKE EXECUTE ON ROUTINES FROM PUBLIC",
            "ALTER DEFAULT PRIVILEGES FOR ROLE {c} REVOKE USAGE ON TYPES FROM PUBLIC",
            c=creator,
            d=world.database,
        )


async def execute(world: World, role: str, statement: str) -> None:
    """As somebody who just works."""
    async with world.login(role) as session:
        await session.execute(statement.encode())


async def entries(world: World, role: str) -> set[tuple[str, str]]:
    """(creator, privilege) of the default privileges of a role."""
    return set(
        await world.rows(
            "SELECT pg_get_userbyid(a.defaclrole)::text, x.privilege_type FROM pg_default_acl a, aclexplode(a.defaclacl) x"
            " WHERE x.grantee = CASE %s WHEN 'PUBLIC' THEN 0 ELSE (SELECT oid FROM pg_roles WHERE rolname = %s) END",
            role,
            role,
        )
    )


@pytest.mark.requirement("R-35", "R-116")
@pytest.mark.parametrize(("kind", "place"), WHERE)
@pytest.mark.parametrize("everybody", [False, True], ids=["role", "public"])
async def test_a_creators_new_objects_are_born_with_what_is_declared(
    plain_world: World, kind: str, place: str, everybody: bool
) -> None:
    world = plain_world
    if kind == "largeObjects" and world.version < 18:
        pytest.skip("known from 18")
    role, creator = await world.role("role"), await world.owned_role('the "Creator"')
    await prepare(world, creator)
    privileges, made, use = BORN[kind]
    entry = defaults(kind, creator, SCHEMA if place == "schema" else None)
    grant = access_grant(
        "g", [PUBLIC if everybody else role], [entry], privileges=privileges, database=world.database
    )
    synced = await world.sync(grant)
    assert synced.said(grant) == (READY, Reason.SUCCEEDED)
    assert synced.issues(grant) == []
    await execute(world, creator, made)
    assert await can(world, role, use)
    assert not (await world.sync(grant)).writes

    await execute(world, creator, DROPPED[kind])
    await world.sync()
    await execute(world, creator, made)
    assert not await can(world, role, use)
    assert await entries(world, "PUBLIC" if everybody else role) == set()
    assert not await world.ledger()
    assert not world.errors()


@pytest.mark.requirement("R-116")
async def test_every_creator_of_a_schema_is_covered_and_who_cannot_be_is_listed_by_name(
    plain_world: World,
) -> None:
    world = plain_world
    role, stranger = await world.role("role"), await world.role("A stranger")
    owner, second = await world.owned_role("owner"), await world.owned_role("second")
    await prepare(world, owner, second, stranger)
    grant = access_grant("g", [role], [defaults("tables", schema=SCHEMA)], "Read", database=world.database)
    synced = await world.sync(grant)
    assert synced.said(grant) == (READY, Reason.SUCCEEDED)
    (issue,) = synced.issues(grant)
    assert (issue["reason"], issue["object"]) == (
        "CreatorNotCovered",
        f'new tables of "{stranger}" in {SCHEMA}',
    )
    assert issue["fix"].endswith(
        f'ALTER DEFAULT PRIVILEGES FOR ROLE "{stranger}" IN SCHEMA {S} GRANT SELECT ON TABLES TO "{role}"'
    )
    assert await entries(world, role) == {(owner, "SELECT"), (second, "SELECT")}
    for creator, seen in ((owner, True), (second, True), (stranger, False)):
        await execute(world, creator, BORN["tables"][1])
        assert await can(world, role, BORN["tables"][2]) is seen
        await execute(world, creator, DROPPED["tables"])
    assert not (await world.sync(grant)).writes

    # The statement is right, and what it gives is not the operator's to take away.
    await execute(world, stranger, issue["fix"][issue["fix"].index("ALTER DEFAULT") :])
    synced = await world.sync(grant)
    assert synced.issues(grant) == []
    # Who may not create anything there any more is no creator of the schema's.
    await world.run(f"REVOKE CREATE ON SCHEMA {S} FROM {{s}}", s=second)
    await world.sync(grant)
    assert await entries(world, role) == {(owner, "SELECT"), (stranger, "SELECT")}


@pytest.mark.requirement("R-116")
async def test_what_a_creator_that_cannot_be_covered_makes_is_granted_at_the_next_pass(world: World) -> None:
    role, stranger = await world.role("role"), await world.role("stranger")
    await world.run(
        "CREATE SCHEMA sales",
        "GRANT CREATE ON SCHEMA sales TO {s}",
        s=stranger,
    )
    entries_ = [{"tables": {"schema": "sales", "matching": ["*"]}}, defaults("tables", schema="sales")]
    grant = access_grant("g", [role], entries_, "Read", database=world.database)
    synced = await world.sync(grant)
    assert {one["reason"] for one in synced.issues(grant)} >= {"CreatorNotCovered"}
    await execute(world, stranger, "CREATE TABLE sales.orders (id int)")
    assert not await world.allowed(role, "SELECT * FROM sales.orders")
    await world.sync(grant)
    assert await world.allowed(role, "SELECT * FROM sales.orders")


async def test_a_named_creator_that_the_operator_cannot_act_for_keeps_the_grant_from_being_ready(
    plain_world: World,
) -> None:
    world = plain_world
    role, stranger = await world.role("role"), await world.role("stranger")
    await prepare(world, stranger)
    grant = access_grant(
        "g", [role], [defaults("sequences", stranger)], privileges=["USAGE"], database=world.database
    )
    synced = await world.sync(grant)
    assert synced.said(grant) == (STALLED, Reason.UNGRANTABLE)
    (issue,) = synced.issues(grant)
    statement = f'ALTER DEFAULT PRIVILEGES FOR ROLE "{stranger}" GRANT USAGE ON SEQUENCES TO "{role}"'
    assert issue["fix"] == f"As {stranger} run: {statement}"
    await execute(world, stranger, statement)
    assert (await world.sync(grant)).said(grant) == (READY, Reason.SUCCEEDED)


async def test_a_creator_or_a_schema_that_does_not_exist_is_told_until_it_does(plain_world: World) -> None:
    world = plain_world
    role, later = await world.role("role"), world.name("later")
    grants: list[AccessGrant] = [
        access_grant("a", [role], [defaults("tables", later)], "Read", database=world.database),
        access_grant("b", [role], [defaults("tables", schema="later")], "Read", database=world.database),
    ]
    synced = await world.sync(*grants)
    assert [synced.said(one) for one in grants] == [(WAITING, Reason.OBJECT_MISSING)] * 2
    assert [[issue["object"] for issue in synced.issues(one)] for one in grants] == [
        [f'new tables of "{later}"'],
        ["later"],
    ]
    await world.owned_role("later")
    await world.run("CREATE SCHEMA later AUTHORIZATION {o}", o=later)
    synced = await world.sync(*grants)
    assert [synced.said(one) for one in grants] == [(READY, Reason.SUCCEEDED)] * 2
    assert await entries(world, role) == {(later, "SELECT")}


async def test_grant_option_on_new_objects_is_born_with_them_and_taken_from_the_defaults(
    plain_world: World,
) -> None:
    world = plain_world
    role, other, creator = (
        await world.role("role"),
        await world.role("other"),
        await world.owned_role("creator"),
    )
    await prepare(world, creator)
    what: dict[str, Any] = {
        "subjects": [role], "objects": [defaults("tables", creator, SCHEMA)], "privileges": ["SELECT"],
        "database": world.database,
    }  # fmt: skip
    await world.sync(access_grant("g", grantOption=True, **what))
    await execute(world, creator, BORN["tables"][1])
    await execute(world, role, f'GRANT SELECT ON {S}."New T" TO "{other}"')
    assert await can(world, other, BORN["tables"][2])
    synced = await world.sync(access_grant("g", **what))
    assert [text for text in synced.statements if "DEFAULT PRIVILEGES" in text] == [
        f'ALTER DEFAULT PRIVILEGES FOR ROLE "{creator}" IN SCHEMA {S} REVOKE GRANT OPTION FOR SELECT ON TABLES FROM "{role}"'
    ]
    assert await entries(world, role) == {(creator, "SELECT")}


async def test_default_privileges_of_large_objects_are_told_as_unknown_before_18(plain_world: World) -> None:
    world = plain_world
    role, creator = await world.role("role"), await world.owned_role("creator")
    grant = access_grant(
        "g", [role], [defaults("largeObjects", creator)], privileges=["SELECT"], database=world.database
    )
    synced = await world.sync(grant)
    if world.version < 18:
        assert synced.said(grant) == (STALLED, Reason.INVALID_SPEC)
    else:
        assert synced.said(grant) == (READY, Reason.SUCCEEDED)


@pytest.mark.requirement("R-183")
async def test_default_privileges_that_others_made_are_left_alone(plain_world: World) -> None:
    world = plain_world
    role, other, creator = (
        await world.role("role"),
        await world.role("other"),
        await world.owned_role("creator"),
    )
    await prepare(world, creator)
    await world.run("ALTER DEFAULT PRIVILEGES FOR ROLE {c} GRANT SELECT ON TABLES TO {o}", c=creator, o=other)
    grant = access_grant("g", [role], [defaults("tables", creator)], "Read", database=world.database)
    await world.sync(grant)
    await world.sync()
    assert await entries(world, other) == {(creator, "SELECT")}
    assert await entries(world, role) == set()


async def test_a_grant_option_on_new_objects_does_not_make_the_operator_their_creator(
    plain_world: World,
) -> None:
    world = plain_world
    role, creator, stranger = (
        await world.role("role"),
        await world.owned_role("creator"),
        await world.role("stranger"),
    )
    await prepare(world, creator, stranger)
    for one in (creator, stranger):
        await world.run(
            "ALTER DEFAULT PRIVILEGES FOR ROLE {c} GRANT SELECT ON TABLES TO {op} WITH GRANT OPTION",
            c=one,
            op=world.operator,
        )
    grants = [
        access_grant(name, [role], [defaults("tables", one)], "Read", database=world.database)
        for name, one in (("a", creator), ("b", stranger))
    ]
    synced = await world.sync(*grants)
    assert [synced.said(one) for one in grants] == [(READY, Reason.SUCCEEDED), (STALLED, Reason.UNGRANTABLE)]
    assert await entries(world, role) == {(creator, "SELECT")}
    assert not world.errors()
