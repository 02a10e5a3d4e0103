"""Logins with a password, with the whole operator: what is published works, through rotations, crashes and suspensions."""

import asyncio
import base64
import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psycopg
import pytest

from lakebase_operator.reconcilers.login_roles import LoginRoles
from tests.cluster.kube import Body, Namespace, condition_of
from tests.cluster.lab import Database, Lab
from tests.cluster.manifests import grant, role
from tests.cluster.operators import Operators

pytestmark = pytest.mark.asyncio(loop_scope="session")

CONNECTION = "LakebaseConnection/marketing"
APP = "PostgresRole/app"


async def published(lab: Lab, there: Namespace, name: str = "app-login") -> dict[str, str]:
    """What the Secret holds."""
    body = await there.get(f"Secret/{name}")
    values = {key: base64.b64decode(text).decode() for key, text in body["data"].items()}
    lab.passwords += [values[key] for key in ("password", ".next") if key in values]
    return values


async def log_in(secret: Mapping[str, str], ca: Path) -> psycopg.AsyncConnection[Any]:
    """A driver's session with what is published."""
    return await psycopg.AsyncConnection.connect(secret["uri"], sslrootcert=str(ca), connect_timeout=30)


LIKE_PSQL = (
    "import psycopg, sys; print(psycopg.connect(sys.argv[1]).execute('SELECT current_user').fetchone()[0])"
)


async def run_like_psql(secret: Mapping[str, str], directory: Path) -> str:
    """Run the published command line where ``ca.crt`` is. libpq reads the argument as psql's own does, which comes without TLS here."""
    program, argument = shlex.split(secret["psql"])
    assert program == "psql"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", LIKE_PSQL, argument,
        cwd=directory, env={**os.environ, "PGPASSWORD": secret["password"]}, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, _ = await process.communicate()
    return output.decode().strip()


async def set_up(lab: Lab, there: Namespace, database: Database | None = None, **spec: Any) -> Database:
    """A database with a connection, and a role ``app`` that reads it and has a password."""
    sales = database or await lab.database("native")
    name = f"app_{sales.name}"
    await there.apply(
        await lab.connection(there, sales),
        role("app", roleName=name, **{"password": {}, **spec}),
        grant("app-reads", name, database=sales.name),
    )
    return sales


def rotated(value: str) -> Any:
    def is_rotated(body: Body) -> bool:
        return bool((body["status"].get("password") or {}).get("handledRotation") == value)

    return is_rotated


@pytest.mark.requirement("R-82", "R-86", "R-124", "R-125", "R-134", "R-164")
async def test_an_application_logs_in_with_the_published_secret(
    lab: Lab, there: Namespace, operators: Operators, tmp_path: Path
) -> None:
    await operators.start()
    sales = await lab.database("native")
    await sales.run("CREATE SCHEMA elementum")
    await sales.run("GRANT CREATE, USAGE ON SCHEMA elementum TO PUBLIC")
    await set_up(lab, there, sales, binding={"schema": "elementum", "template": {"dsn": "$host/$database"}})
    body, _ = await there.ready(APP, "AccessGrant/app-reads")
    assert body["status"]["binding"] == {"name": "app-login"}
    assert condition_of(body, "CredentialFresh")
    secret = await published(lab, there)
    (tmp_path / "ca.crt").write_text(secret["ca.crt"])
    async with await log_in(secret, tmp_path / "ca.crt") as session:
        assert await (await session.execute("SELECT count(*) FROM sales.orders")).fetchone() == (0,)
    assert await run_like_psql(secret, tmp_path) == f"app_{sales.name}"
    assert secret["password"] not in secret["psql"]
    assert (secret["type"], secret["provider"], secret["schema"]) == ("postgresql", "lakebase", "elementum")
    assert secret["dsn"] == f"localhost/{sales.name}"
    stored = await there.get("Secret/app-login")
    (owner,) = stored["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"]) == ("PostgresRole", body["metadata"]["uid"])
    assert stored["type"] == "servicebinding.io/postgresql"


