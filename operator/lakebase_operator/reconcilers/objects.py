"""The work on objects that are units of work of their own: each kind has its reconciler."""

from concurrent.futures import ThreadPoolExecutor

from lakebase_operator.api import DatabaseCatalog, LakebaseInstance
from lakebase_operator.api.reasons import Reason
from lakebase_operator.engine.catalog import Broken
from lakebase_operator.engine.keys import ObjectKey
from lakebase_operator.engine.runner import Outcome
from lakebase_operator.reconcilers.database_catalog import DatabaseCatalogReconciler
from lakebase_operator.reconcilers.lakebase_instance import LakebaseInstanceReconciler
from lakebase_operator.reconcilers.leaving import let_go
from lakebase_operator.reconcilers.report import Report
from lakebase_operator.reconcilers.services import Services
from lakebase_operator.reconcilers.view import is_deleting
from lakebase_operator.reconcilers.workspaces import Workspaces
from lakebase_operator.reconcilers.writing import write

THREADS = 8
"""For requests to Databricks, apart from those of the passes."""


class ObjectReconcilers:
    """Looks at LakebaseInstances and DatabaseCatalogs."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._executor = ThreadPoolExecutor(
            min(THREADS, services.settings.sdk_threads), thread_name_prefix="lakebases"
        )
        workspaces = Workspaces(self._executor, services.settings.token_path)
        self._instances = LakebaseInstanceReconciler(services, workspaces)
        self._catalogs = DatabaseCatalogReconciler(services, workspaces)

    async def aclose(self) -> None:
        """Let go of the threads; requests under way end by their own timeouts."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def reconcile(self, key: ObjectKey) -> Outcome:
        """Look at one object.

        Raises
        ------
        LakebaseError
            What could not be said in its status.
        """
        match self._services.catalog.get(key):
            case LakebaseInstance() as instance:
                return await self._instances.reconcile(instance)
            case DatabaseCatalog() as catalog:
                return await self._catalogs.reconcile(catalog)
            case Broken() as broken:
                await self._tell_broken(broken)
            case _:
                self._instances.forget(key)
                self._catalogs.forget(key)
        return Outcome()

    async def _tell_broken(self, broken: Broken) -> None:
        if is_deleting(broken):
            await let_go(
                self._services,
                broken,
                left_behind="Let go without cleaning up. It cannot be read, so nothing was deleted for it.",
            )
            return
        report = Report()
        report.stalled(broken, Reason.INVALID_SPEC, broken.problem)
        await write(self._services, report)
