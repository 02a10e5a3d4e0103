"""The pass over one connection: everything that is declared on one database server, carried out together."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from lakebase_operator.api import AccessGrant, PostgresRole
from lakebase_operator.api.postgres_role import PostgresRoleStatus
from lakebase_operator.engine.catalog import Catalog, Dirty, key_of
from lakebase_operator.engine.keys import ConnectionKey, ObjectKey
from lakebase_operator.engine.runner import Outcome
from lakebase_operator.reconcilers import ending, passes
from lakebase_operator.reconcilers.access import Logins
from lakebase_operator.reconcilers.context import Context, SessionLostError, TooNarrowError
from lakebase_operator.reconcilers.known import Known
from lakebase_operator.reconcilers.leaving import let_all_go
from lakebase_operator.reconcilers.memory import Memory
from lakebase_operator.reconcilers.people import MappingResults
from lakebase_operator.reconcilers.services import Services
from lakebase_operator.reconcilers.timing import Pauses
from lakebase_operator.reconcilers.view import (
    Dependent,
    View,
    allows,
    foreign_namespaces,
    is_deleting,
)
from lakebase_operator.reconcilers.writing import write

GRANT = AccessGrant.kind_name


class ConnectionReconciler:
    """Runs passes: one at a time for each connection, any number side by side."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._memories: dict[ConnectionKey, Memory] = {}
        self._mappings = MappingResults(services.catalog)
        self._executor = ThreadPoolExecutor(services.settings.sdk_threads, thread_name_prefix="databricks")
        self._logins = Logins(self._executor, services.settings.token_path)

    async def aclose(self) -> None:
        """Let go of the threads and sessions; requests under way end by their own timeouts."""
        self._executor.shutdown(wait=False, cancel_futures=True)
        for memory in self._memories.values():
            await memory.home.close()

    async def reconcile(self, key: ConnectionKey, dirty: Dirty) -> Outcome:
        """Make the databases of one connection equal to what is declared, and say so in every status.

        Raises
        ------
        LakebaseError
            What could not be said in a status.
        """
        memory = self._remember(key, dirty)
        known, memory.known = memory.known, None  # put back by a pass that has no trouble
        changed = self._changed(known, key, dirty)
        if known is not None and changed is not None:
            if not changed and not memory.removed:  # what is gone was cleaned up before it went
                memory.known = known
                return Outcome(ending.seconds_until(self._services.clock, known.full_at, known.next_change))
            try:
                return await self._reconcile(await self._narrow_view(key, known, changed), memory, known)
            except TooNarrowError:
                pass
        return await self._reconcile(await self._view(key), memory, None)

    async def _reconcile(self, view: View, memory: Memory, known: Known | None) -> Outcome:
        key = view.key
        context, outcome = await self._run(view, memory, known)
        # Put back once all is said: what is not, no narrow pass would say.
        learnt, memory.known = memory.known, None
        try:
            await write(self._services, context.report, memory.said)
        finally:  # a status that cannot be written holds nobody back
            await let_all_go(self._services, context.leaving)
        memory.known = learnt
        if view.connection is None:
            self._memories.pop(key, None)
            await memory.home.close()
            self._mappings.forget_connection(key)
        return outcome

    async def _run(self, view: View, memory: Memory, known: Known | None) -> tuple[Context, Outcome]:
        """Run a pass; twice if a session is lost in it.

        A session may end at any time: a failover, an idle limit, an administrator. New ones are worth one try at once,
        before anybody is alarmed.
        """
        began = self._services.clock.now()
        context = Context(self._services, view, memory, self._mappings, began, known, tries_left=1)
        try:
            return context, await passes.run(context, self._logins)
        except SessionLostError:
            context = Context(self._services, view, memory, self._mappings, began, known, tries_left=0)
            return context, await passes.run(context, self._logins)

    def _remember(self, key: ConnectionKey, dirty: Dirty) -> Memory:
        connection = self._services.catalog.connection(key)
        uid = connection.metadata.uid if connection else ""
        memory = self._memories.get(key)
        if memory is None or memory.uid != uid:  # new, or deleted and made anew
            settings = self._services.settings
            memory = Memory(uid, Pauses(settings.retry_base_seconds, settings.retry_cap_seconds))
            self._memories[key] = memory
        # Also what names another connection by now, as a UserMapping may.
        gone = [one for one in dirty.objects if not self._services.catalog.concerns(key, one)]
        for one in gone:
            memory.said.pop(one, None)
        if any(memory.known is None or one in memory.known or one.kind != GRANT for one in gone):
            memory.removed = True
        return memory

    def _changed(self, known: Known | None, key: ConnectionKey, dirty: Dirty) -> frozenset[ObjectKey] | None:
        """AccessGrants that are there or were carried out, and changed; None: everything is to be looked at."""
        catalog, clock = self._services.catalog, self._services.clock
        if known is None or catalog.broken(key):
            return None
        changed = known.narrow(dirty, GRANT, clock.now(), clock.monotonic())
        if changed is None:
            return None
        return frozenset(one for one in changed if one in known or catalog.get(one) is not None)

    async def _narrow_view(self, key: ConnectionKey, known: Known, changed: frozenset[ObjectKey]) -> View:
        view = await self._view(key, self._services.catalog.some_grants(key, changed))
        return replace(
            view, narrow=True, others=len(known) - sum(one in known for one in changed), changed=changed
        )

    async def _view(self, key: ConnectionKey, some: tuple[AccessGrant, ...] | None = None) -> View:
        catalog = self._services.catalog
        connection = catalog.connection(key)
        roles, mappings = catalog.roles(key), catalog.mappings(key)
        if some is None:
            roles = tuple(with_status(role, catalog) for role in roles)
        grants = catalog.grants(key) if some is None else some
        if connection is None:
            return View(key, None, roles, mappings, grants, catalog.broken(key), ())
        labels = {
            name: await self._services.kube.namespace_labels(name) or {}
            for name in sorted(foreign_namespaces(connection, (*roles, *mappings, *grants)))
        }

        def may(one: Dependent) -> bool:
            return allows(connection, one.metadata.namespace, labels)

        everyone: tuple[Dependent, ...] = (*roles, *mappings, *grants)
        return View(
            key,
            connection,
            tuple(one for one in roles if may(one)),
            tuple(one for one in mappings if may(one)),
            tuple(one for one in grants if may(one)),
            catalog.broken(key),
            tuple(one for one in everyone if not may(one)),
        )


def with_status(role: PostgresRole, catalog: Catalog) -> PostgresRole:
    """The catalog's objects come without a status: what was written of a schema, of a login, and of a role that goes, is needed.

    Nothing else is read: it may be in words of another version.
    """
    known = catalog.status(key_of(role))
    if not is_deleting(role) and known.keys().isdisjoint(("platformSchema", "password")):
        return role
    needed = {name: known[name] for name in ("created", "platformSchema", "password") if name in known}
    return role.model_copy(update={"status": PostgresRoleStatus.model_validate(needed)})
