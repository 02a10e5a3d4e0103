"""UserMapping: which Postgres role a person or service principal is."""

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from lakebase_operator.api.base import (
    READY_COLUMNS,
    TRAILING_COLUMNS,
    ConnectionRef,
    Model,
    PrinterColumn,
    Resource,
    Status,
    cel,
    validations,
)
from lakebase_operator.api.names import RESERVED_ROLE_CEL
from lakebase_operator.api.postgres_role import IdentityType, RoleName


class MappingMode(StrEnum):
    """How the role of a person is found."""

    EXPLICIT = "Explicit"
    SAME_NAME = "SameName"
    NONE = "None"


class CreateRole(StrEnum):
    """Whether a missing role is created."""

    IF_MISSING = "IfMissing"
    NEVER = "Never"


UserName = Annotated[str, Field(min_length=1, max_length=256)]


class UserMappingSpec(Model):
    """Which Postgres role a person or service principal is."""

    model_config = {
        "json_schema_extra": validations(
            cel(
                "(self.mapping == 'Explicit') == has(self.postgresUsername)",
                "postgresUsername goes with mapping: Explicit, and only with it",
                field_path=".postgresUsername",
            ),
            cel(
                f"self.mapping != 'SameName' || {RESERVED_ROLE_CEL.replace('self.', 'self.user.')}",
                "is reserved by PostgreSQL or Lakebase, so it cannot be the name of the person's role",
                field_path=".user",
            ),
            cel(
                "self.mapping != 'SameName' || bytes(self.user).size() <= 63",
                "is longer than 63 bytes, so it cannot be the name of the person's role",
                field_path=".user",
            ),
        )
    }

    user: UserName
    """The person's name as AccessGrants use it, such as an e-mail address."""
    connection_ref: ConnectionRef | None = None
    """The connection for which this holds. Absent: all connections of the namespace."""
    mapping: MappingMode = MappingMode.SAME_NAME
    """`Explicit`: the role is `postgresUsername`. `SameName`: the role has the user's name. `None`: no Postgres account."""
    postgres_username: RoleName | None = None
    """Name of the role, matched without regard to case."""
    create_role: CreateRole = CreateRole.IF_MISSING
    """Whether a missing role is created: as the Databricks identity `identityType` on Lakebase, else as a plain login role."""
    identity_type: IdentityType = IdentityType.USER
    """Kind of Databricks identity, for a role that is created."""


class ResolvedRole(Model):
    """The role of the user on one connection."""

    connection: Annotated[str, Field(max_length=512)]
    """Namespace and name of the connection."""
    role: Annotated[str, Field(max_length=63)] | None = None
    """The role, if there is one."""
    state: Annotated[str, Field(max_length=64)]
    """`Resolved`, `NotFound`, `Ambiguous`, `NoAccount`, or why it could not be found out."""


class UserMappingStatus(Status):
    """What the operator found."""

    roles: Annotated[
        list[ResolvedRole],
        Field(
            max_length=64,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["connection"]},
        ),
    ] = Field(default_factory=list)
    """The role on each connection, at most 64."""
    role: Annotated[str, Field(max_length=63)] | None = None
    """The role, when it is the same on all connections."""


class UserMapping(Resource):
    """Which Postgres role a person or service principal is (explicit name, same name, or none)."""

    kind_name: ClassVar[str] = "UserMapping"
    plural: ClassVar[str] = "usermappings"
    short_names: ClassVar[tuple[str, ...]] = ("um",)
    columns: ClassVar[tuple[PrinterColumn, ...]] = (
        PrinterColumn(name="User", type="string", json_path=".spec.user", description="The person."),
        PrinterColumn(
            name="Mapping", type="string", json_path=".spec.mapping", description="How the role is found."
        ),
        PrinterColumn(name="Role", type="string", json_path=".status.role", description="The Postgres role."),
        *READY_COLUMNS,
        *TRAILING_COLUMNS,
    )

    spec: UserMappingSpec
    status: UserMappingStatus = UserMappingStatus()
