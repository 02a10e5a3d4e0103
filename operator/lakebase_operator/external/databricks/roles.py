"""Roles as the Databricks API knows them, for what SQL cannot do on a Lakebase: membership in databricks_superuser, and a password
where verifiers are refused."""

from typing import Any, Protocol
from urllib.parse import quote, unquote

from databricks.sdk import WorkspaceClient
from databricks.sdk.service.postgres import RoleAuthMethod

from lakebase_operator.api.reasons import Reason
from lakebase_operator.domain.errors import InvalidError, NotReadyError, TransientError

from .calls import Calls
from .errors import Task
from .instances import Progress, follow
from .targets import AutoscalingTarget, ProvisionedTarget, Target

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

    def password_problem(self) -> str | None:
        """Why Databricks makes no passwords for roles of this target, as a sentence; None: it does."""

    async def make_password(self, role: str) -> str:
        """Ask that a role, which is there, log in with a new password that Databricks makes. Its attributes and its membership in
        databricks_superuser stay.

        Returns the name of the operation that does it.
        """

    async def reveal_password(self, role: str) -> str:
        """The password that Databricks has for a role."""

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
        path = await self._path(self._target, role)
        doing = (
            "giving role {} databricks_superuser" if member else "taking databricks_superuser from role {}"
        )
        return await self._call(
            Task(doing.format(role), self._needs), lambda client: _set_superuser(client, path, member=member)
        )

    def password_problem(self) -> str | None:
        """See :class:`RoleApi`."""
        if isinstance(self._target, ProvisionedTarget):
            return "The Databricks API makes no passwords for the roles of a database instance."
        return None

    async def make_password(self, role: str) -> str:
        """See :class:`RoleApi`."""
        target = self._project()
        path = await self._path(target, role)
        return await self._call(
            Task(f"having Databricks make a password for role {role}", self._needs),
            lambda client: _make_password(client, target.branch_path, path, role),
        )

    async def reveal_password(self, role: str) -> str:
        """See :class:`RoleApi`."""
        path = await self._path(self._project(), role)
        return await self._call(
            Task(f"asking Databricks for the password of role {role}", self._needs),
            lambda client: _reveal_password(client, path),
        )

    def _project(self) -> AutoscalingTarget:
        if isinstance(self._target, ProvisionedTarget):
            raise InvalidError(Reason.PASSWORD_REFUSED, self.password_problem() or "")
        return self._target

    async def _path(self, target: AutoscalingTarget, role: str) -> str:
        """Resource name of a role.

        Raises
        ------
        NotReadyError
            The API does not know it yet.
        """
        path = await self._call(
            Task(f"looking for role {role}", self._needs),
            lambda client: _find(client, target.branch_path, role),
        )
        if path is None:
            raise NotReadyError(
                Reason.ROLE_MISSING,
                f'The Databricks API does not know the role "{role}" of branch {target.branch} yet. It is asked again shortly.',
            )
        return path

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
    return _operation(
        _do(client, "PATCH", path, query={"update_mask": "spec.membership_roles"}, body={"spec": spec})
    )


def _make_password(client: WorkspaceClient, branch: str, path: str, role: str) -> str:
    """Replacing a role overwrites what the API has of it, so all of that is sent, as the API spells it; and a role whose method is
    a password gets one from Databricks."""
    status = _do(client, "GET", path).get("status") or {}
    spec = {
        "postgres_role": role,
        "auth_method": RoleAuthMethod.PG_PASSWORD_SCRAM_SHA_256.value,
        "attributes": status.get("attributes") or {},
        "membership_roles": status.get("membership_roles") or [],
    }
    query = {"role_id": unquote(path.rpartition("/")[2]), "replace_existing": "true"}
    return _operation(_do(client, "POST", f"{branch}/roles", query=query, body={"spec": spec}))


def _reveal_password(client: WorkspaceClient, path: str) -> str:
    password = _do(client, "POST", f"{path}/password", body={}).get("password")
    if not password:
        raise TransientError(
            Reason.CONTROL_PLANE_ERROR,
            "The Databricks API reveals no password of the role. It is asked again.",
        )
    return str(password)


def _operation(answer: dict[str, Any]) -> str:
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
