"""Processes that outlive the command which starts them."""

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from lakebase_sandbox.errors import SandboxError
from lakebase_sandbox.files import write_private
from lakebase_sandbox.processes import Processes, ProcessId, ProcessRecord, wait_until_ready
from tests.sandbox.waiting import eventually

PAUSE_SCRIPT = "import signal; signal.pause()"
STUBBORN_SCRIPT = """
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("deaf", flush=True)
signal.pause()
"""
PARENT_SCRIPT = """
import signal, subprocess, sys
command = [sys.executable, "-c", "import signal; signal.pause()"]
print(subprocess.Popen(command, start_new_session=True).pid, flush=True)
signal.pause()
"""
PAUSE = [sys.executable, "-c", PAUSE_SCRIPT]


@pytest.fixture
def processes(tmp_path: Path) -> Processes:
    return Processes(tmp_path / "run", tmp_path / "logs")


def test_a_later_command_finds_and_stops_what_an_earlier_one_started(tmp_path: Path) -> None:
    record = Processes(tmp_path / "run", tmp_path / "logs").start("pause", PAUSE)
    later = Processes(tmp_path / "run", tmp_path / "logs")

    assert later.all() == (record,)
    assert record.find() is not None
    later.stop()
    assert record.find() is None
    assert later.all() == ()


def test_only_the_named_processes_are_stopped(processes: Processes) -> None:
    one, other = processes.start("one", PAUSE), processes.start("other", PAUSE)

    processes.stop("one")

    assert one.find() is None
    assert other.find() is not None
    processes.stop()


def test_a_process_that_ignores_the_request_is_killed(processes: Processes) -> None:
    record = processes.start("stubborn", [sys.executable, "-c", STUBBORN_SCRIPT])
    wait_until_ready(record, lambda: "deaf" in record.log_end(), timeout=20)

    processes.stop(grace=0.2)

    assert record.find() is None


def test_a_stranger_with_a_recycled_id_is_left_alone(processes: Processes, tmp_path: Path) -> None:
    with subprocess.Popen(PAUSE) as stranger:
        real = ProcessId.of(psutil.Process(stranger.pid))
        stale = ProcessRecord(
            name="stale",
            id=real.model_copy(update={"create_time": real.create_time - 3600}),
            log=tmp_path / "stale.log",
        )
        write_private(tmp_path / "run" / "stale.json", stale.model_dump_json())

        assert processes.all() == (stale,)
        assert stale.find() is None
        processes.stop(grace=0.1)

        assert stranger.poll() is None
        assert processes.all() == ()
        stranger.kill()


def test_what_a_killed_process_leaves_behind_is_stopped(processes: Processes) -> None:
    record = processes.start("parent", [sys.executable, "-c", PARENT_SCRIPT])
    wait_until_ready(record, lambda: bool(record.log_end()), timeout=20)
    child = ProcessId.of(psutil.Process(int(record.log_end())))
    processes.note(record, address="http://127.0.0.1:1")
    leader = record.find()
    assert leader is not None
    leader.kill()

    processes.stop()

    assert child.find() is None


def test_a_process_that_ends_while_starting_is_reported_with_the_end_of_its_log(processes: Processes) -> None:
    record = processes.start("broken", [sys.executable, "-c", "raise SystemExit('no such database')"])

    with pytest.raises(SandboxError, match=r"broken ended while starting(?s:.*)no such database"):
        wait_until_ready(record, lambda: False, timeout=20)


def test_a_process_that_is_not_ready_in_time_is_reported(processes: Processes) -> None:
    record = processes.start("slow", PAUSE)

    with pytest.raises(SandboxError, match="slow was not ready after 0 s"):
        wait_until_ready(record, lambda: False, timeout=0.1)
    processes.stop()


def test_a_program_that_does_not_exist_is_reported(processes: Processes) -> None:
    with pytest.raises(SandboxError, match="missing cannot be started"):
        processes.start("missing", ["/no/such/program"])
    assert processes.all() == ()


def test_a_tied_process_ends_when_its_starter_is_killed(tmp_path: Path) -> None:
    script = (
        "import signal, sys\n"
        "from pathlib import Path\n"
        "from lakebase_sandbox.processes import Processes\n"
        "reader = [sys.executable, '-c', 'import sys; sys.stdin.read()']\n"
        f"Processes(Path({str(tmp_path / 'run')!r}), Path({str(tmp_path)!r})).start('tied', reader, tied=True)\n"
        "print('started', flush=True)\n"
        "signal.pause()"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as starter:
        assert starter.stdout is not None
        assert starter.stdout.readline() == b"started\n"
        (record,) = Processes(tmp_path / "run", tmp_path).all()
        assert record.find() is not None
        starter.kill()

    eventually(lambda: record.find() is None)
