"""LakebaseConnection: one registered Lakebase database server."""

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from lakebase_operator.api.base import (
    MAX_STATUS_ISSUES,
    READY_COLUMNS,
    TRAILING_COLUMNS,
    Duration,
    Identifier,
    Model,
    Name,
    PrinterColumn,
    Resource,
    SecretKeyRef,
    SecretRef,
    Status,
    Timestamp,
    cel,
    validations,
)
from lakebase_operator.api.names import RESERVED_CONNECTION_NAMES

ResourceID = Annotated[
    str, Field(min_length=1, max_length=63, pattern=r"^[a-zA-Z]([a-zA-Z0-9-]*[a-zA-Z0-9])?$")
]


LabelValue = Annotated[str, Field(max_length=63)]

WorkspaceURL = Annotated[str, Field(max_length=256, pattern=r"^https://[^/?#\s@]+$")]
"""`https://` and a host, no path."""


class AutoscalingTarget(Model):
    """A Lakebase Autoscaling endpoint: `projects/<project>/branches/<branch>/endpoints/<endpoint>`."""

    project: ResourceID
    """Project id."""
    branch: ResourceID = "production"
    """Branch id."""
    endpoint: ResourceID = "primary"
    """Endpoint id; it must be the read-write one."""


class ProvisionedTarget(Model):
    """A Lakebase Provisioned database instance."""

    instance: ResourceID
    """Name of the instance."""


class ServerTarget(Model):
    """Any PostgreSQL 16 or later, reached without the Databricks API."""

    host: Annotated[str, Field(min_length=1, max_length=253)]
    """Host name or address."""


class InstanceRef(Model):
    """Names a LakebaseInstance in the same namespace."""

    name: Name
    """Name of the LakebaseInstance."""
    branch: ResourceID | None = None
    """One of its `branches`. Absent: its main branch. An instance of Lakebase Provisioned has none."""


class Target(Model):
    """Which database server; exactly one of the members."""

    model_config = {
        "json_schema_extra": validations(
            cel(
                "[has(self.autoscaling), has(self.provisioned), has(self.server), has(self.instanceRef)]"
                ".filter(x, x).size() == 1",
                "give exactly one of autoscaling, provisioned, server, instanceRef",
            )
        )
    }

    autoscaling: AutoscalingTarget | None = None
    """A project, branch and endpoint of Lakebase Autoscaling."""
    provisioned: ProvisionedTarget | None = None
    """An instance of Lakebase Provisioned."""
    server: ServerTarget | None = None
    """Any PostgreSQL server, by host."""
    instance_ref: InstanceRef | None = None
    """A LakebaseInstance. The connection waits until it is there."""


ClientID = Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[^\s\x00-\x1f]+$")]


class OAuthM2MAuth(Model):
    """OAuth machine-to-machine: the client id and secret of a Databricks service principal."""

    client_id: Annotated[ClientID, Field(alias="clientID")]
    """The service principal's client (application) id; also the name of its Postgres role."""
    client_secret_ref: SecretKeyRef
    """Where the client secret is."""


class WorkloadIdentityAuth(Model):
    """OAuth token federation: the operator's projected service-account token is exchanged; no secret in the cluster."""

    client_id: Annotated[ClientID, Field(alias="clientID")]
    """The service principal's client (application) id; it needs a federation policy for the operator's ServiceAccount."""


class PasswordAuth(Model):
    """A native PostgreSQL login."""

    secret_ref: SecretRef
    """A Secret with the keys `username` and `password`."""


class Auth(Model):
    """How the operator logs in; exactly one of the members."""

    model_config = {
        "json_schema_extra": validations(
            cel(
                "[has(self.oauthM2M), has(self.workloadIdentity), has(self.password)].filter(x, x).size() == 1",
                "give exactly one of oauthM2M, workloadIdentity, password",
            )
        )
    }

    oauth_m2m: Annotated[OAuthM2MAuth | None, Field(alias="oauthM2M")] = None
    """A service principal with a client secret."""
    workload_identity: WorkloadIdentityAuth | None = None
    """A service principal that trusts the operator's ServiceAccount."""
    password: PasswordAuth | None = None
    """A native login with a password."""


class TLSMode(StrEnum):
    """How far the server's certificate is checked; never without TLS."""

    REQUIRE = "Require"
    VERIFY_CA = "VerifyCA"
    VERIFY_FULL = "VerifyFull"


