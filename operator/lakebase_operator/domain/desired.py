"""From AccessGrants to rules: which objects, which privileges, which grantees.

An AccessGrant becomes a few :class:`Selector` and a set of grantees. Equal selectors of many AccessGrants are merged,
so the database is asked once for each: what is declared on it is the union of all rules.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from lakebase_operator.api.access_grant import AccessGrant, AccessGrantSpec, AccessLevel, Objects, Privilege
from lakebase_operator.api.names import SYSTEM_SCHEMA
from lakebase_operator.domain.patterns import like_pattern
from lakebase_operator.domain.privileges import PRIVILEGES, ObjectClass, supported

PUBLIC = "PUBLIC"
"""The grantee that stands for everybody. No role can have this name (``api.names``)."""


@dataclass(frozen=True, slots=True)
class Selector:
    """Which objects of one database, and what is given on them.

    Exactly one of ``access`` and ``privileges`` says what. ``snapshot`` is set where objects that appear later are not
    to be granted (``newObjects: false``): it names the set of objects that was found first.
    """

    object_class: ObjectClass
    schema: str | None
    names: tuple[str, ...]
    matching: tuple[str, ...]
    """Patterns of LIKE."""
    excluding: tuple[str, ...]
    """Patterns of LIKE."""
    access: AccessLevel | None
    privileges: tuple[Privilege, ...]
    snapshot: str | None = None

    def as_json(self, number: int, grantees: Iterable[int]) -> dict[str, Any]:
        """The form in which the database gets it (``compare.sql``)."""
        return {
            "id": number,
            "class": self.object_class.value,
            "schema": self.schema,
            "names": list(self.names),
            "matching": list(self.matching),
            "excluding": list(self.excluding),
            "access": self.access.value if self.access else None,
            "privileges": [privilege.value for privilege in self.privileges],
            "snapshot": self.snapshot,
            "grantees": sorted(grantees),
        }


@dataclass(frozen=True, slots=True)
class Rule:
    """What one AccessGrant declares in one database."""

    grant: str
    """uid of the AccessGrant."""
    selectors: tuple[Selector, ...]
    grantees: frozenset[str]
    """Role names, or PUBLIC."""


@dataclass(frozen=True, slots=True)
class Desired:
    """The union of all rules of one database."""

    selectors: tuple[Selector, ...]
    grantees: tuple[frozenset[str], ...]
    """Of the selector at the same place."""
    rules: tuple[Rule, ...]


def is_active(spec: AccessGrantSpec, now: datetime) -> bool:
    """Whether the grant gives anything now."""
    return (
        not spec.suspend
        and (spec.not_before is None or spec.not_before <= now)
        and (spec.expires_at is None or now < spec.expires_at)
    )


def next_change(specs: Iterable[AccessGrantSpec], now: datetime) -> datetime | None:
    """The next moment at which time alone changes what is declared."""
    moments = [
        moment
        for spec in specs
        for moment in (spec.not_before, spec.expires_at)
        if moment is not None and moment > now
    ]
    return min(moments, default=None)


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
    return tuple(dict.fromkeys(_selector(entry, spec.access, privileges, snapshot) for entry in spec.objects))


def _selector(
    entry: Objects, access: AccessLevel | None, privileges: tuple[Privilege, ...], snapshot: str | None
) -> Selector:
    member, object_class, schema = (
        (entry.tables, ObjectClass.TABLE, entry.tables.schema_)
        if entry.tables
        else (entry.schemas, ObjectClass.SCHEMA, None)
        if entry.schemas
        else (entry.databases, ObjectClass.DATABASE, None)
    )
    if member is None:  # CEL lets exactly one through; an older CRD might not
        raise ValueError("spec.objects: an entry names neither tables nor schemas nor databases")
    named = [schema] if schema is not None else member.names or () if entry.schemas else ()
    if system := next((name for name in named if SYSTEM_SCHEMA.match(name)), None):
        raise ValueError(f"spec.objects: {system} is a system schema")
    if unfit := [privilege.value for privilege in privileges if privilege not in PRIVILEGES[object_class]]:
        raise ValueError(
            f"spec.privileges: a {object_class.value.lower()} has no privilege {', '.join(unfit)}"
        )
    return Selector(
        object_class=object_class,
        schema=schema,
        names=tuple(sorted(set(member.names or ()))),
        matching=tuple(sorted({like_pattern(glob) for glob in member.matching or ()})),
        excluding=tuple(sorted({like_pattern(glob) for glob in member.except_ or ()})),
        access=access,
        privileges=privileges,
        snapshot=snapshot,
    )


def merge(rules: Iterable[Rule]) -> Desired:
    """The union of rules: every selector once, with the grantees of all its rules. Order does not matter."""
    kept = tuple(rules)
    grantees: dict[Selector, set[str]] = defaultdict(set)
    for rule in kept:
        for selector in rule.selectors:
            grantees[selector] |= rule.grantees
    return Desired(
        selectors=tuple(grantees), grantees=tuple(frozenset(names) for names in grantees.values()), rules=kept
    )


def as_json(desired: Desired, oids: Mapping[str, int]) -> list[dict[str, Any]]:
    """The rules in the form that ``compare.sql`` reads. Grantees without a role are left out.

    Parameters
    ----------
    desired
        The union of all rules of the database.
    oids
        OID of each role; PUBLIC is 0, as in ``aclitem``.
    """
    known = {**oids, PUBLIC: 0}
    return [
        selector.as_json(number, [known[name] for name in names if name in known])
        for number, (selector, names) in enumerate(zip(desired.selectors, desired.grantees, strict=True))
    ]
