"""Whether a role's password gives a reason to wake a compute."""

from datetime import UTC, datetime
from typing import Any

import pytest

from lakebase_operator.api import PostgresRole
from lakebase_operator.engine.catalog import Catalog
from lakebase_operator.reconcilers.pending import is_pending
from tests.unit.engine.bodies import role

NOW = datetime(2026, 4, 1, tzinfo=UTC)
READY = {"type": "Ready", "status": "True", "reason": "Succeeded"}
FRESH = {"login": "app_1", "setAt": "2026-03-01T00:00:00Z", "nextRotation": "2026-05-30T00:00:00Z"}


@pytest.mark.parametrize(
    ("password", "status", "annotations", "pending"),
    [
        ({}, FRESH, {}, False),
        ({}, {**FRESH, "nextRotation": "2026-04-01T00:00:00Z"}, {}, True),
        ({}, {**FRESH, "previousUntil": "2026-03-02T00:00:00Z"}, {}, True),
        ({}, {**FRESH, "previousUntil": "2026-04-02T00:00:00Z"}, {}, False),
        ({}, FRESH, {"lakebase.dev/rotate": "1"}, True),
        ({}, {**FRESH, "handledRotation": "1"}, {"lakebase.dev/rotate": "1"}, False),
        ({"from": {"name": "s", "key": "k"}}, {**FRESH, "nextRotation": "2026-01-01T00:00:00Z"}, {}, False),
    ],
)
def test_a_password_that_is_due_is_work(
    password: dict[str, Any], status: dict[str, Any], annotations: dict[str, str], pending: bool
) -> None:
    catalog = Catalog()
    spec = {"connectionRef": {"name": "marketing"}, "password": password}
    meta = {"annotations": annotations, "generation": 1}
    catalog.upsert(
        "PostgresRole",
        role(
            "app",
            spec=spec,
            meta=meta,
            status={"observedGeneration": 1, "conditions": [READY], "password": status},
        ),
    )
    (found,) = catalog.of_kind(PostgresRole)
    assert is_pending(found, catalog, NOW) is pending
