"""The privilege model: which privileges exist on which class of object, and what an access level means.

Source: https://www.postgresql.org/docs/current/ddl-priv.html, table "Summary of Access Privileges".
"""

from enum import StrEnum

from lakebase_operator.api.access_grant import AccessLevel
from lakebase_operator.api.objects import DefaultObjectType, Privilege

MAINTAIN_SINCE = 17
"""Major version that brought MAINTAIN."""

DEFAULT_LARGE_OBJECTS_SINCE = 18
"""Major version that brought default privileges of large objects."""


class ObjectClass(StrEnum):
    """Class of a database object. Most are spelled as in ``GRANT … ON <class>``."""

    TABLE = "TABLE"
    """Tables, partitioned tables, views, materialized views and foreign tables."""
    COLUMN = "COLUMN"
    """A column of one of these."""
    SEQUENCE = "SEQUENCE"
    ROUTINE = "ROUTINE"
    """Functions, procedures and aggregates."""
    TYPE = "TYPE"
    """Types and domains."""
    SCHEMA = "SCHEMA"
    DATABASE = "DATABASE"
    LANGUAGE = "LANGUAGE"
    FOREIGN_DATA_WRAPPER = "FOREIGN DATA WRAPPER"
    FOREIGN_SERVER = "FOREIGN SERVER"
    LARGE_OBJECT = "LARGE OBJECT"
    PARAMETER = "PARAMETER"
    TABLESPACE = "TABLESPACE"
    DEFAULT_TABLES = "DEFAULT TABLES"
    """What a role's new tables are born with; so for the others below."""
    DEFAULT_SEQUENCES = "DEFAULT SEQUENCES"
    DEFAULT_ROUTINES = "DEFAULT ROUTINES"
    DEFAULT_TYPES = "DEFAULT TYPES"
    DEFAULT_SCHEMAS = "DEFAULT SCHEMAS"
    DEFAULT_LARGE_OBJECTS = "DEFAULT LARGE OBJECTS"

    @property
    def is_default(self) -> bool:
        """Default privileges: not an object, but what objects to come are born with."""
        return self.value.startswith("DEFAULT ")

    @property
    def in_schema(self) -> bool:
        """Its objects have names within a schema."""
        return self in _IN_SCHEMA

    @property
    def is_shared(self) -> bool:
        """Its objects belong to the whole server, not to one database."""
        return self in SHARED_CLASSES


_IN_SCHEMA = frozenset(
    {ObjectClass.TABLE, ObjectClass.COLUMN, ObjectClass.SEQUENCE, ObjectClass.ROUTINE, ObjectClass.TYPE}
)

SHARED_CLASSES = frozenset({ObjectClass.DATABASE, ObjectClass.PARAMETER, ObjectClass.TABLESPACE})
"""Classes of objects that belong to the whole server."""

_SEQUENCE = frozenset({Privilege.SELECT, Privilege.UPDATE, Privilege.USAGE})
_TABLE = frozenset(
    {
        Privilege.SELECT,
        Privilege.INSERT,
        Privilege.UPDATE,
        Privilege.DELETE,
        Privilege.TRUNCATE,
        Privilege.REFERENCES,
        Privilege.TRIGGER,
        Privilege.MAINTAIN,
    }
)
_LARGE_OBJECT = frozenset({Privilege.SELECT, Privilege.UPDATE})
_USAGE = frozenset({Privilege.USAGE})
_EXECUTE = frozenset({Privilege.EXECUTE})
_SCHEMA = frozenset({Privilege.USAGE, Privilege.CREATE})

