"""The tables that applications are shown: looked at in each database after its grants, and described in ConfigMaps."""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Protocol

import psycopg

from lakebase_operator.api import PostgresRole
from lakebase_operator.api.base import ObjectMeta
from lakebase_operator.api.reasons import Reason
from lakebase_operator.domain.desired import PUBLIC
from lakebase_operator.domain.errors import InvalidError, LakebaseError
from lakebase_operator.domain.exposed import (
    Exposed,
    ExposedTable,
    TableSelector,
    describe,
    missing_grants,
    selectors_by_database,
)
from lakebase_operator.domain.memberships import reachable
from lakebase_operator.domain.roles import Issue
from lakebase_operator.engine.catalog import key_of
from lakebase_operator.engine.keys import ObjectKey
from lakebase_operator.external.postgres.errors import query_error
from lakebase_operator.external.postgres.exposed import read_exposed
from lakebase_operator.external.postgres.session import Connection
from lakebase_operator.reconcilers.known_roles import Roles, RoleTally
from lakebase_operator.reconcilers.report import Report

TABLES_KEY = "tables.json"
MAX_BYTES = 900_000
"""A ConfigMap holds 1 MiB."""


class ConfigMapStore(Protocol):
    """ConfigMaps, as ``external.kube.objects.KubeObjects`` has them."""

    async def keep_config_map(self, kind: str, owner: ObjectMeta, name: str, data: Mapping[str, str]) -> bool:
        """Have a ConfigMap beside an object hold this; False: it is somebody else's."""

    async def drop_config_map(self, owner: ObjectMeta, name: str) -> None:
        """Remove it, unless it is somebody else's."""


@dataclass(slots=True)
class Showing:
    """What one role is shown."""

    tally: RoleTally
    selectors: Mapping[str, Sequence[TableSelector]]
    """By database."""
    found: dict[str, Exposed] = field(default_factory=dict)
    """By database, of those that could be looked at."""

    @property
    def role(self) -> PostgresRole:
        return self.tally.role

    @property
    def tables(self) -> Iterable[ExposedTable]:
        """All of them."""
        return chain.from_iterable(one.tables for one in self.found.values())


