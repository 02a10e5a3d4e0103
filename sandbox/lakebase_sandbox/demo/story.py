"""The story of the demo: what is declared becomes live access, stays it, and ends when it should."""

import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg

from lakebase_sandbox.demo.database import APPLICATION, Database
from lakebase_sandbox.demo.manifests import (
    NAMESPACE,
    QUICKSTART,
    Manifest,
    Surroundings,
    adapted,
    ca_secret,
    find,
    read_manifests,
    renamed,
    with_spec,
    write_manifests,
)
from lakebase_sandbox.demo.narrator import Narrator, Observation, UnexpectedError
from lakebase_sandbox.demo.objects import KINDS, Objects, all_ready, condition, readiness
from lakebase_sandbox.errors import SandboxError
from lakebase_sandbox.lifecycle import Sandbox
from lakebase_sandbox.operator_process import NAMESPACE as OPERATOR_NAMESPACE
from lakebase_sandbox.postgres import PROJECT_OWNER
from lakebase_sandbox.simulator_process import AdminClient
from lakebase_sandbox.tools.kubectl import Kubectl

ALICE = "alice@example.com"
BOB = "bob@example.com"
CAROL = "carol@example.com"
DASHBOARD = "7d1e9b58-0c4f-4a63-9f2e-3b5a6c7d8e90"
OWNER = PROJECT_OWNER.name
"""Of the Lakebase project: a person who may grant and revoke by hand."""

# The targets of the sandbox by the name of the connection that leads to them.
MARKETING, MARKETING_DB = "marketing", "marketing-db"
_TARGETS = {MARKETING: "autoscaling", MARKETING_DB: "provisioned"}

_SYNC_NOW = "lakebase.dev/sync-now"
_EXPIRY_SECONDS = 5

_NEW_CAMPAIGN = (
    """INSERT INTO "marketing-data".campaigns (name, channel, budget) VALUES ('Winter', 'mail', 900)"""
)
_NEW_RESULT = """INSERT INTO "marketing-data".campaign_results VALUES (3, '2026-11-01', 12)"""
_NEW_FINDING = """INSERT INTO "research-data".study_loyalty (finding) VALUES ('Three make a friend')"""
_NEW_TICKET = """INSERT INTO "cs-data".tickets (customer_id, subject) VALUES (1, 'Works again')"""


def _read(schema: str, *tables: str) -> list[str]:
    return [f'SELECT * FROM "{schema}".{table}' for table in tables]


