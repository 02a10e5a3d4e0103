"""A real control plane as two local processes: etcd with kube-apiserver, and the few controllers that matter.

There are no nodes: everything is admitted and stored, no pod ever runs.
"""

import secrets
import shutil
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Self

import trustme
import urllib3
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from lakebase_sandbox.cluster.build import controlplane_binary
from lakebase_sandbox.cluster.kubeconfig import Endpoint, write_kubeconfig
from lakebase_sandbox.files import write_private
from lakebase_sandbox.processes import Processes, free_port, wait_until_ready

START_TIMEOUT_SECONDS = 90.0
# Its data are thrown away, so nothing is lost by not waiting for the end of open watches, which takes a minute.
STOP_GRACE_SECONDS = 0.2
REQUEST_TIMEOUT_SECONDS = 5.0

_API_SERVER = "kube-apiserver"
_CONTROLLERS = "controllers"


class EmbeddedCluster:
    """A Kubernetes control plane in a directory, usable as `with EmbeddedCluster(directory) as cluster:`.

    Parameters:
        directory: everything of it lives here. What an earlier run left in it is stopped and thrown away at the
            start; nothing is removed at the end.
        processes: where its processes are recorded; default in `directory`.
        binary: the control plane's program; default the one of this checkout, built if need be.
        detached: it goes on after this process ends, until somebody stops what is recorded in `processes`.
            Otherwise it ends with this process, even if that is killed.

    `kubeconfig` is an administrator's, and valid after `start`.
    """

    def __init__(
        self,
        directory: Path,
        *,
        processes: Processes | None = None,
        binary: Path | None = None,
        detached: bool = False,
    ) -> None:
        self._directory = directory.absolute()
        self._processes = processes or Processes(self._directory / "run", self._directory / "logs")
        self._binary = binary
        self._detached = detached
        self.kubeconfig = self._directory / "kubeconfig"

    def start(self) -> None:
        """Start it, and return when it is ready and the controllers have done their first work.

        Raises:
            SandboxError: the program cannot be built, a process ended, or it took longer than
                `START_TIMEOUT_SECONDS`.
        """
        binary = self._binary or controlplane_binary()
        self.stop()
        shutil.rmtree(self._directory / "etcd", ignore_errors=True)
        port = free_port()
        credentials = _Credentials.write(self._directory, port)
        write_kubeconfig(self.kubeconfig, credentials.endpoint, user="admin", token=credentials.admin_token)
        try:
            self._start_processes(binary, port, credentials)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop it; nothing happens if it does not run."""
        self._processes.stop(_API_SERVER, _CONTROLLERS, grace=STOP_GRACE_SECONDS)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _start_processes(self, binary: Path, port: int, credentials: "_Credentials") -> None:
        tied = [] if self._detached else ["--stop-on-eof"]
        server = self._processes.start(
            _API_SERVER,
            [
                binary,
                "serve",
                f"--data-dir={self._directory / 'etcd'}",
                f"--port={port}",
                f"--tls-cert-file={credentials.certificate}",
                f"--tls-private-key-file={credentials.private_key}",
                f"--token-auth-file={credentials.tokens}",
                f"--service-account-key-file={credentials.service_account_key}",
                *tied,
            ],
            address=credentials.endpoint.server,
            tied=not self._detached,
        )
        controllers = self._processes.start(
            _CONTROLLERS,
            [
                binary,
                "controllers",
                f"--kubeconfig={self.kubeconfig}",
                f"--root-ca-file={credentials.ca}",
                f"--service-account-key-file={credentials.service_account_key}",
                *tied,
            ],
            tied=not self._detached,
        )
        api = _Api(credentials.endpoint, credentials.admin_token)
        wait_until_ready(server, lambda: api.answers("/readyz"), timeout=START_TIMEOUT_SECONDS)
        wait_until_ready(
            controllers,
            lambda: api.answers("/api/v1/namespaces/default/serviceaccounts/default"),
            timeout=START_TIMEOUT_SECONDS,
        )


@dataclass(frozen=True, slots=True)
class _Credentials:
    """The files by which the control plane and its administrator know each other."""

    endpoint: Endpoint
    admin_token: str
    ca: Path
    certificate: Path
    private_key: Path
    tokens: Path
    service_account_key: Path

    @classmethod
    def write(cls, directory: Path, port: int) -> Self:
        authority = trustme.CA()
        certificate = authority.issue_cert("localhost", "127.0.0.1")
        service_account_key = ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
        token = secrets.token_urlsafe(32)
        pki = directory / "pki"
        credentials = cls(
            endpoint=Endpoint(f"https://127.0.0.1:{port}", authority.cert_pem.bytes()),
            admin_token=token,
            ca=pki / "ca.crt",
            certificate=pki / "apiserver.crt",
            private_key=pki / "apiserver.key",
            tokens=pki / "tokens.csv",
            service_account_key=pki / "service-account.key",
        )
        write_private(credentials.ca, credentials.endpoint.ca)
        write_private(credentials.certificate, b"".join(p.bytes() for p in certificate.cert_chain_pems))
        write_private(credentials.private_key, certificate.private_key_pem.bytes())
        write_private(credentials.tokens, f'{token},admin,admin,"system:masters"\n')
        write_private(credentials.service_account_key, service_account_key)
        return credentials


class _Api:
    """The little of the API that is asked before a client library is worth its loading time."""

    def __init__(self, endpoint: Endpoint, token: str) -> None:
        self._server = endpoint.server
        self._http = urllib3.PoolManager(
            ca_cert_data=endpoint.ca.decode(),
            headers={"Authorization": f"Bearer {token}"},
            timeout=REQUEST_TIMEOUT_SECONDS,
            retries=False,
        )

    def answers(self, path: str) -> bool:
        """Whether a GET is answered with success."""
        try:
            return self._http.request("GET", self._server + path).status == HTTPStatus.OK
        except urllib3.exceptions.HTTPError:
            return False
