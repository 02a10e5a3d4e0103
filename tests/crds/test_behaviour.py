"""Defaults, immutability, status and columns, as a user of the API server meets them."""

import re
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from lakebase_operator.api import KINDS, LakebaseConnection
from lakebase_sandbox.tools.kubectl import Kubectl
from tests.crds.manifests import (
    CATALOG,
    CONNECTION,
    GRANT,
    INSTANCE,
    MAPPING,
    ROLE,
    connection,
    grant,
    mapping,
    role,
)
from tests.crds.objects import PLURALS, Objects, Refused

EXAMPLES = Path(__file__).parents[2] / "examples" / "reference"
EVERY_KIND = pytest.mark.parametrize(
    "body", [CONNECTION, ROLE, MAPPING, GRANT, INSTANCE, CATALOG], ids=lambda body: body["kind"]
)
MODELS = {kind.kind_name: kind for kind in KINDS}


def ready(
    status: str, *, generation: int = 1, reason: str = "Succeeded", message: str = "All is well."
) -> dict[str, Any]:
    return {
        "type": "Ready",
        "status": status,
        "reason": reason,
        "message": message,
        "observedGeneration": generation,
        "lastTransitionTime": "2030-01-01T00:00:00Z",
    }


@pytest.mark.requirement("R-62", "R-63", "R-105")
def test_port_and_database_of_a_connection_default_and_are_stored(objects: Objects) -> None:
    objects.create(CONNECTION)
    spec = objects.read("LakebaseConnection", "marketing")["spec"]
    assert spec["port"] == 5432
    assert spec["databases"] == ["databricks_postgres"]


@pytest.mark.requirement("R-90", "R-165")
def test_tls_of_a_connection_defaults_to_full_verification(objects: Objects) -> None:
    objects.create(CONNECTION)
    assert objects.read("LakebaseConnection", "marketing")["spec"]["tls"] == {"mode": "VerifyFull"}


def test_all_other_defaults_of_a_connection_are_the_careful_choice(objects: Objects) -> None:
    objects.create(CONNECTION)
    spec = objects.read("LakebaseConnection", "marketing")["spec"]
    assert spec["target"]["autoscaling"] == {
        "project": "marketing",
        "branch": "production",
        "endpoint": "primary",
    }
    assert spec["drift"] == {"interval": "10m", "action": "Repair"}
    assert spec["allowedNamespaces"] == {"from": "Same"}
    assert (spec["whenAsleep"], spec["suspend"], spec["deletionPolicy"]) == ("Skip", False, "Retain")


def test_a_nested_default_fills_up_what_is_given_in_part(objects: Objects) -> None:
    objects.create(connection(drift={"action": "Report"}, tls={"caRef": {"name": "ca", "key": "ca.crt"}}))
    spec = objects.read("LakebaseConnection", "marketing")["spec"]
    assert spec["drift"] == {"interval": "10m", "action": "Report"}
    assert spec["tls"]["mode"] == "VerifyFull"


@EVERY_KIND
def test_what_the_api_server_fills_in_is_what_the_model_would(objects: Objects, body: dict[str, Any]) -> None:
    objects.create(body)
    stored = objects.read(body["kind"], body["metadata"]["name"])
    model = MODELS[body["kind"]]
    from_server = model.from_object(stored)
    from_manifest = model.from_object(body | {"metadata": stored["metadata"]})
    assert from_server == from_manifest


@EVERY_KIND
def test_a_new_object_has_a_status_that_says_that_nobody_has_seen_it(
    objects: Objects, body: dict[str, Any]
) -> None:
    objects.create(body)
    assert objects.read(body["kind"], body["metadata"]["name"])["status"] == {"observedGeneration": -1}


@EVERY_KIND
def test_a_status_in_a_manifest_is_not_taken_over(objects: Objects, body: dict[str, Any]) -> None:
    objects.create(deepcopy(body) | {"status": {"observedGeneration": 1, "conditions": [ready("True")]}})
    assert objects.read(body["kind"], body["metadata"]["name"])["status"] == {"observedGeneration": -1}


@EVERY_KIND
def test_writing_a_status_leaves_spec_and_generation_alone(objects: Objects, body: dict[str, Any]) -> None:
    before = objects.create(body)
    status = {"observedGeneration": 1, "conditions": [ready("True")]}
    after = objects.patch_status(body["kind"], body["metadata"]["name"], status)
    assert after["status"] == status
    assert after["spec"] == before["spec"]
    assert after["metadata"]["generation"] == 1


