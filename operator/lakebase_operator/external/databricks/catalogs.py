"""Registering a PostgreSQL database as a catalog of Unity Catalog, by the API of its kind of Lakebase."""

import re
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import quote

from databricks.sdk import WorkspaceClient
from databricks.sdk.service.database import DatabaseCatalog
from databricks.sdk.service.postgres import Catalog, CatalogCatalogSpec

from lakebase_operator.api.reasons import Reason
from lakebase_operator.domain.errors import InvalidError, LakebaseError, NotReadyError

from .calls import Calls
from .errors import Task
from .instances import Progress, follow
from .targets import AutoscalingTarget, ProvisionedTarget, Target

_RIGHTS = "CREATE CATALOG in Unity Catalog, and CAN_USE on {}"
# The API has no error of its own for this. "… with such id already exists" is about the catalog's name.
_OTHER_CATALOG = re.compile(
    r"already (been )?(registered|linked|associated)|registered (with|as|under|in) (another|a different)",
    re.IGNORECASE,
)

_NAME_TAKEN = re.compile(r"such id already exists|catalog .*already exists", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class RegisteredCatalog:
    """A catalog as Databricks describes it."""

    uid: str | None
    database: str | None
    source: str | None
    """The branch's resource name, or the instance's name."""


class CatalogApi(Protocol):
    """What the operator asks of a workspace about a catalog of a database.

    All methods raise :class:`~lakebase_operator.domain.errors.LakebaseError` and nothing else.
    """

    @property
    def source(self) -> str:
        """The branch or instance in which the database is."""

    async def get(self, name: str) -> RegisteredCatalog | None:
        """The catalog of that name, if it is one of a Lakebase of this kind."""

    async def create(self, name: str, database: str, *, create_database: bool) -> str | None:
        """Register a database. The name of the operation that does it; None where the API has none."""

    async def delete(self, name: str) -> str | None:
        """Take a registration away. The name of the operation that does it; None where the API has none."""

    async def follow(self, operation: str) -> Progress:
        """How far an operation is."""


class DatabricksCatalogs:
    """Catalogs of the databases of one target."""

    def __init__(self, call: Calls, target: Target) -> None:
        self._call = call
        self._target = target
        self._needs = _RIGHTS.format(target.owner)

    @property
    def source(self) -> str:
        """See :class:`CatalogApi`."""
        match self._target:
            case AutoscalingTarget(project, branch, _):
                return f"projects/{project}/branches/{branch}"
            case ProvisionedTarget(instance):
                return instance

    async def get(self, name: str) -> RegisteredCatalog | None:
        """See :class:`CatalogApi`."""
        autoscaling = isinstance(self._target, AutoscalingTarget)
        ask = _get_of_branch if autoscaling else _get_of_instance
        try:
            return await self._call(
                Task(f"reading catalog {name}", "USE CATALOG on it"), lambda client: ask(client, name)
            )
        except NotReadyError as error:
            if error.reason is Reason.INSTANCE_NOT_FOUND:
                return None
            raise

    async def create(self, name: str, database: str, *, create_database: bool) -> str | None:
        """See :class:`CatalogApi`."""

        def ask(client: WorkspaceClient) -> str | None:
            if isinstance(self._target, AutoscalingTarget):
                spec = CatalogCatalogSpec(
                    postgres_database=database,
                    branch=self.source,
                    create_database_if_missing=create_database or None,
                )
                return str(client.postgres.create_catalog(Catalog(spec=spec), name).name())
            client.database.create_database_catalog(
                DatabaseCatalog(
                    name=name,
                    database_instance_name=self.source,
                    database_name=database,
                    create_database_if_not_exists=create_database or None,
                )
            )
            return None

        try:
            return await self._call(Task(f"registering catalog {name}", self._needs), ask)
        except LakebaseError as error:
            raise _explained(error) from None

    async def delete(self, name: str) -> str | None:
        """See :class:`CatalogApi`."""

        def ask(client: WorkspaceClient) -> str | None:
            if isinstance(self._target, AutoscalingTarget):
                return str(client.postgres.delete_catalog(f"catalogs/{_path(name)}").name())
            client.database.delete_database_catalog(_path(name))
            return None

        return await self._call(Task(f"deleting catalog {name}", "MANAGE on the catalog"), ask)

    async def follow(self, operation: str) -> Progress:
        """See :class:`CatalogApi`."""
        progress = await follow(self._call, operation)
        return progress if progress.error is None else Progress(progress.done, _explained(progress.error))


def registered_elsewhere(error: LakebaseError) -> bool:
    """Whether Databricks refuses since the database is registered as another catalog."""
    return _OTHER_CATALOG.search(error.message) is not None


def _explained(error: LakebaseError) -> LakebaseError:
    if registered_elsewhere(error):
        return InvalidError(
            Reason.DATABASE_ALREADY_REGISTERED,
            "The database is registered as another catalog, and can be registered as one only: name that one in spec.catalog, "
            f"or delete it first. {error.message}",
        )
    if _NAME_TAKEN.search(error.message):
        return InvalidError(
            Reason.CATALOG_NAME_TAKEN,
            f"Unity Catalog has a catalog of this name that is not one of this kind of Lakebase: choose another "
            f"spec.catalog. {error.message}",
        )
    return error


def _get_of_branch(client: WorkspaceClient, name: str) -> RegisteredCatalog:
    found = client.postgres.get_catalog(f"catalogs/{_path(name)}")
    status = found.status
    return RegisteredCatalog(
        found.uid, status.postgres_database if status else None, status.branch if status else None
    )


def _get_of_instance(client: WorkspaceClient, name: str) -> RegisteredCatalog:
    found = client.database.get_database_catalog(_path(name))
    return RegisteredCatalog(found.uid, found.database_name, found.database_instance_name)


def _path(name: str) -> str:
    return quote(name, safe="")
