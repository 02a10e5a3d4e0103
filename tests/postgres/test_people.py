"""Which role a person is: explicit name, same name, or none; compared without regard to case; told where it fails."""

import time
import uuid
from typing import Any

import pytest

from lakebase_operator.api import Reason
from lakebase_sandbox.postgres import Identity, IdentityKind
from tests.postgres.conftest import APPLICATION, PERSON
from tests.postgres.objects import access_grant, being_deleted, postgres_role, tables, user, user_mapping
from tests.postgres.world import READY, STALLED, WAITING, World

SALES = ("CREATE SCHEMA sales", "CREATE TABLE sales.orders (id int)")
NEVER: dict[str, Any] = {"createRole": "Never"}


@pytest.mark.requirement("R-71", "R-73")
async def test_an_explicit_mapping_leads_to_a_role_of_another_name(world: World) -> None:
    role = await world.role("a_smith")
    await world.run(*SALES)
    alice = f"alice.{world.tag}@example.com"
    mapping = user_mapping("m", alice, mapping="Explicit", postgresUsername=role)
    grant = access_grant("g", [user(alice)], [tables("sales")], database=world.database)
    synced = await world.sync(mapping, grant)
    assert synced.said(mapping) == (READY, Reason.RESOLVED)
    assert synced.of(mapping).fields["role"] == role
    assert synced.said(grant) == (READY, Reason.SUCCEEDED)
    assert synced.of(grant).fields["subjects"] == [{"name": alice, "role": role, "state": "Resolved"}]
    assert await world.allowed(role, "SELECT * FROM sales.orders")
    assert alice not in synced.roles.states


@pytest.mark.requirement("R-71", "R-74")
async def test_without_any_mapping_a_person_is_the_role_of_the_same_name(world: World) -> None:
    alice = await world.role("alice@example.com")
    await world.run(*SALES)
    grant = access_grant("g", [user(alice)], [tables("sales")], database=world.database)
    synced = await world.sync(grant)
    assert synced.said(grant) == (READY, Reason.SUCCEEDED)
    assert await world.allowed(alice, "SELECT * FROM sales.orders")


@pytest.mark.requirement("R-75")
async def test_a_person_without_an_account_causes_no_statement_and_holds_up_nobody(world: World) -> None:
    role = await world.role("role")
    await world.run(*SALES)
    nobody = f"nobody.{world.tag}@example.com"
    await world.run("CREATE ROLE {n} LOGIN", n=nobody)  # even if there is such a role
    mapping = user_mapping("m", nobody, mapping="None")
    grant = access_grant("g", [user(nobody), role], [tables("sales")], database=world.database)
    synced = await world.sync(mapping, grant)
    assert synced.said(mapping) == (READY, Reason.NO_ACCOUNT)
    assert synced.said(grant) == (READY, Reason.SUCCEEDED)
    assert not [text for text in synced.statements if nobody in text]
    assert await world.acl("sales.orders", nobody) == set()
    assert {"name": nobody, "role": None, "state": "NoAccount"} in synced.of(grant).fields["subjects"]


@pytest.mark.requirement("R-76")
async def test_names_are_compared_without_regard_to_case_in_all_modes(world: World) -> None:
    same, other = await world.role("Carol@Example.com"), await world.role("Dave@example.com")
    await world.run(*SALES)
    mappings = (
        user_mapping("same", same.upper(), mapping="SameName"),
        user_mapping("explicit", "Somebody", mapping="Explicit", postgresUsername=other.lower()),
    )
    grant = access_grant(
        "g", [user(same.lower()), user("SOMEBODY")], [tables("sales")], database=world.database
    )
    synced = await world.sync(*mappings, grant)
    assert synced.said(grant) == (READY, Reason.SUCCEEDED)
    assert await world.acl("sales.orders", same) == {"SELECT"}
    assert await world.acl("sales.orders", other) == {"SELECT"}


