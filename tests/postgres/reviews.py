"""Access reports on a real server, with the ConfigMap and the status in memory."""

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, cast

from lakebase_operator.api import AccessGrant, PostgresRole, UserMapping
from lakebase_operator.api.base import ObjectMeta
from lakebase_operator.api.lakebase_connection import AccessReport
from lakebase_operator.domain.status import Condition
from lakebase_operator.engine.catalog import Catalog
from lakebase_operator.engine.keys import ObjectKey
from lakebase_operator.engine.observer import NullObserver
from lakebase_operator.external.kube.objects import ObjectEvent
from lakebase_operator.external.postgres.roles import preflight
from lakebase_operator.reconcilers.context import Context
from lakebase_operator.reconcilers.declared import declare
from lakebase_operator.reconcilers.memory import Memory
from lakebase_operator.reconcilers.people import MappingResults, resolve
from lakebase_operator.reconcilers.report import Report
from lakebase_operator.reconcilers.review import ReviewStep
from lakebase_operator.reconcilers.roles import Roles
from lakebase_operator.reconcilers.services import Services
from lakebase_operator.reconcilers.timing import Pauses
from lakebase_operator.reconcilers.view import View
from tests.postgres import objects
from tests.postgres.world import KEY, NOW, Declaration, World

DAY = timedelta(hours=24)


class Logins(NullObserver):
    """Counts what is told of logins."""

    def __init__(self) -> None:
        self.counted: Counter[str] = Counter()

    def login(self, result: str, count: int = 1) -> None:
        self.counted[result] += count


@dataclass
class Reviews:
    """Looks and reports of one operator process after the other."""

    world: World
    databases: Sequence[str] = ()
    interval: str = "24h"
    now: datetime = NOW
    status: dict[str, Any] = field(
        default_factory=lambda: {"conditions": [{"type": "Synced", "status": "True"}]}
    )
    maps: dict[str, dict[str, str]] = field(default_factory=dict)
    """ConfigMaps by name."""
    facts: dict[str, Condition] = field(default_factory=dict)
    events: list[ObjectEvent] = field(default_factory=list)
    """Of the last look."""
    observer: Logins = field(default_factory=Logins)
    memory: Memory = field(default_factory=lambda: Memory("uid", Pauses(1, 1)))
    annotations: dict[str, str] = field(default_factory=dict)
    statements: Sequence[str] = ()
    """What the operator executed in the last look."""

    async def look(self, *declarations: Declaration) -> None:
        """The end of a full pass over what is declared; it was carried out before (``World.sync``)."""
        names = list(self.databases) or [self.world.database]
        connection = objects.connection(databases=names, report=AccessReport(interval=self.interval))
        connection.metadata.annotations.update(self.annotations)
        view = View(
            KEY,
            connection,
            tuple(one for one in declarations if isinstance(one, PostgresRole)),
            tuple(one for one in declarations if isinstance(one, UserMapping)),
            tuple(one for one in declarations if isinstance(one, AccessGrant)),
            (),
            (),
        )
        context = Context(cast(Services, self), view, self.memory, MappingResults(Catalog()), self.now)
        position = self.world.log_position()
        async with self.world.session(names[0]) as home:
            found = await preflight(home)
            roles = await Roles.read(home)
            people = resolve(view, roles, MappingResults(Catalog()), Report())
            declared = [declare(one, people, roles, found.major_version, self.now) for one in view.grants]
            step = ReviewStep(
                context, connection, self.world.access(), home, found.ledger, roles, declared, people
            )
            before = len(self.world.logged(position, names))
            await step.run()
        self.statements = self.world.logged(position, names)[before:]
        saying = context.report._about(connection)
        self.status.update(saying.fields)
        self.facts.update(saying.facts)
        self.events = saying.events

    async def report(self, *declarations: Declaration, after: timedelta = DAY) -> None:
        """Some time later, with a report that is due."""
        self.now += after
        await self.look(*declarations)

    def restart(self) -> None:
        """Another process: what was only remembered is lost."""
        self.memory = Memory("uid", Pauses(1, 1))

    # -- what there is to read -------------------------------------------------------------------------------------

    def roles(self) -> dict[str, dict[str, str]]:
        """``roles.csv`` by role."""
        return {line["role"]: line for line in self.lines("roles.csv")}

    def wider(self, role: str) -> set[tuple[str, str, str]]:
        """(kind, object, privilege) of a role."""
        return {
            (line["kind"], line["object"], line["privilege"])
            for line in self.lines("wider.csv")
            if line["role"] == role
        }

    def lines(self, part: str) -> list[dict[str, str]]:
        """One part of the report."""
        assert self.maps, self.facts
        (data,) = self.maps.values()
        return list(csv.DictReader(io.StringIO(data[part])))

    # -- in place of the cluster -------------------------------------------------------------------------------------

    @property
    def kube(self) -> "Reviews":
        return self

    @property
    def catalog(self) -> "StatusOnly":
        return StatusOnly(self.status)

    @property
    def clock(self) -> "StandingClock":
        return StandingClock(self.now)

    async def apply_config_map(
        self, kind: str, owner: ObjectMeta, name: str, data: Mapping[str, bytes]
    ) -> None:
        assert (kind, owner.name) == ("LakebaseConnection", "marketing")
        self.maps[name] = {key: value.decode() for key, value in data.items()}

    async def delete_config_map(self, namespace: str, name: str) -> None:
        del namespace
        del self.maps[name]


@dataclass(frozen=True)
class StatusOnly:
    """The status of the connection, as it was last written."""

    known: dict[str, Any]

    def status(self, key: ObjectKey) -> dict[str, Any]:
        del key
        return self.known


@dataclass(frozen=True)
class StandingClock:
    """A time."""

    moment: datetime

    def now(self) -> datetime:
        return self.moment
