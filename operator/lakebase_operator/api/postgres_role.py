"""PostgresRole: one role."""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, ClassVar, cast

from pydantic import Field

from lakebase_operator.api.access_grant import GrantIssue
from lakebase_operator.api.base import (
    FITS_IN_A_NAME,
    IMMUTABLE,
    MAX_STATUS_ISSUES,
    READY_COLUMNS,
    TRAILING_COLUMNS,
    ConnectionRef,
    Duration,
    Identifier,
    Model,
    Name,
    PrinterColumn,
    Resource,
    SecretKeyRef,
    Status,
    Timestamp,
    cel,
    validations,
)
from lakebase_operator.api.names import RESERVED_OBJECT_NAME_CEL, RESERVED_ROLE_CEL
from lakebase_operator.api.objects import Globs, Names, Objects, SchemaName

RoleName = Annotated[
    str,
    Field(
        min_length=1,
        max_length=63,
        json_schema_extra=validations(
            FITS_IN_A_NAME, cel(RESERVED_ROLE_CEL, "is reserved by PostgreSQL or Lakebase")
        ),
    ),
]
"""Name of a role that may be managed."""


class IdentityType(StrEnum):
    """Kind of Databricks identity."""

    USER = "User"
    SERVICE_PRINCIPAL = "ServicePrincipal"
    GROUP = "Group"


class Identity(Model):
    """A Databricks identity: the role logs in with its OAuth credential."""

    type: IdentityType
    """Kind of identity."""
    name: RoleName
    """E-mail of a user, application id of a service principal, display name of a group. It is the role's name too."""


_OWNERSHIP_RULES = (
    cel(
        "!has(self.parameters) && !has(self.tablespaces) && !has(self.defaultPrivileges)",
        "parameters, tablespaces and default privileges cannot be owned this way",
    ),
    cel(
        "!has(self.tables) || !has(self.tables.columns)",
        "a table is owned as a whole: leave columns out",
        field_path=".tables",
    ),
)


class RoleAttributes(Model):
    """Attributes of the role. What is left out is left as it is."""

    create_db: Annotated[bool | None, Field(alias="createDB")] = None
    """Maps to CREATEDB."""
    create_role: bool | None = None
    """Maps to CREATEROLE."""
    bypass_rls: Annotated[bool | None, Field(alias="bypassRLS")] = None
    """Maps to BYPASSRLS: row security policies do not apply to the role."""
    inherit: bool | None = None
    """Maps to INHERIT: default for memberships that are granted without saying."""
    connection_limit: Annotated[int, Field(ge=-1, le=10000)] | None = None
    """Maps to CONNECTION LIMIT; -1 means no limit."""
    valid_until: Timestamp | None = None
    """Maps to VALID UNTIL. PostgreSQL looks at it for password logins only: end access with `expiresAt` of an AccessGrant.
    Absent: where this object says `login: true`, the role's password is valid without end, so a date that the role had
    before is lifted; otherwise it is left as it is."""


class Membership(Model):
    """Membership of this role in another."""

    role: Identifier
    """The role whose member this role is."""
    inherit: bool = True
    """Has the other role's privileges without SET ROLE."""
    set: bool = True
    """May SET ROLE to the other role."""
    admin: bool = False
    """May grant the membership to others."""


class Owned(Objects):
    """Objects that a role owns; exactly one of the members besides `database`."""

    model_config = {
        "json_schema_extra": {
            **cast(dict[str, Any], Objects.model_config["json_schema_extra"]),
            **validations(*_OWNERSHIP_RULES),
        }
    }

    database: Identifier | None = None
    """The database in which the objects are; one of the connection's. Absent: its first."""


class RoleDeletionPolicy(StrEnum):
    """What happens to the role when its object is deleted. With `Drop`, logins of the role end first: while something else
    keeps it from being dropped, it stays without LOGIN."""

    RETAIN = "Retain"
    DROP = "Drop"


class Logins(StrEnum):
    """Which roles log in with the password."""

    ONE = "One"
    """The role itself. When its password changes, sessions go on, but whoever still has the old password cannot log in any more."""
    TWO = "Two"
    """The role itself cannot log in (NOLOGIN); two members of it, `<role>_1` and `<role>_2`, take turns and act as the role. When the
    password changes, the other one is published, and the one before works on for `rotation.overlap`."""