async def test_letters_that_are_merely_alike_are_not_the_same_person(world: World) -> None:
    await world.role("strasse")
    sharp = f"straße_{world.tag}"
    await world.run(*SALES)
    grant = access_grant("g", [user(sharp)], [tables("sales")], database=world.database)
    synced = await world.sync(grant)
    assert synced.said(grant) == (WAITING, Reason.UNMAPPED_USERS)


@pytest.mark.requirement("R-77")
@pytest.mark.parametrize("explicit", [False, True])
async def test_two_roles_that_differ_only_in_case_get_nothing_and_are_both_named(
    world: World, explicit: bool
) -> None:
    lower, upper = await world.role("eve"), world.name("eve").upper()
    await world.run(*SALES)
    mapping = (
        user_mapping("m", "eve", mapping="Explicit", postgresUsername=lower)
        if explicit
        else user_mapping("m", lower)
    )
    grant = access_grant(
        "g", [user("eve" if explicit else lower)], [tables("sales")], database=world.database
    )
    await world.sync(mapping, grant)
    assert await world.acl("sales.orders", lower) == {"SELECT"}
    await world.run("CREATE ROLE {u} LOGIN", u=upper)
    synced = await world.sync(mapping, grant)
    assert synced.said(mapping) == (STALLED, Reason.AMBIGUOUS)
    assert synced.said(grant) == (STALLED, Reason.AMBIGUOUS)
    fact = synced.of(mapping).facts["MappingResolved"]
    assert (fact["status"], fact["reason"]) == ("False", Reason.AMBIGUOUS)
    assert lower in fact["message"]
    assert upper in fact["message"]
    assert await world.acl("sales.orders", lower) == set()
    assert await world.acl("sales.orders", upper) == set()
    # The way out that the message names.
    exact = access_grant("g", [lower], [tables("sales")], database=world.database)
    assert (await world.sync(exact)).said(exact) == (READY, Reason.SUCCEEDED)
    assert await world.acl("sales.orders", lower) == {"SELECT"}


@pytest.mark.requirement("R-44", "R-78")
async def test_a_person_without_a_role_is_told_and_picked_up_when_the_role_appears(world: World) -> None:
    late = f"late.{world.tag}@example.com"
    other = await world.role("other")
    await world.run(*SALES)
    mapping = user_mapping("m", late, **NEVER)
    grant = access_grant("g", [user(late), other], [tables("sales")], database=world.database)
    synced = await world.sync(mapping, grant)
    assert synced.said(mapping) == (WAITING, Reason.NOT_FOUND)
    assert synced.said(grant) == (WAITING, Reason.UNMAPPED_USERS)
    fact = synced.of(grant).facts["UnmappedUsers"]
    assert fact["status"] == "True"
    assert late in fact["message"]
    assert await world.acl("sales.orders", other) == {"SELECT"}  # the others are not held up

    await world.run("CREATE ROLE {n} LOGIN", n=late)
    synced = await world.sync(mapping, grant)
    assert synced.said(mapping) == (READY, Reason.RESOLVED)
    assert synced.said(grant) == (READY, Reason.SUCCEEDED)
    assert synced.of(grant).facts["UnmappedUsers"]["status"] == "False"
    assert await world.allowed(late, "SELECT * FROM sales.orders")


@pytest.mark.requirement("R-25", "R-26", "R-46", "R-80")
async def test_a_manual_mapping_wins_over_the_same_name_and_over_not_found(world: World) -> None:
    same, manual = await world.role("frank"), await world.role("manual")
    missing = f"missing.{world.tag}@example.com"
    await world.run(*SALES)
    mappings = (
        user_mapping("m1", same, mapping="Explicit", postgresUsername=manual),
        user_mapping("m2", missing, mapping="Explicit", postgresUsername=manual),
    )
    grant = access_grant("g", [user(same), user(missing)], [tables("sales")], database=world.database)
    before = await world.sync(grant)
    assert before.said(grant) == (WAITING, Reason.UNMAPPED_USERS)
    assert await world.acl("sales.orders", same) == {"SELECT"}
    synced = await world.sync(*mappings, grant)
    assert synced.said(grant) == (READY, Reason.SUCCEEDED)
    assert await world.acl("sales.orders", same) == set()
    assert await world.acl("sales.orders", manual) == {"SELECT"}


