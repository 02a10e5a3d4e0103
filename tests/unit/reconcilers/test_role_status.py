"""What a pass takes from the status of a PostgresRole, which another version of the operator may have written."""

from lakebase_operator.api import PostgresRole
from lakebase_operator.engine.catalog import Catalog
from lakebase_operator.reconcilers.connection import with_status
from tests.unit.engine.bodies import role


def test_what_a_newer_version_has_written_beside_is_in_nobodys_way() -> None:
    catalog = Catalog()
    schema = {"name": "app", "database": "sales", "created": True, "newer": 1}
    test = {"step": "Newer", "result": "Unheard", "reason": "Passed", "at": "2026-01-01T00:00:00Z"}
    status = {"created": True, "platformSchema": schema, "test": [test], "newer": {}}
    catalog.upsert("PostgresRole", role("app", status=status))
    (one,) = catalog.of_kind(PostgresRole)
    read = with_status(one, catalog).status
    assert read.created
    assert read.platform_schema is not None
    assert (read.platform_schema.name, read.platform_schema.created) == ("app", True)
