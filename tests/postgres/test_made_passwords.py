"""A server that takes no password as a verifier, as a Lakebase project: Databricks makes it, and the operator publishes it."""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from psycopg import sql

from lakebase_operator.api import PostgresRole, Reason
from lakebase_operator.domain import role_statements
from lakebase_operator.domain.errors import InvalidError, TransientError
from lakebase_operator.external.databricks.instances import Progress
from lakebase_operator.external.postgres.logins import doubt_given
from tests.postgres.logins import EndedError, Logins
from tests.postgres.test_logins import app, said
from tests.postgres.world import KEY, READY, STALLED, WAITING, World

pytestmark = pytest.mark.requirement("R-108", "R-161")

DAYS = timedelta(days=1)
REFUSAL = sql.SQL(
    "DO $$ BEGIN RAISE EXCEPTION"
    " 'Received HTTP code 400 from control plane: only supports being given plaintext passwords'; END $$"
).format()


@dataclass
class Databricks:
    """What the API does about passwords: it makes them when somebody looks at the operation, and remembers them."""

    world: World
    refusal: str | None = None
    keeps: bool = False
    """A role keeps the password that it has."""
    failures: int = 0
    """So many operations end with an error."""
    asked: list[str] = field(default_factory=list)
    revealed: list[str] = field(default_factory=list)
    passwords: dict[str, str] = field(default_factory=dict)

    def password_problem(self) -> str | None:
        return self.refusal

    async def make_password(self, role: str) -> str:
        self.asked.append(role)
        return f"operations/{role}/{len(self.asked)}"

    async def follow(self, operation: str) -> Progress:
        if self.failures:
            self.failures -= 1
            return Progress(True, TransientError(Reason.CONTROL_PLANE_ERROR, "It went wrong."))
        await self.make(operation.split("/")[1])
        return Progress(True)

    async def make(self, role: str) -> None:
        if role not in self.passwords or not self.keeps:
            self.passwords[role] = f"Databricks-1{secrets.token_hex(8)}"
        statement = sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(role), self.passwords[role])
        await self.world.admin.execute(statement)

    async def reveal_password(self, role: str) -> str:
        self.revealed.append(role)
        return self.passwords[role]

    def problem(self, role: str, *, member: bool) -> InvalidError | None:
        raise AssertionError(f"nobody asked about {role}, {member}")

    async def set_superuser(self, role: str, *, member: bool) -> str | None:
        raise AssertionError(f"nobody asked for {role}, {member}")


@pytest.fixture(autouse=True)
def _verifiers_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def refusing(
        make: Callable[[str, Sequence[sql.Composable]], sql.Composed],
    ) -> Callable[[str, Sequence[sql.Composable]], sql.Composed]:
        def made(name: str, options: Sequence[sql.Composable]) -> sql.Composed:
            statement = make(name, options)
            return REFUSAL if "SCRAM-SHA-256$" in statement.as_string(None) else statement

        return made

    for name in ("alter_role", "create_role"):
        original = getattr(role_statements, name)
        monkeypatch.setattr(f"lakebase_operator.reconcilers.login_roles.{name}", refusing(original))


async def until_ready(logins: Logins, role: PostgresRole, most: int = 6) -> int:
    """Passes until the role is ready with nothing under way. Returns how many."""
    for number in range(1, most + 1):
        await logins.sync(role)
        if said(logins, role)[0] == READY and not logins.operations:
            return number
    raise AssertionError(f"not ready after {most} passes: {said(logins, role)}")


async def published_login(logins: Logins, **spec: Any) -> tuple[PostgresRole, dict[str, str]]:
    """A role that is ready, and its Secret."""
    role = app(logins.world, **spec)
    await until_ready(logins, role)
    return role, logins.published(role)


@pytest.fixture
def databricks(world: World) -> Databricks:
    return Databricks(world)


@pytest.fixture
def logins(world: World, databricks: Databricks) -> Logins:
    return Logins(world, databricks=databricks)


