"""Lists in pages."""

from collections.abc import Sequence
from typing import Any

from aiohttp import web

from lakebase_sandbox.simulator.errors import invalid

MAX_PAGE = 100


def page_response(request: web.Request, key: str, items: Sequence[Any]) -> web.Response:
    """One page of `items` under `key`; an empty list answers an empty object."""
    try:
        size = int(request.query.get("page_size") or MAX_PAGE)
        start = int(request.query.get("page_token") or 0)
    except ValueError as error:
        raise invalid("Invalid page_size or page_token.") from error
    size = min(size or MAX_PAGE, MAX_PAGE)
    page = items[start : start + size]
    body: dict[str, Any] = {key: list(page)} if page else {}
    if start + size < len(items):
        body["next_page_token"] = str(start + size)
    return web.json_response(body)
