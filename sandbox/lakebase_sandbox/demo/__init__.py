"""The demo: the operator at work on a sandbox, told and checked line by line, one scenario at a time."""

from lakebase_sandbox.demo.run import run_demo
from lakebase_sandbox.demo.scenarios import SCENARIOS

__all__ = ["SCENARIOS", "run_demo"]
