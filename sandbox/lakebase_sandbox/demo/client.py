"""An application that logs in with a published Secret, which it sees as files, as a pod does."""

import os
import shlex
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psycopg

from lakebase_sandbox.demo.database import Session
from lakebase_sandbox.demo.narrator import UnexpectedError
from lakebase_sandbox.files import write_private

_CONNECT_TIMEOUT_SECONDS = 10
_PAUSE_SECONDS = 0.05

# psql, as far as this is about it: libpq reads its argument. The psql of the wheels was built without TLS.
_LIKE_PSQL = (
    "import psycopg, sys; print(psycopg.connect(sys.argv[1]).execute('SELECT session_user').fetchone()[0])"
)


class MountedSecret:
    """The files of a Secret, one for each key.

    As in a pod they are replaced all at once, and some time after the Secret has changed: when `refresh` is called.

    Parameters:
        directory: where they are; its path stays the same.
        read: what the Secret holds now.
    """

    def __init__(self, directory: Path, read: Callable[[], Mapping[str, bytes]]) -> None:
        self.directory = directory
        self._read = read
        self._versions = 0
        self.refresh()

    def refresh(self) -> None:
        """
        Raises:
            SandboxError: the Secret is not there.
        """
        self._versions += 1
        version = self.directory.with_name(f"{self.directory.name}.{self._versions}")
        for key, value in self._read().items():
            write_private(version / key, value)
        link = version.with_suffix(".link")
        link.unlink(missing_ok=True)
        link.symlink_to(version.name)
        link.replace(self.directory)

    def text(self, key: str) -> str:
        """What a key holds.

        Raises:
            UnexpectedError: there is no such key.
        """
        try:
            return (self.directory / key).read_text()
        except FileNotFoundError:
            raise UnexpectedError(expected=f"the Secret has the key {key}", seen="it has not") from None

    @contextmanager
    def session(self) -> Iterator[Session]:
        """A session that is logged in with `uri`.

        Raises:
            psycopg.OperationalError: they are not let in.
        """
        with self.connect() as connection:
            yield Session(self.text("username"), connection)

    def connect(self) -> psycopg.Connection[Any]:
        """
        Raises:
            psycopg.OperationalError: they are not let in.
        """
        return psycopg.connect(
            self.text("uri"),
            sslrootcert=str(self.directory / "ca.crt"),
            connect_timeout=_CONNECT_TIMEOUT_SECONDS,
            autocommit=True,
        )

    def run_psql(self) -> str:
        """Run the line `psql` where the files are; returns the user that it logs in as.

        Raises:
            UnexpectedError: it does not log in.
        """
        _, argument = shlex.split(self.text("psql"))
        answer = subprocess.run(
            [sys.executable, "-c", _LIKE_PSQL, argument],
            cwd=self.directory,
            env={**os.environ, "PGPASSWORD": self.text("password")},
            capture_output=True,
            text=True,
            check=False,
        )
        if answer.returncode:
            raise UnexpectedError(expected="psql logs in", seen=answer.stderr.strip().splitlines()[-1])
        return answer.stdout.strip()


class ReconnectingClient:
    """Logs in anew for each request, with what is mounted at that moment, until the end of the block.

    Attributes:
        users: who it was logged in as, request by request.
        errors: what went wrong.
    """

    def __init__(self, secret: MountedSecret) -> None:
        self.users: list[str] = []
        self.errors: list[str] = []
        self._secret = secret
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="client")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(_PAUSE_SECONDS):
            try:
                with self._secret.connect() as connection:
                    row = connection.execute("SELECT session_user::text").fetchone()
            except psycopg.Error as error:
                self.errors.append(str(error).strip())
            else:
                self.users.extend(row or ())
