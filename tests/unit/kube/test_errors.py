"""Answers of the API server as errors."""

import asyncio
import json

import pytest

from lakebase_operator.api.reasons import Reason
from lakebase_operator.domain.errors import InvalidError, TransientError
from lakebase_operator.external.kube.errors import (
    Conflict,
    Expired,
    Forbidden,
    Gone,
    KubeError,
    Rejected,
    Terminating,
    from_answer,
)
from lakebase_operator.external.kube.parallel import side_by_side


def status(message: str) -> bytes:
    return json.dumps({"kind": "Status", "message": message}).encode()


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (400, Rejected),
        (404, Gone),
        (409, Conflict),
        (410, Expired),
        (422, Rejected),
        (429, KubeError),
        (503, KubeError),
    ],
)
def test_an_answer_becomes_a_transient_error_that_says_what_was_tried(
    code: int, kind: type[KubeError]
) -> None:
    error = from_answer("list accessgrants", code, status("the reason"), None)
    assert type(error) is kind
    assert isinstance(error, TransientError)
    assert error.status == code
    assert error.message == "Kubernetes failed to list accessgrants: the reason"


def test_a_missing_right_is_for_a_person_to_mend() -> None:
    error = from_answer("get secrets", 403, status('secrets "x" is forbidden'), None)
    assert isinstance(error, Forbidden)
    assert isinstance(error, InvalidError)
    assert "ServiceAccount" in error.message


def test_a_namespace_that_is_being_deleted_is_no_question_of_rights() -> None:
    body = {
        "kind": "Status",
        "message": "events is forbidden: unable to create new content in namespace x because it is being terminated",
        "details": {
            "causes": [{"reason": "NamespaceTerminating", "message": "namespace x is being terminated"}]
        },
    }
    error = from_answer("create events", 403, json.dumps(body).encode(), None)
    assert isinstance(error, Terminating)
    assert "ServiceAccount" not in error.message


def test_failures_of_the_api_server_have_reasons_of_their_own() -> None:
    assert from_answer("list", 503, b"", None).reason is Reason.API_SERVER_ERROR
    assert from_answer("list", 403, b"", None).reason is Reason.API_SERVER_DENIED


def test_the_server_may_ask_for_a_pause() -> None:
    assert from_answer("list", 429, b"", "7").retry_after == 7
    assert from_answer("list", 429, b"", "Wed, 21 Oct 2026 07:28:00 GMT").retry_after is None


@pytest.mark.parametrize("body", [b"", b"<html>Bad Gateway</html>", b"[]", b"null"])
def test_an_answer_of_something_in_between_is_told_by_its_status(body: bytes) -> None:
    assert "HTTP status 502" in from_answer("list", 502, body, None).message


async def test_work_side_by_side_is_bounded_and_complete() -> None:
    running = highest = 0

    async def work(number: int) -> int:
        nonlocal running, highest
        running += 1
        highest = max(highest, running)
        await asyncio.sleep(0)
        running -= 1
        return number

    assert sorted(await side_by_side("numbers", work, range(100), limit=7)) == list(range(100))
    assert highest == 7


async def test_failures_side_by_side_are_told_together_after_the_rest_is_done() -> None:
    done = []

    async def work(number: int) -> None:
        if number % 10 == 0:
            raise Conflict(409, "somebody was faster")
        done.append(number)

    with pytest.raises(KubeError, match=r"3 of 30 things .* somebody was faster") as caught:
        await side_by_side("things", work, range(30), limit=4)
    assert len(done) == 27
    assert isinstance(caught.value.__cause__, ExceptionGroup)
