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
    Glob,
    Identifier,
    Model,
    PrinterColumn,
    Resource,
    Status,
    Timestamp,
    cel,
    validations,
)
from lakebase_operator.api.names import RESERVED_ROLE_CEL, SYSTEM_SCHEMA_CEL


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
    WRITE = "Write"


class Privilege(StrEnum):
    """PostgreSQL's privileges (https://www.postgresql.org/docs/current/ddl-priv.html)."""

    SELECT = "SELECT"
    INSERT = "INSERT"
    UPDATE = "UPDATE"
    DELETE = "DELETE"
    TRUNCATE = "TRUNCATE"
    REFERENCES = "REFERENCES"
    TRIGGER = "TRIGGER"
    MAINTAIN = "MAINTAIN"
    USAGE = "USAGE"
    CREATE = "CREATE"
    CONNECT = "CONNECT"
    TEMPORARY = "TEMPORARY"


def _selects(what: str) -> dict[str, str]:
    return cel("has(self.names) || has(self.matching)", f"name the {what}: names, matching, or both")


Names = Annotated[list[Identifier], Field(min_length=1, max_length=256)]
Globs = Annotated[list[Glob], Field(min_length=1, max_length=64)]


class Tables(Model):
    """Tables, views, materialized views, foreign tables and partitioned tables of one schema."""

    model_config = {"json_schema_extra": validations(_selects("tables"))}

    schema_: Annotated[
        Identifier,
        Field(alias="schema", json_schema_extra=validations(cel(SYSTEM_SCHEMA_CEL, "is a system schema"))),
    ]
    """The schema."""
    names: Names | None = None
    """Exact names. A partition is selected only by its exact name: access to a partitioned table goes through the parent."""
    matching: Globs | None = None
    """Patterns; `*` alone means all."""
    except_: Annotated[Globs | None, Field(alias="except")] = None
    """Patterns of what is left out."""


class Schemas(Model):
    """Schemas."""

    model_config = {"json_schema_extra": validations(_selects("schemas"))}

    names: (
        Annotated[
            list[
                Annotated[
                    Identifier,
                    Field(json_schema_extra=validations(cel(SYSTEM_SCHEMA_CEL, "is a system schema"))),
                ]
            ],
            Field(min_length=1, max_length=256),
        ]
        | None
    ) = None
    """Exact names."""
    matching: Globs | None = None
    """Patterns; `*` alone means all but the system's."""
    except_: Annotated[Globs | None, Field(alias="except")] = None
    """Patterns of what is left out."""


class Databases(Model):
    """Databases of the server."""

    model_config = {"json_schema_extra": validations(_selects("databases"))}

    names: Names | None = None
    """Exact names."""
    matching: Globs | None = None
    """Patterns; `*` alone means all but templates and the system's."""
    except_: Annotated[Globs | None, Field(alias="except")] = None
    """Patterns of what is left out."""


class Objects(Model):
    """What access is given to; exactly one of the members."""

    model_config = {
        "json_schema_extra": validations(
            cel(
                "[has(self.tables), has(self.schemas), has(self.databases)].filter(x, x).size() == 1",
                "give exactly one of tables, schemas, databases in each entry",
            )
        )
    }

    tables: Tables | None = None
    """Tables and what is like them."""
    schemas: Schemas | None = None
    """Schemas."""
    databases: Databases | None = None
    """Databases."""


_TABLE = "['SELECT','INSERT','UPDATE','DELETE','TRUNCATE','REFERENCES','TRIGGER','MAINTAIN']"
_SCHEMA = "['USAGE','CREATE']"
_DATABASE = "['CONNECT','CREATE','TEMPORARY']"


def _fits(member: str, privileges: str) -> dict[str, str]:
    return cel(
        f"!has(self.privileges) || !self.objects.exists(o, has(o.{member})) || self.privileges.all(p, p in {privileges})",
        f"{member} take only the privileges {', '.join(privileges.strip('[]').replace(chr(39), '').split(','))}",
        field_path=".privileges",
    )


class AccessGrantSpec(Model):
    """Subjects × objects × access."""

    model_config = {
        "json_schema_extra": validations(
            cel("has(self.access) != has(self.privileges)", "give exactly one of access and privileges"),
            _fits("tables", _TABLE),
            _fits("schemas", _SCHEMA),
            _fits("databases", _DATABASE),
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
    """`Read`: SELECT on tables. `Write`: also INSERT, UPDATE, DELETE, TRUNCATE, and USAGE on the sequences that the tables
    own. Both: USAGE on schemas, CONNECT on databases, also on those that hold the selected tables."""
    privileges: (
        Annotated[
            list[Privilege],
            Field(min_length=1, max_length=12, json_schema_extra={"x-kubernetes-list-type": "set"}),
        ]
        | None
    ) = None
    """Exactly these privileges on exactly these objects, and nothing besides."""
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
