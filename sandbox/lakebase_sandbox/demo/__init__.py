"""The demo: the operator at work on a sandbox, told and checked line by line."""

from lakebase_sandbox.demo.run import run_demo

__all__ = ["run_demo"]
