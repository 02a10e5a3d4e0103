"""LakebaseInstance: one Lakebase, made or taken over."""

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from lakebase_operator.api.base import (
    IMMUTABLE,
    READY_COLUMNS,
    TRAILING_COLUMNS,
    Duration,
    Model,
    PrinterColumn,
    Resource,
    Status,
    Timestamp,
    cel,
    validations,
)
from lakebase_operator.api.lakebase_connection import (
    EndpointStatus,
    OAuthM2MAuth,
    ResourceID,
    WorkloadIdentityAuth,
    WorkspaceURL,
)

ShortText = Annotated[str, Field(max_length=256)]
LongName = Annotated[str, Field(max_length=1024)]
"""A full resource name: several ids of up to 255 characters, and of an operation one more, whose length nobody states."""

DATABASE = "databricks_postgres"
"""The database that every Lakebase has from the start."""
PORT = 5432

CloudID = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z]([a-z0-9-]*[a-z0-9])?$")]
"""Id of a project, branch or endpoint."""


def _between(least: str, most: str) -> dict[str, str]:
    return cel(
        f"duration(self) >= duration('{least}') && duration(self) <= duration('{most}')",
        f"has to be between {least} and {most}",
    )


class InstanceAuth(Model):
    """Who the operator is in the workspace; exactly one of the members."""

    model_config = {
        "json_schema_extra": validations(
            cel(
                "[has(self.oauthM2M), has(self.workloadIdentity)].filter(x, x).size() == 1",
                "give exactly one of oauthM2M, workloadIdentity",
            )
        )
    }

    oauth_m2m: Annotated[OAuthM2MAuth | None, Field(alias="oauthM2M")] = None
    """A service principal with a client secret."""
    workload_identity: WorkloadIdentityAuth | None = None
    """A service principal that trusts the operator's ServiceAccount."""


CU = Annotated[float, Field(ge=0.5, le=64)]


class ComputeSize(Model):
    """How large a compute may become. What is left out is left as it is; a new one then gets the service's default."""

    model_config = {
        "json_schema_extra": validations(
            cel(
                "has(self.minCU) == has(self.maxCU)",
                "give both of minCU and maxCU, or neither",
            ),
            cel(
                "!has(self.minCU) || !has(self.maxCU) || (self.maxCU >= self.minCU && self.maxCU - self.minCU <= 16.0)",
                "maxCU has to be at least minCU, and at most 16 above it",
            ),
        )
    }

    min_cu: Annotated[CU | None, Field(alias="minCU")] = None
    """Least number of compute units."""
    max_cu: Annotated[CU | None, Field(alias="maxCU")] = None
    """Largest number of compute units."""
    suspend_timeout: Annotated[
        Duration | None, Field(json_schema_extra=validations(_between("60s", "168h")))
    ] = None
    """How long a compute is idle before it is scaled to zero; from `60s` to `168h`."""


class ReadReplica(ComputeSize):
    """A read-only endpoint."""

    name: CloudID
    """Endpoint id."""


class Endpoint(ComputeSize):
    """The read-write endpoint of a branch, and its read replicas."""

    name: CloudID = "primary"
    """Endpoint id of the read-write endpoint."""
    read_replicas: Annotated[
        list[ReadReplica],
        Field(
            max_length=6,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        ),
    ] = Field(default_factory=list)
    """Read-only endpoints on the same branch. One that is taken out of this list is deleted if the operator made it."""


class BranchGrants(StrEnum):
    """What is expected of the roles and grants that a new branch has from its source."""

    COPIED = "Copied"
    MANAGED = "Managed"


class Branch(Model):
    """A branch besides the main one. It begins with a copy of its source: data, roles, grants and ledger."""

    name: CloudID
    """Branch id."""
    source: CloudID | None = None
    """The branch that it is made from. Absent: the main branch. Looked at when the branch is made only."""
    grants: BranchGrants = BranchGrants.COPIED
    """Roles and grants arrive with the copy; afterwards the two branches go their own ways, and nothing keeps them equal.
    `Copied` accepts that. `Managed` asks for a LakebaseConnection that points at this branch and declares what holds there;
    until there is one, this object is not ready."""
    protected: bool | None = None
    """Whether the branch is protected from being deleted or reset. Absent: left as it is."""
    expires_after: Annotated[
        Duration | None, Field(json_schema_extra=validations(_between("1h", "720h")))
    ] = None
    """How long the branch lives, from when it is made. Absent: for ever. Looked at when the branch is made only."""
    stopped: bool | None = None
    """Whether its read-write endpoint is switched off. Absent: left as it is."""
    endpoint: Endpoint = Endpoint()
    """Its computes."""


