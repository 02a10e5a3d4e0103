"""Many requests side by side, without a task for each."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from lakebase_operator.external.kube.errors import KubeError

T = TypeVar("T")
R = TypeVar("R")

TURN = 100
"""Items after which others are let run."""


async def side_by_side(
    what: str, work: Callable[[T], Awaitable[R]], items: Iterable[T], *, limit: int
) -> list[R]:
    """Do ``work`` for each item, ``limit`` at a time. Returns the results in no particular order.

    Parameters
    ----------
    what
        What is worked on, for people: ``statuses``.

    Raises
    ------
    KubeError
        It failed for some items, and was done for the others.
    """
    waiting = iter(items)
    results: list[R] = []
    errors: list[Exception] = []

    async def worker() -> None:
        for item in waiting:  # shared: each item goes to one worker
            try:
                results.append(await work(item))
            except Exception as error:  # noqa: BLE001 - they are told together, below
                errors.append(error)
            if (len(results) + len(errors)) % TURN == 0:
                await asyncio.sleep(0)  # work that needs no request would never let others run

    async with asyncio.TaskGroup() as workers:
        for _ in range(limit):
            workers.create_task(worker())
    if errors:
        told = (
            f"{len(errors)} of {len(errors) + len(results)} {what} could not be written, such as: {errors[0]}"
        )
        raise KubeError(0, told) from ExceptionGroup(what, errors)
    return results
