"""A Databricks workspace that answers as it is told: for faults and timing that nothing else can give."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

CLIENT_ID = "1f0c5a1e-7d0c-4f0e-9b5c-0a1b2c3d4e5f"
CLIENT_SECRET = "dose-the-client-secret-0123456789"
ENDPOINT = "/api/2.0/postgres/projects/marketing/branches/production/endpoints/primary"
BRANCH = "/api/2.0/postgres/projects/marketing/branches/production"
INSTANCE = "/api/2.0/database/instances/marketing-db"
ENDPOINT_CREDENTIALS = "/api/2.0/postgres/credentials"
INSTANCE_CREDENTIALS = "/api/2.0/database/credentials"
ME = "/api/2.0/preview/scim/v2/Me"
TOKEN = "/oidc/v1/token"
METADATA = "/.well-known/databricks-config"


@dataclass(frozen=True, slots=True)
class Answer:
    """What the workspace says: ``hang`` says nothing until the test is over, ``drop`` breaks the connection."""

    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    hang: bool = False
    drop: bool = False


@dataclass(frozen=True, slots=True)
class Seen:
    """A request that came."""

    method: str
    path: str
    headers: dict[str, str]
    body: str

    @property
    def text(self) -> str:
        """All of it, to look for secrets in."""
        return f"{self.method} {self.path} {self.headers} {self.body}"


class ScriptedWorkspace:
    """Answers by path: the next of the list given for it, and the last one for ever."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.seen: list[Seen] = []
        self.over = asyncio.Event()
        self._answers: dict[str, list[Answer]] = {}
        self._tokens = 0
        self.say(METADATA, Answer({"oidc_endpoint": f"{url}/oidc", "workspace_id": "1234567890"}))
        self.say("/oidc/.well-known/oauth-authorization-server", Answer({"token_endpoint": f"{url}{TOKEN}"}))
        self.say(ME, Answer({"userName": CLIENT_ID}))
        status = {
            "current_state": "ACTIVE",
            "hosts": {"host": "ep-a1.database.us-east-1.cloud.databricks.com"},
        }
        self.say(ENDPOINT, Answer({"name": ENDPOINT.removeprefix("/api/2.0/postgres/"), "status": status}))
        self.say(BRANCH, Answer({"status": {"current_state": "READY"}}))

    def say(self, path: str, *answers: Answer) -> None:
        """Answer requests for ``path`` so."""
        self._answers[path] = list(answers)

    def requests(self, path: str) -> list[Seen]:
        """The requests that came for ``path``."""
        return [seen for seen in self.seen if seen.path.split("?")[0] == path]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Note the request and answer it."""
        path = request.raw_path
        self.seen.append(Seen(request.method, path, dict(request.headers), await request.text()))
        answers = self._answers.get(path.split("?")[0])
        if answers is None and path == TOKEN:
            self._tokens += 1
            answers = [
                Answer({"access_token": f"access-{self._tokens}", "token_type": "Bearer", "expires_in": 3600})
            ]
        if answers is None:
            answers = [Answer({"error_code": "NOT_FOUND", "message": "id not found [TraceId: 5e1f]"}, 404)]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if answer.hang:
            await self.over.wait()
        if answer.drop and request.transport is not None:
            request.transport.abort()
        if isinstance(answer.body, str):
            return web.Response(
                text=answer.body, status=answer.status, headers=answer.headers, content_type="text/html"
            )
        return web.json_response(answer.body, status=answer.status, headers=answer.headers)
