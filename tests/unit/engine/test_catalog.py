"""The view of the cluster."""

import tracemalloc
from collections.abc import Iterable

import pytest

from lakebase_operator.engine.catalog import Broken, Catalog, Dirty
from lakebase_operator.engine.keys import ConnectionKey, ObjectKey
from tests.unit.engine.bodies import Body, changed, connection, grant, mapping, role

MARKETING = ConnectionKey("team", "marketing")
RESEARCH = ConnectionKey("team", "research")
NAMELESS = ConnectionKey("team", "")


def names(objects: Iterable[object]) -> list[str]:
    return [one.metadata.name for one in objects]  # type: ignore[attr-defined]  # any kind, or Broken


def filled(*bodies: Body) -> Catalog:
    catalog = Catalog()
    for one in bodies:
        catalog.upsert(one["kind"], one)
    for key in catalog.connection_keys():
        catalog.take_dirty(key)
    return catalog


def key(one: Body) -> ObjectKey:
    return ObjectKey(one["kind"], one["metadata"]["namespace"], one["metadata"]["name"])


# -- what belongs to a connection --------------------------------------------------------------------------------------


def test_objects_are_found_by_the_connection_that_they_name() -> None:
    catalog = filled(
        connection("marketing"),
        connection("research"),
        role("reader", "marketing"),
        role("writer", "research"),
        grant("g1", "marketing"),
        grant("g2", "marketing"),
    )
    assert catalog.connection(MARKETING) is not None
    assert names(catalog.roles(MARKETING)) == ["reader"]
    assert names(catalog.grants(MARKETING)) == ["g1", "g2"]
    assert names(catalog.roles(RESEARCH)) == ["writer"]
    assert catalog.grants(RESEARCH) == ()
    assert catalog.connection_keys() == (MARKETING, RESEARCH)


def test_a_reference_may_lead_to_another_namespace() -> None:
    there = grant("g", namespace="apps")
    there["spec"]["connectionRef"] = {"name": "marketing", "namespace": "team"}
    assert names(filled(connection(), there).grants(MARKETING)) == ["g"]


def test_declarations_for_a_connection_that_does_not_exist_are_known_by_its_name() -> None:
    catalog = filled(grant("g", "nowhere"))
    assert catalog.connection_keys() == (ConnectionKey("team", "nowhere"),)
    assert catalog.connection(ConnectionKey("team", "nowhere")) is None
    assert names(catalog.grants(ConnectionKey("team", "nowhere"))) == ["g"]


def test_the_oldest_object_comes_first_and_names_decide_between_equals() -> None:
    young = grant("a", meta={"creationTimestamp": "2026-03-01T00:00:00Z"})
    old = grant("z", meta={"creationTimestamp": "2026-02-01T00:00:00Z"})
    same = grant("b", meta={"creationTimestamp": "2026-03-01T00:00:00Z"})
    assert names(filled(same, young, old).grants(MARKETING)) == ["z", "a", "b"]


def test_a_mapping_that_names_no_connection_belongs_to_all_of_its_namespace() -> None:
    catalog = filled(
        connection("marketing"),
        connection("research"),
        connection("other", namespace="elsewhere"),
        mapping("alice"),
        mapping("bob", "research"),
    )
    assert names(catalog.mappings(MARKETING)) == ["alice"]
    assert names(catalog.mappings(RESEARCH)) == ["alice", "bob"]
    assert catalog.mappings(ConnectionKey("elsewhere", "other")) == ()
    assert catalog.upsert("UserMapping", changed(mapping("alice"), 9, generation=2)) == {MARKETING, RESEARCH}


def test_a_mapping_in_a_namespace_without_connection_waits_under_an_empty_name() -> None:
    catalog = Catalog()
    assert catalog.upsert("UserMapping", mapping("alice")) == {NAMELESS}
    assert catalog.connection_keys() == (NAMELESS,)
    assert names(catalog.mappings(NAMELESS)) == ["alice"]

    assert MARKETING in catalog.upsert("LakebaseConnection", connection())
    assert catalog.connection_keys() == (MARKETING,)
    assert catalog.mappings(NAMELESS) == ()
    assert names(catalog.mappings(MARKETING)) == ["alice"]

    assert catalog.remove("LakebaseConnection", "team", "marketing") == {MARKETING, NAMELESS}
    assert catalog.connection_keys() == (NAMELESS,)