class GeneratedPassword(Model):
    """A password that the operator makes."""

    length: Annotated[int, Field(ge=24, le=128)] = 32
    """Characters: letters, digits and `-._~`, at least one of each kind."""


class Rotation(Model):
    """When the password is replaced. At once: by the annotation `lakebase.dev/rotate` with any new value."""

    interval: Duration = "2160h"
    """Age at which the password is replaced; `0s` means never. A password that is given is only reported as overdue."""
    overlap: Duration = "24h"
    """With two logins: how long the one before works on. Within it only the annotation makes the next change."""


class Password(Model):
    """A PostgreSQL password, for applications that cannot log in with OAuth. The operator gives the server a SCRAM verifier of it;
    a Lakebase project that refuses verifiers has Databricks make the password."""

    model_config = {
        "json_schema_extra": validations(
            cel("!has(self.generate) || !has(self.from)", "only one of generate and from"),
            cel(
                "!has(self.from) || !has(self.logins) || self.logins == 'One'",
                "a password that is given is that of one login: leave logins out",
                field_path=".logins",
            ),
        )
    }

    generate: GeneratedPassword | None = None
    """The password is made: by the operator, or by Databricks where verifiers are refused. The default."""
    from_: Annotated[SecretKeyRef | None, Field(alias="from")] = None
    """The password is in this Secret of the same namespace, and is taken up when it changes there. At least 12 characters of three
    kinds (small and capital letters, digits, others)."""
    logins: Logins | None = None
    """Which roles log in with it. Absent: `Two` where the password is generated, `One` where it is given. It cannot be changed later."""
    rotation: Rotation = Rotation()
    """When it is replaced."""


TemplateKey = Annotated[str, Field(pattern=r"^[-._a-zA-Z0-9]+$", max_length=253)]


class Binding(Model):
    """What is published for the application: a Secret as the Service Binding Specification for Kubernetes wants it, with `type`,
    `provider`, `host`, `port`, `database`, `username`, `password` and `uri`, and beside them `jdbc-uri`, `psql`, `sslmode`, and where
    they are known `schema` and `ca.crt`."""

    secret_name: Annotated[Name | None, Field(json_schema_extra=validations(IMMUTABLE))] = None
    """Name of the Secret. Absent: that of this object with `-login` at the end."""
    database: Identifier | None = None
    """The database to connect to. Absent: the connection's first."""
    schema_: Annotated[Identifier | None, Field(alias="schema")] = None
    """Published as `schema`, for applications that ask for one: the schema of their own in which they work."""
    template: Annotated[dict[TemplateKey, Annotated[str, Field(max_length=4096)]], Field(max_length=32)] = (
        Field(default_factory=dict)
    )
    """Further keys. In their values `$host`, `$port`, `$database`, `$schema`, `$username`, `$password`, `$sslmode`, `$uri`, `$jdbc_uri`,
    `$psql` and `$ca` stand for what is published (`$$` for a dollar sign)."""


class RoleLevel(StrEnum):
    """How far the role's rights go, beside what AccessGrants give it."""

    SPECIFIC = "Specific"
    """What AccessGrants and memberships give, and nothing else."""
    SUPERUSER = "Superuser"
    """Member of `databricks_superuser` besides: reads and writes everything. Given by SQL where the operator has ADMIN option on it,
    else through the API of a Lakebase project; an instance gives it at a role's birth only. The condition `OverPrivileged` says so
    as long as it is. Back to `Specific`, the membership goes, if this object gave it."""


class PlatformSchemaDeletionPolicy(StrEnum):
    """What happens to the schema when the PostgresRole is deleted."""

    RETAIN = "Retain"
    """It stays with everything in it. If the role is dropped it goes to `reassignOwnedTo`, else to the operator's role."""
    DROP = "Drop"
    """It is dropped with everything in it, if the operator made it or the role owns it, and nothing outside depends on it."""