class TLS(Model):
    """TLS towards PostgreSQL."""

    mode: TLSMode = TLSMode.VERIFY_FULL
    """`Require` encrypts; `VerifyCA` also checks who signed the certificate; `VerifyFull` also checks the host name."""
    ca_ref: SecretKeyRef | None = None
    """CA certificates (PEM) in a Secret. Absent: the system's."""


class DriftAction(StrEnum):
    """What is done about changes made by hand."""

    REPAIR = "Repair"
    REPORT = "Report"


class Drift(Model):
    """How often and how strictly the database is compared with the declarations."""

    interval: Duration = "10m"
    """Time between two full comparisons."""
    action: DriftAction = DriftAction.REPAIR
    """`Repair` puts back what was changed by hand; `Report` only says so."""


class Mode(StrEnum):
    """Whether the database is changed."""

    ENFORCE = "Enforce"
    PLAN = "Plan"


class UnmanagedAction(StrEnum):
    """What to do about what is there and nobody declares."""

    KEEP = "Keep"
    REPORT = "Report"
    REVOKE = "Revoke"


class UnmanagedGrants(Model):
    """What happens to privileges, memberships and settings that nobody declares.

    Never meant: what is there by default, owners' own rights, roles and schemas of the system, and what an extension set up.
    """

    action: UnmanagedAction = UnmanagedAction.KEEP
    """`Keep` leaves them alone, `Report` counts and lists them, `Revoke` takes them away: the declarations are then all there
    is."""
    schemas: Annotated[list[Identifier], Field(min_length=1, max_length=256)] | None = None
    """Only in these schemas (objects outside of schemas are then left alone). Absent: everywhere."""
    roles: Annotated[list[Identifier], Field(min_length=1, max_length=256)] | None = None
    """Only what these roles hold; `PUBLIC` for everybody. Absent: all roles."""


class WhenAsleep(StrEnum):
    """What a scheduled comparison does when the compute is scaled to zero."""

    SKIP = "Skip"
    WAKE = "Wake"


class NamespacesFrom(StrEnum):
    """Which namespaces may refer to the connection."""

    SAME = "Same"
    ALL = "All"
    SELECTOR = "Selector"


class AllowedNamespaces(Model):
    """Who may refer to this connection."""

    model_config = {
        "json_schema_extra": validations(
            cel(
                "(self.from == 'Selector') == has(self.selector)",
                "selector goes with from: Selector, and only with it",
            )
        )
    }

    from_: Annotated[NamespacesFrom, Field(alias="from")] = NamespacesFrom.SAME
    """`Same` namespace, `All` namespaces, or those whose labels match the `Selector`."""
    selector: Annotated[dict[str, LabelValue], Field(max_length=16)] | None = None
    """Labels that a namespace must have."""


class ConnectionDeletionPolicy(StrEnum):
    """What happens to the grants when the connection itself is deleted."""

    RETAIN = "Retain"
    REVOKE = "Revoke"


class AccessReport(Model):
    """The access report: who holds what beside what is declared, and which roles nobody uses."""

    interval: Duration = "24h"
    """Time between two reports; `0s`: none. A report is made at the end of a comparison, so a compute that sleeps is not woken for
    it, and none is made with `mode: Plan`. The annotation `lakebase.dev/sync-now` asks for one at once."""


