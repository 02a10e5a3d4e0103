"""The story of the quickstart: what is declared becomes live access, stays it, and ends when it should."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from lakebase_sandbox.demo.database import APPLICATION, Database
from lakebase_sandbox.demo.manifests import Manifest, renamed, with_spec
from lakebase_sandbox.demo.objects import all_ready
from lakebase_sandbox.demo.story import Chapters, Story
from lakebase_sandbox.postgres import PROJECT_OWNER

ALICE = "alice@example.com"
BOB = "bob@example.com"
CAROL = "carol@example.com"
DASHBOARD = "7d1e9b58-0c4f-4a63-9f2e-3b5a6c7d8e90"
OWNER = PROJECT_OWNER.name
"""Of the Lakebase project: a person who may grant and revoke by hand."""

_MARKETING = "marketing"
_MARKETING_DB = "marketing-db"

_EXPIRY_SECONDS = 5

_NEW_CAMPAIGN = (
    """INSERT INTO "marketing-data".campaigns (name, channel, budget) VALUES ('Winter', 'mail', 900)"""
)
_NEW_RESULT = """INSERT INTO "marketing-data".campaign_results VALUES (3, '2026-11-01', 12)"""
_NEW_FINDING = """INSERT INTO "research-data".study_loyalty (finding) VALUES ('Three make a friend')"""
_NEW_TICKET = """INSERT INTO "cs-data".tickets (customer_id, subject) VALUES (1, 'Works again')"""


def _read(schema: str, *tables: str) -> list[str]:
    return [f'SELECT * FROM "{schema}".{table}' for table in tables]  # noqa: S608 (names of our own)


@dataclass(frozen=True, slots=True)
class QuickstartStory(Story):
    """Two databases, a group, an application, three people, five grants."""

    example = "quickstart"
    kinds = "lbc,pgr,um,ag"

    def beginning(self) -> Chapters:
        return (
            ("Two Lakebase databases with the data of an application", self.sample_data),
            ("Access is declared", self.declared),
        )

    def rest(self) -> Chapters:
        return (
            ("Everybody can do what was declared, and nothing else", self.access),
            ("A grant is edited while a session is open", self.edited),
            ("Somebody changes grants by hand", self.by_hand),
            ("An instance is stopped", self.stopped),
            ("A grant expires", self.expired),
            ("A grant is deleted", self.deleted),
        )

    # -- what is there -------------------------------------------------------------------------------------------

    def sample_data(self) -> None:
        self.stage.clear()
        for connection in (_MARKETING, _MARKETING_DB):
            database = self.stage.database(connection)
            database.load_sample_data()
            self.narrator.say(
                f"{connection}: schemas marketing-data, research-data, cs-data, owned by {APPLICATION}"
            )
            for user in (ALICE, BOB, CAROL, DASHBOARD):
                database.know(user)
        self.narrator.say(
            "The operator owns none of it: on Lakebase its databricks_superuser may grant on whatever is made."
        )

    def declared(self) -> None:
        self.apply_all()
        count = self.stage.example.object_count
        with self.narrator.check(f"all {count} objects are Ready"):
            self.narrator.wait(
                "all objects are Ready", lambda: all_ready(self.stage.objects.all(), count=count), seconds=120
            )
        listing = self.stage.kubectl.run("get", self.kinds, f"--namespace={self.stage.namespace}")
        self.narrator.command(f"kubectl get {self.kinds} -n {self.stage.namespace}", listing)

    # -- what it does --------------------------------------------------------------------------------------------

    def access(self) -> None:
        check = self.narrator.check
        marketing, instance = self._marketing, self._marketing_db

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
        with self._marketing.session(BOB) as bob:
            with check("bob's open session is denied an INSERT into study_loyalty"):
                bob.may_not(_NEW_FINDING)
            self.apply(with_spec(self._grant("research-readers"), access="Write"), "access: Read → Write")
            with check("AccessGrant research-readers is Ready again"):
                self._until_ready("research-readers")
            with check("the same session may INSERT now"):
                bob.may(_NEW_FINDING)
            with check("still not into the excepted draft"):
                bob.may_not(
                    """INSERT INTO "research-data".study_pricing_draft (finding) VALUES ('Not yet')"""
                )

    def by_hand(self) -> None:
        check = self.narrator.check
        marketing = self._marketing
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
                self.sync_now(_MARKETING)
            self.tell_condition(self.stage.objects.get("lbc", _MARKETING), "Drifted")
            with check("the REVOKE is repaired: the dashboard reads campaigns again"):
                dashboard.may(*_read("marketing-data", "campaigns"))
            with check("the GRANT is left alone: it is not the operator's"):
                alice.may(*_read("marketing-data", "clicks_raw"))

    def stopped(self) -> None:
        check = self.narrator.check
        instance = self._marketing_db
        name = "alice-reads-tickets"
        new = with_spec(
            renamed(self._grant("support-tickets"), name),
            subjects=[{"kind": "User", "name": "alice"}],
            access="Read",
        )
        self.stage.simulator.set_state(instance.name, "STOPPED")
        try:
            self.apply(new, "a new grant, while marketing-db is stopped")
            with check("the new grant waits, and says for what: InstanceStopped"):
                self._until_ready(name, status="False", reason="InstanceStopped")
            self.tell_condition(self.stage.objects.get("ag", name), "Ready")
            with check("what was granted before stays Ready"):
                self._until_ready("support-tickets")
        finally:
            self.stage.simulator.set_state(instance.name, "STARTING")
            self.narrator.say("The instance starts.")
        with check("the grant lands by itself"):
            self._until_ready(name)
        with instance.session(ALICE) as alice, check("alice reads tickets, and nothing more"):
            alice.may(*_read("cs-data", "tickets"))
            alice.may_not(_NEW_TICKET, *_read("cs-data", "customers"))

    def expired(self) -> None:
        check = self.narrator.check
        name = "year-end-audit"
        with self._marketing.session(ALICE) as alice:
            with check("alice may read customers and tickets until the end of the audit"):
                alice.may(*_read("cs-data", "customers", "tickets"))
            end = (datetime.now(UTC) + timedelta(seconds=_EXPIRY_SECONDS)).strftime("%Y-%m-%dT%H:%M:%SZ")
            self.apply(
                with_spec(self._grant(name), expiresAt=end), f"expiresAt: {end}, in {_EXPIRY_SECONDS} s"
            )
            with check("it ends by itself"):
                self._until_ready(name, reason="Expired", seconds=_EXPIRY_SECONDS + 60)
            with check("her open session is denied both now"):
                alice.may_not(*_read("cs-data", "customers", "tickets"))

    def deleted(self) -> None:
        name = "research-readers"
        with self._marketing.session(BOB) as bob:
            self.narrator.command(
                f"kubectl delete ag {name} -n {self.stage.namespace}",
                self.stage.kubectl.run(
                    "delete", "ag", name, f"--namespace={self.stage.namespace}", "--timeout=60s"
                ),
            )
            with self.narrator.check("bob's open session has lost reading and writing with it"):
                bob.may_not(*_read("research-data", "study_loyalty"), _NEW_FINDING)
        with (
            self._marketing_db.session(BOB) as bob,
            self.narrator.check("what another grant gives him stays"),
        ):
            bob.may(*_read("cs-data", "tickets"))

    # -- what it is about ----------------------------------------------------------------------------------------

    @property
    def _marketing(self) -> Database:
        return self.stage.database(_MARKETING)

    @property
    def _marketing_db(self) -> Database:
        return self.stage.database(_MARKETING_DB)

    def _grant(self, name: str) -> Manifest:
        return self.stage.example.find("AccessGrant", name)

    def _until_ready(
        self, name: str, *, status: str = "True", reason: str | None = None, seconds: float = 60
    ) -> None:
        """Wait for an AccessGrant.

        Raises:
            UnexpectedError: it does not say so in time.
        """
        self.until_ready("AccessGrant", name, status=status, reason=reason, seconds=seconds)
