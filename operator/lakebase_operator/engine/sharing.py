"""What many objects have in common is kept once: thousands of AccessGrants name the same people and the same tables.

Parsed objects are frozen, so nobody can tell.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from pydantic_core import to_json

MOST_PARTS = 4096
"""Distinct parts that are known at a time; beyond that it begins anew, lest what nobody has any more be kept."""

_parts: dict[tuple[type[BaseModel], str, bytes], Any] = {}
_field_sets: dict[frozenset[str], set[str]] = {}


def share_parts(model: BaseModel, raw: Mapping[str, Any]) -> None:
    """Put equal parts that are known already in place of those that were just read.

    Parameters
    ----------
    model
        Just read, and seen by nobody yet.
    raw
        What it was read from.
    """
    for name, info in type(model).model_fields.items():
        part = model.__dict__[name]
        if isinstance(part, (BaseModel, list, dict)):
            if len(_parts) >= MOST_PARTS:
                _parts.clear()
            key = type(model), name, to_json(raw.get(info.alias or name))
            model.__dict__[name] = _parts.setdefault(key, part)


def share_field_sets(model: BaseModel) -> None:
    """Pydantic notes for each model which fields were given. These notes are half of its memory, and most are equal."""
    given = model.model_fields_set
    shared = _field_sets.setdefault(frozenset(given), given)
    if shared is given:
        return  # a part that was read before, or the first with just these fields
    object.__setattr__(model, "__pydantic_fields_set__", shared)
    for value in model.__dict__.values():
        for part in value if isinstance(value, list) else (value,):
            if part is not None and isinstance(part, BaseModel):
                share_field_sets(part)
