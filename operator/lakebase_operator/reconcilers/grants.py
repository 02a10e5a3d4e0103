"""AccessGrants: a database is made equal to the union of all that is declared for it, as a rule in one transaction."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

import psycopg

from lakebase_operator.api import AccessGrant
from lakebase_operator.api.base import MAX_STATUS_ISSUES
from lakebase_operator.api.lakebase_connection import DriftAction, Mode, UnmanagedAction, UnmanagedGrants
from lakebase_operator.api.objects import Privilege
from lakebase_operator.domain.desired import PUBLIC, Declared, Desired, as_json, desired_in
from lakebase_operator.domain.plan import (
    Difference,
    Origin,
    Plan,
    keep_columns,
    plan,
    script,
    within_acl_limit,
)
from lakebase_operator.domain.privileges import ObjectClass
from lakebase_operator.domain.statements import ObjectName, PrivilegeStatement, Verb
from lakebase_operator.external.postgres.errors import query_error
from lakebase_operator.external.postgres.grants import (
    Comparison,
    Failure,
    Scope,
    Search,
    compare,
    create_ledger,
    exclusive,
    execute,
    fingerprint,
    log_changes,
)
from lakebase_operator.external.postgres.retries import while_others_change
from lakebase_operator.external.postgres.roles import Preflight
from lakebase_operator.external.postgres.session import Connection
from lakebase_operator.reconcilers.roles import Roles
from lakebase_operator.reconcilers.tally import DatabaseResult, Tally
from lakebase_operator.reconcilers.telling import Telling, deviations, is_connect, same_place

MAX_LOGGED_RESOURCES = 20
LOCKING_GRANTS_SINCE = 18
"""Major version since which GRANT locks the relation, not only its row in the catalog."""
MAX_ROUNDS = 4
"""How often the rest of a plan is tried in one pass, as long as each time something came of it."""


@dataclass(frozen=True, slots=True)
class Policy:
    """How strictly a connection's databases are kept."""

    drift: DriftAction = DriftAction.REPAIR
    unmanaged: UnmanagedGrants = field(default_factory=UnmanagedGrants)
    mode: Mode = Mode.ENFORCE
    approved: frozenset[str] = frozenset()
    """Digests (:func:`digest`) of the plans that may be carried out although ``mode`` is Plan."""

    @property
    def search(self) -> Search | None:
        """Where to look for what nobody declares."""
        if self.unmanaged.action is UnmanagedAction.KEEP:
            return None
        schemas, roles = self.unmanaged.schemas, self.unmanaged.roles
        return Search(tuple(schemas) if schemas else None, tuple(roles) if roles else None)


def digest(database: str, statements: Iterable[str]) -> str:
    """Identifies a plan: the same statements in the same order in the same database."""
    text = "\n".join((database, *statements))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(slots=True)
class Remembered:
    """The last comparison of a database, and of what."""

    about: bytes
    """Digest of what was compared with what."""
    fingerprint: int | None
    """Of the database as it was compared; None if that led to changes, or if only some grantees were looked at."""
    comparison: Comparison
    in_vain: bool = False
    """What is left to do was tried, and changed nothing: until something changes, it is not tried again."""
    failures: tuple[Failure, ...] = ()
    """Of what was tried in vain."""


@dataclass(frozen=True, slots=True)
class _Round:
    """What came of a transaction."""

    found: Comparison
    steps: Plan
    refused: tuple[Difference, ...]
    executed: tuple[PrivilegeStatement, ...]
    failures: tuple[Failure, ...]
    last: Comparison
    left: Plan | None
    """What may succeed now."""

    @property
    def opened(self) -> tuple[Difference, ...]:
        """See :func:`_opened`."""
        return _opened(self.steps.carried_out)

    @property
    def in_vain(self) -> bool:
        """What is left is just what was tried."""
        return self.left is not None and self.left.statements == self.steps.statements


