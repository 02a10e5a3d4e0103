"""Durations as they stand in manifests."""

import re

_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0}


def seconds(duration: str) -> float:
    """A duration of the API, such as ``1h30m``, in seconds."""
    return sum(float(number) * _UNITS[unit] for number, unit in re.findall(r"(\d+)([hms])", duration))