@pytest.mark.requirement("R-215", "R-194")
async def test_a_changed_mapping_moves_the_access_and_leaves_what_others_give_the_old_role(
    world: World,
) -> None:
    old, new = await world.role("old"), await world.role("new")
    await world.run(*SALES, "CREATE TABLE sales.lines (id int)")
    grant = access_grant("g", [user("grace")], [tables("sales")], database=world.database)
    own = access_grant("own", [old], [tables("sales", "lines")], database=world.database)
    await world.sync(user_mapping("m", "grace", mapping="Explicit", postgresUsername=old), grant, own)
    await world.sync(user_mapping("m", "grace", mapping="Explicit", postgresUsername=new), grant, own)
    assert await world.acl("sales.orders", old) == set()
    assert await world.acl("sales.lines", old) == {"SELECT"}
    assert await world.acl("sales.orders", new) == await world.acl("sales.lines", new) == {"SELECT"}


@pytest.mark.requirement("R-11", "R-13", "R-71")
async def test_a_mapping_makes_the_missing_role_and_a_second_pass_changes_nothing(plain_world: World) -> None:
    world = plain_world
    person = f"new.{world.tag}@example.com"
    mapping = user_mapping("m", person)
    await world.sync(mapping)
    synced = await world.sync(mapping)
    assert synced.said(mapping) == (READY, Reason.RESOLVED)
    assert not synced.writes
    state = synced.roles.states[person]
    assert state.login
    assert (state.superuser, state.create_db, state.create_role, state.bypass_rls) == (False,) * 4


@pytest.mark.requirement("R-11")
async def test_on_lakebase_the_missing_role_is_made_for_the_databricks_identity(world: World) -> None:
    # Identities are few and roles belong to the whole server: whoever comes first makes them.
    mappings = (
        user_mapping("person", PERSON.name),
        user_mapping("app", "the app", mapping="Explicit", postgresUsername=APPLICATION.name, identityType="ServicePrincipal"),
        user_mapping("stranger", f"stranger.{world.tag}@example.com"),
    )  # fmt: skip
    synced = await world.sync(*mappings)
    assert synced.said(mappings[0]) == synced.said(mappings[1]) == (READY, Reason.RESOLVED)
    assert synced.said(mappings[2]) == (STALLED, Reason.IDENTITY_NOT_FOUND)
    assert synced.roles.states[PERSON.name].identity == "USER"
    assert synced.roles.states[APPLICATION.name].identity == "SERVICE_PRINCIPAL"


async def test_mappings_that_differ_only_in_case_do_not_make_two_roles(plain_world: World) -> None:
    world = plain_world
    lower, upper = world.name("heidi"), world.name("heidi").upper()
    mappings = (user_mapping("a", lower), user_mapping("b", "h2", mapping="Explicit", postgresUsername=upper))
    synced = await world.sync(*mappings)
    assert [synced.said(one) for one in mappings] == [(READY, Reason.RESOLVED)] * 2
    assert lower in synced.roles.states
    assert upper not in synced.roles.states


async def test_a_mapping_does_not_make_what_a_postgres_role_has_just_made(plain_world: World) -> None:
    world = plain_world
    name = world.name("Ivan")
    mapping = user_mapping("m", name.lower())
    synced = await world.sync(postgres_role(name), mapping)
    assert synced.said(mapping) == (READY, Reason.RESOLVED)
    assert synced.of(mapping).fields["role"] == name