def test_a_mapping_that_names_no_connection_does_not_belong_to_one_that_does_not_exist() -> None:
    catalog = filled(connection("marketing"), grant("g", "nowhere"), mapping("alice"))
    assert catalog.mappings(ConnectionKey("team", "nowhere")) == ()


def test_the_secrets_of_a_connection_are_known_both_ways() -> None:
    spec = {
        "workspaceURL": "https://acme.cloud.databricks.com",
        "target": {"autoscaling": {"project": "marketing"}},
        "auth": {"oauthM2M": {"clientID": "id", "clientSecretRef": {"name": "sp", "key": "secret"}}},
        "tls": {"caRef": {"name": "ca", "key": "ca.crt"}},
    }
    first = connection("marketing", spec=spec)
    catalog = filled(first, connection("research"))
    assert catalog.secrets_used(MARKETING) == {("team", "sp"), ("team", "ca")}
    assert catalog.all_secrets() == (("team", "ca"), ("team", "research-login"), ("team", "sp"))
    assert catalog.secret_users("team", "ca") == {MARKETING}

    del spec["tls"]
    catalog.upsert("LakebaseConnection", changed(first, 2, generation=2, spec=spec))
    assert catalog.secret_users("team", "ca") == frozenset()


# -- what makes a connection dirty -------------------------------------------------------------------------------------


def test_a_new_object_makes_its_connection_dirty() -> None:
    catalog = Catalog()
    assert catalog.upsert("AccessGrant", grant("g")) == {MARKETING}
    assert catalog.take_dirty(MARKETING) == Dirty(full=False, objects=frozenset({key(grant("g"))}))
    assert not catalog.take_dirty(MARKETING)


@pytest.mark.parametrize(
    "parts",
    [
        {"status": {"observedGeneration": 1}},
        {"meta": {"managedFields": []}},
        {"meta": {"annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}"}}},
        {"meta": {"ownerReferences": [{"uid": "x"}]}},
    ],
    ids=["status", "managedFields", "annotation of another tool", "owners"],
)
def test_what_does_not_concern_the_database_makes_nothing_dirty(parts: Body) -> None:
    catalog = filled(grant("g"))
    assert catalog.upsert("AccessGrant", changed(grant("g"), 2, **parts)) == frozenset()
    assert not catalog.take_dirty(MARKETING)


@pytest.mark.parametrize(
    "parts",
    [
        {"generation": 2},
        {"meta": {"labels": {"tier": "gold"}}},
        {"meta": {"annotations": {"lakebase.dev/abandon": "true"}}},
        {"meta": {"finalizers": ["someone/else"]}},
        {"meta": {"deletionTimestamp": "2026-01-02T00:00:00Z"}},
        {"meta": {"uid": "another"}},
    ],
    ids=["generation", "labels", "own annotation", "finalizers", "deletion", "recreated"],
)
def test_what_concerns_the_database_makes_the_connection_dirty(parts: Body) -> None:
    catalog = filled(grant("g"))
    assert catalog.upsert("AccessGrant", changed(grant("g"), 2, **parts)) == {MARKETING}


def test_a_spec_that_changes_without_a_generation_is_still_seen() -> None:
    """A new default in the CustomResourceDefinition changes what is read, and raises no generation."""
    catalog = filled(grant("g"))
    spec = {**grant("g")["spec"], "suspend": True}
    assert catalog.upsert("AccessGrant", changed(grant("g"), 2, spec=spec)) == {MARKETING}


def test_an_event_that_has_been_overtaken_changes_nothing() -> None:
    catalog = filled(changed(grant("g"), 7, generation=3))
    assert catalog.upsert("AccessGrant", changed(grant("g"), 7, generation=3)) == frozenset()
    assert catalog.upsert("AccessGrant", changed(grant("g"), 6, generation=2)) == frozenset()
    assert catalog.grants(MARKETING)[0].metadata.generation == 3


