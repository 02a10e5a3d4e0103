"""New data directories, quickly: `initdb` runs once per version and machine, after that its result is copied."""

import os
import shutil
import subprocess
import tempfile
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from lakebase_sandbox.postgres.directories import give_to_server, server_account, temporary_root
from lakebase_sandbox.postgres.installation import wheel_installation

_INITDB_OPTIONS = (
    "--encoding=UTF8",
    "--locale=C.UTF-8",
    "--auth=trust",
    "--no-sync",
    "--no-instructions",
    "--wal-segsize=1",  # MB; there is less to copy then
)


def new_cluster(version: int, superuser: str, data_directory: Path) -> None:
    """Make the data directory of a new cluster, with `superuser` as its bootstrap superuser without a password.

    Raises:
        subprocess.CalledProcessError: `initdb` failed; `output` says why.
    """
    template = _template(version, superuser)
    subprocess.run(["cp", "-a", str(template), str(data_directory)], check=True)


def copy_cluster(
    version: int, superuser: str, socket_directory: Path, port: int, data_directory: Path
) -> None:
    """Make a data directory that is a copy of a running server's (`pg_basebackup`).

    Raises:
        subprocess.CalledProcessError: the copy failed; `output` says why.
    """
    data_directory.mkdir(mode=0o700)
    give_to_server(data_directory)
    _run_as_server(
        [
            str(wheel_installation(version) / "bin" / "pg_basebackup"),
            f"--pgdata={data_directory}",
            f"--host={socket_directory}",
            f"--port={port}",
            f"--username={superuser}",
            "--checkpoint=fast",
            "--wal-method=stream",
            "--no-sync",
            "--no-manifest",
        ]
    )


def _template(version: int, superuser: str) -> Path:
    installation = wheel_installation(version)
    build = (installation / "bin" / "postgres").stat()
    made_of = f"{superuser} {build.st_size} {build.st_mtime_ns} {_INITDB_OPTIONS}"
    template = temporary_root() / f"cluster-{version}-{sha256(made_of.encode()).hexdigest()[:12]}"
    if template.exists():
        return template
    # Made beside its final place and moved there when complete: whoever comes first wins.
    workplace = Path(tempfile.mkdtemp(prefix="initdb-", dir=template.parent))
    try:
        give_to_server(workplace)
        _run_as_server(
            [
                str(installation / "bin" / "initdb"),
                f"--pgdata={workplace / 'data'}",
                f"--username={superuser}",
                *_INITDB_OPTIONS,
            ]
        )
        with suppress(OSError):  # another process was quicker
            (workplace / "data").rename(template)
    finally:
        shutil.rmtree(workplace, ignore_errors=True)
    return template


def _run_as_server(command: list[str]) -> None:
    account = server_account()
    subprocess.run(
        command,
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        cwd="/",
        env=server_environment(),
        user=account,
        group=account,
        extra_groups=None if account is None else [],
    )


def server_environment() -> dict[str, str]:
    """What PostgreSQL's programs get of our environment: nothing that changes their behaviour."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8", "TZ": "UTC"}
