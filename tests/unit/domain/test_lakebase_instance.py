"""What is asked of the control plane next, from what is declared and what it says."""

from typing import Any

import pytest

from lakebase_operator.api.lakebase_instance import LakebaseInstanceSpec
from lakebase_operator.domain import lakebase_instance as domain
from lakebase_operator.domain.lakebase_instance import (
    CreateStep,
    DeleteStep,
    Found,
    Resource,
    ResourceKind,
    Setting,
    Step,
    UpdateStep,
    Value,
)

PROJECT = Resource(ResourceKind.PROJECT, "projects/marketing")
BRANCH = Resource(ResourceKind.BRANCH, "projects/marketing/branches/production")
PRIMARY = Resource(ResourceKind.ENDPOINT, f"{BRANCH.name}/endpoints/primary")
READER = Resource(ResourceKind.ENDPOINT, f"{BRANCH.name}/endpoints/reader")
STAGING = Resource(ResourceKind.BRANCH, "projects/marketing/branches/staging")
STAGING_PRIMARY = Resource(ResourceKind.ENDPOINT, f"{STAGING.name}/endpoints/primary")
INSTANCE = Resource(ResourceKind.INSTANCE, "marketing-db")


def spec(**fields: Any) -> LakebaseInstanceSpec:
    auth = {"workloadIdentity": {"clientID": "1f0c2a34"}}
    return LakebaseInstanceSpec.model_validate(
        {"workspaceURL": "https://acme.cloud.databricks.com", "auth": auth, **fields}
    )


def autoscaling(endpoint: dict[str, Any] | None = None, **fields: Any) -> LakebaseInstanceSpec:
    top = {name: fields.pop(name) for name in ("stopped", "nativeLogin") if name in fields}
    return spec(autoscaling={"project": "marketing", "endpoint": endpoint or {}, **fields}, **top)


def provisioned(**fields: Any) -> LakebaseInstanceSpec:
    top = {name: fields.pop(name) for name in ("stopped", "nativeLogin") if name in fields}
    return spec(provisioned={"instance": "marketing-db", **fields}, **top)


def found(*resources: Found) -> dict[Resource, Found]:
    return {one.resource: one for one in resources}


def there(resource: Resource, settings: dict[Setting, Value] | None = None, **facts: Any) -> Found:
    return Found(resource, settings or {}, **facts)


EMPTY_PROJECT = (there(PROJECT), there(BRANCH), there(PRIMARY))


def step(declared: LakebaseInstanceSpec, seen: dict[Resource, Found], **options: Any) -> Step | None:
    return domain.next_step(domain.wanted(declared), seen, **options)


@pytest.mark.requirement("R-95")
def test_what_is_missing_is_made_parents_first_with_what_is_declared() -> None:
    declared = autoscaling(
        {"minCU": 1, "maxCU": 4, "suspendTimeout": "10m", "readReplicas": [{"name": "reader"}]},
        postgresVersion=17,
        branches=[{"name": "staging", "expiresAfter": "24h"}],
    )
    first = step(declared, {})
    assert isinstance(first, CreateStep)
    assert first.resource == PROJECT
    assert first.wanted.at_creation == {
        Setting.POSTGRES_VERSION: 17,
        Setting.MIN_CU: 1,
        Setting.MAX_CU: 4,
        Setting.SUSPEND_TIMEOUT: 600,
    }
    size: dict[Setting, Value] = {Setting.MIN_CU: 1.0, Setting.MAX_CU: 4.0, Setting.SUSPEND_TIMEOUT: 600}
    seen = (there(PROJECT), there(BRANCH), there(PRIMARY, size))
    second = step(declared, found(*seen))
    assert isinstance(second, CreateStep)
    assert second.resource == READER
    assert second.wanted.at_creation == {Setting.READ_ONLY: True}
    third = step(declared, found(*seen, there(READER, {Setting.READ_ONLY: True})))
    assert isinstance(third, CreateStep)
    assert third.resource == STAGING
    assert third.wanted.at_creation == {Setting.SOURCE: BRANCH.name, Setting.EXPIRES_AFTER: 86400}
    fourth = step(declared, found(*seen, there(READER, {Setting.READ_ONLY: True}), there(STAGING)))
    assert isinstance(fourth, CreateStep)
    assert fourth.resource == STAGING_PRIMARY


