"""Carrying out statements about roles, one transaction each: Lakebase forwards them to its control plane at commit."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import psycopg
from psycopg import sql

from lakebase_operator.api import PostgresRole, UserMapping
from lakebase_operator.api.reasons import Reason
from lakebase_operator.domain.errors import InvalidError, LakebaseError, TransientError
from lakebase_operator.domain.memberships import loan
from lakebase_operator.domain.plan import Acting, Actor
from lakebase_operator.domain.role_statements import RESET_ROLE, set_local_role
from lakebase_operator.domain.roles import Step
from lakebase_operator.engine.observer import Observer
from lakebase_operator.external.postgres.errors import query_error
from lakebase_operator.external.postgres.retries import while_others_change
from lakebase_operator.external.postgres.session import Connection, execute_together
from lakebase_operator.reconcilers.known_roles import Roles

PLANNED = "planned"
"""The result of a statement that was only noted."""


def count_statements(observer: Observer, executed: Iterable[tuple[str, str, str]]) -> None:
    """Count what was carried out, by the first two words.

    Parameters
    ----------
    observer
        Is told.
    executed
        Resources, statement, result.
    """
    counts = Counter(" ".join(text.split()[:2]) for _, text, result in executed if result == "ok")
    for verb, count in counts.items():
        observer.statements(verb, count)


@dataclass(slots=True)
class RoleStatements:
    """Executes statements about roles and remembers them."""

    connection: Connection
    operator_role: str
    superuser: bool
    dry: bool = False
    """Only note what would be executed."""
    approved: frozenset[str] | None = None
    """Nothing but these may be executed; None: anything."""
    executed: list[tuple[str, str, str]] = field(default_factory=list)
    """For the change log: resources, statement, result. Of a dry run, what would be executed."""

    async def execute(
        self, step: Step, resource: str, *, roles: Roles | None = None, note: sql.Composable | None = None
    ) -> None:
        """Run one statement in a transaction of its own; concurrent changes by others are waited out.

        Parameters
        ----------
        step
            The statement.
        resource
            For the change log.
        roles
            What is known of roles; needed for a step that acts as another role.
        note
            What the ledger is to remember, so that a process that ends right after it knows its own role again. It is
            sent in one message with the statement, which makes the two one transaction.

        Raises
        ------
        LakebaseError
            The database refuses it.
        """
        text = str(step)
        if self.dry:
            self.executed.append((resource, text, PLANNED))
            return
        if self.approved is not None and text not in self.approved:
            raise TransientError(
                Reason.PLANNED,
                f"{step.doing}: the approved plan does not have this statement; it is shown anew.",
            )
        try:
            async for attempt in while_others_change(first=0.05, longest=1):
                with attempt:
                    if step.acting_as is not None and roles is not None:
                        await self._as_role(step.statement, step.acting_as, roles)
                    elif note is not None:
                        both = sql.SQL("{}; {}").format(step.statement, note)
                        await execute_together(self.connection, both)
                    else:
                        await self.connection.execute(step.statement)
        except psycopg.Error as error:
            self.executed.append((resource, text, error.sqlstate or "failed"))
            raise role_error(error, step) from error
        self.executed.append((resource, text, "ok"))

    async def _as_role(self, statement: sql.Composed, actor: Actor, roles: Roles) -> None:
        async with self.connection.transaction():
            end: sql.Composed | None = None
            if actor.acting is Acting.ADMIN:
                begin, end = loan(
                    roles.by_oid[actor.oid],
                    roles.states[self.operator_role],
                    roles.edges,
                    roles.everybody(superuser=self.superuser),
                    set_=True,
                )
                await self.connection.execute(begin)
            await self.connection.execute(set_local_role(actor.name))
            await self.connection.execute(statement)
            await self.connection.execute(RESET_ROLE)
            if end is not None:
                await self.connection.execute(end)


def resource_name(subject: PostgresRole | UserMapping) -> str:
    """As the ledger and the change log name an object."""
    return f"{subject.kind_name}/{subject.metadata.namespace}/{subject.metadata.name}@{subject.metadata.generation}"


def not_admin(name: str, steps: Sequence[Step]) -> InvalidError:
    """The operator did not make this role, and PostgreSQL 16 lets only those with ADMIN option alter it."""
    statements = "; ".join(str(step) for step in steps)
    return InvalidError(
        Reason.NOT_ROLE_ADMIN,
        f'The role "{name}" was made by somebody else, and the operator has no ADMIN option on it. '
        f"Somebody who has it must run: {statements}",
    )


def role_error(error: psycopg.Error, step: Step) -> LakebaseError:
    """What the failure of a statement about a role means."""
    text = error.diag.message_primary or ""
    if error.sqlstate == "42710":
        return InvalidError(Reason.ROLE_EXISTS, f"{step.doing}: the role exists already.")
    if error.sqlstate == "22023" and "Identity not found" in text:
        return InvalidError(
            Reason.IDENTITY_NOT_FOUND,
            f"{step.doing}: Databricks knows no identity of this kind and name. Check the spelling, and that it is in "
            "this workspace.",
        )
    if error.sqlstate in _USERS_TO_CHANGE or text.startswith("unrecognized configuration parameter"):
        return InvalidError(Reason.INVALID_SPEC, f"{step.doing[:1].upper()}{step.doing[1:]} failed: {text}.")
    return query_error(error, doing=step.doing)


_USERS_TO_CHANGE = frozenset({"0LP01", "22023", "2BP01", "42601", "42602", "55P02"})
"""A membership that would be a circle; a value that a parameter cannot have; ADMIN that somebody has used; no name of a parameter;
a parameter that no session can change."""
