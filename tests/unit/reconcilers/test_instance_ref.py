"""Between a LakebaseInstance and the connections that point at it."""

from typing import Any

import pytest

from lakebase_operator.api import LakebaseInstance
from lakebase_operator.api.reasons import Reason
from lakebase_operator.domain.errors import InvalidError, NotReadyError
from lakebase_operator.engine.catalog import Catalog
from lakebase_operator.engine.keys import ConnectionKey, ObjectKey
from lakebase_operator.engine.relations import concerned, connections_of
from lakebase_operator.reconcilers.instance_ref import branches_of, native_logins, resolved
from tests.unit.engine import bodies

URL = "https://acme.cloud.databricks.com"
OAUTH = {"workloadIdentity": {"clientID": "1f0c2a34"}}
AVAILABLE = {"host": "ep-a1.database.us-east-1.cloud.databricks.com", "port": 5432, "state": "Available"}
INSTANCE = ObjectKey("LakebaseInstance", "team", "growing")
MARKETING = ConnectionKey("team", "marketing")


def instance(status: dict[str, Any] | None = None, **spec: Any) -> bodies.Body:
    lakebase = spec or {"autoscaling": {"project": "growing", "branches": [{"name": "staging"}]}}
    return bodies.body(
        "LakebaseInstance",
        "growing",
        spec={"workspaceURL": URL, "auth": OAUTH, **lakebase},
        status=status or {},
    )


def connection(name: str = "marketing", namespace: str = "team", **spec: Any) -> bodies.Body:
    given = {"target": {"instanceRef": {"name": "growing"}}, "auth": OAUTH, **spec}
    return bodies.body("LakebaseConnection", name, namespace, spec=given)


def view(*objects: bodies.Body) -> Catalog:
    catalog = Catalog()
    for one in objects:
        catalog.upsert(one["kind"], one)
    return catalog


def resolve(catalog: Catalog) -> Any:
    found = catalog.connection(MARKETING)
    assert found is not None
    return resolved(found, catalog)


@pytest.mark.requirement("R-103", "R-106")
@pytest.mark.parametrize(
    ("branch", "endpoint"), [(None, "production"), ("production", "production"), ("staging", "staging")]
)
def test_a_reference_stands_for_the_endpoint_of_the_branch(branch: str | None, endpoint: str) -> None:
    there = {"endpoint": AVAILABLE, "branches": [{"name": "staging", "endpoint": AVAILABLE}]}
    reference = {"name": "growing"} | ({"branch": branch} if branch else {})
    spec = resolve(view(instance(there), connection(target={"instanceRef": reference})))
    target = spec.target.autoscaling
    assert (target.project, target.branch, target.endpoint) == ("growing", endpoint, "primary")
    assert spec.workspace_url == URL


def test_a_reference_stands_for_the_instance_and_gives_a_password_login_its_host() -> None:
    there = instance({"endpoint": AVAILABLE}, provisioned={"instance": "growing-db"})
    password = {"password": {"secretRef": {"name": "login"}}}
    spec = resolve(view(there, connection(auth=password)))
    assert spec.target.provisioned.instance == "growing-db"
    assert spec.host == AVAILABLE["host"]


@pytest.mark.requirement("R-97")
@pytest.mark.parametrize(
    "objects",
    [
        (connection(),),
        (instance(), connection()),
        (
            instance({"endpoint": AVAILABLE, "branches": [{"name": "staging", "endpoint": {}}]}),
            connection(target={"instanceRef": {"name": "growing", "branch": "staging"}}),
        ),
    ],
    ids=["no-object", "not-made-yet", "branch-not-made-yet"],
)
def test_what_is_not_there_yet_is_waited_for(objects: tuple[bodies.Body, ...]) -> None:
    with pytest.raises(NotReadyError) as waiting:
        resolve(view(*objects))
    assert waiting.value.reason is Reason.INSTANCE_NOT_READY


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"workspaceURL": "https://other.cloud.databricks.com"}, "leave it out"),
        ({"target": {"instanceRef": {"name": "growing", "branch": "nowhere"}}}, 'no branch "nowhere"'),
    ],
)
def test_what_contradicts_the_instance_is_refused(change: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidError, match=says):
        resolve(view(instance({"endpoint": AVAILABLE}), connection(**change)))


@pytest.mark.requirement("R-210")
def test_connections_are_found_by_branch_however_they_point_there() -> None:
    direct = {"autoscaling": {"project": "growing", "branch": "staging"}}
    catalog = view(
        instance(),
        connection(),
        connection("by-name", "elsewhere", target=direct, workspaceURL=URL.replace("acme", "ACME")),
        connection("other-workspace", target=direct, workspaceURL="https://other.cloud.databricks.com"),
        connection("other-namespace", "elsewhere"),
    )
    found = catalog.get(INSTANCE)
    assert isinstance(found, LakebaseInstance)
    users = branches_of(found, catalog)
    names = {branch: [one.metadata.name for one in some] for branch, some in users.items()}
    assert names == {"production": ["marketing"], "staging": ["by-name"]}


@pytest.mark.requirement("R-101")
def test_whoever_logs_in_with_a_password_is_known() -> None:
    password = {"password": {"secretRef": {"name": "login"}}}
    catalog = view(
        instance(),
        connection(),
        connection("native", auth=password),
        bodies.role("app", spec={"connectionRef": {"name": "marketing"}, "login": True}),
        bodies.role("elementum", spec={"connectionRef": {"name": "marketing"}, "password": {}}),
        bodies.role("group", spec={"connectionRef": {"name": "marketing"}}),
        bodies.role(
            "person",
            spec={
                "connectionRef": {"name": "marketing"},
                "login": True,
                "identity": {"type": "User", "name": "alice@example.com"},
            },
        ),
    )
    found = catalog.get(INSTANCE)
    assert isinstance(found, LakebaseInstance)
    assert native_logins(found, catalog) == (
        "LakebaseConnection team/native",
        "PostgresRole team/app",
        "PostgresRole team/elementum",
    )


def test_a_change_has_those_looked_at_that_it_concerns() -> None:
    told: list[ObjectKey] = []
    catalog = Catalog(told.append)
    registered = bodies.body(
        "DatabaseCatalog", "sales", spec={"connectionRef": {"name": "marketing"}, "catalog": "sales"}
    )
    for one in (instance(), connection(), registered, bodies.grant("readers")):
        catalog.upsert(one["kind"], one)
    assert len(told) == 4
    catalog.upsert("LakebaseInstance", bodies.changed(instance(), 2, status={"conditions": []}))
    assert len(told) == 4, "the echo of a status is no change"
    sales = ObjectKey("DatabaseCatalog", "team", "sales")
    marketing = ObjectKey("LakebaseConnection", "team", "marketing")
    assert concerned(catalog, INSTANCE) == {INSTANCE, sales}
    assert concerned(catalog, marketing) == {INSTANCE, sales}
    assert concerned(catalog, sales) == {sales}
    assert concerned(catalog, ObjectKey("AccessGrant", "team", "readers")) == frozenset()
    assert connections_of(catalog, INSTANCE) == (MARKETING,)


def test_the_declarations_of_a_connection_do_not_include_what_works_by_itself() -> None:
    catalog = view(instance(), connection())
    assert catalog.connection_keys() == (MARKETING,)
    assert catalog.broken(MARKETING) == ()
    broken = bodies.body("LakebaseInstance", "broken", spec={"auth": {}})
    assert catalog.upsert("LakebaseInstance", broken) == frozenset()
    assert catalog.broken(MARKETING) == ()
