"""How a connection is reached: its Secrets, its control plane, its credential, its sessions."""

import hashlib
import os
import tempfile
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from lakebase_operator.api import LakebaseConnection
from lakebase_operator.api.base import SecretKeyRef
from lakebase_operator.api.lakebase_connection import LakebaseConnectionSpec
from lakebase_operator.api.reasons import Reason
from lakebase_operator.domain.errors import InvalidError, NotReadyError, TransientError
from lakebase_operator.domain.instance import Credential, Instance, InstanceState
from lakebase_operator.domain.tokens import refused_token
from lakebase_operator.engine.observer import NullObserver, Observer
from lakebase_operator.external.databricks import (
    AutoscalingTarget,
    ControlPlane,
    ProvisionedTarget,
    RoleApi,
    Target,
)
from lakebase_operator.external.postgres.session import Connection, Server, Timeouts, connect
from lakebase_operator.reconcilers.timing import observed
from lakebase_operator.reconcilers.workspaces import SecretValues as SecretValues  # noqa: PLC0414  # re-exported
from lakebase_operator.reconcilers.workspaces import Workspaces, secret_text

_REJECTED = frozenset(
    {
        Reason.TOKEN_EXPIRED,
        Reason.PASSWORD_REJECTED,
        Reason.OPERATOR_ROLE_MISSING,
        Reason.OPERATOR_ROLE_NOT_LOGIN,
    }
)
"""The server answered, and did not let the operator in."""


class Login(Protocol):
    """Where the server is and how to log in."""

    @property
    def workspace_url(self) -> str | None:
        """The workspace to which the server belongs, if it is known."""

    async def instance(self) -> Instance:
        """State and host."""

    async def credential(self, *, fresh: bool = False) -> Credential:
        """A login that is valid now."""

    async def is_service_principal(self) -> bool | None:
        """None: not a Databricks identity."""

    def roles(self) -> RoleApi | None:
        """Roles as the Databricks API knows them; None: there is no such API."""

    async def native_login(self) -> bool | None:
        """Whether roles may log in with a password. None: nobody can be asked."""


@dataclass(frozen=True, slots=True)
class PasswordLogin:
    """A native login with a password, at a host that is given or that the control plane names."""

    user: str
    password: str
    host: str
    workspace_url: str | None = None
    asleep: bool = False
    """Somebody else has asked the control plane, and the compute is scaled to zero."""

    async def instance(self) -> Instance:
        """There is no control plane to ask: connecting tells, but for what is known to sleep."""
        return Instance(InstanceState.ASLEEP if self.asleep else InstanceState.AVAILABLE, self.host)

    async def credential(self, *, fresh: bool = False) -> Credential:  # noqa: ARG002  # a password is what it is
        """The password from the Secret."""
        return Credential(self.user, self.password, None)

    async def is_service_principal(self) -> bool | None:
        """A native role is no Databricks identity."""
        return None

    def roles(self) -> RoleApi | None:
        """A password says nothing to the Databricks API."""
        return None

    async def native_login(self) -> bool | None:
        """There is no control plane to ask."""
        return None


@dataclass(frozen=True, slots=True)
class DatabricksLogin:
    """A Databricks identity that logs in with database credentials."""

    control_plane: ControlPlane
    workspace_url: str | None = None

    async def instance(self) -> Instance:
        """As the control plane says."""
        return await self.control_plane.instance()

    async def credential(self, *, fresh: bool = False) -> Credential:
        """A database credential, from memory while it lasts."""
        return await self.control_plane.credential(fresh=fresh)

    async def is_service_principal(self) -> bool | None:
        """Whether the identity is one."""
        return (await self.control_plane.identity()).is_service_principal

    def roles(self) -> RoleApi | None:
        """As the control plane has them."""
        return self.control_plane.roles()

    async def native_login(self) -> bool | None:
        """As the control plane says."""
        return await self.control_plane.native_login()


@dataclass(frozen=True, slots=True)
class Access:
    """A way into the databases of one connection."""

    login: Login
    server: Server
    instance: Instance
    observer: Observer = NullObserver()  # noqa: RUF009  # it has no state

    async def open(self, database: str) -> Connection:
        """A session in ``database``. If an OAuth credential is refused, it is tried once more with a fresh one.

        Raises
        ------
        LakebaseError
            See ``external.postgres.errors``.
        """
        credential = await self.login.credential()
        try:
            return await self._connect(credential, database)
        except InvalidError as error:
            if error.reason is not Reason.TOKEN_EXPIRED:
                raise self._explained(error, credential) from error.__cause__
        except TransientError as error:
            if self.instance.state is InstanceState.ASLEEP and error.reason is Reason.UNREACHABLE:
                raise NotReadyError(
                    Reason.RESUMING, f"The compute is waking up. {error.message} It is tried again shortly."
                ) from error
            raise
        self.observer.credential("Rejected")
        credential = await self.login.credential(fresh=True)
        try:
            connection = await self._connect(credential, database)
        except InvalidError as error:
            raise self._explained(error, credential) from error.__cause__
        self.observer.credential("Renewed")
        return connection

    def _explained(self, error: InvalidError, credential: Credential) -> InvalidError:
        """What a refused token says of itself, where it is one."""
        if error.reason not in (Reason.TOKEN_EXPIRED, Reason.PASSWORD_REJECTED):
            return error
        where, now = f"{self.server.host}:{self.server.port}", datetime.now(UTC)
        return refused_token(credential.password, self.login.workspace_url, where, now) or error

    async def _connect(self, credential: Credential, database: str) -> Connection:
        try:
            return await observed(
                self.observer, "postgres", "connect", connect(self.server, credential, database)
            )
        except InvalidError as error:
            if error.reason in _REJECTED:
                self.observer.login("Rejected")
            raise

    @asynccontextmanager
    async def session(self, database: str) -> AsyncIterator[Connection]:
        """:meth:`open`, closed at the end."""
        connection = await self.open(database)
        try:
            yield connection
        finally:
            await connection.close()


