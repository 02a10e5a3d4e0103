"""At the end of the session: no secret of it has come to light anywhere.

The name of this file puts it behind the others of this folder, so that it looks at what all of them have left behind; alone
it has the failures of its own to look at.
"""

import base64
import json
from collections.abc import AsyncIterator

import pytest

from tests.cluster.kube import Admin, Namespace
from tests.cluster.lab import Lab
from tests.cluster.manifests import grant, mapping, role
from tests.cluster.operators import Log, Operators
from tests.cluster.watcher import Watcher

pytestmark = pytest.mark.asyncio(loop_scope="session")

CONNECTION = "LakebaseConnection/marketing"


@pytest.mark.requirement("R-5", "R-40", "R-89")
async def test_no_secret_is_anywhere_but_in_secrets(
    lab: Lab, there: Namespace, operators: Operators, admin: Admin, watcher: Watcher, log: Log
) -> None:
    await _fail_in_many_ways(lab, there, operators)
    await lab.reset()
    secrets = {*lab.simulator.workspace.directory.secrets(), *lab.passwords, *lab.tokens, "dose" + "0" * 32}
    assert len(lab.tokens) > 2
    places = {
        "the watches": watcher.lines,
        "the log": log.lines,
        "the change logs": lab.change_logs,
        "the API server": [text async for text in _everything_but_secrets(admin)],
    }
    for place, texts in places.items():
        assert texts, f"nothing was looked at in {place}"
        whole = "\n".join(texts)
        for secret in secrets:
            for form in (secret, base64.b64encode(secret.encode()).decode(), json.dumps(secret)[1:-1]):
                assert form not in whole, f"{place}: {_around(whole, form)}"


async def _fail_in_many_ways(lab: Lab, there: Namespace, operators: Operators) -> None:
    """A connection with OAuth and one with a password, both through wrong credentials, refusals and repairs."""
    await operators.start()
    sales = await lab.settled(there)
    plain = await lab.database("native")
    lab.identity("erin@example.com")
    password = await lab.native_login(plain, f"op_{plain.name}")
    await there.apply(
        await lab.native_connection(there, plain, f"op_{plain.name}", "wrong-" + password, name="plain"),
        role("readers", "plain", roleName=plain.analysts),
        mapping("erin", "erin@example.com"),
        grant("plain", plain.analysts, "erin@example.com", database=plain.name, connection="plain"),
    )
    await there.reason("LakebaseConnection/plain", "PasswordRejected")
    await there.secret("plain-login", username=f"op_{plain.name}", password=password)
    await there.ready("LakebaseConnection/plain")
    for fault in (("expire-token",), ("reject-logins", 2), ("http", 500, 1), ("http", 401, 2), ("drop", 3)):
        await lab.simulator.fault("autoscaling", *fault)
        await there.annotate(CONNECTION, sync_now="-".join(str(one) for one in fault))
        await there.apply(grant(f"g-{fault[0]}", sales.analysts, database=sales.name, access="Write"))
        await lab.simulator.clear_faults() if fault[0] == "drop" else None
        await there.ready(f"AccessGrant/g-{fault[0]}", CONNECTION)
    await there.secret("marketing-sp", clientSecret="dose" + "0" * 32)
    await there.reason(CONNECTION, "OAuthClientRejected")


async def _everything_but_secrets(admin: Admin) -> AsyncIterator[str]:
    """All objects of the API server as they are stored, one text for each kind."""
    groups = (await admin.request("GET", "/apis"))["groups"]
    roots = ["/api/v1", *(f"/apis/{group['preferredVersion']['groupVersion']}" for group in groups)]
    for root in roots:
        for resource in (await admin.request("GET", root))["resources"]:
            listed = "list" in resource["verbs"] and "/" not in resource["name"]
            if listed and (root, resource["name"]) != ("/api/v1", "secrets"):
                yield json.dumps(await admin.request("GET", f"{root}/{resource['name']}"))


def _around(text: str, secret: str) -> str:
    """Where it was found, without it."""
    at = text.index(secret)
    return (
        text[max(0, at - 150) : at]
        + "***"
        + text[at + len(secret) : at + len(secret) + 150].replace(secret, "***")
    )
