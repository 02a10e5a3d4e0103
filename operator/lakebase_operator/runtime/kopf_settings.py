"""How Kopf is used: as the machine that watches, and nothing else."""

import itertools
import random
from collections.abc import Callable, Iterator
from typing import Any

import aiohttp
import kopf

from lakebase_operator.api.base import API_VERSION, LABEL_WATCHED
from lakebase_operator.external.kube.client import Access
from lakebase_operator.external.kube.objects import PLURALS

WATCHED_SECRETS = f"{LABEL_WATCHED}=true"

Begins = Callable[[str, str | None, str], str]
"""Given the kind, the namespace (None: all) and the version of a list with which a watch begins; returns the version from which
it is to watch."""


class EndlessBackoff:
    """Pauses in seconds between tries of a request. They never end: a cluster that is away for long comes back too."""

    def __iter__(self) -> Iterator[float]:
        for pause in itertools.chain((0.5, 1, 2, 3, 5, 8, 13), itertools.repeat(20)):
            yield pause * random.uniform(0.8, 1.2)  # noqa: S311 - spreads retries, guards nothing


class _NoEssence(kopf.DiffBaseStorage):
    """Kopf makes a copy of every object for handlers that want differences, even if there are none. Not so."""

    def build(self, *, body: kopf.Body, extra_fields: object = None) -> kopf.BodyEssence:  # noqa: ARG002
        return kopf.BodyEssence()

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence | None:  # noqa: ARG002
        return None

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        """Nothing is ever stored on an object."""


class _NoProgress(kopf.ProgressStorage):
    """There are no handlers whose progress is kept."""

    def fetch(self, *, key: str, body: kopf.Body) -> None:
        """There is none."""

    def store(self, *, key: str, record: object, body: kopf.Body, patch: kopf.Patch) -> None:
        """Nothing is ever stored on an object."""

    def purge(self, *, key: str, body: kopf.Body, patch: kopf.Patch) -> None:
        """Nothing is there."""

    def touch(self, *, body: kopf.Body, patch: kopf.Patch, value: str | None) -> None:
        """Objects are not touched."""

    def clear(self, *, essence: kopf.BodyEssence) -> kopf.BodyEssence:
        return essence


def kopf_settings() -> kopf.OperatorSettings:
    """Settings for a Kopf that has only ``on.event`` handlers."""
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False  # Events are our own: one per transition
    settings.peering.standalone = True  # a Lease decides who acts
    settings.scanning.disabled = True  # needs no right to list CustomResourceDefinitions and namespaces
    settings.process.ultimate_exiting_timeout = None  # no SIGKILL from a timer: the process may run others
    settings.queueing.worker_limit = None  # idle workers would count against it
    settings.queueing.idle_timeout = 0.1  # a worker per object is not kept for long: memory
    settings.watching.chunk_size = 500
    settings.watching.server_timeout = 300
    settings.watching.label_selectors["", "v1", "secrets"] = WATCHED_SECRETS  # filtered by the server
    settings.networking.request_timeout = 30
    settings.networking.connect_timeout = 5
    settings.networking.error_backoffs = EndlessBackoff()
    settings.persistence.diffbase_storage = _NoEssence()
    settings.persistence.progress_storage = _NoProgress()
    return settings


def session(access: Access, begins: Begins) -> kopf.AiohttpSession:
    """The same API server and credentials that the operator's own client uses.

    Kopf begins a watch with a list. Of our kinds it gets an empty one that ends with its first page: all that it needs is the
    version to watch from. What is there we list ourselves, and a worker of Kopf's for each of ten thousand objects that are
    known already would take seconds in which the watch itself has not begun.
    """
    info = _connection_info(access)

    class Response(aiohttp.ClientResponse):
        async def json(self, **options: Any) -> Any:
            return without_items(self.url.path, await super().json(**options), begins)

    return kopf.AiohttpSession(
        server=info.server,
        aiohttp_session=aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=info.as_ssl_context()),
            headers=info.as_http_headers(),
            proxy=info.proxy_url,
            response_class=Response,
        ),
    )


def without_items(path: str, answer: dict[str, Any], begins: Begins) -> dict[str, Any]:
    """An answer of the API server as Kopf gets it: a list of one of our kinds has nothing but the version to watch from."""
    kind = str(answer.get("kind")).removesuffix("List")
    if answer.get("apiVersion") != API_VERSION or kind not in PLURALS or "items" not in answer:
        return answer
    _, _, after = path.partition("/namespaces/")
    namespace = after.partition("/")[0] or None
    version = begins(kind, namespace, answer["metadata"]["resourceVersion"])
    return {**answer, "items": [], "metadata": {"resourceVersion": version}}


def _connection_info(access: Access) -> kopf.ConnectionInfo:
    scheme, _, token = (access.authorization or "").partition(" ")
    return kopf.ConnectionInfo(
        server=access.server,
        ca_path=access.ca_file,
        insecure=access.insecure,
        certificate_path=access.cert_file,
        private_key_path=access.key_file,
        scheme=scheme or None,
        token=token or None,
        proxy_url=access.proxy,
    )