class AutoscalingInstance(Model):
    """A project of Lakebase Autoscaling."""

    model_config = {
        "json_schema_extra": validations(
            cel(
                "!has(self.branches) || !self.branches.exists(one, one.name == self.branch)",
                "the main branch does not go into branches",
            ),
        )
    }

    project: Annotated[CloudID, Field(json_schema_extra=validations(IMMUTABLE))]
    """Project id."""
    postgres_version: Annotated[int | None, Field(ge=16, le=18)] = None
    """PostgreSQL's major version. It is chosen when the project is made and cannot be changed afterwards."""
    branch: Annotated[CloudID, Field(json_schema_extra=validations(IMMUTABLE))] = "production"
    """The main branch. A new project has `production`."""
    endpoint: Endpoint = Endpoint()
    """The computes of the main branch. A new project has the read-write endpoint `primary`."""
    branches: Annotated[
        list[Branch],
        Field(
            max_length=16,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        ),
    ] = Field(default_factory=list)
    """Further branches. One that is taken out of this list stays as it is: it holds data."""
    history_retention: Annotated[
        Duration | None, Field(json_schema_extra=validations(_between("48h", "840h")))
    ] = None
    """How far back a branch can be made from the past; from `48h` to `840h`. Absent: left as it is."""
    budget_policy_id: Annotated[ShortText | None, Field(alias="budgetPolicyID", min_length=1)] = None
    """Budget policy of the project. Absent: left as it is."""


class Capacity(StrEnum):
    """Size of a Provisioned instance."""

    CU_1 = "CU_1"
    CU_2 = "CU_2"
    CU_4 = "CU_4"
    CU_8 = "CU_8"


class ProvisionedInstance(Model):
    """An instance of Lakebase Provisioned. What is left out is left as it is; a new one gets the service's default."""

    instance: Annotated[ResourceID, Field(json_schema_extra=validations(IMMUTABLE))]
    """Name of the instance."""
    capacity: Capacity | None = None
    """Its size."""
    usage_policy_id: Annotated[ShortText | None, Field(alias="usagePolicyID", min_length=1)] = None
    """Serverless usage policy."""
    retention_days: Annotated[int | None, Field(ge=2, le=35)] = None
    """Days for which it can be restored to an earlier moment."""
    nodes: Annotated[int | None, Field(ge=1, le=3)] = None
    """Number of nodes; 1 is without high availability."""
    readable_secondaries: bool | None = None
    """Whether the further nodes answer reads."""


class Create(StrEnum):
    """Whether something that is missing is made."""

    IF_MISSING = "IfMissing"
    NEVER = "Never"


class InstanceDeletionPolicy(StrEnum):
    """What happens to the Lakebase when its object is deleted."""

    RETAIN = "Retain"
    DELETE = "Delete"


class LakebaseInstanceSpec(Model):
    """One Lakebase: which, how large, whether it runs. What is left out is left as it is."""

    model_config = {
        "json_schema_extra": validations(
            cel(
                "[has(self.autoscaling), has(self.provisioned)].filter(x, x).size() == 1",
                "give exactly one of autoscaling, provisioned",
            ),
            cel(
                "has(self.autoscaling) == has(oldSelf.autoscaling)",
                "a Lakebase cannot change from autoscaling to provisioned or back",
            ),
        )
    }

    workspace_url: Annotated[
        WorkspaceURL, Field(alias="workspaceURL", json_schema_extra=validations(IMMUTABLE))
    ]
    """URL of the Databricks workspace: `https://` and a host, no path."""
    auth: InstanceAuth
    """Who the operator is there. To make a Lakebase it needs the right to create one; to change one, CAN_MANAGE on it."""
    autoscaling: AutoscalingInstance | None = None
    """A project of Lakebase Autoscaling, with its branches and endpoints."""
    provisioned: ProvisionedInstance | None = None
    """An instance of Lakebase Provisioned."""
    stopped: bool | None = None
    """True switches it off (an endpoint is disabled, so that no connection wakes it), false on. Absent: left as it is."""
    native_login: bool | None = None
    """Whether roles may log in with a PostgreSQL password. Absent: left as it is. It is never switched off while a
    PostgresRole or a LakebaseConnection logs in with one."""
    create: Create = Create.IF_MISSING
    """Whether what is missing is made. `Never` only takes over what exists, and reports `InstanceNotFound` if it does not."""
    adopt: bool = True
    """Take over a Lakebase that exists already; only what is declared here is changed in it. False: refuse with
    `InstanceExists`."""
    start_timeout: Annotated[Duration, Field(json_schema_extra=validations(_between("1s", "24h")))] = "15m"
    """How long it may be starting before it is reported as `StuckStarting`."""
    deletion_policy: InstanceDeletionPolicy = InstanceDeletionPolicy.RETAIN
    """`Retain` keeps the Lakebase when this object is deleted; `Delete` deletes it with all data."""


