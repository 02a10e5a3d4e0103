"""Ownership of schemas and objects: after the roles, before the grants of each database, since owners grant."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import psycopg
from psycopg import sql

from lakebase_operator.api.postgres_role import Owned
from lakebase_operator.api.reasons import Reason
from lakebase_operator.domain.memberships import loan
from lakebase_operator.domain.ownership import (
    OwnedClass,
    OwnedObject,
    OwnedSelector,
    Route,
    not_handed_over,
    owned_selector,
    route,
)
from lakebase_operator.domain.plan import Acting
from lakebase_operator.domain.role_statements import RESET_ROLE, set_local_role
from lakebase_operator.domain.roles import Issue, RoleState
from lakebase_operator.external.postgres.errors import is_concurrent_update, query_error
from lakebase_operator.external.postgres.grants import create_ledger, exclusive, log_changes
from lakebase_operator.external.postgres.ownership import Ownership, read_ownership
from lakebase_operator.external.postgres.retries import while_others_change
from lakebase_operator.external.postgres.roles import Preflight
from lakebase_operator.external.postgres.session import Connection
from lakebase_operator.reconcilers.known_roles import Roles, RoleTally
from lakebase_operator.reconcilers.role_execution import PLANNED, resource_name

LOCKED = "55P03"
LATER_LOCK_TIMEOUT = 200
"""Milliseconds to wait for further locks in a transaction where one long wait was in vain."""

_ORDER = list(OwnedClass)
"""Schemas come before what is in them: their owner may create there."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One selector and whose objects it means."""

    selector: OwnedSelector
    owner: RoleState
    tally: RoleTally


@dataclass(frozen=True, slots=True)
class Batch:
    """Objects that are handed over in one transaction, in one way."""

    old: RoleState
    new: RoleState
    way: Route
    objects: tuple[OwnedObject, ...]
    """In one schema, or in none."""
    lacking: tuple[tuple[str, str], ...] = ()
    """(privilege, role): what is granted on the schema for the length of the transaction."""
    schema_owner: RoleState | None = None
    """The role that is set to grant it; None: the operator grants it as it is."""


