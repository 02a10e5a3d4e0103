"""What privileges are given on: the shapes of ``spec.objects``, one for each class of object that PostgreSQL knows.

Source: https://www.postgresql.org/docs/current/ddl-priv.html.
"""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from lakebase_operator.api.base import Glob, Identifier, Model, cel, validations
from lakebase_operator.api.names import SYSTEM_SCHEMA_CEL


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
    EXECUTE = "EXECUTE"
    SET = "SET"
    ALTER_SYSTEM = "ALTER SYSTEM"


def _selects(what: str) -> dict[str, str]:
    return cel("has(self.names) || has(self.matching)", f"name the {what}: names, matching, or both")


Names = Annotated[list[Identifier], Field(min_length=1, max_length=256)]
Globs = Annotated[list[Glob], Field(min_length=1, max_length=64)]
SchemaName = Annotated[
    Identifier, Field(json_schema_extra=validations(cel(SYSTEM_SCHEMA_CEL, "is a system schema")))
]
Columns = Annotated[
    list[Identifier],
    Field(min_length=1, max_length=256, json_schema_extra={"x-kubernetes-list-type": "set"}),
]
Signature = Annotated[str, Field(min_length=1, max_length=1024, pattern=r"^[^()]+(\(.*\))?$")]
"""A routine: its bare name, or with its input argument types as ``regprocedure`` prints them."""
ParameterName = Annotated[
    str,
    Field(
        min_length=1,
        max_length=127,
        pattern=r"^[A-Za-z_][A-Za-z0-9_$]*(\.[A-Za-z_][A-Za-z0-9_$]*)*$",
    ),
]
"""A configuration parameter, such as ``work_mem`` or ``app.tenant``."""


class Tables(Model):
    """Tables, views, materialized views, foreign tables and partitioned tables of one schema."""

    model_config = {"json_schema_extra": validations(_selects("tables"))}

    schema_: Annotated[SchemaName, Field(alias="schema")]
    """The schema."""
    names: Names | None = None
    """Exact names. A partition is selected only by its exact name: access to a partitioned table goes through the parent."""
    matching: Globs | None = None
    """Patterns; `*` alone means all."""
    except_: Annotated[Globs | None, Field(alias="except")] = None
    """Patterns of what is left out."""
    columns: Columns | None = None
    """Only these columns of each table. Takes SELECT, INSERT, UPDATE and REFERENCES; of an access level, what columns can
    carry."""


class Sequences(Model):
    """Sequences of one schema."""

    model_config = {"json_schema_extra": validations(_selects("sequences"))}

    schema_: Annotated[SchemaName, Field(alias="schema")]
    """The schema."""
    names: Names | None = None
    """Exact names."""
    matching: Globs | None = None
    """Patterns; `*` alone means all."""
    except_: Annotated[Globs | None, Field(alias="except")] = None
    """Patterns of what is left out."""


class Types(Model):
    """Types and domains of one schema."""

    model_config = {"json_schema_extra": validations(_selects("types"))}

    schema_: Annotated[SchemaName, Field(alias="schema")]
    """The schema."""
    names: Names | None = None
    """Exact names."""
    matching: Globs | None = None
    """Patterns; `*` alone means all."""
    except_: Annotated[Globs | None, Field(alias="except")] = None
    """Patterns of what is left out."""


class Routines(Model):
    """Functions, procedures and aggregates of one schema."""

    model_config = {"json_schema_extra": validations(_selects("routines"))}

    schema_: Annotated[SchemaName, Field(alias="schema")]
    """The schema."""
    names: Annotated[list[Signature], Field(min_length=1, max_length=256)] | None = None
    """`f(integer, other.money)`: one routine by the types of its input arguments. A bare `f`: all its overloads."""
    matching: Globs | None = None
    """Patterns of bare names; `*` alone means all."""
    except_: Annotated[Globs | None, Field(alias="except")] = None
    """Patterns of bare names that are left out."""


class Schemas(Model):
    """Schemas."""

    model_config = {"json_schema_extra": validations(_selects("schemas"))}

    names: Annotated[list[SchemaName], Field(min_length=1, max_length=256)] | None = None
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


class Languages(Model):
    """Procedural languages."""

    model_config = {"json_schema_extra": validations(_selects("languages"))}

    names: Names | None = None
    """Exact names."""
    matching: Globs | None = None
    """Patterns; only trusted languages match."""
    except_: Annotated[Globs | None, Field(alias="except")] = None
    """Patterns of what is left out."""


