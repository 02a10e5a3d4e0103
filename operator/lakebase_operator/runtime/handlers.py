"""Kopf's handlers: they tell what happened, and do nothing else."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NoReturn

import kopf

from lakebase_operator.api import KINDS
from lakebase_operator.api.base import GROUP, LABEL_WATCHED, VERSION
from lakebase_operator.external.kube.client import Access
from lakebase_operator.runtime.feed import Feed
from lakebase_operator.runtime.kopf_settings import kopf_settings, session
from lakebase_operator.runtime.secrets import SecretWatch
from lakebase_operator.runtime.sync import Synchroniser, WatchLostError

logger = logging.getLogger(__name__)


def build_registry(
    feed: Feed,
    synchroniser: Synchroniser,
    secrets: SecretWatch | None,
    access: Callable[[], Awaitable[Access]],
) -> kopf.OperatorRegistry:
    """Handlers for all kinds, for labelled Secrets, and for logging in.

    Parameters
    ----------
    secrets
        Who is told of changed Secrets; None: they are not watched.
    """
    registry = kopf.OperatorRegistry()

    sessions: dict[Access, kopf.AiohttpSession] = {}

    async def login(**_: Any) -> kopf.AiohttpSession:
        current = await access()
        if current not in sessions:  # the same again tells Kopf that there are no better credentials
            sessions.clear()
            sessions[current] = session(current, synchroniser.begins)
        return sessions[current]

    kopf.on.login(registry=registry, id="login")(login)

    def watch(kind: str, plural: str) -> None:
        def is_news(event: Any, **_: Any) -> bool:
            # Asked of each event. Most are echoes of our own writes or known from a list: Kopf takes as long to call a handler
            # as for all the rest, so for these it does not.
            meta = event["object"]["metadata"]
            synchroniser.heard(kind, meta["resourceVersion"])
            return event["type"] == "DELETED" or feed.is_news(kind, meta)

        async def changed(event: Any, **_: Any) -> None:
            tell = feed.removed if event["type"] == "DELETED" else feed.changed
            tell(kind, event["object"])

        kopf.on.event(GROUP, VERSION, plural, registry=registry, id=plural, when=is_news)(changed)

    for model in KINDS:
        watch(model.kind_name, model.plural)

    if secrets is not None:
        told = secrets

        async def secret_changed(event: Any, **_: Any) -> None:
            meta = event["object"]["metadata"]
            # Without its label a Secret leaves the watch like a deleted one; then it is looked at from time to time.
            if event["type"] != "DELETED":
                told.seen(meta["namespace"], meta["name"], meta["resourceVersion"])

        kopf.on.event("", "v1", "secrets", labels={LABEL_WATCHED: "true"}, registry=registry, id="secrets")(
            secret_changed
        )
    return registry


async def watch(
    registry: kopf.OperatorRegistry, namespaces: Sequence[str], on_started: Callable[[], None]
) -> NoReturn:
    """Run Kopf until this is cancelled.

    Kopf's own ``run_tasks`` is not used: at its end it cancels every task of the event loop that is younger than itself,
    whoever made it.

    Parameters
    ----------
    namespaces
        Those to look at; empty: all.
    on_started
        Called after Kopf has taken over the signals of the process.

    Raises
    ------
    WatchLostError
        Kopf ended, which it does on errors that it cannot mend.
    """
    scope: dict[str, Any] = {"namespaces": list(namespaces)} if namespaces else {"clusterwide": True}
    tasks = await kopf.spawn_tasks(registry=registry, settings=kopf_settings(), standalone=True, **scope)
    on_started()
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    causes = [one for one in results if isinstance(one, Exception)]
    raise WatchLostError("Kopf has ended") from (causes[0] if causes else None)
