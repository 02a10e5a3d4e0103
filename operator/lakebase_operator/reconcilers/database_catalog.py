"""One look at a DatabaseCatalog: is the database registered in Unity Catalog, and is it to be. It never waits."""

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from datetime import UTC
from typing import Any, TypeVar

from lakebase_operator.api import DatabaseCatalog
from lakebase_operator.api.base import ANNOTATION_ABANDON
from lakebase_operator.api.database_catalog import CatalogDeletionPolicy
from lakebase_operator.api.lakebase_connection import LakebaseConnectionSpec
from lakebase_operator.api.lakebase_instance import Create
from lakebase_operator.api.reasons import Reason
from lakebase_operator.domain.errors import InvalidError, LakebaseError, NotReadyError
from lakebase_operator.domain.status import condition
from lakebase_operator.engine.catalog import key_of
from lakebase_operator.engine.keys import ConnectionKey, ObjectKey
from lakebase_operator.engine.runner import Outcome
from lakebase_operator.external.databricks import CatalogApi, RegisteredCatalog
from lakebase_operator.reconcilers.access import target_of
from lakebase_operator.reconcilers.instance_ref import resolved
from lakebase_operator.reconcilers.leaving import let_go
from lakebase_operator.reconcilers.report import Report
from lakebase_operator.reconcilers.services import Services
from lakebase_operator.reconcilers.timing import Pauses, jittered, observed
from lakebase_operator.reconcilers.view import is_abandoned, is_deleting, is_finalized
from lakebase_operator.reconcilers.workspaces import Workspaces, read_secrets
from lakebase_operator.reconcilers.writing import add_finalizers, write

T = TypeVar("T")

LONGEST_PAUSE = 15.0
"""Seconds between two looks at something that is changing."""
SLOW_RETRY = 60.0
"""Seconds between two looks at something that a person must change."""


@dataclass(slots=True)
class Memory:
    """What is remembered of a catalog between two looks."""

    uid: str
    pauses: Pauses
    secrets: dict[str, Mapping[str, bytes]] = field(default_factory=dict)
    connection: LakebaseConnectionSpec | None = None
    """The last that was found, with its target: a namespace that is deleted may lose it, and its Secret, before the catalog."""


class DatabaseCatalogReconciler:
    """Looks at DatabaseCatalogs, any number side by side."""

    def __init__(self, services: Services, workspaces: Workspaces) -> None:
        self._services = services
        self._workspaces = workspaces
        self._memories: dict[ObjectKey, Memory] = {}

    async def reconcile(self, catalog: DatabaseCatalog) -> Outcome:
        """Look at one that exists.

        Raises
        ------
        LakebaseError
            What could not be said in its status.
        """
        return await Look(self._services, self._workspaces, catalog, self._memory(catalog)).run()

    def forget(self, key: ObjectKey) -> None:
        """It does not exist any more."""
        self._memories.pop(key, None)

    def _memory(self, catalog: DatabaseCatalog) -> Memory:
        key, uid = key_of(catalog), catalog.metadata.uid
        memory = self._memories.get(key)
        if memory is None or memory.uid != uid:
            memory = Memory(uid, Pauses(self._services.settings.retry_base_seconds, LONGEST_PAUSE))
            self._memories[key] = memory
        return memory


