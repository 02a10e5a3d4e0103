"""Trying again what ran into a concurrent change by somebody else."""

import psycopg
from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from lakebase_operator.external.postgres.errors import is_concurrent_update

ATTEMPTS = 5


def while_others_change(*, first: float, longest: float) -> AsyncRetrying:
    """Attempts, with growing random pauses between them, as long as each meets a concurrent change; then its error is raised.

    Parameters
    ----------
    first, longest
        Bounds of the first and of the longest pause, in seconds.
    """
    return AsyncRetrying(
        retry=retry_if_exception(
            lambda error: isinstance(error, psycopg.Error) and is_concurrent_update(error)
        ),
        stop=stop_after_attempt(ATTEMPTS),
        wait=wait_random_exponential(multiplier=first, max=longest),
        reraise=True,
    )