class PlatformSchema(Model):
    """A schema of the application's own, for its own tables: never the schema with the data."""

    name: Annotated[
        SchemaName,
        Field(
            json_schema_extra=validations(
                cel("self != 'public'", "belongs to everybody: name a schema of the application's own")
            )
        ),
    ]
    """Name of the schema. It is made, and owned by the role. One that exists is taken over if it is empty, or the role's and with
    nothing of somebody else's in it. When the name changes, the schema before is left as it is."""
    database: Identifier | None = None
    """The database in which it is; one of the connection's. Absent: that of `binding`, else the connection's first."""
    deletion_policy: PlatformSchemaDeletionPolicy = PlatformSchemaDeletionPolicy.RETAIN
    """What happens to the schema when this object is deleted."""


class ExposedTables(Model):
    """Tables, views, materialized views, foreign and partitioned tables of one schema."""

    model_config = {
        "json_schema_extra": validations(
            cel("has(self.names) || has(self.matching)", "name the tables: names, matching, or both")
        )
    }

    database: Identifier | None = None
    """The database in which they are; one of the connection's. Absent: that of `binding`, else the connection's first."""
    schema_: Annotated[SchemaName, Field(alias="schema")]
    """The schema."""
    names: Names | None = None
    """Exact names. One that does not exist is told (`TableMissing`)."""
    matching: Globs | None = None
    """Patterns; `*` alone means all. A partition is meant only by its exact name."""
    except_: Annotated[Globs | None, Field(alias="except")] = None
    """Patterns of what is left out."""


class ConnectionTest(Model):
    """A test of the login as the application has it: network, authentication, schema access, tables, in this order."""

    interval: Duration = "1h"
    """How often a login that works is tested, beside once after each change of it; `0s` means never. One that does not work is tested
    again with growing pauses. A compute that sleeps is not woken for it."""


_TWO = "(has({0}.password.logins) ? {0}.password.logins == 'Two' : !has({0}.password.from))"
_TWO_NOW, _TWO_BEFORE = _TWO.format("self"), _TWO.format("oldSelf")
_PASSWORD_RULES = (
    cel(
        "!has(self.password) || !has(self.identity)",
        "an identity logs in with OAuth: leave password out",
        field_path=".password",
    ),
    cel(
        f"!has(self.password) || !has(self.login) || !self.login || !{_TWO_NOW}",
        "login: true says that the role itself logs in: set password.logins to One, or leave login out",
        field_path=".login",
    ),
    cel(
        f"!has(self.password) || !has(self.login) || self.login || {_TWO_NOW}",
        "a role with a password logs in: use suspend to keep it out",
        field_path=".login",
    ),
    cel(
        f"!has(self.password) || !has(oldSelf.password) || {_TWO_NOW} == {_TWO_BEFORE}",
        "which roles log in cannot be changed: make another PostgresRole",
        field_path=".password",
    ),
    cel(
        f"!has(self.password) || !has(self.databaseSettings) || size(self.databaseSettings) == 0 || !{_TWO_NOW}",
        "with two logins only settings are passed on to them: use settings, or password.logins: One",
        field_path=".databaseSettings",
    ),
    cel(
        f"!has(self.password) || !has(self.roleName) || bytes(self.roleName).size() <= 61 || !{_TWO_NOW}",
        "with two logins at most 61 bytes, as theirs are two longer",
        field_path=".roleName",
    ),
    cel(
        "!has(self.binding) || has(self.password)",
        "only a password is published: add password, or leave binding out",
        field_path=".binding",
    ),
    cel(
        "!has(self.binding) || !has(oldSelf.binding) || has(self.binding.secretName) == has(oldSelf.binding.secretName)",
        "secretName is immutable",
        field_path=".binding",
    ),
    cel(
        "!has(self.suspend) || !self.suspend || has(self.password) || has(self.identity) || (has(self.login) && self.login)",
        "only a login can be suspended: this role has neither login: true nor identity nor password",
        field_path=".suspend",
    ),
)

DatabaseName = Annotated[str, Field(pattern=r"^.+$", max_length=63)]
SettingName = Annotated[str, Field(pattern=r"^[a-zA-Z_][a-zA-Z0-9_.]*$", max_length=63)]


