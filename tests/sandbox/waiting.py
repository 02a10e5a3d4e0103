"""Waiting for something that happens by itself."""

import time
from collections.abc import Callable


def eventually(condition: Callable[[], bool], *, timeout: float = 20.0) -> None:
    """Return once `condition` holds; fail when it does not within `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"still not so after {timeout} s"
        time.sleep(0.05)