@pytest.mark.requirement("R-81")
@pytest.mark.parametrize(
    "name", ["public", "PUBLIC", "pg_monitor", "databricks_superuser", "cloud_admin", "neon_service", "none", "ü" * 32]
)  # fmt: skip
async def test_reserved_and_overlong_names_are_refused_for_people_and_roles(world: World, name: str) -> None:
    await world.run(*SALES)
    mapping = user_mapping("m", "judy", mapping="Explicit", postgresUsername=name)
    person = access_grant("p", [user(name)], [tables("sales")], database=world.database)
    role = access_grant("r", [name], [tables("sales")], database=world.database)
    synced = await world.sync(mapping, person, role)
    for one in (mapping, person, role):
        assert synced.said(one) == (STALLED, Reason.RESERVED_NAME)
    assert not [text for text in synced.changes if "sales" in text]
    assert not [text for text in synced.statements if "CREATE ROLE" in text]


@pytest.mark.requirement("R-45", "R-72")
async def test_of_two_mappings_of_one_person_the_more_exact_holds_and_a_second_equal_one_is_told(
    world: World,
) -> None:
    one, two = await world.role("one"), await world.role("two")
    wide = user_mapping("a-wide", "kim", mapping="Explicit", postgresUsername=two)
    exact = user_mapping(
        "exact", "KIM", mapping="Explicit", postgresUsername=one, connectionRef={"name": "marketing"}
    )
    again = user_mapping(
        "later", "kim", mapping="Explicit", postgresUsername=two, connectionRef={"name": "marketing"},
        meta={"creationTimestamp": "2026-01-02T00:00:00Z"},
    )  # fmt: skip
    await world.run(*SALES)
    grant = access_grant("g", [user("kim")], [tables("sales")], database=world.database)
    synced = await world.sync(wide, exact, again, grant)
    assert await world.acl("sales.orders", one) == {"SELECT"}
    assert await world.acl("sales.orders", two) == set()
    assert synced.said(again) == (STALLED, Reason.CONFLICTING_DECLARATIONS)
    assert synced.said(wide) == (READY, Reason.RESOLVED)


@pytest.mark.requirement("R-75", "R-79")
async def test_ten_thousand_people_without_an_account_cost_no_statement_and_little_time(world: World) -> None:
    roles = [await world.role(f"r{number}") for number in range(20)]
    await world.run("CREATE SCHEMA sales")
    for number in range(100):
        await world.run(f"CREATE TABLE sales.t{number} (id int)")
    grants = [
        access_grant(f"g{number}", roles, [tables("sales")], "Write", database=world.database)
        for number in range(5)
    ]
    nobodies = [
        user_mapping(f"n{number}", f"n{number}@example.com", mapping="None") for number in range(10_000)
    ]
    await world.sync(*grants)

    async def measured(*declarations: object) -> tuple[int, float]:
        times, count = [], 0
        for _ in range(2):
            began = time.process_time()
            count = len((await world.sync(*declarations)).statements)  # type: ignore[arg-type]  # any kinds
            times.append(time.process_time() - began)
        return count, min(times)

    few, without = await measured(*grants)
    many, with_nobodies = await measured(*nobodies, *grants)
    assert many <= few + 1  # the ledger's record of roles
    per_person = (with_nobodies - without) / len(nobodies)
    per_grant = without / len(grants)
    assert per_person < per_grant / 20, (without, with_nobodies)


@pytest.mark.requirement("R-75")
async def test_people_without_an_account_do_not_even_cause_a_ledger(world: World) -> None:
    nobodies = [user_mapping(f"n{number}", f"n{number}@example.com", mapping="None") for number in range(3)]
    without = await world.sync()
    synced = await world.sync(*nobodies)
    assert synced.statements == without.statements
    assert not synced.writes
    assert [synced.said(one) for one in nobodies] == [(READY, Reason.NO_ACCOUNT)] * 3


