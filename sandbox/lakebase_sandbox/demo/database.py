"""The databases of the sandbox as people see them: through the gateway, with a credential of their own."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
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

    def __str__(self) -> str:
        return "the statement was carried out"


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
            raise UnexpectedError(expected=expected, seen=str(outcome))
        case Refused(sqlstate=sqlstate) if sqlstate != _INSUFFICIENT_PRIVILEGE:
            raise UnexpectedError(expected=expected, seen=str(outcome))


def expect_no_login(session: Callable[[], AbstractContextManager[object]], who: str, *, because: str) -> None:
    """
    Parameters:
        session: logs in.

    Raises:
        UnexpectedError: they can log in, or are kept out for another reason than `because`.
    """
    expected = f"no login of {who}: {because}"
    try:
        with session():
            pass
    except psycopg.OperationalError as error:
        if because not in str(error):
            raise UnexpectedError(expected=expected, seen=str(error).strip()) from error
    else:
        raise UnexpectedError(expected=expected, seen="the login succeeded")


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

    def has_ended(self) -> None:
        """
        Raises:
            UnexpectedError: the server has not ended it.
        """
        outcome = self._attempt("SELECT 1")
        if isinstance(outcome, Allowed) or not self._connection.closed:
            raise UnexpectedError(expected=f"the session of {self.user} is over", seen=str(outcome))

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
        expect_no_login(lambda: self.session(user), user, because=because)

    def load_sample_data(self) -> None:
        """Make the sample data anew, as the application that owns it."""
        application = sql.Identifier(APPLICATION)
        with psycopg.connect(self._target.admin_dsn, autocommit=True) as connection:
            if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (APPLICATION,)).fetchone():
                connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(application))
                connection.execute(
                    sql.SQL("GRANT CREATE ON DATABASE {} TO {}").format(sql.Identifier(DATABASE), application)
                )
        self.as_application(files(__package__).joinpath("sample_data.sql").read_text())

    def as_application(self, statements: str) -> None:
        """Carry out statements as the application that owns the sample data."""
        with psycopg.connect(self._target.admin_dsn, autocommit=True) as connection:
            connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(APPLICATION)))
            connection.execute(statements.encode())

    def replace_password(self, role: str, password: str) -> None:
        """Give a role another password by hand, as somebody with the right to do so."""
        statement = sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(role), password)
        with psycopg.connect(self._target.admin_dsn, autocommit=True) as connection:
            connection.execute(statement)
