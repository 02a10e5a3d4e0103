"""Starting and stopping a sandbox: the cluster and the simulator side by side, then the operator."""

import hashlib
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from datetime import UTC, datetime

from lakebase_sandbox import operator_process, simulator_process
from lakebase_sandbox.cluster import EmbeddedCluster, ExistingCluster, KindCluster
from lakebase_sandbox.cluster.build import controlplane_binary
from lakebase_sandbox.errors import SandboxError
from lakebase_sandbox.files import locked
from lakebase_sandbox.operator_process import install_chart, start_operator
from lakebase_sandbox.paths import StateDirectory
from lakebase_sandbox.processes import Processes
from lakebase_sandbox.progress import Progress
from lakebase_sandbox.session import ClusterKind, ClusterSession, Session
from lakebase_sandbox.simulator_process import AdminClient, Simulator, read_simulator, start_simulator
from lakebase_sandbox.tools import install_tools
from lakebase_sandbox.tools.kubectl import Kubectl


@dataclass(frozen=True, slots=True)
class Programs:
    """What is started; to be replaced where another program is to take the part."""

    simulator: Sequence[str] = simulator_process.COMMAND
    operator: Sequence[str] = operator_process.COMMAND


class Sandbox:
    """The sandbox in one state directory.

    Parameters:
        state: its directory; made when it is first started.
        programs: what is started as simulator and operator.
    """

    def __init__(self, state: StateDirectory, programs: Programs | None = None) -> None:
        self.state = state
        self.processes = Processes(state.records, state.logs)
        self._programs = programs or Programs()

    def up(self, cluster: ClusterKind, *, with_operator: bool, progress: Progress) -> bool:
        """Start what does not run yet, and return when all is ready.

        Where the cluster or the simulator was not stopped properly, or has lost a process, everything is stopped and
        started anew; an operator that is missing is only added.

        Returns:
            False: all of it was running already.

        Raises:
            SandboxError: something did not start; all that was started for it is stopped again. Or the sandbox runs
                on another kind of cluster.
        """
        self.state.create()
        with locked(self.state.lock):
            session = self.session()
            if session is None or not self._works(session):
                self._stop_everything(session)
                self._start_or_stop_everything(cluster, with_operator, progress)
                return True
            if session.cluster.kind is not cluster:
                raise SandboxError(
                    f"the sandbox in {self.state.root} runs with --cluster {session.cluster.kind}: stop it first "
                    f"(lakebase-sandbox down --state {self.state.root})"
                )
            if self._runs(operator_process.NAME) or not with_operator:
                return False
            self._add_operator(session, progress)
            return True

    def down(self) -> bool:
        """Stop everything. The logs stay, and whatever is installed in a cluster of the user's own.

        Returns:
            False: there was nothing to stop.
        """
        if not self.state.root.exists():
            return False
        with locked(self.state.lock):
            session = self.session()
            anything = session is not None or bool(self.processes.all())
            self._stop_everything(session)
        return anything

    def session(self) -> Session | None:
        return Session.load(self.state.session)

    def simulator(self) -> Simulator:
        """The simulator of the sandbox, which must be running.

        Raises:
            SandboxError: it is not.
        """
        simulator = read_simulator(self.state.simulator)
        if simulator is None or not self._runs(simulator_process.NAME):
            raise SandboxError(
                f"no sandbox runs in {self.state.root}: start it (lakebase-sandbox up --state {self.state.root})"
            )
        return simulator

    def _works(self, session: Session) -> bool:
        """Whether cluster and simulator were started completely and are still whole."""
        parts = [record for record in self.processes.all() if record.name != operator_process.NAME]
        simulator = read_simulator(self.state.simulator)
        return (
            session.ready_at is not None
            and all(record.find() is not None for record in parts)
            and self._runs(simulator_process.NAME)
            and simulator is not None
            and AdminClient(simulator).healthy()
            and _answers(session.cluster)
        )

    def _runs(self, name: str) -> bool:
        record = self.processes.get(name)
        return record is not None and record.find() is not None

    def _start_or_stop_everything(self, kind: ClusterKind, with_operator: bool, progress: Progress) -> None:
        try:
            self._start_everything(kind, with_operator, progress)
        except BaseException:
            progress.note(f"Stopping what was started; the logs stay in {self.state.logs}")
            try:
                self._stop_everything(self.session())
            except SandboxError as error:  # what went wrong first matters more
                progress.note(str(error))
            raise

    def _start_everything(self, kind: ClusterKind, with_operator: bool, progress: Progress) -> None:
        cluster = self._cluster(kind, progress)
        session = Session(
            cluster=ClusterSession(
                kind=kind,
                kubeconfig=cluster.kubeconfig,
                kind_name=cluster.name if isinstance(cluster, KindCluster) else None,
            )
        )
        session.save(self.state.session)
        install_tools(self.state.bin)

        def start_cluster() -> None:
            with progress.step(f"Kubernetes ({kind})"):
                cluster.start()
            if with_operator:
                self._install_chart(session, progress)

        def simulate() -> None:
            with progress.step("Lakebase simulator"):
                start_simulator(self.processes, self.state.simulator, self._programs.simulator)

        with ThreadPoolExecutor() as pool:
            try:
                for started in as_completed([pool.submit(start_cluster), pool.submit(simulate)]):
                    started.result()
            except BaseException:
                self.processes.stop()  # nobody need wait for the other one any more
                raise
        if with_operator:
            session = self._with_operator(session, progress)
        session.model_copy(update={"ready_at": datetime.now(UTC)}).save(self.state.session)

    def _cluster(
        self, kind: ClusterKind, progress: Progress
    ) -> EmbeddedCluster | KindCluster | ExistingCluster:
        match kind:
            case ClusterKind.EMBEDDED:
                binary = controlplane_binary(progress=progress)
                return EmbeddedCluster(
                    self.state.cluster, processes=self.processes, binary=binary, detached=True
                )
            case ClusterKind.KIND:
                KindCluster.check_requirements()
                name = hashlib.sha256(str(self.state.root).encode()).hexdigest()[:8]
                return KindCluster(f"lakebase-{name}", self.state.cluster)
            case ClusterKind.KUBECONFIG:
                return ExistingCluster(self.state.cluster)

    def _add_operator(self, session: Session, progress: Progress) -> None:
        self._install_chart(session, progress)
        try:
            self._with_operator(session, progress).save(self.state.session)
        except BaseException:
            self.processes.stop(operator_process.NAME)
            raise

    def _install_chart(self, session: Session, progress: Progress) -> None:
        # Where there are nodes, the Deployment would otherwise run a second operator.
        values = {} if session.cluster.kind is ClusterKind.EMBEDDED else {"replicaCount": "0"}
        with progress.step("Helm chart lakebase-operator"):
            install_chart(self.state.bin / "helm", session.cluster.kubeconfig, values=values)

    def _with_operator(self, session: Session, progress: Progress) -> Session:
        with progress.step("Operator"):
            operator = start_operator(
                self.processes,
                self.state.operator,
                session.cluster.kubeconfig,
                self.simulator().ca_file,
                self._programs.operator,
            )
        return session.model_copy(update={"operator": operator})

    def _stop_everything(self, session: Session | None) -> None:
        # First the operator, which would only complain about the end of the others.
        self.processes.stop(operator_process.NAME)
        self.processes.stop(simulator_process.NAME)
        EmbeddedCluster(self.state.cluster, processes=self.processes).stop()
        if session is not None and session.cluster.kind_name is not None:
            KindCluster(session.cluster.kind_name, self.state.cluster).stop()
        simulator_process.ready_file(self.state.simulator).unlink(missing_ok=True)
        for directory in (self.state.cluster, self.state.operator):
            shutil.rmtree(directory, ignore_errors=True)
        self.state.session.unlink(missing_ok=True)


def _answers(cluster: ClusterSession) -> bool:
    try:
        Kubectl(cluster.kubeconfig).run("get", "--raw=/readyz", "--request-timeout=10s")
    except SandboxError:
        return False
    return True