@pytest.mark.requirement("R-82", "R-107")
@pytest.mark.parametrize("kind", ["Two", "One"])
async def test_databricks_makes_the_password_and_the_secret_has_it(
    world: World, logins: Logins, databricks: Databricks, kind: str
) -> None:
    role = app(world, password={"logins": kind})
    position = world.log_position()
    await logins.sync(role)
    assert said(logins, role) == (WAITING, Reason.PROGRESSING)
    assert min(logins.deadlines) == logins.now + timedelta(seconds=3)
    assert "password" not in logins.published(role)
    await until_ready(logins, role)
    secret = logins.published(role)
    assert secret["password"] == databricks.passwords[secret["username"]]
    assert await logins.works(secret["username"], secret["password"])
    assert secret["password"] in logins.hidden
    assert databricks.asked == [secret["username"]]
    operators = [text for text in world.logged(position) if "Databricks-1" not in text]
    assert not [text for text in operators if any(one in text for one in logins.hidden)]
    assert any(
        statement == f"-- ask Databricks: a password for {secret['username']}"
        for _, statement, _ in await world.change_log()
    )
    if kind == "Two":
        async with await world.server.connect(
            world.database, user=secret["username"], password=secret["password"]
        ) as session:
            assert (await (await session.execute("SELECT current_user")).fetchone()) == (role.role_name,)


async def test_nothing_is_asked_and_nothing_written_where_nothing_changed(
    world: World, logins: Logins, databricks: Databricks
) -> None:
    role = app(world)
    await until_ready(logins, role)
    await logins.sync(role)
    told, writes = (len(databricks.asked), len(databricks.revealed)), len(logins.cluster.seen)
    position = world.log_position()
    await logins.sync(role)
    assert (len(databricks.asked), len(databricks.revealed)) == told
    assert len(logins.cluster.seen) == writes
    assert not [text for text in world.logged(position) if "ROLE" in text]


@pytest.mark.requirement("R-159", "R-160")
async def test_a_rotation_publishes_another_login_and_the_one_before_works_until_then_and_for_the_overlap(
    world: World, logins: Logins
) -> None:
    role = app(world)
    await until_ready(logins, role)
    published = [logins.published(role)]
    for _ in range(3):
        logins.now += 90 * DAYS
        before = published[-1]
        await logins.sync(role)
        assert said(logins, role)[0] == READY, "what is published works on while Databricks is at it"
        assert logins.published(role)["username"] == before["username"]
        assert await logins.works(before["username"], before["password"])
        await until_ready(logins, role)
        after = logins.published(role)
        assert after["username"] != before["username"]
        assert await logins.works(after["username"], after["password"])
        assert await logins.works(before["username"], before["password"])
        logins.now += timedelta(hours=24)
        await logins.sync(role)
        assert not await logins.works(before["username"], before["password"])
        published.append(after)
    assert len({one["password"] for one in published}) == 4


async def test_with_one_login_a_rotation_replaces_its_password(world: World, logins: Logins) -> None:
    role, before = await published_login(logins, password={"logins": "One"})
    logins.now += 90 * DAYS
    await logins.sync(role)
    await until_ready(logins, role)
    after = logins.published(role)
    assert after["username"] == before["username"]
    assert await logins.works(after["username"], after["password"])
    assert not await logins.works(before["username"], before["password"])


@pytest.mark.requirement("R-109")
@pytest.mark.parametrize("kind", ["Two", "One"])
async def test_wherever_the_process_ends_the_next_one_gets_through(
    world: World, logins: Logins, kind: str
) -> None:
    """It knows of no operation any more, and with two logins what is published works all the time."""
    for value in (None, "now"):
        annotations = {"lakebase.dev/rotate": value} if value else {}
        role = app(world, password={"logins": kind}, annotations=annotations)
        for steps in range(12):
            logins.operations.clear()
            logins.steps_left = steps
            try:
                await until_ready(logins, role)
                break
            except EndedError:
                secret = logins.cluster.secrets.get(role.secret_name)
                if secret is not None and "password" in secret.values and kind == "Two":
                    assert await logins.client(secret.values)
        else:
            raise AssertionError("it never gets through")
        logins.steps_left = None
        secret = logins.cluster.secrets[role.secret_name]
        assert await logins.client(secret.values)
        assert ".next" not in secret.values


async def test_an_operation_that_fails_is_asked_for_again(
    world: World, logins: Logins, databricks: Databricks
) -> None:
    databricks.failures = 1
    role = app(world)
    await logins.sync(role)
    await logins.sync(role)
    assert said(logins, role) == (WAITING, Reason.CONTROL_PLANE_ERROR)
    await until_ready(logins, role)
    assert len(databricks.asked) == 2


