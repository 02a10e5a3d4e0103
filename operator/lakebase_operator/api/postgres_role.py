"""PostgresRole: one role."""

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from lakebase_operator.api.base import (
    FITS_IN_A_NAME,
    IMMUTABLE,
    READY_COLUMNS,
    TRAILING_COLUMNS,
    ConnectionRef,
    Identifier,
    Model,
    PrinterColumn,
    Resource,
    Status,
    Timestamp,
    cel,
    validations,
)
from lakebase_operator.api.names import RESERVED_OBJECT_NAME_CEL, RESERVED_ROLE_CEL

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
    """Maps to VALID UNTIL. PostgreSQL looks at it for password logins only: end access with `expiresAt` of an AccessGrant."""


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


class RoleDeletionPolicy(StrEnum):
    """What happens to the role when its object is deleted."""

    RETAIN = "Retain"
    DROP = "Drop"


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
    attributes: RoleAttributes = RoleAttributes()
    """Attributes; what is left out is left as it is."""
    member_of: Annotated[
        list[Membership],
        Field(
            max_length=64,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["role"]},
        ),
    ] = Field(default_factory=list)
    """Roles whose member this role is. Memberships that others granted are left alone."""
    settings: Annotated[dict[SettingName, Annotated[str, Field(max_length=1024)]], Field(max_length=64)] = (
        Field(default_factory=dict)
    )
    """Session defaults of the role (ALTER ROLE … SET)."""
    adopt: bool = True
    """Take over a role that exists already, without losing what it has. False: refuse with `RoleExists`."""
    deletion_policy: RoleDeletionPolicy = RoleDeletionPolicy.RETAIN
    """`Retain` keeps the role in the database when this object is deleted; `Drop` drops it."""
    reassign_owned_to: RoleName | None = None
    """Who gets the objects that the role owns, when it is dropped. Without it, owned objects block the drop."""


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
    )

    spec: PostgresRoleSpec
    status: PostgresRoleStatus = PostgresRoleStatus()

    @property
    def role_name(self) -> str:
        """The role's name in the database."""
        if self.spec.role_name:
            return self.spec.role_name
        return self.spec.identity.name if self.spec.identity else self.metadata.name
