"""Logins with a password: made, published, replaced, suspended, dropped; and ended between any two steps."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from psycopg import sql

from lakebase_operator.api import PostgresRole, Reason
from lakebase_operator.api.postgres_role import PostgresRoleStatus
from lakebase_operator.domain.errors import TransientError
from lakebase_operator.external.kube.objects import Secret
from lakebase_operator.external.postgres.logins import scram_verifier
from tests.postgres.logins import EndedError, Logins
from tests.postgres.objects import DELETED_AT, postgres_role
from tests.postgres.world import READY, STALLED, WAITING, WRITING, World

DAYS = timedelta(days=1)


def app(world: World, **spec: Any) -> PostgresRole:
    annotations = spec.pop("annotations", {})
    meta = {"annotations": annotations, **spec.pop("meta", {})}
    return postgres_role(world.name("app"), meta, **{"password": {}, **spec})


def one(world: World, **spec: Any) -> PostgresRole:
    return app(world, **{"password": {"logins": "One"}, **spec})


def said(logins: Logins, role: PostgresRole) -> tuple[Any, Reason]:
    (found,) = [one for one in logins.report.said() if one.subject is role]
    return found.verdict, found.reason


# -- one login ---------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("R-82", "R-91", "R-107", "R-164")
async def test_a_role_logs_in_with_what_is_published_and_has_login_and_nothing_else(any_world: World) -> None:
    world, logins = any_world, Logins(any_world)
    role = one(world, login=True)
    saying = await logins.sync(role)
    assert said(logins, role) == (READY, Reason.SUCCEEDED)
    secret = logins.published(role)
    assert secret["username"] == role.role_name
    assert await logins.works(secret["username"], secret["password"])
    assert not await logins.works(secret["username"], secret["password"] + "x")
    (row,) = await world.rows(
        "SELECT rolcanlogin, rolsuper, rolcreatedb, rolcreaterole, rolbypassrls, rolreplication, rolvaliduntil"
        " FROM pg_roles WHERE rolname = %s",
        role.role_name,
    )
    assert row == (True, False, False, False, False, False, None)
    assert saying.fields["binding"] == {"name": f"{role.metadata.name}-login"}
    assert saying.fields["password"]["login"] == role.role_name
    assert saying.facts["CredentialFresh"]["status"] == "True"


@pytest.mark.requirement("R-89", "R-162")
async def test_no_password_and_no_verifier_is_in_what_is_said_or_recorded(any_world: World) -> None:
    world, logins = any_world, Logins(any_world)
    position = world.log_position()
    role = app(world)
    await logins.sync(role)
    password = logins.published(role)["password"]
    assert password in logins.hidden
    statements = "\n".join(world.logged(position))
    assert "SCRAM-SHA-256" in statements
    assert password not in statements, "the server was told the password itself"
    log = await world.change_log()
    assert any(f"PASSWORD '{'*' * 8}'" in statement for _, statement, _ in log)
    everything = f"{log}{logins.report.said()}{logins.cluster.secrets}"
    assert password not in everything
    assert "SCRAM" not in everything
    rows = await world.rows("SELECT * FROM lakebase_operator.passwords")
    assert rows
    assert password not in str(rows)


async def test_the_verifier_is_what_the_server_itself_would_make(plain_world: World) -> None:
    name = await plain_world.role("odd")
    logins = Logins(plain_world)
    for text in ("Simple-password-1", "Ünïcode ﬁ-password-1", "quote'\"\\ and space 1A"):
        async with plain_world.session() as connection:
            verifier = scram_verifier(connection, name, text)
        assert verifier.startswith("SCRAM-SHA-256$4096:")
        await plain_world.run(f"ALTER ROLE {{name}} PASSWORD '{verifier}'", name=name)
        assert await logins.works(name, text)


async def test_nothing_is_written_where_nothing_changed(any_world: World) -> None:
    logins, role = Logins(any_world), app(any_world)
    await logins.sync(role)
    position, writes = any_world.log_position(), len(logins.cluster.seen)
    await logins.sync(role)
    assert len(logins.cluster.seen) == writes
    assert not [text for text in any_world.logged(position) if "ROLE" in text]


async def test_the_secret_follows_the_host_and_the_template(world: World) -> None:
    logins, role = Logins(world), one(world)
    await logins.sync(role)
    password = logins.published(role)["password"]
    logins.host = "moved.example.com"
    named = one(world, binding={"template": {"PGHOST": "$host"}, "schema": "own", "database": "other"})
    await logins.sync(named)
    secret = logins.published(named)
    assert secret["password"] == password
    assert (secret["host"], secret["PGHOST"]) == ("moved.example.com", "moved.example.com")
    assert (secret["schema"], secret["database"]) == ("own", "other")
    await logins.sync(role)
    assert "PGHOST" not in logins.published(role)


async def test_a_template_that_cannot_be_filled_changes_nothing(world: World) -> None:
    logins, role = Logins(world), one(world, binding={"template": {"A": "$nope"}})
    await logins.sync(role)
    assert said(logins, role) == (STALLED, Reason.INVALID_SPEC)
    assert not logins.cluster.secrets


async def test_a_secret_of_somebody_else_is_left_alone(world: World) -> None:
    logins, role = Logins(world), one(world)
    logins.cluster.put(role.secret_name, password="theirs")
    await logins.sync(role)
    assert said(logins, role) == (STALLED, Reason.SECRET_EXISTS)
    assert logins.published(role) == {"password": "theirs"}


async def test_a_lost_secret_and_a_role_that_was_made_anew_get_a_password_that_works(world: World) -> None:
    logins, role = Logins(world), one(world)
    await logins.sync(role)
    before = logins.published(role)["password"]
    logins.cluster.secrets.clear()
    await logins.sync(role)
    secret = logins.published(role)
    assert secret["password"] != before
    assert await logins.works(role.role_name, secret["password"])
    await world.run("DROP ROLE {name}", name=role.role_name)
    await logins.sync(role)
    assert logins.published(role)["password"] == secret["password"]
    assert await logins.works(role.role_name, secret["password"])


@pytest.mark.requirement("R-160")
@pytest.mark.parametrize("what", ["lost", "edited"])
async def test_whoever_has_read_a_secret_before_it_was_lost_works_on_for_the_overlap(
    world: World, what: str
) -> None:
    logins, role = Logins(world), app(world)
    saying = await logins.sync(role)
    before = logins.cluster.secrets[role.secret_name]
    status = PostgresRoleStatus.model_validate({"password": saying.fields["password"]})
    role = role.model_copy(update={"status": status})
    if what == "lost":
        logins.cluster.secrets.clear()
    else:
        edited = replace(before, values={**before.values, "password": b"edited"})
        logins.cluster.secrets[role.secret_name] = edited
    await logins.sync(role)
    assert said(logins, role) == (READY, Reason.SUCCEEDED)
    assert await logins.client(logins.cluster.secrets[role.secret_name].values)
    assert await logins.client(before.values), "nobody is turned away"
    logins.now += timedelta(hours=24)
    await logins.sync(role)
    assert not await logins.client(before.values)
    assert await logins.client(logins.cluster.secrets[role.secret_name].values)


async def test_a_server_that_refuses_verifiers_is_told_in_its_own_words(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    logins, role = Logins(world), one(world)
    refusal = sql.SQL(
        "DO $$ BEGIN RAISE EXCEPTION 'Received HTTP code 400 from control plane: password entropy is too low'; END $$"
    ).format()
    monkeypatch.setattr("lakebase_operator.reconcilers.login_roles.alter_role", lambda *_: refusal)
    saying = await logins.sync(role)
    assert said(logins, role) == (STALLED, Reason.PASSWORD_REFUSED)
    assert "entropy is too low" in saying.message
    assert ".next" in logins.published(role)
    monkeypatch.undo()
    await logins.sync(role)
    assert said(logins, role) == (READY, Reason.SUCCEEDED)


@pytest.mark.parametrize("kind", ["One", "Two"])
async def test_a_secret_that_somebody_has_edited_gets_a_password_that_works(world: World, kind: str) -> None:
    logins, role = Logins(world), app(world, password={"logins": kind})
    await logins.sync(role)
    secret = logins.cluster.secrets[role.secret_name]
    logins.cluster.secrets[role.secret_name] = replace(
        secret, values={**secret.values, "password": b"edited"}
    )
    await logins.sync(role)
    assert await logins.client(logins.cluster.secrets[role.secret_name].values)
    stripped = replace(logins.cluster.secrets[role.secret_name], annotations={})
    logins.cluster.secrets[role.secret_name] = stripped
    await logins.sync(role)
    assert await logins.client(logins.cluster.secrets[role.secret_name].values)


# -- a password that is given ------------------------------------------------------------------------------------------


@pytest.mark.requirement("R-108", "R-212")
async def test_a_given_password_is_used_and_taken_up_when_it_changes(world: World) -> None:
    logins = Logins(world)
    role = app(world, password={"from": {"name": "vault", "key": "pw"}})
    await logins.sync(role)
    assert said(logins, role) == (WAITING, Reason.SECRET_NOT_FOUND)
    for text in ("From-a-vault-1", "From-a-vault-2"):
        logins.cluster.put("vault", pw=text)
        await logins.sync(role)
        assert said(logins, role) == (READY, Reason.SUCCEEDED)
        assert await logins.works(role.role_name, text)
        assert logins.published(role)["password"] == text
    assert not await logins.works(role.role_name, "From-a-vault-1")


@pytest.mark.requirement("R-108")
async def test_a_weak_password_is_refused_and_the_one_before_stays(world: World) -> None:
    logins = Logins(world)
    role = app(world, password={"from": {"name": "vault", "key": "pw"}})
    logins.cluster.put("vault", pw="From-a-vault-1")
    await logins.sync(role)
    logins.cluster.put("vault", pw="weakweakweakweak")
    saying = await logins.sync(role)
    assert said(logins, role) == (STALLED, Reason.WEAK_PASSWORD)
    assert "weakweak" not in saying.message
    assert await logins.works(role.role_name, "From-a-vault-1")


@pytest.mark.requirement("R-159")
async def test_a_given_password_that_is_too_old_is_overdue(world: World) -> None:
    logins = Logins(world)
    role = app(world, password={"from": {"name": "vault", "key": "pw"}})
    logins.cluster.put("vault", pw="From-a-vault-1")
    await logins.sync(role)
    logins.now += 91 * DAYS
    saying = await logins.sync(role)
    assert said(logins, role) == (READY, Reason.SUCCEEDED)
    fact = saying.facts["CredentialFresh"]
    assert (fact["status"], fact["reason"]) == ("False", "RotationOverdue")
    assert "vault" in fact["message"]


# -- replacing ---------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("R-159", "R-160")
async def test_two_logins_take_turns_and_act_as_their_owner(any_world: World) -> None:
    world, logins = any_world, Logins(any_world)
    role = app(world, settings={"statement_timeout": "30s"}, attributes={"connectionLimit": 5})
    await world.run("CREATE SCHEMA IF NOT EXISTS sales; CREATE TABLE sales.things (id int)")
    saying = await logins.sync(role)
    assert said(logins, role) == (READY, Reason.SUCCEEDED)
    first = logins.published(role)
    assert first["username"] == f"{role.role_name}_1"
    assert await logins.names(role) == [first["username"]]
    assert saying.fields["password"]["nextRotation"] == "2026-04-15T12:00:00Z"
    await world.run(
        "GRANT USAGE, CREATE ON SCHEMA sales TO {r}; GRANT SELECT ON sales.things TO {r}", r=role.role_name
    )
    async with await world.server.connect(
        world.database, user=first["username"], password=first["password"]
    ) as session:
        row = await (
            await session.execute("SELECT current_user, current_setting('statement_timeout')")
        ).fetchone()
        assert row == (role.role_name, "30s")
        await session.execute("CREATE TABLE sales.made (id int)")
        await session.commit()
    owner = await world.value(
        "SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = 'sales.made'::regclass"
    )
    assert owner == role.role_name
    logins.now += 90 * DAYS
    saying = await logins.sync(role)
    second = logins.published(role)
    assert second["username"] == f"{role.role_name}_2"
    assert await logins.works(second["username"], second["password"])
    assert await logins.works(first["username"], first["password"]), "within the overlap both work"
    assert min(logins.deadlines) == logins.now + timedelta(hours=24)
    await logins.sync(role)
    assert (await logins.sync(role)).fields["password"]["previousUntil"] == "2026-04-16T12:00:00Z"
    logins.now += timedelta(hours=24)
    await logins.sync(role)
    assert not await logins.works(first["username"], first["password"])
    assert await logins.names(role) == [second["username"]]
    logins.now += 90 * DAYS
    await logins.sync(role)
    third = logins.published(role)
    assert third["username"] == first["username"]
    assert third["password"] != first["password"]
    assert await logins.works(third["username"], third["password"])
    limits = await world.rows(
        "SELECT DISTINCT rolconnlimit FROM pg_roles WHERE rolname = ANY(%s)",
        [first["username"], second["username"]],
    )
    assert limits == [(5,)]


@pytest.mark.requirement("R-159", "R-160")
async def test_a_setting_that_the_server_refuses_keeps_nobody_from_logging_in(world: World) -> None:
    logins = Logins(world)
    role = app(world, settings={"log_statement": "all", "statement_timeout": "30s"})
    saying = await logins.sync(role)
    assert said(logins, role) == (STALLED, Reason.PERMISSION_DENIED)
    assert "log_statement" in saying.message
    first = logins.published(role)
    statement = f"""ALTER ROLE "{first["username"]}" SET "log_statement" TO 'all'"""
    assert any(issue["fix"].endswith(statement) for issue in saying.fields["issues"])
    async with await world.server.connect(
        world.database, user=first["username"], password=first["password"]
    ) as session:
        row = await (
            await session.execute("SELECT current_user, current_setting('statement_timeout')")
        ).fetchone()
        assert row == (role.role_name, "30s")
    logins.now += 90 * DAYS
    await logins.sync(role)
    second = logins.published(role)
    assert second["username"] != first["username"]
    assert await logins.client(logins.cluster.secrets[role.secret_name].values)


@pytest.mark.parametrize("spelled", ["role", "ROLE"])
async def test_a_login_acts_as_its_owner_whatever_role_its_owner_acts_as(world: World, spelled: str) -> None:
    logins, other = Logins(world), await world.owned_role("other", "NOLOGIN")
    role = app(world, settings={spelled: other}, memberOf=[{"role": other}])
    for _ in range(2):
        await logins.sync(role)
        assert said(logins, role) == (READY, Reason.SUCCEEDED)
        secret = logins.published(role)
        async with await world.server.connect(
            world.database, user=secret["username"], password=secret["password"]
        ) as session:
            row = await (await session.execute("SELECT current_user")).fetchone()
            assert row == (role.role_name,)


@pytest.mark.requirement("R-159")
@pytest.mark.parametrize(
    "statement",
    [
        "ALTER ROLE {login} RESET role",
        "ALTER ROLE {login} IN DATABASE {database} SET role TO 'none'",
        "REVOKE {role} FROM {login} GRANTED BY {operator}",
    ],
)
async def test_a_login_that_was_changed_by_hand_acts_as_its_owner_again(world: World, statement: str) -> None:
    logins, role = Logins(world), app(world)
    await logins.sync(role)
    secret = logins.published(role)
    await world.run(
        statement,
        login=secret["username"], role=role.role_name, database=world.database, operator=world.operator,
    )  # fmt: skip
    await logins.sync(role)
    assert said(logins, role) == (READY, Reason.SUCCEEDED)
    async with await world.server.connect(
        world.database, user=secret["username"], password=secret["password"]
    ) as session:
        row = await (await session.execute("SELECT current_user")).fetchone()
    assert row == (role.role_name,)
    position = world.log_position()
    await logins.sync(role)
    assert not [text for text in world.logged(position) if WRITING.match(text)]


@pytest.mark.requirement("R-109", "R-161")
@pytest.mark.parametrize("kind", ["Two", "One"])
async def test_wherever_the_process_ends_no_password_is_lost_and_no_client_is_turned_away(
    world: World, kind: str
) -> None:
    logins = Logins(world)
    role, asked = app(world, password={"logins": kind}), {"lakebase.dev/rotate": "now"}
    steps = await _to_the_end(logins, role)
    assert steps >= 3, "first made: the Secret, the server, the Secret"
    before = logins.published(role)
    again = app(world, password={"logins": kind}, annotations=asked)
    steps = await _to_the_end(logins, again)
    assert steps >= 3
    after = logins.published(again)
    assert (after["username"] != before["username"]) is (kind == "Two")
    assert after["password"] != before["password"]
    assert await logins.works(after["username"], after["password"])
    assert await logins.works(before["username"], before["password"]) is (kind == "Two")
    assert ".next" not in after
    await logins.sync(again)
    assert logins.published(again) == after, "the annotation asks once"


async def _to_the_end(logins: Logins, role: PostgresRole) -> int:
    """Passes of a process that ends after no write, after one, and so on, until one gets through. Returns how many it took."""
    for steps in range(20):
        logins.steps_left = 1 if steps else 0
        try:
            await logins.sync(role)
        except EndedError:
            secret = logins.cluster.secrets.get(role.secret_name)
            await _every_password_is_in_the_secret(logins, role, secret)
            continue
        logins.steps_left = None
        return steps
    raise AssertionError("it never gets through")


async def _every_password_is_in_the_secret(logins: Logins, role: PostgresRole, secret: Secret | None) -> None:
    two = role.spec.password is not None and role.spec.password.logins == "Two"
    there = await logins.world.value("SELECT to_regclass('lakebase_operator.passwords') IS NOT NULL")
    query = (
        "SELECT revision FROM lakebase_operator.passwords p JOIN pg_roles r ON r.oid = p.role"
        " WHERE r.rolname LIKE %s AND r.rolcanlogin"
    )
    rows = await logins.world.rows(query, role.role_name + "%") if there else []
    revisions = {revision for (revision,) in rows}
    if secret is None:
        assert not revisions, "the server has a password that nobody knows"
        return
    text = str(dict(secret.values)) + str(dict(secret.annotations))
    assert not revisions or any(one in text for one in revisions)
    if "password" in secret.values and two:
        assert await logins.client(secret.values), "what is published does not work"


@pytest.mark.requirement("R-160")
async def test_every_state_of_the_secret_that_a_client_reads_works_at_that_moment(world: World) -> None:
    logins = Logins(world)
    for number in range(4):
        role = app(world, annotations={"lakebase.dev/rotate": str(number)})
        seen = len(logins.cluster.seen)
        await logins.sync(role)
        for state in logins.cluster.seen[seen:]:
            if "username" in state:
                assert await logins.client(state)
        logins.now += 2 * DAYS


async def test_logins_of_somebody_else_are_not_taken(world: World) -> None:
    logins, role = Logins(world), app(world)
    await world.owned_role("app_1")  # another name
    async with world.session() as connection:
        await connection.execute(f'CREATE ROLE "{role.role_name}_1" LOGIN'.encode())
    await logins.sync(role)
    assert said(logins, role) == (STALLED, Reason.ROLE_EXISTS)


# -- suspending and dropping -------------------------------------------------------------------------------------------


@pytest.mark.requirement("R-83")
@pytest.mark.parametrize("kind", ["One", "Two"])
async def test_a_suspended_login_is_out_at_once_and_back_when_it_ends(world: World, kind: str) -> None:
    logins, password = Logins(world), {"logins": kind}
    await logins.sync(app(world, password=password))
    secret = logins.published(app(world))
    session = await world.server.connect(world.database, user=secret["username"], password=secret["password"])
    role = app(world, password=password, suspend=True)
    await logins.sync(role)
    assert said(logins, role) == (READY, Reason.SUSPENDED)
    with pytest.raises(psycopg.errors.AdminShutdown):
        await session.execute("SELECT 1")
    assert not await logins.works(secret["username"], secret["password"])
    assert await logins.names(role) == []
    await logins.sync(app(world, password=password))
    assert logins.published(role) == secret
    assert await logins.works(secret["username"], secret["password"])


@pytest.mark.requirement("R-83")
async def test_sessions_that_the_operator_may_not_end_are_reported_with_the_statement(
    plain_world: World,
) -> None:
    world, logins = plain_world, Logins(plain_world)
    role = one(world, suspend=True)
    await logins.sync(one(world))
    secret = logins.published(role)
    async with await world.server.connect(
        world.database, user=secret["username"], password=secret["password"]
    ):
        saying = await logins.sync(role)
        assert said(logins, role) == (STALLED, Reason.SESSIONS_NOT_ENDED)
        assert "pg_terminate_backend" in saying.message
    await logins.sync(role)
    assert said(logins, role) == (READY, Reason.SUSPENDED)


@pytest.mark.requirement("R-83")
@pytest.mark.parametrize("kind", ["One", "Two"])
async def test_a_login_is_suspended_also_where_its_secret_cannot_be_read(
    world: World, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    logins, password = Logins(world), {"logins": kind}
    await logins.sync(app(world, password=password))
    secret = logins.published(app(world))
    session = await world.server.connect(world.database, user=secret["username"], password=secret["password"])

    async def refuse(namespace: str, name: str) -> Secret | None:
        raise TransientError(Reason.INTERNAL_ERROR, f"{namespace}/{name} cannot be read.")

    monkeypatch.setattr(logins.cluster, "read_secret", refuse)
    role = app(world, password=password, suspend=True)
    await logins.sync(role)
    assert said(logins, role) == (WAITING, Reason.INTERNAL_ERROR)
    with pytest.raises(psycopg.errors.AdminShutdown):
        await session.execute("SELECT 1")
    assert not await logins.works(secret["username"], secret["password"])


@pytest.mark.requirement("R-83")
async def test_a_suspended_identity_comes_back(world: World) -> None:
    logins = Logins(world)
    plain = postgres_role(world.name("job"), login=True)
    await logins.sync(plain)
    await logins.sync(postgres_role(world.name("job"), login=True, suspend=True))
    assert await logins.names(plain) == []
    await logins.sync(plain)
    assert await logins.names(plain) == [plain.role_name]


async def test_dropping_a_role_drops_its_logins(world: World) -> None:
    logins, role = Logins(world), app(world)
    await logins.sync(role)
    await logins.sync(app(world, deletionPolicy="Drop", meta={"deletionTimestamp": DELETED_AT}))
    assert await world.rows("SELECT rolname FROM pg_roles WHERE rolname LIKE %s", role.role_name + "%") == []


@pytest.mark.parametrize(
    "change", ["no password is declared any more", "it was changed by hand", "the ledger is lost"]
)
async def test_a_login_goes_with_its_role_whatever_has_happened_in_between(world: World, change: str) -> None:
    logins, role, spec = Logins(world), app(world), {}
    await logins.sync(role)
    login = logins.published(role)["username"]
    if change == "no password is declared any more":
        spec = {"password": None}
        await logins.sync(app(world, **spec))
    elif change == "it was changed by hand":
        await world.run("ALTER ROLE {r} RESET role", r=login)
    else:
        await world.run("DROP SCHEMA lakebase_operator CASCADE")
    await logins.sync(app(world, **spec, deletionPolicy="Drop", meta={"deletionTimestamp": DELETED_AT}))
    assert await world.rows("SELECT rolname FROM pg_roles WHERE rolname LIKE %s", role.role_name + "%") == []


async def test_a_role_of_somebody_else_that_has_the_name_of_a_login_is_not_dropped(world: World) -> None:
    logins, role = Logins(world), postgres_role(world.name("app"), login=True)
    await logins.sync(role)
    theirs = f"{role.role_name}_1"
    async with world.session() as connection:
        await connection.execute(f'CREATE ROLE "{theirs}" LOGIN'.encode())
        await connection.execute(f'ALTER ROLE "{theirs}" SET role TO "{role.role_name}"'.encode())
    going = {"deletionPolicy": "Drop", "login": True}
    await logins.sync(postgres_role(role.role_name, {"deletionTimestamp": DELETED_AT}, **going))
    assert await logins.names(role) == [theirs]


async def test_the_operators_own_login_is_neither_published_nor_shut_out(superuser_world: World) -> None:
    world, logins = superuser_world, Logins(superuser_world)
    query = "SELECT rolcanlogin, rolpassword, rolconnlimit, rolvaliduntil FROM pg_authid WHERE rolname = %s"
    before = await world.rows(query, world.operator)
    for spec in (
        {"password": {"logins": "One"}},
        {"password": {}},
        {"login": True, "suspend": True},
        {"login": False},
        {"attributes": {"validUntil": "2020-01-01T00:00:00Z"}},
        {"attributes": {"connectionLimit": 0}},
    ):
        role = postgres_role(world.operator, **spec)
        saying = await logins.sync(role)
        assert said(logins, role) == (STALLED, Reason.INVALID_SPEC)
        assert "operator itself" in saying.message
        assert await world.rows(query, world.operator) == before
        assert not logins.cluster.secrets
    harmless = postgres_role(world.operator, login=True)
    await logins.sync(harmless)
    assert said(logins, harmless) == (READY, Reason.SUCCEEDED)


# -- looking only ------------------------------------------------------------------------------------------------------


async def test_a_dry_run_writes_neither_secret_nor_password_and_shows_what_it_would(world: World) -> None:
    logins, role = Logins(world), app(world)
    await logins.sync(role, dry=True)
    assert not logins.cluster.secrets
    assert await logins.names(role) == []
    assert f"""CREATE ROLE "{role.role_name}_1" LOGIN PASSWORD '********'""" in logins.planned
    assert any(text.startswith("-- write Secret team/") for text in logins.planned)
    await logins.sync(role)
    await logins.sync(role, dry=True)
    assert logins.planned == []
