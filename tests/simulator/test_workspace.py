"""The workspace's own APIs: discovery, tokens, SCIM, permissions."""

import json
import time
from pathlib import Path
from typing import Any

import aiohttp
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import BadRequest, NotFound, PermissionDenied
from databricks.sdk.service.iam import AccessControlRequest, PermissionLevel

from lakebase_sandbox.simulator import FederationPolicy, LakebaseSimulator
from tests.simulator.support import ENDPOINT, INSTANCE, call, new_client

pytestmark = pytest.mark.asyncio(loop_scope="module")

ISSUER = "https://kubernetes.default.svc.cluster.local"
SUBJECT = "system:serviceaccount:lakebase-system:lakebase-operator"
AUDIENCE = "https://lakebase.example.com"


@pytest.fixture
def service_account_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def service_account_token(key: rsa.RSAPrivateKey, **claims: Any) -> str:
    """A token as Kubernetes projects it into a pod."""
    standard = {"iss": ISSUER, "sub": SUBJECT, "aud": [AUDIENCE], "exp": int(time.time()) + 600}
    return jwt.encode(standard | claims, key, algorithm="RS256", headers={"kid": "one"})


def jwks(key: rsa.RSAPrivateKey) -> str:
    public = jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return json.dumps({"keys": [{**public, "kid": "one", "alg": "RS256", "use": "sig"}]})


async def test_a_service_principal_gets_in_with_its_secret(
    simulator: LakebaseSimulator, client: WorkspaceClient
) -> None:
    me = await call(client.current_user.me)
    assert me.user_name == simulator.client_id
    assert client.config.workspace_id == "1234567890123456"


async def test_the_secret_is_seen_at_the_token_endpoint_and_nowhere_else(
    simulator: LakebaseSimulator, client: WorkspaceClient
) -> None:
    await call(client.current_user.me)
    await call(client.postgres.get_endpoint, ENDPOINT)
    assert set(simulator.stats()["secret_sightings"]) == {"POST /oidc/v1/token"}


async def test_a_wrong_secret_is_refused(simulator: LakebaseSimulator, trusted: None) -> None:
    wrong = await new_client(simulator, client_id=simulator.client_id, client_secret="wrong")
    with pytest.raises(ValueError, match="invalid_client: Client authentication failed"):
        await call(wrong.current_user.me)


async def test_a_token_request_may_be_chunked_and_carry_the_secret_in_the_form(
    simulator: LakebaseSimulator,
) -> None:
    form = f"grant_type=client_credentials&client_id={simulator.client_id}&client_secret={simulator.client_secret}"

    async def chunks() -> Any:
        for position in range(0, len(form), 16):
            yield form[position : position + 16].encode()

    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=False)) as session:
        url = f"{simulator.workspace_url}/oidc/v1/token"
        async with session.post(url, data=chunks(), headers=headers) as answer:
            assert answer.status == 200
            assert (await answer.json())["token_type"] == "Bearer"


@pytest.mark.parametrize("token", [None, "Bearer nonsense", "Basic bm9ib2R5OmhlcmU="])
async def test_the_api_wants_an_access_token(simulator: LakebaseSimulator, token: str | None) -> None:
    headers = {} if token is None else {"Authorization": token}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=False)) as session:
        url = f"{simulator.workspace_url}/api/2.0/postgres/{ENDPOINT}"
        async with session.get(url, headers=headers) as answer:
            assert answer.status == 401
            assert (await answer.json())["error_code"] == "UNAUTHENTICATED"


async def test_an_unknown_path_has_no_api(client: WorkspaceClient) -> None:
    with pytest.raises(NotFound, match=r"No API found for /api/2\.0/jobs/list") as raised:
        await call(client.api_client.do, "GET", "/api/2.0/jobs/list")
    assert raised.value.error_code == "ENDPOINT_NOT_FOUND"


async def test_a_kubernetes_token_stands_for_a_service_principal(
    simulator: LakebaseSimulator, trusted: None, tmp_path: Path, service_account_key: rsa.RSAPrivateKey
) -> None:
    simulator.add_federation_policy(
        FederationPolicy(
            client_id=simulator.client_id,
            issuer=ISSUER,
            subject=SUBJECT,
            audiences=(AUDIENCE,),
            jwks=jwks(service_account_key),
        )
    )
    token_file = tmp_path / "token"
    token_file.write_text(service_account_token(service_account_key))
    client = await new_client(
        simulator,
        client_id=simulator.client_id,
        oidc_token_filepath=str(token_file),
        auth_type="file-oidc",
    )
    assert (await call(client.current_user.me)).user_name == simulator.client_id


