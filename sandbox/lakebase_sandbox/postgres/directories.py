"""Directories that PostgreSQL can use, whichever account runs the sandbox.

PostgreSQL refuses to run as root. Run by root, its servers run as the account nobody, which must be able to pass
through every parent of their data directory.
"""

import os
import stat
import tempfile
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

_NOBODY = 65534
_SOCKET_PATH_LIMIT = 107  # sockaddr_un.sun_path, less the final zero


def server_account() -> int | None:
    """The user and group id that servers run under; None: our own."""
    return _NOBODY if os.geteuid() == 0 else None


def give_to_server(path: Path) -> None:
    """Make the account that servers run under the owner of `path`."""
    account = server_account()
    if account is not None:
        os.chown(path, account, account)


def temporary_root() -> Path:
    """A directory of ours in the temporary directory, the same in every run.

    Raises:
        PermissionError: something of another account has that name.
    """
    root = Path(tempfile.gettempdir()) / f"lakebase-sandbox-{os.geteuid()}"
    with suppress(FileExistsError):
        root.mkdir(mode=0o711)
    status = root.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        raise PermissionError(
            f"{root} belongs to somebody else: remove it, or set TMPDIR to another directory"
        )
    root.chmod(0o711)
    return root


def usable_directory(wanted: Path) -> Path:
    """`wanted`, or a stand-in for it in the temporary directory where PostgreSQL could not use it.

    It cannot where the path of its socket would be too long, or where its account may not pass through a parent.
    The stand-in's name is derived from `wanted`, so a later run finds what an earlier one left.
    """
    wanted = wanted.resolve()
    socket_fits = len(os.fsencode(wanted / "run" / ".s.PGSQL.65535.lock")) <= _SOCKET_PATH_LIMIT
    parents = [parent for parent in wanted.parents if parent.exists()]
    reachable = server_account() is None or all(p.stat().st_mode & stat.S_IXOTH for p in parents)
    if socket_fits and reachable:
        return wanted
    return temporary_root() / sha256(os.fsencode(wanted)).hexdigest()[:16]