PRIVILEGES: dict[ObjectClass, frozenset[Privilege]] = {
    ObjectClass.TABLE: _TABLE,
    ObjectClass.COLUMN: frozenset(
        {Privilege.SELECT, Privilege.INSERT, Privilege.UPDATE, Privilege.REFERENCES}
    ),
    ObjectClass.SEQUENCE: _SEQUENCE,
    ObjectClass.ROUTINE: _EXECUTE,
    ObjectClass.TYPE: _USAGE,
    ObjectClass.SCHEMA: _SCHEMA,
    ObjectClass.DATABASE: frozenset({Privilege.CONNECT, Privilege.CREATE, Privilege.TEMPORARY}),
    ObjectClass.LANGUAGE: _USAGE,
    ObjectClass.FOREIGN_DATA_WRAPPER: _USAGE,
    ObjectClass.FOREIGN_SERVER: _USAGE,
    ObjectClass.LARGE_OBJECT: _LARGE_OBJECT,
    ObjectClass.PARAMETER: frozenset({Privilege.SET, Privilege.ALTER_SYSTEM}),
    ObjectClass.TABLESPACE: frozenset({Privilege.CREATE}),
    ObjectClass.DEFAULT_TABLES: _TABLE,
    ObjectClass.DEFAULT_SEQUENCES: _SEQUENCE,
    ObjectClass.DEFAULT_ROUTINES: _EXECUTE,
    ObjectClass.DEFAULT_TYPES: _USAGE,
    ObjectClass.DEFAULT_SCHEMAS: _SCHEMA,
    ObjectClass.DEFAULT_LARGE_OBJECTS: _LARGE_OBJECT,
}
"""Every privilege that an object of the class can carry."""

DEFAULT_CLASSES: dict[DefaultObjectType, ObjectClass] = {
    DefaultObjectType.TABLES: ObjectClass.DEFAULT_TABLES,
    DefaultObjectType.SEQUENCES: ObjectClass.DEFAULT_SEQUENCES,
    DefaultObjectType.ROUTINES: ObjectClass.DEFAULT_ROUTINES,
    DefaultObjectType.TYPES: ObjectClass.DEFAULT_TYPES,
    DefaultObjectType.SCHEMAS: ObjectClass.DEFAULT_SCHEMAS,
    DefaultObjectType.LARGE_OBJECTS: ObjectClass.DEFAULT_LARGE_OBJECTS,
}

_READ = (Privilege.SELECT,)
_MODIFY = (Privilege.SELECT, Privilege.INSERT, Privilege.UPDATE, Privilege.DELETE)
_WRITE = (*_MODIFY, Privilege.TRUNCATE)
_MODIFY_SEQUENCE = (Privilege.SELECT, Privilege.USAGE)
_WRITE_SEQUENCE = (Privilege.SELECT, Privilege.UPDATE, Privilege.USAGE)
_TABLE_LEVELS = {AccessLevel.READ: _READ, AccessLevel.MODIFY: _MODIFY, AccessLevel.WRITE: _WRITE}
_SEQUENCE_LEVELS = {
    AccessLevel.READ: _READ,
    AccessLevel.MODIFY: _MODIFY_SEQUENCE,
    AccessLevel.WRITE: _WRITE_SEQUENCE,
}

ACCESS_LEVELS: dict[ObjectClass, dict[AccessLevel, tuple[Privilege, ...]]] = {
    ObjectClass.TABLE: _TABLE_LEVELS,
    ObjectClass.COLUMN: {
        AccessLevel.READ: _READ,
        AccessLevel.MODIFY: _MODIFY[:3],
        AccessLevel.WRITE: _WRITE[:3],
    },
    ObjectClass.SEQUENCE: _SEQUENCE_LEVELS,
    ObjectClass.SCHEMA: dict.fromkeys(AccessLevel, (Privilege.USAGE,)),
    ObjectClass.DATABASE: dict.fromkeys(AccessLevel, (Privilege.CONNECT,)),
    ObjectClass.DEFAULT_TABLES: _TABLE_LEVELS,
    ObjectClass.DEFAULT_SEQUENCES: _SEQUENCE_LEVELS,
    ObjectClass.DEFAULT_SCHEMAS: dict.fromkeys(AccessLevel, (Privilege.USAGE,)),
}
"""What an access level gives. Never ALL: on a table that would take in TRIGGER, REFERENCES and, from 17, MAINTAIN."""


def supported(privilege: Privilege, major_version: int) -> bool:
    """Whether a server of this major version knows the privilege."""
    return privilege is not Privilege.MAINTAIN or major_version >= MAINTAIN_SINCE


def class_supported(object_class: ObjectClass, major_version: int) -> bool:
    """Whether a server of this major version knows privileges on such objects."""
    return (
        object_class is not ObjectClass.DEFAULT_LARGE_OBJECTS or major_version >= DEFAULT_LARGE_OBJECTS_SINCE
    )
