"""AccessGrants with their subjects resolved: who is meant, as which role."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from lakebase_operator.api import AccessGrant
from lakebase_operator.api.access_grant import Ensure, SubjectKind
from lakebase_operator.api.names import role_name_problem
from lakebase_operator.api.reasons import Reason
from lakebase_operator.domain.desired import PUBLIC, Selector, is_active, selectors_of
from lakebase_operator.domain.people import People, Resolution
from lakebase_operator.reconcilers.roles import Roles
from lakebase_operator.reconcilers.view import is_deleting


@dataclass(frozen=True, slots=True)
class Declared:
    """One AccessGrant with its subjects resolved."""

    grant: AccessGrant
    subjects: Mapping[str, Resolution]
    """By name as in the spec; PUBLIC for everybody."""
    selectors: tuple[Selector, ...]
    active: bool
    """Declares something now: neither suspended, nor outside its time, nor being deleted."""
    grantees: frozenset[str] = field(init=False)
    """Roles that exist."""

    def __post_init__(self) -> None:
        roles = frozenset(found.role for found in self.subjects.values() if found.role is not None)
        object.__setattr__(self, "grantees", roles)

    @property
    def absent(self) -> bool:
        """It declares what must not be held."""
        return self.grant.spec.ensure is Ensure.ABSENT


def declare(grant: AccessGrant, people: People, roles: Roles, major_version: int, now: datetime) -> Declared:
    """Resolve one AccessGrant.

    Raises
    ------
    ValueError
        It cannot be declared; the message is for its author.
    """
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
    active = is_active(grant.spec, now) and not is_deleting(grant)
    return Declared(grant, subjects, selectors_of(grant, major_version), active)


def _role(name: str, roles: Roles) -> Resolution:
    """A role by its exact name. ``"PUBLIC"`` can be one, and would be taken for everybody."""
    if role_name_problem(name):
        return Resolution(Reason.RESERVED_NAME, wanted=name)
    if name in roles.states:
        return Resolution(Reason.RESOLVED, name, name)
    return Resolution(Reason.ROLE_MISSING, wanted=name, candidates=roles.near(name))
