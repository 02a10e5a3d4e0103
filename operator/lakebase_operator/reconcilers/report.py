"""What a pass has to say of each object, collected and written once at the end."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from lakebase_operator.api import (
    AccessGrant,
    DatabaseCatalog,
    LakebaseConnection,
    LakebaseInstance,
    PostgresRole,
    UserMapping,
)
from lakebase_operator.api.reasons import Reason
from lakebase_operator.domain.errors import InvalidError, LakebaseError
from lakebase_operator.domain.status import Condition, Verdict, verdict
from lakebase_operator.engine.catalog import Broken, key_of
from lakebase_operator.engine.keys import ObjectKey
from lakebase_operator.external.kube.objects import ObjectEvent

Subject: TypeAlias = (
    LakebaseConnection
    | PostgresRole
    | UserMapping
    | AccessGrant
    | LakebaseInstance
    | DatabaseCatalog
    | Broken
)

_SUMMING_UP = frozenset({"Ready", Verdict.RECONCILING.value, Verdict.STALLED.value})


@dataclass(frozen=True, slots=True)
class Look:
    """How it stands with an object to which several passes contribute."""

    verdict: Verdict
    reason: Reason
    message: str
    facts: Mapping[str, Condition]
    fields: Mapping[str, Any]


@dataclass(slots=True)
class Saying:
    """What is said of one object."""

    subject: Subject
    verdict: Verdict | None = None
    """None: nothing to say, the status stays as it is."""
    reason: Reason = Reason.PENDING
    message: str = ""
    facts: dict[str, Condition] = field(default_factory=dict)
    """Further conditions by type."""
    withdrawn: set[str] = field(default_factory=set)
    """Types of conditions that there is nothing to say of any more."""
    fields: dict[str, Any] = field(default_factory=dict)
    """Fields of the status; what is not named stays as it was."""
    events: list[ObjectEvent] = field(default_factory=list)
    look: "Callable[[], Look | None] | None" = None
    """Says it as it is by now, where other passes have a part in it; None: it stays as it was said."""
    looked: bool = False
    """The verdict is that of the last look."""

    def refresh(self) -> None:
        """Say it as it is by now. A verdict that somebody else has given stands."""
        seen = self.look() if self.look is not None else None
        if seen is None:
            return
        if self.looked or self.verdict is None:
            self.verdict, self.reason, self.message, self.looked = (
                seen.verdict,
                seen.reason,
                seen.message,
                True,
            )
        self.facts.update(seen.facts)
        self.fields.update(seen.fields)

    def status(self, previous: Mapping[str, Any]) -> dict[str, Any]:
        """The status to write over ``previous``. Details that a pass did not come to look at stay as they were."""
        assert self.verdict is not None
        self.refresh()
        kept = {
            condition["type"]: condition
            for condition in previous.get("conditions") or []
            if condition["type"] not in _SUMMING_UP | self.withdrawn
        }
        return {
            **{
                key: value
                for key, value in previous.items()
                if key not in ("conditions", "observedGeneration")
            },
            **self.fields,
            "conditions": [*verdict(self.verdict, self.reason, self.message), *(kept | self.facts).values()],
        }


class Report:
    """Verdicts by object. The first verdict on an object stands: a later step does not talk over an earlier failure."""

    def __init__(self) -> None:
        self._sayings: dict[ObjectKey, Saying] = {}

    def __contains__(self, subject: Subject) -> bool:
        saying = self._sayings.get(key_of(subject))
        return saying is not None and saying.verdict is not None

    def said(self) -> tuple[Saying, ...]:
        """Everything that is to be written."""
        return tuple(saying for saying in self._sayings.values() if saying.verdict is not None)

    def take(self, other: "Report") -> None:
        """Say what another report says of objects on which this one has no verdict; what it says of them itself stands."""
        for key, saying in other._sayings.items():
            own = self._sayings.setdefault(key, saying)
            if own is not saying and own.verdict is None:
                own.verdict, own.reason, own.message = saying.verdict, saying.reason, saying.message
                own.facts = saying.facts | own.facts
                own.withdrawn |= saying.withdrawn
                own.fields = saying.fields | own.fields
                own.events += saying.events
                own.look, own.looked = saying.look, saying.looked

    def ready(self, subject: Subject, reason: Reason, message: str) -> None:
        """As declared."""
        self._say(subject, Verdict.READY, reason, message)

    def waiting(self, subject: Subject, reason: Reason, message: str) -> None:
        """Not there yet; the operator goes on by itself."""
        self._say(subject, Verdict.RECONCILING, reason, message)

    def stalled(self, subject: Subject, reason: Reason, message: str) -> None:
        """Not there, and a person must change something."""
        self._say(subject, Verdict.STALLED, reason, message)

    def failed(self, subject: Subject, error: LakebaseError) -> None:
        """Not there, for this error."""
        say = self.stalled if isinstance(error, InvalidError) else self.waiting
        say(subject, error.reason, error.message)

    def planned(self, subject: Subject, message: str) -> None:
        """Whatever was said of it: it waits for the approval of a plan."""
        saying = self._sayings.setdefault(key_of(subject), Saying(subject))
        saying.verdict, saying.reason, saying.message = Verdict.RECONCILING, Reason.PLANNED, message
        saying.looked = False

    def shared(self, subject: Subject, look: Callable[[], Look | None]) -> None:
        """What other passes have a part in: it is looked at now, and again when it is written, since passes end in any order."""
        saying = self._about(subject)
        saying.look = look
        saying.refresh()

    def fact(self, subject: Subject, condition: Condition) -> None:
        """A further condition."""
        self._about(subject).facts[condition["type"]] = condition

    def withdraw(self, subject: Subject, *kinds: str) -> None:
        """Conditions of these types, from an earlier time, go: what they spoke of is not declared any more."""
        self._about(subject).withdrawn.update(kinds)

    def fields(self, subject: Subject, fields: Mapping[str, object]) -> None:
        """Fields of the status. A value of None takes the field away."""
        self._about(subject).fields.update(fields)

    def event(self, subject: Subject, event: ObjectEvent) -> None:
        """An Event, created if the status is written."""
        self._about(subject).events.append(event)

    def _about(self, subject: Subject) -> Saying:
        return self._sayings.setdefault(key_of(subject), Saying(subject))

    def _say(self, subject: Subject, verdict: Verdict, reason: Reason, message: str) -> None:
        saying = self._about(subject)
        if saying.verdict is None:
            saying.verdict, saying.reason, saying.message = verdict, reason, message
