"""What the reconcilers are given to work with."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from lakebase_operator.engine.catalog import Catalog
from lakebase_operator.engine.clock import Clock
from lakebase_operator.engine.keys import ConnectionKey
from lakebase_operator.engine.observer import Observer
from lakebase_operator.external.kube.objects import KubeObjects
from lakebase_operator.external.kube.status_writer import StatusWriter
from lakebase_operator.settings import Settings


def _nobody(_keys: Iterable[ConnectionKey]) -> None:
    """Nobody waits."""


@dataclass(frozen=True, slots=True)
class Services:
    """The world outside the reconcilers."""

    catalog: Catalog
    """What is declared."""
    kube: KubeObjects
    """Secrets, finalizers, Events."""
    status_writer: StatusWriter
    """The only way to write a status."""
    settings: Settings
    clock: Clock
    observer: Observer
    hide: Callable[[str], None]
    """Call it with every secret text before it is used: it then never reaches the log."""
    wake: Callable[[Iterable[ConnectionKey]], None] = _nobody
    """Have connections worked on: what they waited for is there."""
