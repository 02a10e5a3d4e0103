"""What the SDK raises becomes one of our errors, with a message that is safe to show and the same each time."""

import logging

import pytest
import requests
from databricks.sdk.errors import platform
from databricks.sdk.errors.base import DatabricksError
from databricks.sdk.errors.private_link import PrivateLinkValidationError

from lakebase_operator.api.reasons import Reason
from lakebase_operator.domain.errors import InvalidError, LakebaseError, NotReadyError, TransientError
from lakebase_operator.external.databricks.errors import (
    Task,
    WaitTooLongError,
    cause,
    explain,
    tidy,
    token_refused,
)

TASK = Task("reading instance marketing-db", "CAN_USE on instance marketing-db")
SECRET = "s3cr3t-of-the-client"
CONFIG_TAIL = ". Config: host=https://acme.example, client_id=1f0c, auth_type=oauth-m2m. Env: DATABRICKS_HOST"


def explained(error: Exception) -> LakebaseError:
    return explain(error, "acme.example", TASK, secrets=(SECRET,))


@pytest.mark.parametrize(
    ("error", "kind", "reason"),
    [
        (platform.Unauthenticated("no"), InvalidError, Reason.OAUTH_CLIENT_REJECTED),
        (platform.PermissionDenied("Invalid access token."), InvalidError, Reason.OAUTH_CLIENT_REJECTED),
        (platform.PermissionDenied("no"), InvalidError, Reason.CONTROL_PLANE_DENIED),
        (PrivateLinkValidationError("no"), InvalidError, Reason.CONTROL_PLANE_DENIED),
        (
            platform.PermissionDenied("Source IP address: 203.0.113.7 is blocked by Databricks IP ACL"),
            InvalidError,
            Reason.ADDRESS_BLOCKED,
        ),
        (
            platform.PermissionDenied("Unauthorized network access to workspace: 42"),
            InvalidError,
            Reason.ADDRESS_BLOCKED,
        ),
        (platform.NotFound("project id not found"), NotReadyError, Reason.INSTANCE_NOT_FOUND),
        (platform.ResourceDoesNotExist("gone"), NotReadyError, Reason.INSTANCE_NOT_FOUND),
        (
            platform.NotFound("No API found for 'GET /postgres'", error_code="ENDPOINT_NOT_FOUND"),
            InvalidError,
            Reason.LAKEBASE_NOT_ENABLED,
        ),
        (
            platform.BadRequest("off", error_code="FEATURE_DISABLED"),
            InvalidError,
            Reason.LAKEBASE_NOT_ENABLED,
        ),
        (platform.ResourceConflict("busy"), TransientError, Reason.CONTROL_PLANE_CONFLICT),
        (
            platform.Aborted("Endpoint reconciliation still in progress"),
            TransientError,
            Reason.CONTROL_PLANE_CONFLICT,
        ),
        (platform.TooManyRequests("slow down"), TransientError, Reason.CONTROL_PLANE_THROTTLED),
        (platform.ResourceExhausted("slow down"), TransientError, Reason.CONTROL_PLANE_THROTTLED),
        (platform.InvalidParameterValue("bad"), InvalidError, Reason.CONTROL_PLANE_ERROR),
        (platform.InvalidState("not now"), TransientError, Reason.CONTROL_PLANE_ERROR),
        (platform.InternalError("oops"), TransientError, Reason.CONTROL_PLANE_ERROR),
        (platform.NotImplemented("later"), TransientError, Reason.CONTROL_PLANE_ERROR),
        (platform.TemporarilyUnavailable("later"), TransientError, Reason.CONTROL_PLANE_ERROR),
        (platform.DeadlineExceeded("later"), TransientError, Reason.CONTROL_PLANE_ERROR),
        (DatabricksError("teapot"), TransientError, Reason.CONTROL_PLANE_ERROR),
        (requests.exceptions.SSLError("bad"), TransientError, Reason.CONTROL_PLANE_UNREACHABLE),
        (requests.exceptions.ConnectTimeout("slow"), TransientError, Reason.CONTROL_PLANE_UNREACHABLE),
        (requests.exceptions.ProxyError("no"), TransientError, Reason.CONTROL_PLANE_UNREACHABLE),
        (requests.exceptions.ConnectionError("no"), TransientError, Reason.CONTROL_PLANE_UNREACHABLE),
        (TimeoutError("Timed out after 0:00:20"), TransientError, Reason.CONTROL_PLANE_UNREACHABLE),
        (OSError("invalid path: /ca.pem"), TransientError, Reason.CONTROL_PLANE_UNREACHABLE),
        (requests.exceptions.JSONDecodeError("no", "<html>", 0), TransientError, Reason.CONTROL_PLANE_ERROR),
        (ValueError("oauth-m2m auth: odd"), TransientError, Reason.CONTROL_PLANE_ERROR),
        (Exception("operation failed: [ErrorCode.ABORTED] no"), TransientError, Reason.CONTROL_PLANE_ERROR),
        (KeyError("state"), TransientError, Reason.CONTROL_PLANE_ERROR),
    ],
)
def test_each_error_has_a_kind_and_a_reason(
    error: Exception, kind: type[LakebaseError], reason: Reason
) -> None:
    result = explained(error)
    assert (type(result), result.reason) == (kind, reason)
    assert "acme.example" in result.message
    assert result.message.endswith(".")


