"""Which Postgres role a person is: explicit mapping, else the same name, else none; case does not count."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from lakebase_operator.api.names import role_name_problem
from lakebase_operator.api.reasons import Reason
from lakebase_operator.api.user_mapping import MappingMode, UserMapping
from lakebase_operator.domain.near_names import did_you_mean


class Resolution(NamedTuple):
    """What became of a person's name.

    ``role`` is set only if ``state`` is ``RESOLVED``; ``candidates`` holds the names when they are ambiguous, and near ones
    where a role is missing.
    """

    state: Reason
    role: str | None = None
    wanted: str | None = None
    """The role name that was looked for."""
    candidates: tuple[str, ...] = ()

    @property
    def message(self) -> str:
        """One sentence for people."""
        match self.state:
            case Reason.RESOLVED:
                return f"The role is {self.role}."
            case Reason.AMBIGUOUS:
                names = ", ".join(self.candidates)
                return (
                    f"The roles {names} differ only in case, so none is chosen. Drop or rename one, or give access to "
                    "one by its exact name with kind: Role."
                )
            case Reason.NO_ACCOUNT:
                return "The mapping says that this user has no Postgres account."
            case Reason.RESERVED_NAME:
                return f'The role name "{self.wanted}" {role_name_problem(self.wanted or "")}.'
            case _:
                near = did_you_mean(self.candidates)
                return f'There is no role "{self.wanted}".{near} It is looked for at every sync.'


def fold(name: str) -> str:
    """The form in which names are compared. Not ``casefold``, which also takes ß for ss: two mailboxes, one role."""
    return name.lower()


class RoleNames:
    """The names of the roles of a server, found without regard to case."""

    def __init__(self, names: Iterable[str]) -> None:
        self._exact = frozenset(names)
        folded: dict[str, list[str]] = defaultdict(list)
        for name in self._exact:
            folded[fold(name)].append(name)
        self._folded = {key: tuple(sorted(group)) for key, group in folded.items()}

    def __contains__(self, name: str) -> bool:
        return name in self._exact

    def find(self, name: str) -> Resolution:
        """The one role of this name. Two that differ only in case are refused, even if one matches exactly:
        a person's name is typed by people, and granting to the wrong one of two look-alikes cannot be seen."""
        if role_name_problem(name):
            return Resolution(Reason.RESERVED_NAME, wanted=name)
        candidates = self._folded.get(fold(name), ())
        if len(candidates) > 1:
            return Resolution(Reason.AMBIGUOUS, wanted=name, candidates=candidates)
        if not candidates:
            return Resolution(Reason.NOT_FOUND, wanted=name)
        return Resolution(Reason.RESOLVED, role=candidates[0], wanted=name)


def resolve_mapping(mapping: UserMapping, roles: RoleNames) -> Resolution:
    """The role that a UserMapping leads to."""
    match mapping.spec.mapping:
        case MappingMode.NONE:
            return Resolution(Reason.NO_ACCOUNT)
        case MappingMode.EXPLICIT:
            return roles.find(mapping.spec.postgres_username or "")
        case MappingMode.SAME_NAME:
            return roles.find(mapping.spec.user)


class People:
    """Resolves the users of AccessGrants on one connection.

    A mapping in the connection's own namespace holds for everybody who uses the connection, and wins; a mapping in
    another namespace holds for that namespace's AccessGrants only, so that no team can redirect another's grants.
    Within a namespace a mapping that names the connection wins over one for all connections, then the older one.
    """

    def __init__(self, connection_namespace: str, mappings: Iterable[UserMapping], roles: RoleNames) -> None:
        self._home = connection_namespace
        self._roles = roles
        self._mappings: dict[tuple[str, str], UserMapping] = {}
        self.shadowed: dict[str, UserMapping] = {}
        """Mappings that do not count, by uid, with the one that does."""
        ordered = sorted(mappings, key=_precedence)
        self.about = tuple((one.metadata.uid, one.metadata.generation) for one in ordered)
        """Identifies the mappings."""
        for mapping in ordered:
            key = (mapping.metadata.namespace, fold(mapping.spec.user))
            winner = self._mappings.setdefault(key, mapping)
            same_scope = (winner.spec.connection_ref is None) == (mapping.spec.connection_ref is None)
            if winner is not mapping and same_scope:
                self.shadowed[mapping.metadata.uid] = winner

    def resolve(self, user: str, namespace: str) -> Resolution:
        """The role of ``user`` for an AccessGrant in ``namespace``."""
        mapping = self._mapping(user, namespace)
        return resolve_mapping(mapping, self._roles) if mapping else self._roles.find(user)

    def decides(self, mapping: UserMapping) -> bool:
        """Whether it is this mapping that counts for its user in its namespace."""
        return self._mapping(mapping.spec.user, mapping.metadata.namespace) is mapping

    def _mapping(self, user: str, namespace: str) -> UserMapping | None:
        folded = fold(user)
        return self._mappings.get((self._home, folded)) or self._mappings.get((namespace, folded))


def _precedence(mapping: UserMapping) -> tuple[bool, str, str, str]:
    meta = mapping.metadata
    created = meta.creation_timestamp.isoformat() if meta.creation_timestamp else ""
    return (mapping.spec.connection_ref is None, created, meta.namespace, meta.name)


def unmapped(resolutions: Mapping[str, Resolution]) -> tuple[str, ...]:
    """Names of those without a role, sorted."""
    return tuple(sorted(name for name, found in resolutions.items() if found.role is None))