@dataclass(slots=True)
class GrantsStep:
    """Makes one database as declared."""

    database: str
    connection: Connection
    preflight: Preflight
    owner: str
    """Name of the connection in the ledger."""
    roles: Roles
    policy: Policy
    tallies: Mapping[str, Tally]
    """By uid of the AccessGrant."""
    may_revoke: bool = True
    """False while something that is declared cannot be read: it might declare what would be revoked."""
    others: Sequence[str] = ()
    """The connection's other databases: each answers for privileges on itself."""
    platform: frozenset[str] = frozenset()
    """Schemas of this database that are an application's own."""
    remembered: dict[str, Remembered] = field(default_factory=dict)
    """By database. An unchanged fingerprint makes a comparison unnecessary."""
    only_revoke: bool = False
    """Take away what is not declared any more, and leave the rest for later."""

    async def run(
        self, declared: Sequence[Declared], *, home: bool, focus: frozenset[str] | None = None
    ) -> DatabaseResult:
        """Compare, change, read back and record, in one transaction, only if there is something to do.

        What failed there and may succeed now is tried again in a transaction of its own.

        Parameters
        ----------
        declared
            All AccessGrants of the connection; with a focus, at least all that concern its roles.
        home
            It is the connection's home database.
        focus
            Look only at what these roles hold. None: at everything.

        Raises
        ------
        LakebaseError
            Nothing of the transaction that failed remains.
        """
        desired = desired_in(self.database, declared, home=home, others=bool(self.others), focus=focus)
        scope = Scope(
            home,
            tuple(self.others),
            focus=self._oids(focus) if focus is not None else None,
            search=self.policy.search,
            platform=tuple(sorted(self.platform)),
            keep_drifted=self.policy.drift is DriftAction.REPORT,
        )
        nothing = not desired.selectors and scope.search is None
        if nothing and not self.preflight.ledger:
            return DatabaseResult(self.database, 0, 0, 0, 0, 0, repaired=False, unrevocable=())
        rules = as_json(desired, self.roles.oids)
        try:
            if self.policy.mode is Mode.PLAN and not self.preflight.ledger:
                return await self._without_a_trace(declared, desired, rules, scope)
            if not self.preflight.ledger:
                await create_ledger(self.connection)
            return await self._look_and_change(declared, desired, rules, scope)
        except psycopg.Error as error:
            raise query_error(error, doing=f"changing privileges in {self.database}") from error

    def _oids(self, names: Iterable[str]) -> tuple[int, ...]:
        known = {**self.roles.oids, PUBLIC: 0}
        return tuple(sorted(known[name] for name in names if name in known))

    # -- one pass -------------------------------------------------------------------------------------------------

    async def _look_and_change(
        self, declared: Sequence[Declared], desired: Desired, rules: list[dict[str, object]], scope: Scope
    ) -> DatabaseResult:
        about = self._about(rules, scope)
        version, known = await self._remembered(about, rules, scope)
        seen = known.comparison if known is not None else None
        if seen is None and not self._expects_work(about):
            seen = await compare(self.connection, self.owner, rules, scope)
        planned: tuple[str, ...] = ()
        if seen is not None:
            steps, refused = self._plan(seen)
            in_vain = known is not None and known.in_vain
            planned = self._script(steps) if not in_vain else ()
            waits = (
                self.policy.mode is Mode.PLAN and digest(self.database, planned) not in self.policy.approved
            )
            if waits or in_vain or not (steps or seen.ledger_changes):
                self.remembered[self.database] = known = known or Remembered(about, version, seen)
                return self._result(
                    declared, desired, seen, seen, known.failures, (), refused, steps, planned
                )
        rounds = [await self._round(declared, desired, rules, scope, planned)]
        while (left := rounds[-1].left) and not rounds[-1].in_vain and len(rounds) < MAX_ROUNDS:
            scope = replace(scope, opened=(*scope.opened, *rounds[-1].opened))
            rounds.append(await self._round(declared, desired, rules, scope, ()))
        first, final = rounds[0], rounds[-1]
        executed = [statement for one in rounds for statement in one.executed]
        last = final.last
        if left:
            version = await self._fingerprint(rules, scope)
            last = await compare(self.connection, self.owner, rules, scope)
        changed = not left and bool(executed or final.failures or first.found.ledger_changes)
        self.remembered[self.database] = Remembered(
            about,
            None if changed else version,
            last,
            in_vain=bool(left),
            failures=final.failures if left else (),
        )
        return self._result(
            declared, desired, first.found, last, final.failures, executed, first.refused, final.steps, ()
        )

    async def _round(
        self,
        declared: Sequence[Declared],
        desired: Desired,
        rules: list[dict[str, object]],
        scope: Scope,
        approved: tuple[str, ...],
    ) -> _Round:
        """Compare, change, read back, record and log, in one transaction.

        What is left goes into another transaction and not to the end of this one: a statement that failed here may come after
        those that it has to precede (see ``sequences_first`` of :func:`~lakebase_operator.domain.plan.plan`).
        """
        async for attempt in while_others_change(first=0.1, longest=2):
            with attempt:
                executed: list[PrivilegeStatement] = []
                async with exclusive(self.connection):
                    # Again under the lock: another writer may have been at work.
                    found = last = await compare(self.connection, self.owner, rules, scope)
                    steps, refused = self._plan(found)
                    if self._script(steps) != approved:
                        steps = Plan((), (), ())  # the next pass shows what there is to approve now
                    failures = await execute(self.connection, steps, self.preflight.role, executed.append)
                    if executed or found.ledger_changes:
                        after = replace(scope, opened=(*scope.opened, *_opened(steps.carried_out)))
                        last = await compare(self.connection, self.owner, rules, after, record=True)
                    log = self._log(declared, executed, failures, found, desired)
                    await log_changes(self.connection, self.owner, log)
                left = self._left(steps, last, failures)
                return _Round(found, steps, refused, tuple(executed), failures, last, left)
        raise AssertionError("the loop returns or raises")

    def _left(self, steps: Plan, last: Comparison, failures: Iterable[Failure]) -> Plan | None:
        """What to try once more: one statement may have been in the way of another. None if there is nothing, or if that
        is for the next pass."""
        if not steps or self.policy.mode is Mode.PLAN or any(failure.may_pass for failure in failures):
            return None
        return self._plan(last)[0]

    def _about(self, rules: list[dict[str, object]], scope: Scope) -> bytes:
        role, superuser = self.preflight.role, self.preflight.superuser
        oids = sorted(self.roles.oids.items())
        text = repr((rules, scope, role, superuser, oids, self.policy, self.may_revoke))
        return hashlib.sha256(text.encode()).digest()

    def _expects_work(self, about: bytes) -> bool:
        """Something else is declared than at the last comparison: to look without the lock first would be in vain."""
        known = self.remembered.get(self.database)
        return self.policy.mode is Mode.ENFORCE and (known is None or known.about != about)

    async def _remembered(
        self, about: bytes, rules: list[dict[str, object]], scope: Scope
    ) -> tuple[int | None, Remembered | None]:
        """The fingerprint of the database, and what was found of it if nothing has changed since.

        The fingerprint is taken first: a change between it and the comparison shows at the next look.
        """
        version = await self._fingerprint(rules, scope)
        known = self.remembered.get(self.database)
        same = known is not None and known.fingerprint == version is not None and known.about == about
        return version, known if same else None

    async def _fingerprint(self, rules: list[dict[str, object]], scope: Scope) -> int | None:
        if scope.focus is not None:
            return None  # it would cost as much as it can save
        return await fingerprint(self.connection, columns=any(rule["columns"] for rule in rules))

    async def _without_a_trace(
        self, declared: Sequence[Declared], desired: Desired, rules: list[dict[str, object]], scope: Scope
    ) -> DatabaseResult:
        """Plan where there is no ledger yet: it is made for the length of a transaction that is rolled back."""
        async with self.connection.transaction(force_rollback=True):
            await create_ledger(self.connection)
            first = await compare(self.connection, self.owner, rules, scope)
        steps, refused = self._plan(first)
        planned = self._script(steps)
        if digest(self.database, planned) in self.policy.approved:
            await create_ledger(self.connection)
            return await self._look_and_change(declared, desired, rules, scope)
        return self._result(declared, desired, first, first, (), (), refused, steps, planned)

    def _plan(self, comparison: Comparison) -> tuple[Plan, tuple[Difference, ...]]:
        """What to do about the differences, and what an ACL has no room for.

        ``drift.action: Report`` leaves alone what somebody changed by hand. What cannot be done, and would be found again
        each time, is left out: nothing to do means no statement.
        """
        wanted = tuple(one for one in comparison.differences if self._is_wanted(one))
        if not self.preflight.own_connect:
            wanted = tuple(left for one in wanted if (left := self._still_connected(one)) is not None)
        if self.policy.drift is DriftAction.REPORT:
            wanted = tuple(left for difference in wanted if (left := _without_drift(difference)) is not None)
        wanted, refused = within_acl_limit(wanted)
        steps = plan(
            wanted,
            self.roles.actors,
            self.roles.grantee,
            superuser=self.preflight.superuser,
            sequences_first=self.preflight.major_version < LOCKING_GRANTS_SINCE,
        )
        impossible = set(steps.impossible)
        possible = tuple(one for one in wanted if one not in impossible)
        steps = keep_columns(steps, possible, comparison.columns, self.roles.grantee)
        return replace(steps, carried_out=possible), refused

    def _still_connected(self, difference: Difference) -> Difference | None:
        """Without what would lock the operator out: it has CONNECT through PUBLIC only."""
        if not is_connect(difference, self.database) or 0 not in difference.grantees:
            return difference
        left = tuple(oid for oid in difference.grantees if oid != 0)
        return difference.for_grantees(left) if left else None

    def _connect(self) -> str:
        """What would give the operator a CONNECT of its own."""
        database = ObjectName(ObjectClass.DATABASE, None, self.database)
        return str(
            PrivilegeStatement(Verb.GRANT, (database,), (Privilege.CONNECT,), (self.preflight.role,), None)
        )

    def _script(self, steps: Plan) -> tuple[str, ...]:
        """What has to be approved."""
        return script(steps, self.preflight.role) if self.policy.mode is Mode.PLAN else ()

    def _is_wanted(self, difference: Difference) -> bool:
        if self.only_revoke and difference.origin is not Origin.UNDECLARED:
            return False
        match difference.origin:
            case Origin.UNDECLARED:
                return self.may_revoke
            case Origin.UNMANAGED:
                return self.may_revoke and self.policy.unmanaged.action is UnmanagedAction.REVOKE
            case _:
                return True

    # -- what came of it -----------------------------------------------------------------------------------------

    def _result(
        self,
        declared: Sequence[Declared],
        desired: Desired,
        first: Comparison,
        last: Comparison,
        failures: Sequence[Failure],
        executed: Sequence[PrivilegeStatement],
        refused: Sequence[Difference],
        steps: Plan,
        planned: tuple[str, ...],
    ) -> DatabaseResult:
        telling = Telling(
            self.database,
            self.roles,
            declared,
            desired,
            self.tallies,
            self.policy.drift,
            self.policy.mode,
            self.may_revoke,
            refused,
            frozenset(steps.carried_out) if planned else frozenset(),
            None if self.preflight.own_connect else self._connect(),
        )
        unrevocable = telling.tell(first, last, failures)
        unmanaged = [one for one in last.differences if one.origin is Origin.UNMANAGED]
        searched = self.policy.search is not None
        return DatabaseResult(
            database=self.database,
            objects=sum(count.objects for count in last.counts),
            managed=last.managed,
            granted=sum(statement.verb is Verb.GRANT for statement in executed),
            revoked=sum(statement.verb is Verb.REVOKE for statement in executed),
            drifted=sum(len(difference.drifted) for difference in first.differences),
            repaired=self.policy.drift is DriftAction.REPAIR and not planned,
            unrevocable=unrevocable,
            unfinished=any(failure.may_pass for failure in failures),
            public=tuple(
                f"{privilege.value} on {thing.object_class.value.lower()} {thing}"
                for privilege, thing in last.public
            ),
            drift=tuple(islice(deviations(first.differences, self.roles, drifted=True), MAX_STATUS_ISSUES)),
            unmanaged=sum(len(one.grantees) for one in unmanaged) if searched else None,
            unmanaged_items=tuple(
                islice(deviations(unmanaged, self.roles, drifted=False), MAX_STATUS_ISSUES)
            ),
            planned=planned,
        )

    def _log(
        self,
        declared: Sequence[Declared],
        executed: Sequence[PrivilegeStatement],
        failures: Sequence[Failure],
        first: Comparison,
        desired: Desired,
    ) -> Iterable[tuple[str, str, str]]:
        declaring = {
            (one.verb, one.object, one.privilege): one.selectors for one in first.differences if one.selectors
        }
        results = [(statement, "ok") for statement in executed]
        results += [(failure.statement, failure.sqlstate or "failed") for failure in failures]
        for statement, result in results:
            numbers = {
                number
                for thing in statement.objects
                for privilege in statement.privileges
                for number in declaring.get((statement.verb, thing, privilege), ())
            }
            grantees = frozenset(statement.grantees)
            if numbers:
                declaring_it = (item for number in sorted(numbers) for item in desired.declared_by[number])
            else:
                declaring_it = (
                    item
                    for item in declared
                    if not item.active
                    and any(same_place(item, thing, self.database) for thing in statement.objects)
                )
            concerned = (item for item in declaring_it if not grantees.isdisjoint(item.grantees))
            yield _some_names(concerned), str(statement), result


def _some_names(items: Iterable[Declared]) -> str:
    """The first few, each once: thousands may declare what one statement does."""
    names: dict[str, None] = {}
    for item in items:
        names[_resource_name(item.grant)] = None
        if len(names) == MAX_LOGGED_RESOURCES:
            break
    return " ".join(names)


def _resource_name(grant: AccessGrant) -> str:
    meta = grant.metadata
    return f"{grant.kind_name}/{meta.namespace}/{meta.name}@{meta.generation}"


def _opened(differences: Iterable[Difference]) -> tuple[Difference, ...]:
    """What PUBLIC is given."""
    return tuple(one for one in differences if one.verb is Verb.GRANT and 0 in one.grantees)


def _without_drift(difference: Difference) -> Difference | None:
    if not difference.drifted:
        return difference
    left = tuple(oid for oid in difference.grantees if oid not in difference.drifted)
    return difference.for_grantees(left) if left else None