class PostgresRoleSpec(Model):
    """One role: a Databricks identity, a login, or a NOLOGIN group."""

    model_config = {
        "json_schema_extra": validations(
            cel(
                "has(self.roleName) == has(oldSelf.roleName)", "roleName is immutable", field_path=".roleName"
            ),
            cel(
                "has(self.identity) == has(oldSelf.identity)", "identity is immutable", field_path=".identity"
            ),
            cel(
                "!has(self.identity) || !has(self.roleName) || self.identity.name == self.roleName",
                "the role of an identity has the identity's name: leave roleName out",
                field_path=".roleName",
            ),
            cel(
                "!has(self.identity) || !has(self.login) || self.login",
                "the role of an identity logs in: login cannot be false",
                field_path=".login",
            ),
            *_PASSWORD_RULES,
            cel(
                "!has(self.level) || self.level != 'Superuser' || !has(self.memberOf) "
                "|| !self.memberOf.exists(m, m.role == 'databricks_superuser')",
                "level: Superuser is the membership in databricks_superuser: leave it out of memberOf",
                field_path=".memberOf",
            ),
        )
    }

    connection_ref: Annotated[ConnectionRef, Field(json_schema_extra=validations(IMMUTABLE))]
    """The connection on whose server the role is."""
    role_name: Annotated[RoleName | None, Field(json_schema_extra=validations(IMMUTABLE))] = None
    """Name of the role. Absent: the identity's name, else `metadata.name`."""
    identity: Annotated[Identity | None, Field(json_schema_extra=validations(IMMUTABLE))] = None
    """A Databricks identity that logs in with OAuth. Absent: a plain role."""
    login: bool | None = None
    """Maps to LOGIN. Absent: an identity logs in, a new plain role (a group) does not, an adopted one stays as it is."""
    password: Password | None = None
    """A password to log in with, instead of OAuth. Absent: passwords are left as they are."""
    binding: Binding | None = None
    """How the login is published for applications; only with `password`."""
    suspend: bool = False
    """End access now: the role loses LOGIN and its sessions are ended. What it holds stays; both come back when this ends."""
    attributes: RoleAttributes = RoleAttributes()
    """Attributes; what is left out is left as it is."""
    member_of: Annotated[
        list[Membership],
        Field(
            max_length=64,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["role"]},
        ),
    ] = Field(default_factory=list)
    """Roles whose member this role is; the system's, such as `pg_read_all_data`, may be named too. A membership that others
    granted counts, and is left alone, unless the connection's `unmanagedGrants` says `Revoke`: then this list is exact."""
    settings: Annotated[dict[SettingName, Annotated[str, Field(max_length=1024)]], Field(max_length=64)] = (
        Field(default_factory=dict)
    )
    """Session defaults of the role (ALTER ROLE … SET)."""
    database_settings: Annotated[
        dict[
            DatabaseName,
            Annotated[
                dict[SettingName, Annotated[str, Field(max_length=1024)]], Field(min_length=1, max_length=64)
            ],
        ],
        Field(max_length=32),
    ] = Field(default_factory=dict)
    """Session defaults of the role in single databases, by database (ALTER ROLE … IN DATABASE … SET). The connection need
    not manage the database."""
    comment: Annotated[str, Field(min_length=1, max_length=1024)] | None = None
    """Comment on the role. Absent: the role's comment is left as it is; one that was set here is taken away."""
    owns: Annotated[list[Owned], Field(max_length=32)] = Field(default_factory=list)
    """Schemas and objects that this role owns, also those that match later. What is taken out of this list, or is left behind
    when this object goes, stays with its owner."""
    level: RoleLevel = RoleLevel.SPECIFIC
    """How far the role's rights go. `Superuser` must be asked for."""
    platform_schema: PlatformSchema | None = None
    """A schema of the role's own, for what the application keeps for itself. Published as `schema` unless `binding.schema` says
    otherwise."""
    exposes: Annotated[list[ExposedTables], Field(max_length=32)] = Field(default_factory=list)
    """The tables that the application is to see. They are described, with columns and unique keys, in a ConfigMap; what of them cannot
    be read is told. This gives no access: AccessGrants do."""
    test: ConnectionTest = ConnectionTest()
    """Test of the login as the application has it; only with `password`."""
    adopt: bool = True
    """Take over a role that exists already, without losing what it has. False: refuse with `RoleExists`."""
    deletion_policy: RoleDeletionPolicy = RoleDeletionPolicy.RETAIN
    """`Retain` keeps the role in the database when this object is deleted; `Drop` drops it."""
    reassign_owned_to: RoleName | None = None
    """Who gets the objects that the role owns, when it is dropped. Without it, owned objects block the drop."""


