"""Long loops that let others run in between."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import TypeVar

T = TypeVar("T")

TURN = 200
"""Items that are worked on at a stretch: some milliseconds."""


async def in_turns(items: Iterable[T]) -> AsyncIterator[T]:
    """Go through many items. Ten thousand at a stretch would hold up other connections, the probes and the Lease."""
    for number, item in enumerate(items, start=1):
        yield item
        if number % TURN == 0:
            await asyncio.sleep(0)
