"""Calls of the blocking SDK from asyncio: bounded in time and number, with errors that are ours."""

import asyncio
import re
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from databricks.sdk import WorkspaceClient
from databricks.sdk.errors.base import DatabricksError

from lakebase_operator.api.reasons import Reason
from lakebase_operator.domain.errors import InvalidError, LakebaseError, TransientError

from . import sdk
from .auth import Auth, OAuthM2M
from .credentials import SingleFlight
from .errors import Task, WaitTooLongError, cause, explain, token_refused

T = TypeVar("T")

_LONGEST_QUIET = 600.0  # seconds, however long the workspace asks for
_WORKSPACE_URL = re.compile(r"https://(?P<host>[A-Za-z0-9.-]+(?::[0-9]{1,5})?)/?")


class Calls:
    """All requests to one workspace as one identity.

    Parameters
    ----------
    url
        The workspace: ``https://`` and a host, no path.
    auth
        Who the operator is there.
    executor
        The threads for blocking calls, shared by all workspaces.
    limit
        How many of these threads this workspace may hold at a time, so that a silent one does not take them all.
    call_timeout
        Seconds that a call may take in all, its wait for a thread and a token included.
    http_timeout
        Seconds for a connection, and again for an answer.
    retry_timeout
        Seconds after which the SDK starts no further try.

    Raises
    ------
    InvalidError
        ``url`` is not the address of a workspace.
    """

    def __init__(
        self,
        url: str,
        auth: Auth,
        *,
        executor: ThreadPoolExecutor,
        limit: int,
        call_timeout: float,
        http_timeout: float,
        retry_timeout: int,
    ) -> None:
        self._url = checked_url(url)
        self._host = self._url.removeprefix("https://")
        self._auth = auth
        self._executor = executor
        self._threads = asyncio.Semaphore(limit)
        self._call_timeout = call_timeout
        self._http_timeout = http_timeout
        self._retry_timeout = retry_timeout
        self._client: WorkspaceClient | None = None
        self._connect = SingleFlight(self._connected)
        self._quiet_until = 0.0  # on the event loop's clock

    async def __call__(self, task: Task, function: Callable[[WorkspaceClient], T]) -> T:
        """What ``function`` returns, run in a thread.

        An access token that is refused is replaced once.

        Raises
        ------
        LakebaseError
            Whatever goes wrong.
        """
        self._keep_quiet(task)
        try:
            async with asyncio.timeout(self._call_timeout):
                client = self._client or await self._connect()
                try:
                    return await self._in_thread(lambda: function(client))
                except DatabricksError as error:
                    if not token_refused(error):
                        raise
                if self._client is client:
                    self._client = None
                renewed = self._client or await self._connect()
                return await self._in_thread(lambda: function(renewed))
        except Exception as error:  # noqa: BLE001  # the border: nothing of the SDK passes it
            explained = explain(error, self._host, task, secrets=self._secrets())
            if explained.retry_after is not None:
                explained.retry_after = min(explained.retry_after, _LONGEST_QUIET)
            self._note_throttle(explained)
            # No cause: the SDK's texts have its configuration in them, and the message says what there is to say.
            raise explained from None

    def explain(self, error: Exception, task: Task) -> LakebaseError:
        """The error of ours for something that the workspace reports without a request failing."""
        return explain(error, self._host, task, secrets=self._secrets())

    async def _connected(self) -> WorkspaceClient:
        async with asyncio.timeout(self._call_timeout):
            self._client = await self._in_thread(
                lambda: sdk.connect(
                    self._url, self._auth, http_timeout=self._http_timeout, retry_timeout=self._retry_timeout
                )
            )
        return self._client

    async def _in_thread(self, function: Callable[[], T]) -> T:
        """Run in the executor. The place is free again when the thread is, not when the caller stops waiting."""
        await self._threads.acquire()
        loop = asyncio.get_running_loop()

        def release(_: Future[T]) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._threads.release)

        try:
            future = self._executor.submit(_run, function)
        except BaseException:
            self._threads.release()
            raise
        future.add_done_callback(release)
        return await asyncio.wrap_future(future)

    def _keep_quiet(self, task: Task) -> None:
        """Refuse to ask again before the workspace allows it."""
        remaining = self._quiet_until - asyncio.get_running_loop().time()
        if remaining > 0:
            raise TransientError(
                Reason.CONTROL_PLANE_THROTTLED,
                f"The Databricks workspace {self._host} has asked for fewer requests: {task.doing} waits until it allows.",
                retry_after=remaining,
            )

    def _note_throttle(self, error: LakebaseError) -> None:
        if error.reason is Reason.CONTROL_PLANE_THROTTLED and error.retry_after:
            self._quiet_until = asyncio.get_running_loop().time() + error.retry_after

    def _secrets(self) -> tuple[str, ...]:
        return (self._auth.client_secret,) if isinstance(self._auth, OAuthM2M) else ()


def _run(function: Callable[[], T]) -> T:
    """Run in a thread. A TimeoutError would lose its cause on the way from the thread to asyncio."""
    try:
        return function()
    except (TimeoutError, WaitTooLongError) as error:
        raise cause(error) from None


def checked_url(url: str) -> str:
    """``url`` without a slash at its end.

    Raises
    ------
    InvalidError
        It is not ``https://`` with a host and nothing else.
    """
    address = _WORKSPACE_URL.fullmatch(url)
    if address is None:
        raise InvalidError(
            Reason.INVALID_SPEC,
            "spec.workspaceURL is not the address of a workspace: it has to be https:// and a host name, without a path, "
            "e.g. https://acme.cloud.databricks.com.",
        )
    return f"https://{address['host']}"
