"""The story of the Elementum guide: from an empty workspace to a verified connection, and what can go wrong with it."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lakebase_sandbox.demo import connection_test
from lakebase_sandbox.demo.client import ReconnectingClient
from lakebase_sandbox.demo.database import APPLICATION, expect_no_login
from lakebase_sandbox.demo.elementum.steps import (
    GRANT,
    INSTANCE,
    PLATFORM_SCHEMA,
    ROLE,
    SECRET,
    TEST_INTERVAL,
)
from lakebase_sandbox.demo.elementum.troubles import ElementumTroubles
from lakebase_sandbox.demo.manifests import with_spec
from lakebase_sandbox.demo.narrator import Observation, UnexpectedError
from lakebase_sandbox.demo.objects import all_ready
from lakebase_sandbox.demo.story import Chapters, now

_TABLES = "elementum-tables"
_ROTATE = "lakebase.dev/rotate"

_NEW_CAMPAIGN = (
    """INSERT INTO "marketing-data".campaigns (name, channel, budget) VALUES ('Winter', 'mail', 900)"""
)
_CAMPAIGN_COLUMNS = {
    "id": "integer",
    "name": "text",
    "channel": "text",
    "budget": "numeric(10,2)",
    "active": "boolean",
}
_READ_CAMPAIGNS = """SELECT * FROM "marketing-data".campaigns"""
_READ_SPENDING = """SELECT * FROM "marketing-data".spend_by_channel"""


@dataclass(frozen=True, slots=True)
class ElementumStory(ElementumTroubles):
    """An instance, its connection, a login with a password, a platform schema, access, and the test of it all."""

    def beginning(self) -> Chapters:
        return (
            ("An empty workspace", self.empty),
            ("The guide, as manifests", self.declared),
            ("An application brings its data", self.sample_data),
            ("The connection is tested", self.tested),
        )

    def rest(self) -> Chapters:
        return (
            ("Elementum connects with what is published", self.connects),
            ("The tables are described", self.described),
            ("The guide's other presets, in place of the first", self.narrowed),
            ("The password is replaced", self.rotated),
            ("Access is ended at once", self.suspended),
            *self.troubles(),
            ("Optional: a managed database catalog", self.catalog),
        )

    # -- the setup steps of the guide ----------------------------------------------------------------------------

    def empty(self) -> None:
        if self.stage.objects.find("lbi", INSTANCE):  # an earlier run made it, and kept it
            self.kubectl(
                *("patch", "lbi", INSTANCE, "--type=merge", '--patch={"spec":{"deletionPolicy":"Delete"}}')
            )
        self.stage.clear()
        with self.narrator.check(f"the workspace has no Lakebase {INSTANCE}"):
            if self.stage.find_database(ROLE):
                raise UnexpectedError(expected=f"no instance {INSTANCE}", seen="there is one")

    def declared(self) -> None:
        check = self.narrator.check
        self.apply_all()
        with check(f"Create Lakebase Postgres Instance: {INSTANCE} is made, and Available"):
            self.until_ready("LakebaseInstance", INSTANCE, seconds=120)
        instance = self.stage.objects.get("lbi", INSTANCE)
        settings = {one["name"]: one.get("effective") for one in instance["status"]["settings"]}
        with check("its size is CU_2, and native login is on: both by the effective value"):
            _expect({"capacity": "CU_2", "nativeLogin": "true"}, settings)
        with check("Get Connection Details: the connection has found the host, and is Ready"):
            self.until_ready("LakebaseConnection", ROLE)
        endpoint = self.stage.objects.get("lbc", ROLE)["status"]["endpoint"]
        self.narrator.say(f"host {endpoint['host']}, port {endpoint['port']}, database databricks_postgres")

    def sample_data(self) -> None:
        self.database.load_sample_data()
        self.narrator.say(
            f"Schemas marketing-data, research-data, cs-data, owned by {APPLICATION}, not by the operator."
        )
        with self.narrator.check("the new tables are granted at the next comparison, here on request"):
            self.sync_now(ROLE)

    def tested(self) -> None:
        count = self.stage.example.object_count
        with self.narrator.check(f"all {count} objects are Ready"):
            self.narrator.wait(
                "all objects are Ready", lambda: all_ready(self.stage.objects.all(), count=count), seconds=120
            )
        with self.narrator.check("Save: network, authentication, schema access and tables have passed"):
            self.until_passed()
        self.tell_test(self.role)
        self.kubectl("get", self.kinds)
        self.narrator.say("From here on it is tested every other second, so that nobody has to wait.")
        self.apply(self.login, f"test: {{interval: {TEST_INTERVAL}}}")
        self.until_ready("PostgresRole", ROLE)

    # -- what Elementum does with it -----------------------------------------------------------------------------

    def connects(self) -> None:
        check = self.narrator.check
        secret = self.mounted()
        form = ("name", "host", "port", "database", "schema", "username")
        self.narrator.command(
            f"kubectl get secret {SECRET} -n {self.stage.namespace} -o yaml   # decoded, without the password",
            "\n".join(f"{key}: {secret.text(key)}" for key in form),
        )
        with check("the published psql line logs in, with the password from PGPASSWORD"):
            _expect(secret.text("username"), secret.run_psql())
        with secret.session() as elementum:
            with check("the published uri logs in, and reads and writes the rows that are declared"):
                elementum.may(
                    _READ_CAMPAIGNS,
                    _NEW_CAMPAIGN,
                    """UPDATE "marketing-data".campaigns SET budget = 950 WHERE name = 'Winter'""",
                    """DELETE FROM "marketing-data".campaigns WHERE name = 'Winter'""",
                    _READ_SPENDING,
                )
            with check(
                "everything else is denied: raw data, other schemas, TRUNCATE, new tables beside the data"
            ):
                elementum.may_not(
                    """SELECT * FROM "marketing-data".clicks_raw""",
                    """SELECT * FROM "research-data".study_loyalty""",
                    """SELECT * FROM "cs-data".customers""",
                    """TRUNCATE "marketing-data".campaigns""",
                    """CREATE TABLE "marketing-data".elementum_notes (id int)""",
                )
            with check(f"it keeps its own tables in its platform schema {PLATFORM_SCHEMA}"):
                elementum.may(
                    f"CREATE TABLE {PLATFORM_SCHEMA}.apps (id int PRIMARY KEY)",
                    f"INSERT INTO {PLATFORM_SCHEMA}.apps VALUES (1)",  # noqa: S608 (a name of our own)
                )

    def described(self) -> None:
        check = self.narrator.check
        tables = self._described()
        with check(
            "Select Tables: the ConfigMap lists what is exposed, raw data and partitions not among it"
        ):
            _expect({"active_campaigns", "campaign_results", "campaigns", "spend_by_channel"}, set(tables))
        with check("Set Primary Key: the unique key of each table is in it; of views none is known"):
            keys = {name: table["key"] for name, table in tables.items() if table["keyKnown"]}
            _expect({"campaigns": ["id"], "campaign_results": ["campaign_id", "day"]}, keys)
        with check("Configure Field Mapping: so are the columns with their types"):
            columns = tables.get("campaigns", {}).get("columns", ())
            types = {column["name"]: column["type"] for column in columns}
            _expect(_CAMPAIGN_COLUMNS, types)
        new = """CREATE TABLE "marketing-data".signups (email text NOT NULL, at timestamptz NOT NULL)"""
        self.narrator.say(f"{APPLICATION}: {new}")
        self.database.as_application(new)
        with check("a table without a unique key is told, and is no reason to fail"):
            self.sync_now(ROLE)
            self.narrator.wait(
                "Tables has the warning NoUniqueKey",
                lambda: connection_test.warned(self.role, "Tables", "NoUniqueKey"),
            )
        self.tell_test(self.role)
        key = """ALTER TABLE "marketing-data".signups ADD PRIMARY KEY (email, at)"""
        self.narrator.say(f"{APPLICATION}: {key}")
        self.database.as_application(key)
        with check("and is forgotten when it has got one"):
            self.sync_now(ROLE)
            self.until_passed()

    def narrowed(self) -> None:
        check = self.narrator.check
        with self.mounted().session() as elementum:
            self.apply_file("presets/read-only.yaml")
            with check("Read-Only Access: the open session reads on, and is denied writing"):
                self.until_ready("AccessGrant", GRANT)
                elementum.may(_READ_CAMPAIGNS, _READ_SPENDING)
                elementum.may_not(_NEW_CAMPAIGN)
            self.apply_file("presets/specific-tables.yaml")
            with check("Specific Tables Only: it reads and writes these, and is denied the others"):
                self.until_ready("AccessGrant", GRANT)
                elementum.may(_READ_CAMPAIGNS, _NEW_CAMPAIGN)
                elementum.may_not(_READ_SPENDING)
            with check("the connection test names what is exposed and cannot be read: MissingGrants"):
                self.narrator.wait(
                    "Tables says MissingGrants",
                    lambda: connection_test.failed([self.role], "Tables", "MissingGrants"),
                )
            self.tell_test(self.role)
            self.apply(self.manifest("AccessGrant", GRANT), "the first preset again")
            with check("and passes again with the first preset"):
                self.until_passed()
                elementum.may(_READ_SPENDING)

    def rotated(self) -> None:
        check = self.narrator.check
        secret = self.mounted()
        before = secret.text("username")
        with ReconnectingClient(secret) as client:
            self.narrator.say("A client logs in anew for each request, with what is mounted in its pod.")
            self._until_used(client, before)
            self._rotate()
            with check("a new login is published, and the one before works on for 24 hours"):
                self._until_rotated()
                self._until_used(client, before)
            secret.refresh()  # as the kubelet does, some time later
            after = secret.text("username")
            with check("the client goes over to the new one when its files are replaced"):
                self._until_used(client, after)
        with check(
            f"it has logged in {len(client.users)} times, as {before} and {after}, and never seen an error"
        ):
            _expect([], client.errors)
            _expect({before, after}, set(client.users))
        with check("the connection test has passed with the new login, too"):
            self.until_passed()

    def suspended(self) -> None:
        check = self.narrator.check
        secret = self.mounted()
        with secret.session() as elementum:
            self.apply(with_spec(self.login, suspend=True), "suspend: true")
            with check("the open session is ended"):
                self.narrator.wait("the session is over", lambda: _holds(elementum.has_ended))
        with check("nobody can log in any more"):
            expect_no_login(secret.session, ROLE, because="not permitted to log in")
        self.apply(self.login, "suspend: false")
        with check("afterwards the same login works again, with what it held"):
            self.until_passed()
            with secret.session() as elementum:
                elementum.may(_READ_CAMPAIGNS)

    def catalog(self) -> None:
        self.apply_file("optional/catalog.yaml")
        with self.narrator.check("the database is registered in Unity Catalog"):
            self.until_ready("DatabaseCatalog", ROLE)

    # -- looking and waiting --------------------------------------------------------------------------------------

    def _described(self) -> dict[str, dict[str, Any]]:
        """What the ConfigMap says of the exposed tables, by name."""
        text = self.stage.objects.get("configmap", _TABLES)["data"]["tables.json"]
        return {table["name"]: table for table in json.loads(text)["tables"]}

    def _rotate(self) -> None:
        self.kubectl("annotate", "pgr", ROLE, "--overwrite", f"{_ROTATE}={now()}")

    def _until_rotated(self) -> None:
        wanted = self.role["metadata"]["annotations"][_ROTATE]

        def look() -> Observation:
            handled = self.role["status"]["password"].get("handledRotation")
            return Observation(handled == wanted, f"status.password.handledRotation is {handled}")

        self.narrator.wait("the rotation is carried out", look)

    def _until_used(self, client: ReconnectingClient, user: str) -> None:
        """Wait for the next two logins of the client as `user`, or an error of it."""
        seen = len(client.users)

        def look() -> Observation:
            new = client.users[seen:]
            if client.errors:
                raise UnexpectedError(expected="no error", seen=client.errors[0])
            return Observation(new.count(user) >= 2, f"since then it has been {', '.join(new) or 'nobody'}")

        self.narrator.wait(f"the client has logged in as {user}", look)


def _expect(expected: object, seen: object) -> None:
    if seen != expected:
        raise UnexpectedError(expected=str(expected), seen=str(seen))


def _holds(check: Callable[[], None]) -> Observation:
    """Whether a check passes by now."""
    try:
        check()
    except UnexpectedError as error:
        return Observation(False, error.seen)
    return Observation(True, "")