@pytest.mark.parametrize(
    ("claims", "message"),
    [
        ({"sub": "system:serviceaccount:default:default"}, "No federation policy"),
        ({"iss": "https://elsewhere.example.com"}, "No federation policy"),
        ({"aud": ["https://elsewhere.example.com"]}, "No federation policy"),
        ({"exp": 1}, "has expired"),
    ],
)
async def test_a_kubernetes_token_that_does_not_fit_is_refused(
    simulator: LakebaseSimulator,
    trusted: None,
    tmp_path: Path,
    service_account_key: rsa.RSAPrivateKey,
    claims: dict[str, Any],
    message: str,
) -> None:
    principal = simulator.add_identity(
        "service_principal", "22222222-aaaa-4bbb-8ccc-000000000001"
    ).identity.name
    simulator.add_federation_policy(
        FederationPolicy(client_id=principal, issuer=ISSUER, subject=SUBJECT, audiences=(AUDIENCE,))
    )
    token_file = tmp_path / "token"
    token_file.write_text(service_account_token(service_account_key, **claims))
    client = await new_client(
        simulator, client_id=principal, oidc_token_filepath=str(token_file), auth_type="file-oidc"
    )
    with pytest.raises(ValueError, match=message):
        await call(client.current_user.me)


async def test_a_kubernetes_token_of_a_foreign_key_is_refused(
    simulator: LakebaseSimulator, trusted: None, tmp_path: Path, service_account_key: rsa.RSAPrivateKey
) -> None:
    principal = simulator.add_identity(
        "service_principal", "22222222-aaaa-4bbb-8ccc-000000000002"
    ).identity.name
    known = jwks(service_account_key)
    simulator.add_federation_policy(
        FederationPolicy(client_id=principal, issuer=ISSUER, subject=SUBJECT, jwks=known)
    )
    foreign = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    token_file = tmp_path / "token"
    for content in (service_account_token(foreign), "not a token"):
        token_file.write_text(content)
        client = await new_client(
            simulator, client_id=principal, oidc_token_filepath=str(token_file), auth_type="file-oidc"
        )
        with pytest.raises(ValueError, match="invalid_grant"):
            await call(client.current_user.me)


async def test_identities_are_found_by_name(simulator: LakebaseSimulator, client: WorkspaceClient) -> None:
    simulator.add_identity("user", "carol@example.com")
    simulator.add_identity("group", "data team", members=["carol@example.com"])
    users = await call(lambda: list(client.users.list(filter='userName eq "carol@example.com"')))
    assert [user.user_name for user in users] == ["carol@example.com"]
    assert [group.display for group in users[0].groups or []] == ["data team"]
    groups = await call(lambda: list(client.groups.list(filter='displayName eq "data team"')))
    assert [member.display for member in groups[0].members or []] == ["carol@example.com"]
    wanted = f'applicationId eq "{simulator.client_id}"'
    principals = await call(lambda: list(client.service_principals.list(filter=wanted)))
    assert [principal.application_id for principal in principals] == [simulator.client_id]
    assert not await call(lambda: list(client.users.list(filter='userName eq "dave@example.com"')))


async def test_lists_of_identities_come_in_pages(
    simulator: LakebaseSimulator, client: WorkspaceClient
) -> None:
    names = {f"user{number:03}@example.com" for number in range(25)}
    for name in names:
        simulator.add_identity("user", name)
    listed = await call(lambda: [user.user_name for user in client.users.list(count=10)])
    assert names < set(listed)
    assert len(listed) == len(set(listed))


async def test_an_unsupported_filter_is_refused(client: WorkspaceClient) -> None:
    with pytest.raises(BadRequest, match="Unsupported filter"):
        await call(lambda: list(client.users.list(filter='userName co "carol"')))


@pytest.mark.parametrize(
    ("object_type", "object_id"), [("database-projects", "marketing"), ("database-instances", INSTANCE)]
)
async def test_permissions_decide_who_may_call(
    simulator: LakebaseSimulator,
    client: WorkspaceClient,
    trusted: None,
    object_type: str,
    object_id: str,
) -> None:
    name = f"33333333-aaaa-4bbb-8ccc-{object_type[-8:]}0000"
    principal = simulator.add_identity("service_principal", name, secret="another secret")
    other = await new_client(simulator, client_id=principal.identity.name, client_secret="another secret")

    async def mint() -> None:
        if object_type == "database-projects":
            await call(other.postgres.generate_database_credential, ENDPOINT)
        else:
            await call(other.database.generate_database_credential, instance_names=[object_id])

    with pytest.raises(PermissionDenied, match="does not have CAN_USE permission"):
        await mint()
    row = AccessControlRequest(
        service_principal_name=principal.identity.name, permission_level=PermissionLevel.CAN_USE
    )
    changed = await call(client.permissions.update, object_type, object_id, access_control_list=[row])
    assert len(changed.access_control_list or []) >= 3
    await mint()
    with pytest.raises(PermissionDenied, match="does not have CAN_MANAGE permission"):
        await call(other.permissions.update, object_type, object_id, access_control_list=[row])


async def test_can_create_cannot_be_granted(simulator: LakebaseSimulator, client: WorkspaceClient) -> None:
    row = AccessControlRequest(
        service_principal_name=simulator.client_id, permission_level=PermissionLevel.CAN_CREATE
    )
    with pytest.raises(BadRequest, match="CAN_CREATE is not supported"):
        await call(client.permissions.update, "database-projects", "marketing", access_control_list=[row])


async def test_requests_are_counted(simulator: LakebaseSimulator, client: WorkspaceClient) -> None:
    path = f"GET /api/2.0/postgres/{ENDPOINT}"
    before = simulator.stats()["requests"].get(path, 0)
    await call(client.postgres.get_endpoint, ENDPOINT)
    assert simulator.stats()["requests"][path] == before + 1
