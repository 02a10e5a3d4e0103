"""Databricks identities as a Postgres compute sees them."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class IdentityKind(StrEnum):
    """What a Databricks identity is; the value is the spelling of security labels and `databricks_list_roles`."""

    USER = "user"
    SERVICE_PRINCIPAL = "service_principal"
    GROUP = "group"


@dataclass(frozen=True, slots=True)
class Identity:
    """One identity of the workspace.

    Parameters:
        name: the Postgres role name: e-mail of a user, application id of a service principal, name of a group.
        kind: user, service principal or group.
        id: its SCIM id, the part of the security label that a role is bound to.
    """

    name: str
    kind: IdentityKind
    id: str

    @property
    def label(self) -> str:
        """The security label that binds a role to this identity."""
        return f"id={self.id},type={self.kind.value}"


PROJECT_OWNER = Identity("owner@example.com", IdentityKind.USER, "4815162301")
OPERATOR = Identity("1f0c7f0e-6d2b-4c55-9a43-5f2d7a1be0c1", IdentityKind.SERVICE_PRINCIPAL, "4815162302")


def identities_json(identities: Iterable[Identity]) -> str:
    """The document that `databricks_create_role` reads inside Postgres."""
    return json.dumps([{"name": i.name, "type": i.kind.value, "id": i.id} for i in identities])
