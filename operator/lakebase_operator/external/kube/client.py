"""The connection to the Kubernetes API: credentials, timeouts, errors. Bodies go in and out as plain JSON values."""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import urlencode

import aiohttp
from kubernetes.aio.client import Configuration
from kubernetes.aio.client.rest import RESTClientObject
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config
from pydantic_core import from_json

from lakebase_operator import __version__
from lakebase_operator.external.kube.errors import KubeError, from_answer

RELOAD_SECONDS = 60.0
"""How long a token that was read from a file is used before the file is looked at again."""

CONNECTIONS = 40
"""To the API server, unless told otherwise."""

USER_AGENT = f"lakebase-operator/{__version__}"
"""What is before the slash is the field manager of what we write."""

Patch = Literal["application/merge-patch+json", "application/json-patch+json"]
MERGE_PATCH: Patch = "application/merge-patch+json"
JSON_PATCH: Patch = "application/json-patch+json"

OnRequest = Callable[[str, str, float], None]
"""Told of each request: operation, outcome, seconds."""


@dataclass(frozen=True, slots=True)
class Access:
    """How to reach the API server, for another client."""

    server: str
    ca_file: str | None
    insecure: bool
    cert_file: str | None
    key_file: str | None
    authorization: str | None = field(repr=False)
    proxy: str | None = None


class KubeClient:
    """Requests to the API server.

    Parameters
    ----------
    request_timeout
        Seconds for a whole request.
    on_request
        Is told how each request went.
    """

    def __init__(
        self,
        configuration: Configuration,
        *,
        request_timeout: float = 15.0,
        connections: int = CONNECTIONS,
        on_request: OnRequest | None = None,
    ) -> None:
        configuration.connection_pool_maxsize = connections
        self._configuration = configuration
        self._rest = RESTClientObject(configuration)
        self._timeout = aiohttp.ClientTimeout(total=request_timeout, sock_connect=min(request_timeout, 5.0))
        self._on_request = on_request or (lambda _operation, _outcome, _seconds: None)

    @classmethod
    async def connect(
        cls,
        kubeconfig: str | None = None,
        *,
        request_timeout: float = 15.0,
        connections: int = CONNECTIONS,
        on_request: OnRequest | None = None,
    ) -> Self:
        """Use the pod's ServiceAccount, or else a kubeconfig.

        Parameters
        ----------
        kubeconfig
            A file to use instead of the pod's ServiceAccount; several, separated as in ``KUBECONFIG``, are merged.
        request_timeout, connections, on_request
            As of the class.

        Raises
        ------
        KubeError
            There are no credentials.
        """
        configuration = Configuration()
        # A proxy to the API server is named in the kubeconfig; one in the environment is for the world outside.
        configuration.client_session_kwargs = {"trust_env": False}
        try:
            if kubeconfig is None and "KUBERNETES_SERVICE_HOST" in os.environ:
                load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]  # no types
            else:
                await _KubeConfigFile(kubeconfig or str(Path.home() / ".kube" / "config")).load(configuration)
        except (ConfigException, OSError) as error:
            raise KubeError(
                0,
                f"no way to the Kubernetes API: {error}. Run in a pod with a ServiceAccount, or set KUBECONFIG.",
            ) from error
        return cls(
            configuration, request_timeout=request_timeout, connections=connections, on_request=on_request
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        await self._rest.close()

    async def access(self) -> Access:
        """How to reach the API server, with a current token."""
        configuration = self._configuration
        return Access(
            server=configuration.host,
            ca_file=configuration.ssl_ca_cert,
            insecure=not configuration.verify_ssl,
            cert_file=configuration.cert_file,
            key_file=configuration.key_file,
            authorization=await configuration.get_api_key_with_prefix("BearerToken"),
            proxy=configuration.proxy,
        )

    async def request(
        self,
        method: str,
        path: str,
        *,
        operation: str,
        query: Mapping[str, str] | None = None,
        body: object = None,
        content_type: str = "application/json",
        accept: str = "application/json",
    ) -> Any:
        """Send one request and read the whole answer.

        Parameters
        ----------
        path
            Path of the URL; its parts need no quoting, since they are names of Kubernetes objects.
        operation
            What is done, for people and metrics, such as ``list accessgrants``.

        Raises
        ------
        KubeError, Forbidden
            The request failed.
        """
        started = time.monotonic()
        outcome = "Unreachable"
        try:
            answer = await self._send(
                method,
                path,
                query,
                body,
                {"Content-Type": content_type, "Accept": accept, "User-Agent": USER_AGENT},
            )
            content: bytes = await answer.read()
            outcome = "Success" if answer.status < 300 else str(answer.status)
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            problem = (
                "no answer in time" if isinstance(error, TimeoutError) else f"{type(error).__name__}: {error}"
            )
            raise KubeError(0, f"Kubernetes failed to {operation}: {problem}") from error
        finally:
            self._on_request(operation, outcome, time.monotonic() - started)
        if answer.status >= 300:
            raise from_answer(operation, answer.status, content, answer.headers.get("Retry-After"))
        return from_json(content)

    async def _send(
        self, method: str, path: str, query: Mapping[str, str] | None, body: object, headers: dict[str, str]
    ) -> Any:
        authorization = await self._configuration.get_api_key_with_prefix("BearerToken")
        if authorization:
            headers["Authorization"] = authorization
        url = f"{self._configuration.host}{path}" + (f"?{urlencode(query)}" if query else "")
        return await self._rest.request(  # type: ignore[no-untyped-call]  # no types
            method, url, headers, body, _request_timeout=self._timeout
        )


class _KubeConfigFile:
    """A kubeconfig whose tokens are read again from time to time, as they may be rotated."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._loaded = 0.0

    async def load(self, configuration: Configuration) -> None:
        await load_kube_config(  # type: ignore[no-untyped-call]  # no types
            config_file=self._path, client_configuration=configuration, persist_config=False
        )
        self._loaded = time.monotonic()
        configuration.refresh_api_key_hook = self._refresh  # type: ignore[assignment]  # it knows only None

    async def _refresh(self, configuration: Configuration) -> None:
        if time.monotonic() - self._loaded >= RELOAD_SECONDS:
            await self.load(configuration)
