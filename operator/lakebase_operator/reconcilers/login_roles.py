"""The roles that log in with a password: made, given their password, and taken their LOGIN, by SQL.

A password goes to the server as a SCRAM verifier. Where that is refused, Databricks makes it: see :mod:`.made_passwords`.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import psycopg
from psycopg import sql

from lakebase_operator.api import PostgresRole
from lakebase_operator.api.postgres_role import PostgresRoleSpec, RoleAttributes
from lakebase_operator.api.reasons import Reason
from lakebase_operator.domain.errors import InvalidError, LakebaseError, NotReadyError
from lakebase_operator.domain.passwords import LoginCredential, is_revision_of, new_revision
from lakebase_operator.domain.role_settings import setting_name, settings_change
from lakebase_operator.domain.role_statements import (
    alter_role,
    create_role,
    grant_membership,
    reset_role_parameter,
    role_options,
)
from lakebase_operator.domain.roles import Issue, RoleState, Step, alteration, declared_options
from lakebase_operator.external.postgres.logins import (
    Given,
    end_sessions,
    note_revision,
    revision_note,
    scram_verifier,
)
from lakebase_operator.external.postgres.roles import read_databases
from lakebase_operator.external.postgres.session import Connection
from lakebase_operator.reconcilers.known_roles import Roles
from lakebase_operator.reconcilers.made_passwords import MadePasswords
from lakebase_operator.reconcilers.role_execution import RoleStatements, resource_name

HIDDEN = "********"
END_SESSIONS = sql.SQL("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = ANY({})")


@dataclass(frozen=True, slots=True)
class LoginRoles:
    """Carries out statements about the roles that log in, of one connection in one pass."""

    owner: str
    """As the ledger calls the connection."""
    home: Connection
    hide: Callable[[str], None]
    """Is told every secret text before it is used."""
    statements: RoleStatements
    roles: Roles
    made: MadePasswords
    """Where the server takes none from the operator."""
    given: Mapping[int, Given]
    """What the ledger says of passwords, by OID of the role."""

    @property
    def dry(self) -> bool:
        """Nothing is changed; statements are only noted."""
        return self.statements.dry

    async def give(
        self, role: PostgresRole, credential: LoginCredential, *, published: bool
    ) -> LoginCredential | None:
        """Make the login as it is to be, with this password, unless the ledger says that it has it.

        Returns what it logs in with then: the same, or where the server takes no password from the operator, with the one that
        Databricks has made. None: Databricks is at it.
        """
        owner, name = role.role_name, credential.username
        state, own = self.roles.states.get(name), name == owner
        if state is None and own:
            raise NotReadyError(Reason.ROLE_MISSING, f'There is no role "{name}" yet.')
        if state is not None and not own and not self.is_ours(state, role):
            raise InvalidError(
                Reason.ROLE_EXISTS,
                f'The role "{name}", which would log in for "{owner}", exists already and is somebody else\'s. '
                "Choose another roleName, or drop it.",
            )
        given = self.given.get(state.oid) if state is not None else None
        known = given is not None and given.revision == credential.revision
        final: LoginCredential | None = credential
        if state is None or not known or not (state.login or own):
            final = await self._set(role, state, credential, published=published)
        if not own:
            await self._follow(role, name, state)
        return final

    async def _set(
        self, role: PostgresRole, state: RoleState | None, credential: LoginCredential, *, published: bool
    ) -> LoginCredential | None:
        """Make the login, or give it its password. Returns as :meth:`give` does."""
        name = credential.username
        if not self.dry and self.made.is_under_way(name) and state is not None:
            return await self._have_made(role, state, credential, published=published)
        verifier = HIDDEN if self.dry else scram_verifier(self.home, name, credential.password)
        try:
            await self._send(role, state, credential, verifier)
        except LakebaseError as refusal:
            if refusal.reason is not Reason.PASSWORD_REFUSED:
                raise
            self._check_can_be_made(role, refusal)
            if state is not None:
                return await self._have_made(role, state, credential, published=published)
            await self._send(role, None, replace(credential, revision=""), None)
            await self._is_made(role, name)
            return None
        return credential

    async def _send(
        self, role: PostgresRole, state: RoleState | None, credential: LoginCredential, verifier: str | None
    ) -> None:
        """Make the login or alter it; without a verifier it gets no password."""
        name = credential.username
        note = revision_note(self.owner, name, owner_name(role), credential.revision)
        if state is None:
            options = declared_options(_login_spec(role))
            step = _with_password(create_role, name, options, verifier, f"creating role {name}")
        else:
            options = role_options(login=None if state.login or name == role.role_name else True)
            step = _with_password(alter_role, name, options, verifier, f"setting the password of role {name}")
        await self.execute(role, step, note)

    # -- a password that Databricks makes --------------------------------------------------------------------------

    def _check_can_be_made(self, role: PostgresRole, refusal: LakebaseError) -> None:
        """Raises InvalidError if Databricks cannot make the password either."""
        assert role.spec.password is not None
        problem = self.made.problem
        if role.spec.password.from_ is not None:
            problem = "One that Databricks makes cannot be chosen: use spec.password.generate in place of spec.password.from."
        if problem is not None:
            raise InvalidError(
                Reason.PASSWORD_REFUSED,
                f"{refusal.message} {problem} Or let the application log in with OAuth (spec.identity).",
            ) from refusal.__cause__

    async def _have_made(
        self, role: PostgresRole, state: RoleState, credential: LoginCredential, *, published: bool
    ) -> LoginCredential | None:
        """Let Databricks make the password. One that is published and may work is only looked up: it must not change under its users."""
        name, given = state.name, self.given.get(state.oid)
        works = given is None or given.revision
        looked_up = published and works and not self.made.is_under_way(name)
        if not looked_up and not await self._is_made(role, name):
            return None
        if not state.login:
            step = Step(alter_role(name, role_options(login=True)), f"letting role {name} log in")
            await self.execute(role, step)
        password = await self.made.reveal(name)
        self.hide(password)
        if not looked_up and given is not None and is_revision_of(given.revision, password):
            raise InvalidError(
                Reason.PASSWORD_REFUSED,
                f'Databricks was asked for a new password of role "{name}" and has kept the one before. The published one goes '
                "on working. Replace it on the project's page under Roles, or let the application log in with OAuth (spec.identity).",
            )
        if password != credential.password:
            credential = LoginCredential(name, new_revision(password), password)
        await note_revision(self.home, self.owner, name, owner_name(role), credential.revision)
        return credential

    async def _is_made(self, role: PostgresRole, name: str) -> bool:
        asked = self.made.is_under_way(name)
        made = await self.made.is_made(name)
        if not asked:
            entry = (resource_name(role), f"-- ask Databricks: a password for {name}", "ok")
            self.statements.executed.append(entry)
        return made

    # -- a login that acts for another role ------------------------------------------------------------------------

    def is_ours(self, state: RoleState, role: PostgresRole) -> bool:
        """See :func:`logs_in_for`."""
        return logs_in_for(state, role, self.given)

    async def _follow(self, role: PostgresRole, name: str, state: RoleState | None) -> None:
        """A login that acts for another role: a member of it, with its settings and limits."""
        owner = role.role_name
        wanted = {key: value for key, value in role.spec.settings.items() if key.lower() != "role"}
        wanted["role"] = owner
        actual = dict(state.settings) if state is not None else {}
        # The owner first: PostgreSQL checks at each login that the login may act as it.
        if state is None or not self._is_member(state, owner):
            grant = grant_membership(owner, name, admin=False, inherit=True, set_=True)
            await self.execute(role, Step(grant, f"making {name} a member of {owner}"))
        for step in settings_change(name, wanted, actual, tuple(actual)).steps:
            try:
                await self.execute(role, step)
            except LakebaseError as error:
                if self.home.closed or step.about == "role":
                    raise
                tally = self.roles.tallies[owner]  # as with the owner's: the rest is done
                thing = f"{setting_name(str(step.about), None)} of {name}"
                tally.note([Issue(thing, error.reason, f"{error.message} The statement: {step}")])
                tally.failed(error)
        if state is not None:
            await self._act_everywhere(role, state)
            for step in alteration(_login_spec(role), state._replace(login=True)):
                await self.execute(role, step)

    async def _act_everywhere(self, role: PostgresRole, state: RoleState) -> None:
        """A setting that holds in one database only goes before the one by which a login acts as its owner."""
        elsewhere = {oid for oid, found in state.database_settings.items() if "role" in found}
        databases = await read_databases(self.home) if elsewhere else {}
        for database, oid in sorted(databases.items()):
            if oid in elsewhere:
                statement = reset_role_parameter(state.name, "role", database)
                doing = f"resetting role of role {state.name} in database {database}"
                await self.execute(role, Step(statement, doing))

    def _is_member(self, state: RoleState, owner: str) -> bool:
        oid = self.roles.oids.get(owner)
        edges = [one for one in self.roles.edges if (one.member, one.role) == (state.oid, oid)]
        return any(one.inherit for one in edges) and any(one.set for one in edges)

    async def execute(self, role: PostgresRole, step: Step, note: sql.Composable | None = None) -> None:
        """Run one statement, with what the ledger is to remember.

        Raises
        ------
        LakebaseError
            The database refuses it.
        """
        try:
            await self.statements.execute(step, resource_name(role), note=note)
        except LakebaseError as error:
            raise _refused(error, step) or error from error.__cause__

    async def end_sessions(self, states: Sequence[RoleState]) -> None:
        """End all sessions of some roles.

        Raises
        ------
        InvalidError
            The operator may not, or would end its own.
        """
        if self.dry:
            return
        if any(state.actor.is_operator for state in states):
            raise InvalidError(
                Reason.INVALID_SPEC, "spec.suspend: the operator itself logs in with this role. Name another."
            )
        try:
            await end_sessions(self.home, {state.oid for state in states})
        except psycopg.errors.InsufficientPrivilege as error:
            fix = Step(END_SESSIONS.format([state.name for state in states]), "ending sessions")
            raise InvalidError(
                Reason.SESSIONS_NOT_ENDED,
                "The role cannot log in any more, but the operator may not end its sessions: grant it pg_signal_backend, or "
                f"run as somebody who has it: {fix}",
            ) from error


def logs_in_for(state: RoleState, role: PostgresRole, given: Mapping[int, Given]) -> bool:
    """Whether a login was made for a role. The ledger knows it from its birth on; where that is lost, it tells by what it acts as."""
    known = given.get(state.oid)
    if known is not None:
        return known.resource == owner_name(role)
    return state.settings.get("role") == role.role_name


def owner_name(role: PostgresRole) -> str:
    """As the ledger names the one whose login a role is."""
    meta = role.metadata
    return f"{role.kind_name}/{meta.namespace}/{meta.name}"


def _login_spec(role: PostgresRole) -> PostgresRoleSpec:
    """What is declared of a login that acts for a role."""
    wanted = role.spec.attributes
    limits = RoleAttributes(connection_limit=wanted.connection_limit, valid_until=wanted.valid_until)
    return role.spec.model_copy(
        update={"login": True, "attributes": limits, "password": None, "suspend": False}
    )


def _with_password(
    make: Callable[[str, Sequence[sql.Composable]], sql.Composed],
    name: str,
    options: Sequence[sql.Composable],
    verifier: str | None,
    doing: str,
) -> Step:
    """A statement that sets a password, if there is one, and is shown without it."""
    if verifier is None:
        return Step(make(name, options), doing)
    statement, shown = (make(name, [*options, *role_options(verifier=one)]) for one in (verifier, HIDDEN))
    return Step(statement, doing, shown=shown)


def _refused(error: LakebaseError, step: Step) -> LakebaseError | None:
    """What it means where a server judges passwords by their text, which it does not get."""
    cause = error.__cause__
    if step.shown is None or not isinstance(cause, psycopg.Error) or error.reason is Reason.PERMISSION_DENIED:
        return None
    text = cause.diag.message_primary or ""
    if not re.search(r"password|verifier|scram|entropy", text, re.IGNORECASE):
        return None
    return InvalidError(
        Reason.PASSWORD_REFUSED,
        f"{step.doing[:1].upper()}{step.doing[1:]}: the server does not take a password as a SCRAM verifier: {text}. The "
        "operator sends no password in plain text.",
    )
