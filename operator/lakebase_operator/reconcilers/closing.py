"""What comes of a pass for the objects that it was about: verdicts, what is remembered, and what may go."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lakebase_operator.api import AccessGrant, LakebaseConnection
from lakebase_operator.api.lakebase_connection import DriftAction, Mode, UnmanagedAction
from lakebase_operator.api.reasons import Reason
from lakebase_operator.domain.desired import Declared
from lakebase_operator.domain.errors import LakebaseError
from lakebase_operator.engine.catalog import Broken, key_of, kind_of
from lakebase_operator.engine.turns import in_turns
from lakebase_operator.external.postgres.ledger import forget_connection
from lakebase_operator.external.postgres.roles import preflight
from lakebase_operator.reconcilers import gates
from lakebase_operator.reconcilers.access import Access
from lakebase_operator.reconcilers.context import ABANDON, Context
from lakebase_operator.reconcilers.deletion import RoleDrop
from lakebase_operator.reconcilers.known import Known
from lakebase_operator.reconcilers.leaving import Leaving
from lakebase_operator.reconcilers.opening import Home, opened
from lakebase_operator.reconcilers.roles import Roles
from lakebase_operator.reconcilers.tally import DatabaseResult, Tally
from lakebase_operator.reconcilers.verdicts import conclude
from lakebase_operator.reconcilers.view import is_deleting, is_finalized


@dataclass(frozen=True, slots=True)
class Closing:
    """The last part of a pass over one connection."""

    context: Context
    connection: LakebaseConnection
    access: Access
    home: Home
    failures: Mapping[str, LakebaseError]
    """Databases that could not be worked on."""

    async def conclude_grants(self, declared: Sequence[Declared], tallies: Mapping[str, Tally]) -> None:
        """Say how it stands with each AccessGrant."""
        report = self.context.report
        now = self.context.services.clock.now()
        unreadable = self.context.unreadable()
        async for item in in_turns(declared):
            grant, tally = item.grant, tallies[item.grant.metadata.uid]
            error = self.failures.get(grant.spec.database)
            if error is None and not is_deleting(grant):
                if not is_deleting(self.connection):  # else its revocation says nothing of what is declared
                    conclude(item, tally, now, report)
            elif error is not None:
                if is_deleting(grant):
                    report.waiting(grant, Reason.DELETION_BLOCKED, f"Cannot be revoked now: {error.message}")
                else:
                    report.failed(grant, error)
            elif unreadable is not None:
                report.waiting(
                    grant,
                    Reason.DELETION_BLOCKED,
                    f"Nothing is revoked while {unreadable} cannot be read: it may declare the same. Correct or delete it.",
                )
            elif tally.worst is not None:
                report.fields(grant, {"issues": tally.issues})
                report.stalled(grant, *tally.worst)
            else:
                self.context.leaving.append(Leaving(grant, cleaned=True))

    def let_broken_go(self, declared: Sequence[Declared]) -> None:
        """What cannot be read declares nothing once it is being deleted, so what it gave has been taken back."""
        context = self.context
        known = {item.grant.metadata.uid for item in declared}
        undeclared = (
            grant
            for grant in context.view.grants
            if is_finalized(grant)
            and grant.spec.database in self.connection.spec.databases
            and grant.metadata.uid not in known
        )
        unclear: tuple[Broken | AccessGrant, ...] = (*context.view.broken, *undeclared)
        for broken in unclear:
            if not is_deleting(broken):
                continue
            if self.failures or context.unreadable():
                why = next(
                    (error.message for error in self.failures.values()),
                    "other objects cannot be read either.",
                )
                context.report.waiting(
                    broken, Reason.DELETION_BLOCKED, f"Cannot be cleaned up now: {why} {ABANDON}"
                )
            else:
                context.leaving.append(Leaving(broken, cleaned=True))

    def remember(
        self,
        declared: Sequence[Declared],
        roles: Roles,
        results: Sequence[DatabaseResult],
        platform: Mapping[str, frozenset[str]],
    ) -> None:
        """Make a narrow pass possible, if all is as declared and nothing needs a look at everything."""
        context, spec = self.context, self.connection.spec
        trouble = self.failures or any(one.unfinished or one.unrevocable or one.planned for one in results)
        # What is wrong with a platform schema may end with a change of an AccessGrant.
        trouble = trouble or any(
            tally.role.spec.platform_schema is not None and tally.worst is not None
            for tally in roles.tallies.values()
        )
        # So may what keeps a role from being dropped; and whether it is to be dropped says a status that a narrow pass does not read.
        trouble = trouble or any(is_deleting(role) for role in context.view.roles)
        plain = (
            spec.drift.action is DriftAction.REPAIR
            and spec.unmanaged_grants.action is UnmanagedAction.KEEP
            and spec.mode is Mode.ENFORCE
        )
        if trouble or not plain or context.view.broken or is_deleting(self.connection):
            return
        known = context.known or Known(dict(roles.oids), platform=platform)
        for changed in context.view.changed:
            known.drop(changed)
        items = {item.grant.metadata.uid: item for item in declared}
        for grant in context.view.grants:
            if not is_deleting(grant):
                item = items.get(grant.metadata.uid)
                grantees, far = (item.grantees, item.reaches_far) if item else (frozenset[str](), False)
                known.put(key_of(grant), grantees, far=far)
        context.memory.known = known

    # -- what goes -------------------------------------------------------------------------------------------------

    async def drop_roles(self, roles: Roles) -> None:
        """Drop roles whose objects are being deleted, where that is declared."""
        databases = self.connection.spec.databases
        drop = RoleDrop(
            self.access,
            self.home.session,
            self.home.preflight.role,
            roles,
            self.context.report,
            databases,
            str(self.context.view.key),
        )
        enforcing = self.connection.spec.mode is Mode.ENFORCE or is_deleting(self.connection)
        for role in self.context.view.roles:
            if not (is_deleting(role) and is_finalized(role)):
                continue
            if not enforcing and (drop.would_drop(role) or drop.platform_schema_to_drop(role) is not None):
                self.context.report.waiting(
                    role,
                    Reason.PLANNED,
                    f"The LakebaseConnection {self.context.view.key} is in mode Plan; roles and schemas are dropped when it is Enforce.",
                )
            elif await drop.run(role):
                self.context.leaving.append(Leaving(role, cleaned=True))

    async def forget(self) -> None:
        """The last step of a connection: once its dependents are gone, and its grants if they were to be revoked."""
        context, connection = self.context, self.connection
        leaving = {id(one.subject) for one in context.leaving}
        left = [
            one
            for one in context.view.dependents
            if is_deleting(one) and is_finalized(one) and id(one) not in leaving
        ]
        if left:
            names = ", ".join(
                f"{kind_of(one)} {one.metadata.namespace}/{one.metadata.name}" for one in left[:5]
            )
            context.report.waiting(
                connection,
                Reason.WAITING_FOR_DEPENDENTS,
                f"Waits until {names} are cleaned up with its credential.",
            )
            return
        if self.failures:
            name, error = next(iter(self.failures.items()))
            context.report.waiting(connection, Reason.DELETION_BLOCKED, f"{name}: {error.message}")
            return
        if gates.retains(connection):
            return  # the next pass lets it go, after the grace for those that are still to be deleted
        for name in connection.spec.databases:
            async with opened(name, self.home, connection, self.access, context.report) as (session, _):
                if (await preflight(session)).ledger:
                    await forget_connection(session, str(context.view.key))
        context.leaving.append(Leaving(connection, cleaned=True))
