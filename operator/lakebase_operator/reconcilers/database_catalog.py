"""One look at a DatabaseCatalog: is the database registered in Unity Catalog, and is it to be. It never waits."""

from dataclasses import dataclass

from lakebase_operator.api import DatabaseCatalog
from lakebase_operator.api.database_catalog import CatalogDeletionPolicy
from lakebase_operator.api.lakebase_connection import LakebaseConnectionSpec
from lakebase_operator.api.lakebase_instance import Create
from lakebase_operator.api.reasons import Reason
from lakebase_operator.domain.errors import InvalidError, LakebaseError, NotReadyError
from lakebase_operator.domain.status import condition
from lakebase_operator.engine.catalog import CONNECTION
from lakebase_operator.engine.keys import ConnectionKey, ObjectKey
from lakebase_operator.engine.runner import Outcome
from lakebase_operator.external.databricks import CatalogApi, RegisteredCatalog
from lakebase_operator.reconcilers.access import target_of
from lakebase_operator.reconcilers.instance_ref import resolved
from lakebase_operator.reconcilers.object_look import LONGEST_PAUSE, ObjectLook, ObjectLooks, ObjectMemory
from lakebase_operator.reconcilers.timing import Pauses, jittered
from lakebase_operator.reconcilers.view import is_abandoned, is_deleting, is_finalized
from lakebase_operator.reconcilers.writing import add_finalizers


@dataclass(slots=True, kw_only=True)
class Memory(ObjectMemory):
    """What is remembered of a catalog."""

    connection: LakebaseConnectionSpec | None = None
    """The last that was found, with its target: a namespace that is deleted may lose it, and its Secret, before the catalog."""


class DatabaseCatalogReconciler(ObjectLooks[DatabaseCatalog, Memory]):
    """Looks at DatabaseCatalogs."""

    def _new_memory(self, uid: str) -> Memory:
        return Memory(uid=uid, pauses=Pauses(self._services.settings.retry_base_seconds, LONGEST_PAUSE))

    def _new_look(self, subject: DatabaseCatalog, memory: Memory) -> "Look":
        return Look(self._services, self._workspaces, subject, memory)


class Look(ObjectLook[DatabaseCatalog, Memory]):
    """One look at one catalog."""

    @property
    def name(self) -> str:
        """The catalog's name in Unity Catalog."""
        return self.subject.spec.catalog

    @property
    def thing(self) -> str:
        return f'catalog "{self.name}"'

    async def _look(self) -> Outcome:
        api = await self._api()
        if not is_finalized(self.subject) and not await add_finalizers(self.services, [self.subject]):
            return Outcome()  # it is gone, or on its way: that brings another look
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
        message = f'The database "{self.subject.spec.database}" is registered as catalog "{self.name}".'
        self._fact(True, Reason.CATALOG_REGISTERED, message)
        self.report.ready(self.subject, Reason.SUCCEEDED, message)
        self.memory.pauses.reset()
        return Outcome(jittered(self.services.settings.instance_poll_seconds))

    def _check(self, there: RegisteredCatalog, api: CatalogApi) -> None:
        """Whether the catalog shows the declared database.

        Raises
        ------
        InvalidError
            It shows another one.
        """
        spec = self.subject.spec
        if (there.database, there.source) == (spec.database, api.source):
            return
        self.fields |= {"state": "NotRegistered", "uid": None, "database": None, "source": None}
        raise InvalidError(
            Reason.CATALOG_NAME_TAKEN,
            f'The catalog "{self.name}" exists and shows the database "{there.database}" of {there.source}, not '
            f'"{spec.database}" of {api.source}. Name another one in spec.catalog, or delete that one first.',
        )

    async def _missing(self, api: CatalogApi) -> Outcome:
        spec = self.subject.spec
        self.fields |= {"state": "NotRegistered", "uid": None, "database": None, "source": None}
        self._fact(
            False, Reason.CATALOG_NOT_REGISTERED, f'Unity Catalog has no catalog "{self.name}" of a Lakebase.'
        )
        if spec.create is Create.NEVER:
            raise NotReadyError(
                Reason.CATALOG_NOT_REGISTERED,
                f'Unity Catalog has no catalog "{self.name}", and spec.create is Never. It is seen when it is registered.',
            )
        operation = self._operation("Create", f"catalogs/{self.name}")
        await self._announce(operation, f'Asks Databricks to register "{self.name}".')
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
            self.subject, Reason.PROGRESSING, f'The catalog "{self.name}" is being registered.'
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
            self.subject,
            Reason.DELETING if deleting else Reason.PROGRESSING,
            f'The catalog "{self.name}" is being {"deleted" if deleting else "registered"}.',
        )
        return Outcome(self.memory.pauses.next())

    # -- reaching Databricks -------------------------------------------------------------------------------------

    def _connection(self) -> LakebaseConnectionSpec:
        """The spec of the connection, with the target that it points at.

        Raises
        ------
        LakebaseError
            There is no such connection, or it is of no use here.
        """
        namespace, name = self.subject.metadata.namespace, self.subject.spec.connection_ref.name
        connection = self.services.catalog.connection(ConnectionKey(namespace, name))
        if connection is None:
            if is_deleting(self.subject) and self.memory.connection is not None:
                return self.memory.connection
            if self.services.catalog.get(ObjectKey(CONNECTION, namespace, name)) is not None:
                raise NotReadyError(
                    Reason.CONNECTION_NOT_READY,
                    f'spec.connectionRef: the LakebaseConnection "{name}" cannot be read; its own Ready says why.',
                )
            raise NotReadyError(
                Reason.CONNECTION_NOT_FOUND,
                f'spec.connectionRef: there is no LakebaseConnection "{name}" in this namespace. It is picked up when it '
                "appears.",
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
        secrets = await self._secrets(spec.auth)
        workspace = self.workspaces.get(spec.workspace_url, spec.auth, secrets)
        return workspace.catalogs(target_of(spec))

    def _failed(self, error: LakebaseError) -> Outcome:
        taken = error.reason in (Reason.CATALOG_NAME_TAKEN, Reason.DATABASE_ALREADY_REGISTERED)
        if taken and not is_deleting(self.subject):
            self._fact(False, error.reason, error.message)
        return super()._failed(error)

    # -- going ---------------------------------------------------------------------------------------------------

    async def _leave(self) -> Outcome:
        """Take the registration away if that is declared."""
        if not is_finalized(self.subject):
            return Outcome()
        if is_abandoned(self.subject):
            self.goes = False
            return Outcome()
        if self.subject.spec.deletion_policy is CatalogDeletionPolicy.RETAIN:
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
        if there is None or (there.database, there.source) != (self.subject.spec.database, api.source):
            self.goes = True  # gone, or another database's
            return Outcome()
        operation = self._operation("Delete", f"catalogs/{self.name}")
        name = await self._observed("delete catalog", api.delete(self.name))
        self.fields |= {"operation": operation | {"name": name} if name else None, "state": "Deleting"}
        self.report.waiting(self.subject, Reason.DELETING, f'The catalog "{self.name}" is being deleted.')
        return Outcome(self.memory.pauses.next())

    def _fact(self, status: bool, reason: Reason, message: str) -> None:
        self.report.fact(self.subject, condition("CatalogRegistered", status, reason, message))
