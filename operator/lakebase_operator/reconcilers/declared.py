"""AccessGrants with their subjects resolved: who is meant, as which role."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from lakebase_operator.api import AccessGrant
from lakebase_operator.api.access_grant import SubjectKind
from lakebase_operator.api.names import role_name_problem
from lakebase_operator.api.reasons import Reason
from lakebase_operator.domain.desired import PUBLIC, Declared, Subjects, is_active
from lakebase_operator.domain.people import People, Resolution
from lakebase_operator.domain.selectors import Selector, selectors_of
from lakebase_operator.reconcilers.roles import Roles
from lakebase_operator.reconcilers.view import is_deleting


def declare(grant: AccessGrant, people: People, roles: Roles, major_version: int, now: datetime) -> Declared:
    """Resolve one AccessGrant.

    Raises
    ------
    ValueError
        It cannot be declared; the message is for its author.
    """
    subjects = _subjects(grant, people, roles)
    selectors = selectors_of(grant, major_version)
    return Declared(grant, subjects, selectors, _grantees(subjects), _is_active(grant, now))


@dataclass(frozen=True, slots=True)
class _Resolved:
    """What became of an AccessGrant of one generation."""

    generation: int
    subjects: Subjects
    selectors: tuple[Selector, ...]
    grantees: frozenset[str]


@dataclass(slots=True)
class Declarations:
    """Resolves AccessGrants, and keeps from pass to pass what came of it: only what has changed is resolved again."""

    _about: object = None
    """The roles, the mappings and the version that everything was resolved with."""
    _resolved: dict[str, _Resolved] = field(default_factory=dict)
    """By uid."""
    _shared: dict[object, Any] = field(default_factory=dict)
    """Many AccessGrants mean the same subjects and the same objects: each is kept once."""

    def declare(
        self, grant: AccessGrant, people: People, roles: Roles, major_version: int, now: datetime
    ) -> Declared:
        """As the function :func:`declare`, after :meth:`begin`."""
        meta = grant.metadata
        known = self._resolved.get(meta.uid)
        if known is None or known.generation != meta.generation:
            subjects, selectors = _subjects(grant, people, roles), selectors_of(grant, major_version)
            grantees = _grantees(subjects)
            known = self._resolved[meta.uid] = _Resolved(
                meta.generation,
                self._shared.setdefault(tuple(subjects.items()), subjects),
                self._shared.setdefault(selectors, selectors),
                self._shared.setdefault(grantees, grantees),
            )
        return Declared(grant, known.subjects, known.selectors, known.grantees, _is_active(grant, now))

    def begin(self, people: People, roles: Roles, major_version: int) -> None:
        """Forget everything if subjects may mean something else than in the last pass."""
        about = (people.about, frozenset(roles.states), major_version)
        if about != self._about:
            self._about = about
            self._resolved.clear()
            self._shared.clear()

    def keep_only(self, grants: Iterable[AccessGrant]) -> None:
        """Forget AccessGrants that are not there any more, and what only they meant."""
        uids = {grant.metadata.uid for grant in grants}
        self._resolved = {uid: known for uid, known in self._resolved.items() if uid in uids}
        used = {
            id(part)
            for known in self._resolved.values()
            for part in (known.subjects, known.selectors, known.grantees)
        }
        self._shared = {key: part for key, part in self._shared.items() if id(part) in used}


def _is_active(grant: AccessGrant, now: datetime) -> bool:
    return is_active(grant.spec, now) and not is_deleting(grant)


def _grantees(subjects: Subjects) -> frozenset[str]:
    return frozenset(found.role for found in subjects.values() if found.role is not None)


def _subjects(grant: AccessGrant, people: People, roles: Roles) -> Subjects:
    subjects: dict[str, Resolution] = {}
    for subject in grant.spec.subjects:
        name = subject.name or PUBLIC
        match subject.kind:
            case SubjectKind.PUBLIC:
                found = Resolution(Reason.RESOLVED, PUBLIC, PUBLIC)
            case SubjectKind.ROLE:
                found = _role(name, roles)
            case SubjectKind.USER:
                found = people.resolve(name, grant.metadata.namespace)
        if subjects.setdefault(name, found) != found:  # a person and another role of one name
            subjects[f"{name} ({subject.kind})"] = found
    return subjects


def _role(name: str, roles: Roles) -> Resolution:
    """A role by its exact name. ``"PUBLIC"`` can be one, and would be taken for everybody."""
    if role_name_problem(name):
        return Resolution(Reason.RESERVED_NAME, wanted=name)
    if name in roles.states:
        return Resolution(Reason.RESOLVED, name, name)
    return Resolution(Reason.ROLE_MISSING, wanted=name, candidates=roles.near(name))