class BindingStatus(Model):
    """Where the login is published, as the Service Binding Specification wants it."""

    name: Annotated[str, Field(max_length=253)]
    """Name of the Secret."""


class PasswordStatus(Model):
    """What is known of the password; never the password itself."""

    login: Annotated[str, Field(max_length=63)]
    """The role that logs in with it."""
    set_at: datetime
    """When it was published. Its age counts from here."""
    next_rotation: datetime | None = None
    """When it is due to be replaced."""
    previous_until: datetime | None = None
    """With two logins: until when the one before works on."""
    handled_rotation: Annotated[str, Field(max_length=1024)] | None = None
    """The last value of the annotation `lakebase.dev/rotate` that was carried out."""


class PlatformSchemaStatus(Model):
    """What is known of the platform schema."""

    name: Annotated[str, Field(max_length=63)]
    """Name of the schema."""
    database: Annotated[str, Field(max_length=63)]
    """The database in which it is."""
    created: bool = False
    """Whether the operator made it (true) or found it (false)."""


class ConnectionTestStep(StrEnum):
    """A layer of the connection test."""

    NETWORK = "Network"
    """The name resolves, the port answers, TLS is spoken, and the host is the one that the control plane names."""
    AUTHENTICATION = "Authentication"
    """The published user and password are let in."""
    SCHEMA = "Schema"
    """The platform schema can be used and created in."""
    TABLES = "Tables"
    """The tables of `exposes` are there and can be read, and each has a unique key; without `exposes`, those in the schemas where the
    role holds something."""


class ConnectionTestResult(StrEnum):
    """How a step went."""

    PASSED = "Passed"
    WARNING = "Warning"
    """Works, but something should be looked at."""
    FAILED = "Failed"
    SKIPPED = "Skipped"
    """Not tried, since an earlier step left nothing to try it with, or there is nothing to test."""


class ConnectionTestEntry(Model):
    """One step of the last connection test."""

    step: ConnectionTestStep
    """What was tested."""
    result: ConnectionTestResult
    """How it went."""
    reason: Annotated[str, Field(max_length=64)]
    """Why, as a word to match on."""
    message: Annotated[str, Field(max_length=2048)] = ""
    """What is wrong and what to do."""
    at: datetime
    """When. While the test goes on failing in the same way: since when."""


class ExposedStatus(Model):
    """What is known of the tables that `exposes` selects."""

    config_map: Annotated[str, Field(max_length=253)]
    """The ConfigMap that describes them, in the namespace of this object: key `tables.json`."""
    tables: int
    """How many there are."""
    readable: int
    """How many of them the role can read, at least in part."""
    without_key: int
    """How many tables have no unique key."""
    left_out: int | None = None
    """How many of them found no place in the ConfigMap, which holds 900 kB."""


