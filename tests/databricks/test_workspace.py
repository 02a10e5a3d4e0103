"""The real SDK against a workspace that is told what to answer."""

import asyncio
import base64
import json
import logging
import socket
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from lakebase_operator.api.reasons import Reason
from lakebase_operator.domain.errors import InvalidError, LakebaseError, NotReadyError, TransientError
from lakebase_operator.domain.instance import InstanceState
from lakebase_operator.external.databricks import (
    AutoscalingTarget,
    ControlPlane,
    IdentityKind,
    OAuthM2M,
    ProvisionedTarget,
    WorkloadIdentity,
    Workspace,
    honour_ssl_cert_file,
)
from tests.databricks.scripted import (
    BRANCH,
    CLIENT_ID,
    CLIENT_SECRET,
    ENDPOINT,
    ENDPOINT_CREDENTIALS,
    INSTANCE,
    INSTANCE_CREDENTIALS,
    ME,
    METADATA,
    TOKEN,
    Answer,
    ScriptedWorkspace,
)

AUTOSCALING = AutoscalingTarget("marketing", "production", "primary")
PROVISIONED = ProvisionedTarget("marketing-db")
HANG = Answer(hang=True)


def expires_in(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S.%f000Z")


def error(status: int, code: str, message: str, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer({"error_code": code, "message": message}, status, named)


async def failure(call: Callable[[], Awaitable[object]]) -> LakebaseError:
    with pytest.raises(LakebaseError) as raised:
        await call()
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__ or raised.value.__context__ is None
    return raised.value


# -- logging in ------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("R-37", "R-67")
async def test_the_client_secret_is_shown_to_the_token_endpoint_and_to_nothing_else(
    scripted: ScriptedWorkspace, workspace: Workspace
) -> None:
    scripted.say(ENDPOINT_CREDENTIALS, Answer({"token": "t", "expire_time": expires_in(3600)}))
    scripted.say("/api/2.0/preview/scim/v2/Users", Answer({}))
    plane = workspace.control_plane(AUTOSCALING)
    await plane.instance()
    await plane.credential()
    await workspace.identity_exists("User", "alice@example.com")

    [login] = scripted.requests(TOKEN)
    basic = base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode()
    assert login.method == "POST"
    assert login.headers["Authorization"] == f"Basic {basic}"
    assert parse_qs(login.body) == {"grant_type": ["client_credentials"], "scope": ["all-apis"]}
    for request in scripted.seen:
        if request is not login:
            assert CLIENT_SECRET not in request.text
            assert basic not in request.text
    calls = [request for request in scripted.seen if request.path.startswith("/api/")]
    assert len(calls) == 4
    assert {request.headers["Authorization"] for request in calls} == {"Bearer access-1"}
    assert {request.headers["X-Databricks-Workspace-Id"] for request in calls} == {"1234567890"}
    assert all("lakebase-operator/" in request.headers["User-Agent"] for request in calls)


async def test_a_projected_token_is_exchanged_and_read_anew_each_time(
    scripted: ScriptedWorkspace, executor: ThreadPoolExecutor, trusted: Path, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    file.write_text("projected-1\n")
    # A life of less than 40 s is over, to the SDK, as soon as it begins: each call exchanges again.
    scripted.say(TOKEN, Answer({"access_token": "short", "expires_in": 5}))
    plane = Workspace(scripted.url, WorkloadIdentity(CLIENT_ID, file), executor=executor).control_plane(
        AUTOSCALING
    )
    await plane.instance()
    file.write_text("projected-2\n")
    await plane.instance()
    forms = [parse_qs(request.body) for request in scripted.requests(TOKEN)]
    assert forms[0] == {
        "grant_type": ["urn:ietf:params:oauth:grant-type:token-exchange"],
        "subject_token_type": ["urn:ietf:params:oauth:token-type:jwt"],
        "subject_token": ["projected-1"],
        "client_id": [CLIENT_ID],
        "scope": ["all-apis"],
    }
    assert forms[-1]["subject_token"] == ["projected-2"]
    assert all("Authorization" not in request.headers for request in scripted.requests(TOKEN))


@pytest.mark.parametrize("content", [None, "", "\n"])
async def test_a_projected_token_that_is_not_there_is_named(
    scripted: ScriptedWorkspace,
    executor: ThreadPoolExecutor,
    trusted: Path,
    tmp_path: Path,
    content: str | None,
) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_text(content)
    workspace = Workspace(scripted.url, WorkloadIdentity(CLIENT_ID, file), executor=executor)
    refused = await failure(workspace.identity)
    assert (type(refused), refused.reason) == (InvalidError, Reason.WORKLOAD_TOKEN_NOT_FOUND)
    assert str(file) in refused.message


@pytest.mark.parametrize("status", [400, 401, 403])
async def test_a_client_that_is_refused_is_an_invalid_declaration(
    scripted: ScriptedWorkspace, workspace: Workspace, status: int
) -> None:
    body = {
        "error": "invalid_client",
        "error_description": f"Client authentication failed for {CLIENT_SECRET}",
    }
    scripted.say(TOKEN, Answer(body, status))
    refused = await failure(workspace.control_plane(AUTOSCALING).instance)
    assert (type(refused), refused.reason) == (InvalidError, Reason.OAUTH_CLIENT_REJECTED)
    assert "invalid_client" in refused.message
    assert CLIENT_ID in refused.message
    assert CLIENT_SECRET not in str(refused)


async def test_a_token_endpoint_that_redirects_does_not_get_the_secret_sent_on(
    scripted: ScriptedWorkspace, workspace: Workspace
) -> None:
    scripted.say(TOKEN, Answer({}, 307, {"Location": f"{scripted.url}/elsewhere"}))
    refused = await failure(workspace.identity)
    assert refused.reason is Reason.CONTROL_PLANE_ERROR
    assert scripted.requests("/elsewhere") == []


@pytest.mark.requirement("R-166")
@pytest.mark.parametrize("path", [METADATA, TOKEN, ME])
async def test_an_address_that_is_not_on_the_access_list_is_told_apart_from_a_bad_secret(
    scripted: ScriptedWorkspace, workspace: Workspace, path: str
) -> None:
    blocked = "Source IP address: 203.0.113.7 is blocked by Databricks IP ACL for workspace: 1234567890"
    scripted.say(path, Answer({"error_code": "403", "message": blocked}, 403))
    refused = await failure(workspace.identity)
    assert refused.reason is Reason.ADDRESS_BLOCKED
    assert "203.0.113.7" in refused.message
    assert "add the address" in refused.message


async def test_a_token_endpoint_without_tls_is_not_used(
    scripted: ScriptedWorkspace, workspace: Workspace
) -> None:
    scripted.say(
        "/oidc/.well-known/oauth-authorization-server",
        Answer({"token_endpoint": "http://localhost:1/oidc/v1/token"}),
    )
    refused = await failure(workspace.identity)
    assert refused.reason is Reason.CONTROL_PLANE_ERROR
    assert "token endpoint" in refused.message


async def test_a_workspace_that_publishes_no_configuration_is_asked_at_the_usual_place(
    scripted: ScriptedWorkspace, workspace: Workspace
) -> None:
    scripted.say(METADATA, Answer({"error_code": "ENDPOINT_NOT_FOUND"}, 404))
    assert (await workspace.identity()).user_name == CLIENT_ID


async def test_a_web_site_that_is_no_workspace_is_told_so(
    scripted: ScriptedWorkspace, workspace: Workspace
) -> None:
    page = Answer("<html>Welcome</html>")
    for path in (METADATA, "/oidc/.well-known/oauth-authorization-server", TOKEN, ME):
        scripted.say(path, page)
    refused = await failure(workspace.identity)
    assert refused.reason is Reason.CONTROL_PLANE_ERROR
    assert "spec.workspaceURL" in refused.message


@pytest.mark.parametrize(
    "refusal",
    [
        error(401, "UNAUTHENTICATED", "Token is expired"),
        error(403, "403", "Invalid access token. [ReqId: 145ae51b]"),
        error(403, "403", "Token is expiring within 30 seconds. (token expired)"),
    ],
)
async def test_an_access_token_that_is_refused_is_replaced_once(
    scripted: ScriptedWorkspace, workspace: Workspace, refusal: Answer
) -> None:
    good = Answer({"userName": CLIENT_ID})
    scripted.say(ME, refusal, good)
    assert (await workspace.identity()).user_name == CLIENT_ID
    assert [request.headers["Authorization"] for request in scripted.requests(ME)] == [
        "Bearer access-1",
        "Bearer access-2",
    ]


async def test_an_access_token_that_is_refused_again_is_an_invalid_declaration(
    scripted: ScriptedWorkspace, workspace: Workspace
) -> None:
    scripted.say(ME, error(401, "UNAUTHENTICATED", "no"))
    refused = await failure(workspace.identity)
    assert (type(refused), refused.reason) == (InvalidError, Reason.OAUTH_CLIENT_REJECTED)
    assert len(scripted.requests(ME)) == 2
    assert "Config:" not in refused.message


@pytest.mark.requirement("R-38")
@pytest.mark.parametrize(
    ("user_name", "is_service_principal"),
    [
        (CLIENT_ID, True),
        (CLIENT_ID.upper(), True),
        ("another-application", True),
        ("alice@example.com", False),
    ],
)
async def test_the_identity_is_what_databricks_calls_it(
    scripted: ScriptedWorkspace, workspace: Workspace, user_name: str, is_service_principal: bool
) -> None:
    scripted.say(ME, Answer({"userName": user_name}))
    for target in (AUTOSCALING, PROVISIONED):
        identity = await workspace.control_plane(target).identity()
        assert (identity.user_name, identity.is_service_principal) == (user_name, is_service_principal)
    assert len(scripted.requests(ME)) == 1


async def test_settings_of_the_sdk_in_the_environment_do_not_count(
    scripted: ScriptedWorkspace, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".databrickscfg").write_text("[DEFAULT]\nhost = https://other.example\ntoken = dapi-other\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    for name, value in {
        "DATABRICKS_HOST": "https://other.example",
        "DATABRICKS_TOKEN": "dapi-other",
        "DATABRICKS_CLIENT_ID": "other",
        "DATABRICKS_CLIENT_SECRET": "other",
        "DATABRICKS_AUTH_TYPE": "pat",
        "DATABRICKS_CONFIG_PROFILE": "other",
        "DATABRICKS_WORKSPACE_ID": "999",
        "DATABRICKS_ACCOUNT_ID": "999",
        "DATABRICKS_DISCOVERY_URL": "https://other.example/oidc",
        "DATABRICKS_GROUP_ID": "999",
        "DATABRICKS_DEBUG_HEADERS": "true",
    }.items():
        monkeypatch.setenv(name, value)
    assert (await workspace.identity()).user_name == CLIENT_ID
    [me] = scripted.requests(ME)
    assert me.headers["Authorization"] == "Bearer access-1"
    assert me.headers["X-Databricks-Workspace-Id"] == "1234567890"


# -- state and host --------------------------------------------------------------------------------------------------


@pytest.mark.requirement("R-61", "R-97", "R-106")
async def test_an_active_endpoint_is_read_with_one_request(
    scripted: ScriptedWorkspace, workspace: Workspace
) -> None:
    plane = workspace.control_plane(AUTOSCALING)
    await plane.instance()
    before = len(scripted.seen)
    instance = await plane.instance()
    assert (instance.state, instance.host) == (
        InstanceState.AVAILABLE,
        "ep-a1.database.us-east-1.cloud.databricks.com",
    )
    assert [request.path for request in scripted.seen[before:]] == [ENDPOINT]


@pytest.mark.parametrize(
    ("branch", "expected"),
    [
        ("READY", InstanceState.STARTING),
        ("ARCHIVED", InstanceState.ASLEEP),
        ("DELETED", InstanceState.NOT_FOUND),
    ],
)
async def test_the_branch_is_asked_only_when_the_endpoint_is_not_available(
    scripted: ScriptedWorkspace, workspace: Workspace, branch: str, expected: InstanceState
) -> None:
    scripted.say(ENDPOINT, Answer({"status": {"current_state": "INIT"}}))
    scripted.say(BRANCH, Answer({"status": {"current_state": branch}}))
    assert (await workspace.control_plane(AUTOSCALING).instance()).state is expected
    assert len(scripted.requests(BRANCH)) == 1


@pytest.mark.requirement("R-61", "R-97", "R-106")
@pytest.mark.parametrize(
    ("state", "stopped", "expected"),
    [
        ("AVAILABLE", False, InstanceState.AVAILABLE),
        ("STOPPED", True, InstanceState.STOPPED),
        ("STARTING", False, InstanceState.STARTING),
        ("SOMETHING_NEW", False, InstanceState.UNKNOWN),
    ],
)
async def test_an_instance_is_read_with_one_request(
    scripted: ScriptedWorkspace, workspace: Workspace, state: str, stopped: bool, expected: InstanceState
) -> None:
    host = "instance-6b53ca76-0b54-4c0b-9b6c-5e1f0c2d3a4b.database.cloud.databricks.com"
    scripted.say(INSTANCE, Answer({"state": state, "effective_stopped": stopped, "read_write_dns": host}))
    instance = await workspace.control_plane(PROVISIONED).instance()
    assert (instance.state, instance.host) == (expected, host)
    assert [request.path for request in scripted.seen if request.path.startswith("/api/")] == [INSTANCE]


@pytest.mark.requirement("R-52")
@pytest.mark.parametrize("target", [AUTOSCALING, PROVISIONED])
async def test_a_database_server_that_is_not_there_is_a_state_and_no_error(
    scripted: ScriptedWorkspace, workspace: Workspace, target: AutoscalingTarget | ProvisionedTarget
) -> None:
    missing = error(404, "NOT_FOUND", "project id not found [TraceId: 00-5e1f0c2d]")
    scripted.say(ENDPOINT, missing)
    scripted.say(INSTANCE, missing)
    plane = workspace.control_plane(target)
    instance = await plane.instance()
    assert (instance.state, instance.host) == (InstanceState.NOT_FOUND, None)
    assert str(target) in instance.detail
    assert "project id not found" in instance.detail
    assert "TraceId" not in instance.detail
    asked = await failure(plane.credential)
    assert (type(asked), asked.reason) == (NotReadyError, Reason.INSTANCE_NOT_FOUND)


async def test_a_read_only_endpoint_is_refused(scripted: ScriptedWorkspace, workspace: Workspace) -> None:
    status = {"current_state": "ACTIVE", "endpoint_type": "ENDPOINT_TYPE_READ_ONLY"}
    scripted.say(ENDPOINT, Answer({"status": status}))
    refused = await failure(workspace.control_plane(AUTOSCALING).instance)
    assert (type(refused), refused.reason) == (InvalidError, Reason.READ_ONLY_ENDPOINT)


async def test_a_name_with_special_characters_reaches_its_own_resource(
    scripted: ScriptedWorkspace, workspace: Workspace
) -> None:
    await workspace.control_plane(ProvisionedTarget("a#b?c d%2Fe")).instance()
    await workspace.control_plane(AutoscalingTarget("p#", "b?", "e%")).instance()
    asked = [request.path for request in scripted.seen if request.path.startswith("/api/")]
    assert asked == [
        "/api/2.0/database/instances/a%23b%3Fc%20d%252Fe",
        "/api/2.0/postgres/projects/p%23/branches/b%3F/endpoints/e%25",
    ]


# -- credentials -----------------------------------------------------------------------------------------------------


@pytest.mark.requirement("R-38", "R-39", "R-106")
async def test_a_credential_is_the_identity_and_a_token_for_this_database(
    scripted: ScriptedWorkspace, workspace: Workspace
) -> None:
    scripted.say(
        ENDPOINT_CREDENTIALS,
        Answer({"token": "for-endpoint", "expire_time": "2126-11-22T00:10:00.123456789Z"}),
    )
    scripted.say(
        INSTANCE_CREDENTIALS, Answer({"token": "for-instance", "expiration_time": "2126-11-22T01:00:00Z"})
    )
    endpoint = await workspace.control_plane(AUTOSCALING).credential()
    assert (endpoint.user, endpoint.password) == (CLIENT_ID, "for-endpoint")
    assert endpoint.expires_at == datetime(2126, 11, 22, 0, 10, 0, 123456, tzinfo=UTC)
    instance = await workspace.control_plane(PROVISIONED).credential()
    assert (instance.user, instance.password) == (CLIENT_ID, "for-instance")
    assert instance.expires_at == datetime(2126, 11, 22, 1, tzinfo=UTC)
    [asked] = scripted.requests(ENDPOINT_CREDENTIALS)
    assert json.loads(asked.body) == {"endpoint": AUTOSCALING.name}
    [asked] = scripted.requests(INSTANCE_CREDENTIALS)
    assert json.loads(asked.body)["instance_names"] == ["marketing-db"]


@pytest.mark.requirement("R-40")
async def test_a_credential_is_shared_and_renewed_before_it_expires(
    scripted: ScriptedWorkspace, workspace: Workspace
) -> None:
    scripted.say(
        ENDPOINT_CREDENTIALS, *(Answer({"token": f"t{n}", "expire_time": expires_in(3600)}) for n in (1, 2))
    )
    planes = [
        workspace.control_plane(AutoscalingTarget("marketing", "production", "primary")) for _ in range(10)
    ]
    got = await asyncio.gather(*(plane.credential() for plane in planes))
    assert {credential.password for credential in got} == {"t1"}
    assert (await planes[0].credential(fresh=True)).password == "t2"
    assert (await planes[1].credential()).password == "t2"
    assert len(scripted.requests(ENDPOINT_CREDENTIALS)) == 2
    assert len(scripted.requests(TOKEN)) == 1


@pytest.mark.requirement("R-40")
async def test_with_tokens_of_two_seconds_none_handed_out_is_expired(
    scripted: ScriptedWorkspace, workspace: Workspace
) -> None:
    plane = workspace.control_plane(AUTOSCALING)
    tokens: set[str] = set()
    until = time.monotonic() + 3.5
    while time.monotonic() < until:
        scripted.say(ENDPOINT_CREDENTIALS, Answer({"token": f"t{len(tokens)}", "expire_time": expires_in(2)}))
        credential = await plane.credential()
        assert credential.expires_at is not None
        assert credential.expires_at > datetime.now(UTC)
        tokens.add(credential.password)
        await asyncio.sleep(0.02)
    assert 3 <= len(scripted.requests(ENDPOINT_CREDENTIALS)) <= 6


@pytest.mark.parametrize(
    "body", [{}, {"token": "t"}, {"token": "t", "expiration_time": "soon"}, {"expiration_time": "2126-11-22"}]
)
async def test_an_answer_without_a_usable_credential_is_an_error(
    scripted: ScriptedWorkspace, workspace: Workspace, body: dict[str, str]
) -> None:
    scripted.say(INSTANCE_CREDENTIALS, Answer(body))
    refused = await failure(workspace.control_plane(PROVISIONED).credential)
    assert (type(refused), refused.reason) == (TransientError, Reason.CONTROL_PLANE_ERROR)


@pytest.mark.requirement("R-214")
@pytest.mark.parametrize(
    "text", ["Invalid access to Org: 1234567890", "Unauthorized access to Org: 1234567890"]
)
async def test_a_token_of_another_workspace_is_recognised(
    scripted: ScriptedWorkspace, workspace: Workspace, text: str
) -> None:
    scripted.say(INSTANCE, error(403, "PERMISSION_DENIED", text))
    refused = await failure(workspace.control_plane(PROVISIONED).instance)
    assert (type(refused), refused.reason) == (InvalidError, Reason.WORKSPACE_MISMATCH)
    assert "spec.workspaceURL" in refused.message


@pytest.mark.requirement("R-141")
@pytest.mark.parametrize("enabled", [True, False])
async def test_whether_passwords_are_let_in_is_what_is_in_effect(
    scripted: ScriptedWorkspace, workspace: Workspace, enabled: bool
) -> None:
    effective = {"enable_pg_native_login": not enabled, "effective_enable_pg_native_login": enabled}
    scripted.say(INSTANCE, Answer({"name": "marketing-db", **effective}))
    assert await workspace.control_plane(PROVISIONED).native_login() is enabled
    project = {"name": "projects/marketing", "status": {"enable_pg_native_login": enabled}}
    scripted.say("/api/2.0/postgres/projects/marketing", Answer(project))
    assert await workspace.control_plane(AUTOSCALING).native_login() is enabled


# -- refusals and faults ---------------------------------------------------------------------------------------------


@pytest.mark.requirement("R-204", "R-205")
@pytest.mark.parametrize(
    ("answer", "kind", "reason", "text"),
    [
        (
            error(403, "PERMISSION_DENIED", "User does not have access"),
            InvalidError,
            Reason.CONTROL_PLANE_DENIED,
            "CAN_USE",
        ),
        (
            error(409, "ABORTED", "Endpoint reconciliation still in progress"),
            TransientError,
            Reason.CONTROL_PLANE_CONFLICT,
            "again",
        ),
        (
            error(
                400, "BAD_REQUEST", "Your project already has conflicting operations in progress. Please wait"
            ),
            TransientError,
            Reason.CONTROL_PLANE_CONFLICT,
            "again",
        ),
        (error(400, "INVALID_PARAMETER_VALUE", "bad id"), InvalidError, Reason.CONTROL_PLANE_ERROR, "bad id"),
        (
            error(404, "ENDPOINT_NOT_FOUND", "No API found for 'GET /x'"),
            InvalidError,
            Reason.LAKEBASE_NOT_ENABLED,
            "enabled",
        ),
        (error(500, "INTERNAL_ERROR", "oops"), TransientError, Reason.CONTROL_PLANE_ERROR, "oops"),
        (error(504, "DEADLINE_EXCEEDED", "late"), TransientError, Reason.CONTROL_PLANE_ERROR, "late"),
        (
            Answer("<html><title>Bad Gateway</title></html>", 502),
            TransientError,
            Reason.CONTROL_PLANE_ERROR,
            "Bad Gateway",
        ),
        (Answer("gibberish", 500), TransientError, Reason.CONTROL_PLANE_ERROR, "unknown form"),
        (Answer("<html>Log in</html>"), TransientError, Reason.CONTROL_PLANE_ERROR, "spec.workspaceURL"),
        (Answer({"status": {"hosts": "not an object"}}), TransientError, Reason.CONTROL_PLANE_ERROR, "log"),
    ],
)
async def test_each_refusal_has_its_reason(
    scripted: ScriptedWorkspace,
    workspace: Workspace,
    answer: Answer,
    kind: type[LakebaseError],
    reason: Reason,
    text: str,
) -> None:
    scripted.say(ENDPOINT, answer)
    refused = await failure(workspace.control_plane(AUTOSCALING).instance)
    assert (type(refused), refused.reason) == (kind, reason)
    assert text in refused.message
    assert "Config:" not in refused.message
    assert len(scripted.requests(ENDPOINT)) == 1


@pytest.mark.requirement("R-205")
@pytest.mark.parametrize("status", [429, 503])
async def test_a_short_wait_is_kept_within_the_call(
    scripted: ScriptedWorkspace, workspace: Workspace, status: int
) -> None:
    await workspace.identity()
    good = Answer({"status": {"current_state": "IDLE"}})
    scripted.say(ENDPOINT, error(status, "BUSY", "slow down", Retry_After="1"), good)
    started = time.monotonic()
    assert (await workspace.control_plane(AUTOSCALING).instance()).state is InstanceState.ASLEEP
    assert time.monotonic() - started >= 1
    assert len(scripted.requests(ENDPOINT)) == 2


@pytest.mark.requirement("R-205")
@pytest.mark.parametrize(
    ("status", "reason"), [(429, Reason.CONTROL_PLANE_THROTTLED), (503, Reason.CONTROL_PLANE_ERROR)]
)
async def test_a_fault_that_lasts_is_told_as_what_it_is(
    scripted: ScriptedWorkspace, workspace: Workspace, status: int, reason: Reason
) -> None:
    scripted.say(ENDPOINT, error(status, "BUSY", "slow down", Retry_After="1"))
    refused = await failure(workspace.control_plane(AUTOSCALING).instance)
    assert (type(refused), refused.reason, refused.retry_after) == (TransientError, reason, 1)
    assert len(scripted.requests(ENDPOINT)) >= 3


@pytest.mark.requirement("R-205")
async def test_a_long_wait_is_handed_back_and_kept_for_all_calls(
    scripted: ScriptedWorkspace, workspace: Workspace
) -> None:
    await workspace.identity()
    scripted.say(ENDPOINT, error(429, "REQUEST_LIMIT_EXCEEDED", "slow down", Retry_After="60"))
    started = time.monotonic()
    refused = await failure(workspace.control_plane(AUTOSCALING).instance)
    assert (type(refused), refused.reason, refused.retry_after) == (
        TransientError,
        Reason.CONTROL_PLANE_THROTTLED,
        60,
    )
    again = await failure(workspace.control_plane(PROVISIONED).instance)
    assert again.reason is Reason.CONTROL_PLANE_THROTTLED
    assert again.retry_after is not None
    assert 50 < again.retry_after <= 60
    assert time.monotonic() - started < 5
    assert len(scripted.requests(ENDPOINT)) == 1
    assert scripted.requests(INSTANCE) == []


@pytest.mark.parametrize("status", [429, 503])
async def test_no_wait_is_longer_than_ten_minutes_whatever_the_workspace_asks_for(
    scripted: ScriptedWorkspace, workspace: Workspace, status: int
) -> None:
    await workspace.identity()
    scripted.say(
        ENDPOINT, error(status, "TEMPORARILY_UNAVAILABLE", "come back tomorrow", Retry_After="86400")
    )
    refused = await failure(workspace.control_plane(AUTOSCALING).instance)
    assert refused.retry_after == 600


@pytest.mark.requirement("R-205")
async def test_the_token_endpoint_may_ask_for_a_wait_too(
    scripted: ScriptedWorkspace, workspace: Workspace
) -> None:
    scripted.say(TOKEN, Answer({"error": "slow_down"}, 429, {"Retry-After": "30"}))
    refused = await failure(workspace.identity)
    assert (refused.reason, refused.retry_after) == (Reason.CONTROL_PLANE_THROTTLED, 30)
    assert (await failure(workspace.identity)).reason is Reason.CONTROL_PLANE_THROTTLED
    assert len(scripted.requests(TOKEN)) == 1


@pytest.mark.parametrize("path", [METADATA, TOKEN, ME])
async def test_a_workspace_that_falls_silent_is_given_up_in_time(
    scripted: ScriptedWorkspace, executor: ThreadPoolExecutor, trusted: Path, path: str
) -> None:
    scripted.say(path, HANG)
    workspace = Workspace(
        scripted.url,
        OAuthM2M(CLIENT_ID, CLIENT_SECRET),
        executor=executor,
        call_timeout=4.0,
        http_timeout=0.5,
        retry_timeout=1,
    )
    started = time.monotonic()
    refused = await failure(workspace.identity)
    assert (type(refused), refused.reason) == (TransientError, Reason.CONTROL_PLANE_UNREACHABLE)
    assert time.monotonic() - started < 4
    scripted.over.set()


async def test_a_call_takes_no_longer_than_it_may(
    scripted: ScriptedWorkspace, executor: ThreadPoolExecutor, trusted: Path
) -> None:
    scripted.say(ME, HANG)
    workspace = Workspace(
        scripted.url,
        OAuthM2M(CLIENT_ID, CLIENT_SECRET),
        executor=executor,
        call_timeout=1.0,
        http_timeout=5.0,
    )
    started = time.monotonic()
    refused = await failure(workspace.identity)
    assert refused.reason is Reason.CONTROL_PLANE_UNREACHABLE
    assert time.monotonic() - started < 2
    scripted.over.set()


async def test_a_silent_workspace_leaves_threads_to_the_others(
    scripted: ScriptedWorkspace, trusted: Path
) -> None:
    scripted.say(INSTANCE, HANG)
    executor = ThreadPoolExecutor(max_workers=3)
    auth = OAuthM2M(CLIENT_ID, CLIENT_SECRET)
    silent = Workspace(scripted.url, auth, executor=executor, limit=2, call_timeout=1.0, http_timeout=10.0)
    other = Workspace(scripted.url, auth, executor=executor, limit=2)
    waiting = [asyncio.create_task(silent.control_plane(PROVISIONED).instance()) for _ in range(8)]
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert {type(result) for result in results} == {TransientError}
    # The two threads are still held, and later calls have not taken the third one.
    assert len(scripted.requests(INSTANCE)) == 2
    assert (await other.control_plane(AUTOSCALING).instance()).state is InstanceState.AVAILABLE
    assert len(scripted.requests(INSTANCE)) == 2
    scripted.over.set()
    await asyncio.to_thread(executor.shutdown)


@pytest.mark.parametrize("where", ["refused", "unknown name"])
async def test_a_workspace_that_cannot_be_reached_is_told_in_a_moment(
    executor: ThreadPoolExecutor, trusted: Path, where: str
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = (
            f"localhost:{unused.getsockname()[1]}" if where == "refused" else "no-such-workspace.invalid"
        )
        workspace = Workspace(f"https://{address}", OAuthM2M(CLIENT_ID, CLIENT_SECRET), executor=executor)
        started = time.monotonic()
        refused = await failure(workspace.control_plane(AUTOSCALING).instance)
    assert (type(refused), refused.reason) == (TransientError, Reason.CONTROL_PLANE_UNREACHABLE)
    assert address in refused.message
    assert ("refused" if where == "refused" else "does not resolve") in refused.message
    assert "0x" not in refused.message
    assert time.monotonic() - started < 5


async def test_a_connection_that_breaks_is_tried_again(
    scripted: ScriptedWorkspace, workspace: Workspace
) -> None:
    await workspace.identity()
    scripted.say(ENDPOINT, Answer(drop=True), Answer({"status": {"current_state": "ACTIVE"}}))
    assert (await workspace.control_plane(AUTOSCALING).instance()).state is InstanceState.AVAILABLE


async def test_an_unknown_certificate_authority_is_told_and_ssl_cert_file_helps(
    scripted: ScriptedWorkspace, executor: ThreadPoolExecutor, ca_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    monkeypatch.delenv("CURL_CA_BUNDLE", raising=False)
    monkeypatch.setenv("NO_PROXY", "localhost")
    monkeypatch.setenv("SSL_CERT_FILE", str(ca_file))
    workspace = Workspace(scripted.url, OAuthM2M(CLIENT_ID, CLIENT_SECRET), executor=executor)
    refused = await failure(workspace.identity)
    assert (type(refused), refused.reason) == (TransientError, Reason.CONTROL_PLANE_UNREACHABLE)
    assert "authority" in refused.message
    environ = {"SSL_CERT_FILE": str(ca_file)}
    honour_ssl_cert_file(environ)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", environ["REQUESTS_CA_BUNDLE"])
    assert (await workspace.identity()).user_name == CLIENT_ID


async def test_a_ca_file_that_is_not_there_is_named(
    scripted: ScriptedWorkspace, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/no/such/ca.pem")
    refused = await failure(workspace.identity)
    assert refused.reason is Reason.CONTROL_PLANE_UNREACHABLE
    assert "/no/such/ca.pem" in refused.message


# -- secrets in logs -------------------------------------------------------------------------------------------------


@pytest.mark.requirement("R-67")
async def test_no_secret_is_logged_even_when_everything_is(
    scripted: ScriptedWorkspace, workspace: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for name in ("databricks", "databricks.sdk", "urllib3", "lakebase_operator"):
        caplog.set_level(logging.DEBUG, logger=name)
    scripted.say(
        INSTANCE_CREDENTIALS,
        error(403, "PERMISSION_DENIED", f"no {CLIENT_SECRET}"),
        Answer({"token": "the-database-token", "expiration_time": "2126-11-22T01:00:00Z"}),
    )
    plane = workspace.control_plane(PROVISIONED)
    refused = await failure(plane.credential)
    logging.getLogger("test").error("as the operator would", exc_info=refused)
    credential = await plane.credential()
    logging.getLogger("test").debug("%r %r %r", credential, workspace, plane)
    basic = base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode()
    assert len(caplog.records) > 5
    for secret in (CLIENT_SECRET, basic, "access-1", "the-database-token"):
        assert secret not in caplog.text


# -- identities ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "path", "attribute", "name", "literal"),
    [
        ("User", "Users", "userName", "alice@example.com", '"alice@example.com"'),
        ("ServicePrincipal", "ServicePrincipals", "applicationId", CLIENT_ID, f'"{CLIENT_ID}"'),
        ("Group", "Groups", "displayName", 'data "owners" #1', '"data \\"owners\\" #1"'),
        ("Group", "Groups", "displayName", "Geschäft & Co", '"Geschäft & Co"'),
    ],
)
async def test_an_identity_is_looked_for_by_name_with_one_request(
    scripted: ScriptedWorkspace,
    workspace: Workspace,
    kind: IdentityKind,
    path: str,
    attribute: str,
    name: str,
    literal: str,
) -> None:
    path = f"/api/2.0/preview/scim/v2/{path}"
    scripted.say(
        path, Answer({"Resources": [{attribute: name.swapcase(), "id": "1"}], "totalResults": 1}), Answer({})
    )
    assert await workspace.identity_exists(kind, name)
    [asked] = scripted.requests(path)
    assert parse_qs(urlsplit(asked.path).query)["filter"] == [f"{attribute} eq {literal}"]
    assert not await workspace.identity_exists(kind, name)
    assert len(scripted.requests(path)) == 2


async def test_another_identity_in_the_answer_does_not_count(
    scripted: ScriptedWorkspace, workspace: Workspace
) -> None:
    scripted.say(
        "/api/2.0/preview/scim/v2/Groups", Answer({"Resources": [{"displayName": "others"}]}), Answer({})
    )
    assert not await workspace.identity_exists("Group", "owners")


async def test_a_right_that_is_missing_to_look_for_identities_is_named(
    scripted: ScriptedWorkspace, workspace: Workspace
) -> None:
    scripted.say("/api/2.0/preview/scim/v2/Groups", Answer({"detail": "not an admin", "status": "403"}, 403))
    refused = await failure(lambda: workspace.identity_exists("Group", "owners"))
    assert (type(refused), refused.reason) == (InvalidError, Reason.CONTROL_PLANE_DENIED)
    assert "list users, service principals and groups" in refused.message


def test_a_control_plane_is_one_object_for_each_target(workspace: Workspace) -> None:
    plane: ControlPlane = workspace.control_plane(AUTOSCALING)
    assert plane is workspace.control_plane(AutoscalingTarget("marketing", "production", "primary"))
    assert plane is not workspace.control_plane(PROVISIONED)
