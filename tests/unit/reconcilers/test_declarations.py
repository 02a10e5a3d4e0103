"""What was resolved is kept until something changes that it depends on."""

from datetime import UTC, datetime
from typing import Any, cast

from lakebase_operator.api import AccessGrant
from lakebase_operator.domain.people import People, RoleNames
from lakebase_operator.domain.privileges import ObjectClass
from lakebase_operator.external.postgres.queries import all_parts, comparison
from lakebase_operator.reconcilers.declared import Declarations
from lakebase_operator.reconcilers.roles import Roles

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def grant(table: str = "orders", generation: int = 1, **spec: Any) -> AccessGrant:
    return AccessGrant.from_object(
        {
            "metadata": {"name": "g", "namespace": "team", "uid": "g", "generation": generation},
            "spec": {
                "connectionRef": {"name": "marketing"},
                "database": "sales",
                "subjects": [{"kind": "User", "name": "alice@example.com"}],
                "access": "Read",
                "objects": [{"tables": {"schema": "sales", "names": [table]}}],
                **spec,
            },
        }
    )


def roles(*names: str) -> Roles:
    found = Roles({})
    found.states = cast("dict[str, Any]", dict.fromkeys(names))
    return found


def people(*names: str) -> People:
    return People("team", (), RoleNames(names))


def test_an_access_grant_is_resolved_again_when_it_or_the_roles_change() -> None:
    known = Declarations()
    known.begin(people(), roles(), 16)
    first = known.declare(grant(), people(), roles(), 16, NOW)
    assert first.grantees == frozenset()
    again = known.declare(grant(), people(), roles(), 16, NOW)
    assert again.selectors is first.selectors
    edited = known.declare(grant("items", generation=2), people(), roles(), 16, NOW)
    assert edited.selectors[0].names == ("items",)
    there = "alice@example.com"
    known.begin(people(there), roles(there), 16)
    assert known.declare(grant("items", generation=2), people(there), roles(there), 16, NOW).grantees == {
        there
    }


def test_time_ends_an_access_grant_that_is_known() -> None:
    known = Declarations()
    known.begin(people(), roles(), 16)
    ends = grant(expiresAt="2026-06-01T00:00:00Z")
    assert known.declare(ends, people(), roles(), 16, NOW).active
    assert not known.declare(ends, people(), roles(), 16, datetime(2026, 7, 1, tzinfo=UTC)).active


def test_the_comparison_leaves_out_what_nothing_needs() -> None:
    always = {ObjectClass.TABLE, ObjectClass.SEQUENCE, ObjectClass.SCHEMA, ObjectClass.DATABASE}
    single = {one.value for one in ObjectClass if one not in always and not one.is_default}
    assert all_parts() == single | {"DEFAULT", "writing", "absent", "search"}
    small, large = comparison(frozenset(), record=False), comparison(all_parts(), record=False)
    assert "pg_parameter_acl" in large
    assert "pg_parameter_acl" not in small
    assert "-- if " not in small + large