@dataclass(slots=True)
class ExposingStep:
    """Keeps the descriptions of what roles are shown like the tables. What goes wrong stays with the role."""

    config_maps: ConfigMapStore
    lakebase: str
    """The connection, as ``namespace/name``."""
    databases: Sequence[str]
    """The connection's, the first one first."""
    roles: Roles
    report: Report
    status: Callable[[ObjectKey], Mapping[str, Any]]
    """The status of an object as it was last written."""
    dry: bool = False
    """Write nothing. What cannot be read is not told: it may be what the plan is about."""
    showing: Sequence[Showing] = field(init=False)

    def __post_init__(self) -> None:
        self.showing = tuple(self._showing())

    def _showing(self) -> Iterable[Showing]:
        for tally in self.roles.tallies.values():
            if tally.role.spec.exposes:
                try:
                    role = tally.role
                    yield Showing(
                        tally, selectors_by_database(role.spec, role.login_database(self.databases))
                    )
                except ValueError as error:
                    tally.blame(Reason.INVALID_SPEC, str(error))

    async def look(self, database: str, connection: Connection) -> None:
        """Read what there is in one database, in one statement for each role that is shown something there.

        Raises
        ------
        LakebaseError
            The session is lost.
        """
        for one in self.showing:
            if (selectors := one.selectors.get(database)) is None:
                continue
            try:
                one.found[database] = await read_exposed(connection, selectors, one.role.role_name)
            except psycopg.Error as error:
                failure = query_error(error, doing=f"reading the exposed tables in {database}")
                if connection.closed:
                    raise failure from error
                one.tally.failed(failure)

    async def show(self, failures: Mapping[str, LakebaseError]) -> None:
        """Tell of what was found, and describe it. Where a database could not be read, the description stays as it was.

        Parameters
        ----------
        failures
            Databases that could not be worked on.
        """
        for one in self.showing:
            self._tell(one)
            for database in one.selectors:
                if database in failures:
                    one.tally.failed(failures[database])
                elif database not in self.databases:
                    message = (
                        f'spec.exposes: "{database}" is not one of the databases of the LakebaseConnection. '
                        "Add it there, or correct it here."
                    )
                    one.tally.blame(Reason.DATABASE_NOT_MANAGED, message)
        if self.dry:
            return
        for one in self.showing:
            if one.found.keys() == one.selectors.keys():
                await self._carefully(one.tally, self._describe(one))
        for tally in self.roles.tallies.values():
            if not tally.role.spec.exposes and self.status(key_of(tally.role)).get("exposed"):
                await self._carefully(tally, self._drop(tally.role))

    async def _carefully(self, tally: RoleTally, work: Awaitable[None]) -> None:
        try:
            await work
        except LakebaseError as error:
            tally.failed(error)

    # -- the ConfigMap -------------------------------------------------------------------------------------------

    async def _describe(self, one: Showing) -> None:
        role, name = one.role, one.role.tables_name
        description = describe(self.lakebase, one.found, limit=MAX_BYTES)
        data = {TABLES_KEY: description.text}
        if not await self.config_maps.keep_config_map(role.kind_name, role.metadata, name, data):
            self.report.fields(role, {"exposed": None})
            raise InvalidError(
                Reason.CONFIG_MAP_EXISTS,
                f'The ConfigMap "{name}", in which the exposed tables would be described, exists and is not this '
                "PostgresRole's. Delete or rename it.",
            )
        tables = tuple(one.tables)
        exposed = {
            "configMap": name,
            "tables": len(tables),
            "readable": sum(table.readable for table in tables),
            "withoutKey": sum(table.without_key for table in tables),
        }
        if description.left_out:
            exposed["leftOut"] = description.left_out
        self.report.fields(role, {"exposed": exposed})

    async def _drop(self, role: PostgresRole) -> None:
        await self.config_maps.drop_config_map(role.metadata, role.tables_name)
        self.report.fields(role, {"exposed": None})

    # -- telling -------------------------------------------------------------------------------------------------

    def _tell(self, one: Showing) -> None:
        """What most likely keeps an application from working comes first: there is room for 20."""
        self._tell_missing(one)
        if not self.dry:
            self._tell_unreadable(one)
        one.tally.note(
            Issue(
                str(table),
                Reason.NO_UNIQUE_KEY,
                "Nothing tells its rows apart: that takes a primary key, or a unique index over NOT NULL columns, and no "
                "children (INHERITS).",
            )
            for table in one.tables
            if table.without_key
        )

    def _tell_missing(self, one: Showing) -> None:
        fix = "Create it, or correct the name; it is looked for at every sync."
        for database, exposed in one.found.items():
            for schema, name in exposed.missing:
                one.tally.note([Issue(f"{schema}.{name}", Reason.TABLE_MISSING, fix)])
                message = f"spec.exposes: table {schema}.{name} does not exist in {database}. {fix}"
                one.tally.blame(Reason.TABLE_MISSING, message, waits=True)

    def _tell_unreadable(self, one: Showing) -> None:
        name = one.role.role_name
        one.tally.note(
            Issue(str(lack.objects[0]), Reason.MISSING_GRANTS, lack.text, lack.privileges[0].value)
            for exposed in one.found.values()
            for lack in missing_grants(exposed.tables, name)
        )
        unreadable = [table for table in one.tables if not table.readable]
        if unreadable and one.role.spec.password is None:  # else it is the connection test's to say
            others = f" and {len(unreadable) - 1} others" if len(unreadable) > 1 else ""
            one.tally.blame(
                Reason.MISSING_GRANTS,
                f'spec.exposes: "{name}" cannot read table {unreadable[0]}{others}. Declare it in an AccessGrant, or run what '
                "status.issues has.",
                waits=True,
            )


def concerns_shown(roles: Roles, focus: frozenset[str]) -> bool:
    """Whether what these roles hold decides over what some role can read of the tables that it is shown.

    Parameters
    ----------
    roles
        The roles of the server.
    focus
        Names of roles, or PUBLIC.
    """
    shown = [name for name, tally in roles.tallies.items() if tally.role.spec.exposes]
    if not shown:
        return False
    groups: dict[str, list[str]] = defaultdict(list)
    for edge in roles.edges:
        member, role = roles.name_of(edge.member), roles.name_of(edge.role)
        if member is not None and role is not None:
            groups[member].append(role)
    return PUBLIC in focus or any(
        name in focus or not focus.isdisjoint(reachable(name, groups)) for name in shown
    )
