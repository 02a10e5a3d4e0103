"""Manifests of a directory, as pipelines have them: what is read, what is left alone, and how it is said what is wrong."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from lakebase_operator.engine.catalog import Catalog
from lakebase_operator.engine.keys import ConnectionKey
from lakebase_operator.runtime.offline import ManifestError, choose, read_manifests

MARKETING = ConnectionKey("default", "marketing")


def body(kind: str, name: str, spec: Any, **meta: Any) -> dict[str, Any]:
    return {
        "apiVersion": "lakebase.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": name, **meta},
        "spec": spec,
    }


def connection(name: str = "marketing", **meta: Any) -> dict[str, Any]:
    login = {"password": {"secretRef": {"name": "login"}}}
    return body(
        "LakebaseConnection",
        name,
        {"target": {"server": {"host": "db.example.com"}}, "databases": ["app"], "auth": login},
        **meta,
    )


def grant(name: str = "read", *, spec: dict[str, Any] | None = None, **meta: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "connectionRef": {"name": "marketing"},
        "subjects": [{"kind": "Role", "name": "reader"}],
        "access": "Read",
        "objects": [{"tables": {"schema": "sales", "matching": ["*"]}}],
    }
    return body("AccessGrant", name, given | (spec or {}), **meta)


def read(directory: Path, text: str) -> Catalog:
    (directory / "connection.yaml").write_text(yaml.safe_dump(connection()))
    (directory / "file.yaml").write_text(text)
    return read_manifests([directory], "default")


def names(catalog: Catalog) -> list[str]:
    return [one.metadata.name for one in catalog.grants(MARKETING)]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "---\n---\n",
        "- one\n- two\n",
        "just a text\n",
        "kind: Something\nitems:\n",
        "kind: Something\nitems: 5\n",
        "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {password: '1'}\n",
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [connection.yaml]\n",
    ],
)
def test_what_is_none_of_our_kinds_is_left_alone(tmp_path: Path, text: str) -> None:
    (tmp_path / "a-directory.yaml").mkdir()
    assert names(read(tmp_path, text)) == []


@pytest.mark.parametrize(
    "document",
    [
        {"apiVersion": "v1", "kind": "List", "items": [grant(), {"kind": "List", "items": [grant("two")]}]},
        {
            "kind": "List",
            "items": [grant(status={}, managedFields=[{}]), {**grant("two"), "status": "of an export"}],
        },
        {"kind": "List", "items": [grant(namespace=None), grant("two", annotations=None)]},
    ],
    ids=["list-in-list", "exported", "null"],
)
def test_lists_and_exports_are_read(tmp_path: Path, document: dict[str, Any]) -> None:
    document = yaml.safe_load(yaml.safe_dump(document))
    assert sorted(names(read(tmp_path, yaml.safe_dump(document)))) == ["read", "two"]


@pytest.mark.parametrize("written", ["2027-03-31T18:00:00Z", "2027-03-31 18:00:00+00:00"])
def test_a_moment_needs_no_quotes(tmp_path: Path, written: str) -> None:
    text = yaml.safe_dump(grant(labels={"since": "THEN"}, spec={"expiresAt": "END"}))
    catalog = read(tmp_path, text.replace("THEN", "2026-99-01").replace("END", written))
    (one,) = catalog.grants(MARKETING)
    assert one.spec.expires_at is not None
    assert one.spec.expires_at.isoformat() == "2027-03-31T18:00:00+00:00"
    assert one.metadata.labels == {"since": "2026-99-01"}


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (grant(spec={"access": "Reed"}), "AccessGrant default/read: spec.access: "),
        (grant(spec={"expiresat": "2027-03-31T18:00:00Z"}), "AccessGrant default/read: spec.expiresat: "),
        (grant(spec={"expires_at": "2027-03-31T18:00:00Z"}), "AccessGrant default/read: spec.expires_at: "),
        (
            grant(spec={"objects": [{"tables": {"schema": "s", "names": ["t"], "but": []}}]}),
            "AccessGrant default/read: spec.objects[0].tables.but: ",
        ),
        (grant(spec={"connectionRef": None}), "AccessGrant default/read: spec.connectionRef: "),
        (body("LakebaseInstance", "big", {}), "LakebaseInstance default/big: spec.workspaceURL: "),
        (grant(name=5), "metadata.name: "),  # type: ignore[arg-type]  # that is the point
        (grant(labels={"a": 5}), "AccessGrant default/read: metadata.labels.a: "),
        (grant(annotations=["a"]), "AccessGrant default/read: metadata.annotations: "),
        (grant() | {"metadata": "read"}, "AccessGrant: metadata.name is missing"),
        (grant() | {"metadata": {"generateName": "read-"}}, "AccessGrant: metadata.name is missing"),
        (grant() | {"kind": "AccesGrant"}, "there is no kind AccesGrant in lakebase.dev/v1alpha1"),
        (grant() | {"apiVersion": "lakebase.dev/v1"}, "there is no kind AccessGrant in lakebase.dev/v1"),
        (grant(spec={"access": {1: {True: "\0"}}}), "AccessGrant default/read: spec.access"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_wrong_is_told_with_the_file_the_object_and_the_field(
    tmp_path: Path, wrong: dict[str, Any], told: str
) -> None:
    with pytest.raises(ManifestError) as caught:
        read(tmp_path, yaml.safe_dump(wrong))
    assert str(caught.value).startswith(f"{tmp_path / 'file.yaml'}: ")
    assert told in str(caught.value)


@pytest.mark.parametrize(
    "value", ['"hunter2', "*hunter2", "!hunter2 x", "&hunter2", "{{ hunter2 }}: [", "hunter2\x01", "@hunter2"]
)
def test_a_file_that_is_not_yaml_is_told_without_what_is_in_it(tmp_path: Path, value: str) -> None:
    with pytest.raises(ManifestError, match=r"file\.yaml: is not YAML") as caught:
        read(tmp_path, f"kind: Secret\nstringData:\n  password: {value}\n  more: &hunter2\n  more: [\n")
    assert "hunter2" not in str(caught.value)


def test_a_file_that_is_not_yaml_is_told_with_the_place(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"file\.yaml: is not YAML: see line 2, column 6$"):
        read(tmp_path, "fine: 1\nnot: @fine\n")


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "link.yaml").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ManifestError, match=r"link\.yaml: cannot be read: No such file"):
        read(tmp_path, "")


def test_the_connection_is_chosen_by_its_name_or_by_namespace_and_name(tmp_path: Path) -> None:
    catalog = read(tmp_path, yaml.safe_dump_all([connection(namespace="team"), connection("other")]))
    assert choose(catalog, "other").metadata.name == "other"
    assert choose(catalog, "team/marketing").metadata.namespace == "team"
    with pytest.raises(ManifestError, match="no such LakebaseConnection; the manifests have: default/m"):
        choose(catalog, "missing")
    for ambiguous in (None, "marketing"):
        with pytest.raises(ManifestError, match="name the LakebaseConnection with --connection"):
            choose(catalog, ambiguous)


def test_without_any_connection_one_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="the manifests have no LakebaseConnection"):
        choose(read_manifests([tmp_path], "default"), None)
