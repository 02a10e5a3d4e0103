"""The databases of the sandbox as people see them: through the gateway, with a credential of their own."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from lakebase_sandbox.demo.narrator import UnexpectedError
from lakebase_sandbox.simulator_process import AdminClient, Target

DATABASE = "databricks_postgres"
APPLICATION = "marketing-app"
"""The role that owns the sample data."""

_INSUFFICIENT_PRIVILEGE = "42501"
_CONNECT_TIMEOUT_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Allowed:
    """The statement was carried out."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The server refused the statement."""

    sqlstate: str | None
    text: str

    def __str__(self) -> str:
        return f"{self.text} (SQLSTATE {self.sqlstate})"


Outcome = Allowed | Refused


def expect_allowed(outcome: Outcome, who: str, statement: str) -> None:
    """
    Raises:
        UnexpectedError: it was refused, for whatever reason.
    """
    if isinstance(outcome, Refused):
        raise UnexpectedError(expected=f"{who} may {statement}", seen=str(outcome))


def expect_denied(outcome: Outcome, who: str, statement: str) -> None:
    """
    Raises:
        UnexpectedError: it was carried out, or refused for another reason than missing privileges.
    """
    expected = f"{who} may not {statement}: permission denied (SQLSTATE {_INSUFFICIENT_PRIVILEGE})"
    match outcome:
        case Allowed():
            raise UnexpectedError(expected=expected, seen="it was carried out")
        case Refused(sqlstate=sqlstate) if sqlstate != _INSUFFICIENT_PRIVILEGE:
            raise UnexpectedError(expected=expected, seen=str(outcome))


class Session:
    """Somebody's open session."""

    def __init__(self, user: str, connection: psycopg.Connection[Any]) -> None:
        self.user = user
        self._connection = connection

    def may(self, *statements: str) -> None:
        """
        Raises:
            UnexpectedError: one of them is refused.
        """
        for statement in statements:
            expect_allowed(self._attempt(statement), self.user, statement)

    def may_not(self, *statements: str) -> None:
        """
        Raises:
            UnexpectedError: one of them is carried out, or fails for another reason than missing privileges.
        """
        for statement in statements:
            expect_denied(self._attempt(statement), self.user, statement)

    def _attempt(self, statement: str) -> Outcome:
        try:
            self._connection.execute(statement.encode())
        except psycopg.Error as error:
            return Refused(error.sqlstate, error.diag.message_primary or str(error).strip())
        return Allowed()


class Database:
    """One Postgres of the sandbox.

    Parameters:
        name: the sandbox's name of the target.
    """

    def __init__(self, name: str, target: Target, simulator: AdminClient, ca_file: Path) -> None:
        self.name = name
        self._target = target
        self._simulator = simulator
        self._ca_file = ca_file

    def know(self, user: str) -> None:
        """Let the workspace know an identity; asking for a credential of it is enough."""
        self._simulator.login(self.name, user)

    @contextmanager
    def session(self, user: str) -> Iterator[Session]:
        """A session of `user`, logged in with a fresh credential of the workspace.

        Raises:
            psycopg.OperationalError: the gateway does not let them in.
        """
        with psycopg.connect(
            host=self._target.gateway_host,
            port=self._target.gateway_port,
            dbname=DATABASE,
            user=user,
            password=self._simulator.login(self.name, user).token,
            sslmode="verify-full",
            sslrootcert=str(self._ca_file),
            connect_timeout=_CONNECT_TIMEOUT_SECONDS,
            autocommit=True,
        ) as connection:
            yield Session(user, connection)

    def refuses(self, user: str, *, because: str) -> None:
        """
        Raises:
            UnexpectedError: `user` can log in, or is kept out for another reason than `because`.
        """
        expected = f"no login of {user}: {because}"
        try:
            with self.session(user):
                pass
        except psycopg.OperationalError as error:
            if because not in str(error):
                raise UnexpectedError(expected=expected, seen=str(error).strip()) from error
        else:
            raise UnexpectedError(expected=expected, seen="the login succeeded")

    def load_sample_data(self) -> None:
        """Make the sample data anew, as the application that owns it."""
        application = sql.Identifier(APPLICATION)
        with psycopg.connect(self._target.admin_dsn, autocommit=True) as connection:
            if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (APPLICATION,)).fetchone():
                connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(application))
                connection.execute(
                    sql.SQL("GRANT CREATE ON DATABASE {} TO {}").format(sql.Identifier(DATABASE), application)
                )
            connection.execute(sql.SQL("SET ROLE {}").format(application))
            connection.execute(files(__package__).joinpath("sample_data.sql").read_bytes())
