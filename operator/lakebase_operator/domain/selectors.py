"""What an AccessGrant selects: which objects of a database, and which privileges on them."""

import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from lakebase_operator.api.access_grant import AccessGrant, AccessGrantSpec, AccessLevel, Ensure
from lakebase_operator.api.base import Model
from lakebase_operator.api.names import SYSTEM_SCHEMA
from lakebase_operator.api.objects import Objects, Privilege
from lakebase_operator.domain.patterns import like_pattern
from lakebase_operator.domain.privileges import (
    ACCESS_LEVELS,
    DEFAULT_CLASSES,
    PRIVILEGES,
    ObjectClass,
    class_supported,
    supported,
)

_CLASSES: dict[str, ObjectClass] = {
    "tables": ObjectClass.TABLE,
    "sequences": ObjectClass.SEQUENCE,
    "routines": ObjectClass.ROUTINE,
    "types": ObjectClass.TYPE,
    "schemas": ObjectClass.SCHEMA,
    "databases": ObjectClass.DATABASE,
    "languages": ObjectClass.LANGUAGE,
    "foreign_data_wrappers": ObjectClass.FOREIGN_DATA_WRAPPER,
    "foreign_servers": ObjectClass.FOREIGN_SERVER,
    "parameters": ObjectClass.PARAMETER,
    "tablespaces": ObjectClass.TABLESPACE,
}
"""Members of ``objects`` that select by name."""

_COMMA = re.compile(r'("[^"]*")|\s*,\s*')
"""A comma between types, not one within a quoted name."""

_WITHOUT_SNAPSHOT = frozenset({ObjectClass.LARGE_OBJECT, ObjectClass.PARAMETER}) | frozenset(
    DEFAULT_CLASSES.values()
)
"""Named one by one, or no objects at all: there are no new ones to leave out."""


class Selector(NamedTuple):
    """Which objects of one database, and what is given on them. A tuple, since thousands are looked up in each pass."""

    object_class: ObjectClass
    schema: str | None
    names: tuple[str, ...]
    """Exact names; of default privileges, the creating role."""
    matching: tuple[str, ...]
    """Patterns of LIKE."""
    excluding: tuple[str, ...]
    """Patterns of LIKE."""
    access: AccessLevel | None
    """Set where what makes the objects usable comes along: USAGE on the schema, CONNECT on the database."""
    privileges: tuple[Privilege, ...]
    columns: tuple[str, ...] = ()
    """Of tables: the privileges are on these columns only."""
    grant_option: bool = False
    absent: bool = False
    """The grantees must not hold this."""
    snapshot: str | None = None
    """Set where objects that appear later are not to be granted (``newObjects: false``): names the set of objects that was
    found first."""

    def as_json(self, number: int, grantees: Iterable[int]) -> dict[str, Any]:
        """The form in which the database gets it (``rules.sql``)."""
        return {
            "id": number,
            "class": self.object_class.value,
            "schema": self.schema or "",
            "names": list(self.names),
            "matching": list(self.matching),
            "excluding": list(self.excluding),
            "columns": list(self.columns),
            "access": self.access.value if self.access else None,
            "privileges": [privilege.value for privilege in self.privileges],
            "option": self.grant_option,
            "absent": self.absent,
            "snapshot": self.snapshot,
            "grantees": sorted(grantees),
        }

    @property
    def is_for_all_creators(self) -> bool:
        """Default privileges of whoever creates something in a schema."""
        return self.object_class.is_default and not self.names


def selectors_of(grant: AccessGrant, major_version: int) -> tuple[Selector, ...]:
    """What ``spec.objects`` selects, with the privileges that this version of the server knows.

    Raises
    ------
    ValueError
        What the API server should have refused: one such entry would make the comparison fail for everybody.
    """
    spec = grant.spec
    privileges = tuple(sorted(p for p in spec.privileges or () if supported(p, major_version)))
    snapshot = None if spec.new_objects else f"{grant.metadata.uid}/{grant.metadata.generation}"
    selectors = dict.fromkeys(_selector(entry, spec, privileges, snapshot) for entry in spec.objects)
    return tuple(one for one in selectors if class_supported(one.object_class, major_version))


