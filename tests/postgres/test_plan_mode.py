"""``mode: Plan``: the exact statements, nothing changed, and just the approved plan carried out."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from lakebase_operator.__main__ import main
from lakebase_operator.api import Reason
from lakebase_operator.api.lakebase_connection import Mode
from lakebase_operator.reconcilers.grants import Policy, digest
from tests.postgres.objects import access_grant, tables
from tests.postgres.world import READY, WAITING, World

SALES = ("CREATE SCHEMA sales", "CREATE TABLE sales.orders (id int)")
PLAN = Policy(mode=Mode.PLAN)


def approving(world: World, statements: Sequence[str]) -> Policy:
    return Policy(mode=Mode.PLAN, approved=frozenset({digest(world.database, statements)}))


async def test_a_plan_has_the_exact_statements_and_leaves_no_trace_not_even_a_ledger(world: World) -> None:
    role = await world.role("role")
    await world.run(*SALES)
    grant = access_grant("g", [role], [tables("sales")], database=world.database)
    synced = await world.sync(grant, policy=PLAN)
    (result,) = synced.results
    assert any(
        text.endswith(f'GRANT SELECT ON TABLE "sales"."orders" TO "{role}"') for text in result.planned
    )
    assert synced.said(grant) == (WAITING, Reason.PLANNED)
    assert not await world.acl("sales.orders", role)
    assert await world.value("SELECT to_regnamespace('lakebase_operator')") is None


async def test_an_approved_plan_is_carried_out_and_nothing_else(world: World) -> None:
    role = await world.role("role")
    await world.run(*SALES)
    grant = access_grant("g", [role], [tables("sales")], database=world.database)
    (seen,) = (await world.sync(grant, policy=PLAN)).results
    approved = approving(world, seen.planned)
    await world.run("CREATE TABLE sales.more (id int)")  # the plan is another one now
    changed = await world.sync(grant, policy=approved)
    assert changed.said(grant) == (WAITING, Reason.PLANNED)
    assert not await world.acl("sales.orders", role)
    approved = approving(world, changed.results[0].planned)
    done = await world.sync(grant, policy=approved)
    assert done.said(grant) == (READY, Reason.SUCCEEDED)
    planned = [text for text in changed.results[0].planned if text.startswith(("GRANT", "REVOKE"))]
    assert planned == [text for text in done.changes if "lakebase_operator." not in text and role in text]
    assert await world.acl("sales.orders", role) == await world.acl("sales.more", role) == {"SELECT"}


async def test_a_plan_with_nothing_in_it_leaves_all_ready(world: World) -> None:
    role = await world.role("role")
    await world.run(*SALES)
    grant = access_grant("g", [role], [tables("sales")], database=world.database)
    await world.sync(grant)
    synced = await world.sync(grant, policy=PLAN)
    assert synced.said(grant) == (READY, Reason.SUCCEEDED)
    assert synced.results[0].planned == ()
    assert not synced.writes


async def test_revokes_are_planned_and_the_grant_that_is_over_waits(world: World) -> None:
    role = await world.role("role")
    await world.run(*SALES)
    await world.sync(access_grant("g", [role], [tables("sales")], database=world.database))
    over = access_grant("g", [role], [tables("sales")], database=world.database, suspend=True)
    synced = await world.sync(over, policy=PLAN)
    assert any("REVOKE SELECT" in text for text in synced.results[0].planned)
    assert synced.said(over) == (WAITING, Reason.PLANNED)
    assert await world.acl("sales.orders", role) == {"SELECT"}


def manifests(directory: Path, world: World, role: str, *, privilege: str = "SELECT") -> Path:
    """What a repository has: a connection, a role that is to be made, and what it may do."""
    objects = [
        {
            "apiVersion": "lakebase.dev/v1alpha1",
            "kind": "LakebaseConnection",
            "metadata": {"name": "marketing"},
            "spec": {
                "target": {"server": {"host": "db.example.com"}},
                "databases": [world.database],
                "auth": {"password": {"secretRef": {"name": "login"}}},
            },
        },
        {
            "apiVersion": "lakebase.dev/v1alpha1",
            "kind": "PostgresRole",
            "metadata": {"name": "reader"},
            "spec": {"connectionRef": {"name": "marketing"}, "roleName": role, "login": True},
        },
        {
            "apiVersion": "lakebase.dev/v1alpha1",
            "kind": "AccessGrant",
            "metadata": {"name": "read"},
            "spec": {
                "connectionRef": {"name": "marketing"},
                "database": world.database,
                "subjects": [{"kind": "Role", "name": role}],
                "privileges": [privilege],
                "objects": [{"tables": {"schema": "sales", "matching": ["*"]}}],
            },
        },
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "not-ours"}},
    ]
    (directory / "all.yaml").write_text(yaml.safe_dump_all(objects))
    return directory


def run_plan(world: World, *paths: Path) -> tuple[int, str, str]:
    """``lakebase-operator plan``: exit code, output, errors."""
    result = CliRunner().invoke(
        main,
        ["plan", *(word for path in paths for word in ("-f", str(path))), "--sslmode", "require"],
        env={
            "PGHOST": str(world.server.socket_directory),
            "PGPORT": str(world.server.port),
            "PGUSER": world.operator,
        },
    )
    return result.exit_code, result.stdout, result.stderr


async def test_the_command_line_plans_a_directory_with_exit_code_2_and_changes_nothing(
    world: World, tmp_path: Path
) -> None:
    role = world.name("reader")
    await world.run(*SALES)
    directory = manifests(tmp_path, world, role)
    code, output, errors = await asyncio.to_thread(run_plan, world, directory)
    assert (code, errors) == (2, "")
    assert f'CREATE ROLE "{role}"' in output
    assert f'GRANT SELECT ON TABLE "sales"."orders" TO "{role}";' in output
    assert await world.value("SELECT count(*) FROM pg_roles WHERE rolname = %s", role) == 0
    await world.run(f'CREATE ROLE "{role}" LOGIN', f'GRANT SELECT ON sales.orders TO "{role}"')
    code, output, errors = await asyncio.to_thread(run_plan, world, directory)
    assert (code, errors) == (0, ""), output
    assert output.startswith("-- 0 statements")


async def test_the_command_line_says_what_is_wrong_with_exit_code_1(world: World, tmp_path: Path) -> None:
    await world.run(*SALES)
    directory = manifests(tmp_path, world, world.name("reader"), privilege="EXECUTE")
    code, _, errors = await asyncio.to_thread(run_plan, world, directory)
    assert code == 1
    assert "AccessGrant default/read: InvalidSpec" in errors
    (tmp_path / "all.yaml").write_text("kind: [")
    code, _, errors = await asyncio.to_thread(run_plan, world, directory)
    assert code == 1
    assert "all.yaml" in errors


def edit(file: Path, change: Callable[[list[dict[str, Any]]], None]) -> None:
    objects = list(yaml.safe_load_all(file.read_text()))
    change(objects)
    file.write_text(yaml.safe_dump_all(objects))


async def test_the_command_line_plans_all_files_that_are_given(world: World, tmp_path: Path) -> None:
    role = world.name("reader")
    await world.run(*SALES)
    file = manifests(tmp_path, world, role) / "all.yaml"
    grant = tmp_path / "grant.yaml"

    def split(objects: list[dict[str, Any]]) -> None:
        grant.write_text(yaml.safe_dump(objects.pop(2)))

    edit(file, split)
    code, output, errors = await asyncio.to_thread(run_plan, world, file, grant)
    assert (code, errors) == (2, "")
    assert f'CREATE ROLE "{role}"' in output
    assert f'GRANT SELECT ON TABLE "sales"."orders" TO "{role}";' in output


@pytest.mark.parametrize("allowed", ["Same", "All", "Selector"])
async def test_what_the_connection_does_not_let_in_is_not_planned(
    world: World, tmp_path: Path, allowed: str
) -> None:
    role = await world.owned_role("reader")
    await world.run(*SALES)

    def elsewhere(objects: list[dict[str, Any]]) -> None:
        selector = {"selector": {"team": "a"}} if allowed == "Selector" else {}
        objects[0]["spec"]["allowedNamespaces"] = {"from": allowed, **selector}
        objects[2]["metadata"]["namespace"] = "elsewhere"
        objects[2]["spec"]["connectionRef"]["namespace"] = "default"

    edit(manifests(tmp_path, world, role) / "all.yaml", elsewhere)
    code, output, errors = await asyncio.to_thread(run_plan, world, tmp_path)
    if allowed == "Same":
        assert code == 1
        assert "AccessGrant elsewhere/read: ConnectionNotAllowed: " in errors
        assert "GRANT SELECT" not in output
    else:
        assert (code, errors) == (2, "")
        assert "GRANT SELECT" in output


async def test_what_names_a_connection_that_is_not_there_is_told(world: World, tmp_path: Path) -> None:
    role = await world.owned_role("reader")
    await world.run(*SALES)

    def misspell(objects: list[dict[str, Any]]) -> None:
        objects[2]["spec"]["connectionRef"]["name"] = "marketng"

    edit(manifests(tmp_path, world, role) / "all.yaml", misspell)
    _, output, errors = await asyncio.to_thread(run_plan, world, tmp_path)
    assert (
        "AccessGrant default/read: ConnectionNotFound: There is no LakebaseConnection default/marketng."
        in errors
    )
    assert "GRANT SELECT" not in output


async def test_nothing_is_planned_for_a_connection_that_is_suspended(world: World, tmp_path: Path) -> None:
    await world.run(*SALES)

    def suspend(objects: list[dict[str, Any]]) -> None:
        objects[0]["spec"]["suspend"] = True

    edit(manifests(tmp_path, world, world.name("reader")) / "all.yaml", suspend)
    code, output, errors = await asyncio.to_thread(run_plan, world, tmp_path)
    assert code == 0
    assert output.startswith("-- 0 statements")
    assert "LakebaseConnection default/marketing: Suspended: spec.suspend is set" in errors


async def test_the_plan_of_a_directory_is_what_a_pass_then_does(world: World, tmp_path: Path) -> None:
    role = await world.owned_role("reader")
    await world.run(*SALES)
    directory = manifests(tmp_path, world, role)
    _, output, _ = await asyncio.to_thread(run_plan, world, directory)
    grant = access_grant("g", [role], [tables("sales")], privileges=["SELECT"], database=world.database)
    synced = await world.sync(grant)
    planned = [line.rstrip(";") for line in output.splitlines() if line.startswith("GRANT SELECT")]
    assert planned == [text for text in synced.changes if text.startswith("GRANT SELECT")]
