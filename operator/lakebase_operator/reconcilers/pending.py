"""Is there work to do on an object, judged by its status alone, without looking at the database?"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from lakebase_operator.api import AccessGrant, LakebaseConnection, PostgresRole
from lakebase_operator.api.access_grant import Ensure
from lakebase_operator.api.base import ANNOTATION_ROTATE
from lakebase_operator.api.reasons import Reason
from lakebase_operator.domain.connection_test import tested_condition
from lakebase_operator.domain.desired import is_active
from lakebase_operator.domain.status import Verdict
from lakebase_operator.engine.catalog import Catalog, key_of
from lakebase_operator.reconcilers.view import Dependent, is_deleting, is_finalized

_CARRIED_OUT = frozenset(
    {
        Reason.NOT_FOUND, Reason.AMBIGUOUS, Reason.UNMAPPED_USERS, Reason.OBJECT_MISSING, Reason.UNGRANTABLE, Reason.UNREVOCABLE, Reason.OBJECT_FAILED, Reason.DRIFT_FOUND, Reason.PLANNED,
        Reason.ROLE_MISSING, Reason.ROLE_EXISTS, Reason.IDENTITY_NOT_FOUND, Reason.IDENTITY_MISMATCH,
        Reason.NOT_ROLE_ADMIN, Reason.MEMBERSHIP_LOOP, Reason.NOT_OWNER, Reason.PERMISSION_DENIED, Reason.INVALID_SPEC, Reason.RESERVED_NAME,
        Reason.CONFLICTING_DECLARATIONS, Reason.DATABASE_NOT_MANAGED, Reason.DATABASE_NOT_FOUND,
        Reason.PASSWORD_REFUSED, Reason.SECRET_EXISTS, Reason.SESSIONS_NOT_ENDED,
    }
)  # fmt: skip
"""Reasons of ``Ready=False`` after a pass that came to the object: looking again would only find the same."""

_INACTIVE = frozenset({Reason.SUSPENDED, Reason.EXPIRED, Reason.NOT_YET_ACTIVE})


def is_pending(subject: LakebaseConnection | Dependent, catalog: Catalog, now: datetime) -> bool:
    """Whether something is declared of ``subject`` that no pass has carried out."""
    if is_deleting(subject):
        return is_finalized(subject)
    status = catalog.status(key_of(subject))
    ready = _ready(status)
    if ready is None or status.get("observedGeneration") != subject.metadata.generation:
        return True
    if ready["status"] != "True" and ready["reason"] not in _CARRIED_OUT and not _only_tested(status, ready):
        return True
    if isinstance(subject, AccessGrant):
        # Time has passed its notBefore or expiresAt since.
        return is_active(subject.spec, now) == (ready["reason"] in _INACTIVE)
    if isinstance(subject, PostgresRole):
        return _password_is_due(subject, status, now)
    return False


def still_waits(subject: Dependent, catalog: Catalog) -> bool:
    """Whether an earlier pass has said of ``subject`` that it waits on its connection, in case this one did not come to look."""
    key = key_of(subject)
    if is_deleting(subject) or catalog.is_ready(key):
        return False
    conditions = catalog.status(key).get("conditions") or []
    waits = next((one for one in conditions if one["type"] == Verdict.RECONCILING), None)
    return waits is not None and waits["reason"] != Reason.CONNECTION_NOT_READY


def _only_tested(status: Mapping[str, Any], ready: Mapping[str, Any]) -> bool:
    """It was carried out, and what is not ready is what the connection test says."""
    tested = tested_condition(status)
    return tested is not None and tested["status"] != "True" and tested["reason"] == ready["reason"]


def _password_is_due(role: PostgresRole, status: Mapping[str, Any], now: datetime) -> bool:
    """Somebody asked for another password, or time has passed one of its dates. A password that is given changes by itself."""
    if role.spec.password is None or role.spec.password.from_ is not None or role.spec.suspend:
        return False
    known = status.get("password") or {}
    asked = role.metadata.annotations.get(ANNOTATION_ROTATE)
    dates = (known[name] for name in ("nextRotation", "previousUntil") if name in known)
    return (asked is not None and asked != known.get("handledRotation")) or any(
        datetime.fromisoformat(date) <= now for date in dates
    )


def has_ended(grant: AccessGrant, now: datetime) -> bool:
    """Whether the time of an AccessGrant is over."""
    return grant.spec.expires_at is not None and grant.spec.expires_at <= now


def is_overstaying(grant: AccessGrant, status: Mapping[str, Any]) -> bool:
    """Whether no pass has found in the database that nothing is held of an AccessGrant whose time is over."""
    if grant.spec.ensure is Ensure.ABSENT:
        return False
    ready = _ready(status)
    return ready is None or ready["status"] != "True" or ready["reason"] not in _INACTIVE


def _ready(status: Mapping[str, Any]) -> Mapping[str, Any] | None:
    return next((one for one in status.get("conditions") or [] if one["type"] == "Ready"), None)