def test_an_object_that_moves_to_another_connection_makes_both_dirty() -> None:
    catalog = filled(connection("marketing"), connection("research"), mapping("alice", "marketing"))
    moved = changed(mapping("alice", "research"), 2, generation=2)
    assert catalog.upsert("UserMapping", moved) == {MARKETING, RESEARCH}
    assert catalog.mappings(MARKETING) == ()
    assert names(catalog.mappings(RESEARCH)) == ["alice"]
    assert not catalog.concerns(MARKETING, key(moved))
    assert catalog.concerns(RESEARCH, key(moved))


def test_a_removed_object_makes_its_connection_dirty_and_is_gone() -> None:
    catalog = filled(grant("g"))
    assert catalog.remove("AccessGrant", "team", "g") == {MARKETING}
    assert catalog.take_dirty(MARKETING).objects == {key(grant("g"))}
    assert catalog.grants(MARKETING) == ()
    assert catalog.connection_keys() == ()
    assert catalog.remove("AccessGrant", "team", "g") == frozenset()


def test_the_late_news_of_a_deletion_does_not_remove_the_successor_of_the_same_name() -> None:
    catalog = filled(grant("g", version=10, meta={"uid": "second"}))
    assert catalog.remove("AccessGrant", "team", "g", uid="first", version="5") == frozenset()
    assert names(catalog.grants(MARKETING)) == ["g"]


def test_a_change_of_the_connection_itself_asks_for_a_full_pass() -> None:
    catalog = filled(connection())
    sync = changed(connection(), 2, meta={"annotations": {"lakebase.dev/sync-now": "1"}})
    assert catalog.upsert("LakebaseConnection", sync) == {MARKETING}
    assert catalog.take_dirty(MARKETING).full


def test_what_a_failed_pass_took_is_still_to_be_done() -> None:
    catalog = Catalog()
    catalog.upsert("AccessGrant", grant("g1"))
    catalog.mark_full(MARKETING)
    taken = catalog.take_dirty(MARKETING)
    catalog.upsert("AccessGrant", grant("g2"))
    catalog.restore_dirty(MARKETING, taken)
    assert catalog.take_dirty(MARKETING) == Dirty(True, frozenset({key(grant("g1")), key(grant("g2"))}))


# -- our own writes ----------------------------------------------------------------------------------------------------


def test_the_echo_of_an_own_status_write_changes_nothing() -> None:
    catalog = filled(grant("g"))
    written = changed(grant("g"), 2, status={"observedGeneration": 1, "objects": 3})
    assert catalog.absorb("AccessGrant", written) == frozenset()
    assert catalog.status(key(written)) == {"observedGeneration": 1, "objects": 3}
    assert catalog.upsert("AccessGrant", written) == frozenset()


def test_an_own_finalizer_makes_nothing_dirty() -> None:
    catalog = filled(grant("g"))
    written = changed(grant("g"), 2, meta={"finalizers": ["lakebase.dev/finalizer"]})
    assert catalog.absorb("AccessGrant", written) == frozenset()
    assert catalog.grants(MARKETING)[0].metadata.finalizers == ["lakebase.dev/finalizer"]


def test_a_change_by_somebody_else_that_comes_with_the_answer_to_an_own_write_is_not_lost() -> None:
    catalog = filled(grant("g"))
    both = changed(grant("g"), 3, generation=2, status={"observedGeneration": 1})
    assert catalog.absorb("AccessGrant", both) == {MARKETING}
    assert catalog.upsert("AccessGrant", changed(grant("g"), 2, generation=2)) == frozenset()
    assert catalog.take_dirty(MARKETING)


def test_the_answer_to_a_write_does_not_bring_back_what_is_gone() -> None:
    catalog = filled(grant("g"))
    catalog.remove("AccessGrant", "team", "g", uid=grant("g")["metadata"]["uid"], version="5")
    assert catalog.absorb("AccessGrant", changed(grant("g"), 4)) == frozenset()
    assert catalog.grants(MARKETING) == ()


