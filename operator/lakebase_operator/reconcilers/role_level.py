"""``level: Superuser`` where SQL cannot give it: the membership in databricks_superuser through the Databricks API.

Nothing here waits for an operation: it is asked for, its name is kept in memory, and later passes look how far it is. If the
name is lost, the same is asked for again, which does no harm. What is so in the end is read off the database, by
:mod:`.role_changes`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from psycopg import sql

from lakebase_operator.api.reasons import Reason
from lakebase_operator.domain.errors import InvalidError, LakebaseError, was_refused
from lakebase_operator.domain.roles import Issue
from lakebase_operator.engine.observer import Observer
from lakebase_operator.external.databricks import RoleApi
from lakebase_operator.external.postgres.grants import log_changes
from lakebase_operator.external.postgres.ledger import note_superuser
from lakebase_operator.reconcilers.known_roles import Roles, RoleTally
from lakebase_operator.reconcilers.role_execution import PLANNED, RoleStatements, resource_name
from lakebase_operator.reconcilers.timing import observed

LOOK_AGAIN_SECONDS = 3.0
"""Until the next look at an operation. On a branch one change is carried out at a time."""


@dataclass(slots=True)
class LevelStep:
    """Asks Databricks for what :class:`.role_changes.RoleChanges` found to be asked for. A failure stays with the role."""

    api: RoleApi | None
    """None: the connection cannot ask Databricks."""
    owner: str
    """Name of the connection in the ledger."""
    statements: RoleStatements
    roles: Roles
    operations: dict[str, str]
    """Operations under way, by name of the role; kept from pass to pass."""
    now: datetime
    deadlines: list[datetime]
    """Gets the moment of the next look."""
    observer: Observer

    async def run(self) -> None:
        """Look at every role that is to become a member, or to be none any more."""
        asking = {
            name: tally for name, tally in self.roles.tallies.items() if tally.ask_superuser is not None
        }
        for name in self.operations.keys() - asking.keys():
            del self.operations[name]
        # Those under way first: nothing else can be asked for in the meantime.
        for name, tally in sorted(asking.items(), key=lambda item: item[0] not in self.operations):
            try:
                await self._one(name, tally)
            except LakebaseError as error:
                if self.statements.connection.closed:
                    raise
                self._tell_failed(tally, error)
        if self.statements.executed and not self.statements.dry:
            await log_changes(self.statements.connection, self.owner, self.statements.executed)

    async def _one(self, name: str, tally: RoleTally) -> None:
        member = bool(tally.ask_superuser)
        line = f"-- ask Databricks: {_statement(name, member=member)}"
        resource = resource_name(tally.role)
        api = self.api
        problem = api.problem(name, member=member) if api is not None else _nobody_to_ask(name, member=member)
        if problem is not None:
            raise problem
        if self.statements.dry:
            self.statements.executed.append((resource, line, PLANNED))
            return
        if self.statements.approved is not None and line not in self.statements.approved:
            message = "spec.level: the approved plan does not have it; it is shown anew."
            tally.blame(Reason.PLANNED, message, waits=True)
            return
        assert api is not None, "else there is nobody to ask"
        if name in self.operations:
            await self._follow(api, name, tally)
        elif self.operations:
            message = "spec.level: another change of a role is under way, and only one can be at a time. This one comes next."
            self._wait(tally, Reason.CONTROL_PLANE_CONFLICT, message)
        else:
            operation = await self._ask(api, name, member=member)
            if operation is not None:
                self.operations[name] = operation
                self.statements.executed.append((resource, line, "ok"))
            self._wait(tally, Reason.PROGRESSING, f"spec.level: Databricks {_doing(member)}.")

    async def _ask(self, api: RoleApi, name: str, *, member: bool) -> str | None:
        """What is about to be given is noted first: whatever happens in between, it is known as the operator's doing."""
        if member:
            await self._note(name, given=True)
        try:
            request = api.set_superuser(name, member=member)
            operation = await observed(self.observer, "databricks", "role", request)
        except LakebaseError as error:
            if member and was_refused(error):
                await self._note(name, given=False)
            raise
        if member and operation is None:  # somebody else has given it
            await self._note(name, given=False)
        return operation

    async def _note(self, name: str, *, given: bool) -> None:
        await note_superuser(self.statements.connection, self.owner, self.roles.oids[name], given=given)

    async def _follow(self, api: RoleApi, name: str, tally: RoleTally) -> None:
        progress = await observed(self.observer, "databricks", "role", api.follow(self.operations[name]))
        if progress.done:
            del self.operations[name]
        if progress.error is not None:
            if tally.ask_superuser and was_refused(progress.error):
                await self._note(name, given=False)
            raise progress.error
        self._wait(tally, Reason.PROGRESSING, f"spec.level: Databricks {_doing(bool(tally.ask_superuser))}.")

    def _wait(self, tally: RoleTally, reason: Reason, message: str) -> None:
        tally.blame(reason, message, waits=True)
        self.deadlines.append(self.now + timedelta(seconds=LOOK_AGAIN_SECONDS))

    def _tell_failed(self, tally: RoleTally, error: LakebaseError) -> None:
        _tell(tally, error)
        if not isinstance(error, InvalidError):
            pause = max(error.retry_after or 0.0, LOOK_AGAIN_SECONDS)
            self.deadlines.append(self.now + timedelta(seconds=pause))


def to_be_asked(roles: Roles) -> Sequence[str]:
    """What Databricks is to be asked for, as the lines of a plan."""
    return [
        f"-- ask Databricks: {_statement(name, member=tally.ask_superuser)}"
        for name, tally in roles.tallies.items()
        if tally.ask_superuser is not None
    ]


def tell_nobody_to_ask(roles: Roles) -> None:
    """Say of each role that would have Databricks asked that the connection cannot."""
    for name, tally in roles.tallies.items():
        if tally.ask_superuser is not None:
            _tell(tally, _nobody_to_ask(name, member=tally.ask_superuser))


def _tell(tally: RoleTally, error: LakebaseError) -> None:
    tally.note([Issue("membership in databricks_superuser", error.reason, error.message)])
    tally.blame(error.reason, f"spec.level: {error.message}", waits=not isinstance(error, InvalidError))


def _statement(name: str, *, member: bool) -> str:
    role = sql.Identifier(name).as_string(None)
    return f"GRANT databricks_superuser TO {role}" if member else f"REVOKE databricks_superuser FROM {role}"


def _doing(member: bool) -> str:
    return (
        "makes the role a member of databricks_superuser"
        if member
        else "takes the role out of databricks_superuser"
    )


def _nobody_to_ask(name: str, *, member: bool) -> InvalidError:
    """The login is a password, or the target a server: there is no API that could be asked."""
    return InvalidError(
        Reason.MISSING_DATABRICKS_SUPERUSER if member else Reason.UNREVOCABLE,
        "The operator has no ADMIN option on databricks_superuser, and a LakebaseConnection with a password has no Databricks API to "
        f"ask. Log in with OAuth (spec.auth.oauthM2M), or have somebody run who has that option: {_statement(name, member=member)}",
    )
