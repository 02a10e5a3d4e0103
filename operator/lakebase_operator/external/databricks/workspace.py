"""One Databricks workspace as one identity sees it, and the control plane of each database in it."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from lakebase_operator.domain.errors import NotReadyError
from lakebase_operator.domain.instance import Credential, Instance, InstanceState

from . import questions
from .auth import Auth
from .calls import Calls
from .catalogs import CatalogApi, DatabricksCatalogs
from .credentials import CredentialCache, SingleFlight
from .errors import Task
from .instances import DatabricksLakebases, LakebaseApi
from .questions import IdentityKind
from .roles import DatabricksRoles, RoleApi
from .targets import Target


@dataclass(frozen=True, slots=True)
class Identity:
    """Who the operator is in Databricks.

    Parameters
    ----------
    user_name
        Its Postgres role too: the application id of a service principal, the e-mail address of a person.
    is_service_principal
        False for a person.
    """

    user_name: str
    is_service_principal: bool


class ControlPlane(Protocol):
    """What the operator asks of the system that runs a database server.

    All methods raise :class:`~lakebase_operator.domain.errors.LakebaseError` and nothing else.
    """

    async def instance(self) -> Instance:
        """State and host of the database server. One that is stopped or not there is an answer, not an error."""

    async def credential(self, *, fresh: bool = False) -> Credential:
        """A login that is valid now. ``fresh`` asks for a new one, since the database refused the one at hand."""

    async def identity(self) -> Identity:
        """Who the operator logs in as."""

    async def native_login(self) -> bool:
        """Whether roles may log in with a PostgreSQL password: what is in effect, not what was asked for."""

    def roles(self) -> RoleApi:
        """The roles of the database server, as the control plane knows them."""


class Workspace:
    """One workspace as one identity. It connects when it is first asked something.

    Keep one for each pair of ``url`` and ``auth``: it holds the token, the connections and the database credentials,
    all in memory only. To be used from one event loop. Parameters as for :class:`Calls`.

    Raises
    ------
    InvalidError
        ``url`` is not the address of a workspace.
    """

    def __init__(
        self,
        url: str,
        auth: Auth,
        *,
        executor: ThreadPoolExecutor,
        limit: int = 4,
        call_timeout: float = 30.0,
        http_timeout: float = 10.0,
        retry_timeout: int = 20,
    ) -> None:
        self._auth = auth
        self._call = Calls(
            url,
            auth,
            executor=executor,
            limit=limit,
            call_timeout=call_timeout,
            http_timeout=http_timeout,
            retry_timeout=retry_timeout,
        )
        self._ask_identity = SingleFlight(self._identified)
        self._identity: Identity | None = None
        self._control_planes: dict[Target, ControlPlane] = {}

    def control_plane(self, target: Target) -> ControlPlane:
        """The control plane of one database server. The same object each time, so that its credential is shared."""
        if target not in self._control_planes:
            self._control_planes[target] = _DatabricksControlPlane(self, self._call, target)
        return self._control_planes[target]

    def lakebases(self) -> LakebaseApi:
        """Making, changing and deleting whole Lakebases."""
        return DatabricksLakebases(self._call)

    def catalogs(self, target: Target) -> CatalogApi:
        """Catalogs of the databases of one target."""
        return DatabricksCatalogs(self._call, target)

    async def identity(self) -> Identity:
        """Who the operator is. Asked once: it cannot change for one login."""
        return self._identity or await self._ask_identity()

    async def identity_exists(self, kind: IdentityKind, name: str) -> bool:
        """Whether the workspace knows a user (by e-mail address), service principal (application id) or group (display name).

        Raises
        ------
        LakebaseError
            The question cannot be answered.
        """
        task = Task(f"looking for {kind} {name}", "the right to list users, service principals and groups")
        return await self._call(task, lambda client: questions.identity_exists(client, kind, name))

    async def _identified(self) -> Identity:
        task = Task("asking who the operator is", "access to the workspace")
        name = await self._call(task, questions.own_name)
        # Service principals are named by their application id, which is the client id; people by their e-mail address.
        same = name.casefold() == self._auth.client_id.casefold()
        self._identity = Identity(name, is_service_principal=same or "@" not in name)
        return self._identity


class _DatabricksControlPlane:
    """The control plane of one target, Autoscaling or Provisioned."""

    def __init__(self, workspace: Workspace, call: Calls, target: Target) -> None:
        self._workspace = workspace
        self._call = call
        self._target = target
        self._needs = f"CAN_USE or CAN_MANAGE on {target.owner}"
        self._credentials = CredentialCache(self._mint)

    async def instance(self) -> Instance:
        task = Task(f"reading {self._target}", self._needs)
        try:
            return await self._call(task, lambda client: questions.state(client, self._target))
        except NotReadyError as error:
            return Instance(InstanceState.NOT_FOUND, None, error.message)

    async def credential(self, *, fresh: bool = False) -> Credential:
        return await self._credentials.get(fresh=fresh)

    async def identity(self) -> Identity:
        return await self._workspace.identity()

    async def native_login(self) -> bool:
        task = Task(f"asking whether {self._target.owner} lets passwords in", self._needs)
        return await self._call(task, lambda client: questions.native_login(client, self._target))

    def roles(self) -> RoleApi:
        return DatabricksRoles(self._call, self._target)

    async def _mint(self) -> Credential:
        user = (await self.identity()).user_name
        task = Task(f"asking for a database credential for {self._target}", self._needs)
        password, expires_at = await self._call(
            task, lambda client: questions.credential(client, self._target)
        )
        return Credential(user, password, expires_at)
