"""The kinds of ``lakebase.dev/v1alpha1``. The models here are the CustomResourceDefinitions."""

from lakebase_operator.api.access_grant import AccessGrant
from lakebase_operator.api.base import Resource
from lakebase_operator.api.database_catalog import DatabaseCatalog
from lakebase_operator.api.lakebase_connection import LakebaseConnection
from lakebase_operator.api.lakebase_instance import LakebaseInstance
from lakebase_operator.api.postgres_role import PostgresRole
from lakebase_operator.api.reasons import Reason
from lakebase_operator.api.user_mapping import UserMapping

KINDS: tuple[type[Resource], ...] = (
    LakebaseConnection,
    PostgresRole,
    UserMapping,
    AccessGrant,
    LakebaseInstance,
    DatabaseCatalog,
)

__all__ = [
    "KINDS",
    "AccessGrant",
    "DatabaseCatalog",
    "LakebaseConnection",
    "LakebaseInstance",
    "PostgresRole",
    "Reason",
    "Resource",
    "UserMapping",
]
