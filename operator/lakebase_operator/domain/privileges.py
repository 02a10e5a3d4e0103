"""The privilege model: which privileges exist on which class of object, and what an access level means.

Source: https://www.postgresql.org/docs/current/ddl-priv.html, table "Summary of Access Privileges".
"""

from enum import StrEnum

from lakebase_operator.api.access_grant import AccessLevel, Privilege

MAINTAIN_SINCE = 17
"""Major version that brought MAINTAIN."""


class ObjectClass(StrEnum):
    """Class of a database object, spelled as in ``GRANT … ON <class>``."""

    TABLE = "TABLE"
    """Tables, partitioned tables, views, materialized views and foreign tables."""
    SEQUENCE = "SEQUENCE"
    SCHEMA = "SCHEMA"
    DATABASE = "DATABASE"


PRIVILEGES: dict[ObjectClass, frozenset[Privilege]] = {
    ObjectClass.TABLE: frozenset(
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
    ),
    ObjectClass.SEQUENCE: frozenset({Privilege.SELECT, Privilege.UPDATE, Privilege.USAGE}),
    ObjectClass.SCHEMA: frozenset({Privilege.USAGE, Privilege.CREATE}),
    ObjectClass.DATABASE: frozenset({Privilege.CONNECT, Privilege.CREATE, Privilege.TEMPORARY}),
}
"""Every privilege that an object of the class can carry."""

ACCESS_LEVELS: dict[AccessLevel, tuple[Privilege, ...]] = {
    AccessLevel.READ: (Privilege.SELECT,),
    AccessLevel.WRITE: (
        Privilege.SELECT,
        Privilege.INSERT,
        Privilege.UPDATE,
        Privilege.DELETE,
        Privilege.TRUNCATE,
    ),
}
"""What an access level gives on a plain or partitioned table. Never ALL: that would take in TRIGGER, REFERENCES and,
from 17, MAINTAIN."""


def supported(privilege: Privilege, major_version: int) -> bool:
    """Whether a server of this major version knows the privilege."""
    return privilege is not Privilege.MAINTAIN or major_version >= MAINTAIN_SINCE
