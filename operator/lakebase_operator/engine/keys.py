"""Names of things in the cluster, as values. They are tuples: each pass looks up tens of thousands of them."""

from typing import NamedTuple


class ObjectKey(NamedTuple):
    """One object of one of the kinds."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


class ConnectionKey(NamedTuple):
    """A connection, which is the unit of work. It need not exist: declarations may name one that is not there.

    An empty ``name`` stands for the declarations of a namespace that name no connection, while it has none.
    """

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"
