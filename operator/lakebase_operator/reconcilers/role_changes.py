"""Making the roles that are there as declared: attributes, comment, settings, memberships."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lakebase_operator.api import PostgresRole
from lakebase_operator.api.lakebase_connection import UnmanagedAction, UnmanagedGrants
from lakebase_operator.api.postgres_role import Membership, RoleLevel
from lakebase_operator.api.reasons import Reason
from lakebase_operator.domain import connection_test
from lakebase_operator.domain.errors import LakebaseError
from lakebase_operator.domain.memberships import (
    MembershipPlan,
    find_loops,
    grant_depths,
    membership_change,
    membership_name,
    not_passed_on,
    reachable,
)
from lakebase_operator.domain.near_names import did_you_mean
from lakebase_operator.domain.role_settings import SettingsPlan, setting_name, settings_change
from lakebase_operator.domain.roles import (
    IDENTITY_NAMES,
    Issue,
    RoleRecord,
    RoleState,
    Step,
    alteration,
    comment_change,
    restricts_login,
)
from lakebase_operator.domain.status import condition
from lakebase_operator.external.postgres.roles import read_databases
from lakebase_operator.reconcilers.known_roles import Roles, RoleTally
from lakebase_operator.reconcilers.report import Report
from lakebase_operator.reconcilers.role_conclusions import conclude_role
from lakebase_operator.reconcilers.role_execution import RoleStatements, not_admin, resource_name

SUPERUSER_ROLE = "databricks_superuser"
"""The role whose members may do nearly everything on a Lakebase."""


@dataclass(slots=True)
class Settings:
    """Settings of one role, everywhere or in one database, and what became of them."""

    plan: SettingsPlan
    wanted: Mapping[str, str]
    before: Sequence[str]
    """Those that the ledger knows as declared."""
    database: str | None = None
    oid: int | None = None
    """Of the database."""
    failed: set[str] = field(default_factory=set)

    @property
    def ours(self) -> tuple[str, ...]:
        """What the ledger is to say now."""
        return self.plan.ours(self.wanted, self.before, self.failed)


@dataclass(slots=True)
class Managed:
    """One role that is declared and there."""

    role: PostgresRole
    state: RoleState
    before: RoleRecord
    known: bool
    """The ledger knows it already."""
    tally: RoleTally
    unmanaged: UnmanagedAction
    by_level: tuple[Membership, ...] = ()
    """The membership that ``spec.level`` asks for, where SQL can give it."""
    is_superuser: bool = False
    """It is a member of databricks_superuser, directly, as the pass found it."""
    memberships: MembershipPlan = field(default_factory=MembershipPlan)
    groups: Mapping[str, str] = field(default_factory=dict)
    """Roles that it is a member of once the plan is carried out, without what that grants; each with the member through which."""
    groups_failed: set[int] = field(default_factory=set)
    """Of which a step has failed."""
    settings: list[Settings] = field(default_factory=list)
    comment_failed: bool = False


@dataclass(slots=True)
class RoleChanges:
    """Carries out what is declared of existing roles. A failure stays with the role, and with what it is about."""

    statements: RoleStatements
    roles: Roles
    report: Report
    unmanaged: UnmanagedGrants
    managed_databases: Sequence[str]
    """The connection's."""

    async def run(
        self,
        declared: Sequence[PostgresRole],
        records: Mapping[int, RoleRecord],
        created: frozenset[str],
    ) -> Sequence[RoleRecord]:
        """Returns what the ledger is to say, where it says something else now.

        Raises
        ------
        LakebaseError
            The session is lost.
        """
        managed = [
            one
            for role in declared
            if (one := self._manage(role, records, created)) is not None and self._may_be_managed(one)
        ]
        databases = await self._databases(managed)
        for one in managed:
            self._plan_settings(one, databases)
        self._plan_memberships(managed)
        for one in managed:
            await self._alter(one)
        await self._change_memberships(managed)
        after = [self._conclude(one) for one in managed]
        return [
            record
            for one, record in zip(managed, after, strict=True)
            if record != one.before or not one.known
        ]

    # -- which roles ---------------------------------------------------------------------------------------------

    def _manage(
        self, role: PostgresRole, records: Mapping[int, RoleRecord], created: frozenset[str]
    ) -> Managed | None:
        state = self.roles.states.get(role.role_name)
        if state is None or role in self.report:
            return None
        record = records.get(state.oid)
        made = state.name in created or (record is not None and record.created)
        before = record or RoleRecord(state.oid, resource_name(role), made)
        return Managed(role, state, before, record is not None, RoleTally(role), self._action(state.name))

    def _action(self, name: str) -> UnmanagedAction:
        """What happens to memberships and settings that nobody declares: they are in no schema."""
        narrowed = self.unmanaged.schemas is not None or (
            self.unmanaged.roles is not None and name not in self.unmanaged.roles
        )
        return UnmanagedAction.KEEP if narrowed else self.unmanaged.action

    def _may_be_managed(self, one: Managed) -> bool:
        role, state = one.role, one.state
        self.report.fields(
            role, {"roleName": state.name, "oid": state.oid, "created": one.before.created, "issues": []}
        )
        if not role.spec.adopt and not one.before.created:
            self.report.stalled(
                role,
                Reason.ROLE_EXISTS,
                f'The role "{state.name}" exists already and spec.adopt is false. Set adopt, or choose another name.',
            )
            return False
        if state.actor.is_operator and restricts_login(role.spec):
            self.report.stalled(
                role,
                Reason.INVALID_SPEC,
                f'The operator itself logs in as "{state.name}": leave password, suspend, login: false, validUntil and '
                "connectionLimit out, or name another role.",
            )
            return False
        wanted = IDENTITY_NAMES[role.spec.identity.type] if role.spec.identity else None
        if wanted is not None and state.identity != wanted:
            self.report.stalled(
                role,
                Reason.IDENTITY_MISMATCH,
                f'The role "{state.name}" exists as {state.identity or "a plain role"}, not as {wanted}, so '
                "OAuth logins of this identity fail. Drop the role; it is then made anew.",
            )
            return False
        return True

    # -- planning ------------------------------------------------------------------------------------------------

    async def _databases(self, managed: Sequence[Managed]) -> Mapping[str, int]:
        """Databases by name, where settings of single databases are declared or to be looked at."""
        concerned = any(
            one.role.spec.database_settings
            or one.before.database_settings
            or (one.state.database_settings and one.unmanaged is not UnmanagedAction.KEEP)
            for one in managed
        )
        return await read_databases(self.statements.connection) if concerned else {}

    def _plan_settings(self, one: Managed, databases: Mapping[str, int]) -> None:
        spec, state, before = one.role.spec, one.state, one.before
        plan = settings_change(
            state.name, spec.settings, state.settings, before.settings, unmanaged=one.unmanaged
        )
        one.settings.append(Settings(plan, spec.settings, before.settings))
        for database in sorted(set(spec.database_settings) - set(databases)):
            fix = "Create it, or correct the name; it is looked for at every sync."
            one.tally.note([Issue(f"database {database}", Reason.DATABASE_NOT_FOUND, fix)])
            message = f"spec.databaseSettings: there is no database {database}. {fix}"
            one.tally.blame(Reason.DATABASE_NOT_FOUND, message, waits=True)
        for database, oid in sorted(databases.items()):
            wanted = spec.database_settings.get(database, {})
            actual, ours = state.database_settings.get(oid, {}), before.database_settings.get(oid, ())
            if not (wanted or actual or ours):
                continue
            plan = settings_change(
                state.name,
                wanted,
                actual,
                ours,
                unmanaged=one.unmanaged if database in self.managed_databases else UnmanagedAction.KEEP,
                database=database,
            )
            one.settings.append(Settings(plan, wanted, ours, database, oid))

    def _plan_memberships(self, managed: Sequence[Managed]) -> None:
        everybody = self.roles.everybody(superuser=self.statements.superuser)
        for one in managed:
            self._plan_level(one)
            one.memberships = self._membership_plan(one, frozenset())
        self._leave_what_was_passed_on(managed)
        removed = {edge for one in managed for edge in one.memberships.removed}
        kept = [
            (member, role)
            for edge in self.roles.edges
            if edge not in removed
            and (member := self.roles.name_of(edge.member)) is not None
            and (role := self.roles.name_of(edge.role)) is not None
        ]
        declared = [
            (one.state.name, item.role)
            for one in managed
            for item in (*one.role.spec.member_of, *one.by_level)
            if everybody.find(item.role) is not None
        ]
        loops = find_loops(declared, kept)
        groups: dict[str, list[str]] = defaultdict(list)
        for member, role in kept:
            groups[member].append(role)
        for one in managed:
            refused = {role: loop for (member, role), loop in loops.items() if member == one.state.name}
            if refused:
                one.memberships = self._membership_plan(one, frozenset(refused))
                self._tell_loops(one, refused)
        if loops:
            self._leave_what_was_passed_on(managed)
        for one in managed:
            one.groups = reachable(one.state.name, groups)

    def _plan_level(self, one: Managed) -> None:
        """How the membership in databricks_superuser is had or lost: by SQL like any other, or by asking Databricks."""
        wanted = one.role.spec.level is RoleLevel.SUPERUSER
        superuser = self.roles.states.get(SUPERUSER_ROLE)
        if superuser is None:
            if wanted:
                message = (
                    f"spec.level: this server has no role {SUPERUSER_ROLE}, since it is not a Lakebase. Make one, or use level: "
                    "Specific with AccessGrants."
                )
                one.tally.note(
                    [Issue(membership_name(SUPERUSER_ROLE), Reason.MISSING_DATABRICKS_SUPERUSER, message)]
                )
                one.tally.blame(Reason.MISSING_DATABRICKS_SUPERUSER, message)
            return
        one.is_superuser = any(
            (edge.role, edge.member) == (superuser.oid, one.state.oid) for edge in self.roles.edges
        )
        may_grant = self.roles.everybody(superuser=self.statements.superuser).may_administer(superuser)
        given_by_sql = superuser.oid in one.before.memberships
        if wanted and (given_by_sql or (may_grant and not one.is_superuser)):
            one.by_level = (Membership(role=SUPERUSER_ROLE, inherit=True, set=False),)
        elif wanted and not one.is_superuser:
            one.tally.ask_superuser = True
        elif not wanted and one.is_superuser and one.before.superuser:
            one.tally.ask_superuser = False

    def _leave_what_was_passed_on(self, managed: Sequence[Managed]) -> None:
        plans = not_passed_on([one.memberships for one in managed], self.roles.edges, self.roles.name_of)
        for one, plan in zip(managed, plans, strict=True):
            one.memberships = plan

    def _membership_plan(self, one: Managed, refused: frozenset[str]) -> MembershipPlan:
        return membership_change(
            one.state,
            [item for item in (*one.role.spec.member_of, *one.by_level) if item.role not in refused],
            self.roles.edges,
            one.before.memberships,
            self.roles.everybody(superuser=self.statements.superuser),
            unmanaged=one.unmanaged,
        )

    def _tell_loops(self, one: Managed, refused: Mapping[str, Sequence[str]]) -> None:
        for role, loop in refused.items():
            path = " is a member of ".join(f'"{name}"' for name in loop)
            message = f"spec.memberOf: {path}. A role cannot be a member of itself: take one of these memberships away."
            one.tally.note([Issue(membership_name(role), Reason.MEMBERSHIP_LOOP, message)])
            one.tally.blame(Reason.MEMBERSHIP_LOOP, message)

    def _tell_privileged(self, one: Managed) -> None:
        role, name, groups = one.role, one.state.name, one.groups
        message, reason = "", Reason.ORDINARY_ROLE
        asked_for = role.spec.level is RoleLevel.SUPERUSER
        superuser = self.roles.oids.get(SUPERUSER_ROLE)
        given_now = (
            any(step.about == superuser for step in one.memberships.grants) and not self.statements.dry
        )
        if one.state.superuser:
            reason = Reason.OVER_PRIVILEGED
            message = f'The role "{name}" is a superuser: no privilege is ever checked for it.'
        elif asked_for and (one.is_superuser or (given_now and superuser not in one.groups_failed)):
            reason = Reason.SUPERUSER_LEVEL
            message = (
                f'The role "{name}" is a member of {SUPERUSER_ROLE}, as spec.level asks for: it may read and write everything. '
                "AccessGrants with level: Specific give what is needed and no more."
            )
        elif SUPERUSER_ROLE in groups:
            reason = Reason.OVER_PRIVILEGED
            through = groups[SUPERUSER_ROLE]
            by = "" if through == name else f', through "{through}"'
            message = (
                f'The role "{name}" is a member of {SUPERUSER_ROLE}{by}, as roles made in the Databricks UI are: it may read '
                f'and write everything. If it should not, run: REVOKE {SUPERUSER_ROLE} FROM "{through}"'
            )
        self.report.fact(role, condition("OverPrivileged", bool(message), reason, message))

    # -- carrying out --------------------------------------------------------------------------------------------

    async def _alter(self, one: Managed) -> None:
        actor = one.state.actor
        attributes = alteration(one.role.spec, one.state)
        comment = comment_change(one.role.spec, one.state, ours=one.before.commented)
        settings = [(item, step) for item in one.settings for step in item.plan.steps]
        everything = [*attributes, *comment, *(step for _, step in settings)]
        if everything and not (one.state.alterable or actor.is_operator):
            one.tally.failed(not_admin(one.state.name, everything))
            one.comment_failed = bool(comment)
            for item, step in settings:
                item.failed.add(str(step.about))
            return
        for step in attributes:
            await self._execute(one, step)
        for step in comment:
            one.comment_failed = not await self._execute(one, step)
        for item, step in settings:
            if not await self._execute(one, step, setting_name(str(step.about), item.database)):
                item.failed.add(str(step.about))

    async def _change_memberships(self, managed: Sequence[Managed]) -> None:
        """Less access comes first, and what was passed on goes before what it was passed on from."""
        depths = grant_depths(self.roles.edges)
        takes = [(one, take) for one in managed for take in one.memberships.revokes]
        takes.sort(key=lambda item: -depths[item[1].edge.role, item[1].edge.member])
        revokes = [(one, take.step) for one, take in takes]
        grants = [(one, step) for one in managed for step in one.memberships.grants]
        for one, step in (*revokes, *grants):
            group = int(step.about or 0)
            if not await self._execute(one, step, membership_name(self.roles.name_of(group) or str(group))):
                one.groups_failed.add(group)

    async def _execute(self, one: Managed, step: Step, about: str | None = None) -> bool:
        """Whether it worked. A failure is told, and the rest goes on."""
        try:
            await self.statements.execute(step, resource_name(one.role), roles=self.roles)
        except LakebaseError as error:
            if self.statements.connection.closed:
                raise
            thing = about or f"role {one.state.name}"
            one.tally.note([Issue(thing, error.reason, f"{error.message} The statement: {step}")])
            one.tally.failed(error)
            return False
        return True

    # -- telling -------------------------------------------------------------------------------------------------

    def _conclude(self, one: Managed) -> RoleRecord:
        tally, plan = one.tally, one.memberships
        unmanaged = [issue for item in one.settings for issue in item.plan.unmanaged]
        tally.note((*plan.issues, *unmanaged))
        if one.unmanaged is not UnmanagedAction.KEEP:
            uncalled = (Reason.UNMANAGED, Reason.UNREVOCABLE)
            tally.unmanaged = len(unmanaged) + sum(issue.reason in uncalled for issue in plan.issues)
        if plan.missing_roles:
            names = ", ".join(plan.missing_roles)
            near = [one for name in plan.missing_roles for one in self.roles.near(name)]
            message = f"spec.memberOf: there is no role {names} yet.{did_you_mean(dict.fromkeys(near))} It is looked for at every sync."
            tally.blame(Reason.ROLE_MISSING, message, waits=True)
        for issue in plan.issues:
            if issue.reason is not Reason.UNMANAGED:
                tally.blame(issue.reason, f"{issue.object[:1].upper()}{issue.object[1:]}: {issue.fix}")
        self._tell_privileged(one)
        record = self._record(one)
        names_of = (self.roles.name_of(oid) for oid in record.memberships)
        self.report.fields(
            one.role,
            {
                "memberOf": [name for name in names_of if name],
                "settings": list(record.settings),
                "databaseSettings": {
                    item.database: list(item.ours) for item in one.settings if item.database and item.ours
                },
                "unmanaged": tally.unmanaged,
                "dependencies": [],
            },
        )
        spec = one.role.spec
        if spec.password is None and not spec.suspend:
            self.report.fields(one.role, {"binding": None, "password": None, "test": None})
            self.report.withdraw(one.role, "CredentialFresh", connection_test.CONDITION)
        self.roles.tallies[one.state.name] = tally
        if not tally.has_more:
            conclude_role(tally, self.report)
        return record

    def _record(self, one: Managed) -> RoleRecord:
        everywhere, *elsewhere = one.settings
        return RoleRecord(
            one.state.oid,
            resource_name(one.role),
            one.before.created,
            one.memberships.ours(one.before.memberships, one.groups_failed),
            everywhere.ours,
            {item.oid: names for item in elsewhere if item.oid is not None and (names := item.ours)},
            one.before.commented if one.comment_failed else one.role.spec.comment is not None,
            one.before.superuser and (one.is_superuser or one.role.spec.level is RoleLevel.SUPERUSER),
        )
