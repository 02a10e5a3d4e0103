"""What is declared of a Lakebase, what its control plane says, and the next thing to ask for. Pure.

A Lakebase is a list of resources, parents first: a project, its branches, their endpoints; or one instance. Each has
settings, under the names that they have in a LakebaseInstance. One thing is asked for at a time: the control plane takes only
one change per branch, and after each of them it is looked at anew.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import TypeAlias

from lakebase_operator.api.durations import seconds
from lakebase_operator.api.lakebase_instance import (
    AutoscalingInstance,
    Branch,
    ComputeSize,
    Endpoint,
    LakebaseInstanceSpec,
    ProvisionedInstance,
)
from lakebase_operator.domain.instance import Instance

Value: TypeAlias = str | int | float | bool


class ResourceKind(StrEnum):
    """What the control plane manages."""

    PROJECT = "project"
    BRANCH = "branch"
    ENDPOINT = "endpoint"
    INSTANCE = "instance"


@dataclass(frozen=True, slots=True, order=True)
class Resource:
    """One thing in the control plane.

    ``name`` is its full resource name, as ``projects/p/branches/b``; of an instance, its name.
    """

    kind: ResourceKind
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"

    @property
    def id(self) -> str:
        """Its own id, without those of its parents."""
        return self.name.rpartition("/")[2]

    @property
    def parent(self) -> str:
        """Resource name of the parent: of a branch the project's, of an endpoint the branch's."""
        return self.name.rsplit("/", 2)[0]

    @property
    def place(self) -> str:
        """Where its settings are shown: nothing for a project or instance, ``branch`` or ``branch/endpoint``."""
        return "/".join(self.name.split("/")[3::2])


class Setting(StrEnum):
    """Settings of resources. Durations are in seconds."""

    NATIVE_LOGIN = "nativeLogin"
    STOPPED = "stopped"
    MIN_CU = "minCU"
    MAX_CU = "maxCU"
    SUSPEND_TIMEOUT = "suspendTimeout"
    PROTECTED = "protected"
    HISTORY_RETENTION = "historyRetention"
    BUDGET_POLICY = "budgetPolicyID"
    CAPACITY = "capacity"
    USAGE_POLICY = "usagePolicyID"
    RETENTION_DAYS = "retentionDays"
    NODES = "nodes"
    READABLE_SECONDARIES = "readableSecondaries"
    POSTGRES_VERSION = "postgresVersion"
    SOURCE = "source"
    EXPIRES_AFTER = "expiresAfter"
    READ_ONLY = "readOnly"


_DURATIONS = frozenset({Setting.SUSPEND_TIMEOUT, Setting.HISTORY_RETENTION, Setting.EXPIRES_AFTER})

Settings: TypeAlias = Mapping[Setting, Value]
NO_SETTINGS: Settings = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Wanted:
    """A declared resource."""

    resource: Resource
    settings: Settings
    """Kept as they are declared. What is not here is not touched."""
    at_creation: Settings = field(default_factory=lambda: NO_SETTINGS)
    """Given when it is made; cannot be changed, or is not looked at, afterwards."""
    creatable: bool = True
    """False: it comes with its parent and cannot be made by itself."""


@dataclass(frozen=True, slots=True)
class Found:
    """A resource as the control plane describes it."""

    resource: Resource
    settings: Settings
    """What holds now."""
    busy: bool = False
    """It is changing; nothing can be asked of it until it has."""
    deleted: bool = False
    """It is deleted, and can still be brought back."""
    instance: Instance | None = None
    """State and host of what serves a database."""
    read_only_host: str | None = None
    uid: str | None = None
    source: str | None = None
    """Of a branch: id of the branch that it was made from."""
    source_time: datetime | None = None
    version: str | None = None
    """PostgreSQL's version."""


Observation: TypeAlias = Mapping[Resource, Found]


@dataclass(frozen=True, slots=True)
class CreateStep:
    """Make a resource."""

    wanted: Wanted

    @property
    def resource(self) -> Resource:
        """What it is about."""
        return self.wanted.resource


@dataclass(frozen=True, slots=True)
class UpdateStep:
    """Change settings of a resource, and no others."""

    resource: Resource
    changes: Settings


@dataclass(frozen=True, slots=True)
class DeleteStep:
    """Delete a resource."""

    resource: Resource


Step: TypeAlias = CreateStep | UpdateStep | DeleteStep


@dataclass(frozen=True, slots=True)
class SettingRow:
    """One setting for people: what is wanted, and what holds."""

    name: str
    wanted: str
    effective: str | None
    agrees: bool = field(compare=False)


def main_resource(spec: LakebaseInstanceSpec) -> Resource:
    """The resource that the whole Lakebase is: the project or the instance."""
    if spec.autoscaling is not None:
        return Resource(ResourceKind.PROJECT, f"projects/{spec.autoscaling.project}")
    assert spec.provisioned is not None
    return Resource(ResourceKind.INSTANCE, spec.provisioned.instance)


