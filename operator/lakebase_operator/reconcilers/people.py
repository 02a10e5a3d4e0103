"""UserMappings: which role each person is on this connection."""

from dataclasses import dataclass, field
from functools import partial

from lakebase_operator.api import UserMapping
from lakebase_operator.api.reasons import Reason
from lakebase_operator.domain.people import People, Resolution
from lakebase_operator.domain.status import Verdict, condition
from lakebase_operator.engine.catalog import Catalog, key_of
from lakebase_operator.engine.keys import ConnectionKey
from lakebase_operator.reconcilers.report import Look, Report
from lakebase_operator.reconcilers.roles import Roles
from lakebase_operator.reconcilers.view import View, is_deleting


@dataclass(slots=True)
class MappingResults:
    """What became of each UserMapping on each connection, across passes: a mapping may hold for several connections,
    but has one status. After a restart the status says what was found before."""

    catalog: Catalog
    _results: dict[str, dict[ConnectionKey, Resolution]] = field(default_factory=dict)
    _generations: dict[str, int] = field(default_factory=dict)
    """What the results are about: those on an older spec do not count."""

    def note(self, mapping: UserMapping, key: ConnectionKey, result: Resolution) -> None:
        """Remember one result, unless a pass that began later has seen the mapping edited."""
        if self._generations.get(mapping.metadata.uid, 0) <= mapping.metadata.generation:
            self._of(mapping)[key] = result

    def found(self, mapping: UserMapping) -> dict[ConnectionKey, Resolution]:
        """What was found of a mapping so far, in a stable order; empty if it has been edited since."""
        uid, generation = mapping.metadata.uid, mapping.metadata.generation
        if self._generations.get(uid) != generation:
            return {}
        return dict(sorted(self._results.get(uid, {}).items()))

    def knows(self, mapping: UserMapping, key: ConnectionKey) -> bool:
        """Whether a pass over the connection has looked for the mapping's role, as the mapping is now."""
        return key in self._of(mapping)

    def unseen(self, mapping: UserMapping) -> tuple[ConnectionKey, ...]:
        """Connections that the mapping holds for, and on which no pass has looked for its role yet."""
        if mapping.spec.connection_ref is not None:
            return ()
        seen = self._of(mapping)
        return tuple(
            key for key in self.catalog.connections_in(mapping.metadata.namespace) if key not in seen
        )

    def forget_connection(self, key: ConnectionKey) -> None:
        """The connection is gone."""
        for results in self._results.values():
            results.pop(key, None)

    def keep_only(self, mappings: frozenset[str], key: ConnectionKey) -> None:
        """Forget results of mappings that do not concern the connection any more."""
        for uid in self._results.keys() - mappings:
            self._results[uid].pop(key, None)
            if not self._results[uid]:
                del self._results[uid]
                del self._generations[uid]

    def _of(self, mapping: UserMapping) -> dict[ConnectionKey, Resolution]:
        uid, generation = mapping.metadata.uid, mapping.metadata.generation
        if self._generations.get(uid, -1) < generation:
            self._generations[uid] = generation
            self._results[uid] = self._told(mapping)
        return self._results.setdefault(uid, {})

    def _told(self, mapping: UserMapping) -> dict[ConnectionKey, Resolution]:
        status = self.catalog.status(key_of(mapping))
        if status.get("observedGeneration") != mapping.metadata.generation:
            return {}
        told = {
            ConnectionKey(*one["connection"].split("/", 1)): Resolution(Reason(one["state"]), one.get("role"))
            for one in status.get("roles") or []
        }
        return {key: result for key, result in told.items() if self.catalog.connection(key) is not None}


def resolve(view: View, roles: Roles, results: MappingResults, report: Report) -> People:
    """Resolve all mappings, and say of each what it leads to."""
    mappings = [mapping for mapping in view.mappings if not is_deleting(mapping)]
    people = People(view.key.namespace, mappings, roles.names)
    for mapping in mappings:
        # Another mapping may count here.
        results.note(mapping, view.key, people.resolve(mapping.spec.user, mapping.metadata.namespace))
        winner = people.shadowed.get(mapping.metadata.uid)
        if winner is not None:
            report.stalled(
                mapping,
                Reason.CONFLICTING_DECLARATIONS,
                f"UserMapping {winner.metadata.namespace}/{winner.metadata.name} maps the same user. Delete one of them.",
            )
        report.shared(mapping, partial(_look, mapping, results))
    results.keep_only(frozenset(mapping.metadata.uid for mapping in view.mappings), view.key)
    return people


_WORST_FIRST = (Reason.RESERVED_NAME, Reason.AMBIGUOUS, Reason.NOT_FOUND, Reason.NO_ACCOUNT, Reason.RESOLVED)


def _look(mapping: UserMapping, known: MappingResults) -> Look | None:
    """How it stands with a mapping on all connections that it holds for."""
    results = known.found(mapping)
    if not results:
        return None
    found = min(results.values(), key=lambda result: _WORST_FIRST.index(result.state))
    roles = {result.role for result in results.values()}
    fields = {
        "roles": [
            {"connection": str(key), "role": result.role, "state": result.state.value}
            for key, result in list(results.items())[:64]
        ],
        "role": roles.pop() if len(roles) == 1 else None,
    }
    resolved = found.state in (Reason.RESOLVED, Reason.NO_ACCOUNT)
    unseen = known.unseen(mapping)
    verdict, reason, message = Verdict.STALLED, found.state, found.message
    if resolved and unseen:
        names = ", ".join(map(str, unseen[:5]))
        verdict, reason = Verdict.RECONCILING, Reason.CONNECTION_NOT_READY
        message = f"Not looked for yet on {names}. {message}"
    elif resolved:
        verdict = Verdict.READY
    elif reason is Reason.NOT_FOUND:
        verdict = Verdict.RECONCILING
    fact = condition("MappingResolved", resolved, found.state, found.message)
    return Look(verdict, reason, message, {fact["type"]: fact}, fields)
