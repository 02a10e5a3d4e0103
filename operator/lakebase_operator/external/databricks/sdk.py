"""The SDK's client for one workspace, set up so that no call hangs, and nothing secret is logged."""

import logging
import time

from databricks.sdk import WorkspaceClient
from databricks.sdk.clock import Clock
from databricks.sdk.core import Config

from lakebase_operator import __version__

from .auth import Auth
from .errors import WaitTooLongError
from .oauth import AccessToken

_LONGEST_PAUSE = 5.0  # seconds; longer ones are the caller's, who has better to do with a thread


def connect(url: str, auth: Auth, *, http_timeout: float, retry_timeout: int) -> WorkspaceClient:
    """Log in to the workspace. Blocks: call it in a thread.

    Parameters
    ----------
    url
        The workspace, ``https://…``.
    auth
        Who the operator is there.
    http_timeout
        Seconds for a connection, and again for an answer.
    retry_timeout
        Seconds after which the SDK starts no further try of a request.

    Raises
    ------
    Exception
        As :meth:`AccessToken.token`, or as the SDK does.
    """
    logging.getLogger("databricks.sdk").addFilter(_without_bodies)
    token = AccessToken(url, auth, http_timeout=http_timeout)
    token.token()  # first, since an error is plain here, and the SDK would spend its whole time to retry over it
    return WorkspaceClient(
        config=Config(
            host=url,
            client_id=auth.client_id,
            credentials_strategy=token,
            auth_type=token.auth_type(),
            http_timeout_seconds=http_timeout,
            retry_timeout_seconds=retry_timeout,
            clock=_ShortPauses(),
            product="lakebase-operator",
            product_version=__version__,
            # Only what is given here counts. The SDK would fill these from DATABRICKS_* and ~/.databrickscfg.
            profile="",
            account_id="",
            workspace_id="",
            discovery_url="",
            group_id="",
            debug_headers=False,
        )
    )


class _ShortPauses(Clock):
    """Makes the SDK give up at once where it would sleep long, be it by its own backoff or by a ``Retry-After``."""

    def time(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        if seconds > _LONGEST_PAUSE:
            raise WaitTooLongError
        time.sleep(seconds)


def _without_bodies(record: logging.LogRecord) -> bool:
    """Drops what the SDK logs for debugging: requests and answers, with tokens in them."""
    return record.levelno > logging.DEBUG
