"""Logins with a password: made, published, replaced in time, and suspended. After the roles, in the home database.

What is to be done is read off the Secret and the ledger each time, so a process may end after any step: see
:mod:`lakebase_operator.domain.passwords`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

from lakebase_operator.api import LakebaseConnection, PostgresRole
from lakebase_operator.api.base import ANNOTATION_ROTATE, ObjectMeta
from lakebase_operator.api.postgres_role import Binding, Password
from lakebase_operator.api.reasons import Reason
from lakebase_operator.domain.binding import SECRET_TYPE, Published
from lakebase_operator.domain.errors import InvalidError, LakebaseError
from lakebase_operator.domain.passwords import (
    Held,
    LoginCredential,
    coming_credential,
    login_names,
    next_rotation,
    previous_until,
    weakness,
)
from lakebase_operator.domain.role_statements import alter_role, role_options
from lakebase_operator.domain.roles import Step
from lakebase_operator.domain.status import Condition, condition
from lakebase_operator.engine.catalog import key_of
from lakebase_operator.external.kube.objects import ObjectEvent, Secret
from lakebase_operator.external.postgres.grants import create_ledger, log_changes
from lakebase_operator.external.postgres.logins import (
    forget_given,
    read_given,
)
from lakebase_operator.external.postgres.session import SSL_MODES, Connection, Server
from lakebase_operator.reconcilers.context import Context
from lakebase_operator.reconcilers.known_roles import Roles
from lakebase_operator.reconcilers.login_roles import LoginRoles
from lakebase_operator.reconcilers.made_passwords import LOOK_AGAIN_SECONDS, MadePasswords
from lakebase_operator.reconcilers.report import Report
from lakebase_operator.reconcilers.role_execution import PLANNED, RoleStatements, resource_name
from lakebase_operator.reconcilers.workspaces import secret_text

RETRY_SECONDS = 15.0
"""Until a login is tried again that failed for a reason that may pass."""


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
    login_roles: LoginRoles = field(init=False)
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
        self.made.forget_all_but(self.roles.states)
        self.login_roles = LoginRoles(
            self.owner, self.home, self.hide, self.statements, self.roles, self.made, given or {}
        )
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
        told = role.status.password
        last = told.login if told is not None else None
        coming = coming_credential(held, password, names, given=chosen, asked=asked, now=self.now, last=last)
        if held.current is None or coming is not None:
            assert coming is not None, "without a password there is always one to come"
            held = replace(held, coming=coming, handled=asked or held.handled)
            self.hide(coming.password)
            secret = await self._publish(role, secret, held)
            given = await self.login_roles.give(role, coming, published=False)
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
            given = await self.login_roles.give(role, held.current, published=True)
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
            self._offer(role, held.current, changed=changed)

    def _wait_for_databricks(self, role: PostgresRole, held: Held) -> None:
        """What is published goes on working in the meantime."""
        self._again_in(LOOK_AGAIN_SECONDS)
        if held.current is None:
            message = "spec.password: Databricks makes the password."
            self.roles.tallies[role.role_name].blame(Reason.PROGRESSING, message, waits=True)
        else:
            self._offer(role, held.current, changed=False)

    def _offer(self, role: PostgresRole, credential: LoginCredential, *, changed: bool) -> None:
        database = role.login_database(self.connection.spec.databases)
        self.published[role.role_name] = PublishedLogin(credential, database, changed)

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
            if not self.login_roles.is_ours(state, role):
                continue
            if self.now < until:
                self.deadlines.append(until)
                return until
            step = Step(alter_role(name, role_options(login=False)), f"ending logins of role {name}")
            await self.login_roles.execute(role, step)
        return None

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
            entry = (resource_name(role), f"-- write Secret {namespace}/{name}", PLANNED)
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
            and (name == itself or self.login_roles.is_ours(state, role))
        ]
        for state in states:
            if state.name != itself and state.login:  # itself: see RoleChanges
                step = Step(
                    alter_role(state.name, role_options(login=False)), f"ending logins of role {state.name}"
                )
                await self.login_roles.execute(role, step)
        await self.login_roles.end_sessions(states)
        if password is not None:  # last, since that Secret may be out of reach
            self._tell(role, password, self._held(await self._secret(role)))

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


def _rfc3339(moment: datetime | None) -> str | None:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if moment is not None else None
