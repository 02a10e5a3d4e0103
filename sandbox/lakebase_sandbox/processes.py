"""Local processes that outlive the command which starts them, and are found and stopped again by a later one.

A process is known by its id and the time it was created: an id that the system has given to somebody else since
is never taken for ours.
"""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil
from pydantic import BaseModel, ConfigDict

from lakebase_sandbox.errors import SandboxError
from lakebase_sandbox.files import write_private

STOP_GRACE_SECONDS = 20.0
_LEFTOVER_GRACE_SECONDS = 2.0
_KILL_GRACE_SECONDS = 5.0
_POLL_SECONDS = 0.03
_LOG_LINES_IN_ERRORS = 15
# A creation time is computed from the clock, which may be corrected in between.
_SAME_CREATION_SECONDS = 1.0

# A process that ended stays in the system's table until its parent, which may be us, asks how.
_children: dict[int, subprocess.Popen[bytes]] = {}


class ProcessId(BaseModel):
    """One process, told from all others that ever had or will have its id."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pid: int
    create_time: float
    """Seconds since 1970."""

    @classmethod
    def of(cls, process: psutil.Process) -> "ProcessId":
        return cls(pid=process.pid, create_time=process.create_time())

    def find(self) -> psutil.Process | None:
        """The process, if it still runs."""
        try:
            process = psutil.Process(self.pid)
            if abs(process.create_time() - self.create_time) > _SAME_CREATION_SECONDS:
                return None
            return None if process.status() == psutil.STATUS_ZOMBIE else process
        except psutil.NoSuchProcess:
            return None


class ProcessRecord(BaseModel):
    """What is written down about a process that was started."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    id: ProcessId
    log: Path
    address: str | None = None
    children: tuple[ProcessId, ...] = ()
    """Its own processes, as noted once it was ready: they may survive it when it is killed."""

    def find(self) -> psutil.Process | None:
        return self.id.find()

    def log_end(self) -> str:
        try:
            lines = self.log.read_text(errors="replace").splitlines()
        except FileNotFoundError:
            return ""
        return "\n".join(lines[-_LOG_LINES_IN_ERRORS:])


class Processes:
    """The processes of one sandbox.

    Parameters:
        records: directory of one JSON file for each process that was started and not stopped yet.
        logs: directory of one log file for each; it keeps the last run's.
    """

    def __init__(self, records: Path, logs: Path) -> None:
        self._records = records
        self._logs = logs

    def start(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        environment: Mapping[str, str] | None = None,
        address: str | None = None,
        tied: bool = False,
    ) -> ProcessRecord:
        """Start `command` in the background, out of reach of our terminal's signals.

        Parameters:
            name: what people call it; also the name of its log.
            environment: all of its environment; default ours.
            address: where it will listen, for people.
            tied: its standard input stays open as long as we live, so a program that watches for its end stops
                even when we are killed. Otherwise it is left running.

        Raises:
            SandboxError: the program could not be started.
        """
        self._logs.mkdir(parents=True, exist_ok=True)
        log = self._logs / f"{name}.log"
        try:
            with log.open("wb") as output:
                child = subprocess.Popen(
                    [os.fspath(part) for part in command],
                    stdin=subprocess.PIPE if tied else subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=environment,
                    start_new_session=True,
                )
        except OSError as error:
            raise SandboxError(f"{name} cannot be started: {error}") from error
        _children[child.pid] = child
        record = ProcessRecord(
            name=name, id=ProcessId.of(psutil.Process(child.pid)), log=log, address=address
        )
        self._save(record)
        return record

    def note(self, record: ProcessRecord, *, address: str) -> None:
        """Write down where `record` listens, now that it is ready, and which processes it has started."""
        process = record.find()
        children = process.children(recursive=True) if process else []
        ids = tuple(ProcessId.of(child) for child in children)
        self._save(record.model_copy(update={"address": address, "children": ids}))

    def all(self) -> tuple[ProcessRecord, ...]:
        """What was started and not stopped, running or not, in the order of starting."""
        records = []
        for file in self._records.glob("*.json"):
            with suppress(FileNotFoundError):  # stopped at this moment
                records.append(ProcessRecord.model_validate_json(file.read_bytes()))
        return tuple(sorted(records, key=lambda record: record.id.create_time))

    def get(self, name: str) -> ProcessRecord | None:
        return next((record for record in self.all() if record.name == name), None)

    def stop(self, *names: str, grace: float = STOP_GRACE_SECONDS) -> None:
        """Stop these processes side by side, with all that they started; without names, every one.

        SIGTERM first; what still runs after `grace` seconds is killed. What has ended already is only forgotten.
        """
        records = [record for record in self.all() if not names or record.name in names]
        leaders = [process for record in records if (process := record.find())]
        families = [process for record in records for process in _family(record)]
        # A leader stops its own processes; those of one that was killed, or that hangs, are stopped here.
        for processes, number, patience in (
            (leaders, signal.SIGTERM, grace),
            (families, signal.SIGTERM, _LEFTOVER_GRACE_SECONDS),
            (families, signal.SIGKILL, _KILL_GRACE_SECONDS),
        ):
            _end(processes, number, patience)
        for record in records:
            (self._records / f"{record.name}.json").unlink(missing_ok=True)

    def _save(self, record: ProcessRecord) -> None:
        write_private(self._records / f"{record.name}.json", record.model_dump_json(indent=2))


def wait_until_ready(record: ProcessRecord, ready: Callable[[], bool], *, timeout: float) -> None:
    """Ask `ready` again and again until it says yes.

    Raises:
        SandboxError: the process ended first, or took longer than `timeout` seconds; with the end of its log.
    """
    deadline = time.monotonic() + timeout
    while not ready():
        if record.find() is None:
            raise SandboxError(
                f"{record.name} ended while starting; its log {record.log} ends:\n{record.log_end()}"
            )
        if time.monotonic() > deadline:
            raise SandboxError(
                f"{record.name} was not ready after {timeout:.0f} s; its log {record.log} ends:\n{record.log_end()}"
            )
        time.sleep(_POLL_SECONDS)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _family(record: ProcessRecord) -> list[psutil.Process]:
    found = [process for child in record.children if (process := child.find())]
    if leader := record.find():
        with suppress(psutil.NoSuchProcess):
            found = [leader, *{*found, *leader.children(recursive=True)}]
    return found


def _end(processes: Iterable[psutil.Process], number: signal.Signals, patience: float) -> None:
    """Send the signal to those that still run, and wait at most `patience` seconds for their end."""
    running = [process for process in processes if not _ended(process)]
    for process in running:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)
    deadline = time.monotonic() + patience
    while running and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
        running = [process for process in running if not _ended(process)]


def _ended(process: psutil.Process) -> bool:
    try:
        ended = not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        ended = True
    if ended and (child := _children.pop(process.pid, None)):
        child.wait()
        if child.stdin is not None:
            child.stdin.close()
    return ended
