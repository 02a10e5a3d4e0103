"""AccessGrant: subjects × objects × access."""

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from lakebase_operator.api.base import (
    IMMUTABLE,
    MAX_STATUS_ISSUES,
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
from lakebase_operator.api.names import RESERVED_ROLE_CEL
from lakebase_operator.api.objects import DefaultObjectType, Objects, Privilege


class SubjectKind(StrEnum):
    """What a subject is."""

    USER = "User"
    ROLE = "Role"
    PUBLIC = "Public"


class Subject(Model):
    """Who gets access."""

    model_config = {
        "json_schema_extra": validations(
            cel(
                "(self.kind == 'Public') != has(self.name)",
                "name goes with kind: User and Role, and only with them",
            ),
            cel(
                f"self.kind != 'Role' || !has(self.name) || {RESERVED_ROLE_CEL.replace('self.', 'self.name.')}",
                "is reserved by PostgreSQL or Lakebase; for everybody write kind: Public",
                field_path=".name",
            ),
            cel(
                "self.kind != 'Role' || !has(self.name) || bytes(self.name).size() <= 63",
                "is longer than 63 bytes; PostgreSQL would cut it short",
                field_path=".name",
            ),
        )
    }

    kind: SubjectKind
    """`User`: a person or service principal, found through a UserMapping or by the same name. `Role`: a Postgres role,
    by its exact name. `Public`: everybody."""
    name: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    """Name of the user or role."""


class AccessLevel(StrEnum):
    """What people usually mean."""

    READ = "Read"
    """SELECT."""
    MODIFY = "Modify"
    """Also INSERT, UPDATE and DELETE: what Databricks calls MODIFY. Tables cannot be emptied with TRUNCATE."""
    WRITE = "Write"
    """Also TRUNCATE."""


class Ensure(StrEnum):
    """Whether privileges are to be held."""

    PRESENT = "Present"
    ABSENT = "Absent"


_FITTING = {
    "tables": "SELECT INSERT UPDATE DELETE TRUNCATE REFERENCES TRIGGER MAINTAIN",
    "sequences": "SELECT UPDATE USAGE",
    "routines": "EXECUTE",
    "types": "USAGE",
    "schemas": "USAGE CREATE",
    "databases": "CONNECT CREATE TEMPORARY",
    "languages": "USAGE",
    "foreignDataWrappers": "USAGE",
    "foreignServers": "USAGE",
    "parameters": "SET,ALTER SYSTEM",
    "tablespaces": "CREATE",
    "largeObjects": "SELECT UPDATE",
}
"""Privileges by member of ``objects``, as the API server checks them; ``domain.privileges`` has the same by class."""


def _listed(privileges: str) -> list[str]:
    return privileges.split(",") if "," in privileges else privileges.split()


def _fits(member: str, privileges: list[str], where: str = "", what: str = "") -> dict[str, str]:
    return cel(
        f"!has(self.privileges) || !self.objects.exists(o, has(o.{member}){where}) "
        f"|| self.privileges.all(p, p in {privileges})",
        f"{what or member} take only the privileges {', '.join(privileges)}",
        field_path=".privileges",
    )


def _fits_new(member: str) -> dict[str, str]:
    where = f" && o.defaultPrivileges.objectType == '{member}'"
    return _fits("defaultPrivileges", _listed(_FITTING[member]), where, f"new {member}")


_LEVELS = ("tables", "sequences", "schemas", "databases")
"""Members that an access level says something of; default privileges of these besides."""


class AccessGrantSpec(Model):
    """Subjects × objects × access."""

    model_config = {
        "json_schema_extra": validations(
            cel("has(self.access) != has(self.privileges)", "give exactly one of access and privileges"),
            *(_fits(member, _listed(privileges)) for member, privileges in _FITTING.items()),
            _fits("tables", ["SELECT", "INSERT", "UPDATE", "REFERENCES"], " && has(o.tables.columns)"),
            *(_fits_new(member.value) for member in DefaultObjectType),
            cel(
                f"!has(self.access) || self.objects.all(o, {' || '.join(f'has(o.{member})' for member in _LEVELS)} "
                "|| (has(o.defaultPrivileges) && o.defaultPrivileges.objectType in ['tables', 'sequences', 'schemas']))",
                "access speaks of tables, sequences, schemas and databases; for other objects list privileges",
                field_path=".access",
            ),
            cel(
                "!has(self.ensure) || self.ensure != 'Absent' || has(self.privileges)",
                "ensure: Absent needs privileges: say exactly what must not be held",
                field_path=".privileges",
            ),
            cel(
                "!has(self.ensure) || self.ensure != 'Absent' || !has(self.newObjects) || self.newObjects",
                "ensure: Absent holds for new objects too",
                field_path=".newObjects",
            ),
            cel(
                "!has(self.grantOption) || !self.grantOption || self.subjects.all(s, s.kind != 'Public')",
                "PUBLIC cannot have grant options",
                field_path=".grantOption",
            ),
            cel(
                "!has(self.notBefore) || !has(self.expiresAt) || timestamp(self.notBefore) < timestamp(self.expiresAt)",
                "expiresAt must be later than notBefore",
                field_path=".expiresAt",
            ),
        )
    }

    connection_ref: Annotated[ConnectionRef, Field(json_schema_extra=validations(IMMUTABLE))]
    """The connection on whose server access is given."""
    database: Annotated[Identifier, Field(json_schema_extra=validations(IMMUTABLE))] = "databricks_postgres"
    """The database in which the objects are; one of the connection's `databases`."""
    subjects: Annotated[list[Subject], Field(min_length=1, max_length=512)]
    """Who gets access."""
    access: AccessLevel | None = None
    """`Read`: SELECT on tables and sequences. `Modify`: also INSERT, UPDATE, DELETE, and USAGE and SELECT on the sequences that
    the tables own; USAGE and SELECT on sequences. `Write`: INSERT, UPDATE, DELETE, TRUNCATE beside SELECT, and USAGE on the
    sequences that the tables own; UPDATE and USAGE beside SELECT on sequences. All: USAGE on schemas, CONNECT on databases,
    also on those that hold the selected objects."""
    privileges: (
        Annotated[
            list[Privilege],
            Field(min_length=1, max_length=15, json_schema_extra={"x-kubernetes-list-type": "set"}),
        ]
        | None
    ) = None
    """Exactly these privileges on exactly these objects, and nothing besides."""
    ensure: Ensure = Ensure.PRESENT
    """`Present`: the subjects hold this. `Absent`: they do not, whoever granted it, an owner's own privileges and what
    PUBLIC has by default included. Where both are declared, Absent holds and both say so."""
    grant_option: bool = False
    """The subjects may grant this on. With `ensure: Absent`: only the grant option is taken away."""
    objects: Annotated[list[Objects], Field(min_length=1, max_length=32)]
    """What access is given to."""
    new_objects: bool = True
    """Objects that come to match later are granted at the next sync. False: only those that exist when this version of
    the spec is first carried out."""
    not_before: Timestamp | None = None
    """Nothing is held before this moment."""
    expires_at: Timestamp | None = None
    """Everything is taken back within 60 seconds after this moment."""
    suspend: bool = False
    """Take everything back until this is false again."""
    reason: Annotated[str, Field(max_length=1024)] | None = None
    """Why this access exists, such as a ticket; for people."""


class SubjectStatus(Model):
    """What became of one subject."""

    name: Annotated[str, Field(max_length=256)]
    """As in the spec; `PUBLIC` for everybody."""
    role: Annotated[str, Field(max_length=63)] | None = None
    """The Postgres role."""
    state: Annotated[str, Field(max_length=64)]
    """`Resolved`, `NotFound`, `Ambiguous` or `NoAccount`."""


class GrantCounts(Model):
    """Privileges, counted per object, grantee and privilege."""

    wanted: int
    """Declared here."""
    held: int
    """Of these, found in the database when it was last read back."""


class GrantIssue(Model):
    """Something that is not as declared, or not quite."""

    object: Annotated[str, Field(max_length=512)]
    """The object, with its schema."""
    role: Annotated[str, Field(max_length=63)] | None = None
    """The grantee."""
    privilege: Annotated[str, Field(max_length=64)] | None = None
    """The privilege."""
    reason: Annotated[str, Field(max_length=64)]
    """Why."""
    fix: Annotated[str, Field(max_length=1024)]
    """What to do: often the exact statement that somebody else must run."""


class AccessGrantStatus(Status):
    """What is held."""

    subjects: Annotated[list[SubjectStatus], Field(max_length=512)] = Field(default_factory=list)
    """What became of each subject."""
    objects: int | None = None
    """Objects that match now."""
    grants: GrantCounts | None = None
    """Declared and held privileges."""
    issues: Annotated[list[GrantIssue], Field(max_length=MAX_STATUS_ISSUES)] = Field(default_factory=list)
    """What is not as declared, at most 20."""
    expires_at: Timestamp | None = None
    """When access ends."""


class AccessGrant(Resource):
    """Subjects × objects × access."""

    kind_name: ClassVar[str] = "AccessGrant"
    plural: ClassVar[str] = "accessgrants"
    short_names: ClassVar[tuple[str, ...]] = ("ag",)
    columns: ClassVar[tuple[PrinterColumn, ...]] = (
        PrinterColumn(
            name="Connection",
            type="string",
            json_path=".spec.connectionRef.name",
            description="The connection.",
        ),
        PrinterColumn(
            name="Database",
            type="string",
            json_path=".spec.database",
            description="The database.",
            priority=1,
        ),
        PrinterColumn(
            name="Access", type="string", json_path=".spec.access", description="The level of access."
        ),
        PrinterColumn(
            name="Objects", type="integer", json_path=".status.objects", description="Matching objects."
        ),
        PrinterColumn(
            name="Held",
            type="integer",
            json_path=".status.grants.held",
            description="Privileges that are held.",
        ),
        PrinterColumn(
            name="Wanted",
            type="integer",
            json_path=".status.grants.wanted",
            description="Privileges that are declared.",
        ),
        *READY_COLUMNS,
        PrinterColumn(
            name="Expires", type="string", json_path=".spec.expiresAt", description="When access ends."
        ),
        *TRAILING_COLUMNS,
    )

    spec: AccessGrantSpec
    status: AccessGrantStatus = AccessGrantStatus()
