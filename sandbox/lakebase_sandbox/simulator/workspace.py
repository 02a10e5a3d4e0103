"""The simulated workspace: what exists in it, and the targets that run."""

import asyncio
import re
import ssl
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from lakebase_sandbox.gateway import ReservedPort
from lakebase_sandbox.postgres import OPERATOR, PROJECT_OWNER, PostgresServer
from lakebase_sandbox.simulator.credentials import TokenIssuer
from lakebase_sandbox.simulator.directory import Directory, Entry, new_secret
from lakebase_sandbox.simulator.faults import Faults
from lakebase_sandbox.simulator.operations import Operations
from lakebase_sandbox.simulator.permissions import INSTANCES, PROJECTS, AccessControl, Level
from lakebase_sandbox.simulator.records import Branch, Catalog, Endpoint, Instance, Project, ResourceId
from lakebase_sandbox.simulator.settings import (
    AutoscalingTarget,
    ProvisionedTarget,
    SimulatorSettings,
    TargetSettings,
)
from lakebase_sandbox.simulator.stats import Stats
from lakebase_sandbox.simulator.target import GATEWAY_HOST, Target, TargetState, resource_of

WORKSPACE_ID = "1234567890123456"
ACCOUNT_ID = "7d1f2c9e-3a5b-4c6d-8e9f-0a1b2c3d4e5f"

_RESOURCE = re.compile(r"projects/[^/]+/branches/[^/]+/endpoints/[^/]+|instances/[^/]+")


