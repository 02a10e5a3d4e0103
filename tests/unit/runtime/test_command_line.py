"""The command line of the operator, as a pipeline sees it."""

from collections.abc import Sequence

import pytest
from click.testing import CliRunner

from lakebase_operator.__main__ import main


@pytest.mark.parametrize(
    "arguments",
    [
        ("plan", "-f", "."),
        ("plan", "-f", "nowhere", "--host", "h", "--user", "u"),
        ("plan", "-f", ".", "--host", "h", "--user", "u", "--port", "many"),
        ("plan", "-f", ".", "--host", "h", "--user", "u", "--unknown"),
        ("access", "--host", "h", "--user", "u"),
        ("plam", "-f", "."),
        ("--host", "h", "plan"),
    ],
    ids=" ".join,
)
def test_a_wrong_command_line_does_not_look_like_a_plan_with_changes(
    arguments: Sequence[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PGHOST", "PGUSER", "PGPORT", "PGDATABASE"):
        monkeypatch.delenv(name, raising=False)
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 1
    assert "Error: " in result.stderr