def _selector(
    entry: Objects, spec: AccessGrantSpec, privileges: tuple[Privilege, ...], snapshot: str | None
) -> Selector:
    object_class, schema, names, member = _selected(entry)
    columns = _distinct(entry.tables.columns) if entry.tables is not None else ()
    for name in _schemas_of(object_class, schema, names):
        if SYSTEM_SCHEMA.match(name):
            raise ValueError(f"spec.objects: {name} is a system schema")
    carrying = ObjectClass.COLUMN if columns else object_class
    if unfit := [privilege.value for privilege in privileges if privilege not in PRIVILEGES[carrying]]:
        raise ValueError(f"spec.privileges: a {carrying.value.lower()} has no privilege {', '.join(unfit)}")
    if spec.access is not None:
        levels = ACCESS_LEVELS.get(carrying)
        if levels is None:
            raise ValueError(
                f"spec.access says nothing of a {carrying.value.lower()}: list privileges instead"
            )
        privileges = levels[spec.access]
    return Selector(
        object_class,
        schema,
        names=_distinct(names),
        matching=_patterns(object_class, getattr(member, "matching", None)),
        excluding=_patterns(object_class, getattr(member, "except_", None)),
        access=spec.access,
        privileges=privileges,
        columns=columns,
        grant_option=spec.grant_option,
        absent=spec.ensure is Ensure.ABSENT,
        snapshot=None if object_class in _WITHOUT_SNAPSHOT else snapshot,
    )


def _distinct(names: Iterable[str] | None) -> tuple[str, ...]:
    """In order, each once."""
    return tuple(sorted(set(names))) if names else ()


def _patterns(object_class: ObjectClass, globs: list[str] | None) -> tuple[str, ...]:
    """Of parameters, case does not count: the catalog has them in lower case."""
    lower = object_class is ObjectClass.PARAMETER
    return _distinct(like_pattern(glob.lower() if lower else glob) for glob in globs or ())


def _selected(entry: Objects) -> tuple[ObjectClass, str | None, list[str], Model]:
    """Class, schema and exact names of what an entry selects."""
    if (defaults := entry.default_privileges) is not None:
        creator = [defaults.creator] if defaults.creator is not None else []
        return DEFAULT_CLASSES[defaults.object_type], defaults.schema_, creator, defaults
    if (large := entry.large_objects) is not None:
        return ObjectClass.LARGE_OBJECT, None, [str(oid) for oid in large.ids], large
    for member in entry.model_fields_set:
        if member in _CLASSES and (found := getattr(entry, member)) is not None:
            object_class = _CLASSES[member]
            names = [_normalized(object_class, name) for name in found.names or ()]
            return object_class, getattr(found, "schema_", None), names, found
    raise ValueError(
        "spec.objects: an entry is empty"
    )  # CEL lets exactly one through; an older CRD might not


def _schemas_of(object_class: ObjectClass, schema: str | None, names: list[str]) -> list[str]:
    return names if object_class is ObjectClass.SCHEMA else [schema] if schema is not None else []


def _normalized(object_class: ObjectClass, name: str) -> str:
    """A name as the catalog spells it.

    >>> _normalized(ObjectClass.ROUTINE, "f(integer,  s.t)")
    'f(integer,s.t)'
    """
    if object_class is ObjectClass.ROUTINE and "(" in name:
        bare, _, arguments = name.strip().removesuffix(")").partition("(")
        return f"{bare.strip()}({_COMMA.sub(lambda found: found[1] or ',', arguments.strip())})"
    return name.lower() if object_class is ObjectClass.PARAMETER else name
