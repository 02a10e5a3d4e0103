"""Every manifest in the examples and in the documentation is one that the API server and the operator accept."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from lakebase_operator.api import KINDS
from lakebase_operator.api.base import API_VERSION
from lakebase_sandbox.demo import SCENARIOS
from lakebase_sandbox.demo.manifests import read_example
from lakebase_sandbox.tools.kubectl import Kubectl
from tests.examples.conftest import NAMESPACE

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
PAGES = [
    *ROOT.glob("*.md"),
    *(ROOT / "docs").rglob("*.md"),
    *EXAMPLES.rglob("*.md"),
    *ROOT.glob("deploy/**/*.md"),
]

MODELS = {kind.kind_name: kind for kind in KINDS}
# What else may stand in an example. Other YAML in a page is for other tools, such as kustomize.
CORE_KINDS = {("v1", "Namespace"), ("v1", "Secret")}

_YAML_BLOCK = re.compile(r"^```ya?ml\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"^```.*?^```$|`[^`\n]*`", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")


def documents(text: str) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(text) if document]


def is_manifest(document: dict[str, Any]) -> bool:
    version, kind = document.get("apiVersion"), document.get("kind")
    return version == API_VERSION or (version, kind) in CORE_KINDS


def manifests() -> Iterator[Any]:
    for file in sorted(EXAMPLES.rglob("*.yaml")):
        for number, document in enumerate(documents(file.read_text())):
            yield pytest.param(document, id=f"{file.relative_to(ROOT)}[{number}]")
    for page in sorted(PAGES):
        blocks = (documents(block) for block in _YAML_BLOCK.findall(page.read_text()))
        found = [document for block in blocks for document in block if is_manifest(document)]
        for number, document in enumerate(found):
            yield pytest.param(document, id=f"{page.relative_to(ROOT)}[{number}]")


def dry_run(kubectl: Kubectl, manifest: dict[str, Any]) -> dict[str, Any]:
    """The object as the API server would store it; an unknown field is an error."""
    moved = {**manifest, "metadata": {**manifest["metadata"]}}
    if manifest["kind"] != "Namespace":
        moved["metadata"]["namespace"] = NAMESPACE
    answer: dict[str, Any] = json.loads(
        kubectl.run(
            *("create", "--dry-run=server", "--validate=strict", "--output=json", "--filename=-"),
            stdin=json.dumps(moved),
        )
    )
    return answer


@pytest.mark.parametrize("manifest", list(manifests()))
def test_the_api_server_and_the_operator_accept_a_manifest(
    kubectl: Kubectl, manifest: dict[str, Any]
) -> None:
    stored = dry_run(kubectl, manifest)
    if manifest["apiVersion"] == API_VERSION:
        read = MODELS[manifest["kind"]].from_object(stored)
        assert read.metadata.name == manifest["metadata"]["name"]
        written = read.model_dump(mode="json", by_alias=True, exclude_none=True)["spec"]
        assert is_part_of(manifest["spec"], written)


def is_part_of(said: Any, read: Any) -> bool:
    """Whether everything that the manifest says arrived in the model."""
    if isinstance(said, dict):
        return all(key in read and is_part_of(value, read[key]) for key, value in said.items())
    if isinstance(said, list):
        return len(said) == len(read) and all(map(is_part_of, said, read))
    return bool(said == read)


def test_every_kind_has_an_example_of_its_own() -> None:
    for kind in KINDS:
        found = documents((EXAMPLES / "reference" / f"{kind.kind_name.lower()}.yaml").read_text())
        assert {document["kind"] for document in found} == {kind.kind_name}


@pytest.mark.parametrize("page", sorted(PAGES), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_to_a_file_leads_somewhere(page: Path) -> None:
    links = _LINK.findall(_CODE.sub("", page.read_text()))
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("name", SCENARIOS)
def test_an_example_stays_in_its_namespace(name: str) -> None:
    namespace = read_example(name).namespace
    for file in sorted((EXAMPLES / name).rglob("*.yaml")):
        for document in documents(file.read_text()):
            metadata = document["metadata"]
            found = metadata["name"] if document["kind"] == "Namespace" else metadata["namespace"]
            assert found == namespace


@pytest.mark.parametrize("name", SCENARIOS)
def test_an_example_refers_to_nothing_that_it_does_not_bring_along(name: str) -> None:
    everything = [d for file in (EXAMPLES / name).rglob("*.yaml") for d in documents(file.read_text())]
    names = {(document["kind"], document["metadata"]["name"]) for document in everything}
    users = {d["spec"]["user"] for d in everything if d["kind"] == "UserMapping"}
    for document in everything:
        spec = document.get("spec", {})
        if "connectionRef" in spec:
            assert ("LakebaseConnection", spec["connectionRef"]["name"]) in names
        if "instanceRef" in spec.get("target", {}):
            assert ("LakebaseInstance", spec["target"]["instanceRef"]["name"]) in names
        if "auth" in spec:
            assert ("Secret", spec["auth"]["oauthM2M"]["clientSecretRef"]["name"]) in names
        for membership in spec.get("memberOf", ()):
            assert ("PostgresRole", membership["role"]) in names
        for subject in spec.get("subjects", ()):
            known = (
                users
                if subject["kind"] == "User"
                else {name for kind, name in names if kind == "PostgresRole"}
            )
            assert subject["name"] in known