@dataclass(frozen=True, slots=True)
class Story:
    """Chapter by chapter, on a sandbox that runs.

    Parameters:
        directory: for the manifests as they are applied.
        manifests: of the quickstart, adapted to the sandbox, by file name.
    """

    narrator: Narrator
    kubectl: Kubectl
    objects: Objects
    simulator: AdminClient
    databases: Mapping[str, Database]
    directory: Path
    manifests: Mapping[str, list[Manifest]]
    surroundings: Surroundings
    helm: Path
    kubeconfig: Path

    @classmethod
    def on(cls, sandbox: Sandbox, narrator: Narrator) -> "Story":
        """The story on this sandbox.

        Raises:
            SandboxError: the sandbox does not run.
        """
        session, ready = sandbox.session(), sandbox.simulator()
        if session is None:
            raise SandboxError(f"the sandbox in {sandbox.state.root} is not ready")
        kubectl, simulator = Kubectl(session.cluster.kubeconfig), AdminClient(ready)
        surroundings = Surroundings.of(ready)
        return cls(
            narrator=narrator,
            kubectl=kubectl,
            objects=Objects(kubectl, NAMESPACE),
            simulator=simulator,
            databases={
                connection: Database(target, ready.targets[target], simulator, ready.ca_file)
                for connection, target in _TARGETS.items()
            },
            directory=sandbox.state.root / "demo",
            manifests={
                file: [adapted(manifest, surroundings) for manifest in manifests]
                for file, manifests in read_manifests(QUICKSTART).items()
            },
            surroundings=surroundings,
            helm=sandbox.state.bin / "helm",
            kubeconfig=session.cluster.kubeconfig,
        )

    def tell(self) -> None:
        """All chapters. A chapter that cannot go on counts as one failed check, and the next one is told."""
        for title, chapter in (
            ("Installed with Helm", self.installed),
            ("Two Lakebase databases with the data of an application", self.sample_data),
            ("Access is declared", self.declared),
            ("Everybody can do what was declared, and nothing else", self.access),
            ("A grant is edited while a session is open", self.edited),
            ("Somebody changes grants by hand", self.by_hand),
            ("An instance is stopped", self.stopped),
            ("A grant expires", self.expired),
            ("A grant is deleted", self.deleted),
        ):
            self.narrator.chapter(title)
            try:
                chapter()
            except (SandboxError, UnexpectedError, psycopg.Error) as error:
                with self.narrator.check(f"{title}: told to the end"):
                    raise error

    # -- what is there -------------------------------------------------------------------------------------------

    def installed(self) -> None:
        listing = subprocess.run(
            [self.helm, "list", "--namespace", OPERATOR_NAMESPACE, "--kubeconfig", self.kubeconfig],
            capture_output=True,
            text=True,
            check=False,
        )
        self.narrator.command(
            f"helm install lakebase-operator charts/lakebase-operator -n {OPERATOR_NAMESPACE}"
        )
        self.narrator.command(f"helm list -n {OPERATOR_NAMESPACE}", listing.stdout + listing.stderr)
        self.narrator.say(
            "The operator runs as the chart's ServiceAccount, with no more rights than the chart gives it."
        )

    def sample_data(self) -> None:
        # Of an earlier run on the same sandbox.
        self.kubectl.run("delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=60s")
        for connection, database in self.databases.items():
            database.load_sample_data()
            self.narrator.say(
                f"{connection}: schemas marketing-data, research-data, cs-data, owned by {APPLICATION}"
            )
            for user in (ALICE, BOB, CAROL, DASHBOARD):
                database.know(user)
        self.narrator.say(
            "On Lakebase databricks_superuser, and with it the operator, may grant on whatever is made."
        )

    def declared(self) -> None:
        directory = self.directory / "quickstart"
        for file, manifests in self.manifests.items():
            write_manifests(directory / file, manifests)
        write_manifests(directory / "15-sandbox-ca.yaml", [ca_secret(self.surroundings)])
        self.narrator.say("Only URL, port, CA and secret of the connections are set to the sandbox's.")
        self.narrator.command(
            "kubectl apply -f examples/quickstart", self.kubectl.run("apply", f"--filename={directory}")
        )
        count = sum(
            manifest["apiVersion"].startswith("lakebase.dev/")
            for manifests in self.manifests.values()
            for manifest in manifests
        )
        with self.narrator.check(f"all {count} objects are Ready"):
            self.narrator.wait(
                "all objects are Ready", lambda: all_ready(self.objects.all(), count=count), seconds=60
            )
        self.narrator.command(
            f"kubectl get {KINDS} -n {NAMESPACE}",
            self.kubectl.run("get", KINDS, f"--namespace={NAMESPACE}"),
        )

    # -- what it does --------------------------------------------------------------------------------------------

    def access(self) -> None:
        check = self.narrator.check
        marketing, instance = self.databases[MARKETING], self.databases[MARKETING_DB]

        with marketing.session(ALICE) as alice:
            with check(
                "alice (mapped to alice@example.com) reads and writes campaigns, serial column included"
            ):
                alice.may(*_read("marketing-data", "campaigns"), _NEW_CAMPAIGN)
            with check("alice writes the partitioned table campaign_results through its parent"):
                alice.may(*_read("marketing-data", "campaign_results"), _NEW_RESULT)
            with check("alice is denied its partitions, the excepted *_raw tables, and other schemas"):
                alice.may_not(
                    *_read("marketing-data", "results_2026", "campaign_contacts_raw"),
                    *_read("research-data", "study_loyalty"),
                )
        with marketing.session(BOB) as bob:
            with check("bob (same name) reads study_* of research-data"):
                bob.may(*_read("research-data", "study_loyalty"))
            with check("bob is denied writing there, the excepted drafts, and other schemas"):
                bob.may_not(
                    _NEW_FINDING,
                    *_read("research-data", "study_pricing_draft"),
                    *_read("marketing-data", "campaigns"),
                )
        with check("carol (mapping None) has no role, so nobody logs in as her"):
            marketing.refuses(CAROL, because=f'role "{CAROL}" does not exist')
        with marketing.session(DASHBOARD) as dashboard:
            with check(
                "the dashboard's service principal reads what its group analysts reads: tables and views"
            ):
                dashboard.may(
                    *_read("marketing-data", "campaigns", "campaign_results"),
                    *_read("marketing-data", "active_campaigns", "spend_by_channel"),
                )
            with check("the dashboard is denied writing, and raw data"):
                dashboard.may_not(_NEW_CAMPAIGN, *_read("marketing-data", "clicks_raw"))
        with instance.session(BOB) as bob:
            with check("on the other connection bob reads and writes tickets"):
                bob.may(*_read("cs-data", "tickets"), _NEW_TICKET)
            with check("and is denied customers, and what he may read on the first connection"):
                bob.may_not(*_read("cs-data", "customers"), *_read("research-data", "study_loyalty"))
        with check("the dashboard has no role there, so it cannot log in"):
            instance.refuses(DASHBOARD, because=f'role "{DASHBOARD}" does not exist')

    def edited(self) -> None:
        check = self.narrator.check
        with self.databases[MARKETING].session(BOB) as bob:
            with check("bob's open session is denied an INSERT into study_loyalty"):
                bob.may_not(_NEW_FINDING)
            self._apply(with_spec(self._grant("research-readers"), access="Write"), "access: Read → Write")
            with check("AccessGrant research-readers is Ready again"):
                self._until_ready("ag", "research-readers")
            with check("the same session may INSERT now"):
                bob.may(_NEW_FINDING)
            with check("still not into the excepted draft"):
                bob.may_not(
                    """INSERT INTO "research-data".study_pricing_draft (finding) VALUES ('Not yet')"""
                )

    def by_hand(self) -> None:
        check = self.narrator.check
        marketing = self.databases[MARKETING]
        revoke = 'REVOKE SELECT ON "marketing-data".campaigns FROM analysts'
        grant = f'GRANT SELECT ON "marketing-data".clicks_raw TO "{ALICE}"'
        with (
            marketing.session(OWNER) as owner,
            marketing.session(DASHBOARD) as dashboard,
            marketing.session(ALICE) as alice,
        ):
            self.narrator.say(f"{OWNER}: {revoke}")
            self.narrator.say(f"{OWNER}: {grant}")
            owner.may(revoke, grant)
            with check("the REVOKE works: the dashboard lost campaigns"):
                dashboard.may_not(*_read("marketing-data", "campaigns"))
            with check("the operator compares the database with what is declared, on request"):
                self._sync_now(MARKETING)
            drifted = condition(self.objects.get("lbc", MARKETING), "Drifted")
            if drifted is not None:
                self.narrator.say(
                    f"Drifted={drifted['status']} {drifted['reason']}: {drifted.get('message', '')}"
                )
            with check("the REVOKE is repaired: the dashboard reads campaigns again"):
                dashboard.may(*_read("marketing-data", "campaigns"))
            with check("the GRANT is left alone: it is not the operator's"):
                alice.may(*_read("marketing-data", "clicks_raw"))

    def stopped(self) -> None:
        check = self.narrator.check
        instance = self.databases[MARKETING_DB]
        name = "alice-reads-tickets"
        new = with_spec(
            renamed(self._grant("support-tickets"), name),
            subjects=[{"kind": "User", "name": "alice"}],
            access="Read",
        )
        self.simulator.set_state(instance.name, "STOPPED")
        try:
            self._apply(new, "a new grant, while marketing-db is stopped")
            with check("the new grant waits, and says for what"):
                self.narrator.wait(
                    f"AccessGrant {name} says InstanceStopped",
                    lambda: readiness(self.objects.get("ag", name), status="False", reason="InstanceStopped"),
                )
            ready = condition(self.objects.get("ag", name), "Ready")
            if ready is not None:
                self.narrator.say(f"Ready={ready['status']} {ready['reason']}: {ready['message']}")
            with check("what was granted before stays Ready"):
                self._until_ready("ag", "support-tickets")
        finally:
            self.simulator.set_state(instance.name, "STARTING")
            self.narrator.say("The instance starts.")
        with check("the grant lands by itself"):
            self._until_ready("ag", name)
        with instance.session(ALICE) as alice, check("alice reads tickets, and nothing more"):
            alice.may(*_read("cs-data", "tickets"))
            alice.may_not(_NEW_TICKET, *_read("cs-data", "customers"))

    def expired(self) -> None:
        check = self.narrator.check
        name = "year-end-audit"
        with self.databases[MARKETING].session(ALICE) as alice:
            with check("alice may read customers and tickets until the end of the audit"):
                alice.may(*_read("cs-data", "customers", "tickets"))
            end = (datetime.now(UTC) + timedelta(seconds=_EXPIRY_SECONDS)).strftime("%Y-%m-%dT%H:%M:%SZ")
            self._apply(
                with_spec(self._grant(name), expiresAt=end), f"expiresAt: {end}, in {_EXPIRY_SECONDS} s"
            )
            with check("it ends by itself"):
                self.narrator.wait(
                    f"AccessGrant {name} says Expired",
                    lambda: readiness(self.objects.get("ag", name), reason="Expired"),
                    seconds=_EXPIRY_SECONDS + 60,
                )
            with check("her open session is denied both now"):
                alice.may_not(*_read("cs-data", "customers", "tickets"))

    def deleted(self) -> None:
        name = "research-readers"
        with self.databases[MARKETING].session(BOB) as bob:
            self.narrator.command(
                f"kubectl delete ag {name} -n {NAMESPACE}",
                self.kubectl.run("delete", "ag", name, f"--namespace={NAMESPACE}", "--timeout=30s"),
            )
            with self.narrator.check("bob's open session has lost reading and writing with it"):
                bob.may_not(*_read("research-data", "study_loyalty"), _NEW_FINDING)
        with self.databases[MARKETING_DB].session(BOB) as bob:
            with self.narrator.check("what another grant gives him stays"):
                bob.may(*_read("cs-data", "tickets"))

    # -- the steps that recur ------------------------------------------------------------------------------------

    def _grant(self, name: str) -> Manifest:
        return find((one for file in self.manifests.values() for one in file), "AccessGrant", name)

    def _apply(self, manifest: Manifest, comment: str) -> None:
        file = f"{manifest['metadata']['name']}.yaml"
        write_manifests(self.directory / file, [manifest])
        output = self.kubectl.run("apply", f"--filename={self.directory / file}")
        self.narrator.command(f"kubectl apply -f {file}   # {comment}", output)

    def _until_ready(self, kind: str, name: str) -> None:
        self.narrator.wait(f"{kind} {name} is Ready", lambda: readiness(self.objects.get(kind, name)))

    def _sync_now(self, connection: str) -> None:
        """Ask for a full comparison, and wait for its end."""
        value = datetime.now(UTC).isoformat(timespec="milliseconds")
        self.kubectl.run(
            *("annotate", "lbc", connection, f"--namespace={NAMESPACE}", "--overwrite"),
            f"{_SYNC_NOW}={value}",
        )
        self.narrator.command(f"kubectl annotate lbc {connection} {_SYNC_NOW}={value} --overwrite")

        def look() -> Observation:
            handled = self.objects.get("lbc", connection).get("status", {}).get("lastHandledSync")
            return Observation(handled == value, f"status.lastHandledSync is {handled}")

        self.narrator.wait(f"lbc {connection} has handled it", look)
