"""The operator: everything wired together, run, and taken apart in the right order."""

import asyncio
import gc
import logging
import signal
import uuid
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack, aclosing
from typing import Any

from lakebase_operator import __version__
from lakebase_operator.api import LakebaseInstance
from lakebase_operator.engine.catalog import Catalog
from lakebase_operator.engine.clock import Clock, SystemClock
from lakebase_operator.engine.keys import ConnectionKey, ObjectKey
from lakebase_operator.engine.object_runner import ObjectRunner
from lakebase_operator.engine.queue import Backoff, WorkQueue
from lakebase_operator.engine.relations import concerned, connections_of
from lakebase_operator.engine.runner import Reconciler, Runner
from lakebase_operator.external.kube.client import KubeClient
from lakebase_operator.external.kube.events import EventRecorder
from lakebase_operator.external.kube.leader import Leadership, LeaseTimes
from lakebase_operator.external.kube.objects import KubeObjects
from lakebase_operator.external.kube.status_writer import StatusWriter
from lakebase_operator.reconcilers import build_objects
from lakebase_operator.reconcilers.services import Services
from lakebase_operator.runtime import handlers
from lakebase_operator.runtime.feed import Feed
from lakebase_operator.runtime.logs import Redactor
from lakebase_operator.runtime.metrics import Metrics
from lakebase_operator.runtime.probes import Probes
from lakebase_operator.runtime.secrets import SecretWatch
from lakebase_operator.runtime.sync import Synchroniser
from lakebase_operator.settings import Settings

logger = logging.getLogger(__name__)

BuildReconciler = Callable[[Services], Reconciler]
SIGNALS = (signal.SIGINT, signal.SIGTERM)
BESIDE_STATUSES = 8
"""Connections to the API server besides those that write statuses: for lists, finalizers, Secrets, Events."""
LISTED_OBJECTS = 100_000
"""While everything is listed, Python looks for garbage only after so many new objects: there is hardly any, and by default it
would look through all that is there with every third page."""


