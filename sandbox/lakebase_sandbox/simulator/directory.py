"""The workspace's identities: users, service principals and groups."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace

from lakebase_sandbox.postgres import Identity, IdentityKind
from lakebase_sandbox.simulator.settings import FederationPolicy


@dataclass(frozen=True, slots=True)
class Entry:
    """An identity with what only the workspace knows about it.

    Parameters:
        display_name: for people; a service principal's differs from its application id.
        secret: the OAuth secret of a service principal, if it has one.
        members: of a group, the SCIM ids in it.
    """

    identity: Identity
    display_name: str
    secret: str | None = None
    members: frozenset[str] = frozenset()


def kind_of(name: str) -> IdentityKind:
    """What kind of identity a name most likely is: an e-mail address is a user, anything else a service principal."""
    return IdentityKind.USER if "@" in name else IdentityKind.SERVICE_PRINCIPAL


class Directory:
    """All identities, and which foreign tokens stand for them.

    Parameters:
        changed: called after every change of the set of identities.
    """

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._entries: dict[str, Entry] = {}
        self._next_id = 7_000_000_000_000_001
        self.federation_policies: list[FederationPolicy] = []

    def entries(self, kind: IdentityKind) -> list[Entry]:
        return [e for e in self._entries.values() if e.identity.kind is kind]

    def identities(self) -> list[Identity]:
        return [e.identity for e in self._entries.values()]

    def secrets(self) -> list[str]:
        return [e.secret for e in self._entries.values() if e.secret]

    def by_id(self, id_: str) -> Entry | None:
        return self._entries.get(id_)

    def find(self, kind: IdentityKind, name: str) -> Entry | None:
        return next((e for e in self.entries(kind) if e.identity.name == name), None)

    def find_any(self, name: str) -> Entry | None:
        """The identity of that name; of several, a group comes first, as only it shares no name space."""
        kinds = (IdentityKind.GROUP, IdentityKind.USER, IdentityKind.SERVICE_PRINCIPAL)
        return next((e for kind in kinds if (e := self.find(kind, name))), None)

    def add(self, identity: Identity, *, display_name: str = "", secret: str | None = None) -> Entry:
        """Add an identity under its own id, or replace the one that has it."""
        entry = Entry(identity, display_name or identity.name, secret)
        self._entries[identity.id] = entry
        self._changed()
        return entry

    def ensure(self, kind: IdentityKind, name: str) -> Entry:
        """The identity of that kind and name, made if it is new; a new service principal gets a secret."""
        if found := self.find(kind, name):
            return found
        secret = new_secret() if kind is IdentityKind.SERVICE_PRINCIPAL else None
        return self.add(Identity(name, kind, self._new_id()), secret=secret)

    def remove(self, id_: str) -> None:
        del self._entries[id_]
        for entry in list(self._entries.values()):
            if id_ in entry.members:
                self._entries[entry.identity.id] = replace(entry, members=entry.members - {id_})
        self._changed()

    def set_members(self, group: Entry, members: frozenset[str]) -> Entry:
        """Give a group exactly these members (SCIM ids)."""
        updated = replace(group, members=members)
        self._entries[group.identity.id] = updated
        return updated

    def set_secret(self, principal: Entry, secret: str) -> Entry:
        updated = replace(principal, secret=secret)
        self._entries[principal.identity.id] = updated
        return updated

    def is_member(self, id_: str, group_id: str) -> bool:
        """Whether an identity belongs to a group, directly or through other groups."""
        group = self._entries.get(group_id)
        if group is None:
            return False
        return id_ in group.members or any(
            self.is_member(id_, member) for member in group.members if member != group_id
        )

    def _new_id(self) -> str:
        self._next_id += 1
        return str(self._next_id)


def new_secret() -> str:
    """A secret in the form that Databricks gives them."""
    return "dose" + secrets.token_hex(16)