def database_resource(spec: LakebaseInstanceSpec, branch: str | None = None) -> Resource:
    """The resource that serves the database: the read-write endpoint of a branch (default the main one), or the instance.

    Raises
    ------
    LookupError
        No such branch is declared.
    """
    lakebase = spec.autoscaling
    if lakebase is None:
        if branch is not None:
            raise LookupError("an instance of Lakebase Provisioned has no branches")
        return main_resource(spec)
    if branch in (None, lakebase.branch):
        return _endpoint(branch_resource(lakebase.project, lakebase.branch), lakebase.endpoint)
    for one in lakebase.branches:
        if one.name == branch:
            return _endpoint(branch_resource(lakebase.project, one.name), one.endpoint)
    raise LookupError(f'it declares no branch "{branch}"')


def branch_resource(project: str, branch: str) -> Resource:
    """A branch."""
    return Resource(ResourceKind.BRANCH, f"projects/{project}/branches/{branch}")


def _endpoint(branch: Resource, endpoint: Endpoint) -> Resource:
    return Resource(ResourceKind.ENDPOINT, f"{branch.name}/endpoints/{endpoint.name}")


def wanted(spec: LakebaseInstanceSpec) -> tuple[Wanted, ...]:
    """Everything that is declared, parents first."""
    if spec.autoscaling is not None:
        return tuple(_autoscaling(spec, spec.autoscaling))
    assert spec.provisioned is not None
    return (_provisioned(spec, spec.provisioned),)


def _autoscaling(spec: LakebaseInstanceSpec, lakebase: AutoscalingInstance) -> Iterator[Wanted]:
    yield Wanted(
        main_resource(spec),
        _given(
            {
                Setting.NATIVE_LOGIN: spec.native_login,
                Setting.HISTORY_RETENTION: _seconds(lakebase.history_retention),
                Setting.BUDGET_POLICY: lakebase.budget_policy_id,
            }
        ),
        # The first endpoint comes with the project: it is made as it is wanted, instead of being changed at once.
        _given({Setting.POSTGRES_VERSION: lakebase.postgres_version}) | dict(_size(lakebase.endpoint)),
    )
    main = branch_resource(lakebase.project, lakebase.branch)
    yield Wanted(main, NO_SETTINGS, creatable=False)
    yield from _computes(main, lakebase.endpoint, spec.stopped)
    for one in lakebase.branches:
        yield from _branch(lakebase, one)


def _branch(lakebase: AutoscalingInstance, branch: Branch) -> Iterator[Wanted]:
    resource = branch_resource(lakebase.project, branch.name)
    source = branch_resource(lakebase.project, branch.source or lakebase.branch)
    yield Wanted(
        resource,
        _given({Setting.PROTECTED: branch.protected}),
        _given({Setting.SOURCE: source.name, Setting.EXPIRES_AFTER: _seconds(branch.expires_after)}),
    )
    yield from _computes(resource, branch.endpoint, branch.stopped)


def _computes(branch: Resource, endpoint: Endpoint, stopped: bool | None) -> Iterator[Wanted]:
    yield Wanted(_endpoint(branch, endpoint), _given({Setting.STOPPED: stopped}) | dict(_size(endpoint)))
    for replica in endpoint.read_replicas:
        yield Wanted(
            Resource(ResourceKind.ENDPOINT, f"{branch.name}/endpoints/{replica.name}"),
            _size(replica),
            {Setting.READ_ONLY: True},
        )


def _size(size: ComputeSize) -> Settings:
    return _given(
        {
            Setting.MIN_CU: size.min_cu,
            Setting.MAX_CU: size.max_cu,
            Setting.SUSPEND_TIMEOUT: _seconds(size.suspend_timeout),
        }
    )


def _provisioned(spec: LakebaseInstanceSpec, instance: ProvisionedInstance) -> Wanted:
    return Wanted(
        main_resource(spec),
        _given(
            {
                Setting.CAPACITY: instance.capacity.value if instance.capacity else None,
                Setting.USAGE_POLICY: instance.usage_policy_id,
                Setting.RETENTION_DAYS: instance.retention_days,
                Setting.NODES: instance.nodes,
                Setting.READABLE_SECONDARIES: instance.readable_secondaries,
                Setting.STOPPED: spec.stopped,
                Setting.NATIVE_LOGIN: spec.native_login,
            }
        ),
    )


def differences(one: Wanted, found: Found) -> dict[Setting, Value]:
    """Declared settings that do not hold."""
    return {setting: value for setting, value in one.settings.items() if found.settings.get(setting) != value}


def next_step(
    declared: Sequence[Wanted],
    found: Observation,
    *,
    made: Collection[str] = (),
    keep_native_login: bool = False,
) -> Step | None:
    """The next thing to ask for, or None: all is as declared, or something is changing and has to be waited for.

    Parameters
    ----------
    made
        Resource names of what the operator made itself. Of these, an endpoint that is not declared any more is deleted. It
        holds no data; a branch does, and stays.
    keep_native_login
        Do not switch native login off, whatever is declared.
    """
    for one in declared:
        there = found.get(one.resource)
        if there is None or there.deleted:
            return CreateStep(one)
        if there.busy:
            return None
        changes = differences(one, there)
        if keep_native_login and changes.get(Setting.NATIVE_LOGIN) is False:
            del changes[Setting.NATIVE_LOGIN]
        if changes:
            return UpdateStep(one.resource, _with_both_limits(changes, one))
    return _surplus(declared, found, made)


