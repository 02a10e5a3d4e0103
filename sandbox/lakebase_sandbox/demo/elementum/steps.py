"""What the chapters of the Elementum guide are about, and the steps that recur in them."""

from dataclasses import dataclass

from lakebase_sandbox.demo import connection_test
from lakebase_sandbox.demo.client import MountedSecret
from lakebase_sandbox.demo.database import Database
from lakebase_sandbox.demo.manifests import EXAMPLES, Manifest, with_spec
from lakebase_sandbox.demo.objects import Object
from lakebase_sandbox.demo.story import Story

ROLE = "elementum"
"""The PostgresRole, the connection, and the role in the database."""
INSTANCE = "elementum-lakebase"
GRANT = "elementum-data"
SECRET = "elementum-login"
PLATFORM_SCHEMA = "elementum_platform"
TEST_INTERVAL = "2s"
"""How often the connection is tested in the demo."""


@dataclass(frozen=True, slots=True)
class ElementumSteps(Story):
    """The objects of the example, and the connection test of its role."""

    example = "elementum"
    kinds = "lbi,lbc,pgr,ag"

    @property
    def database(self) -> Database:
        return self.stage.database(ROLE)

    @property
    def role(self) -> Object:
        return self.stage.objects.get("pgr", ROLE)

    @property
    def login(self) -> Manifest:
        """The PostgresRole as declared, but tested more often."""
        return with_spec(self.manifest("PostgresRole", ROLE), test={"interval": TEST_INTERVAL})

    def manifest(self, kind: str, name: str) -> Manifest:
        return self.stage.example.find(kind, name)

    def apply_file(self, path: str) -> None:
        """Apply a manifest that is not among those of the example's directory itself.

        Raises:
            SandboxError: the API server refuses it.
        """
        printed = self.stage.kubectl.run("apply", f"--filename={EXAMPLES / self.example / path}")
        self.narrator.command(f"kubectl apply -f examples/{self.example}/{path}", printed)

    def mounted(self) -> MountedSecret:
        """The published login, as Elementum's pod would see it."""
        return MountedSecret(self.stage.directory / SECRET, lambda: self.stage.objects.secret(SECRET))

    # -- the connection test -------------------------------------------------------------------------------------

    def until_passed(self) -> None:
        """Wait until all steps of the connection test have passed, and the role is ready.

        Raises:
            UnexpectedError: they have not in time.
        """
        self.narrator.wait(
            f"{', '.join(connection_test.STEPS)} have passed",
            lambda: connection_test.passed(self.role),
            seconds=120,
        )

    def tell_test(self, role: Object) -> None:
        """Show what a person reads."""
        self.narrator.command(
            f"kubectl get pgr {ROLE} -n {self.stage.namespace} -o yaml   # status.test",
            connection_test.told(role),
        )
