"""What the engine and the reconcilers tell about their work. The metrics are one listener; a test may be another."""

from typing import Protocol

from lakebase_operator.engine.keys import ConnectionKey


class Observer(Protocol):
    """Listens. Its methods return at once and never raise."""

    def pass_finished(self, key: ConnectionKey, result: str, seconds: float) -> None:
        """A pass over a connection ended: ``Success``, ``Error`` or ``Timeout``."""

    def statements(self, verb: str, count: int = 1) -> None:
        """SQL that changes something was carried out; ``verb`` as ``GRANT``, ``REVOKE``, ``CREATE ROLE``."""

    def drift(self, action: str, count: int = 1) -> None:
        """Changes made by hand were found and ``Repaired`` or only ``Reported``."""

    def credential(self, event: str) -> None:
        """A database ``Rejected`` a credential that should have been valid, or one was ``Renewed`` for that."""

    def connection_test(self, step: str, result: str) -> None:
        """A step of the connection test of a login was ``Passed``, ``Warning``, ``Failed`` or ``Skipped``."""

    def login(self, result: str, count: int = 1) -> None:
        """Logins to a database: ``Seen`` (of declared roles, in the list of sessions), ``Rejected`` (the operator's own)."""

    def request(self, system: str, operation: str, outcome: str, seconds: float) -> None:
        """A request to ``kubernetes``, ``databricks`` or ``postgres`` ended: ``Success`` or the class of its failure."""

    def status_written(self, kind: str) -> None:
        """A status was written to the API server."""


class NullObserver:
    """Listens to nothing."""

    def pass_finished(self, key: ConnectionKey, result: str, seconds: float) -> None:
        """Ignored."""

    def statements(self, verb: str, count: int = 1) -> None:
        """Ignored."""

    def drift(self, action: str, count: int = 1) -> None:
        """Ignored."""

    def credential(self, event: str) -> None:
        """Ignored."""

    def connection_test(self, step: str, result: str) -> None:
        """Ignored."""

    def login(self, result: str, count: int = 1) -> None:
        """Ignored."""

    def request(self, system: str, operation: str, outcome: str, seconds: float) -> None:
        """Ignored."""

    def status_written(self, kind: str) -> None:
        """Ignored."""