class PostgresRoleStatus(Status):
    """What the operator knows of the role."""

    role_name: Annotated[str, Field(max_length=63)] | None = None
    """Name of the role in the database."""
    oid: int | None = None
    """Its OID; it changes when the role is dropped and made anew."""
    created: bool | None = None
    """Whether the operator made it (true) or found it (false)."""
    member_of: Annotated[list[Annotated[str, Field(max_length=63)]], Field(max_length=64)] = Field(
        default_factory=list
    )
    """Memberships that this object has brought about; taken back when they are no longer declared."""
    settings: Annotated[list[Annotated[str, Field(max_length=63)]], Field(max_length=64)] = Field(
        default_factory=list
    )
    """Settings that this object has brought about; reset when they are no longer declared."""
    database_settings: Annotated[
        dict[DatabaseName, Annotated[list[Annotated[str, Field(max_length=63)]], Field(max_length=64)]],
        Field(max_length=32),
    ] = Field(default_factory=dict)
    """The same by database, of settings that hold in one database only."""
    binding: BindingStatus | None = None
    """Where the login is published."""
    password: PasswordStatus | None = None
    """Age and next change of the password."""
    platform_schema: PlatformSchemaStatus | None = None
    """The schema of the role's own."""
    exposed: ExposedStatus | None = None
    """The tables that the application is to see."""
    test: Annotated[list[ConnectionTestEntry], Field(max_length=8)] = Field(default_factory=list)
    """The last connection test, step by step."""
    owned: int | None = None
    """Objects that `spec.owns` selects and that the role owns."""
    unmanaged: int | None = None
    """Memberships and settings that nobody declares; counted where the connection's `unmanagedGrants` does not say `Keep`."""
    issues: Annotated[list[GrantIssue], Field(max_length=MAX_STATUS_ISSUES)] = Field(default_factory=list)
    """What is not as declared, or is not declared, at most 20."""
    dependencies: Annotated[list[Annotated[str, Field(max_length=512)]], Field(max_length=20)] = Field(
        default_factory=list
    )
    """What keeps the role from being dropped, at most 20."""


class PostgresRole(Resource):
    """One role: a Databricks identity (OAuth), a login, or a NOLOGIN group."""

    kind_name: ClassVar[str] = "PostgresRole"
    plural: ClassVar[str] = "postgresroles"
    short_names: ClassVar[tuple[str, ...]] = ("pgr",)
    columns: ClassVar[tuple[PrinterColumn, ...]] = (
        PrinterColumn(
            name="Connection",
            type="string",
            json_path=".spec.connectionRef.name",
            description="The connection.",
        ),
        PrinterColumn(
            name="Role",
            type="string",
            json_path=".status.roleName",
            description="Name of the role in the database.",
        ),
        PrinterColumn(
            name="Identity",
            type="string",
            json_path=".spec.identity.type",
            description="Kind of Databricks identity.",
        ),
        *READY_COLUMNS,
        *TRAILING_COLUMNS,
    )
    rules: ClassVar[tuple[dict[str, str], ...]] = (
        cel(
            "has(self.spec.roleName) || has(self.spec.identity) || self.metadata.name.size() <= 63",
            "metadata.name is the role's name when spec.roleName is absent: at most 63 bytes",
        ),
        cel(
            f"has(self.spec.roleName) || has(self.spec.identity) || {RESERVED_OBJECT_NAME_CEL}",
            "metadata.name is the role's name when spec.roleName is absent, and this one is reserved",
        ),
        cel(
            "has(self.spec.roleName) || !has(self.spec.password) || self.metadata.name.size() <= 61"
            f" || !{_TWO.format('self.spec')}",
            "metadata.name is the role's name when spec.roleName is absent: with two logins at most 61 bytes",
        ),
    )

    spec: PostgresRoleSpec
    status: PostgresRoleStatus = PostgresRoleStatus()

    @property
    def role_name(self) -> str:
        """The role's name in the database."""
        if self.spec.role_name:
            return self.spec.role_name
        return self.spec.identity.name if self.spec.identity else self.metadata.name

    @property
    def secret_name(self) -> str:
        """Name of the Secret in which the login is published."""
        named = self.spec.binding.secret_name if self.spec.binding else None
        return named or f"{self.metadata.name}-login"

    def login_database(self, databases: Sequence[str]) -> str:
        """The database that is published, one of the connection's by default."""
        named = self.spec.binding.database if self.spec.binding else None
        return named or databases[0]

    def platform_database(self, databases: Sequence[str]) -> str:
        """The database in which the platform schema is."""
        named = self.spec.platform_schema.database if self.spec.platform_schema else None
        return named or self.login_database(databases)

    @property
    def tables_name(self) -> str:
        """Name of the ConfigMap that describes the tables of ``spec.exposes``."""
        return f"{self.metadata.name}-tables"