@dataclass(slots=True)
class Look:
    """One look at one catalog."""

    services: Services
    workspaces: Workspaces
    catalog: DatabaseCatalog
    memory: Memory
    report: Report = field(default_factory=Report)
    fields: dict[str, Any] = field(default_factory=dict)
    """Fields of the status as they are to be; what is not named stays as it was."""
    goes: bool | None = None
    """Whether the object may go: True cleaned up, False without, None not yet."""

    async def run(self) -> Outcome:
        """Look, and write the status."""
        try:
            outcome = await (self._leave() if is_deleting(self.catalog) else self._look())
        except LakebaseError as error:
            outcome = self._failed(error)
        self.report.fields(self.catalog, self.fields)
        await write(self.services, self.report)
        if self.goes is not None:
            left = (
                None
                if self.goes
                else f'Let go without cleaning up. The catalog "{self.name}" is left as it is.'
            )
            await let_go(self.services, self.catalog, left_behind=left)
        return outcome

    async def _look(self) -> Outcome:
        api = await self._api()
        if not is_finalized(self.catalog):
            await add_finalizers(self.services, [self.catalog])
        if (outcome := await self._follow(api)) is not None:
            return outcome
        there = await self._observed("catalog", api.get(self.name))
        if there is None:
            return await self._missing(api)
        self._check(there, api)
        asked = (self._status().get("operation") or {}).get("action") == "Create"
        made = asked or bool(self._status().get("created"))
        self.fields |= {
            "created": made,
            "uid": there.uid,
            "state": "Registered",
            "database": there.database,
            "source": there.source,
            "operation": None,
        }
        message = f'The database "{self.catalog.spec.database}" is registered as catalog "{self.name}".'
        self._fact(True, Reason.CATALOG_REGISTERED, message)
        self.report.ready(self.catalog, Reason.SUCCEEDED, message)
        self.memory.pauses.reset()
        return Outcome(jittered(self.services.settings.instance_poll_seconds))

    def _check(self, there: RegisteredCatalog, api: CatalogApi) -> None:
        """Whether the catalog shows the declared database.

        Raises
        ------
        InvalidError
            It shows another one.
        """
        spec = self.catalog.spec
        if (there.database, there.source) == (spec.database, api.source):
            return
        self.fields |= {"state": "NotRegistered", "uid": None, "database": None, "source": None}
        raise InvalidError(
            Reason.CATALOG_NAME_TAKEN,
            f'The catalog "{self.name}" exists and shows the database "{there.database}" of {there.source}, not '
            f'"{spec.database}" of {api.source}. Name another one in spec.catalog, or delete that one first.',
        )

    async def _missing(self, api: CatalogApi) -> Outcome:
        spec = self.catalog.spec
        self.fields |= {"state": "NotRegistered", "uid": None, "database": None, "source": None}
        self._fact(
            False, Reason.CATALOG_NOT_REGISTERED, f'Unity Catalog has no catalog "{self.name}" of a Lakebase.'
        )
        if spec.create is Create.NEVER:
            raise NotReadyError(
                Reason.CATALOG_NOT_REGISTERED,
                f'Unity Catalog has no catalog "{self.name}", and spec.create is Never. It is seen when it is registered.',
            )
        operation = self._operation("Create")
        await self._announce(operation)
        try:
            name = await self._observed(
                "create catalog",
                api.create(self.name, spec.database, create_database=spec.create_database),
            )
        except InvalidError:
            self.fields["operation"] = None  # refused for good: nothing comes of it
            raise
        self.fields |= {"operation": operation | {"name": name}, "state": "Registering"}
        self.report.waiting(
            self.catalog, Reason.PROGRESSING, f'The catalog "{self.name}" is being registered.'
        )
        self.memory.pauses.reset()
        return Outcome(self.memory.pauses.next())

    async def _follow(self, api: CatalogApi) -> Outcome | None:
        """See how far the operation under way is. None: there is none any more.

        Raises
        ------
        LakebaseError
            It has failed; it is asked for anew at a later look.
        """
        operation = self._status().get("operation") or {}
        name = operation.get("name")
        if not name:
            return None
        progress = await self._observed("operation", api.follow(name))
        if progress.error is not None:
            self.fields |= {"operation": None, "state": "NotRegistered"}
            raise progress.error
        if progress.done:
            return None
        deleting = operation["action"] == "Delete"
        self.report.waiting(
            self.catalog,
            Reason.DELETING if deleting else Reason.PROGRESSING,
            f'The catalog "{self.name}" is being {"deleted" if deleting else "registered"}.',
        )
        return Outcome(self.memory.pauses.next())

    async def _announce(self, operation: Mapping[str, object]) -> None:
        """Write down what is about to be registered, so that it is known as the operator's own whatever happens in between."""
        self.fields["operation"] = operation
        announcement = Report()
        announcement.fields(self.catalog, self.fields)
        announcement.waiting(self.catalog, Reason.PROGRESSING, f'Asks Databricks to register "{self.name}".')
        await write(self.services, announcement)

    def _operation(self, action: str) -> dict[str, object]:
        return {
            "action": action,
            "resource": f"catalogs/{self.name}",
            "startTime": self.services.clock.now().astimezone(UTC),
        }

    # -- reaching Databricks -------------------------------------------------------------------------------------

    def _connection(self) -> LakebaseConnectionSpec:
        """The spec of the connection, with the target that it points at.

        Raises
        ------
        LakebaseError
            There is no such connection, or it is of no use here.
        """
        namespace, name = self.catalog.metadata.namespace, self.catalog.spec.connection_ref.name
        connection = self.services.catalog.connection(ConnectionKey(namespace, name))
        if connection is None:
            if is_deleting(self.catalog) and self.memory.connection is not None:
                return self.memory.connection
            raise NotReadyError(
                Reason.CONNECTION_NOT_FOUND,
                f'spec.connectionRef: there is no LakebaseConnection "{name}" in this namespace, or it cannot be read. It is '
                "picked up when it appears.",
            )
        if connection.spec.auth.password is not None or connection.spec.target.server is not None:
            raise InvalidError(
                Reason.INVALID_SPEC,
                f'spec.connectionRef: the LakebaseConnection "{connection.metadata.name}" has no login to a Databricks '
                "workspace: name one with OAuth.",
            )
        self.memory.connection = resolved(connection, self.services.catalog)
        return self.memory.connection

    async def _api(self) -> CatalogApi:
        spec = self._connection()
        secrets = await read_secrets(
            self.services,
            self.catalog.metadata.namespace,
            spec.auth,
            self.memory.secrets,
            remember=is_deleting(self.catalog),
        )
        workspace = self.workspaces.get(spec.workspace_url, spec.auth, secrets)
        return workspace.catalogs(target_of(spec))

    def _failed(self, error: LakebaseError) -> Outcome:
        if is_deleting(self.catalog):
            self.report.waiting(
                self.catalog,
                Reason.DELETION_BLOCKED,
                f'Cannot be deleted now: {error.message} The annotation {ANNOTATION_ABANDON}: "true" lets the object go '
                "without it.",
            )
        else:
            self.report.failed(self.catalog, error)
            if error.reason in (Reason.CATALOG_NAME_TAKEN, Reason.DATABASE_ALREADY_REGISTERED):
                self._fact(False, error.reason, error.message)
        if isinstance(error, InvalidError):
            return Outcome(SLOW_RETRY)
        return Outcome(max(self.memory.pauses.next(), error.retry_after or 0.0))

    # -- going ---------------------------------------------------------------------------------------------------

    async def _leave(self) -> Outcome:
        """Take the registration away if that is declared."""
        if not is_finalized(self.catalog):
            return Outcome()
        if is_abandoned(self.catalog):
            self.goes = False
            return Outcome()
        if self.catalog.spec.deletion_policy is CatalogDeletionPolicy.RETAIN:
            self.goes = True
            return Outcome()
        try:
            api = await self._api()
        except NotReadyError as error:
            if error.reason is not Reason.CONNECTION_NOT_FOUND:
                raise
            self.goes = False  # nobody is left who could ask
            return Outcome()
        if (outcome := await self._follow(api)) is not None:
            return outcome
        self.fields["operation"] = None
        there = await self._observed("catalog", api.get(self.name))
        if there is None or (there.database, there.source) != (self.catalog.spec.database, api.source):
            self.goes = True  # gone, or another database's
            return Outcome()
        operation = self._operation("Delete")
        name = await self._observed("delete catalog", api.delete(self.name))
        self.fields |= {"operation": operation | {"name": name} if name else None, "state": "Deleting"}
        self.report.waiting(self.catalog, Reason.DELETING, f'The catalog "{self.name}" is being deleted.')
        return Outcome(self.memory.pauses.next())

    # -- small things --------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The catalog's name in Unity Catalog."""
        return self.catalog.spec.catalog

    def _status(self) -> dict[str, Any]:
        return self.services.catalog.status(key_of(self.catalog))

    def _fact(self, status: bool, reason: Reason, message: str) -> None:
        self.report.fact(self.catalog, condition("CatalogRegistered", status, reason, message))

    async def _observed(self, operation: str, request: Awaitable[T]) -> T:
        return await observed(self.services.observer, "databricks", operation, request)
