"""AccessGrants: one transaction per database makes it equal to the union of all that is declared for it."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import islice
from typing import TypeAlias

import psycopg
from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from lakebase_operator.api import AccessGrant
from lakebase_operator.api.access_grant import Privilege, SubjectKind
from lakebase_operator.api.base import MAX_STATUS_ISSUES
from lakebase_operator.api.lakebase_connection import DriftAction
from lakebase_operator.api.names import role_name_problem
from lakebase_operator.api.reasons import Reason
from lakebase_operator.domain.desired import (
    PUBLIC,
    Desired,
    Rule,
    Selector,
    as_json,
    is_active,
    merge,
    selectors_of,
)
from lakebase_operator.domain.people import People, Resolution, unmapped
from lakebase_operator.domain.plan import Difference, keep_columns, plan
from lakebase_operator.domain.privileges import ObjectClass, supported
from lakebase_operator.domain.statements import ObjectName, PrivilegeStatement, Verb
from lakebase_operator.domain.status import condition
from lakebase_operator.external.postgres.errors import is_concurrent_update, query_error
from lakebase_operator.external.postgres.grants import (
    Comparison,
    Failure,
    Scope,
    compare,
    create_ledger,
    exclusive,
    execute,
    log_changes,
    record,
)
from lakebase_operator.external.postgres.roles import Preflight
from lakebase_operator.external.postgres.session import Connection
from lakebase_operator.reconcilers.report import Report
from lakebase_operator.reconcilers.roles import Roles
from lakebase_operator.reconcilers.view import is_deleting

MAX_LOGGED_RESOURCES = 20


@dataclass(frozen=True, slots=True)
class Declared:
    """One AccessGrant with its subjects resolved."""

    grant: AccessGrant
    subjects: Mapping[str, Resolution]
    """By name as in the spec; PUBLIC for everybody."""
    selectors: tuple[Selector, ...]
    active: bool
    """Gives something now: neither suspended, nor outside its time, nor being deleted."""

    @property
    def grantees(self) -> frozenset[str]:
        """Roles that exist."""
        return frozenset(found.role for found in self.subjects.values() if found.role is not None)


def declare(grant: AccessGrant, people: People, roles: Roles, major_version: int, now: datetime) -> Declared:
    """Resolve one AccessGrant."""
    subjects: dict[str, Resolution] = {}
    for subject in grant.spec.subjects:
        name = subject.name or PUBLIC
        match subject.kind:
            case SubjectKind.PUBLIC:
                found = Resolution(Reason.RESOLVED, PUBLIC, PUBLIC)
            case SubjectKind.ROLE:
                found = _role(name, roles)
            case SubjectKind.USER:
                found = people.resolve(name, grant.metadata.namespace)
        if subjects.setdefault(name, found) != found:  # a person and another role of one name
            subjects[f"{name} ({subject.kind})"] = found
    active = is_active(grant.spec, now) and not is_deleting(grant)
    return Declared(grant, subjects, selectors_of(grant, major_version), active)


def _role(name: str, roles: Roles) -> Resolution:
    """A role by its exact name. ``"PUBLIC"`` can be one, and would be taken for everybody."""
    if role_name_problem(name):
        return Resolution(Reason.RESERVED_NAME, wanted=name)
    if name in roles.states:
        return Resolution(Reason.RESOLVED, name, name)
    return Resolution(Reason.ROLE_MISSING, wanted=name)


@dataclass(slots=True)
class Tally:
    """What was found of one AccessGrant, over the databases that it concerns."""

    objects: int = 0
    wanted: int = 0
    missing: int = 0
    issues: list[dict[str, str]] = field(default_factory=list)
    worst: tuple[Reason, str] | None = None
    """The first thing that keeps it from being ready, with a message."""
    waits: bool = False
    """What keeps it from being ready may pass by itself."""

    def issue(
        self, reason: Reason, thing: str, fix: str, *, role: str | None = None, privilege: str | None = None
    ) -> None:
        """Note something for ``status.issues``, up to its limit."""
        if len(self.issues) < MAX_STATUS_ISSUES:
            entry = {
                "object": thing,
                "role": role,
                "privilege": privilege,
                "reason": reason.value,
                "fix": fix[:1024],
            }
            self.issues.append({key: value for key, value in entry.items() if value is not None})

    def blame(self, reason: Reason, message: str, *, waits: bool = False) -> None:
        """Note what keeps the grant from being ready; the first one is told."""
        if self.worst is None:
            self.worst, self.waits = (reason, message), waits


@dataclass(frozen=True, slots=True)
class DatabaseResult:
    """What a pass did in one database."""

    database: str
    objects: int
    managed: int
    granted: int
    revoked: int
    """Statements carried out."""
    drifted: int
    """Privileges that somebody took away by hand."""
    repaired: bool
    unrevocable: tuple[Difference, ...]
    unfinished: bool = False
    """Something could not be done because somebody else held a lock, or was gone in between: worth another try soon."""
    public: tuple[str, ...] = ()
    """What everybody holds through PUBLIC, such as "CONNECT on database sales"; the first hundred."""


@dataclass(slots=True)
class GrantsStep:
    """Makes one database as declared."""

    database: str
    connection: Connection
    preflight: Preflight
    owner: str
    roles: Roles
    drift: DriftAction
    tallies: dict[str, Tally]
    """By uid of the AccessGrant."""
    may_revoke: bool = True
    """False while something that is declared cannot be read: it might declare what would be revoked."""
    others: Sequence[str] = ()
    """The connection's other databases: each answers for privileges on itself."""

    async def run(self, declared: Sequence[Declared], *, home: bool) -> DatabaseResult:
        """Compare, change, read back, record: in one transaction, and only if there is something to do.

        Raises
        ------
        LakebaseError
            Nothing of the transaction remains.
        """
        desired = self._desired(declared, home=home)
        scope = Scope(home, tuple(self.others), keep_drifted=self.drift is DriftAction.REPORT)
        if not desired.selectors and not self.preflight.ledger:
            return DatabaseResult(self.database, 0, 0, 0, 0, 0, repaired=False, unrevocable=())
        if not self.preflight.ledger:
            await create_ledger(self.connection)
        rules = as_json(desired, self.roles.oids)
        try:
            async for attempt in AsyncRetrying(
                retry=retry_if_exception(
                    lambda error: isinstance(error, psycopg.Error) and is_concurrent_update(error)
                ),
                stop=stop_after_attempt(5),
                wait=wait_random_exponential(multiplier=0.1, max=2),
                reraise=True,
            ):
                with attempt:
                    return await self._once(declared, desired, rules, scope)
        except psycopg.Error as error:
            raise query_error(error, doing=f"changing privileges in {self.database}") from error
        raise AssertionError("the loop returns or raises")

    def _desired(self, declared: Iterable[Declared], *, home: bool) -> Desired:
        """Rules of this database. Databases themselves are cluster-wide: every AccessGrant may speak of this one."""
        rules = []
        for item in declared:
            if not item.active:
                continue
            here = tuple(
                selector
                for selector in item.selectors
                if (
                    home or self.others
                    if selector.object_class is ObjectClass.DATABASE
                    else item.grant.spec.database == self.database
                )
            )
            if here:
                rules.append(Rule(item.grant.metadata.uid, here, item.grantees))
        return merge(rules)

    async def _once(
        self, declared: Sequence[Declared], desired: Desired, rules: list[dict[str, object]], scope: Scope
    ) -> DatabaseResult:
        first = await compare(self.connection, self.owner, rules, scope)
        todo = self._to_do(first)
        failures: tuple[Failure, ...] = ()
        executed: list[PrivilegeStatement] = []
        last = first
        if todo or first.ledger_changes:
            async with exclusive(self.connection):
                if todo:
                    # Again under the lock: another writer may have been at work.
                    first = last = await compare(self.connection, self.owner, rules, scope)
                    todo = self._to_do(first)
                    scope = replace(scope, opened=_opened(todo))
                    steps = plan(
                        todo, self.roles.actors, self.roles.name_of, superuser=self.preflight.superuser
                    )
                    steps = keep_columns(steps, todo, first.columns, self.roles.name_of)
                    failures = await execute(self.connection, steps, self.preflight.role, executed.append)
                    if executed:
                        last = await compare(self.connection, self.owner, rules, scope)
                if last.ledger_changes:
                    await record(self.connection, self.owner, rules, scope)
                log = self._log(declared, executed, failures, first, desired)
                await log_changes(self.connection, self.owner, log)
        self._count(declared, desired, last, failures)
        unrevocable = self._unrevocable(declared, first, last, failures)
        drifted = sum(len(difference.drifted) for difference in first.differences)
        return DatabaseResult(
            database=self.database,
            objects=sum(count.objects for count in last.counts),
            managed=last.managed,
            granted=sum(statement.verb is Verb.GRANT for statement in executed),
            revoked=sum(statement.verb is Verb.REVOKE for statement in executed),
            drifted=drifted,
            repaired=self.drift is DriftAction.REPAIR,
            unrevocable=unrevocable,
            unfinished=any(failure.may_pass for failure in failures),
            public=tuple(
                f"{privilege.value} on {thing.object_class.value.lower()} {thing}"
                for privilege, thing in last.public
            ),
        )

    def _to_do(self, comparison: Comparison) -> tuple[Difference, ...]:
        """The differences to remove. ``drift.action: Report`` leaves alone what somebody took away by hand.

        What cannot be done, and would be found again each time, is left out here: nothing to do means no statement.
        """
        wanted = comparison.differences
        if not self.may_revoke:
            wanted = tuple(difference for difference in wanted if difference.verb is Verb.GRANT)
        if self.drift is DriftAction.REPORT:
            wanted = tuple(left for difference in wanted if (left := _without_drift(difference)) is not None)
        steps = plan(wanted, self.roles.actors, self.roles.name_of, superuser=self.preflight.superuser)
        impossible = set(steps.impossible)
        return tuple(difference for difference in wanted if difference not in impossible)

    # -- telling -------------------------------------------------------------------------------------------------

    def _count(
        self, declared: Iterable[Declared], desired: Desired, last: Comparison, failures: Sequence[Failure]
    ) -> None:
        numbers = {selector: number for number, selector in enumerate(desired.selectors)}
        by_selector: dict[int, list[Declared]] = defaultdict(list)
        for item in declared:
            if not item.active:
                continue
            tally = self.tallies[item.grant.metadata.uid]
            for selector in item.selectors:
                if (number := numbers.get(selector)) is None:
                    continue
                by_selector[number].append(item)
                tally.objects += last.counts[number].objects
                tally.wanted += last.counts[number].items * len(item.grantees)
        errors = _errors(failures, Verb.GRANT)
        for difference in last.differences:
            if difference.verb is Verb.GRANT:
                concerned = {
                    item.grant.metadata.uid: item
                    for number in difference.selectors
                    for item in by_selector[number]
                }
                for item in concerned.values():
                    self._tell_missing(item, difference, errors)
        for number, thing in last.absent:
            for item in by_selector[number]:
                tally = self.tallies[item.grant.metadata.uid]
                tally.issue(
                    Reason.OBJECT_MISSING,
                    str(thing),
                    "Create it, or correct the name; it is looked for at every sync.",
                )
                tally.blame(
                    Reason.OBJECT_MISSING,
                    f"{thing.object_class.value.capitalize()} {thing} does not exist in {self.database}. "
                    "It is granted as soon as it does.",
                    waits=True,
                )
        for number, thing in last.read_only:
            for item in by_selector[number]:
                self.tallies[item.grant.metadata.uid].issue(
                    Reason.READ_ONLY_RELATION,
                    str(thing),
                    "Only SELECT is given. For writing through an updatable view, name it exactly in names.",
                )

    def _tell_missing(self, item: Declared, difference: Difference, errors: "Errors") -> None:
        names = {name: oid for name in item.grantees if (oid := self._oid(name)) is not None}
        concerned = [name for name, oid in sorted(names.items()) if oid in difference.grantees]
        if not concerned or (difference.implied and difference.public):
            return  # everybody has it through PUBLIC, so what was asked for is usable
        tally = self.tallies[item.grant.metadata.uid]
        if not difference.implied:
            tally.missing += len(concerned)
        owner = self.roles.name_of(difference.owner) or str(difference.owner)
        drifted = [name for name in concerned if names[name] in difference.drifted]
        for name in concerned:
            thing, privilege = str(difference.object), difference.privilege.value
            statement = _statement(Verb.GRANT, difference, name)
            failure = errors.get((difference.object, name, difference.privilege))
            if failure is not None:
                message = f"{statement} failed: {failure.error}"
                tally.issue(Reason.OBJECT_FAILED, thing, message, role=name, privilege=privilege)
                tally.blame(Reason.OBJECT_FAILED, f"{message}.", waits=failure.may_pass)
            elif name in drifted and self.drift is DriftAction.REPORT:
                tally.issue(
                    Reason.DRIFT_FOUND,
                    thing,
                    f"Run {statement}, or set drift.action: Repair.",
                    role=name,
                    privilege=privilege,
                )
                tally.blame(
                    Reason.DRIFT_FOUND,
                    f"{privilege} on {thing} was taken from {name} by hand, and drift.action is Report.",
                )
            else:
                tally.issue(
                    Reason.UNGRANTABLE, thing, f"As {owner} run: {statement}", role=name, privilege=privilege
                )
                tally.blame(
                    Reason.UNGRANTABLE,
                    f'The operator has no grant option for {privilege} on {thing}, which "{owner}" owns. '
                    f"Its owner must run: {statement}; status.issues lists them all.",
                )

    def _unrevocable(
        self,
        declared: Sequence[Declared],
        first: Comparison,
        last: Comparison,
        failures: Sequence[Failure],
    ) -> tuple[Difference, ...]:
        """What should be gone and is not, told on the AccessGrants that are over. Returns what a person must look at."""
        remaining = tuple(one for one in last.differences if one.verb is Verb.REVOKE)
        if not self.may_revoke:
            for difference in remaining:
                for item, name in self._over(declared, difference):
                    self.tallies[item.grant.metadata.uid].blame(
                        Reason.PENDING,
                        f"{name} keeps {difference.privilege.value} on {difference.object} until every declaration can "
                        "be read again: one of them may declare the same.",
                        waits=True,
                    )
            return ()
        errors = _errors(failures, Verb.REVOKE)
        stuck = []
        for difference in remaining:
            found = [
                errors.get((difference.object, self.roles.name_of(oid) or "", difference.privilege))
                for oid in difference.grantees
            ]
            if not all(failure is not None and failure.may_pass for failure in found):
                stuck.append(difference)
            for item, name in self._over(declared, difference):
                failure = errors.get((difference.object, name, difference.privilege))
                self._tell_remaining(item, name, difference, failure)
        for difference in first.differences:
            if difference.verb is Verb.REVOKE and difference not in remaining:
                for item, name in self._over(declared, difference):
                    self._tell_still_held(item, name, difference)
        return tuple(stuck)

    def _over(self, declared: Iterable[Declared], difference: Difference) -> Iterable[tuple[Declared, str]]:
        """AccessGrants that give nothing any more and may have given this, with the grantees concerned."""
        for item in declared:
            if not item.active and self._same_place(item, difference.object):
                for name in sorted(item.grantees):
                    if self._oid(name) in difference.grantees:
                        yield item, name

    def _same_place(self, item: Declared, thing: ObjectName) -> bool:
        if thing.object_class is ObjectClass.DATABASE:
            return item.grant.spec.database in (self.database, thing.name)
        return item.grant.spec.database == self.database and any(
            selector.schema is None or thing.schema is None or selector.schema == thing.schema
            for selector in item.selectors
        )

    def _tell_remaining(
        self, item: Declared, name: str, difference: Difference, failure: Failure | None
    ) -> None:
        tally = self.tallies[item.grant.metadata.uid]
        thing, privilege = str(difference.object), difference.privilege.value
        statement = _statement(Verb.REVOKE, difference, name)
        if failure is not None:
            message = f"{statement} failed: {failure.error}"
            tally.issue(Reason.OBJECT_FAILED, thing, message, role=name, privilege=privilege)
            tally.blame(Reason.OBJECT_FAILED, f"{message}.", waits=failure.may_pass)
            return
        who = self._quoted((difference.grantor or 0,))
        fix = f"Granted by {who}, who must run: {statement}"
        tally.issue(Reason.UNREVOCABLE, thing, fix, role=name, privilege=privilege)
        tally.blame(
            Reason.UNREVOCABLE,
            f"{privilege} on {thing} was granted to {name} by {who}, for whom the operator cannot act. "
            f"{who} must run: {statement}",
        )

    def _tell_still_held(self, item: Declared, name: str, difference: Difference) -> None:
        """The operator's grant is gone, and the grantee has the privilege in another way."""
        tally = self.tallies[item.grant.metadata.uid]
        thing, privilege = str(difference.object), difference.privilege.value
        if difference.others:
            fix = f"Granted by {self._quoted(difference.others)}, who must run: {_statement(Verb.REVOKE, difference, name)}"
            tally.issue(Reason.UNREVOCABLE, thing, fix, role=name, privilege=privilege)
        elif difference.public and name != PUBLIC and difference.object.object_class is ObjectClass.TABLE:
            fix = f"Everybody has it. To end that, run: {_statement(Verb.REVOKE, difference, PUBLIC)}"
            tally.issue(Reason.HELD_THROUGH_PUBLIC, thing, fix, role=name, privilege=privilege)

    def _quoted(self, oids: Iterable[int]) -> str:
        return ", ".join(f'"{self.roles.name_of(oid) or oid}"' for oid in oids)

    def _oid(self, name: str) -> int | None:
        return 0 if name == PUBLIC else self.roles.oids.get(name)

    def _log(
        self,
        declared: Sequence[Declared],
        executed: Sequence[PrivilegeStatement],
        failures: Sequence[Failure],
        first: Comparison,
        desired: Desired,
    ) -> Iterable[tuple[str, str, str]]:
        wanted = {
            (one.object, one.privilege): one.selectors for one in first.differences if one.verb is Verb.GRANT
        }
        names = {item.grant.metadata.uid: _resource_name(item.grant) for item in declared}
        results = [(statement, "ok") for statement in executed]
        results += [(failure.statement, failure.sqlstate or "failed") for failure in failures]
        for statement, result in results:
            if statement.verb is Verb.GRANT:
                uids = _declaring(statement, wanted, desired)
            else:
                uids = (
                    item.grant.metadata.uid
                    for item in declared
                    if not item.active
                    and not item.grantees.isdisjoint(statement.grantees)
                    and any(self._same_place(item, thing) for thing in statement.objects)
                )
            yield " ".join(names[uid] for uid in islice(uids, MAX_LOGGED_RESOURCES)), str(statement), result


