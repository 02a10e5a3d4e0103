"""What the API server takes and refuses of a PostgresRole's password, binding and suspension."""

from typing import Any

import pytest

from tests.crds.manifests import role
from tests.crds.objects import Objects, Refused

GIVEN = {"from": {"name": "vault", "key": "password"}}
IDENTITY = {"type": "ServicePrincipal", "name": "7d1e9b58-0c4f-4a63-9f2e-3b5a6c7d8e90"}

REFUSED: list[tuple[dict[str, Any], str]] = [
    (role(password={"generate": {}, **GIVEN}), "only one of generate and from"),
    (role(password={"generate": {"length": 23}}), "spec.password.generate.length"),
    (role(password={**GIVEN, "logins": "Two"}), "a password that is given is that of one login"),
    (role(password={}, identity=IDENTITY), "an identity logs in with OAuth"),
    (role(password={}, login=True), "login: true says that the role itself logs in"),
    (role(password={"logins": "One"}, login=False), "a role with a password logs in"),
    (role(password={}, databaseSettings={"sales": {"work_mem": "8MB"}}), "with two logins only settings"),
    (role(password={}, roleName="r" * 62), "with two logins at most 61 bytes"),
    (role(password={"rotation": {"interval": "90d"}}), "spec.password.rotation.interval"),
    (role(binding={"secretName": "app"}), "only a password is published"),
    (role(password={}, binding={"template": {"a b": "$host"}}), "spec.binding.template"),
    (role(suspend=True), "only a login can be suspended"),
    (role(suspend=True, login=False), "only a login can be suspended"),
]

ACCEPTED: list[dict[str, Any]] = [
    role(password={}),
    role(password={"generate": {"length": 64}, "rotation": {"interval": "720h", "overlap": "1h30m"}}),
    role(password={"logins": "One"}, login=True, suspend=True),
    role(password=GIVEN, login=True, databaseSettings={"sales": {"work_mem": "8MB"}}),
    role(password={}, binding={"secretName": "app", "database": "sales", "template": {"PGHOST": "$host"}}),
    role(identity=IDENTITY, suspend=True),
    role(login=True, suspend=True),
]


@pytest.mark.parametrize(("body", "message"), REFUSED)
def test_the_api_server_refuses_what_a_login_cannot_be(
    objects: Objects, body: dict[str, Any], message: str
) -> None:
    with pytest.raises(Refused) as refusal:
        objects.create(body, dry_run=True)
    assert message in str(refusal.value)


@pytest.mark.parametrize("body", ACCEPTED)
def test_the_api_server_takes_every_kind_of_login(objects: Objects, body: dict[str, Any]) -> None:
    objects.create(body, dry_run=True)


def test_which_roles_log_in_and_where_it_is_published_cannot_be_changed(objects: Objects) -> None:
    body = role(password={}, binding={"secretName": "shop"})
    body["metadata"]["name"] = "shop"
    objects.create(body)
    changes: list[tuple[dict[str, Any], str]] = [
        ({"password": {"logins": "One"}}, "which roles log in cannot be changed"),
        ({"password": GIVEN}, "which roles log in cannot be changed"),
        ({"binding": {"secretName": "other"}}, "is immutable"),
        ({"binding": {"secretName": None}}, "secretName is immutable"),
    ]
    for change, message in changes:
        with pytest.raises(Refused) as refusal:
            objects.patch("PostgresRole", "shop", {"spec": change})
        assert message in str(refusal.value)
    objects.patch(
        "PostgresRole", "shop", {"spec": {"password": {"logins": "Two", "rotation": {"interval": "1h"}}}}
    )