# -- objects that cannot be read ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        ({"objects": [{"tables": {"names": ["orders"]}}]}, "spec.objects[0].tables.schema: Field required"),
        ({"access": "Everything"}, "spec.access: Input should be 'Read', 'Modify' or 'Write'"),
        ({"subjects": []}, "spec.subjects: List should have at least 1 item after validation, not 0"),
        # The API server takes both; in a statement about everything they would fail it for everybody.
        (
            {"objects": [{"tables": {"schema": "sales", "names": ["ord\0ers"]}}]},
            "spec.objects[0].tables.names[0]: holds a NUL character, which no text in PostgreSQL can",
        ),
        ({"note\0": "x"}, "spec: holds a NUL character, which no text in PostgreSQL can"),
    ],
)
def test_a_broken_object_names_the_field_and_does_not_hide_the_others(spoil: Body, problem: str) -> None:
    bad = grant("bad")
    bad["spec"] |= spoil
    catalog = filled(grant("good"), bad)
    (broken,) = catalog.broken(MARKETING)
    assert isinstance(broken, Broken)
    assert (broken.kind, broken.metadata.name, broken.problem) == ("AccessGrant", "bad", problem)
    assert names(catalog.grants(MARKETING)) == ["good"]


def test_a_broken_object_that_is_mended_is_an_object_again() -> None:
    bad = grant("g")
    bad["spec"] |= {"access": "Everything"}
    catalog = filled(bad)
    assert catalog.upsert("AccessGrant", changed(grant("g"), 2, generation=2)) == {MARKETING}
    assert catalog.broken(MARKETING) == ()
    assert names(catalog.grants(MARKETING)) == ["g"]


def test_a_broken_connection_is_reported_under_its_own_name() -> None:
    catalog = filled(connection(spec={"target": {}}), grant("g"))
    assert catalog.connection(MARKETING) is None
    assert names(catalog.broken(MARKETING)) == ["marketing"]


def test_an_object_whose_reference_cannot_be_read_is_reported_in_its_namespace() -> None:
    catalog = filled(connection(), grant("g", spec={"connectionRef": "marketing"}))
    assert names(catalog.broken(MARKETING)) == ["g"]
    assert names(filled(grant("g", spec={})).broken(NAMELESS)) == ["g"]


# -- lists ---------------------------------------------------------------------------------------------------------------


def resync(catalog: Catalog, kind: str, version: int, *bodies: Body) -> frozenset[ConnectionKey]:
    comparison = catalog.resync(kind)
    comparison.take(bodies, str(version))
    return comparison.finish()


def test_a_list_finds_what_vanished_what_changed_and_what_is_new() -> None:
    catalog = filled(*(grant(name, to) for name, to in [("gone", "a"), ("edited", "b"), ("same", "c")]))
    dirty = resync(
        catalog,
        "AccessGrant",
        50,
        changed(grant("edited", "b"), 20, generation=2),
        grant("same", "c"),
        grant("new", "d", version=30),
    )
    assert dirty == {ConnectionKey("team", name) for name in "abd"}
    assert {one.name: catalog.take_dirty(one) for one in dirty} == {
        "a": Dirty(objects=frozenset({key(grant("gone"))})),
        "b": Dirty(objects=frozenset({key(grant("edited"))})),
        "d": Dirty(objects=frozenset({key(grant("new"))})),
    }
    assert not catalog.take_dirty(ConnectionKey("team", "c"))
    assert catalog.grants(ConnectionKey("team", "a")) == ()


def test_a_list_of_several_pages_is_one_list() -> None:
    catalog = filled(grant("g1"), grant("g2"), grant("g3"))
    comparison = catalog.resync("AccessGrant")
    comparison.take([grant("g1")], "10")
    comparison.take([grant("g3")], "10")
    assert comparison.finish() == {MARKETING}
    assert names(catalog.grants(MARKETING)) == ["g1", "g3"]


def test_what_happens_while_a_list_is_read_is_kept() -> None:
    catalog = filled(grant("deleted"), grant("edited"))
    comparison = catalog.resync("AccessGrant")
    catalog.upsert("AccessGrant", grant("made", version=11))
    catalog.upsert("AccessGrant", changed(grant("edited"), 12, generation=2))
    catalog.remove("AccessGrant", "team", "deleted", uid=grant("deleted")["metadata"]["uid"], version="13")
    comparison.take([grant("deleted"), grant("edited")], "10")
    comparison.finish()
    assert names(catalog.grants(MARKETING)) == ["edited", "made"]
    assert catalog.grants(MARKETING)[0].metadata.generation == 2


