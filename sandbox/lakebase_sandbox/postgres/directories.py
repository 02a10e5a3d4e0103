"""Where servers keep their files, and the account they run under.

Nothing of a sandbox's server outlives it, so its files go to memory where there is enough: on a disk that is busy, a
new server takes several times as long. PostgreSQL refuses to run as root; run by root, its servers run as the account
nobody, which must be able to pass through every parent of its data directory.
"""

import fcntl
import os
import shutil
import signal
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil

_NOBODY = 65534
_MEMORY = Path("/dev/shm")  # noqa: S108 (what we make in it is checked to be ours)
_ENOUGH_BYTES = 2 << 30
_STOP_TIMEOUT_SECONDS = 10.0


def server_account() -> int | None:
    """The user and group id that servers run under; None: our own."""
    return _NOBODY if os.geteuid() == 0 else None


def give_to_server(path: Path) -> None:
    """Make the account that servers run under the owner of `path`."""
    account = server_account()
    if account is not None:
        os.chown(path, account, account)


def temporary_root() -> Path:
    """A directory of ours on disk, which stays.

    Raises:
        PermissionError: something of another account has that name.
    """
    return _own_directory(Path(tempfile.gettempdir()))


class ServerDirectory:
    """A new directory for one server, in memory if there is enough of it, else on disk.

    It is ours as long as we hold a lock in it. Directories whose makers are gone, however they ended, are removed on
    this occasion, and the servers that still run in them stopped.

    Raises:
        PermissionError: something of another account is in the way.
    """

    def __init__(self) -> None:
        roots = _scratch_roots()
        with ExitStack() as held:
            for root in roots:
                held.enter_context(_locked(root / "lock"))
                _remove_abandoned(root)
            self.path = Path(tempfile.mkdtemp(prefix="server-", dir=roots[0]))
            self.path.chmod(0o711)
            self._lock = ExitStack()
            self._lock.enter_context(_locked(self.path / "lock"))

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.close()


def stop_server(data_directory: Path) -> None:
    """Stop the server that runs on `data_directory`, if there is one, whoever started it."""
    try:
        pid = int((data_directory / "postmaster.pid").read_text().splitlines()[0])
        process = psutil.Process(pid)
        if str(data_directory) not in process.cmdline():  # the id belongs to another process by now
            return
        process.send_signal(signal.SIGQUIT)
        deadline = time.monotonic() + _STOP_TIMEOUT_SECONDS
        while process.status() != psutil.STATUS_ZOMBIE:  # where nobody waits for it, it stays like that
            if time.monotonic() > deadline:
                process.kill()
            time.sleep(0.01)
    except (FileNotFoundError, IndexError, ValueError, psutil.NoSuchProcess):
        return


def _scratch_roots() -> list[Path]:
    """Where servers' directories may be, the place for new ones first."""
    roots = [temporary_root()]
    if _MEMORY.is_dir() and os.access(_MEMORY, os.W_OK):
        enough = shutil.disk_usage(_MEMORY).free >= _ENOUGH_BYTES
        roots.insert(0 if enough else 1, _own_directory(_MEMORY))
    return roots


def _remove_abandoned(root: Path) -> None:
    for directory in root.glob("server-*"):
        try:
            with _locked(directory / "lock", wait=False):
                stop_server(directory / "data")
                shutil.rmtree(directory, ignore_errors=True)
        except (BlockingIOError, FileNotFoundError):  # its maker is alive, or has just removed it
            continue


@contextmanager
def _locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold a lock, which ends with us at the latest.

    Raises:
        BlockingIOError: somebody else holds it, and we are not to wait.
    """
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield


def _own_directory(parent: Path) -> Path:
    root = parent / f"lakebase-sandbox-{os.geteuid()}"
    with suppress(FileExistsError):
        root.mkdir(mode=0o711)
    status = root.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        raise PermissionError(f"{root} belongs to somebody else: remove it")
    root.chmod(0o711)
    return root