def _surplus(declared: Sequence[Wanted], found: Observation, made: Collection[str]) -> Step | None:
    """An endpoint that the operator made and that nobody declares any more."""
    kept = {one.resource for one in declared}
    branches = {one.name for one in kept if one.kind is ResourceKind.BRANCH}
    for resource, there in sorted(found.items()):
        ours = resource.name in made and resource.parent in branches
        if resource.kind is ResourceKind.ENDPOINT and ours and resource not in kept:
            return None if there.busy else DeleteStep(resource)
    return None


def gone(declared: Sequence[Wanted], found: Observation, made: Collection[str]) -> frozenset[str]:
    """Of what the operator made, the endpoints that are neither declared nor there any more: one that has such a name later is
    somebody else's."""
    kept = {one.resource.name for one in declared} | {one.name for one in found}
    branches = [one for one in found if one.kind is ResourceKind.BRANCH]
    return frozenset(
        name
        for name in made
        if name not in kept and any(name.startswith(f"{branch.name}/") for branch in branches)
    )


def _with_both_limits(changes: Settings, one: Wanted) -> Settings:
    """The two limits of a compute are checked against each other, so they change together."""
    if not changes.keys() & {Setting.MIN_CU, Setting.MAX_CU}:
        return changes
    limits = {key: one.settings[key] for key in (Setting.MIN_CU, Setting.MAX_CU) if key in one.settings}
    return {**changes, **limits}


def problem(declared: Sequence[Wanted], found: Observation) -> str | None:
    """What is declared and can never become so, or None."""
    for one in declared:
        there = found.get(one.resource)
        if there is None:
            if not one.creatable and found:
                return (
                    f"There is no {one.resource}. A project's main branch is made with it: name the one that it has in "
                    "spec.autoscaling.branch."
                )
            if one.resource.kind is ResourceKind.ENDPOINT and Setting.READ_ONLY not in one.at_creation:
                other = _read_write(one.resource, found)
                if other is not None:
                    return (
                        f'The read-write endpoint of {one.resource.parent} is "{other.id}", not "{one.resource.id}". '
                        "Name it so in endpoint.name: a branch can have one only."
                    )
            continue
        version = one.at_creation.get(Setting.POSTGRES_VERSION)
        effective = there.settings.get(Setting.POSTGRES_VERSION)
        if version is not None and effective is not None and version != effective:
            return (
                f"spec.autoscaling.postgresVersion is {version}, but the {one.resource} has PostgreSQL {effective}. "
                "It cannot be changed: correct the field, or leave it out."
            )
        read_only = Setting.READ_ONLY in one.at_creation
        if (
            one.resource.kind is ResourceKind.ENDPOINT
            and bool(there.settings.get(Setting.READ_ONLY)) != read_only
        ):
            kind = "read-only" if not read_only else "read-write"
            return f"The {one.resource} exists and is {kind}: name another one."
    return None


def _read_write(endpoint: Resource, found: Observation) -> Resource | None:
    return next(
        (
            one
            for one, there in found.items()
            if one.kind is ResourceKind.ENDPOINT
            and one.parent == endpoint.parent
            and not there.settings.get(Setting.READ_ONLY)
        ),
        None,
    )


def rows(declared: Sequence[Wanted], found: Observation) -> tuple[SettingRow, ...]:
    """Wanted and effective values side by side."""
    result = []
    for one in declared:
        there = found.get(one.resource)
        effective = there.settings if there is not None else NO_SETTINGS
        for setting, value in one.settings.items():
            place = one.resource.place
            result.append(
                SettingRow(
                    f"{place} {setting}" if place else setting.value,
                    text(setting, value),
                    text(setting, effective[setting]) if setting in effective else None,
                    effective.get(setting) == value,
                )
            )
    return tuple(result)


def words(step: Step) -> str:
    """A step for people."""
    match step:
        case CreateStep(one):
            return f"make {one.resource}"
        case UpdateStep(resource, changes):
            settings = ", ".join(f"{setting} {text(setting, value)}" for setting, value in changes.items())
            return f"set {settings} of {resource}"
        case DeleteStep(resource):
            return f"delete {resource}"


def text(setting: Setting, value: Value) -> str:
    """A value for people."""
    if isinstance(value, bool):
        return str(value).lower()
    if setting in _DURATIONS:
        return f"{value:g}s" if isinstance(value, float) else f"{value}s"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _given(settings: Mapping[Setting, Value | None]) -> dict[Setting, Value]:
    return {setting: value for setting, value in settings.items() if value is not None}


def _seconds(duration: str | None) -> int | None:
    return None if duration is None else int(seconds(duration))
