"""All metrics, and the observer that feeds them. Labels are bounded: kinds, verbs, outcomes; names only of connections."""

from collections import Counter as Counts
from collections.abc import Iterator
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.gc_collector import GCCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from lakebase_operator import __version__
from lakebase_operator.api import AccessGrant, LakebaseConnection, PostgresRole
from lakebase_operator.api.durations import seconds
from lakebase_operator.api.postgres_role import ConnectionTestResult, ConnectionTestStep
from lakebase_operator.engine.catalog import Catalog, key_of
from lakebase_operator.engine.keys import ConnectionKey, ObjectKey
from lakebase_operator.engine.queue import WorkQueue
from lakebase_operator.reconcilers.pending import has_ended, is_overstaying
from lakebase_operator.reconcilers.review import is_overdue

PREFIX = "lakebase_operator"
PASS_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900)
REQUEST_BUCKETS = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """The metrics of one operator. Implements ``engine.observer.Observer``."""

    def __init__(
        self, catalog: Catalog, queue: WorkQueue[ConnectionKey], objects: WorkQueue[ObjectKey]
    ) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        GCCollector(registry=registry)
        registry.register(_State(catalog, queue, objects))
        Info(PREFIX, "The running version.", registry=registry).info({"version": __version__})
        self._leader = Gauge(
            f"{PREFIX}_leader", "1 while this process acts, 0 while it stands by.", registry=registry
        )
        self._passes = Counter(
            f"{PREFIX}_passes_total",
            "Passes over a connection, by how they ended.",
            ["result"],
            registry=registry,
        )
        self._pass_duration = Histogram(
            f"{PREFIX}_pass_duration_seconds",
            "Duration of a pass over a connection.",
            buckets=PASS_BUCKETS,
            registry=registry,
        )
        self._status_writes = Counter(
            f"{PREFIX}_status_writes_total",
            "Statuses written to the API server.",
            ["kind"],
            registry=registry,
        )
        self._statements = Counter(
            f"{PREFIX}_statements_total",
            "SQL statements that change something, by verb.",
            ["verb"],
            registry=registry,
        )
        self._drift = Counter(
            f"{PREFIX}_drift_total",
            "Changes made by hand that were found, by what was done.",
            ["action"],
            registry=registry,
        )
        self._credentials = Counter(
            f"{PREFIX}_credentials_total",
            "Credentials that a database rejected, and those renewed for it.",
            ["event"],
            registry=registry,
        )
        self._connection_tests = Counter(
            f"{PREFIX}_connection_tests_total",
            "Steps of the connection tests of logins, by how they went.",
            ["step", "result"],
            registry=registry,
        )
        self._logins = Counter(
            f"{PREFIX}_logins_total",
            "Logins: of declared roles, as Seen in the list of sessions; of the operator, Rejected.",
            ["result"],
            registry=registry,
        )
        for result in ("Seen", "Rejected"):
            self._logins.labels(result)  # from the beginning: else the first one is no increase
        for action in ("Repaired", "Reported"):
            self._drift.labels(action)
        for step in ConnectionTestStep:
            self._connection_tests.labels(step.value, ConnectionTestResult.FAILED.value)
        self._requests = Histogram(
            f"{PREFIX}_external_request_duration_seconds",
            "Duration of requests to Kubernetes, Databricks and Postgres.",
            ["system", "operation", "outcome"],
            buckets=REQUEST_BUCKETS,
            registry=registry,
        )

    def exposition(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)

    def leading(self, leads: bool) -> None:
        """This process acts, or stands by."""
        self._leader.set(leads)

    def pass_finished(self, key: ConnectionKey, result: str, seconds: float) -> None:  # noqa: ARG002 - no label per name
        """A pass over a connection ended."""
        self._passes.labels(result).inc()
        self._pass_duration.observe(seconds)

    def statements(self, verb: str, count: int = 1) -> None:
        """SQL that changes something was carried out."""
        self._statements.labels(verb).inc(count)

    def drift(self, action: str, count: int = 1) -> None:
        """Changes made by hand were found."""
        self._drift.labels(action).inc(count)

    def credential(self, event: str) -> None:
        """Something happened to a credential."""
        self._credentials.labels(event).inc()

    def connection_test(self, step: str, result: str) -> None:
        """A step of the connection test of a login ended."""
        self._connection_tests.labels(step, result).inc()

    def login(self, result: str, count: int = 1) -> None:
        """Somebody logged in, or was refused."""
        self._logins.labels(result).inc(count)

    def request(self, system: str, operation: str, outcome: str, seconds: float) -> None:
        """A request ended."""
        self._requests.labels(system, operation, outcome).observe(seconds)

    def status_written(self, kind: str) -> None:
        """A status was written."""
        self._status_writes.labels(kind).inc()


