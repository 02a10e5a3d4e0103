"""Who is logged in, looked at in every full pass; and from time to time the access report, written into a ConfigMap."""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta

import psycopg

from lakebase_operator.api import LakebaseConnection
from lakebase_operator.api.reasons import Reason
from lakebase_operator.domain.access_review import (
    FINDING_HEADINGS,
    ROLE_HEADINGS,
    USE_HEADINGS,
    Declaration,
    Facts,
    Holdings,
    Review,
    Seen,
    csv_text,
    finding_line,
    in_review,
    review,
    role_line,
    use_line,
)
from lakebase_operator.domain.desired import PUBLIC, Declared
from lakebase_operator.domain.errors import LakebaseError
from lakebase_operator.domain.passwords import login_names
from lakebase_operator.domain.people import People
from lakebase_operator.domain.status import condition
from lakebase_operator.domain.wording import counted
from lakebase_operator.engine.catalog import kind_of
from lakebase_operator.external.kube.objects import ObjectEvent
from lakebase_operator.external.postgres.access_review import (
    Look,
    look,
    read_held,
    read_seen,
    read_use,
    write_seen,
)
from lakebase_operator.external.postgres.errors import query_error
from lakebase_operator.external.postgres.grants import create_ledger
from lakebase_operator.external.postgres.roles import preflight, read_memberships
from lakebase_operator.external.postgres.session import Connection
from lakebase_operator.reconcilers.access import Access
from lakebase_operator.reconcilers.context import Context
from lakebase_operator.reconcilers.known_roles import Roles
from lakebase_operator.reconcilers.timing import seconds
from lakebase_operator.reconcilers.view import is_deleting

MOST_UNDECLARED = 5_000
"""Undeclared privileges that are listed one by one, of each database."""
MOST_TABLES = 5_000
"""Tables of each database whose last use is listed."""
MOST_BYTES = 300_000
"""Of each part of the report: a ConfigMap holds 1 MiB."""
_SHOWN = 3
"""Findings in a message."""


def config_map_name(connection: LakebaseConnection) -> str:
    """The ConfigMap that has the report."""
    return f"{connection.metadata.name}-access-report"


