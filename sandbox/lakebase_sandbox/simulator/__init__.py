"""A simulated Databricks workspace with Lakebase databases.

Real: TLS, OAuth, the HTTP APIs as the Databricks SDK sees them, PostgreSQL 16 and 18, their privileges. Known to differ
from Lakebase, besides what nobody outside can know:

- Nothing survives a restart, and nothing is encrypted but the way to the client.
- A child branch gets the data of its source as they are when its endpoint is made, not when the branch is.
- Only passwords that the API has made can be revealed, as they were made: what SQL sets later is not known to it. `replace_existing`
  gives a role that logs in with a password a new one; what Lakebase does there is not documented.
- A project refuses passwords given as verifiers, as reports from the field say; an instance takes them.
- Of Unity Catalog there are only the names of the catalogs that databases are registered as.
- Read-only endpoints are listed, and lead to the read-write compute.
- No synced tables, snapshots, Data API or connection pooling.
- Roles and databases made in SQL appear in the API, without being able to fail there.
- `databricks_auth` is a stand-in written in PL/pgSQL; a database that was made with plain CREATE DATABASE gets it with
  `CREATE EXTENSION databricks_auth`, but neither the event triggers nor the reader and writer roles.
"""

from lakebase_sandbox.simulator.settings import (
    AutoscalingTarget,
    FederationPolicy,
    ProvisionedTarget,
    SimulatorSettings,
)
from lakebase_sandbox.simulator.simulator import LakebaseSimulator, Login
from lakebase_sandbox.simulator.target import Target, TargetState

__all__ = [
    "AutoscalingTarget",
    "FederationPolicy",
    "LakebaseSimulator",
    "Login",
    "ProvisionedTarget",
    "SimulatorSettings",
    "Target",
    "TargetState",
]
