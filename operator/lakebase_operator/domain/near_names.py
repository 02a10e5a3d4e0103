"""Names that somebody may have meant."""

from collections.abc import Iterable
from difflib import get_close_matches

from lakebase_operator.domain.people import fold


def near_names(name: str, known: Iterable[str], limit: int = 3) -> tuple[str, ...]:
    """Up to ``limit`` known names that look like ``name``, the nearest first. Case does not count."""
    by_folded: dict[str, list[str]] = {}
    for one in sorted(known):
        if one != name:
            by_folded.setdefault(fold(one), []).append(one)
    close = get_close_matches(fold(name), by_folded, n=limit, cutoff=0.75)
    return tuple(one for folded in close for one in by_folded[folded])[:limit]


def did_you_mean(near: Iterable[str]) -> str:
    """A sentence that goes after "There is no role …", with a space before it; empty where nothing is near."""
    names = " or ".join(f'"{one}"' for one in near)
    return f" Did you mean {names}?" if names else ""
