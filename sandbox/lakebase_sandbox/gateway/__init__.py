"""The TLS gateway that clients of the simulated Lakebase log in through."""

from lakebase_sandbox.gateway.backend import Backend
from lakebase_sandbox.gateway.gateway import Admission, Doorman, Gateway, ReservedPort, TrafficFaults
from lakebase_sandbox.gateway.wire import Refusal

__all__ = ["Admission", "Backend", "Doorman", "Gateway", "Refusal", "ReservedPort", "TrafficFaults"]