def _resource_name(grant: AccessGrant) -> str:
    meta = grant.metadata
    return f"{grant.kind_name}/{meta.namespace}/{meta.name}@{meta.generation}"


def _declaring(
    statement: PrivilegeStatement,
    wanted: Mapping[tuple[ObjectName, Privilege], Sequence[int]],
    desired: Desired,
) -> Iterable[str]:
    """uids of the AccessGrants that a GRANT carries out."""
    selectors = {
        desired.selectors[number]
        for thing in statement.objects
        for privilege in statement.privileges
        for number in wanted.get((thing, privilege), ())
    }
    return (
        rule.grant
        for rule in desired.rules
        if selectors.intersection(rule.selectors) and not rule.grantees.isdisjoint(statement.grantees)
    )


def _statement(verb: Verb, difference: Difference, grantee: str) -> str:
    """What a person would have to run."""
    return str(PrivilegeStatement(verb, (difference.object,), (difference.privilege,), (grantee,), None))


def _opened(differences: Iterable[Difference]) -> tuple[Difference, ...]:
    """What PUBLIC is given."""
    return tuple(one for one in differences if one.verb is Verb.GRANT and 0 in one.grantees)


def _without_drift(difference: Difference) -> Difference | None:
    if difference.verb is Verb.REVOKE or not difference.drifted:
        return difference
    left = tuple(oid for oid in difference.grantees if oid not in difference.drifted)
    return difference.for_grantees(left) if left else None