async def test_what_is_said_of_a_password_goes_with_it(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    await operators.start()
    await set_up(lab, there)
    (body,) = await there.ready(APP)
    assert condition_of(body, "CredentialFresh")
    assert condition_of(body, "ConnectionTested")
    await there.spec(APP, password=None)
    (body,) = await there.ready(APP)
    assert not {"password", "binding", "test"} & body["status"].keys()
    assert {one["type"] for one in body["status"]["conditions"]} == {"Ready", "OverPrivileged"}


@pytest.mark.requirement("R-160")
async def test_a_secret_that_is_deleted_comes_back_with_the_other_login_and_the_one_before_works_on(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    await operators.start()
    await set_up(lab, there)
    await there.ready(APP)
    before = await published(lab, there)
    await there.delete("Secret/app-login")
    await there.annotate(CONNECTION, sync_now="1")
    await there.until(CONNECTION, lambda body: "lastHandledSync" in body["status"])
    after = await published(lab, there)
    assert after["username"] != before["username"]
    for secret in (before, after):
        async with await log_in(secret, lab.simulator.ca_file) as session:
            assert await (await session.execute("SELECT count(*) FROM sales.orders")).fetchone() == (0,)


@pytest.mark.requirement("R-108", "R-160", "R-161")
@pytest.mark.parametrize("target", ["native", "autoscaling"])
async def test_a_client_that_reads_the_secret_never_fails_while_passwords_are_replaced(
    lab: Lab, there: Namespace, operators: Operators, tmp_path: Path, target: str
) -> None:
    """An instance gets verifiers of the operator's passwords; a project refuses them, and Databricks makes the passwords."""
    await operators.start()
    lab.simulator.set_native_login(target, enabled=True)
    sales = await set_up(lab, there, await lab.database(target))
    await there.ready(APP)
    ca = tmp_path / "ca.crt"
    ca.write_text((await published(lab, there))["ca.crt"])
    users: list[str] = []
    stop = asyncio.Event()

    async def client() -> None:
        while not stop.is_set():
            secret = await published(lab, there)
            async with await log_in(secret, ca) as session:
                await session.execute("SELECT 1")
            users.append(secret["username"])

    running = asyncio.create_task(client())
    for value in ("one", "two", "three"):
        await there.annotate(APP, rotate=value)
        await there.until(APP, rotated(value))
        seen = len(users)

        async def went_on(seen: int = seen) -> bool:
            return running.done() or len(users) > seen + 1

        await there.true("the client goes on", went_on)
    stop.set()
    await running
    assert len(set(users)) == 2, "both logins were used"
    made = any(statement.startswith("-- ask Databricks: a password") for _, statement, _ in await sales.log())
    assert made is (target == "autoscaling")


@pytest.mark.requirement("R-159")
async def test_passwords_are_replaced_on_schedule_and_overdue_while_the_instance_is_stopped(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    await operators.start()
    await set_up(lab, there, password={"rotation": {"interval": "2s", "overlap": "1s"}})
    await there.ready(APP)
    seen = {(await published(lab, there))["password"]}

    async def replaced_twice() -> bool:
        seen.add((await published(lab, there))["password"])
        return len(seen) >= 3

    await there.true("two more passwords by schedule alone", replaced_twice)
    await lab.simulator.set_state("native", "STOPPED")

    def overdue(body: Body) -> bool:
        found = condition_of(body, "CredentialFresh")
        return found is not None and (found["status"], found["reason"]) == ("False", "RotationOverdue")

    body = await there.until(APP, overdue)
    assert body["status"]["password"]["nextRotation"]
    await lab.simulator.set_state("native", "AVAILABLE")
    await there.spec(APP, password={"rotation": {"interval": "1h"}})
    (body,) = await there.ready(APP)
    fresh = condition_of(body, "CredentialFresh")
    assert fresh is not None
    assert fresh["status"] == "True"


@pytest.mark.requirement("R-109", "R-161")
async def test_an_operator_that_is_killed_between_secret_and_server_loses_no_password(
    lab: Lab, there: Namespace, operators: Operators, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached = asyncio.Event()

    async def hang(*_: object, **__: object) -> None:
        reached.set()
        await asyncio.Event().wait()

    with monkeypatch.context() as patched:
        patched.setattr(LoginRoles, "give", hang)
        first = await operators.start()
        sales = await set_up(lab, there)
        await asyncio.wait_for(reached.wait(), 60)
        await first.kill()
        operators.forget(first)
    begun = await published(lab, there)
    assert begun.keys() == {".next"}
    assert not await sales.value(
        "SELECT count(*) FROM pg_authid WHERE rolname ~ %s AND rolpassword IS NOT NULL", sales.name
    )
    await operators.start()
    await there.ready(APP)
    secret = await published(lab, there)
    assert secret["password"] in begun[".next"], "it goes on with the password that the Secret kept"
    assert ".next" not in secret
    ca = tmp_path / "ca.crt"
    ca.write_text(secret["ca.crt"])
    async with await log_in(secret, ca):
        pass


@pytest.mark.requirement("R-83")
async def test_a_suspended_login_is_thrown_out_and_comes_back(
    lab: Lab, there: Namespace, operators: Operators, tmp_path: Path
) -> None:
    await operators.start()
    await set_up(lab, there, login=True, password={"logins": "One"})
    await there.ready(APP)
    secret, ca = await published(lab, there), tmp_path / "ca.crt"
    ca.write_text(secret["ca.crt"])
    session = await log_in(secret, ca)
    await there.spec(APP, suspend=True)
    await there.reason(APP, "Suspended", ready=True)
    with pytest.raises(psycopg.OperationalError):
        await session.execute("SELECT 1")
    with pytest.raises(psycopg.OperationalError):
        await log_in(secret, ca)
    await there.spec(APP, suspend=False)
    await there.reason(APP, "Succeeded", ready=True)
    async with await log_in(await published(lab, there), ca):
        pass


@pytest.mark.requirement("R-163", "R-212")
async def test_the_same_role_on_two_connections_has_two_secrets_and_a_given_password_is_followed(
    lab: Lab, there: Namespace, operators: Operators, tmp_path: Path
) -> None:
    await operators.start()
    one, two = await lab.database("native"), await lab.database("provisioned")
    lab.simulator.set_native_login("provisioned", enabled=True)
    name = f"app_{one.name}"
    given = {"from": {"name": "vault", "key": "password"}}
    lab.passwords += ["Given-by-a-vault-1", "Given-by-a-vault-2"]
    await there.secret("vault", password="Given-by-a-vault-1")
    await there.apply(
        await lab.connection(there, one, name="production"),
        await lab.connection(there, two, name="development"),
        role("app", "production", roleName=name, password=given),
        role("app-dev", "development", roleName=name, password={"logins": "One"}),
    )
    await there.ready(APP, "PostgresRole/app-dev")
    production, development = await published(lab, there), await published(lab, there, "app-dev-login")
    assert production["username"] == development["username"] == name
    assert production["password"] == "Given-by-a-vault-1"
    assert development["password"] != production["password"]
    ca = tmp_path / "ca.crt"
    ca.write_text(production["ca.crt"])
    async with await log_in(production, ca):
        pass
    await there.secret("vault", password="Given-by-a-vault-2")

    async def taken_up() -> bool:
        return (await published(lab, there))["password"] == "Given-by-a-vault-2"

    await there.true("the new password is taken up", taken_up)
    async with await log_in(await published(lab, there), ca):
        pass


async def test_a_plan_writes_no_secret_until_it_is_approved(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    await operators.start()
    sales = await lab.database("native")
    await there.apply(
        await lab.connection(there, sales, mode="Plan"),
        role("app", roleName=f"app_{sales.name}", password={}),
    )
    body = await there.until(CONNECTION, lambda body: bool((body.get("status") or {}).get("plan")))
    await there.reason(APP, "Planned")
    assert await there.find("Secret/app-login") is None
    plan = body["status"]["plan"]
    shown = await there.admin.request("GET", there.core(f"configmaps/{plan['configMap']}"))
    assert "PASSWORD '********'" in shown["data"]["plan.sql"]
    assert "-- write Secret" in shown["data"]["plan.sql"]
    await there.annotate(CONNECTION, approve=plan["digest"])
    await there.ready(APP)
    assert (await published(lab, there))["username"] == f"app_{sales.name}_1"
