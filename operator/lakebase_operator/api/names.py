"""Names that PostgreSQL or Lakebase keeps for itself, and how they are refused.

``GRANT … TO "public"`` means PUBLIC even when quoted, so quoting alone does not protect; names over 63 *bytes* are cut
short silently by the server. Both are refused before any SQL is composed.
"""

import re

_SYSTEM_ROLES = "authenticator|cloud_admin|zenith_admin|pg_.*|databricks_.*|neon.*"

SYSTEM_ROLE = re.compile(rf"^({_SYSTEM_ROLES})$", re.IGNORECASE)
"""Roles that belong to PostgreSQL or to Lakebase."""

RESERVED_ROLE = re.compile(
    rf"^(public|none|current_user|current_role|session_user|user|{_SYSTEM_ROLES})$", re.IGNORECASE
)
"""Role names that are never created, altered or granted to."""

RESERVED_ROLE_CEL = f"!self.lowerAscii().matches('{RESERVED_ROLE.pattern}')"
"""The same rule for the API server."""

RESERVED_OBJECT_NAME_CEL = "!(self.metadata.name in ['public', 'none', 'user', 'authenticator']) && !self.metadata.name.startsWith('neon')"
"""The same rule for an object's own name, which has neither capitals nor underscores."""

SYSTEM_SCHEMA = re.compile(
    r"^(pg_.*|information_schema|neon|neon_.*|__db_system|databricks_auth|lakebase_operator)$"
)
"""Schemas that belong to PostgreSQL, to Lakebase or to this operator."""

SYSTEM_SCHEMA_CEL = f"!self.matches('{SYSTEM_SCHEMA.pattern}')"

RESERVED_CONNECTION_NAMES = (
    "data", "connection", "object", "crawl", "search", "settings", "metadata", "permission", "sync", "bulk", "upgrade",
)  # fmt: skip
"""Words that cannot be the name of a connection: they are path segments or prefixes elsewhere."""

MAX_NAME_BYTES = 63


def role_name_problem(name: str) -> str | None:
    """Why ``name`` cannot be a managed role, or None if it can.

    Source: https://www.postgresql.org/docs/current/sql-createrole.html (reserved prefix ``pg_``) and
    https://www.postgresql.org/docs/current/sql-syntax-lexical.html#SQL-SYNTAX-IDENTIFIERS (63 bytes).
    """
    if not name:
        return "is empty"
    if len(name.encode()) > MAX_NAME_BYTES:
        return f"is {len(name.encode())} bytes long; PostgreSQL keeps only {MAX_NAME_BYTES}"
    if "\x00" in name:
        return "holds a NUL character"
    if RESERVED_ROLE.fullmatch(name):
        return "is reserved by PostgreSQL or Lakebase"
    return None
