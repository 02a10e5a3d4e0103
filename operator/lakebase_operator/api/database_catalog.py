"""DatabaseCatalog: a PostgreSQL database as a catalog of Unity Catalog."""

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from lakebase_operator.api.base import (
    IMMUTABLE,
    READY_COLUMNS,
    TRAILING_COLUMNS,
    Identifier,
    Model,
    Name,
    PrinterColumn,
    Resource,
    Status,
    validations,
)
from lakebase_operator.api.lakebase_instance import Create, OperationStatus, ShortText

CatalogName = Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[a-zA-Z0-9_][a-zA-Z0-9_-]*$")]


class LocalConnectionRef(Model):
    """Names a LakebaseConnection in the same namespace."""

    name: Name
    """Name of the LakebaseConnection."""


class CatalogDeletionPolicy(StrEnum):
    """What happens to the catalog when its object is deleted."""

    RETAIN = "Retain"
    DELETE = "Delete"


class DatabaseCatalogSpec(Model):
    """One database registered as one catalog."""

    connection_ref: Annotated[LocalConnectionRef, Field(json_schema_extra=validations(IMMUTABLE))]
    """The connection whose database it is. It says where the database is, and who asks Databricks; it has to log in with
    OAuth. The operator needs the right to create catalogs in Unity Catalog."""
    catalog: Annotated[CatalogName, Field(json_schema_extra=validations(IMMUTABLE))]
    """Name of the catalog in Unity Catalog."""
    database: Annotated[Identifier, Field(json_schema_extra=validations(IMMUTABLE))] = "databricks_postgres"
    """The database. It can be registered as one catalog only."""
    create: Create = Create.IF_MISSING
    """Whether the catalog is registered when it is missing. `Never` only reports `CatalogNotRegistered`."""
    create_database: bool = False
    """Make the database if there is none, when the catalog is registered."""
    deletion_policy: CatalogDeletionPolicy = CatalogDeletionPolicy.RETAIN
    """`Retain` keeps the catalog when this object is deleted; `Delete` takes the registration away. The database stays."""


class DatabaseCatalogStatus(Status):
    """What Databricks says of the catalog."""

    created: bool | None = None
    """Whether the operator registered it (true) or found it (false)."""
    uid: ShortText | None = None
    """Its id in Databricks."""
    state: Annotated[str, Field(max_length=64)] | None = None
    """`Registered`, `Registering`, `NotRegistered` or `Deleting`."""
    database: Annotated[str, Field(max_length=63)] | None = None
    """The database that the catalog shows."""
    source: ShortText | None = None
    """The branch or instance in which the database is."""
    operation: OperationStatus | None = None
    """The operation under way. It is followed by this name across restarts of the operator."""


class DatabaseCatalog(Resource):
    """One PostgreSQL database registered as one catalog of Unity Catalog."""

    kind_name: ClassVar[str] = "DatabaseCatalog"
    plural: ClassVar[str] = "databasecatalogs"
    short_names: ClassVar[tuple[str, ...]] = ("dbc",)
    columns: ClassVar[tuple[PrinterColumn, ...]] = (
        *READY_COLUMNS,
        PrinterColumn(
            name="Catalog", type="string", json_path=".spec.catalog", description="Name in Unity Catalog."
        ),
        PrinterColumn(
            name="Database", type="string", json_path=".spec.database", description="The database."
        ),
        PrinterColumn(
            name="State", type="string", json_path=".status.state", description="Whether it is registered."
        ),
        *TRAILING_COLUMNS,
    )

    spec: DatabaseCatalogSpec
    status: DatabaseCatalogStatus = DatabaseCatalogStatus()
