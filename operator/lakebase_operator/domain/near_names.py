"""Names that somebody may have meant."""

from collections.abc import Iterable
from difflib import get_close_matches

FARTHEST = 3
"""Characters more or less that a near name may have."""


def near_names(name: str, known: Iterable[str], limit: int = 3) -> tuple[str, ...]:
    """Up to ``limit`` known names that look like ``name``, the nearest first. Case does not count."""
    by_lower: dict[str, list[str]] = {}
    for one in sorted(known):
        if one != name and abs(len(one) - len(name)) <= FARTHEST:
            by_lower.setdefault(one.lower(), []).append(one)
    close = get_close_matches(name.lower(), by_lower, n=limit, cutoff=0.75)
    return tuple(one for lower in close for one in by_lower[lower])[:limit]


def did_you_mean(near: Iterable[str]) -> str:
    """A sentence that goes after "There is no role …", with a space before it; empty where nothing is near."""
    names = " or ".join(f'"{one}"' for one in near)
    return f" Did you mean {names}?" if names else ""