class Workspace:
    """Everything the APIs work on.

    Parameters:
        tls: what the gateways show their clients.
        targets_changed: called when a target was added or removed.
    """

    def __init__(
        self,
        settings: SimulatorSettings,
        tls: ssl.SSLContext,
        targets_changed: Callable[[], None] = lambda: None,
    ) -> None:
        self.settings = settings
        self.stats = Stats()
        self.faults = Faults()
        self.directory = Directory(self._tell_servers_identities)
        self.issuer = TokenIssuer(WORKSPACE_ID)
        self.access = AccessControl(self.directory)
        self.operations = Operations(settings.operation_seconds)
        self.targets: dict[str, Target] = {}
        self._target_names: set[str] = set()  # of those that are being started or stopped, too
        self._ports: dict[
            str, ReservedPort
        ] = {}  # by resource; whatever is made anew has the port that it had before
        self.projects: dict[str, Project] = {}  # these by full name
        self.branches: dict[str, Branch] = {}
        self.endpoints: dict[str, Endpoint] = {}
        self.instances: dict[str, Instance] = {}  # by name
        self.catalogs: dict[str, Catalog] = {}  # by name
        self._resource_ids: dict[str, dict[str, ResourceId]] = {}
        self._passwords: dict[tuple[str, int], str] = {}
        self._tls = tls
        self._targets_changed = targets_changed

        self.owner = self.directory.add(PROJECT_OWNER)
        self.operator = self.directory.add(
            OPERATOR, display_name="lakebase-operator", secret=settings.client_secret or new_secret()
        )
        for identity in settings.identities:
            self.directory.add(identity)
        self.directory.federation_policies.extend(settings.federation_policies)

    async def start(self) -> None:
        targets = await asyncio.gather(*(self.add_target(target) for target in self.settings.targets))
        self.targets = {target.name: target for target in targets}  # in the order of the settings

    async def stop(self) -> None:
        await self.operations.close()
        await asyncio.gather(*(target.stop() for target in self.targets.values()))
        self.targets.clear()
        for port in self._ports.values():
            port.close()
        self._ports.clear()

    async def add_target(
        self,
        settings: TargetSettings,
        *,
        creator: Entry | None = None,
        copy_of: PostgresServer | None = None,
        state: TargetState | None = None,
    ) -> Target:
        """Start a target and register what the control plane knows of it.

        Parameters:
            creator: who may manage it, besides the operator; default the project owner.
            copy_of: the server whose data it starts with.
            state: the state it begins in; default ACTIVE or AVAILABLE.

        Raises:
            ValueError: the name is taken.
        """
        if settings.name in self._target_names:
            raise ValueError(f"there is a target '{settings.name}' already")
        self._target_names.add(settings.name)
        logs = self.settings.log_directory
        target = Target(
            settings,
            simulator=self.settings,
            directory=self.directory,
            issuer=self.issuer,
            stats=self.stats,
            tls=self._tls,
            port=self._port(resource_of(settings)),
            log_directory=None if logs is None else logs / settings.name,
            copy_of=copy_of,
            held=lambda: self.faults.stuck_starting,
        )
        try:
            await target.start(state)
        except BaseException:
            self._target_names.discard(settings.name)
            raise
        self.targets[settings.name] = target
        match settings:
            case AutoscalingTarget():
                self._register_endpoint(settings, creator or self.owner)
            case ProvisionedTarget():
                self._register_instance(settings, creator or self.owner)
        self._targets_changed()
        return target

    async def remove_target(self, target: Target) -> None:
        del self.targets[target.name]
        await target.stop()
        self._target_names.discard(target.name)
        self._targets_changed()

    def port_of(self, resource: str) -> int:
        """The port of the gateway of an endpoint or instance; of one that is still to be made, the port that it will have.

        Parameters:
            resource: `projects/…/branches/…/endpoints/…` or `instances/…`.

        Raises:
            ValueError: it is neither.
        """
        if not _RESOURCE.fullmatch(resource):
            raise ValueError(
                f"'{resource}' is neither projects/…/branches/…/endpoints/… nor instances/… with a name"
            )
        return self._port(resource).number

    def set_native_login(self, target: Target, *, enabled: bool) -> None:
        """Switch native login as a person with the right to do so would, past the operator."""
        setting = {"enable_pg_native_login": enabled}
        match target.settings:
            case AutoscalingTarget(project=project_id):
                name = f"projects/{project_id}"
                project = self.projects[name]
                self.projects[name] = replace(project, spec={**project.spec, **setting})
                concerned = self.project_targets(project_id)
            case ProvisionedTarget(instance=name):
                instance = self.instances[name]
                self.instances[name] = replace(
                    instance, spec={**instance.spec, **setting}, effective={**instance.effective, **setting}
                )
                concerned = [target]
        for each in concerned:
            each.enable_pg_native_login = enabled

    def free_target_name(self, wanted: str) -> str:
        """A name for a new target: projects and instances have names of their own, and may be called the same."""
        names = (wanted, *(f"{wanted}-{number}" for number in range(2, len(self._target_names) + 3)))
        return next(name for name in names if name not in self._target_names)

    def branch_target(self, branch_name: str) -> Target | None:
        """The target that serves a branch; None where it has no read-write endpoint."""
        for target in self.targets.values():
            match target.settings:
                case AutoscalingTarget(project=project, branch=branch):
                    if f"projects/{project}/branches/{branch}" == branch_name:
                        return target
        return None

    def project_targets(self, project_id: str) -> list[Target]:
        return [
            target
            for target in self.targets.values()
            if isinstance(target.settings, AutoscalingTarget) and target.settings.project == project_id
        ]

    def instance_target(self, name: str) -> Target | None:
        """The target of an instance; None while it is being made."""
        for target in self.targets.values():
            match target.settings:
                case ProvisionedTarget(instance=instance) if instance == name:
                    return target
        return None

    def resource_id(self, scope: str, name: str, default: str) -> ResourceId:
        """The resource id of a role or database called `name` in Postgres, which gets `default` when first seen.

        Parameters:
            scope: the collection's full name, such as `projects/p/branches/b/roles`.
        """
        ids = self._resource_ids.setdefault(scope, {})
        if name not in ids:
            taken = {known.id for known in ids.values()}
            unique = next(
                i for n in range(len(taken) + 1) if (i := f"{default}-{n}" if n else default) not in taken
            )
            ids[name] = ResourceId(id=unique)
        return ids[name]

    def set_resource_id(self, scope: str, name: str, resource_id: ResourceId) -> None:
        self._resource_ids.setdefault(scope, {})[name] = resource_id

    def forget_resource_id(self, scope: str, name: str) -> None:
        self._resource_ids.get(scope, {}).pop(name, None)

    def remember_password(self, branch: str, role: int, password: str) -> None:
        """Keep the password that the control plane has made for a role (its OID) of a branch."""
        self._passwords[branch, role] = password

    def password(self, branch: str, role: int) -> str | None:
        """The password that the control plane has made for a role (its OID) of a branch; None: it has made none."""
        return self._passwords.get((branch, role))

    def targets_json(self) -> dict[str, Any]:
        """The targets as `ready.json` describes them."""
        return {name: _target_json(target) for name, target in self.targets.items()}

    def _port(self, resource: str) -> ReservedPort:
        if resource not in self._ports:
            self._ports[resource] = ReservedPort()
        return self._ports[resource]

    def _tell_servers_identities(self) -> None:
        for target in self.targets.values():
            if target.server.running:
                target.server.set_identities(self.directory.identities())

    def _register_endpoint(self, settings: AutoscalingTarget, creator: Entry) -> None:
        project = Project(
            project_id=settings.project,
            owner=creator.identity.name,
            spec={
                "display_name": settings.project,
                "enable_pg_native_login": settings.enable_pg_native_login,
            },
            pg_version=settings.postgres_version,
        )
        if project.name not in self.projects:
            self.projects[project.name] = project
            self.access.create(PROJECTS, project.project_id, creator)
            self.access.grant(PROJECTS, project.project_id, self.operator, Level.CAN_MANAGE)
        is_first = not any(branch.parent == project.name for branch in self.branches.values())
        branch = Branch(project_id=settings.project, branch_id=settings.branch, default=is_first)
        self.branches.setdefault(branch.name, branch)
        endpoint = Endpoint(
            project_id=settings.project, branch_id=settings.branch, endpoint_id=settings.endpoint
        )
        self.endpoints.setdefault(endpoint.name, endpoint)

    def _register_instance(self, settings: ProvisionedTarget, creator: Entry) -> None:
        if settings.instance not in self.instances:
            spec = {"enable_pg_native_login": settings.enable_pg_native_login}
            self.instances[settings.instance] = Instance(
                name=settings.instance, creator=creator.identity.name, spec=spec, effective=spec
            )
            self.access.create(INSTANCES, settings.instance, creator)
            self.access.grant(INSTANCES, settings.instance, self.operator, Level.CAN_MANAGE)


def is_gone(target: Target | None) -> bool:
    return target is not None and target.state is TargetState.DELETED


def _target_json(target: Target) -> dict[str, Any]:
    settings = target.settings
    names = (
        {"project": settings.project, "branch": settings.branch, "endpoint": settings.endpoint}
        if isinstance(settings, AutoscalingTarget)
        else {"instance": settings.instance}
    )
    return {
        "kind": "autoscaling" if target.is_autoscaling else "provisioned",
        **names,
        "postgres_version": settings.postgres_version,
        "admin_dsn": target.admin_dsn,
        "gateway_host": GATEWAY_HOST,
        "gateway_port": target.port,
    }
