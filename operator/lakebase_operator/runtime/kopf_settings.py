"""How Kopf is used: as the machine that lists and watches, and nothing else."""

import itertools
import random
from collections.abc import Iterator

import kopf

from lakebase_operator.api.base import GROUP, LABEL_WATCHED
from lakebase_operator.external.kube.client import Access

WATCHED_SECRETS = f"{LABEL_WATCHED}=true"


class EndlessBackoff:
    """Pauses in seconds between tries of a request. They never end: a cluster that is away for long comes back too."""

    def __iter__(self) -> Iterator[float]:
        for pause in itertools.chain((0.5, 1, 2, 3, 5, 8, 13), itertools.repeat(20)):
            yield pause * random.uniform(0.8, 1.2)  # noqa: S311 - spreads retries, guards nothing


def kopf_settings() -> kopf.OperatorSettings:
    """Settings for a Kopf that has only ``on.event`` handlers."""
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False  # Events are our own: one per transition
    settings.peering.standalone = True  # a Lease decides who acts
    settings.scanning.disabled = True  # needs no right to list CustomResourceDefinitions and namespaces
    settings.process.ultimate_exiting_timeout = None  # no SIGKILL from a timer: the process may run others
    settings.queueing.worker_limit = None  # idle workers would count against it
    settings.queueing.idle_timeout = 0.1  # a worker per object is not kept for long: memory
    settings.watching.chunk_size = 500
    settings.watching.server_timeout = 300
    settings.watching.label_selectors["", "v1", "secrets"] = WATCHED_SECRETS  # filtered by the server
    settings.networking.request_timeout = 30
    settings.networking.connect_timeout = 5
    settings.networking.error_backoffs = EndlessBackoff()
    settings.networking.trust_env = True  # as the other client does
    # Kopf takes its finalizer off every object whose deletion it has no handler for: it must never know ours.
    settings.persistence.finalizer = f"{GROUP}/kopf"
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=GROUP)
    settings.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix=GROUP)
    return settings


def connection_info(access: Access) -> kopf.ConnectionInfo:
    """The same API server and credentials that the operator's own client uses."""
    scheme, _, token = (access.authorization or "").partition(" ")
    return kopf.ConnectionInfo(
        server=access.server,
        ca_path=access.ca_file,
        insecure=access.insecure,
        certificate_path=access.cert_file,
        private_key_path=access.key_file,
        scheme=scheme or None,
        token=token or None,
        proxy_url=access.proxy,
        trust_env=True,
    )