class OperationStatus(Model):
    """An operation of the control plane that is followed."""

    name: LongName | None = None
    """Its name there. Absent: it is just being asked for."""
    action: Annotated[str, Field(max_length=64)]
    """What it does, such as `Create`."""
    resource: LongName
    """What it is about."""
    start_time: Timestamp
    """When it was asked for."""


class SettingStatus(Model):
    """One setting: what is wanted, and what holds."""

    name: ShortText
    """Which, such as `capacity`, or `production/primary maxCU`."""
    wanted: ShortText
    """As declared."""
    effective: ShortText | None = None
    """As the control plane says. Absent: it says nothing."""


class BranchStatus(Model):
    """One declared branch."""

    name: Annotated[str, Field(max_length=63)]
    """Branch id."""
    source: Annotated[str, Field(max_length=63)] | None = None
    """The branch that it was made from."""
    source_time: Timestamp | None = None
    """The moment of the source whose data, roles and grants it began with."""
    endpoint: EndpointStatus = EndpointStatus()
    """Where its database is and in which state."""
    grants: Annotated[str, Field(max_length=512)] | None = None
    """What holds there of roles and grants, in words."""


class LakebaseInstanceStatus(Status):
    """What the control plane says of the Lakebase."""

    created: bool | None = None
    """Whether the operator made it (true) or found it (false)."""
    uid: ShortText | None = None
    """Its id in the control plane."""
    endpoint: EndpointStatus | None = None
    """Where the database is and in which state."""
    read_only_host: Annotated[str, Field(max_length=253)] | None = None
    """Host of the read replicas or readable secondaries."""
    database: Annotated[str, Field(max_length=63)] | None = None
    """The database that it has from the start."""
    server_version: Annotated[str, Field(max_length=64)] | None = None
    """PostgreSQL's version."""
    operation: OperationStatus | None = None
    """The operation under way. It is followed by this name across restarts of the operator."""
    settings: Annotated[
        list[SettingStatus],
        Field(
            max_length=512,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        ),
    ] = Field(default_factory=list)
    """What is declared, beside what holds."""
    branches: Annotated[
        list[BranchStatus],
        Field(
            max_length=16,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        ),
    ] = Field(default_factory=list)
    """The declared branches besides the main one."""
    made: Annotated[list[ShortText], Field(max_length=256)] = Field(default_factory=list)
    """Branches and endpoints that the operator made, by their resource names."""
    starting_since: Timestamp | None = None
    """Since when it has been starting."""
    request_ids: Annotated[list[LongName], Field(alias="requestIDs", max_length=10)] = Field(
        default_factory=list
    )
    """What Databricks' support asks for: ids of operations and of requests that failed, the latest last."""


class LakebaseInstance(Resource):
    """One Lakebase database server, made or taken over, and kept as declared."""

    kind_name: ClassVar[str] = "LakebaseInstance"
    plural: ClassVar[str] = "lakebaseinstances"
    short_names: ClassVar[tuple[str, ...]] = ("lbi",)
    columns: ClassVar[tuple[PrinterColumn, ...]] = (
        *READY_COLUMNS,
        PrinterColumn(
            name="State",
            type="string",
            json_path=".status.endpoint.state",
            description="State of the compute.",
        ),
        PrinterColumn(
            name="Operation",
            type="string",
            json_path=".status.operation.action",
            description="What is being done to it now.",
        ),
        PrinterColumn(
            name="Host",
            type="string",
            json_path=".status.endpoint.host",
            description="Database host.",
            priority=1,
        ),
        *TRAILING_COLUMNS,
    )
    spec: LakebaseInstanceSpec
    status: LakebaseInstanceStatus = LakebaseInstanceStatus()