class LakebaseConnectionSpec(Model):
    """One registered Lakebase database server, how to log in, how strictly to keep it."""

    model_config = {
        "json_schema_extra": validations(
            cel(
                "has(self.target.server) || has(self.target.instanceRef) || has(self.workspaceURL)",
                "workspaceURL is needed for an autoscaling or provisioned target",
            ),
            cel(
                "has(self.auth.password) || has(self.target.instanceRef) || has(self.workspaceURL)",
                "workspaceURL is needed for OAuth",
            ),
            cel(
                "has(self.auth.password) || !has(self.target.server)",
                "a server target logs in with auth.password: OAuth credentials are made for a Lakebase endpoint or instance",
            ),
        )
    }

    workspace_url: Annotated[WorkspaceURL | None, Field(alias="workspaceURL")] = None
    """URL of the Databricks workspace: `https://` and a host, no path. With `target.instanceRef` it is the instance's."""
    target: Target
    """Which database server."""
    host: Annotated[str, Field(min_length=1, max_length=253)] | None = None
    """The host that is expected. Absent: taken from the control plane. A difference is reported as `HostnameMismatch`."""
    port: Annotated[int, Field(ge=1, le=65535)] = 5432
    """Port of PostgreSQL."""
    databases: Annotated[
        list[Identifier],
        Field(min_length=1, max_length=64, json_schema_extra={"x-kubernetes-list-type": "set"}),
    ] = ["databricks_postgres"]
    """Databases in which grants are managed; the first is the one to log in to for roles."""
    auth: Auth
    """How the operator logs in."""
    tls: TLS = TLS()
    """TLS towards PostgreSQL; there is no way to switch it off."""
    mode: Mode = Mode.ENFORCE
    """`Enforce` makes the databases as declared. `Plan` shows the statements in status and a ConfigMap and changes nothing,
    until the annotation `lakebase.dev/approve` names the digest of just that plan."""
    unmanaged_grants: UnmanagedGrants = UnmanagedGrants()
    """What happens to what nobody declares."""
    drift: Drift = Drift()
    """How often and how strictly the database is compared with the declarations."""
    report: AccessReport = AccessReport()
    """The access report."""
    when_asleep: WhenAsleep = WhenAsleep.SKIP
    """What a scheduled comparison does when the compute is scaled to zero. A change of a declaration always wakes it."""
    allowed_namespaces: AllowedNamespaces = AllowedNamespaces()
    """Who may refer to this connection."""
    suspend: bool = False
    """Leave the database alone until this is false again. Nothing is revoked."""
    deletion_policy: ConnectionDeletionPolicy = ConnectionDeletionPolicy.RETAIN
    """What happens to the grants when this connection is deleted: `Retain` them (a slip must not cut production off) or `Revoke`."""


class EndpointStatus(Model):
    """Where the database is."""

    host: Annotated[str, Field(max_length=253)] | None = None
    """Host, as the control plane gives it."""
    port: int | None = None
    """Port."""
    state: Annotated[str, Field(max_length=64)] | None = None
    """State of the compute when it was last asked."""


class DatabaseStatus(Model):
    """One managed database."""

    name: Annotated[str, Field(max_length=63)]
    """Name of the database."""
    objects: int
    """Objects that declarations match."""
    managed_grants: int
    """Privileges that the operator holds in its ledger, counted per object, grantee and privilege."""
    last_change_time: Timestamp | None = None
    """When the operator last changed privileges here."""


class DeviationStatus(Model):
    """One privilege that is not as declared, or that nobody declares."""

    database: Annotated[str, Field(max_length=63)]
    """Where."""
    object: Annotated[str, Field(max_length=512)]
    """The object, with its schema."""
    role: Annotated[str, Field(max_length=63)]
    """The grantee; `PUBLIC` for everybody."""
    privilege: Annotated[str, Field(max_length=64)]
    """The privilege; `WITH GRANT OPTION` if it is about that."""
    what: Annotated[str, Field(max_length=32)]
    """`Missing`: declared, and somebody took it away. `Forbidden`: declared absent, and somebody gave it. `Unmanaged`:
    nobody declares it."""
    grantor: Annotated[str, Field(max_length=63)] | None = None
    """Who granted it. Who took something away, the database does not know."""


DeviationList = Annotated[list[DeviationStatus], Field(max_length=MAX_STATUS_ISSUES)]


class DriftStatus(Model):
    """What was changed by hand."""

    since: Timestamp
    """When it was first seen."""
    total: int
    """Privileges, counted per object and grantee."""
    items: DeviationList = Field(default_factory=list)
    """The first 20."""


class UnmanagedStatus(Model):
    """What nobody declares."""

    total: int
    """Privileges, counted per object and grantee."""
    items: DeviationList = Field(default_factory=list)
    """The first 20."""


class PlanStatus(Model):
    """What would be done."""

    digest: Annotated[str, Field(max_length=64)]
    """The value of the annotation `lakebase.dev/approve` that has just this plan carried out."""
    statements: int
    """How many there are."""
    first: Annotated[list[Annotated[str, Field(max_length=1024)]], Field(max_length=MAX_STATUS_ISSUES)] = (
        Field(default_factory=list)
    )
    """The first 20, each cut after 1024 characters."""
    config_map: Annotated[str, Field(max_length=253)]
    """The ConfigMap with all of them, in order, under the key `plan.sql`."""


