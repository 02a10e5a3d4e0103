"""The Lakebase simulator as seen from outside: starting it, what it says when it is ready, and its admin API."""

import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import quote

import urllib3
from pydantic import BaseModel, ConfigDict

from lakebase_sandbox.errors import SandboxError
from lakebase_sandbox.processes import Processes, wait_until_ready

NAME = "simulator"
START_TIMEOUT_SECONDS = 90.0
_REQUEST_TIMEOUT_SECONDS = 120.0

COMMAND: Sequence[str] = (sys.executable, "-P", "-m", "lakebase_sandbox.simulator")


class Target(BaseModel):
    """One Postgres of the simulated workspace."""

    model_config = ConfigDict(frozen=True, extra="allow")

    kind: str
    postgres_version: int
    admin_dsn: str
    """A superuser's, past the gateway."""
    gateway_host: str
    gateway_port: int


class Simulator(BaseModel):
    """What a simulator that is ready says about itself in `ready.json`."""

    model_config = ConfigDict(frozen=True, extra="allow")

    workspace_url: str
    ca_file: Path
    client_id: str
    client_secret: str
    admin_url: str
    admin_token: str
    targets: Mapping[str, Target]


class Credential(BaseModel):
    """A short-lived password for one identity."""

    model_config = ConfigDict(frozen=True, extra="allow")

    token: str
    expires_at: datetime


def start_simulator(processes: Processes, directory: Path, command: Sequence[str] = COMMAND) -> Simulator:
    """Start the simulator in `directory` and return when it is ready.

    Raises:
        SandboxError: it ended, or took longer than `START_TIMEOUT_SECONDS`.
    """
    ready_file(directory).unlink(missing_ok=True)
    directory.mkdir(parents=True, exist_ok=True)
    record = processes.start(NAME, [*command, "--state", str(directory)])
    wait_until_ready(record, lambda: read_simulator(directory) is not None, timeout=START_TIMEOUT_SECONDS)
    simulator = read_simulator(directory)
    if simulator is None:
        raise SandboxError(f"{ready_file(directory)} has disappeared again")
    processes.note(record, address=simulator.workspace_url)
    return simulator


def ready_file(directory: Path) -> Path:
    return directory / "ready.json"


def read_simulator(directory: Path) -> Simulator | None:
    """What the simulator in `directory` said when it was ready; None: it was not, up to now."""
    with suppress(FileNotFoundError):
        return Simulator.model_validate_json(ready_file(directory).read_bytes())
    return None


class AdminClient:
    """The simulator's admin API: what happens to a Lakebase, on command."""

    def __init__(self, simulator: Simulator) -> None:
        self._url = simulator.admin_url
        self._headers = {"Authorization": f"Bearer {simulator.admin_token}"}

    def healthy(self) -> bool:
        try:
            self._request("GET", "/healthz")
        except SandboxError:
            return False
        return True

    def login(self, target: str, user: str) -> Credential:
        """A credential of `user`, as the workspace would give it to them."""
        return Credential.model_validate_json(
            self._request("POST", "/login", {"target": target, "user": user}).data
        )

    def set_state(self, target: str, state: str) -> None:
        """Bring a target's compute into a state such as ACTIVE, IDLE or STOPPED."""
        self._request("POST", "/state", {"target": target, "state": state})

    def set_native_login(self, target: str, *, enabled: bool) -> None:
        """Switch native login of a target on or off, past the operator."""
        self._request("POST", "/native-login", {"target": target, "enabled": enabled})

    def port_of(self, resource: str) -> int:
        """The port of the gateway of an endpoint or instance, also of one that is still to be made.

        Parameters:
            resource: its name in the control plane, such as `instances/marketing-db`.
        """
        return int(self._request("POST", "/ports", {"resource": resource}).json()["port"])

    def add_fault(self, target: str, name: str, arguments: Sequence[str] = ()) -> None:
        """Let something go wrong from now on."""
        self._request("POST", "/faults", {"target": target, "name": name, "args": list(arguments)})

    def clear_faults(self, target: str | None = None) -> None:
        """End the faults of one target; without one, all faults, those of the workspace too."""
        self._request("DELETE", f"/faults?target={quote(target)}" if target else "/faults")

    def _request(
        self, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> urllib3.BaseHTTPResponse:
        try:
            answer = urllib3.request(
                method,
                self._url + path,
                headers=self._headers,
                json=body,
                retries=False,
                timeout=_REQUEST_TIMEOUT_SECONDS,
            )
        except urllib3.exceptions.HTTPError as error:
            raise SandboxError(f"the simulator does not answer at {self._url}: {error}") from error
        if answer.status >= HTTPStatus.BAD_REQUEST:
            raise SandboxError(_message(answer))
        return answer


def _message(answer: urllib3.BaseHTTPResponse) -> str:
    """What the simulator says is wrong."""
    try:
        return str(answer.json()["message"])
    except (ValueError, KeyError, TypeError):
        return f"the simulator answered {answer.status}: {answer.data[:200].decode(errors='replace')}"