@pytest.mark.requirement("R-96")
@pytest.mark.parametrize(
    ("declared", "seen"),
    [
        (autoscaling(), found(there(PROJECT, {Setting.NATIVE_LOGIN: True}), there(BRANCH), there(PRIMARY))),
        (provisioned(), found(there(INSTANCE, {Setting.CAPACITY: "CU_4", Setting.STOPPED: True}))),
        (
            provisioned(capacity="CU_2", stopped=False, nodes=1),
            found(
                there(
                    INSTANCE,
                    {
                        Setting.CAPACITY: "CU_2",
                        Setting.STOPPED: False,
                        Setting.NODES: 1,
                        Setting.NATIVE_LOGIN: True,
                    },
                )
            ),
        ),
    ],
)
def test_what_is_not_declared_is_left_alone_and_what_holds_is_not_asked_for(
    declared: LakebaseInstanceSpec, seen: dict[Resource, Found]
) -> None:
    assert step(declared, seen) is None


@pytest.mark.requirement("R-98")
def test_only_what_differs_is_changed() -> None:
    seen = found(there(INSTANCE, {Setting.CAPACITY: "CU_1", Setting.RETENTION_DAYS: 7, Setting.NODES: 1}))
    assert step(provisioned(capacity="CU_2", retentionDays=7), seen) == UpdateStep(
        INSTANCE, {Setting.CAPACITY: "CU_2"}
    )


def test_the_limits_of_a_compute_change_together() -> None:
    seen = found(there(PROJECT), there(BRANCH), there(PRIMARY, {Setting.MIN_CU: 1.0, Setting.MAX_CU: 2.0}))
    assert step(autoscaling({"minCU": 1, "maxCU": 8}), seen) == UpdateStep(
        PRIMARY, {Setting.MIN_CU: 1.0, Setting.MAX_CU: 8.0}
    )


@pytest.mark.parametrize("stopped", [True, False])
def test_a_lakebase_is_switched_off_and_on(stopped: bool) -> None:
    instance = found(there(INSTANCE, {Setting.STOPPED: not stopped}))
    assert step(provisioned(stopped=stopped), instance) == UpdateStep(INSTANCE, {Setting.STOPPED: stopped})
    endpoint = found(there(PROJECT), there(BRANCH), there(PRIMARY, {Setting.STOPPED: not stopped}))
    assert step(autoscaling(stopped=stopped), endpoint) == UpdateStep(PRIMARY, {Setting.STOPPED: stopped})


@pytest.mark.requirement("R-204")
def test_nothing_is_asked_for_while_something_changes() -> None:
    declared = autoscaling({"minCU": 1, "maxCU": 2, "readReplicas": [{"name": "reader"}]})
    assert step(declared, found(there(PROJECT), there(BRANCH), there(PRIMARY, busy=True))) is None


@pytest.mark.requirement("R-101")
def test_native_login_is_not_switched_off_while_it_is_needed() -> None:
    seen = found(there(INSTANCE, {Setting.NATIVE_LOGIN: True, Setting.CAPACITY: "CU_1"}))
    declared = provisioned(nativeLogin=False, capacity="CU_2")
    assert step(declared, seen, keep_native_login=True) == UpdateStep(INSTANCE, {Setting.CAPACITY: "CU_2"})
    assert step(provisioned(nativeLogin=False), seen, keep_native_login=True) is None
    assert step(provisioned(nativeLogin=False), seen) == UpdateStep(INSTANCE, {Setting.NATIVE_LOGIN: False})
    switched_off = found(there(INSTANCE, {Setting.NATIVE_LOGIN: False}))
    assert step(provisioned(nativeLogin=True), switched_off, keep_native_login=True) == UpdateStep(
        INSTANCE, {Setting.NATIVE_LOGIN: True}
    )


