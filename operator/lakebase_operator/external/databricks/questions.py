"""The requests that the operator makes of a workspace. Blocking: each runs in a thread."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Literal

from databricks.sdk import WorkspaceClient
from databricks.sdk.service.postgres import EndpointType

from lakebase_operator.api.reasons import Reason
from lakebase_operator.domain.errors import InvalidError, TransientError
from lakebase_operator.domain.instance import Instance, InstanceState

from . import states
from .targets import AutoscalingTarget, ProvisionedTarget, Target

IdentityKind = Literal["User", "ServicePrincipal", "Group"]

# States of an endpoint that its branch may explain. The others need no second request.
_ASK_THE_BRANCH = (InstanceState.STARTING, InstanceState.UNKNOWN)


def state(workspace: WorkspaceClient, target: Target) -> Instance:
    """State and host of a database server: one request, or two for an endpoint that is not available.

    Raises
    ------
    InvalidError
        The endpoint is a read-only one.
    """
    match target:
        case AutoscalingTarget():
            status = workspace.postgres.get_endpoint(target.path).status
            if status is not None and status.endpoint_type is EndpointType.ENDPOINT_TYPE_READ_ONLY:
                raise InvalidError(
                    Reason.READ_ONLY_ENDPOINT,
                    f"The {target} is read-only: name the read-write endpoint of branch {target.branch} in "
                    f"spec.target.autoscaling.",
                )
            instance = states.of_endpoint(status)
            if instance.state not in _ASK_THE_BRANCH:
                return instance
            return states.with_branch(instance, workspace.postgres.get_branch(target.branch_path).status)
        case ProvisionedTarget():
            return states.of_instance(workspace.database.get_database_instance(target.path))


def native_login(workspace: WorkspaceClient, target: Target) -> bool:
    """Whether roles may log in with a PostgreSQL password. An Autoscaling project says so for all its endpoints."""
    match target:
        case AutoscalingTarget():
            status = workspace.postgres.get_project(target.project_path).status
            return bool(status is not None and status.enable_pg_native_login)
        case ProvisionedTarget():
            instance = workspace.database.get_database_instance(target.path)
            return bool(instance.effective_enable_pg_native_login)


def credential(workspace: WorkspaceClient, target: Target) -> tuple[str, datetime]:
    """A new token for the database, and when it expires.

    Raises
    ------
    TransientError
        The answer has no token, or no time that can be read.
    """
    token: str | None
    expires: datetime | None
    match target:
        case AutoscalingTarget():
            endpoint_credential = workspace.postgres.generate_database_credential(target.name)
            token, expire_time = endpoint_credential.token, endpoint_credential.expire_time
            expires = expire_time.ToDatetime(UTC) if expire_time else None
        case ProvisionedTarget():
            instance_credential = workspace.database.generate_database_credential(
                instance_names=[target.instance]
            )
            token, expires = instance_credential.token, _time(instance_credential.expiration_time)
    if not token or expires is None:
        raise TransientError(
            Reason.CONTROL_PLANE_ERROR,
            f"Databricks gives no usable database credential for {target}: token or time of expiry is missing. It is tried again.",
        )
    return token, expires


def own_name(workspace: WorkspaceClient) -> str:
    """The user name of the identity that is logged in.

    Raises
    ------
    TransientError
        The answer has none.
    """
    name = workspace.current_user.me().user_name
    if not name:
        raise TransientError(
            Reason.CONTROL_PLANE_ERROR,
            "The Databricks workspace does not say who the operator is. It is tried again.",
        )
    return name


def identity_exists(workspace: WorkspaceClient, kind: IdentityKind, name: str) -> bool:
    """Whether the workspace knows a user (e-mail address), service principal (application id) or group (display name)."""
    literal = json.dumps(name, ensure_ascii=False)  # a SCIM filter's literals are JSON (RFC 7644, 3.4.2.2)
    names: Iterable[str | None]
    match kind:
        case "User":
            users = workspace.users_v2.list(filter=f"userName eq {literal}", attributes="userName")
            names = (user.user_name for user in users)
        case "ServicePrincipal":
            principals = workspace.service_principals_v2.list(
                filter=f"applicationId eq {literal}", attributes="applicationId"
            )
            names = (principal.application_id for principal in principals)
        case "Group":
            groups = workspace.groups_v2.list(filter=f"displayName eq {literal}", attributes="displayName")
            names = (group.display_name for group in groups)
    wanted = name.casefold()
    return any(found is not None and found.casefold() == wanted for found in names)


def _time(text: str | None) -> datetime | None:
    try:
        time = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return time if time.tzinfo else time.replace(tzinfo=UTC)
