"""The Lakebase simulator: a Databricks workspace with running databases, as a library."""

import asyncio
import json
import secrets
import socket
import ssl
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import trustme
from aiohttp import web

from lakebase_sandbox.postgres import OPERATOR, IdentityKind
from lakebase_sandbox.simulator.admin import admin_app
from lakebase_sandbox.simulator.api import workspace_app
from lakebase_sandbox.simulator.directory import Entry, kind_of
from lakebase_sandbox.simulator.faults import WORKSPACE_FAULTS, WORKSPACE_ONLY_FAULTS, Faults, set_fault
from lakebase_sandbox.simulator.settings import FederationPolicy, SimulatorSettings, TargetSettings
from lakebase_sandbox.simulator.target import Target, TargetState
from lakebase_sandbox.simulator.workspace import Workspace

ALL_TARGETS = "all"
HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Login:
    """A database credential for somebody."""

    token: str
    expires_at: datetime


class LakebaseSimulator:
    """A running workspace, usable as `async with LakebaseSimulator(SimulatorSettings(...)) as simulator:`.

    Parameters:
        settings: what it consists of.
        state_directory: where `ready.json` and the CA certificate go; None: only a CA certificate, in a temporary
            directory.

    `ready.json` says how to reach everything, and is written anew when targets are added or removed. It holds
    secrets, so only its owner may read it.
    """

    def __init__(
        self, settings: SimulatorSettings | None = None, *, state_directory: Path | None = None
    ) -> None:
        self.settings = settings or SimulatorSettings()
        self.admin_token = secrets.token_urlsafe(24)
        self._ca = trustme.CA()
        self._state_directory = state_directory
        self._exits = AsyncExitStack()
        self._ready = False
        self.workspace = Workspace(self.settings, self._server_tls(), self._targets_changed)
        self.workspace_url = ""
        self.admin_url = ""
        self.ca_file = Path()

    @property
    def client_id(self) -> str:
        """The operator's service principal."""
        return OPERATOR.name

    @property
    def client_secret(self) -> str:
        entry = self.workspace.directory.find(IdentityKind.SERVICE_PRINCIPAL, OPERATOR.name)
        assert entry is not None
        assert entry.secret is not None
        return entry.secret

    @property
    def targets(self) -> dict[str, Target]:
        return self.workspace.targets

    async def start(self) -> None:
        """Start everything.

        Raises:
            PostgresError: a server could not be started.
        """
        try:
            directory = self._state_directory or Path(
                self._exits.enter_context(tempfile.TemporaryDirectory(prefix="lakebase-ca-"))
            )
            self.ca_file = directory / "ca.crt"
            self.ca_file.write_bytes(self._ca.cert_pem.bytes())
            self._exits.push_async_callback(self.workspace.stop)
            await self.workspace.start()
            app = workspace_app(self.workspace)
            self.workspace_url = f"https://localhost:{await self._serve(app, self._server_tls())}"
            admin = admin_app(self, self.admin_token)
            self.admin_url = f"http://{HOST}:{await self._serve(admin, None)}"
            self._ready = True
            self._targets_changed()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        self._ready = False
        await self._exits.aclose()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    # What tests and the admin API do with it

    def target(self, name: str) -> Target:
        """The target of that name.

        Raises:
            LookupError: there is none.
        """
        if name not in self.targets:
            raise LookupError(f"there is no target '{name}': choose one of {', '.join(self.targets)}")
        return self.targets[name]

    async def add_target(self, settings: TargetSettings) -> Target:
        """Start one more target."""
        return await self.workspace.add_target(settings)

    async def set_state(self, target: str, state: str) -> None:
        """Put a target into a state (see `TargetState`; upper or lower case).

        Raises:
            LookupError: no such target.
            ValueError: targets of its kind have no such state.
        """
        found = self.target(target)
        name = state.upper().replace("-", "_")
        if name == "GONE":
            name = "DELETED"
        if name not in TargetState.__members__:
            raise ValueError(f"there is no state '{state}': choose one of {', '.join(TargetState)}")
        await found.set_state(TargetState[name])

    def set_native_login(self, target: str, *, enabled: bool) -> None:
        """Switch native login of a target on or off, past the operator.

        Raises:
            LookupError: no such target.
        """
        self.workspace.set_native_login(self.target(target), enabled=enabled)

    async def fault(self, target: str, name: str, *args: str | int) -> None:
        """Switch a fault on (see `faults.USAGE`), for one target or for `all`: HTTP faults and some others then concern the
        whole workspace.

        Raises:
            LookupError: no such target.
            ValueError: no such fault, or arguments that do not fit.
        """
        words = [str(arg) for arg in args]
        if target != ALL_TARGETS and name in WORKSPACE_ONLY_FAULTS:
            raise ValueError(
                f"the fault '{name}' concerns the whole workspace: its target is '{ALL_TARGETS}'"
            )
        if target == ALL_TARGETS and name in WORKSPACE_FAULTS:
            set_fault(self.workspace.faults, name, words)
            return
        targets = list(self.targets.values()) if target == ALL_TARGETS else [self.target(target)]
        for each in targets:
            missing = set(each.faults.missing)
            set_fault(each.faults, name, words)
            await each.apply()
            await each.apply_rights(missing)
            if name == "drop":
                each.gateway.cut_sessions(each.faults.cut_after or 0)

    async def clear_faults(self, target: str | None = None) -> None:
        """Switch all faults off, of one target or of all and the workspace."""
        if target in {None, ALL_TARGETS}:
            self.workspace.faults = Faults()
            targets = list(self.targets.values())
        else:
            targets = [self.target(str(target))]
        for each in targets:
            missing, each.faults = each.faults.missing, Faults()
            await each.apply()
            await each.apply_rights(missing)

    def login(self, target: str, user: str) -> Login:
        """A credential with which `user` can log in to a target, if a role for that identity exists there.

        The name of a known group gives a credential that is good for logging in as the group. An unknown user
        becomes an identity: with an `@` a user, otherwise a service principal.

        Raises:
            LookupError: no such target.
        """
        found = self.target(target)
        entry = self.workspace.directory.find_any(user)
        if entry is None:
            entry = self.workspace.directory.ensure(kind_of(user), user)
        issued = self.workspace.issuer.database_credential(
            entry.identity, [found.resource], self.settings.credential_seconds
        )
        return Login(issued.token, datetime.fromtimestamp(issued.expires_at, UTC))

    def add_identity(
        self, kind: IdentityKind | str, name: str, *, secret: str | None = None, members: Sequence[str] = ()
    ) -> Entry:
        """Add an identity to the workspace, or change the one of that kind and name.

        Parameters:
            kind: `user`, `service_principal` or `group`.
            secret: the OAuth secret of a service principal; without it a new one gets a random one.
            members: names of the identities that a group is to have.

        Raises:
            LookupError: a member is unknown.
            ValueError: no such kind.
        """
        directory = self.workspace.directory
        ids = set()
        for member in members:
            found = directory.find_any(member)
            if found is None:
                raise LookupError(f"there is no identity '{member}'")
            ids.add(found.identity.id)
        entry = directory.ensure(IdentityKind(kind), name)
        if members:
            entry = directory.set_members(entry, frozenset(ids))
        return directory.set_secret(entry, secret) if secret else entry

    def add_federation_policy(self, policy: FederationPolicy) -> None:
        """Accept tokens of another issuer for a service principal."""
        self.workspace.directory.federation_policies.append(policy)

    def stats(self) -> dict[str, Any]:
        """What happened so far: `requests`, `secret_sightings`, and per target wake-ups and logins."""
        return self.workspace.stats.to_json()

    def ready_json(self) -> dict[str, Any]:
        """How to reach everything, secrets included."""
        return {
            "workspace_url": self.workspace_url,
            "ca_file": str(self.ca_file),
            "client_id": self.client_id,
            "client_secret": self.client_secret,
            "admin_url": self.admin_url,
            "admin_token": self.admin_token,
            "targets": self.workspace.targets_json(),
        }

    def _targets_changed(self) -> None:
        if self._ready and self._state_directory is not None:
            write_private(self._state_directory / "ready.json", json.dumps(self.ready_json(), indent=2))

    def _server_tls(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._ca.issue_cert("localhost", HOST).configure_cert(context)
        return context

    async def _serve(self, app: web.Application, tls: ssl.SSLContext | None) -> int:
        """Serve an application on a free port until the end; return the port."""
        runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
        await runner.setup()
        self._exits.push_async_callback(runner.cleanup)
        listener = socket.create_server((HOST, 0), backlog=512)
        await web.SockSite(runner, listener, ssl_context=tls).start()
        port: int = listener.getsockname()[1]
        return port


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read, all of it or nothing."""
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    new.touch(mode=0o600)
    new.write_text(text)
    new.replace(path)


async def run_until(simulator: LakebaseSimulator, stop: asyncio.Event) -> None:
    """Run a simulator until `stop` is set."""
    async with simulator:
        await stop.wait()