def test_a_replica_that_the_operator_made_goes_when_it_is_not_declared_any_more() -> None:
    reader = there(READER, {Setting.READ_ONLY: True})
    seen = found(*EMPTY_PROJECT, reader)
    assert step(autoscaling(), seen) is None
    assert step(autoscaling(), seen, made=[READER.name]) == DeleteStep(READER)


def test_a_replica_that_has_gone_is_the_operators_no_more_once_its_branch_has_been_seen_without_it() -> None:
    made = [PROJECT.name, READER.name, STAGING_PRIMARY.name]
    declared = domain.wanted(autoscaling())
    assert domain.gone(declared, found(*EMPTY_PROJECT), made) == {READER.name}
    assert domain.gone(declared, found(*EMPTY_PROJECT, there(READER)), made) == set()
    assert domain.gone(declared, {}, made) == set()
    still = domain.wanted(autoscaling({"readReplicas": [{"name": "reader"}]}))
    assert domain.gone(still, found(*EMPTY_PROJECT), made) == set()


def test_a_branch_that_is_not_declared_any_more_stays() -> None:
    seen = found(*EMPTY_PROJECT, there(STAGING), there(STAGING_PRIMARY))
    assert step(autoscaling(), seen, made=[STAGING.name, STAGING_PRIMARY.name]) is None


@pytest.mark.parametrize(
    ("declared", "seen", "says"),
    [
        (
            autoscaling(branch="main"),
            found(there(PROJECT)),
            "There is no branch projects/marketing/branches/main",
        ),
        (
            autoscaling({"name": "other"}),
            found(*EMPTY_PROJECT),
            'is "primary", not "other"',
        ),
        (
            autoscaling(postgresVersion=17),
            found(there(PROJECT, {Setting.POSTGRES_VERSION: 16}), there(BRANCH), there(PRIMARY)),
            "postgresVersion is 17, but the project projects/marketing has PostgreSQL 16",
        ),
        (
            autoscaling({"readReplicas": [{"name": "primary"}]}),
            found(*EMPTY_PROJECT),
            "exists and is read-write",
        ),
    ],
)
def test_what_can_never_become_so_is_said(
    declared: LakebaseInstanceSpec, seen: dict[Resource, Found], says: str
) -> None:
    problem = domain.problem(domain.wanted(declared), seen)
    assert problem is not None
    assert says in problem


@pytest.mark.requirement("R-98")
def test_wanted_and_effective_values_stand_side_by_side() -> None:
    declared = autoscaling({"minCU": 0.5, "maxCU": 2, "suspendTimeout": "1h"}, nativeLogin=True)
    seen = found(
        there(PROJECT, {Setting.NATIVE_LOGIN: False}),
        there(BRANCH),
        there(PRIMARY, {Setting.MIN_CU: 0.5, Setting.MAX_CU: 1.0}),
    )
    rows = [
        (row.name, row.wanted, row.effective, row.agrees)
        for row in domain.rows(domain.wanted(declared), seen)
    ]
    assert rows == [
        ("nativeLogin", "true", "false", False),
        ("production/primary minCU", "0.5", "0.5", True),
        ("production/primary maxCU", "2", "1", False),
        ("production/primary suspendTimeout", "3600s", None, False),
    ]


@pytest.mark.requirement("R-106")
def test_the_database_of_a_branch_is_its_read_write_endpoint() -> None:
    declared = autoscaling(branches=[{"name": "staging", "endpoint": {"name": "small"}}])
    assert domain.database_resource(declared) == PRIMARY
    assert domain.database_resource(declared, "production") == PRIMARY
    assert domain.database_resource(declared, "staging").name == f"{STAGING.name}/endpoints/small"
    assert domain.database_resource(provisioned()) == INSTANCE
    with pytest.raises(LookupError, match='declares no branch "other"'):
        domain.database_resource(declared, "other")
    with pytest.raises(LookupError, match="no branches"):
        domain.database_resource(provisioned(), "staging")