async def test_where_the_ledger_is_lost_the_published_password_is_looked_up_and_stays(
    world: World, logins: Logins, databricks: Databricks
) -> None:
    role = app(world)
    await until_ready(logins, role)
    before, asked = logins.published(role), len(databricks.asked)
    await world.run("TRUNCATE lakebase_operator.passwords")
    await until_ready(logins, role)
    assert logins.published(role) == before
    assert len(databricks.asked) == asked
    assert await logins.works(before["username"], before["password"])


async def test_a_password_that_does_not_work_is_replaced(
    world: World, logins: Logins, databricks: Databricks
) -> None:
    role, before = await published_login(logins)
    await world.run("ALTER ROLE {name} PASSWORD 'Somebody-elses-1'", name=before["username"])
    async with world.session() as connection:
        await doubt_given(
            connection, str(KEY), await world.value("SELECT to_regrole(%s)::oid", before["username"])
        )
    await until_ready(logins, role)
    after = logins.published(role)
    assert after["password"] == databricks.passwords[before["username"]] != before["password"]
    assert await logins.works(after["username"], after["password"])


async def test_what_databricks_has_is_published_where_it_is_another_and_the_ledger_is_lost(
    world: World, logins: Logins, databricks: Databricks
) -> None:
    role, before = await published_login(logins)
    await databricks.make(before["username"])
    await world.run("TRUNCATE lakebase_operator.passwords")
    await until_ready(logins, role)
    after = logins.published(role)
    assert after["password"] != before["password"]
    assert await logins.works(after["username"], after["password"])


async def test_a_login_that_was_dropped_is_made_anew_with_another_password(
    world: World, logins: Logins, databricks: Databricks
) -> None:
    role, before = await published_login(logins)
    await world.run("DROP ROLE {name}", name=before["username"])
    del databricks.passwords[before["username"]]
    await until_ready(logins, role)
    after = logins.published(role)
    assert after["password"] != before["password"]
    assert await logins.works(after["username"], after["password"])


async def test_a_role_that_keeps_its_password_is_told_and_what_is_published_works_on(
    world: World, logins: Logins, databricks: Databricks
) -> None:
    databricks.keeps = True
    role, before = await published_login(logins, password={"logins": "One"})
    logins.now += 90 * DAYS
    await logins.sync(role)
    saying = await logins.sync(role)
    assert said(logins, role) == (STALLED, Reason.PASSWORD_REFUSED)
    assert "has kept the one before" in saying.message
    secret = logins.published(role)
    assert (secret["username"], secret["password"]) == (before["username"], before["password"])


@pytest.mark.parametrize(
    ("refusal", "given", "words"),
    [
        ("The API makes no passwords here.", False, "The API makes no passwords here."),
        (None, True, "use spec.password.generate"),
    ],
)
async def test_where_databricks_cannot_make_it_that_is_said_with_the_servers_words(
    world: World, logins: Logins, databricks: Databricks, refusal: str | None, given: bool, words: str
) -> None:
    databricks.refusal = refusal
    logins.cluster.put("chosen", password="a-Chosen-Password-1")
    password = {"from": {"name": "chosen", "key": "password"}} if given else {}
    role = app(world, password=password)
    saying = await logins.sync(role)
    assert said(logins, role) == (STALLED, Reason.PASSWORD_REFUSED)
    assert "plaintext passwords" in saying.message
    assert words in saying.message
    assert "password" not in logins.published(role)
    assert databricks.asked == []


async def test_a_connection_without_the_api_says_so(world: World) -> None:
    logins, role = Logins(world), app(world)
    saying = await logins.sync(role)
    assert said(logins, role) == (STALLED, Reason.PASSWORD_REFUSED)
    assert "no Databricks API" in saying.message


async def test_a_dry_run_asks_nothing(world: World, logins: Logins, databricks: Databricks) -> None:
    role = app(world)
    await logins.sync(role, dry=True)
    assert databricks.asked == []
    await logins.sync(role)
    asked = list(databricks.asked)
    await logins.sync(role, dry=True)
    assert (databricks.asked, databricks.revealed) == (asked, [])
