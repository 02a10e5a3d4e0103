"""psycopg's errors as ours: by phase (connecting or working) and SQLSTATE class first, by text second.

Lakebase's proxy reports many of its own errors without an SQLSTATE or as XX000, so their text decides
(https://www.postgresql.org/docs/current/errcodes-appendix.html for the rest)::

    psycopg.Error
     ├── connecting   28P01, 28000 …          InvalidError   PasswordRejected, OperatorRoleMissing, …
     │                3D000                   InvalidError   DatabaseNotFound
     │                53300                   TransientError TooManyConnections
     │                TLS                     InvalidError   TLSFailed
     │                "IP address … is not    TransientError NetworkBlocked
     │                allowed"
     │                everything else         TransientError Unreachable
     └── working      class 08, 57P0x         TransientError ConnectionLost
                      42501                   InvalidError   PermissionDenied
                      25006                   InvalidError   ReadOnlyEndpoint
                      40001 40P01 55P03 XX000 TransientError RoleInUse
                      everything else         TransientError InternalError
"""

import re

import psycopg

from lakebase_operator.api.reasons import Reason
from lakebase_operator.domain.errors import InvalidError, LakebaseError, NotReadyError, TransientError

__all__ = ["connect_error", "is_authentication_failure", "is_concurrent_update", "query_error", "words"]

_CONCURRENT = re.compile(r"tuple concurrently (updated|deleted)|could not find tuple for role")
_RETRYABLE_STATES = frozenset({"40001", "40P01", "55P03", "23505"})


def words(error: psycopg.Error) -> str:
    """The server's or libpq's words, on one line, without libpq's preamble (it names host, port and user)."""
    text = error.diag.message_primary or str(error)
    text = re.sub(r" Is the server running .*?\?", "", " ".join(text.split())).rstrip(".")
    return re.sub(r"^connection (failed: )?(to server )?(connection )?.*?failed: (FATAL: )?", "", text)


def is_authentication_failure(error: psycopg.Error) -> bool:
    """Whether a fresh credential might help."""
    text = str(error)
    return "password authentication failed" in text or "External authorization failed" in text


def is_concurrent_update(error: psycopg.Error) -> bool:
    """Whether somebody else changed the same catalog row: the same statement may work in a moment.

    XX000 has no SQLSTATE of its own for this; the text is all there is.
    """
    if error.sqlstate in _RETRYABLE_STATES:
        return True
    return error.sqlstate == "XX000" and bool(_CONCURRENT.search(str(error)))


def connect_error(
    error: Exception, *, host: str, port: int, database: str, user: str, oauth: bool
) -> LakebaseError:
    """What a failed connection attempt means."""
    where = f"{host}:{port}"
    if isinstance(error, TimeoutError | psycopg.errors.ConnectionTimeout):
        return TransientError(
            Reason.UNREACHABLE, f"{where} did not answer in time. Check the network path to it."
        )
    if not isinstance(error, psycopg.Error):
        return TransientError(Reason.UNREACHABLE, f"{where} cannot be reached: {type(error).__name__}.")
    text = words(error)
    rules: tuple[tuple[str, type[LakebaseError], Reason, str], ...] = (
        (r"IP address .* is not allowed|not allowed to connect to this endpoint", TransientError, Reason.NETWORK_BLOCKED,
         f"{where} refuses the operator's address: {text}. Add it to the IP access list; it is no matter of the credential."),
        (r"is not permitted to log in", InvalidError, Reason.OPERATOR_ROLE_NOT_LOGIN,
         f'The role "{user}" may not log in. Run as an administrator: ALTER ROLE "{user}" LOGIN'),
        (r'role "[^"]*" does not exist', InvalidError, Reason.OPERATOR_ROLE_MISSING,
         f'There is no role "{user}" in {where}. Run as an administrator: '
         + (f"SELECT databricks_create_role('{user}', 'SERVICE_PRINCIPAL')" if oauth else f'CREATE ROLE "{user}" LOGIN')),
        (r'database "[^"]*" does not exist', InvalidError, Reason.DATABASE_NOT_FOUND,
         f'There is no database "{database}" in {where}. Create it, or take it out of spec.databases.'),
        (r"password authentication failed|External authorization failed|no password supplied", InvalidError,
         Reason.TOKEN_EXPIRED if oauth else Reason.PASSWORD_REJECTED,
         f'{where} refuses the {"OAuth credential" if oauth else "password"} of "{user}": {text}. '
         + ("Check that the role was made for this identity with databricks_create_role." if oauth
            else "Check the Secret, and that native login is on.")),
        (r"has been disabled", NotReadyError, Reason.ENDPOINT_DISABLED,
         f"The endpoint behind {where} is disabled. Enable it."),
        (r"too many clients|remaining connection slots|[Tt]oo many connections|Failed to acquire permit", TransientError,
         Reason.TOO_MANY_CONNECTIONS, f"{where} has no connection left: {text}."),
        (r"permission denied for database|is not (currently accepting connections|allowed to connect)|pg_hba\.conf",
         InvalidError, Reason.PERMISSION_DENIED, f'{where} does not let "{user}" into the database "{database}": {text}.'),
        (r"unexpected eof|SSL SYSCALL|reset by peer|server closed the connection", TransientError, Reason.UNREACHABLE,
         f"{where} broke the connection off: {text}."),
        (r"certificate verify failed|certificate|server does not support SSL|SSL error|sslmode|root certificate file",
         InvalidError, Reason.TLS_FAILED, f"TLS with {where} fails: {text}. Check spec.tls."),
        (r"the database system is (starting up|shutting down|in recovery|not (yet )?accepting)", NotReadyError, Reason.RESUMING,
         f"{where} is not up yet: {text}."),
    )  # fmt: skip
    for pattern, kind, reason, message in rules:
        if re.search(pattern, text):
            return kind(reason, message)
    return TransientError(Reason.UNREACHABLE, f"{where} cannot be reached: {text}.")


def query_error(error: psycopg.Error, *, doing: str) -> LakebaseError:
    """What a failed statement means.

    Parameters
    ----------
    error
        psycopg's.
    doing
        What was being done, as in "creating the ledger in sales".
    """
    text, state = words(error), error.sqlstate or ""
    message = f"{doing[:1].upper()}{doing[1:]} failed: {text} (SQLSTATE {state or 'none'})."
    if state == "42501":
        return InvalidError(Reason.PERMISSION_DENIED, message)
    if state == "25006":
        return InvalidError(
            Reason.READ_ONLY_ENDPOINT, f"{message} Point the connection at the read-write endpoint."
        )
    if state.startswith(("08", "57P0")) or (isinstance(error, psycopg.OperationalError) and not state):
        return TransientError(Reason.CONNECTION_LOST, f"{message} It is tried again.")
    if is_concurrent_update(error):
        return TransientError(
            Reason.ROLE_IN_USE, f"{message} Somebody else changes the same; it is tried again."
        )
    return TransientError(Reason.INTERNAL_ERROR, message)
