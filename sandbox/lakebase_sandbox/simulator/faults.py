"""Faults that can be switched on, per target or for the whole workspace."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from lakebase_sandbox.simulator.errors import ApiError, limit_reached

RETRY_AFTER_SECONDS = 1
UNRESOLVABLE_HOST = "ep-gone.database.invalid"  # RFC 2606: .invalid never resolves


class MissingRight(StrEnum):
    """A right that the operator can be deprived of."""

    CREATE_ROLE = "createrole"
    SUPERUSER = "superuser"
    PERMISSION = "permission"


@dataclass(slots=True)
class HttpFault:
    """API requests answer with an error instead.

    Parameters:
        left: how many more requests; None: until cleared.
    """

    status: int
    left: int | None = None


@dataclass(slots=True)
class Faults:
    """What is wrong with a target, or (the HTTP part only) with the workspace.

    Parameters:
        refuse: TCP connections to the gateway are refused.
        swallow: TCP connections to the gateway get no answer, as behind a firewall that drops packets.
        blocked_address: logins are turned down for the address that they come from, as by an IP access list.
        cut_after: connections are cut after so many messages of their client; None: never.
        expired_before: credentials issued up to this moment (seconds since 1970) count as expired at login.
        rejected_logins: so many of the next logins fail with a passing error.
        sql_delay_seconds: pause before anything a client sends reaches the server.
        wrong_host: the API names a host that does not resolve.
        http: what API requests about the target answer.
        http_delay_seconds: pause before the answer to an API request about the target.
        missing: rights the operator is deprived of.

    Of the workspace only:
        capacity_limit: nothing new can be made.
        not_enabled: the workspace does not offer Lakebase.
        stuck_starting: what starts does not come up.
        ignored_native_logins: so many of the next changes of native login are accepted and not carried out.
    """

    refuse: bool = False
    swallow: bool = False
    blocked_address: bool = False
    cut_after: int | None = None
    expired_before: float = 0.0
    rejected_logins: int = 0
    sql_delay_seconds: float = 0.0
    wrong_host: bool = False
    http: HttpFault | None = None
    http_delay_seconds: float = 0.0
    missing: set[MissingRight] = field(default_factory=set)
    capacity_limit: bool = False
    not_enabled: bool = False
    stuck_starting: bool = False
    ignored_native_logins: int = 0

    def ignores_native_login(self) -> bool:
        """Whether this change of native login is one that is not carried out."""
        if self.ignored_native_logins:
            self.ignored_native_logins -= 1
            return True
        return False

    def refuse_if_full(self, kind: str) -> None:
        """Raise the limit error where nothing new can be made."""
        if self.capacity_limit:
            raise limit_reached(f"The workspace has reached its maximum for this kind: {kind}.")

    async def before_api_request(self) -> None:
        """Do to an API request what is to be done to it.

        Raises:
            ApiError: the request fails.
        """
        if self.http_delay_seconds:
            await asyncio.sleep(self.http_delay_seconds)
        if self.http is None:
            return
        fault = self.http
        if fault.left is not None:
            fault.left -= 1
            if fault.left <= 0:
                self.http = None
        raise _HTTP_ERRORS[fault.status]()


_HTTP_ERRORS: dict[int, Callable[[], ApiError]] = {
    401: lambda: ApiError(401, "UNAUTHENTICATED", "The access token is not valid."),
    403: lambda: ApiError(403, "PERMISSION_DENIED", "User does not have permission to do this."),
    404: lambda: ApiError(404, "NOT_FOUND", "The resource was not found."),
    409: lambda: ApiError(409, "ABORTED", "The request conflicts with another one."),
    429: lambda: ApiError(
        429,
        "REQUEST_LIMIT_EXCEEDED",
        "Too many requests. Please try again later.",
        headers={"Retry-After": str(RETRY_AFTER_SECONDS)},
    ),
    500: lambda: ApiError(
        500, "INTERNAL_ERROR", "The request could not be processed. Please try again later."
    ),
    503: lambda: ApiError(503, "TEMPORARILY_UNAVAILABLE", "The service is temporarily unavailable."),
    504: lambda: ApiError(504, "DEADLINE_EXCEEDED", "The request took too long."),
}

WORKSPACE_ONLY_FAULTS = ("capacity-limit", "not-enabled", "stuck-starting", "ignore-native-login")
WORKSPACE_FAULTS = ("http", "slow", *WORKSPACE_ONLY_FAULTS)

# name -> how it is written, for people
USAGE = {
    "refuse": "refuse",
    "drop": "drop [MESSAGES]",
    "swallow": "swallow",
    "block-address": "block-address",
    "expire-token": "expire-token",
    "reject-logins": "reject-logins COUNT",
    "http": f"http {'|'.join(str(status) for status in _HTTP_ERRORS)} [COUNT]",
    "slow": "slow MILLISECONDS",
    "slow-sql": "slow-sql MILLISECONDS",
    "wrong-host": "wrong-host",
    "missing-right": f"missing-right {'|'.join(MissingRight)}",
    "capacity-limit": "capacity-limit",
    "not-enabled": "not-enabled",
    "stuck-starting": "stuck-starting",
    "ignore-native-login": "ignore-native-login COUNT",
}


def set_fault(faults: Faults, name: str, args: Sequence[str]) -> None:
    """Switch one fault on.

    Raises:
        ValueError: no such fault, or arguments that do not fit it; the text says how it is written.
    """
    usage = USAGE.get(name)
    if usage is None:
        raise ValueError(f"there is no fault '{name}': choose one of {', '.join(USAGE)}")
    try:
        _set(faults, name, args)
    except (ValueError, IndexError) as error:
        raise ValueError(f"'{' '.join([name, *args])}' does not fit: write {usage}") from error


def _set(faults: Faults, name: str, args: Sequence[str]) -> None:
    most = len(USAGE[name].split()) - 1
    if len(args) > most:
        raise ValueError("too many arguments")
    match name:
        case "refuse":
            faults.refuse = True
        case "swallow":
            faults.swallow = True
        case "block-address":
            faults.blocked_address = True
        case "drop":
            faults.cut_after = _count(args[0]) if args else 0
        case "expire-token":
            faults.expired_before = time.time()
        case "reject-logins":
            faults.rejected_logins = _count(args[0])
        case "http":
            status = int(args[0])
            if status not in _HTTP_ERRORS:
                raise ValueError(f"unknown status {status}")
            faults.http = HttpFault(status, _count(args[1]) if len(args) > 1 else None)
        case "slow":
            faults.http_delay_seconds = _count(args[0]) / 1000
        case "slow-sql":
            faults.sql_delay_seconds = _count(args[0]) / 1000
        case "wrong-host":
            faults.wrong_host = True
        case "missing-right":
            faults.missing.add(MissingRight(args[0]))
        case "capacity-limit":
            faults.capacity_limit = True
        case "not-enabled":
            faults.not_enabled = True
        case "stuck-starting":
            faults.stuck_starting = True
        case "ignore-native-login":
            faults.ignored_native_logins = _count(args[0])


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise ValueError("must not be negative")
    return number
