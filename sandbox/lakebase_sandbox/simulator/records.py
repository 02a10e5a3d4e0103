"""What the control plane remembers of the things it manages. Everything else is asked of Postgres itself."""

import secrets
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any


def now() -> datetime:
    return datetime.now(UTC)


def timestamp(moment: datetime) -> str:
    """A time as `w.postgres` writes it: nine fractional digits."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f") + "000Z"


def whole_seconds(moment: datetime) -> str:
    """A time as `w.database` writes it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def short_uid(prefix: str) -> str:
    return f"{prefix}-{secrets.token_hex(8)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    project_id: str
    owner: str
    spec: Mapping[str, Any]
    pg_version: int
    uid: str = field(default_factory=lambda: str(uuid.uuid4()))
    create_time: datetime = field(default_factory=now)
    update_time: datetime = field(default_factory=now)
    delete_time: datetime | None = None

    @property
    def name(self) -> str:
        return f"projects/{self.project_id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """A branch; `source` is the full name of the one it was made from, None for a root branch."""

    project_id: str
    branch_id: str
    spec: Mapping[str, Any] = field(default_factory=dict)
    default: bool = False
    source: str | None = None
    uid: str = field(default_factory=lambda: short_uid("br"))
    create_time: datetime = field(default_factory=now)
    update_time: datetime = field(default_factory=now)
    delete_time: datetime | None = None

    @property
    def parent(self) -> str:
        return f"projects/{self.project_id}"

    @property
    def name(self) -> str:
        return f"{self.parent}/branches/{self.branch_id}"


READ_WRITE = "ENDPOINT_TYPE_READ_WRITE"
READ_ONLY = "ENDPOINT_TYPE_READ_ONLY"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A compute endpoint.

    Parameters:
        pending_until: while this moment (`time.monotonic()`) is in the future, reconciliation is in progress.
    """

    project_id: str
    branch_id: str
    endpoint_id: str
    spec: Mapping[str, Any] = field(default_factory=dict)
    uid: str = field(default_factory=lambda: short_uid("ep"))
    create_time: datetime = field(default_factory=now)
    update_time: datetime = field(default_factory=now)
    pending_until: float = 0.0

    @property
    def parent(self) -> str:
        return f"projects/{self.project_id}/branches/{self.branch_id}"

    @property
    def name(self) -> str:
        return f"{self.parent}/endpoints/{self.endpoint_id}"

    @property
    def type(self) -> str:
        return str(self.spec.get("endpoint_type", READ_WRITE))

    @property
    def is_reconciling(self) -> bool:
        return time.monotonic() < self.pending_until


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """A provisioned instance; `spec` holds the input fields as they were last given, `effective` what came of them."""

    name: str
    creator: str
    spec: Mapping[str, Any] = field(default_factory=dict)
    effective: Mapping[str, Any] = field(default_factory=dict)
    uid: str = field(default_factory=lambda: str(uuid.uuid4()))
    creation_time: datetime = field(default_factory=now)


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalog:
    """A database registered in Unity Catalog; `source` is the full name of its branch, or its instance's name."""

    name: str
    source: str
    database: str
    of_branch: bool
    uid: str = field(default_factory=lambda: str(uuid.uuid4()))
    create_time: datetime = field(default_factory=now)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceId:
    """The resource id that the API gave to something that lives in Postgres (a role, a database)."""

    id: str
    create_time: datetime = field(default_factory=now)
    update_time: datetime = field(default_factory=now)
