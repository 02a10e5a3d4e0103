"""Logins with a password: made, published, replaced in time, and suspended. After the roles, in the home database.

What is to be done is read off the Secret and the ledger each time, so a process may end after any step: see
:mod:`lakebase_operator.domain.passwords`.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

import psycopg
from psycopg import sql

from lakebase_operator.api import LakebaseConnection, PostgresRole
from lakebase_operator.api.base import ANNOTATION_ROTATE, ObjectMeta
from lakebase_operator.api.postgres_role import Binding, Password, PostgresRoleSpec, RoleAttributes
from lakebase_operator.api.reasons import Reason
from lakebase_operator.domain.binding import SECRET_TYPE, Published
from lakebase_operator.domain.errors import InvalidError, LakebaseError, NotReadyError
from lakebase_operator.domain.passwords import (
    Held,
    LoginCredential,
    coming_credential,
    is_revision_of,
    login_names,
    new_revision,
    next_rotation,
    previous_until,
    weakness,
)
from lakebase_operator.domain.role_settings import settings_change
from lakebase_operator.domain.role_statements import alter_role, create_role, grant_membership, role_options
from lakebase_operator.domain.roles import RoleState, Step, alteration, declared_options
from lakebase_operator.domain.status import Condition, condition
from lakebase_operator.engine.catalog import key_of
from lakebase_operator.external.kube.objects import ObjectEvent, Secret
from lakebase_operator.external.postgres.grants import create_ledger, log_changes
from lakebase_operator.external.postgres.logins import (
    Given,
    end_sessions,
    forget_given,
    note_revision,
    read_given,
    revision_note,
    scram_verifier,
)
from lakebase_operator.external.postgres.session import SSL_MODES, Connection, Server
from lakebase_operator.reconcilers.context import Context
from lakebase_operator.reconcilers.known_roles import Roles
from lakebase_operator.reconcilers.made_passwords import LOOK_AGAIN_SECONDS, MadePasswords
from lakebase_operator.reconcilers.report import Report
from lakebase_operator.reconcilers.role_execution import PLANNED, RoleStatements
from lakebase_operator.reconcilers.workspaces import secret_text

RETRY_SECONDS = 15.0
"""Until a login is tried again that failed for a reason that may pass."""
HIDDEN = "********"
END_SESSIONS = sql.SQL("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = ANY({})")


class SecretStore(Protocol):
    """Secrets, as ``external.kube.objects.KubeObjects`` has them."""

    async def read_secret(self, namespace: str, name: str) -> Secret | None:
        """A Secret, or None if there is none."""

    async def apply_secret(
        self,
        kind: str,
        owner: ObjectMeta,
        name: str,
        data: Mapping[str, bytes],
        *,
        secret_type: str,
        annotations: Mapping[str, str],
        version: str | None,
    ) -> None:
        """Make a Secret beside an object, which goes with it."""


@dataclass(frozen=True, slots=True)
class PublishedLogin:
    """A login that an application finds in its Secret."""

    credential: LoginCredential
    database: str
    changed: bool
    """The Secret, the password or the role behind it was changed in this pass."""


@dataclass(slots=True)
class LoginsStep:
    """Carries out what is declared of logins. A failure stays with the login."""

    secrets: SecretStore
    now: datetime
    hide: Callable[[str], None]
    """Is told every secret text before it is used."""
    connection: LakebaseConnection
    owner: str
    """As the ledger calls the connection."""
    home: Connection
    server: Server
    """Where applications find the database."""
    statements: RoleStatements
    roles: Roles
    report: Report
    ledger: bool
    """There is one, as the pass found it."""
    deadlines: list[datetime]
    """Gets the moments at which something is to be done next."""
    made: MadePasswords
    """Where the server takes none from the operator."""
    given: Mapping[int, Given] = field(default_factory=dict, init=False)
    """What the ledger says of passwords, by OID of the role."""
    published: dict[str, PublishedLogin] = field(default_factory=dict, init=False)
    """Those that this step has looked after without trouble, by name of the role for which they log in."""

    @property
    def dry(self) -> bool:
        """Nothing is changed; statements are only noted."""
        return self.statements.dry

    async def run(self) -> None:
        """Look at every login that is declared.

        Raises
        ------
        LakebaseError
            The session is lost.
        """
        if not self.roles.logins:
            return
        given = await read_given(self.home, self.owner) if self.ledger else None
        if given is None and not self.dry:
            await create_ledger(self.home)  # one that was made earlier may have no place for them
        elif given and not self.dry:
            await forget_given(self.home, self.owner, given.keys() - self.roles.by_oid.keys())
        self.given = given or {}
        self.made.forget_all_but(self.roles.states)
        for tally in self.roles.logins.values():
            try:
                if tally.role.spec.suspend:
                    await self._suspend(tally.role)
                elif (password := tally.role.spec.password) is not None:
                    await self._keep(tally.role, password)
            except LakebaseError as error:
                if self.home.closed:
                    raise
                tally.failed(error)
                if not isinstance(error, InvalidError):
                    self._again_in(RETRY_SECONDS)
        if not self.dry:
            await log_changes(self.home, self.owner, self.statements.executed)

    # -- a password ----------------------------------------------------------------------------------------------

    async def _keep(self, role: PostgresRole, password: Password) -> None:
        """Bring one login on by as many steps as there are."""
        names = login_names(role.role_name, password)
        chosen = await self._chosen(role, password)
        found = secret = await self._secret(role)
        done = len(self.statements.executed)
        held = self._held(secret)
        self._tell(role, password, held)
        asked = role.metadata.annotations.get(ANNOTATION_ROTATE)
        coming = coming_credential(held, password, names, given=chosen, asked=asked, now=self.now)
        if held.current is None or coming is not None:
            assert coming is not None, "without a password there is always one to come"
            held = replace(held, coming=coming, handled=asked or held.handled)
            self.hide(coming.password)
            secret = await self._publish(role, secret, held)
            given = await self._give(role, coming, published=False)
            if given is None:
                self._wait_for_databricks(role, held)
                return
            coming = given
            if held.current is not None and not self.dry:
                message = f'"{coming.username}" logs in with a new password from now on.'
                event = ObjectEvent("Normal", Reason.PASSWORD_FRESH, message, action="Rotate")
                self.report.event(role, event)
            held = Held(coming, self.now, None, held.handled)
        else:
            given = await self._give(role, held.current, published=True)
            if given is None:
                self._wait_for_databricks(role, held)
                return
            same = given == held.current
            held = replace(held, current=given, set_at=held.set_at if same and held.set_at else self.now)
        secret = await self._publish(role, secret, held)
        changed = secret != found or len(self.statements.executed) > done
        until = await self._retire(role, password, held, names)
        if not self.dry:
            self._tell(role, password, held, until)
        if held.current is not None and not (self.dry and changed):
            self.published[role.role_name] = PublishedLogin(
                held.current, role.login_database(self.connection.spec.databases), changed
            )

    def _wait_for_databricks(self, role: PostgresRole, held: Held) -> None:
        """What is published goes on working in the meantime."""
        self._again_in(LOOK_AGAIN_SECONDS)
        if held.current is None:
            message = "spec.password: Databricks makes the password."
            self.roles.tallies[role.role_name].blame(Reason.PROGRESSING, message, waits=True)
        else:
            database = role.login_database(self.connection.spec.databases)
            self.published[role.role_name] = PublishedLogin(held.current, database, changed=False)

    def _again_in(self, seconds: float) -> None:
        self.deadlines.append(self.now + timedelta(seconds=seconds))

    async def _chosen(self, role: PostgresRole, password: Password) -> str | None:
        """The password of ``password.from``; None where it is generated."""
        reference = password.from_
        if reference is None:
            return None
        namespace = role.metadata.namespace
        secret = await self.secrets.read_secret(namespace, reference.name)
        values = {} if secret is None else {reference.name: secret.values}
        text = secret_text(values, reference.name, reference.key)
        self.hide(text)
        if problem := weakness(text):
            raise InvalidError(
                Reason.WEAK_PASSWORD,
                f'spec.password.from: the password in the Secret "{reference.name}", key "{reference.key}", {problem}. '
                "The server keeps the one before. Choose a better one.",
            )
        return text

    async def _give(
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
        if state is not None and not own and not self._is_ours(state, role):
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
        """Make the login, or give it its password. Returns as :meth:`_give` does."""
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
        note = revision_note(self.owner, name, self._resource(role), credential.revision)
        if state is None:
            options = declared_options(_login_spec(role))
            step = _with_password(create_role, name, options, verifier, f"creating role {name}")
        else:
            options = role_options(login=None if state.login or name == role.role_name else True)
            step = _with_password(alter_role, name, options, verifier, f"setting the password of role {name}")
        await self._execute(role, step, note)

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
            await self._execute(role, step)
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
        await note_revision(self.home, self.owner, name, self._resource(role), credential.revision)
        return credential

    async def _is_made(self, role: PostgresRole, name: str) -> bool:
        asked = self.made.is_under_way(name)
        made = await self.made.is_made(name)
        if not asked:
            entry = (self._resource(role, generation=True), f"-- ask Databricks: a password for {name}", "ok")
            self.statements.executed.append(entry)
        return made

    # -- a login that acts for another role ------------------------------------------------------------------------

    def _is_ours(self, state: RoleState, role: PostgresRole) -> bool:
        """The ledger knows it from its birth on; where that is lost, it tells by what it acts as."""
        given = self.given.get(state.oid)
        if given is not None:
            return given.resource == self._resource(role)
        return state.settings.get("role") == role.role_name

    async def _follow(self, role: PostgresRole, name: str, state: RoleState | None) -> None:
        """A login that acts for another role: a member of it, with its settings and limits."""
        owner = role.role_name
        wanted = {**role.spec.settings, "role": owner}
        actual = dict(state.settings) if state is not None else {}
        # The owner first: PostgreSQL checks at each login that the login may act as it.
        if state is None or not self._is_member(state, owner):
            grant = grant_membership(owner, name, admin=False, inherit=True, set_=True)
            await self._execute(role, Step(grant, f"making {name} a member of {owner}"))
        for step in settings_change(name, wanted, actual, tuple(actual)).steps:
            await self._execute(role, step)
        if state is not None:
            for step in alteration(_login_spec(role), replace(state, login=True)):
                await self._execute(role, step)

    def _is_member(self, state: RoleState, owner: str) -> bool:
        oid = self.roles.oids.get(owner)
        edges = [one for one in self.roles.edges if (one.member, one.role) == (state.oid, oid)]
        return any(one.inherit for one in edges) and any(one.set for one in edges)

    async def _retire(
        self, role: PostgresRole, password: Password, held: Held, names: Sequence[str]
    ) -> datetime | None:
        """After the overlap the login before cannot log in any more; its sessions go on. Returns until when it can."""
        assert held.current is not None
        assert held.set_at is not None
        until = previous_until(held.set_at, password)
        for name in names:
            state = self.roles.states.get(name)
            if name == held.current.username or state is None or not state.login:
                continue
            if not self._is_ours(state, role):
                continue
            if self.now < until:
                self.deadlines.append(until)
                return until
            step = Step(alter_role(name, role_options(login=False)), f"ending logins of role {name}")
            await self._execute(role, step)
        return None

    async def _execute(self, role: PostgresRole, step: Step, note: sql.Composable | None = None) -> None:
        try:
            await self.statements.execute(step, self._resource(role, generation=True), note=note)
        except LakebaseError as error:
            raise _refused(error, step) or error from error.__cause__

    # -- the Secret ----------------------------------------------------------------------------------------------

    async def _secret(self, role: PostgresRole) -> Secret | None:
        """The Secret in which the login is published, if it is there.

        Raises
        ------
        InvalidError
            It is somebody else's.
        """
        meta = role.metadata
        secret = await self.secrets.read_secret(meta.namespace, role.secret_name)
        if secret is not None and meta.uid not in secret.owners:
            raise InvalidError(
                Reason.SECRET_EXISTS,
                f'The Secret "{role.secret_name}", in which the login would be published, exists and is not this '
                "PostgresRole's. Name another in spec.binding.secretName, or delete it.",
            )
        return secret

    def _held(self, secret: Secret | None) -> Held:
        if secret is None:
            return Held()
        held = Held.read(secret.values, secret.annotations)
        for one in (held.current, held.coming):
            if one is not None:
                self.hide(one.password)
        return held

    async def _publish(self, role: PostgresRole, secret: Secret | None, held: Held) -> Secret | None:
        """Make the Secret say what is held. Returns the Secret as it is then."""
        binding = role.spec.binding or Binding()
        shown = held.current or held.coming
        assert shown is not None, "there is something to publish, or to come"
        data = self._published(role, binding, shown).data(
            binding.template
        )  # tells of a template that cannot be filled
        data = {**(data if held.current is not None else {}), **held.coming_data()}
        annotations = held.annotations()
        if secret is not None and secret.values == data and annotations.items() <= secret.annotations.items():
            return secret
        namespace, name = role.metadata.namespace, role.secret_name
        if self.dry:
            entry = (self._resource(role, generation=True), f"-- write Secret {namespace}/{name}", PLANNED)
            if entry not in self.statements.executed:
                self.statements.executed.append(entry)
            return secret
        await self.secrets.apply_secret(
            role.kind_name,
            role.metadata,
            name,
            data,
            secret_type=SECRET_TYPE,
            annotations=annotations,
            version=secret.resource_version if secret is not None else None,
        )
        return await self.secrets.read_secret(namespace, name)

    def _published(self, role: PostgresRole, binding: Binding, credential: LoginCredential) -> Published:
        server = self.server
        databases = self.connection.spec.databases
        there = role.platform_database(databases) == role.login_database(databases)
        own = self.roles.tallies[role.role_name].platform_schema if there else None
        return Published(
            host=server.host,
            port=server.port,
            database=role.login_database(databases),
            username=credential.username,
            sslmode=SSL_MODES[server.tls_mode],
            schema=binding.schema_ or own,
            ca=Path(server.ca_file).read_bytes() if server.ca_file else None,
            password=credential.password,
        )

    # -- suspending ----------------------------------------------------------------------------------------------

    async def _suspend(self, role: PostgresRole) -> None:
        """Without LOGIN nobody comes in any more; whoever is in goes."""
        password, itself = role.spec.password, role.role_name
        names = login_names(itself, password) if password is not None else ()
        states = [
            state
            for name in {itself, *names}
            if (state := self.roles.states.get(name)) is not None
            and (name == itself or self._is_ours(state, role))
        ]
        if password is not None:
            self._tell(role, password, self._held(await self._secret(role)))
        for state in states:
            if state.name != itself and state.login:  # itself: see RoleChanges
                step = Step(
                    alter_role(state.name, role_options(login=False)), f"ending logins of role {state.name}"
                )
                await self._execute(role, step)
        await self._end_sessions(states)

    async def _end_sessions(self, states: Sequence[RoleState]) -> None:
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

    # -- telling -------------------------------------------------------------------------------------------------

    def _tell(
        self, role: PostgresRole, password: Password, held: Held, previous: datetime | None = None
    ) -> None:
        """Where it is published, its age, and when it is due."""
        if held.current is None or held.set_at is None:
            return
        due = next_rotation(held.set_at, password)
        if due is not None and due > self.now:
            self.deadlines.append(due)
        self.report.fields(
            role,
            {
                "binding": {"name": role.secret_name},
                "password": {
                    "login": held.current.username,
                    "setAt": _rfc3339(held.set_at),
                    "nextRotation": _rfc3339(due),
                    "previousUntil": _rfc3339(previous),
                    "handledRotation": held.handled,
                },
            },
        )
        self.report.fact(role, freshness(role, held.set_at, due, self.now))

    def _resource(self, role: PostgresRole, *, generation: bool = False) -> str:
        meta = role.metadata
        name = f"{role.kind_name}/{meta.namespace}/{meta.name}"
        return f"{name}@{meta.generation}" if generation else name


def freshness(role: PostgresRole, set_at: datetime, due: datetime | None, now: datetime) -> Condition:
    """The condition ``CredentialFresh``."""
    if due is None or due > now:
        return condition("CredentialFresh", True, Reason.PASSWORD_FRESH)
    message = f"The password has been the same since {_rfc3339(set_at)}; it was due at {_rfc3339(due)}."
    given = role.spec.password.from_ if role.spec.password is not None else None
    if given is not None:
        message += f' Change it in the Secret "{given.name}".'
    elif role.spec.suspend:
        message += " It is replaced when spec.suspend ends."
    return condition("CredentialFresh", False, Reason.ROTATION_OVERDUE, message)


def tell_overdue(context: Context) -> None:
    """Of passwords that are due and that this pass could not come to, since the database is out of reach."""
    now = context.services.clock.now()
    for saying in context.report.said():
        role = saying.subject
        if (
            not isinstance(role, PostgresRole)
            or role.spec.password is None
            or "CredentialFresh" in saying.facts
        ):
            continue
        known = context.services.catalog.status(key_of(role)).get("password") or {}
        if "nextRotation" in known:
            set_at, due = (datetime.fromisoformat(known[name]) for name in ("setAt", "nextRotation"))
            context.report.fact(role, freshness(role, set_at, due, now))


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


def _rfc3339(moment: datetime | None) -> str | None:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if moment is not None else None