Errors: TypeAlias = Mapping[tuple[ObjectName, str, Privilege], Failure]
"""By object, grantee and privilege."""


def _errors(failures: Iterable[Failure], verb: Verb) -> Errors:
    return {
        (thing, grantee, privilege): failure
        for failure in failures
        if failure.statement.verb is verb
        for thing in failure.statement.objects
        for grantee in failure.statement.grantees
        for privilege in failure.statement.privileges
    }


def conclude(item: Declared, tally: Tally, now: datetime, report: Report) -> None:
    """The verdict on one AccessGrant that is not being deleted."""
    grant, spec = item.grant, item.grant.spec
    fields: dict[str, object] = {
        "subjects": [
            {"name": name, "role": found.role, "state": found.state.value}
            for name, found in list(item.subjects.items())[:512]
        ],
        "objects": tally.objects,
        "grants": {"wanted": tally.wanted, "held": tally.wanted - tally.missing},
        "issues": tally.issues,
        "expiresAt": spec.expires_at,
    }
    report.fields(grant, fields)
    nobody = unmapped(
        {name: found for name, found in item.subjects.items() if found.state is not Reason.NO_ACCOUNT}
    )
    if not item.active:
        _conclude_inactive(grant, tally, now, report)
    elif tally.worst is not None:
        say = report.waiting if tally.waits else report.stalled
        say(grant, *tally.worst)
    elif nobody:
        first = item.subjects[nobody[0]]
        stalled = first.state in (Reason.AMBIGUOUS, Reason.RESERVED_NAME)
        reason = first.state if stalled or first.state is Reason.ROLE_MISSING else Reason.UNMAPPED_USERS
        say = report.stalled if stalled else report.waiting
        say(grant, reason, f"{', '.join(nobody[:10])}: {first.message}")
    elif tally.objects == 0:
        report.ready(grant, Reason.NO_OBJECTS, "Nothing in the database matches spec.objects now.")
    else:
        report.ready(
            grant,
            Reason.SUCCEEDED,
            f"{tally.wanted} privileges on {tally.objects} objects are held, as read back from the database.",
        )
    report.fact(
        grant,
        condition(
            "UnmappedUsers",
            bool(nobody),
            Reason.UNMAPPED_USERS if nobody else Reason.ALL_MAPPED,
            f"Without a role: {', '.join(nobody[:50])}." if nobody else "",
        ),
    )


def _conclude_inactive(grant: AccessGrant, tally: Tally, now: datetime, report: Report) -> None:
    spec = grant.spec
    if tally.worst is not None:
        say = report.waiting if tally.waits else report.stalled
        say(grant, *tally.worst)
    elif spec.suspend:
        report.ready(grant, Reason.SUSPENDED, "spec.suspend is set: nothing is held.")
    elif spec.expires_at is not None and spec.expires_at <= now:
        report.ready(grant, Reason.EXPIRED, f"Ended at {spec.expires_at.isoformat()}: nothing is held.")
    else:
        begins = spec.not_before.isoformat() if spec.not_before else ""
        report.ready(grant, Reason.NOT_YET_ACTIVE, f"Begins at {begins}: nothing is held until then.")


def unsupported(grant: AccessGrant, major_version: int, tally: Tally) -> None:
    """Tell of privileges that this version of the server does not know."""
    for privilege in grant.spec.privileges or ():
        if not supported(privilege, major_version):
            message = (
                f"spec.privileges: PostgreSQL {major_version} does not know {privilege.value}. Leave it out."
            )
            tally.issue(Reason.INVALID_SPEC, "*", message, privilege=privilege.value)
            tally.blame(Reason.INVALID_SPEC, message)
