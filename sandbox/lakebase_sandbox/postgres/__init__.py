"""Real PostgreSQL 16 and 18, plain or set up like a Lakebase compute."""

from lakebase_sandbox.postgres.identities import OPERATOR, PROJECT_OWNER, Identity, IdentityKind
from lakebase_sandbox.postgres.server import PostgresError, PostgresServer

__all__ = ["OPERATOR", "PROJECT_OWNER", "Identity", "IdentityKind", "PostgresError", "PostgresServer"]