@pytest.mark.requirement("R-150")
@pytest.mark.parametrize(
    "error",
    [
        platform.BadRequest("no more", error_code="RESOURCE_LIMIT_EXCEEDED"),
        DatabricksError("no more", error_code="QUOTA_EXCEEDED"),
        platform.ResourceExhausted(
            "the workspace's quota of instances is used up", error_code="RESOURCE_EXHAUSTED"
        ),
    ],
)
def test_a_limit_that_is_reached_is_told_apart_from_a_rate(error: DatabricksError) -> None:
    result = explained(error)
    assert (type(result), result.reason) == (InvalidError, Reason.CAPACITY_LIMIT)
    rate = explained(platform.ResourceExhausted("slow down", error_code="RESOURCE_EXHAUSTED"))
    assert (type(rate), rate.reason) == (TransientError, Reason.CONTROL_PLANE_THROTTLED)


@pytest.mark.requirement("R-152")
def test_the_id_of_a_request_is_kept_beside_the_message_which_stays_the_same() -> None:
    request_info = {"@type": "type.googleapis.com/google.rpc.RequestInfo", "request_id": "5e1f"}
    in_details = platform.InternalError("oops", details=[request_info])
    in_text = platform.InternalError("oops [TraceId: 5e1f]")
    for error in (in_details, in_text):
        result = explained(error)
        assert result.request_id == "5e1f"
        assert "5e1f" not in result.message
    assert explained(platform.InternalError("oops")).request_id is None


@pytest.mark.requirement("R-204")
@pytest.mark.parametrize("error", [platform.ResourceConflict, platform.BadRequest, platform.InternalError])
def test_a_conflict_is_told_by_its_text_whatever_its_status(error: type[DatabricksError]) -> None:
    text = (
        "Your project already has conflicting operations in progress. "
        "Please wait until they are complete, and then try again."
    )
    result = explained(error(text))
    assert isinstance(result, TransientError)
    assert result.reason is Reason.CONTROL_PLANE_CONFLICT


@pytest.mark.requirement("R-205")
def test_the_wait_that_was_asked_for_is_kept() -> None:
    assert explained(platform.TooManyRequests("slow", retry_after_secs=17)).retry_after == 17
    assert explained(platform.TemporarilyUnavailable("slow", retry_after_secs=3)).retry_after == 3
    assert explained(platform.InternalError("oops")).retry_after is None


@pytest.mark.requirement("R-205")
def test_giving_up_on_retries_is_told_by_what_came_before() -> None:
    def give_up(error: Exception, last: Exception) -> Exception:
        try:
            raise error from last
        except type(error) as raised:
            return raised

    throttled = platform.TooManyRequests("slow", retry_after_secs=60)
    assert cause(give_up(TimeoutError("Timed out"), throttled)) is throttled
    assert cause(give_up(WaitTooLongError(), throttled)) is throttled
    assert cause(throttled) is throttled
    alone = TimeoutError("Timed out")
    assert cause(alone) is alone


def test_the_reason_why_a_certificate_is_refused_is_told() -> None:
    refused = requests.exceptions.SSLError("certificate verify failed: self-signed certificate (_ssl.c:1016)")
    assert "self-signed certificate" in explained(refused).message


@pytest.mark.parametrize(
    ("text", "tidied"),
    [
        ("project id not found [TraceId: 5e1f0c2d]", "project id not found"),
        ("Invalid access token. [ReqId: 145ae51b-da74]", "Invalid access token"),
        ("bad (request id: 17)", "bad"),
        (f"User is not authorized{CONFIG_TAIL}", "User is not authorized"),
        ("two\n  lines", "two lines"),
        ("x" * 1000, "x" * 299 + "…"),
        (
            "unable to parse response. This is likely a bug … Request log: GET /x",
            "an answer in an unknown form",
        ),
        ("token eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln was refused", "token *** was refused"),
        ("sent Authorization: Bearer abc.def", "sent Authorization: Bearer ***"),
        (f"client {SECRET} is unknown", "client *** is unknown"),
        ("dose0123456789abcdef0123456789abcdef", "***"),
    ],
)
def test_a_text_of_the_server_is_made_fit_to_show(text: str, tidied: str) -> None:
    assert tidy(text, (SECRET,)) == tidied


def test_no_secret_is_in_message_or_log_and_no_configuration_in_the_message(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    token = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"
    text = f"refused {SECRET} and {token}{CONFIG_TAIL}"
    errors = [
        platform.PermissionDenied(text),
        platform.InternalError(text),
        ValueError(text),
        Exception(text),
    ]
    messages = [explained(error).message for error in errors]
    for said in (*messages, caplog.text):
        assert SECRET not in said
        assert token not in said
    assert not any("client_id" in message for message in messages)


def test_an_error_that_is_not_foreseen_is_logged_with_its_trace(caplog: pytest.LogCaptureFixture) -> None:
    try:
        raise RuntimeError("odd " + SECRET)
    except RuntimeError as error:
        explained(error)
    assert "Traceback" in caplog.text
    assert "RuntimeError: odd ***" in caplog.text


def test_our_own_errors_pass_unchanged() -> None:
    own = NotReadyError(Reason.INSTANCE_NOT_FOUND, "gone")
    assert explained(own) is own


@pytest.mark.parametrize(
    ("error", "refused"),
    [
        (platform.Unauthenticated("Credential was not sent"), True),
        (platform.PermissionDenied("Invalid access token. [ReqId: 1]"), True),
        (platform.PermissionDenied("Token is expiring within 30 seconds. (token expired)"), True),
        (platform.BadRequest("io.jsonwebtoken.ExpiredJwtException: JWT expired"), True),
        (platform.PermissionDenied("User does not have CAN_USE"), False),
        (platform.NotFound("Token is expired"), False),
        (ValueError("Invalid access token"), False),
    ],
)
def test_an_expired_access_token_is_told_in_each_of_its_forms(error: Exception, refused: bool) -> None:
    assert token_refused(error) is refused
