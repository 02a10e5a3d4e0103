"""From AccessGrants to rules: which objects, which privileges, which grantees.

An AccessGrant becomes a few :class:`Selector` and a set of grantees. Equal selectors of many AccessGrants are merged,
so the database is asked once for each: what is declared on it is the union of all that have it.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, TypeAlias

from lakebase_operator.api.access_grant import AccessGrant, AccessGrantSpec, Ensure
from lakebase_operator.api.objects import Privilege
from lakebase_operator.domain.people import Resolution
from lakebase_operator.domain.privileges import ObjectClass
from lakebase_operator.domain.selectors import Selector

PUBLIC = "PUBLIC"
"""The grantee that stands for everybody. No role can have this name (``api.names``)."""

Subjects: TypeAlias = Mapping[str, Resolution]
"""By name as in the spec; PUBLIC for everybody."""


class Declared(NamedTuple):
    """One AccessGrant with its subjects resolved."""

    grant: AccessGrant
    subjects: Subjects
    selectors: tuple[Selector, ...]
    grantees: frozenset[str]
    """Roles that exist, or PUBLIC."""
    active: bool
    """Declares something now: neither suspended, nor outside its time, nor being deleted."""

    @property
    def absent(self) -> bool:
        """It declares what must not be held."""
        return self.grant.spec.ensure is Ensure.ABSENT

    @property
    def reaches_far(self) -> bool:
        """It decides over what other AccessGrants say or give, also those of other roles: an absence takes away what others give,
        everybody's privileges are in the way of absences, and CREATE on a schema makes creators of default privileges."""
        return self.active and (
            self.absent
            or PUBLIC in self.grantees
            or any(
                one.object_class is ObjectClass.SCHEMA and Privilege.CREATE in one.privileges
                for one in self.selectors
            )
        )


@dataclass(frozen=True, slots=True)
class Desired:
    """The union of all that is declared of one database: every selector once, in parallel tuples."""

    selectors: tuple[Selector, ...]
    grantees: tuple[frozenset[str], ...]
    declared_by: tuple[tuple[Declared, ...], ...]
    """The AccessGrants that have the selector."""


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


def desired_in(
    database: str,
    declared: Iterable[Declared],
    *,
    home: bool = True,
    others: bool = False,
    focus: frozenset[str] | None = None,
) -> Desired:
    """The union of what is declared of one database: every selector once, with the grantees of all. Order does not matter.

    Databases themselves belong to the whole server: every AccessGrant may speak of this one, and the home database answers for
    what else belongs to the server.

    Parameters
    ----------
    database
        Its name.
    declared
        AccessGrants of the connection, whatever their database.
    home
        It is the connection's home database.
    others
        The connection has other databases, too.
    focus
        Only what concerns these roles, and AccessGrants whose roles are all missing. None: everything.
    """
    declared_by: dict[Selector, list[Declared]] = defaultdict(list)
    for item in declared:
        if not item.active or (focus is not None and item.grantees and focus.isdisjoint(item.grantees)):
            continue
        here = item.grant.spec.database == database
        for selector in item.selectors:
            thing = selector.object_class
            if (home or (others and thing is ObjectClass.DATABASE)) if thing.is_shared else here:
                declared_by[selector].append(item)
    grantees = (frozenset().union(*(item.grantees for item in of)) for of in declared_by.values())
    return Desired(
        selectors=tuple(declared_by),
        grantees=tuple(names if focus is None else names & focus for names in grantees),
        declared_by=tuple(tuple(of) for of in declared_by.values()),
    )


def as_json(desired: Desired, oids: Mapping[str, int]) -> list[dict[str, Any]]:
    """The rules in the form that ``rules.sql`` reads. Grantees without a role are left out.

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
