"""`lakebase-sandbox` with the real simulator, used as a script outside the project uses it."""

from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
from click.testing import CliRunner

from lakebase_sandbox.__main__ import main
from lakebase_sandbox.postgres.identities import PROJECT_OWNER
from tests.sandbox.shell import exports


def sandbox(verb: str, state: Path, *arguments: str) -> str:
    result = CliRunner().invoke(main, [verb, "--state", str(state), *arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture
def state(short_tmp: Path) -> Iterator[Path]:
    directory = short_tmp / "round-trip"
    yield directory
    sandbox("down", directory)


def test_a_sandbox_starts_serves_both_servers_and_leaves_nothing_behind(state: Path) -> None:
    sandbox("up", state, "--no-operator")
    variables = exports(sandbox("env", state))

    servers = []
    for target, version in (("autoscaling", 18), ("provisioned", 16)):
        with psycopg.connect(variables[f"ADMIN_DSN_{target}"]) as admin:
            assert admin.info.server_version // 10000 == version
            row = admin.execute("SELECT setting FROM pg_settings WHERE name = 'data_directory'").fetchone()
            assert row is not None
            servers.append(int((Path(row[0]) / "postmaster.pid").read_text().split()[0]))
        password = sandbox("login", state, "--target", target, "--user", PROJECT_OWNER.name).strip()
        with psycopg.connect(
            host=variables[f"GATEWAY_HOST_{target}"],
            port=variables[f"GATEWAY_PORT_{target}"],
            user=PROJECT_OWNER.name,
            password=password,
            dbname="databricks_postgres",
            sslmode="verify-full",
            sslrootcert=variables["LAKEBASE_CA_FILE"],
        ) as connection:
            assert connection.execute("SELECT session_user").fetchone() == (PROJECT_OWNER.name,)

    sandbox("down", state)
    assert not any(psutil.pid_exists(pid) for pid in servers)
    assert not list((state / "run").glob("*"))