@EVERY_KIND
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ([ready("Maybe")], "Unsupported value"),
        ([ready("True", reason="two words")], "reason"),
        ([ready("True", reason="")], "reason"),
        ([ready("True"), ready("False")], "Duplicate value"),
    ],
    ids=["status", "reason-of-two-words", "no-reason", "two-ready"],
)
def test_a_condition_that_nobody_could_read_is_refused(
    objects: Objects, body: dict[str, Any], wrong: list[dict[str, Any]], message: str
) -> None:
    objects.create(body)
    with pytest.raises(Refused, match=message):
        objects.patch_status(body["kind"], body["metadata"]["name"], {"conditions": wrong})


@pytest.mark.requirement("R-60")
def test_a_connection_cannot_be_renamed(objects: Objects) -> None:
    stored = objects.create(CONNECTION)
    renamed = stored | {"metadata": stored["metadata"] | {"name": "sales"}}
    with pytest.raises(Refused, match=r"the name of the object .* does not match the name on the URL"):
        objects.replace(renamed, name="marketing")
    assert objects.read("LakebaseConnection", "marketing")["metadata"]["uid"] == stored["metadata"]["uid"]


IMMUTABLE: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    (role(roleName="a"), {"roleName": "b"}, "spec.roleName: Invalid value: .*is immutable"),
    (role(roleName="a"), {"roleName": None}, "spec.roleName: Invalid value: .*is immutable"),
    (role(), {"roleName": "b"}, "spec.roleName: Invalid value: .*is immutable"),
    (role(), {"connectionRef": {"name": "other"}}, "spec.connectionRef: Invalid value: .*is immutable"),
    (role(), {"connectionRef": {"namespace": "other"}}, "spec.connectionRef: Invalid value: .*is immutable"),
    (role(identity={"type": "User", "name": "a"}), {"identity": {"name": "b"}}, "spec.identity: .*is immutable"),
    (role(identity={"type": "User", "name": "a"}), {"identity": None}, "spec.identity: .*is immutable"),
    (role(), {"identity": {"type": "User", "name": "a"}, "login": True}, "spec.identity: .*is immutable"),
    (grant(), {"connectionRef": {"name": "other"}}, "spec.connectionRef: Invalid value: .*is immutable"),
    (grant(), {"database": "other"}, "spec.database: Invalid value: .*is immutable"),
]  # fmt: skip


@pytest.mark.requirement("R-60")
@pytest.mark.parametrize(
    ("body", "change", "message"),
    IMMUTABLE,
    ids=[f"{b['kind']}-{number}" for number, (b, _, _) in enumerate(IMMUTABLE)],
)
def test_what_says_which_thing_an_object_is_about_cannot_change(
    objects: Objects, body: dict[str, Any], change: dict[str, Any], message: str
) -> None:
    stored = objects.create(body)
    with pytest.raises(Refused, match=message):
        objects.patch(body["kind"], body["metadata"]["name"], {"spec": change})
    assert objects.read(body["kind"], body["metadata"]["name"])["spec"] == stored["spec"]


@pytest.mark.parametrize(
    ("body", "change"),
    [
        (connection(), {"port": 5433, "databases": ["a", "b"], "suspend": True}),
        (role(roleName="a"), {"memberOf": [{"role": "b"}], "deletionPolicy": "Drop"}),
        (mapping(), {"mapping": "Explicit", "postgresUsername": "b", "connectionRef": {"name": "c"}}),
        (grant(), {"access": "Write", "subjects": [{"kind": "Public"}], "suspend": True}),
    ],
    ids=lambda value: value.get("kind", ""),
)
def test_everything_else_can_be_edited(
    objects: Objects, body: dict[str, Any], change: dict[str, Any]
) -> None:
    objects.create(body)
    after = objects.patch(body["kind"], body["metadata"]["name"], {"spec": change})
    assert after["metadata"]["generation"] == 2


@pytest.mark.parametrize("kind", PLURALS)
def test_the_examples_of_the_reference_are_accepted_and_can_be_read(objects: Objects, kind: str) -> None:
    bodies = list(yaml.safe_load_all((EXAMPLES / f"{kind.lower()}.yaml").read_text()))
    assert len(bodies) >= 2
    for body in bodies:
        assert body["kind"] == kind
        stored = objects.create(body)
        assert MODELS[kind].from_object(stored).metadata.name == body["metadata"]["name"]