class ForeignDataWrappers(Model):
    """Foreign-data wrappers."""

    model_config = {"json_schema_extra": validations(_selects("foreign-data wrappers"))}

    names: Names | None = None
    """Exact names."""
    matching: Globs | None = None
    """Patterns; `*` alone means all."""
    except_: Annotated[Globs | None, Field(alias="except")] = None
    """Patterns of what is left out."""


class ForeignServers(Model):
    """Foreign servers."""

    model_config = {"json_schema_extra": validations(_selects("foreign servers"))}

    names: Names | None = None
    """Exact names."""
    matching: Globs | None = None
    """Patterns; `*` alone means all."""
    except_: Annotated[Globs | None, Field(alias="except")] = None
    """Patterns of what is left out."""


class Parameters(Model):
    """Configuration parameters of the server."""

    model_config = {"json_schema_extra": validations(_selects("parameters"))}

    names: Annotated[list[ParameterName], Field(min_length=1, max_length=256)] | None = None
    """Exact names; case does not count."""
    matching: Globs | None = None
    """Patterns; case does not count."""
    except_: Annotated[Globs | None, Field(alias="except")] = None
    """Patterns of what is left out; case does not count."""


class Tablespaces(Model):
    """Tablespaces of the server."""

    model_config = {"json_schema_extra": validations(_selects("tablespaces"))}

    names: Names | None = None
    """Exact names."""
    matching: Globs | None = None
    """Patterns; `*` alone means all but the system's."""
    except_: Annotated[Globs | None, Field(alias="except")] = None
    """Patterns of what is left out."""


class LargeObjects(Model):
    """Large objects."""

    ids: Annotated[
        list[Annotated[int, Field(ge=1, le=4294967295)]],
        Field(min_length=1, max_length=256, json_schema_extra={"x-kubernetes-list-type": "set"}),
    ]
    """Their OIDs."""


class DefaultObjectType(StrEnum):
    """Objects that default privileges are for."""

    TABLES = "tables"
    SEQUENCES = "sequences"
    ROUTINES = "routines"
    TYPES = "types"
    SCHEMAS = "schemas"
    LARGE_OBJECTS = "largeObjects"


class DefaultPrivileges(Model):
    """What new objects are born with (ALTER DEFAULT PRIVILEGES). Existing objects are left as they are."""

    model_config = {
        "json_schema_extra": validations(
            cel(
                "!(self.objectType in ['schemas', 'largeObjects']) || !has(self.schema)",
                "schemas and large objects are in no schema: leave schema out",
                field_path=".schema",
            ),
            cel(
                "has(self.creator) || has(self.schema)",
                "without a creator, name the schema whose creators are meant",
            ),
        )
    }

    creator: Identifier | None = None
    """The role whose new objects are meant. Absent: every role that owns or may create something in the schema, and that
    the operator may act for; the others are listed in `status.issues`."""
    object_type: DefaultObjectType
    """Kind of the new objects."""
    schema_: Annotated[SchemaName | None, Field(alias="schema")] = None
    """Only objects that are made in this schema. Absent: anywhere in the database."""


_MEMBERS = (
    "tables",
    "sequences",
    "routines",
    "types",
    "schemas",
    "databases",
    "languages",
    "foreignDataWrappers",
    "foreignServers",
    "parameters",
    "tablespaces",
    "largeObjects",
    "defaultPrivileges",
)


class Objects(Model):
    """What access is given to; exactly one of the members."""

    model_config = {
        "json_schema_extra": validations(
            cel(
                f"[{', '.join(f'has(self.{member})' for member in _MEMBERS)}].filter(x, x).size() == 1",
                f"give exactly one of {', '.join(_MEMBERS)} in each entry",
            )
        )
    }

    tables: Tables | None = None
    """Tables and what is like them, or columns of them."""
    sequences: Sequences | None = None
    """Sequences."""
    routines: Routines | None = None
    """Functions, procedures and aggregates."""
    types: Types | None = None
    """Types and domains."""
    schemas: Schemas | None = None
    """Schemas."""
    databases: Databases | None = None
    """Databases."""
    languages: Languages | None = None
    """Procedural languages."""
    foreign_data_wrappers: ForeignDataWrappers | None = None
    """Foreign-data wrappers."""
    foreign_servers: ForeignServers | None = None
    """Foreign servers."""
    parameters: Parameters | None = None
    """Configuration parameters."""
    tablespaces: Tablespaces | None = None
    """Tablespaces."""
    large_objects: LargeObjects | None = None
    """Large objects."""
    default_privileges: DefaultPrivileges | None = None
    """What new objects are born with."""
