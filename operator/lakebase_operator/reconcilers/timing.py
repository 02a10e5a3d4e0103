"""Durations, pauses, and how long requests take."""

import random
import time
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import TypeVar

from lakebase_operator.api.durations import seconds as seconds  # noqa: PLC0414  # re-exported
from lakebase_operator.domain.errors import LakebaseError
from lakebase_operator.engine.observer import Observer

T = TypeVar("T")


@dataclass(slots=True)
class Pauses:
    """Doubles from ``base`` to ``cap`` seconds; a random part keeps many connections from marching in step."""

    base: float
    cap: float
    _step: int = field(default=0, init=False)

    def next(self) -> float:
        """Seconds to wait now."""
        pause = min(self.cap, self.base * 2.0**self._step)
        self._step = min(self._step + 1, 20)
        return float(pause) * random.uniform(0.75, 1.25)  # noqa: S311  # no secret depends on it

    def reset(self) -> None:
        """Things went well."""
        self._step = 0


def jittered(interval: float) -> float:
    """An interval give or take a tenth."""
    return interval * random.uniform(0.9, 1.1)  # noqa: S311


async def observed(observer: Observer, system: str, operation: str, request: Awaitable[T]) -> T:
    """Await a request and tell the observer how it ended and how long it took."""
    started = time.perf_counter()
    outcome = "Success"
    try:
        return await request
    except LakebaseError as error:
        outcome = type(error).__name__.removesuffix("Error")
        raise
    except BaseException:
        outcome = "Failed"
        raise
    finally:
        observer.request(system, operation, outcome, time.perf_counter() - started)