def cells(table: str) -> dict[str, str]:
    """The only row of a table that kubectl printed, by the heads of its columns."""
    head, row = table.splitlines()
    found = list(re.finditer(r"\S+ *", head))
    return {column[0].strip(): row[column.start() : column.end()].strip() for column in found}


def test_the_columns_answer_the_reader(objects: Objects, kubectl: Kubectl) -> None:
    for body in (
        CONNECTION,
        role(identity={"type": "Group", "name": "data team"}, login=True),
        MAPPING,
        GRANT,
        INSTANCE,
        CATALOG,
    ):
        objects.create(body)
    objects.patch_status(
        "LakebaseConnection",
        "marketing",
        {
            "observedGeneration": 1,
            "endpoint": {"host": "db.example.com", "port": 5432, "state": "ACTIVE"},
            "grants": 1,
            "conditions": [ready("True")],
        },
    )
    objects.patch_status("PostgresRole", "analysts", {"roleName": "data team", "conditions": [ready("True")]})
    objects.patch_status("UserMapping", "alice", {"role": "Alice", "conditions": [ready("True")]})
    objects.patch_status(
        "AccessGrant",
        "readers",
        {
            "objects": 42,
            "grants": {"wanted": 84, "held": 83},
            "conditions": [ready("False", reason="Ungrantable", message="Ask the owner of sales.orders.")],
        },
    )

    objects.patch_status(
        "LakebaseInstance",
        "marketing",
        {
            "endpoint": {"host": "db.example.com", "port": 5432, "state": "Starting"},
            "operation": {
                "action": "Create",
                "resource": "projects/marketing",
                "startTime": "2030-01-01T00:00:00Z",
            },
            "conditions": [ready("False", reason="InstanceStarting")],
        },
    )
    objects.patch_status(
        "DatabaseCatalog", "marketing", {"state": "Registered", "conditions": [ready("True")]}
    )

    tables = (
        kubectl.run("get", "lbc,pgr,um,ag,lbi,dbc", "--namespace", objects.namespace).strip().split("\n\n")
    )
    shown = [cells(table) for table in tables]
    for kind, row in zip(KINDS, shown, strict=True):
        assert list(row) == ["NAME", *(column.name.upper() for column in kind.columns if not column.priority)]
    common = {"READY": "True", "REASON": "Succeeded"}
    connection_row, role_row, mapping_row, grant_row, instance_row, catalog_row = shown
    assert instance_row.items() >= {"STATE": "Starting", "OPERATION": "Create", "READY": "False"}.items()
    assert catalog_row.items() >= (common | {"CATALOG": "marketing_lakebase", "STATE": "Registered"}).items()
    assert connection_row.items() >= (common | {"STATE": "ACTIVE", "GRANTS": "1"}).items()
    assert (
        role_row.items()
        >= (common | {"CONNECTION": "marketing", "ROLE": "data team", "IDENTITY": "Group"}).items()
    )
    assert mapping_row.items() >= (common | {"USER": "alice@example.com", "ROLE": "Alice"}).items()
    assert (
        grant_row.items()
        >= {
            "CONNECTION": "marketing",
            "ACCESS": "Read",
            "OBJECTS": "42",
            "HELD": "83",
            "WANTED": "84",
            "READY": "False",
            "REASON": "Ungrantable",
        }.items()
    )
    assert "Ask the owner of sales.orders." in kubectl.run("get", "ag", "-n", objects.namespace, "-o", "wide")


def test_the_category_lists_all_kinds(objects: Objects, kubectl: Kubectl) -> None:
    for body in (CONNECTION, ROLE, MAPPING, GRANT, INSTANCE, CATALOG):
        objects.create(body)
    names = kubectl.run("get", "lakebase", "--namespace", objects.namespace, "-o", "name").split()
    assert len(names) == len(KINDS)


def test_kubectl_explains_every_field(kubectl: Kubectl, objects: Objects) -> None:
    explained = kubectl.run("explain", f"{LakebaseConnection.plural}.spec.tls.mode")
    assert "VerifyFull" in explained
    assert "also checks the host name" in explained
