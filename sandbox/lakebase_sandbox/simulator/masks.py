"""`update_mask`: which fields of a resource's spec a PATCH changes."""

from collections.abc import Mapping, Set
from typing import Any

from lakebase_sandbox.simulator.errors import invalid, required


def masked_update(
    old: Mapping[str, Any], new: Mapping[str, Any], mask: str | None, allowed: Set[str]
) -> dict[str, Any]:
    """The spec that comes of `old` when the masked paths are taken from `new`.

    Parameters:
        mask: comma-joined paths below the resource, such as `spec.disabled`; `*` stands for all that `new` has.
        allowed: the fields right below `spec` that may be named.

    Raises:
        ApiError: no mask, or one that names an unknown field.
    """
    updated = dict(old)
    for path in paths(mask):
        if path in {("*",), ("spec",)}:
            updated |= new
            continue
        if path[0] != "spec" or path[1] not in allowed:
            raise unknown_path()
        _copy(updated, new, path[1:])
    return updated


def paths(mask: str | None) -> list[tuple[str, ...]]:
    """The paths of a mask, each split at its dots."""
    if not mask:
        raise required("update_mask")
    return [tuple(path.strip().split(".")) for path in mask.split(",")]


def unknown_path() -> Exception:
    return invalid("Unknown field path in update_mask")


def _copy(target: dict[str, Any], source: Mapping[str, Any], path: tuple[str, ...]) -> None:
    """Set the value at `path` to what `source` has there, or remove it where `source` has nothing."""
    head, *rest = path
    if not rest:
        if head in source:
            target[head] = source[head]
        else:
            target.pop(head, None)
        return
    below = dict(target.get(head) or {})
    _copy(below, source.get(head) or {}, tuple(rest))
    target[head] = below
