"""Thousands of objects say the same in parts, and each part is kept once."""

from collections.abc import Mapping
from typing import Any

import pytest

from lakebase_operator.api import AccessGrant
from lakebase_operator.engine import sharing
from lakebase_operator.engine.catalog import Catalog
from lakebase_operator.engine.keys import ObjectKey
from tests.unit.engine.bodies import grant


def parsed(catalog: Catalog, body: Mapping[str, Any]) -> AccessGrant:
    catalog.upsert("AccessGrant", body)
    meta = body["metadata"]
    found = catalog.get(ObjectKey("AccessGrant", meta["namespace"], meta["name"]))
    assert isinstance(found, AccessGrant)
    return found


def test_equal_parts_of_several_objects_are_one() -> None:
    catalog = Catalog()
    one, other = parsed(catalog, grant("one")), parsed(catalog, grant("other"))
    assert one.spec is not other.spec
    assert one.spec.subjects is other.spec.subjects
    assert one.spec.objects is other.spec.objects
    assert one.spec.connection_ref is other.spec.connection_ref
    assert one.metadata.labels is other.metadata.labels


def test_parts_that_differ_stay_apart() -> None:
    catalog = Catalog()
    body = grant("other")
    body["spec"]["subjects"] = [{"kind": "Role", "name": "somebody_else"}]
    one, other = parsed(catalog, grant("one")), parsed(catalog, body)
    assert one.spec.subjects != other.spec.subjects
    assert other.spec.subjects[0].name == "somebody_else"
    assert one.spec.objects is other.spec.objects


def test_what_is_known_of_parts_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "MOST_PARTS", 8)
    catalog = Catalog()
    for number in range(20):
        body = grant(f"grant-{number}")
        body["spec"]["subjects"] = [{"kind": "Role", "name": f"role_{number}"}]
        assert parsed(catalog, body).spec.subjects[0].name == f"role_{number}"
        assert len(sharing._parts) <= 8
