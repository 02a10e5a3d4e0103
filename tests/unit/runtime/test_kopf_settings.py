"""What Kopf gets of the API server's answers."""

from typing import Any

import pytest

from lakebase_operator.runtime.kopf_settings import without_items

GRANTS = "/apis/lakebase.dev/v1alpha1/accessgrants"


def answer(api_version: str, kind: str) -> dict[str, Any]:
    metadata = {"resourceVersion": "7", "continue": "more", "remainingItemCount": 9000}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, "items": [{"metadata": {}}]}


@pytest.mark.parametrize(
    ("path", "namespace"),
    [(GRANTS, None), (GRANTS.replace("accessgrants", "namespaces/team/accessgrants"), "team")],
)
def test_a_list_of_our_kinds_has_nothing_but_the_version_to_watch_from(
    path: str, namespace: str | None
) -> None:
    asked: list[tuple[str, str | None, str]] = []

    def begins(*told: Any) -> str:
        asked.append(told)
        return "5"

    given = without_items(path, answer("lakebase.dev/v1alpha1", "AccessGrantList"), begins)
    assert (given["items"], given["metadata"]) == ([], {"resourceVersion": "5"})
    assert asked == [("AccessGrant", namespace, "7")]


@pytest.mark.parametrize(
    "other",
    [
        answer("v1", "SecretList"),
        {"apiVersion": "v1", "kind": "APIResourceList", "resources": []},
        {"apiVersion": "v1", "kind": "Status", "metadata": {}, "code": 403},
        {"apiVersion": "lakebase.dev/v1alpha1", "kind": "AccessGrant", "metadata": {"name": "g"}},
    ],
)
def test_every_other_answer_stays_as_it_is(other: dict[str, Any]) -> None:
    assert without_items(GRANTS, other, lambda *_: "5") == other
