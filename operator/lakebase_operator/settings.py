"""The operator's settings. They come from the environment, and nothing else reads it."""

import socket
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Self

from pydantic import AliasChoices, Field, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

Seconds = Annotated[float, Field(gt=0)]
Port = Annotated[int, Field(ge=0, le=65535)]


class LogFormat(StrEnum):
    """How a line of the log looks."""

    AUTO = "auto"
    JSON = "json"
    PLAIN = "plain"


class LogLevel(StrEnum):
    """What is logged."""

    DEBUG = "DEBUG"
    INFO = "INFO"
    WARNING = "WARNING"
    ERROR = "ERROR"


class Settings(BaseSettings):
    """Each field is the environment variable ``LAKEBASE_OPERATOR_<FIELD>``; times are in seconds."""

    model_config = SettingsConfigDict(
        env_prefix="LAKEBASE_OPERATOR_", frozen=True, extra="ignore", use_attribute_docstrings=True
    )

    # -- where it runs -------------------------------------------------------------------------------------------------
    namespace: str = "lakebase-operator"
    """Namespace of the operator itself: its Lease is there."""
    identity: str = Field(default_factory=socket.gethostname, max_length=128)
    """Name of this process among its replicas; in a pod its host name, which is the pod's name."""
    kubeconfig: str | None = Field(
        default=None,
        validation_alias=AliasChoices("LAKEBASE_OPERATOR_KUBECONFIG", "KUBECONFIG", "kubeconfig"),
    )
    """A kubeconfig instead of the pod's ServiceAccount; also read from KUBECONFIG."""
    token_path: Path | None = None
    """Projected ServiceAccount token that workload identity exchanges for a Databricks token."""

    # -- what it looks at ----------------------------------------------------------------------------------------------
    watch_namespaces: Annotated[tuple[str, ...], NoDecode] = ()
    """Namespaces whose objects are looked at, separated by commas. Empty: all."""
    watch_secrets: bool = True
    """Watch the Secrets labelled `lakebase.dev/watched: "true"`, which needs the right to list and watch Secrets. Without it
    their changes are noticed by looking from time to time."""
    secret_poll_seconds: Seconds = 30.0
    """Time between two looks at the Secrets that connections refer to."""
    resync_seconds: Seconds = 600.0
    """Time between two lists of all objects, which find what a watch has missed."""
    debounce_seconds: Annotated[float, Field(ge=0)] = 0.05
    """How long a connection rests after a pass; events that come in the meantime are gathered."""

    # -- how it works --------------------------------------------------------------------------------------------------
    workers: Annotated[int, Field(ge=1, le=256)] = 16
    """Connections that are worked on side by side."""
    pass_timeout_seconds: Seconds = 900.0
    """A pass that takes longer is cut off and tried again."""
    retry_base_seconds: Seconds = 1.0
    """Pause after a first failure; it doubles with each further one."""
    retry_cap_seconds: Seconds = 300.0
    """Longest pause after a failure."""
    connect_timeout_seconds: Seconds = 60.0
    """Time to connect to a database; a compute that wakes up may need much of it."""
    statement_timeout_seconds: Seconds = 300.0
    """Time for one statement."""
    lock_timeout_seconds: Seconds = 10.0
    """Time that a statement waits for a lock."""
    sdk_threads: Annotated[int, Field(ge=1, le=256)] = 16
    """Threads for requests to the Databricks API."""
    instance_poll_seconds: Seconds = 60.0
    """Time between two looks at a LakebaseInstance or DatabaseCatalog that is as declared."""
    deletion_grace_seconds: Annotated[float, Field(ge=0)] = 10.0
    """How long a connection that is being deleted waits for dependents whose deletion may still come."""
    kubernetes_timeout_seconds: Seconds = 15.0
    """Time for one request to the Kubernetes API."""
    status_writes: Annotated[int, Field(ge=1, le=256)] = 32
    """Statuses that are written side by side."""
    shutdown_grace_seconds: Annotated[float, Field(ge=0)] = 5.0
    """How long running passes may take to end when the operator is stopped."""

    # -- leadership ----------------------------------------------------------------------------------------------------
    leader_election: bool = True
    """Act only while holding the Lease. Needed as soon as two processes may run, if only during an update."""
    lease_name: str = "lakebase-operator"
    """Name of the Lease."""
    lease_duration_seconds: Annotated[int, Field(ge=1)] = 15
    """How long the others wait after the last renewal."""
    lease_renew_deadline_seconds: Annotated[float, Field(ge=1)] = 10.0
    """How long the leader tries to renew before it ends itself."""
    lease_retry_seconds: Annotated[float, Field(ge=1)] = 2.0
    """Time between two tries."""

    # -- how it is watched ---------------------------------------------------------------------------------------------
    bind_address: str = "0.0.0.0"  # noqa: S104 - probes and scrapes come from other machines
    """Address of the probes and metrics."""
    probe_port: Port = 8080
    """Port of `/healthz` and `/readyz`."""
    metrics_port: Port = 9090
    """Port of `/metrics`; may be the same."""
    log_format: LogFormat = LogFormat.AUTO
    """`json`, `plain`, or `auto`: plain in a terminal, else JSON."""
    log_level: LogLevel = LogLevel.INFO
    """`DEBUG`, `INFO`, `WARNING` or `ERROR`."""

    @field_validator("watch_namespaces", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return (
            tuple(part.strip() for part in value.split(",") if part.strip())
            if isinstance(value, str)
            else value
        )

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @model_validator(mode="after")
    def _lease_times_fit(self) -> Self:
        if (
            not self.lease_retry_seconds * 1.2
            < self.lease_renew_deadline_seconds
            < self.lease_duration_seconds
        ):
            raise ValueError(
                "lease times must satisfy 1.2 * lease_retry_seconds < lease_renew_deadline_seconds < lease_duration_seconds"
            )
        return self