@dataclass(frozen=True, slots=True)
class ReviewStep:
    """The last step of a full pass: nothing that is declared depends on it."""

    context: Context
    connection: LakebaseConnection
    access: Access
    home: Connection
    ledger: bool
    """The home database has one."""
    roles: Roles
    """As the pass found them."""
    declared: Sequence[Declared]
    people: People

    async def run(self) -> None:
        """Look who is logged in; make a report if one is due. That a report fails is told, and fails nothing else.

        Raises
        ------
        psycopg.Error, LakebaseError
            The session is lost.
        """
        found = await look(self.home)
        self._tell_audit(found)
        self._count(self.context.memory.sightings.take(found))
        interval = seconds(self.connection.spec.report.interval)
        try:
            if not interval:
                await self._put_away()
            elif self._is_due(interval):
                await self._report(timedelta(seconds=interval))
        except (LakebaseError, psycopg.Error) as error:
            if self.home.closed:
                raise
            doing = "reviewing access"
            problem = error if isinstance(error, LakebaseError) else query_error(error, doing=doing)
            self._fact(False, problem.reason, f"No access report could be made: {problem.message}")

    def _is_due(self, interval: float) -> bool:
        status = self.context.status()
        if self.context.asked_now(self.connection):
            return True
        at = (status.get("report") or {}).get("at")
        if at is None:  # not in the first pass: its grants are still being made
            return any(
                one["type"] == "Synced" and one["status"] == "True" for one in status.get("conditions", ())
            )
        return self._now() >= datetime.fromisoformat(at) + timedelta(seconds=interval)

    def _now(self) -> datetime:
        return self.context.services.clock.now()

    def _fact(self, status: bool, reason: Reason, message: str) -> None:
        self.context.report.fact(self.connection, condition("AccessReviewed", status, reason, message))

    def _tell_audit(self, found: Look) -> None:
        available = found.audit_extension or found.audit_preloaded or found.audit_log is not None
        if available:
            log = f' pgaudit.log is "{found.audit_log}" for the operator.' if found.audit_log else ""
            message = f"pgaudit is there; how it is set up decides what is recorded.{log}"
        else:
            message = "There is no pgaudit, as far as the operator's role may see, so the database keeps no record of who queried what."
        reason = Reason.QUERY_AUDIT_AVAILABLE if available else Reason.QUERY_AUDIT_UNAVAILABLE
        self.context.report.fact(
            self.connection, condition("QueryAuditAvailable", available, reason, message)
        )

    def _count(self, begun: Counter[int]) -> None:
        """Logins of declared roles."""
        if not begun:
            return
        oids = {self.roles.oids.get(name) for name in (*self._declarations(), *self._mapped())}
        if count := sum(number for oid, number in begun.items() if oid in oids):
            self.context.services.observer.login("Seen", count)

    # -- what is declared ------------------------------------------------------------------------------------------

    def _declarations(self) -> dict[str, Declaration]:
        """By name of the role; the oldest PostgresRole holds."""
        found: dict[str, Declaration] = {}
        for role in self.context.view.roles:
            if is_deleting(role):
                continue
            by = f"PostgresRole {role.metadata.namespace}/{role.metadata.name}"
            found.setdefault(role.role_name, Declaration(by, role.spec))
            if role.spec.password is not None:
                for login in login_names(role.role_name, role.spec.password):
                    found.setdefault(login, Declaration(by, role.spec, login_of=role.role_name))
        for mapping in self.context.view.mappings:
            name = self.people.resolve(mapping.spec.user, mapping.metadata.namespace).role
            if name is not None and not is_deleting(mapping):
                by = f"UserMapping {mapping.metadata.namespace}/{mapping.metadata.name}"
                found.setdefault(name, Declaration(by))
        return found

    def _mapped(self) -> frozenset[str]:
        """Roles that a UserMapping or an AccessGrant leads to."""
        people = (
            self.people.resolve(one.spec.user, one.metadata.namespace).role
            for one in self.context.view.mappings
            if not is_deleting(one)
        )
        subjects = (name for item in self.declared if item.active for name in item.grantees)
        return frozenset(name for name in (*people, *subjects) if name is not None) - {PUBLIC}

    # -- the report ------------------------------------------------------------------------------------------------

    async def _report(self, interval: timedelta) -> None:
        context, key = self.context, str(self.context.view.key)
        sightings = context.memory.sightings
        declarations, mapped = self._declarations(), self._mapped()
        roles = await Roles.read(self.home)
        names = in_review(roles.states, (*declarations, *mapped))
        seen = await self._seen(key, roles, names)
        status = context.status().get("report") or {}
        now = self._now()
        since = datetime.fromisoformat(status["watchedSince"]) if "watchedSince" in status else now
        holdings: dict[int, Holdings] = {}
        undeclared = []
        use = []
        for name in self.connection.spec.databases:
            async with AsyncExitStack() as stack:
                session, ledger, is_home = self.home, self.ledger, name == self.connection.spec.databases[0]
                if not is_home:
                    session = await stack.enter_async_context(self.access.session(name))
                    ledger = (await preflight(session)).ledger
                held = await read_held(
                    session, name, names, home=is_home, ledger=ledger, most=MOST_UNDECLARED
                )
                use += [use_line(name, *one) for one in await read_use(session, MOST_TABLES)]
            undeclared += [one for one in held.undeclared if not roles.states[one.role].actor.is_operator]
            for oid, one in held.holdings.items():
                holdings.setdefault(oid, Holdings()).add(one)
        reviewed = review(
            Facts(
                roles=roles.states,
                edges=await read_memberships(self.home),
                holdings=holdings,
                undeclared=undeclared,
                declarations=declarations,
                mapped=mapped,
                seen=seen,
                sessions=sightings.sessions(),
                since=since,
                now=now,
                patience=interval,
                home=self.connection.spec.databases[0],
            )
        )
        parts = {
            "roles.csv": csv_text(ROLE_HEADINGS, map(role_line, reviewed.roles), MOST_BYTES),
            "wider.csv": csv_text(FINDING_HEADINGS, map(finding_line, reviewed.findings), MOST_BYTES),
            "tables.csv": csv_text(USE_HEADINGS, use, MOST_BYTES),
        }
        name = config_map_name(self.connection)
        await context.services.kube.apply_config_map(
            kind_of(self.connection),
            self.connection.metadata,
            name,
            {part: text for part, (text, _) in parts.items()},
        )
        context.report.fields(
            self.connection,
            {
                "report": {
                    "at": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
                    "watchedSince": since.strftime("%Y-%m-%dT%H:%M:%SZ"),
                    "roles": len(reviewed.roles),
                    "wider": len(reviewed.findings),
                    "unused": len(reviewed.unused),
                    "omitted": sum(omitted for _, omitted in parts.values()),
                    "configMap": name,
                }
            },
        )
        self._tell(reviewed, name, known=status.get("wider"))

    async def _seen(self, key: str, roles: Roles, names: Mapping[int, str]) -> dict[int, Seen]:
        """When roles were seen, with what is new of those under review written down."""
        sightings = self.context.memory.sightings
        if not self.ledger:  # nothing is declared here yet
            return sightings.over({})
        known = await read_seen(self.home, key)
        if known is None:
            await create_ledger(self.home)  # one that was made earlier has no place for them
            known = {}
        new = {
            oid: one
            for oid, one in sightings.over(known).items()
            if oid in names and not roles.by_oid[oid].actor.is_operator
        }
        await write_seen(self.home, key, new, known.keys() - roles.by_oid.keys())
        sightings.written()
        return {oid: one for oid, one in (known | new).items() if oid in roles.by_oid}

    def _tell(self, reviewed: Review, name: str, *, known: int | None) -> None:
        """The condition, and an Event where something is wider that was not before."""
        sightings, findings = self.context.memory.sightings, reviewed.findings
        before, sightings.wider = sightings.wider, frozenset(one.key for one in findings)
        unused = (
            f" {counted(len(reviewed.unused), 'role is', 'roles are')} not used." if reviewed.unused else ""
        )
        if not findings:
            self._fact(True, Reason.REVIEWED, f"No role has more than is declared.{unused}")
            return
        first = "; ".join(map(str, findings[:_SHOWN]))
        self._fact(
            True,
            Reason.WIDER_THAN_DECLARED,
            f"Held beside what is declared: {counted(len(findings), 'thing', 'things')}, such as {first}. "
            f"ConfigMap {name} has all.{unused}",
        )
        new = [one for one in findings if before is not None and one.key not in before]
        # After a restart only the number is known.
        if new or (before is None and len(findings) > (known or 0)):
            shown = "; ".join(map(str, (new or findings)[:_SHOWN]))
            message = (
                f"Held beside what is declared, and new: {shown}. ConfigMap {name} has all {len(findings)}."
            )
            event = ObjectEvent("Warning", Reason.WIDER_THAN_DECLARED, message, action="Review")
            self.context.report.event(self.connection, event)

    async def _put_away(self) -> None:
        """No report is wanted any more."""
        if self.context.status().get("report") is None:
            return
        meta = self.connection.metadata
        await self.context.services.kube.delete_config_map(meta.namespace, config_map_name(self.connection))
        self.context.report.fields(self.connection, {"report": None})
        self._fact(False, Reason.REVIEW_OFF, "spec.report.interval is 0s.")


def tell_overdue(context: Context) -> None:
    """Say of a connection that no report could be made for twice its interval; a pass that makes one says otherwise."""
    connection, known = context.view.connection, context.status().get("report")
    if connection is None or is_deleting(connection) or not known:
        return
    interval = seconds(connection.spec.report.interval)
    if interval and is_overdue(known["at"], interval, context.services.clock.now()):
        message = f"The last access report is of {known['at']}: none could be made since."
        context.report.fact(connection, condition("AccessReviewed", False, Reason.REVIEW_OVERDUE, message))


def is_overdue(at: str, interval: float, now: datetime) -> bool:
    """Whether a report is older than two intervals, in seconds."""
    return now > datetime.fromisoformat(at) + timedelta(seconds=2 * interval)