def test_a_spec_is_read_again_only_if_it_differs() -> None:
    catalog = filled(grant("g"))
    before = catalog.grants(MARKETING)[0]
    assert (
        catalog.upsert("AccessGrant", changed(grant("g"), 5, status={"observedGeneration": 1})) == frozenset()
    )
    assert catalog.grants(MARKETING)[0].spec is before.spec
    other = changed(grant("g"), 6)
    other["spec"] = {**other["spec"], "suspend": True}
    assert catalog.upsert("AccessGrant", other) == {MARKETING}
    assert catalog.grants(MARKETING)[0].spec.suspend


def test_a_deleted_object_may_come_back_under_its_name() -> None:
    catalog = filled(grant("g"))
    catalog.remove("AccessGrant", "team", "g", uid=grant("g")["metadata"]["uid"], version="5")
    assert catalog.upsert("AccessGrant", grant("g", version=6, meta={"uid": "second"})) == {MARKETING}


def test_after_a_restore_from_backup_the_list_holds_even_though_it_is_older() -> None:
    catalog = filled(connection(), changed(grant("g"), 900, generation=9), grant("lost", version=950))
    resync(catalog, "AccessGrant", 1000, changed(grant("g"), 900, generation=9), grant("lost", version=950))
    dirty = resync(catalog, "AccessGrant", 400, changed(grant("g"), 300, generation=3))
    assert dirty == {MARKETING}
    assert [(one.metadata.name, one.metadata.generation) for one in catalog.grants(MARKETING)] == [("g", 3)]
    assert catalog.take_dirty(MARKETING).full


def test_a_list_of_one_namespace_says_nothing_of_the_others() -> None:
    catalog = filled(grant("here", namespace="team"), grant("there", namespace="other"))
    comparison = catalog.resync("AccessGrant", "team")
    comparison.take([], "10")
    assert comparison.finish() == {MARKETING}
    assert names(catalog.grants(ConnectionKey("other", "marketing"))) == ["there"]


def test_a_list_that_finds_nothing_new_makes_nothing_dirty() -> None:
    catalog = filled(connection(), grant("g"))
    assert resync(catalog, "AccessGrant", 10, grant("g")) == frozenset()


def test_objects_are_counted_by_kind_and_readiness() -> None:
    ready = {"conditions": [{"type": "Ready", "status": "True"}]}
    catalog = filled(grant("g1", status=ready), grant("g2"), connection())
    assert catalog.readiness() == {
        ("AccessGrant", "True"): 1,
        ("AccessGrant", "Unknown"): 1,
        ("LakebaseConnection", "Unknown"): 1,
    }
    catalog.upsert("AccessGrant", changed(grant("g2"), 2, status=ready))
    catalog.remove("AccessGrant", "team", "g1")
    catalog.remove("LakebaseConnection", "team", "marketing")
    assert catalog.readiness() == {("AccessGrant", "True"): 1}


def test_grants_that_end_are_known_until_they_do_not_end_any_more_or_are_gone() -> None:
    def ends(name: str, version: int) -> Body:
        one = grant(name, version=version)
        return {**one, "spec": {**one["spec"], "expiresAt": "2026-02-01T00:00:00Z"}}

    catalog = filled(ends("g1", 1), ends("g2", 1), grant("g3"))
    assert sorted(names(catalog.ending_grants())) == ["g1", "g2"]
    catalog.upsert("AccessGrant", grant("g1", version=2))
    catalog.upsert("AccessGrant", ends("g3", 2))
    assert sorted(names(catalog.ending_grants())) == ["g2", "g3"]
    catalog.remove("AccessGrant", "team", "g2")
    catalog.upsert("AccessGrant", grant("g3", version=3, spec={"expiresAt": "2026-02-01T00:00:00Z"}))
    assert names(catalog.ending_grants()) == []  # gone, and not readable


@pytest.mark.requirement("R-202")
def test_ten_thousand_grants_take_less_than_a_hundred_megabytes() -> None:
    tracemalloc.start()
    catalog = Catalog()
    for number in range(1000):
        catalog.upsert("AccessGrant", grant(f"g{number}", version=number + 1))
    used = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert used * 10 < 100e6
    assert len(catalog.grants(MARKETING)) == 1000