class AccessReportStatus(Model):
    """The last access report."""

    at: Timestamp
    """When it was made."""
    watched_since: Timestamp
    """Since when the operator looks who is logged in: before, nobody was seen."""
    roles: int
    """Roles in it: all that log in or are declared, but those of the system."""
    wider: int
    """Things that roles have beside what is declared."""
    unused: int
    """Roles that nobody was seen to use, that hold nothing and that nobody is mapped to."""
    omitted: int = 0
    """Lines for which there was no room."""
    config_map: Annotated[str, Field(max_length=253)]
    """The ConfigMap that has it: `roles.csv`, `wider.csv`, `tables.csv`."""


class LinksStatus(Model):
    """Where Databricks shows queries and cost, which this operator leaves to it. The best known addresses; they may change."""

    query_history: Annotated[str, Field(max_length=1024)] | None = None
    """Queries of the workspace."""
    instance: Annotated[str, Field(max_length=1024)] | None = None
    """The instance of Lakebase Provisioned, with its metrics."""
    usage: Annotated[str, Field(max_length=1024)] | None = None
    """Usage and cost, in the account console."""


class LakebaseConnectionStatus(Status):
    """What the operator knows of the server."""

    endpoint: EndpointStatus | None = None
    """Where the database is and in which state."""
    server_version: Annotated[str, Field(max_length=64)] | None = None
    """PostgreSQL's version."""
    operator_role: Annotated[str, Field(max_length=63)] | None = None
    """The role that the operator logs in as."""
    databases: Annotated[
        list[DatabaseStatus],
        Field(
            max_length=64,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        ),
    ] = Field(default_factory=list)
    """The managed databases."""
    drift: DriftStatus | None = None
    """What was changed by hand and, with `drift.action: Report`, is still so; or was put back by the last comparison."""
    unmanaged: UnmanagedStatus | None = None
    """What nobody declares, as far as `unmanagedGrants` looks for it and has not taken it away."""
    plan: PlanStatus | None = None
    """With `mode: Plan`: what waits for approval. Absent when there is nothing to do."""
    report: AccessReportStatus | None = None
    """The last access report."""
    links: LinksStatus | None = None
    """Pages of Databricks about the target."""
    roles: int | None = None
    """PostgresRoles and UserMappings on this connection."""
    grants: int | None = None
    """AccessGrants on this connection."""
    pending_changes: int | None = None
    """Objects whose declarations are not carried out yet."""
    last_handled_sync: Annotated[str, Field(max_length=253)] | None = None
    """Value of the annotation `lakebase.dev/sync-now` that was last handled."""


class LakebaseConnection(Resource):
    """One registered Lakebase database server, how to log in, how strictly to keep it."""

    kind_name: ClassVar[str] = "LakebaseConnection"
    plural: ClassVar[str] = "lakebaseconnections"
    short_names: ClassVar[tuple[str, ...]] = ("lbc",)
    columns: ClassVar[tuple[PrinterColumn, ...]] = (
        *READY_COLUMNS,
        PrinterColumn(
            name="State",
            type="string",
            json_path=".status.endpoint.state",
            description="State of the compute.",
        ),
        PrinterColumn(
            name="Host",
            type="string",
            json_path=".status.endpoint.host",
            description="Database host.",
            priority=1,
        ),
        PrinterColumn(
            name="Grants",
            type="integer",
            json_path=".status.grants",
            description="AccessGrants on this connection.",
        ),
        PrinterColumn(
            name="Pending",
            type="integer",
            json_path=".status.pendingChanges",
            description="Declarations to be carried out.",
        ),
        *TRAILING_COLUMNS,
    )
    rules: ClassVar[tuple[dict[str, str], ...]] = (
        cel(
            "!self.metadata.name.contains('.')",
            "metadata.name is the display name and may not contain a period",
        ),
        cel(
            f"!(self.metadata.name in {list(RESERVED_CONNECTION_NAMES)})",
            "metadata.name is the display name and may not be one of the reserved words "
            + ", ".join(RESERVED_CONNECTION_NAMES),
        ),
        cel("self.metadata.name.size() <= 63", "metadata.name is the display name: at most 63 characters"),
    )

    spec: LakebaseConnectionSpec
    status: LakebaseConnectionStatus = LakebaseConnectionStatus()