@pytest.mark.requirement("R-75")
async def test_no_role_is_made_for_somebody_whom_the_more_exact_mapping_gives_none(
    plain_world: World,
) -> None:
    world = plain_world
    kim = f"kim.{world.tag}@example.com"
    wide = user_mapping("wide", kim)
    exact = user_mapping("exact", kim, mapping="None", connectionRef={"name": "marketing"})
    synced = await world.sync(wide, exact)
    assert not [text for text in synced.statements if kim in text]
    assert synced.said(exact) == (READY, Reason.NO_ACCOUNT)
    assert synced.said(wide) == (READY, Reason.NO_ACCOUNT)


async def test_a_mapping_that_does_not_count_makes_no_role(plain_world: World) -> None:
    world = plain_world
    one, two = world.name("one"), world.name("two")
    older = user_mapping("older", "kim", mapping="Explicit", postgresUsername=one)
    younger = user_mapping("younger", "kim", mapping="Explicit", postgresUsername=two,
                           meta={"creationTimestamp": "2026-01-02T00:00:00Z"})  # fmt: skip
    synced = await world.sync(older, younger)
    assert synced.said(older) == (READY, Reason.RESOLVED)
    assert synced.said(younger) == (STALLED, Reason.CONFLICTING_DECLARATIONS)
    assert "team/older" in synced.of(younger).message
    assert one in synced.roles.states
    assert two not in synced.roles.states
    # The older one goes: now the younger counts.
    synced = await world.sync(being_deleted(older), younger)
    assert synced.said(younger) == (READY, Reason.RESOLVED)
    assert synced.of(younger).fields["role"] == two


@pytest.mark.requirement("R-80")
async def test_a_mapping_of_another_namespace_cannot_redirect_the_grants_of_this_one(world: World) -> None:
    alice, mallory, chosen = (
        await world.role("alice"),
        await world.role("mallory"),
        await world.role("chosen"),
    )
    await world.run(*SALES)
    other = {"namespace": "other"}
    foreign = user_mapping("m", alice, mapping="Explicit", postgresUsername=mallory, meta=other)
    here = access_grant("here", [user(alice)], [tables("sales", "orders")], database=world.database)
    there = access_grant(
        "there", [user(alice)], [tables("sales", "orders")], "Write", database=world.database, meta=other
    )
    synced = await world.sync(foreign, here, there)
    assert synced.of(here).fields["subjects"] == [{"name": alice, "role": alice, "state": "Resolved"}]
    assert synced.of(there).fields["subjects"] == [{"name": alice, "role": mallory, "state": "Resolved"}]
    assert await world.acl("sales.orders", alice) == {"SELECT"}
    assert "INSERT" in await world.acl("sales.orders", mallory)

    # What the connection's own namespace says of her holds for everybody.
    own = user_mapping("m", alice, mapping="Explicit", postgresUsername=chosen)
    synced = await world.sync(foreign, own, here, there)
    assert "INSERT" in await world.acl("sales.orders", chosen)
    assert await world.acl("sales.orders", mallory) == set()
    assert await world.acl("sales.orders", alice) == set()
    assert synced.of(foreign).fields["role"] == chosen


async def test_a_person_whom_databricks_does_not_know_is_told_and_gets_a_role_when_they_are_known(
    world: World,
) -> None:
    late = f"late.{world.tag}@example.com"
    mapping = user_mapping("m", late)
    synced = await world.sync(mapping)
    assert synced.said(mapping) == (STALLED, Reason.IDENTITY_NOT_FOUND)
    assert late in synced.of(mapping).message
    identity = Identity(late, IdentityKind.USER, str(uuid.uuid4().int % 10**10))
    world.server.set_identities([*world.server.identities, identity])
    assert (await world.sync(mapping)).said(mapping) == (READY, Reason.RESOLVED)
    # Dropped by hand it is made again; the mapping gone, the role stays.
    await world.run("DROP ROLE {r}", r=late)
    assert late in (await world.sync(mapping)).roles.states
    synced = await world.sync(being_deleted(mapping))
    assert late in synced.roles.states
    assert not [text for text in synced.statements if late in text]
