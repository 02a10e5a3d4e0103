"""Everything that the operator meets, for real: an API server, the simulated workspace, and the operator as a process."""

import os
import re
import sys
import tempfile
import urllib.request
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import psutil
import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from bench.api import Api, Body, administrator, manifest
from lakebase_operator.api import KINDS
from lakebase_operator.api.base import GROUP, VERSION
from lakebase_sandbox import operator_process
from lakebase_sandbox.lifecycle import Sandbox
from lakebase_sandbox.operator_process import Operator, install_chart, start_operator
from lakebase_sandbox.paths import StateDirectory
from lakebase_sandbox.postgres import PROJECT_OWNER
from lakebase_sandbox.progress import Progress
from lakebase_sandbox.session import ClusterKind
from lakebase_sandbox.simulator_process import Target

TARGET = "autoscaling"
PREPARE_DATABASE = files("lakebase_sandbox.postgres") / "prepare_database.sql"
Session = psycopg.AsyncConnection[Any]


@dataclass(slots=True)
class Stage:
    """A sandbox whose operator is started and stopped at will."""

    sandbox: Sandbox
    api: Api
    command: Sequence[str] = operator_process.COMMAND
    """How the operator is started; a profiler may come before it."""
    operator: Operator | None = None

    @property
    def kubeconfig(self) -> Path:
        """The administrator's."""
        session = self.sandbox.session()
        assert session is not None
        return session.cluster.kubeconfig

    @property
    def target(self) -> Target:
        """The database server."""
        return self.sandbox.simulator().targets[TARGET]

    async def connect(self, database: str | None = None) -> Session:
        """A superuser's session, past the gateway."""
        dsn = make_conninfo(self.target.admin_dsn, **({} if database is None else {"dbname": database}))
        return await psycopg.AsyncConnection.connect(dsn, autocommit=True)

    async def create_database(self, name: str) -> None:
        """A database as Lakebase's API makes them."""
        async with await self.connect() as admin:
            names = sql.Identifier(name), sql.Identifier(PROJECT_OWNER.name)
            await admin.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(*names))
        async with await self.connect(name) as admin:
            await admin.execute(PREPARE_DATABASE.read_bytes())

    def start_operator(self) -> None:
        """Start it, and return when it has seen all objects."""
        self.operator = start_operator(
            self.sandbox.processes,
            self.sandbox.state.operator,
            self.kubeconfig,
            self.sandbox.simulator().ca_file,
            self.command,
        )

    def stop_operator(self) -> None:
        """End it in good order."""
        self.operator = None
        self.sandbox.processes.stop(operator_process.NAME)

    @property
    def ended(self) -> bool:
        """The operator was started, and has ended by itself."""
        record = self.sandbox.processes.get(operator_process.NAME)
        return self.operator is not None and (record is None or record.find() is None)

    def memory(self) -> tuple[float, float]:
        """What the operator's process has in memory now, and had at most, in MB."""
        record = self.sandbox.processes.get(operator_process.NAME)
        process = record.find() if record else None
        assert process is not None, "the operator does not run"
        status = Path(f"/proc/{process.pid}/status").read_text()
        peak = re.search(r"VmHWM:\s+(\d+) kB", status)
        assert peak is not None
        return process.memory_info().rss / 1e6, int(peak[1]) * 1024 / 1e6

    def cpu(self) -> float:
        """Processor seconds of the operator so far."""
        record = self.sandbox.processes.get(operator_process.NAME)
        process = record.find() if record else None
        assert process is not None, "the operator does not run"
        times = process.cpu_times()
        return float(times.user + times.system)

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric of the operator over all label values that are not given."""
        assert self.operator is not None
        with urllib.request.urlopen(self.operator.metrics_url, timeout=10) as answer:
            text = answer.read().decode()
        lines = re.findall(rf"^{name}(?:{{(.*)}})? (\S+)$", text, re.MULTILINE)
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        return sum(float(value) for given, value in lines if all(one in given for one in wanted))

    async def namespace(self, name: str) -> None:
        """A namespace with the Secrets that :meth:`connection` names."""
        simulator = self.sandbox.simulator()
        ca = simulator.ca_file.read_text()
        await self.api.create(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}},
            _secret(name, "login", {"clientSecret": simulator.client_secret}),
            _secret(name, "ca", {"ca.crt": ca}),
        )

    def connection(self, namespace: str, name: str, database: str, *, port: int | None = None) -> Body:
        """A LakebaseConnection."""
        simulator = self.sandbox.simulator()
        return manifest(
            "LakebaseConnection",
            namespace,
            name,
            {
                "workspaceURL": simulator.workspace_url,
                "target": {"autoscaling": {"project": "marketing"}},
                "port": port or self.target.gateway_port,
                "databases": [database],
                "auth": {
                    "oauthM2M": {
                        "clientID": simulator.client_id,
                        "clientSecretRef": {"name": "login", "key": "clientSecret"},
                    }
                },
                "tls": {"caRef": {"name": "ca", "key": "ca.crt"}},
                "drift": {"interval": "1h"},
            },
        )


@asynccontextmanager
async def stage(
    progress: Progress, command: Sequence[str] = operator_process.COMMAND
) -> AsyncIterator[Stage]:
    """Start all but the operator."""
    with tempfile.TemporaryDirectory(prefix="lakebase-bench-") as directory:
        state = StateDirectory.at(Path(directory))
        sandbox = Sandbox(state)
        try:
            sandbox.up(ClusterKind.EMBEDDED, with_operator=False, progress=progress)
            session = sandbox.session()
            assert session is not None
            install_chart(state.bin / "helm", session.cluster.kubeconfig, values={})
            async with administrator(session.cluster.kubeconfig) as api:
                for model in KINDS:
                    await api.served(f"/apis/{GROUP}/{VERSION}/{model.plural}")
                yield Stage(sandbox, api, command)
        finally:
            sandbox.down()


def machine() -> str:
    """The machine and how busy it is, which every figure depends on."""
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    version = ".".join(map(str, sys.version_info[:3]))
    return f"{psutil.cpu_count()} processors, load {load}, Python {version}"


def _secret(namespace: str, name: str, values: dict[str, str]) -> Body:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": values}
