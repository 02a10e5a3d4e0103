"""What a shell makes of the output of `lakebase-sandbox env`."""

import shlex


def exports(output: str) -> dict[str, str]:
    """The variables that a shell would have after evaluating the output."""
    words = [shlex.split(line) for line in output.splitlines()]
    assert all(len(line) == 2 and line[0] == "export" for line in words)
    return dict(line[1].split("=", 1) for line in words)
