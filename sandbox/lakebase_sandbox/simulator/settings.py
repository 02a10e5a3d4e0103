"""What a simulator consists of and how quick its parts are."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pydantic import ConfigDict

from lakebase_sandbox.postgres import Identity

_STRICT = ConfigDict(extra="forbid")  # where settings come from a file


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoscalingTarget:
    """An endpoint of a project (`w.postgres`), with a PostgreSQL server of its own.

    Parameters:
        name: how the sandbox calls it.
        enable_pg_native_login: whether roles may log in with a Postgres password.
        superuser_grants: whether `databricks_superuser` holds grant option on whatever is made (see
            `PostgresServer`).
        takes_verifiers: whether a statement may set a password by its SCRAM verifier. Reports from the field say that a
            project's control plane wants the password itself.
        settings: PostgreSQL configuration parameters as (name, value).
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    name: str = "autoscaling"
    project: str = "marketing"
    branch: str = "production"
    endpoint: str = "primary"
    postgres_version: int = 18
    enable_pg_native_login: bool = False
    superuser_grants: bool = True
    takes_verifiers: bool = False
    settings: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvisionedTarget:
    """A database instance (`w.database`); the parameters are those of `AutoscalingTarget`."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    name: str = "provisioned"
    instance: str = "marketing-db"
    postgres_version: int = 16
    enable_pg_native_login: bool = False
    superuser_grants: bool = True
    takes_verifiers: bool = True
    settings: tuple[tuple[str, str], ...] = ()


TargetSettings = AutoscalingTarget | ProvisionedTarget


@dataclass(frozen=True, slots=True, kw_only=True)
class FederationPolicy:
    """Lets a token of another issuer stand for a service principal (workload identity federation).

    Parameters:
        client_id: the service principal.
        issuer: the `iss` that a token must have.
        subject: the `sub` that a token must have, for example `system:serviceaccount:lakebase-system:operator`.
        audiences: a token must have one of these; empty: any.
        jwks: the issuer's public keys (a JWK Set as JSON). Without them signatures go unchecked.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    client_id: str
    issuer: str
    subject: str
    audiences: tuple[str, ...] = ()
    jwks: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatorSettings:
    """Everything about a simulator that can be chosen. Times are in seconds.

    Parameters:
        targets: the databases that exist from the start.
        log_directory: where the servers' logs go and stay, one directory per target; None: nowhere.
        identities: known in the workspace from the start, besides the project owner and the operator.
        federation_policies: whose tokens are accepted for which service principal.
        client_secret: the operator's OAuth secret; None: a random one.
        operation_seconds: how long a long-running operation takes.
        reconciliation_seconds: how long an endpoint keeps its `pending_state` after an operation on it is done.
        wake_seconds: how long an IDLE endpoint takes to wake up for a connection.
        start_seconds: how long an instance is STARTING, or UPDATING after a change of its size.
        credential_seconds: how long a database credential lives when no lifetime is asked for.
        access_token_seconds: how long a workspace access token lives.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    targets: tuple[TargetSettings, ...] = (AutoscalingTarget(), ProvisionedTarget())
    log_directory: Path | None = None
    identities: tuple[Identity, ...] = ()
    federation_policies: tuple[FederationPolicy, ...] = ()
    client_secret: str | None = None
    operation_seconds: float = 0.5
    reconciliation_seconds: float = 0.5
    wake_seconds: float = 0.5
    start_seconds: float = 1.0
    credential_seconds: float = 3600.0
    access_token_seconds: float = 3600.0
