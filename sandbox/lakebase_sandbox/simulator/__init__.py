"""A simulated Databricks workspace with Lakebase databases."""

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
