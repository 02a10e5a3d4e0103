"""The guide's troubleshooting: what can go wrong, how the connection test says it, and how it comes right."""

from collections.abc import Callable
from dataclasses import dataclass

from lakebase_sandbox.demo import connection_test
from lakebase_sandbox.demo.elementum.steps import (
    GRANT,
    INSTANCE,
    PLATFORM_SCHEMA,
    ROLE,
    ElementumSteps,
)
from lakebase_sandbox.demo.manifests import with_spec
from lakebase_sandbox.demo.story import SYNC_NOW, Chapters, now


@dataclass(frozen=True, slots=True)
class ElementumTroubles(ElementumSteps):
    """One entry of the guide's troubleshooting after the other."""

    def troubles(self) -> Chapters:
        return (
            ("Troubleshooting: the instance is not Available", self.instance_stopped),
            ("Troubleshooting: the port is closed", self.port_closed),
            ("Troubleshooting: the password is not correct", self.password_wrong),
            ("Troubleshooting: Postgres Native Role Login is off", self.native_login_off),
            ("Troubleshooting: the data schema was entered as the platform schema", self.data_schema),
            ("Troubleshooting: tables are not visible", self.no_permissions),
        )

    def instance_stopped(self) -> None:
        target, simulator = self.database.name, self.stage.simulator
        self._trouble(
            None,
            "InstanceStopped",
            cause=f"Somebody stops {INSTANCE}.",
            inject=lambda: simulator.set_state(target, "STOPPED"),
            cure="It is started again.",
            heal=lambda: simulator.set_state(target, "STARTING"),
        )

    def port_closed(self) -> None:
        target, simulator = self.database.name, self.stage.simulator
        self._trouble(
            "Network",
            "PortClosed",
            cause="The endpoint refuses connections.",
            inject=lambda: simulator.add_fault(target, "refuse"),
            cure="It takes connections again.",
            heal=lambda: simulator.clear_faults(target),
        )

    def password_wrong(self) -> None:
        login = self.role["status"]["password"]["login"]
        self._trouble(
            "Authentication",
            "PasswordRejected",
            cause=f"Somebody gives {login} another password, by hand.",
            inject=lambda: self.database.replace_password(login, "Changed-by-hand-1"),
            cure="The operator sets the published one again, by itself.",
            heal=lambda: None,
        )

    def native_login_off(self) -> None:
        target, simulator = self.database.name, self.stage.simulator

        def switch_off() -> None:
            # The operator may be about to look, and would put it right before the test has seen it.
            simulator.add_fault("all", "ignore-native-login", ["1000"])
            simulator.set_native_login(target, enabled=False)

        def let_it_be_repaired() -> None:
            simulator.clear_faults()
            self.kubectl("annotate", "lbi", INSTANCE, "--overwrite", f"{SYNC_NOW}={now()}")

        self._trouble(
            "Authentication",
            "NativeLoginDisabled",
            cause="Somebody switches native login off.",
            inject=switch_off,
            cure="The operator switches it on again, as declared, within a minute; here at once.",
            heal=let_it_be_repaired,
        )

    def data_schema(self) -> None:
        wrong = with_spec(self.login, platformSchema={"name": "marketing-data"})
        self._trouble(
            "Schema",
            "PlatformSchemaIsDataSchema",
            cause="The most common cause of tables that are not visible.",
            inject=lambda: self.apply(wrong, "platformSchema: {name: marketing-data}"),
            cure="A schema of its own is declared again.",
            heal=lambda: self.apply(self.login, f"platformSchema: {{name: {PLATFORM_SCHEMA}}}"),
        )
        with self.narrator.check("the schema with the data still belongs to its application"):
            self.database.as_application(
                """CREATE TABLE "marketing-data".ours (id int); DROP TABLE "marketing-data".ours"""
            )

    def no_permissions(self) -> None:
        declared = self.manifest("AccessGrant", GRANT)
        schema_only = with_spec(declared, access="Read", objects=[{"schemas": {"names": ["marketing-data"]}}])
        self._trouble(
            "Tables",
            "NoReadableTables",
            cause="The role may use the schema, and that is all.",
            inject=lambda: self.apply(schema_only, "objects: schemas instead of tables"),
            cure="The preset is applied again.",
            heal=lambda: self.apply(declared, "objects: tables and sequences"),
        )

    def _trouble(
        self,
        step: str | None,
        reason: str,
        *,
        cause: str,
        inject: Callable[[], None],
        cure: str,
        heal: Callable[[], None],
    ) -> None:
        """Let something go wrong, read off the PostgresRole what it is, and have it put right.

        Parameters:
            step: the one of the connection test that fails; None: the test cannot be made.
        """
        self.narrator.say(cause)
        try:
            # Watched, since what the operator repairs by itself may be over before one looks again.
            with self.stage.objects.watch("pgr", ROLE) as versions:
                inject()
                where = f"{step}, {reason}" if step else reason
                with self.narrator.check(f"the connection test says why: {where}"):
                    self.narrator.wait(
                        f"the connection test says {reason}",
                        lambda: connection_test.failed(versions, step, reason),
                        seconds=120,
                    )
            self.tell_test(connection_test.first_failure(versions, step, reason) or versions[-1])
        finally:
            self.narrator.say(cure)
            heal()
        with self.narrator.check("everything passes again"):
            self.until_passed()