class _State(Collector):
    """What is read off at the moment of a scrape."""

    def __init__(
        self, catalog: Catalog, queue: WorkQueue[ConnectionKey], objects: WorkQueue[ObjectKey]
    ) -> None:
        self._catalog = catalog
        self._queue = queue
        self._objects = objects

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily(
            f"{PREFIX}_queue_depth", "Connections that wait for a worker.", value=self._queue.depth
        )
        yield GaugeMetricFamily(
            f"{PREFIX}_queue_oldest_seconds",
            "How long the longest waiting connection has waited for a worker.",
            value=self._queue.oldest,
        )
        yield GaugeMetricFamily(
            f"{PREFIX}_passes_running", "Passes that are under way.", value=len(self._queue.running)
        )
        yield GaugeMetricFamily(
            f"{PREFIX}_object_queue_depth",
            "LakebaseInstances and DatabaseCatalogs that wait for a worker.",
            value=self._objects.depth,
        )
        objects = GaugeMetricFamily(
            f"{PREFIX}_objects", "Objects by kind and status of Ready.", labels=["kind", "ready"]
        )
        for (kind, ready), count in sorted(self._catalog.readiness().items()):
            objects.add_metric([kind, ready], count)
        yield objects
        connections = GaugeMetricFamily(
            f"{PREFIX}_connection_ready",
            "1 while a LakebaseConnection is Ready, else 0.",
            labels=["namespace", "name"],
        )
        for key, is_ready in self._catalog.connections_ready():
            connections.add_metric(key, is_ready)
        yield connections
        yield from self._passwords()
        yield from self._access()

    def _access(self) -> Iterator[Metric]:
        """Of each connection: access that should have ended, and what the last access report says."""
        labels, now = ("namespace", "connection"), datetime.now(UTC)
        expired = GaugeMetricFamily(
            f"{PREFIX}_expired_access",
            "AccessGrants of a connection whose time is over, and whose end nobody has found in the database yet.",
            labels=labels,
        )
        wider = GaugeMetricFamily(
            f"{PREFIX}_access_wider",
            "Things that roles of a connection held beside what is declared, at the last access report.",
            labels=labels,
        )
        unused = GaugeMetricFamily(
            f"{PREFIX}_unused_roles", "Roles of a connection that nobody seems to need.", labels=labels
        )
        overdue = GaugeMetricFamily(
            f"{PREFIX}_access_report_overdue",
            "1 while the last access report of a connection is older than twice its interval, else 0.",
            labels=labels,
        )
        # Passes wait while this runs, so only those are looked at that can be late at all.
        late = Counts(
            self._connection_of(grant)
            for grant in self._catalog.ending_grants()
            if has_ended(grant, now) and is_overstaying(grant, self._catalog.status(key_of(grant)))
        )
        for connection in self._catalog.of_kind(LakebaseConnection):
            key = (connection.metadata.namespace, connection.metadata.name)
            expired.add_metric(key, late[key])
            report = self._catalog.status(key_of(connection)).get("report")
            if report:
                wider.add_metric(key, report["wider"])
                unused.add_metric(key, report["unused"])
                interval = seconds(connection.spec.report.interval)
                overdue.add_metric(key, bool(interval) and is_overdue(report["at"], interval, now))
        yield from (expired, wider, unused, overdue)

    @staticmethod
    def _connection_of(one: AccessGrant | PostgresRole) -> tuple[str, str]:
        reference = one.spec.connection_ref
        return (reference.namespace or one.metadata.namespace, reference.name)

    def _passwords(self) -> Iterator[Metric]:
        """Of each connection: the oldest password, the next change, and how many are overdue."""
        labels, now = ("namespace", "connection"), datetime.now(UTC).timestamp()
        age = GaugeMetricFamily(
            f"{PREFIX}_password_age_seconds", "Age of a connection's oldest password.", labels=labels
        )
        following = GaugeMetricFamily(
            f"{PREFIX}_password_next_rotation_timestamp_seconds",
            "When the next password of a connection is due to be replaced, in seconds since 1970.",
            labels=labels,
        )
        overdue = GaugeMetricFamily(
            f"{PREFIX}_passwords_overdue",
            "Passwords of a connection that are older than their rotation asks for.",
            labels=labels,
        )
        set_at: dict[tuple[str, str], list[float]] = {}
        due: dict[tuple[str, str], list[float]] = {}
        for role in self._catalog.of_kind(PostgresRole):
            if role.spec.password is None:
                continue
            connection = self._connection_of(role)
            known = self._catalog.status(key_of(role)).get("password") or {}
            for name, found in (("setAt", set_at), ("nextRotation", due)):
                if name in known:
                    found.setdefault(connection, []).append(datetime.fromisoformat(known[name]).timestamp())
        for connection, moments in sorted(set_at.items()):
            age.add_metric(connection, now - min(moments))
            overdue.add_metric(connection, sum(one <= now for one in due.get(connection, ())))
        for connection, moments in sorted(due.items()):
            following.add_metric(connection, min(moments))
        yield from (age, following, overdue)