class Logins:
    """Makes logins, and keeps those of Databricks, whose credentials are shared and renewed in memory.

    Parameters
    ----------
    executor
        Threads for the blocking SDK.
    token_path
        The operator's projected service-account token, for workload identity.
    """

    def __init__(self, executor: ThreadPoolExecutor, token_path: Path | None) -> None:
        self._workspaces = Workspaces(executor, token_path)

    def login(self, spec: LakebaseConnectionSpec, secrets: SecretValues, *, asleep: bool = False) -> Login:
        """The login that a connection declares.

        Parameters
        ----------
        spec, secrets
            What is declared.
        asleep
            The compute is known to sleep: what a login with a password cannot ask.

        Raises
        ------
        LakebaseError
            A Secret or a key is missing, or a value cannot be used.
        """
        if spec.auth.password is not None:
            user = secret_text(secrets, spec.auth.password.secret_ref.name, "username")
            password = secret_text(secrets, spec.auth.password.secret_ref.name, "password")
            host = spec.target.server.host if spec.target.server else spec.host
            if host is None:
                raise InvalidError(
                    Reason.INVALID_SPEC,
                    "spec.host: give the host, since a password login does not ask the Databricks API for it.",
                )
            return PasswordLogin(user, password, host, spec.workspace_url, asleep)
        workspace = self._workspaces.get(spec.workspace_url, spec.auth, secrets)
        return DatabricksLogin(workspace.control_plane(target_of(spec)), spec.workspace_url)


def target_of(spec: LakebaseConnectionSpec) -> Target:
    """What a connection points at in its workspace.

    Raises
    ------
    InvalidError
        Nothing there: it points at a server.
    """
    if spec.target.autoscaling is not None:
        target = spec.target.autoscaling
        return AutoscalingTarget(target.project, target.branch, target.endpoint)
    if spec.target.provisioned is not None:
        return ProvisionedTarget(spec.target.provisioned.instance)
    raise InvalidError(
        Reason.INVALID_SPEC,
        "spec.auth: a server target logs in with auth.password; OAuth credentials are made for a Lakebase target.",
    )


def secret_names(connection: LakebaseConnection) -> frozenset[str]:
    """Secrets that a connection needs, all in its own namespace."""
    spec = connection.spec
    names: set[str] = set()
    if spec.auth.oauth_m2m is not None:
        names.add(spec.auth.oauth_m2m.client_secret_ref.name)
    if spec.auth.password is not None:
        names.add(spec.auth.password.secret_ref.name)
    if spec.tls.ca_ref is not None:
        names.add(spec.tls.ca_ref.name)
    return frozenset(names)


def server(
    connection: LakebaseConnection, instance: Instance, secrets: SecretValues, timeouts: Timeouts
) -> Server:
    """Where to connect to.

    Raises
    ------
    LakebaseError
        There is no host, or another one than expected.
    """
    spec = connection.spec
    if instance.host is None:
        raise NotReadyError(
            Reason.INSTANCE_STARTING, "The control plane gives no host yet. It is asked again shortly."
        )
    if spec.host is not None and spec.host.casefold() != instance.host.casefold():
        raise InvalidError(
            Reason.HOSTNAME_MISMATCH,
            f'spec.host is "{spec.host}", but the control plane says "{instance.host}". Correct it, or leave it out.',
        )
    ca_file = _ca_file(spec.tls.ca_ref, secrets) if spec.tls.ca_ref else None
    return Server(instance.host, spec.port, spec.tls.mode, ca_file, timeouts)


def _ca_file(reference: SecretKeyRef, secrets: SecretValues) -> str:
    """libpq reads certificates from a file only: one per content, made once."""
    content = secret_text(secrets, reference.name, reference.key).encode()
    directory = Path(tempfile.gettempdir()) / f"lakebase-operator-{os.getuid()}"
    directory.mkdir(mode=0o700, exist_ok=True)
    path = directory / f"{hashlib.sha256(content).hexdigest()}.pem"
    if not path.exists():
        partial = path.with_suffix(f".{os.getpid()}")
        partial.write_bytes(content)
        partial.replace(path)
    return str(path)
