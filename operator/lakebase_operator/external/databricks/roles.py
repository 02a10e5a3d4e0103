"""Roles as the Databricks API knows them, for the one thing that SQL cannot do on a Lakebase: membership in databricks_superuser."""

from typing import Any, Protocol
from urllib.parse import quote

from databricks.sdk import WorkspaceClient

from lakebase_operator.api.reasons import Reason
from lakebase_operator.domain.errors import InvalidError, NotReadyError, TransientError

from .calls import Calls
from .errors import Task
from .instances import Progress, follow
from .targets import ProvisionedTarget, Target

SUPERUSER = "DATABRICKS_SUPERUSER"
"""The membership, as the API spells it."""


class RoleApi(Protocol):
    """What the operator asks of a workspace about the roles of one target.

    All methods raise :class:`~lakebase_operator.domain.errors.LakebaseError` and nothing else.
    """

    def problem(self, role: str, *, member: bool) -> InvalidError | None:
        """Why it is of no use to ask for this at all; None: it can be asked for."""

    async def set_superuser(self, role: str, *, member: bool) -> str | None:
        """Ask that a role become a member of databricks_superuser, or be none any more. Its other memberships stay.

        Returns the name of the operation that does it; None if there is nothing to do.
        """

    async def follow(self, operation: str) -> Progress:
        """How far an operation is."""


class DatabricksRoles:
    """Roles of one target."""

    def __init__(self, call: Calls, target: Target) -> None:
        self._call = call
        self._target = target
        self._needs = f"CAN_MANAGE on {target.owner}"

    def problem(self, role: str, *, member: bool) -> InvalidError | None:
        """See :class:`RoleApi`."""
        if isinstance(self._target, ProvisionedTarget):
            return _only_at_birth(self._target.instance, role, member=member)
        return None

    async def set_superuser(self, role: str, *, member: bool) -> str | None:
        """See :class:`RoleApi`."""
        if isinstance(self._target, ProvisionedTarget):
            raise _only_at_birth(self._target.instance, role, member=member)
        branch = self._target.branch_path
        path = await self._call(
            Task(f"looking for role {role}", self._needs), lambda client: _find(client, branch, role)
        )
        if path is None:
            raise NotReadyError(
                Reason.ROLE_MISSING,
                f'The Databricks API does not know the role "{role}" of branch {self._target.branch} yet. It is asked again shortly.',
            )
        doing = (
            "giving role {} databricks_superuser" if member else "taking databricks_superuser from role {}"
        )
        return await self._call(
            Task(doing.format(role), self._needs), lambda client: _set_superuser(client, path, member=member)
        )

    async def follow(self, operation: str) -> Progress:
        """See :class:`RoleApi`."""
        return await follow(self._call, operation)


def _only_at_birth(instance: str, role: str, *, member: bool) -> InvalidError:
    """The API of instances has no way to change a role (``w.database`` has no update of instance roles)."""
    if member:
        advice = (
            f"if no role can be lost by it, drop the role and make it anew with that membership, on the page of the instance "
            f"under Roles, or with POST /api/2.0/database/instances/{quote(instance, safe='')}/roles and "
            f'"membership_role": "{SUPERUSER}"; it is taken over. Or somebody with ADMIN option on databricks_superuser runs: '
            f'GRANT databricks_superuser TO "{role}"'
        )
    else:
        advice = f'somebody with ADMIN option on databricks_superuser must run: REVOKE databricks_superuser FROM "{role}"'
    return InvalidError(
        Reason.MISSING_DATABRICKS_SUPERUSER if member else Reason.UNREVOCABLE,
        f"The Databricks API gives membership in databricks_superuser on a database instance only when it makes a role: {advice}",
    )


def _find(client: WorkspaceClient, branch: str, role: str) -> str | None:
    """Resource name of a role for a URL: its id is not the role's name."""
    for one in client.postgres.list_roles(branch):
        if one.status is not None and one.status.postgres_role == role and one.name:
            return quote(one.name, safe="/")
    return None


def _set_superuser(client: WorkspaceClient, path: str, *, member: bool) -> str | None:
    """The list of memberships is overwritten as a whole, and the SDK leaves out what it does not know: so the list is read and
    written as the API spells it, or else an unknown membership would be taken away."""
    found = _do(client, "GET", path)
    before = list((found.get("status") or {}).get("membership_roles") or [])
    after = [one for one in before if one != SUPERUSER] + ([SUPERUSER] if member else [])
    if sorted(after) == sorted(before):
        return None
    spec = {"membership_roles": after} if after else {}
    answer = _do(client, "PATCH", path, query={"update_mask": "spec.membership_roles"}, body={"spec": spec})
    name = answer.get("name")
    if not name:
        raise TransientError(
            Reason.CONTROL_PLANE_ERROR,
            "The Databricks API names no operation for the change of a role. It is tried again.",
        )
    return str(name)


def _do(client: WorkspaceClient, method: str, path: str, **request: Any) -> dict[str, Any]:
    headers = {"Accept": "application/json", "Content-Type": "application/json"}
    if client.config.workspace_id:
        headers["X-Databricks-Workspace-Id"] = client.config.workspace_id
    answer = client.api_client.do(method, f"/api/2.0/postgres/{path}", headers=headers, **request)
    return answer if isinstance(answer, dict) else {}