@dataclass(slots=True)
class OwnershipStep:
    """Hands the objects of one database over to the roles that are declared to own them."""

    database: str
    connection: Connection
    preflight: Preflight
    owner: str
    """Name of the connection in the ledger."""
    roles: Roles
    dry: bool = False
    """Only note what would be executed."""
    approved: frozenset[str] | None = None
    """No object may be handed over but by these statements; None: any."""
    platform: frozenset[str] = frozenset()
    """Schemas that are an application's own: patterns leave them out."""
    declared_in: str = "spec.owns"
    """The field that says who is to own what, for messages."""
    executed: list[tuple[str, str, str]] = field(default_factory=list)
    """For the change log: resources, statement, result. Of a dry run, what would be executed."""

    async def run(self, *, home: bool) -> int:
        """Returns how many objects have a new owner. What cannot be handed over is told of its role.

        Raises
        ------
        LakebaseError
            The database cannot be read.
        """
        wanted = list(self._wanted(home=home))
        if not wanted:
            return 0
        if not self.preflight.ledger and not self.dry:
            await create_ledger(self.connection)
        changed, owned = await self.hand_over(wanted, home=home)
        for one in {one.owner.oid: one for one in wanted}.values():
            one.tally.owned += owned.get(one.owner.oid, 0)
        if not self.dry:
            await log_changes(self.connection, self.owner, self.executed)
        return changed

    async def hand_over(self, wanted: Sequence[Wanted], *, home: bool) -> tuple[int, Mapping[int, int]]:
        """Make the owners as wanted. Returns how many objects have a new one, and how many of them each role owns in the end.

        Raises
        ------
        LakebaseError
            The database cannot be read.
        """
        rules = [one.selector.as_json(number, one.owner.oid) for number, one in enumerate(wanted)]
        found = await self._read(rules, home=home)
        self._tell_absent(wanted, found)
        # What is in a schema comes after the schema, since its new owner may then create there.
        changed = await self._hand_over_all(wanted, (one for one in found.objects if one.schema is None))
        if changed:
            found = await self._read(rules, home=home)
        changed += await self._hand_over_all(wanted, (one for one in found.objects if one.schema is not None))
        if changed:
            found = await self._read(rules, home=home)
        return changed, found.owned

    async def _read(self, rules: Sequence[Mapping[str, object]], *, home: bool) -> Ownership:
        try:
            return await read_ownership(self.connection, rules, home=home, platform=self.platform)
        except psycopg.Error as error:
            raise query_error(error, doing=f"reading owners in {self.database}") from error

    # -- what is wanted ------------------------------------------------------------------------------------------

    def _wanted(self, *, home: bool) -> Iterable[Wanted]:
        for name, tally in self.roles.owning.items():
            for entry in tally.role.spec.owns:
                if not self._is_here(entry, home=home):
                    continue
                try:
                    yield Wanted(owned_selector(entry), self.roles.states[name], tally)
                except ValueError as error:
                    tally.blame(Reason.INVALID_SPEC, str(error))

    def _is_here(self, entry: Owned, *, home: bool) -> bool:
        return home if entry.database is None or entry.databases else entry.database == self.database

    def _tell_absent(self, wanted: Sequence[Wanted], found: Ownership) -> None:
        for number, name in found.absent:
            tally, thing = wanted[number].tally, wanted[number].selector.object_class.value.lower()
            fix = "Create it, or correct the name; it is looked for at every sync."
            tally.note([Issue(f"{thing} {name}", Reason.OBJECT_MISSING, fix)])
            message = f"{self.declared_in}: {thing} {name} does not exist in {self.database}. {fix}"
            tally.blame(Reason.OBJECT_MISSING, message, waits=True)

    # -- how -----------------------------------------------------------------------------------------------------

    async def _hand_over_all(self, wanted: Sequence[Wanted], objects: Iterable[OwnedObject]) -> int:
        """Of several roles for one object the first gets it. What nobody can hand over is told."""
        groups: dict[tuple[str, int, int, bool, bool], list[OwnedObject]] = defaultdict(list)
        for item in sorted(
            objects, key=lambda one: (_ORDER.index(one.object_class), one.selectors, one.name)
        ):
            winner = wanted[item.selectors[0]]
            for one in {wanted[number].owner.oid: wanted[number] for number in item.selectors}.values():
                if one.owner.oid != winner.owner.oid:
                    self._tell_conflict(one, winner, item)
            if winner.owner.oid != item.owner:
                as_itself = item.object_class in (OwnedClass.SCHEMA, OwnedClass.DATABASE)
                key = item.schema or "", item.owner, winner.owner.oid, item.owner_may_become, as_itself
                groups[key].append(item)
        changed = 0
        for (_, old_oid, new_oid, may_become, as_itself), items in groups.items():
            old, new = self.roles.by_oid[old_oid], self.roles.by_oid[new_oid]
            way = route(
                old.actor,
                new.actor,
                old_may_become_new=may_become,
                as_itself=as_itself,
                superuser=self.preflight.superuser,
            )
            if way is None:
                why = f'The operator cannot act for both its owner "{old.name}" and "{new.name}".'
                self._tell_left(items, new, why)
            elif (batch := self._batch(old, new, way, items)) is not None:
                changed += await self._hand_over(batch)
        return changed

    def _batch(
        self, old: RoleState, new: RoleState, way: Route, items: Sequence[OwnedObject]
    ) -> Batch | None:
        """With what is needed on the schema: CREATE for the new owner, USAGE for whoever names the objects."""
        first = items[0]
        lacking = []
        if not self.preflight.superuser:
            if not first.new_may_create:
                lacking.append(("CREATE", new.name))
            usable = first.owner_may_use if way.as_owner else first.operator_may_use
            if not usable and not (way.inherit_owner and first.owner_may_use):
                lacking.append(("USAGE", old.name if way.as_owner else self.preflight.role))
        batch = Batch(old, new, way, tuple(items), tuple(lacking))
        if not lacking or first.schema_owner is None:
            return batch
        owner = self.roles.by_oid[first.schema_owner]
        match owner.actor.acting:
            case Acting.ITSELF:
                return batch
            case Acting.SET_ROLE:
                return replace(batch, schema_owner=owner)
            case _ if first.grantable:
                return batch
            case Acting.ADMIN:
                return replace(batch, schema_owner=owner)
            case Acting.NO:
                grants = "; ".join(_on_schema("GRANT", batch, *one).as_string(None) for one in lacking)
                why = f'The owner of the schema, "{owner.name}", must run: {grants}; it is then handed over.'
                self._tell_left(items, new, why)
                return None

    async def _hand_over(self, batch: Batch) -> int:
        """One transaction. Objects that cannot be handed over are told, and the others are."""
        resource = resource_name(self.roles.tallies[batch.new.name].role)
        if self.dry:
            self.executed += [(resource, _text(item, batch), PLANNED) for item in batch.objects]
            return 0
        if self.approved is not None:
            batch = self._approved(batch, self.approved)
            if not batch.objects:
                return 0
        try:
            async for attempt in while_others_change(first=0.05, longest=1):
                with attempt:
                    done, failed = await self._once(batch)
        except psycopg.Error as error:
            if self.connection.closed:
                raise query_error(error, doing=f"changing owners in {self.database}") from error
            failed, done = [(item, error) for item in batch.objects], []
        self.executed += [(resource, _text(item, batch), "ok") for item in done]
        for item, problem in failed:
            self.executed.append((resource, _text(item, batch), problem.sqlstate or "failed"))
            if problem.sqlstate in _GONE:
                continue
            text = problem.diag.message_primary or str(problem)
            self._tell_left([item], batch.new, f"It failed: {text}.", waits=is_concurrent_update(problem))
        return len(done)

    def _approved(self, batch: Batch, approved: frozenset[str]) -> Batch:
        """What is left of a batch when only the approved plan is carried out."""
        there = tuple(item for item in batch.objects if _text(item, batch) in approved)
        if len(there) < len(batch.objects):
            message = f"{self.declared_in}: the approved plan does not have all objects; it is shown anew."
            self.roles.tallies[batch.new.name].blame(Reason.PLANNED, message, waits=True)
        return replace(batch, objects=there)

    async def _once(self, batch: Batch) -> tuple[list[OwnedObject], list[tuple[OwnedObject, psycopg.Error]]]:
        done: list[OwnedObject] = []
        failed: list[tuple[OwnedObject, psycopg.Error]] = []
        async with exclusive(self.connection):
            ends = []
            for begin, end in self._loans(batch):
                await self.connection.execute(begin)
                ends.append(end)
            await self._on_schema("GRANT", batch)
            if batch.way.as_owner:
                await self.connection.execute(set_local_role(batch.old.name))
            for item in batch.objects:
                try:
                    async with self.connection.transaction():  # a savepoint
                        await self.connection.execute(item.handover(batch.new.name))
                except psycopg.Error as error:
                    locked = error.sqlstate == LOCKED
                    if self.connection.closed or (is_concurrent_update(error) and not locked):
                        raise
                    if locked:
                        await self.connection.execute(
                            sql.SQL("SET LOCAL lock_timeout = {}").format(sql.Literal(LATER_LOCK_TIMEOUT))
                        )
                    failed.append((item, error))
                else:
                    done.append(item)
            if batch.way.as_owner:
                await self.connection.execute(RESET_ROLE)
            await self._on_schema("REVOKE", batch)
            for end in reversed(ends):
                await self.connection.execute(end)
        return done, failed

    def _loans(self, batch: Batch) -> Iterable[tuple[sql.Composed, sql.Composed]]:
        """Memberships for the length of the transaction: what begins and what ends each."""
        me, way = self.roles.states[self.preflight.role], batch.way
        everybody, edges = self.roles.everybody(superuser=self.preflight.superuser), self.roles.edges
        inherit = {batch.old.oid} if way.inherit_owner else set()
        become = {batch.new.oid} if way.become_new else set()
        if batch.schema_owner is not None and batch.schema_owner.actor.acting is Acting.ADMIN:
            become.add(batch.schema_owner.oid)
        for oid in sorted(inherit | become):
            role = self.roles.by_oid[oid]
            yield loan(role, me, edges, everybody, inherit=oid in inherit, set_=oid in become)
        if way.lend_new:
            yield loan(batch.new, batch.old, edges, everybody, set_=True)

    async def _on_schema(self, verb: str, batch: Batch) -> None:
        """What is needed on the schema while objects in it are handed over."""
        if not batch.lacking:
            return
        if batch.schema_owner is not None:
            await self.connection.execute(set_local_role(batch.schema_owner.name))
        for privilege, role in batch.lacking:
            await self.connection.execute(_on_schema(verb, batch, privilege, role))
        if batch.schema_owner is not None:
            await self.connection.execute(RESET_ROLE)

    # -- telling -------------------------------------------------------------------------------------------------

    def _tell_left(
        self, objects: Iterable[OwnedObject], new: RoleState, why: str, *, waits: bool = False
    ) -> None:
        tally = self.roles.tallies[new.name]
        for item in objects:
            issue = not_handed_over(item, new.name, why)
            tally.note([issue])
            tally.blame(
                issue.reason, f"{self.declared_in}: {item} in {self.database}: {issue.fix}", waits=waits
            )

    def _tell_conflict(self, one: Wanted, winner: Wanted, item: OwnedObject) -> None:
        other = winner.tally.role.metadata
        fix = f"PostgresRole {other.namespace}/{other.name} declares to own it already. Take it out of one of them."
        one.tally.note([Issue(str(item), Reason.CONFLICTING_DECLARATIONS, fix)])
        one.tally.blame(
            Reason.CONFLICTING_DECLARATIONS, f"{self.declared_in}: {item} in {self.database}: {fix}"
        )


_GONE = frozenset({"42P01", "42704", "42883", "3F000"})
"""The object was dropped in the meantime: nothing to own."""


def _text(item: OwnedObject, batch: Batch) -> str:
    return item.handover(batch.new.name).as_string(None)


def _on_schema(verb: str, batch: Batch, privilege: str, role: str) -> sql.Composed:
    schema = batch.objects[0].schema
    assert schema is not None, "only what is in a schema needs something on it"
    return sql.SQL("{} {} ON SCHEMA {} {} {}").format(
        sql.SQL(verb),
        sql.SQL(privilege),
        sql.SQL(schema),
        sql.SQL("TO" if verb == "GRANT" else "FROM"),
        sql.Identifier(role),
    )
