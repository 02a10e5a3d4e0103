"""How the operator logs in to a Databricks workspace: two ways for a service principal, as values."""

from dataclasses import dataclass, field
from pathlib import Path

from lakebase_operator.api.reasons import Reason
from lakebase_operator.domain.errors import InvalidError


@dataclass(frozen=True, slots=True)
class OAuthM2M:
    """OAuth machine-to-machine: the client id of a service principal and one of its OAuth secrets.

    Parameters
    ----------
    client_id
        Application id of the service principal. Any non-empty text: it is not assumed to be a UUID.
    client_secret
        Goes to the workspace's token endpoint and nowhere else.

    Raises
    ------
    InvalidError
        The id or the secret is empty or has white space around it, as ``echo`` without ``-n`` leaves behind.
    """

    client_id: str
    client_secret: str = field(repr=False)

    def __post_init__(self) -> None:
        _check("client id", self.client_id)
        _check("client secret", self.client_secret)


@dataclass(frozen=True, slots=True)
class WorkloadIdentity:
    """OAuth token exchange: the pod's projected service-account token stands in for a client secret.

    Parameters
    ----------
    client_id
        Application id of the service principal, which needs a federation policy that accepts the cluster's tokens.
    token_path
        File of the projected token. Read anew for each exchange, since the kubelet renews it.

    Raises
    ------
    InvalidError
        The id is empty or has white space around it.
    """

    client_id: str
    token_path: Path

    def __post_init__(self) -> None:
        _check("client id", self.client_id)


Auth = OAuthM2M | WorkloadIdentity


def _check(what: str, value: str) -> None:
    if not value:
        raise InvalidError(Reason.INVALID_SPEC, f"The {what} for the Databricks workspace is empty: set it.")
    if value != value.strip():
        raise InvalidError(
            Reason.INVALID_SPEC,
            f"The {what} for the Databricks workspace begins or ends with white space or a line break: remove it.",
        )
