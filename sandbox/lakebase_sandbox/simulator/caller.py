"""Who makes a request."""

from aiohttp import web

from lakebase_sandbox.simulator.directory import Entry

CALLER = web.RequestKey("CALLER", Entry)
"""The identity whose access token a request of the workspace's API carries."""
