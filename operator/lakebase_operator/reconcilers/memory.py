"""What is remembered of a connection between passes. Losing it costs a pass, nothing else."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from lakebase_operator.engine.keys import ObjectKey
from lakebase_operator.reconcilers.declared import Declarations
from lakebase_operator.reconcilers.grants import Remembered
from lakebase_operator.reconcilers.known import Known
from lakebase_operator.reconcilers.sessions import HomeSession
from lakebase_operator.reconcilers.sightings import Sightings
from lakebase_operator.reconcilers.timing import Pauses
from lakebase_operator.reconcilers.writing import Said


@dataclass(slots=True)
class Memory:
    """Of one connection; one that is deleted and made anew begins with nothing."""

    uid: str
    pauses: Pauses
    secrets: dict[str, Mapping[str, bytes]] = field(default_factory=dict)
    """The last that were read: a namespace that is deleted may lose its Secret before its grants."""
    carried_out: int | None = None
    """The generation of the connection that a pass has carried out."""
    removed: bool = False
    """Something is not declared any more, and no pass has come to take it back yet."""
    known: Known | None = None
    """What the last pass carried out; None: not everything, so the next pass must look at everything."""
    declarations: Declarations = field(default_factory=Declarations)
    home: HomeSession = field(default_factory=HomeSession)
    operations: dict[str, str] = field(default_factory=dict)
    """Changes of roles that Databricks carries out, by name of the role."""
    making_passwords: dict[str, str] = field(default_factory=dict)
    """Operations in which Databricks makes a password, by name of the role that is to log in with it."""
    said: dict[ObjectKey, Said] = field(default_factory=dict)
    """What the statuses say already, so that saying it again costs nothing."""
    remembered: dict[str, Remembered] = field(default_factory=dict)
    """The last comparison of each database."""
    sightings: Sightings = field(default_factory=Sightings)
    """Who was seen logged in, until a report has written it down."""