class Operator:
    """One operator. Many may run in one event loop, which tests do; in a cluster it is one per process.

    Parameters
    ----------
    build_reconciler
        Makes the pass from the services.
    redactor
        Where secrets are made known to the log.
    """

    def __init__(
        self,
        settings: Settings,
        build_reconciler: BuildReconciler,
        *,
        redactor: Redactor | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.settings = settings
        self.catalog = Catalog(self._changed)
        self.clock = clock or SystemClock()
        self.queue: WorkQueue[ConnectionKey] = WorkQueue(
            self.clock,
            debounce=settings.debounce_seconds,
            backoff=Backoff(settings.retry_base_seconds, settings.retry_cap_seconds),
        )
        self.objects: WorkQueue[ObjectKey] = WorkQueue(
            self.clock,
            debounce=settings.debounce_seconds,
            backoff=Backoff(settings.retry_base_seconds, settings.retry_cap_seconds),
        )
        self.metrics = Metrics(self.catalog, self.queue, self.objects)
        self.primed = asyncio.Event()
        """Set once the catalog is complete and passes run."""
        self._build_reconciler = build_reconciler
        self._redactor = redactor or Redactor()
        self._feed = Feed(self.catalog, self.queue)
        self._leadership: Leadership | None = None
        self._runner: Runner | None = None
        self._object_runner: ObjectRunner | None = None
        self._synchroniser: Synchroniser | None = None
        self.probes = Probes(
            live={"workers": self._workers_live, "watches": self._watches_live},
            ready={"primed or standing by": lambda: self.primed.is_set() or self._standing_by},
            metrics=self.metrics.exposition,
            address=settings.bind_address,
            probe_port=settings.probe_port,
            metrics_port=settings.metrics_port,
        )

    async def run(self, stop: asyncio.Event, *, handle_signals: bool = False) -> None:
        """Run until ``stop`` is set; then end within the grace period and a moment.

        Parameters
        ----------
        handle_signals
            Let SIGINT and SIGTERM set ``stop``.

        Raises
        ------
        LeadershipLostError, WatchLostError, KubeError
            The operator cannot go on; it is safe to start it again at once.
        """
        restore_signals = _signals(stop if handle_signals else None)
        restore_signals()
        settings = self.settings
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(
                await self._connect(connections=settings.status_writes + BESIDE_STATUSES)
            )
            await stack.enter_async_context(self.probes)
            if settings.leader_election:
                # A connection of its own: the Lease is renewed in time, however much there is to write.
                self._leadership = self._strive(
                    await stack.enter_async_context(await self._connect(connections=2))
                )
                stack.push_async_callback(self._leadership.release)
                if not await _unless(stop, self._leadership.acquire()):
                    return
            self.metrics.leading(True)
            stack.callback(self.metrics.leading, False)
            await self._act(client, stop, restore_signals)

    async def _act(
        self, client: KubeClient, stop: asyncio.Event, restore_signals: Callable[[], None]
    ) -> None:
        """What the leader does."""
        settings = self.settings
        secrets = SecretWatch(self.catalog, self._feed, self.clock, interval=settings.secret_poll_seconds)
        kube = KubeObjects(
            client,
            instance=settings.identity,
            on_write=self._feed.written,
            on_secret_read=secrets.read,
            on_secret_written=secrets.written,
        )
        self._synchroniser = synchroniser = Synchroniser(
            self.catalog,
            self._feed,
            kube,
            self.clock,
            namespaces=settings.watch_namespaces,
            interval=settings.resync_seconds,
        )
        events = EventRecorder(kube)
        services = self._services(kube, events)
        reconciler = self._build_reconciler(services)
        object_reconciler = build_objects(services)
        runner = Runner(
            self.queue,
            self.catalog,
            reconciler,
            self.clock,
            observer=self.metrics,
            workers=settings.workers,
            timeout=settings.pass_timeout_seconds,
        )
        registry = handlers.build_registry(
            self._feed, synchroniser, secrets if settings.watch_secrets else None, client.access
        )
        object_runner = ObjectRunner(self.objects, object_reconciler, self.clock)
        async with aclosing(reconciler), aclosing(object_reconciler):
            usual = gc.get_threshold()
            gc.set_threshold(LISTED_OBJECTS)
            try:
                if not await _unless(stop, synchroniser.prime()):
                    return
            finally:
                gc.set_threshold(*usual)
            gc.collect()
            gc.freeze()  # what was listed stays; looking through it for garbage again and again takes long
            logger.info("Version %s works on %d objects", __version__, len(self.catalog))
            self._feed.full(self.catalog.connection_keys())
            duties: dict[str, Coroutine[Any, Any, None]] = {
                "runner": runner.run(),
                "objects": object_runner.run(),
                "lists": synchroniser.run(),
                "secrets": secrets.run(kube),
                "events": events.run(),
                "watches": handlers.watch(registry, settings.watch_namespaces, restore_signals),
            }
            if self._leadership is not None:
                duties["leadership"] = self._leadership.lost()
            await self._until(stop, duties, runner, object_runner, events)

    async def _until(
        self,
        stop: asyncio.Event,
        duties: dict[str, Coroutine[Any, Any, None]],
        runner: Runner,
        object_runner: ObjectRunner,
        events: EventRecorder,
    ) -> None:
        """Do all duties until ``stop`` is set or one of them ends, which only an error makes it do."""
        tasks = [asyncio.create_task(duty, name=name) for name, duty in duties.items()]
        stopped = asyncio.create_task(stop.wait(), name="stop")
        self._runner, self._object_runner = runner, object_runner
        self.primed.set()
        try:
            done, _ = await asyncio.wait([*tasks, stopped], return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.primed.clear()
            self._runner = self._object_runner = None
            # The watches and the Lease live on while the last passes end, but a process that has lost its Lease stops at once.
            grace = 0.0 if self._standing_by else self.settings.shutdown_grace_seconds
            self.queue.close()
            self.objects.close()
            await runner.stop(grace)
            await events.drain(grace)
            for task in [*tasks, stopped]:
                task.cancel()
            await asyncio.gather(*tasks, stopped, return_exceptions=True)
        for task in done:
            task.result()

    async def _connect(self, *, connections: int) -> KubeClient:
        return await KubeClient.connect(
            self.settings.kubeconfig,
            request_timeout=self.settings.kubernetes_timeout_seconds,
            connections=connections,
            on_request=lambda *told: self.metrics.request("kubernetes", *told),
        )

    def _strive(self, client: KubeClient) -> Leadership:
        settings = self.settings
        return Leadership(
            client,
            namespace=settings.namespace,
            name=settings.lease_name,
            identity=f"{settings.identity}_{uuid.uuid4()}",
            times=LeaseTimes(
                duration=settings.lease_duration_seconds,
                renew_deadline=settings.lease_renew_deadline_seconds,
                retry_period=settings.lease_retry_seconds,
            ),
        )

    def _services(self, kube: KubeObjects, events: EventRecorder) -> Services:
        return Services(
            catalog=self.catalog,
            kube=kube,
            status_writer=StatusWriter(
                kube,
                lambda kind, namespace, name: self.catalog.status(ObjectKey(kind, namespace, name)),
                self.clock.now,
                on_written=self.metrics.status_written,
                record=events.record,
                parallel=self.settings.status_writes,
            ),
            settings=self.settings,
            clock=self.clock,
            observer=self.metrics,
            hide=self._redactor.hide,
            wake=self._feed.full,
        )

    def _changed(self, key: ObjectKey) -> None:
        """The view shows a change: have the objects looked at that it concerns beside the connections' own declarations."""
        for one in concerned(self.catalog, key):
            self.objects.add(one)
        if key.kind == LakebaseInstance.kind_name:
            self._feed.full(connections_of(self.catalog, key))

    @property
    def _standing_by(self) -> bool:
        return self._leadership is not None and not self._leadership.leading

    def _workers_live(self) -> bool:
        return all(one is None or one.healthy for one in (self._runner, self._object_runner))

    def _watches_live(self) -> bool:
        return self._synchroniser is None or not self._synchroniser.canary.lost


async def run_operator(
    settings: Settings,
    stop: asyncio.Event,
    *,
    build_reconciler: BuildReconciler,
    redactor: Redactor | None = None,
    handle_signals: bool = False,
) -> None:
    """Run an operator until ``stop`` is set. See :class:`Operator`."""
    await Operator(settings, build_reconciler, redactor=redactor).run(stop, handle_signals=handle_signals)


async def _unless(stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> bool:
    """Do ``work`` unless ``stop`` is set before it is done. Returns whether it is done."""
    task, stopped = asyncio.create_task(work), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            return False
        task.result()
        return not stop.is_set()
    finally:
        task.cancel()
        stopped.cancel()
        await asyncio.gather(task, stopped, return_exceptions=True)


def _signals(stop: asyncio.Event | None) -> Callable[[], None]:
    """A function that makes the signals set ``stop`` (None: do what they usually do), whoever has taken them over since."""
    loop = asyncio.get_running_loop()

    def install() -> None:
        for number in SIGNALS:
            if stop is None:
                loop.remove_signal_handler(number)
            else:
                loop.add_signal_handler(number, stop.set)

    return install
