"""UserMappings: which role each person is on this connection."""

from dataclasses import dataclass, field

from lakebase_operator.api import UserMapping
from lakebase_operator.api.reasons import Reason
from lakebase_operator.domain.people import People, Resolution, resolve_mapping
from lakebase_operator.domain.status import condition
from lakebase_operator.engine.keys import ConnectionKey
from lakebase_operator.reconcilers.report import Report
from lakebase_operator.reconcilers.roles import Roles
from lakebase_operator.reconcilers.view import View, is_deleting


@dataclass(slots=True)
class MappingResults:
    """What became of each UserMapping on each connection, across passes: a mapping may hold for several connections,
    but has one status."""

    _results: dict[str, dict[ConnectionKey, Resolution]] = field(default_factory=dict)

    def note(
        self, mapping: UserMapping, key: ConnectionKey, result: Resolution
    ) -> dict[ConnectionKey, Resolution]:
        """Remember one result; returns all of the mapping, in a stable order."""
        results = self._results.setdefault(mapping.metadata.uid, {})
        results[key] = result
        return dict(sorted(results.items()))

    def forget_connection(self, key: ConnectionKey) -> None:
        """The connection is gone."""
        for results in self._results.values():
            results.pop(key, None)

    def keep_only(self, mappings: frozenset[str], key: ConnectionKey) -> None:
        """Forget results of mappings that do not concern the connection any more."""
        for uid in [uid for uid, results in self._results.items() if key in results and uid not in mappings]:
            del self._results[uid][key]
            if not self._results[uid]:
                del self._results[uid]


def resolve(view: View, roles: Roles, results: MappingResults, report: Report) -> People:
    """Resolve all mappings, and say of each what it leads to."""
    mappings = [mapping for mapping in view.mappings if not is_deleting(mapping)]
    names = roles.names
    people = People(view.key.namespace, mappings, names)
    for mapping in mappings:
        found = resolve_mapping(mapping, names)
        all_results = results.note(mapping, view.key, found)
        winner = people.shadowed.get(mapping.metadata.uid)
        if winner is not None:
            report.stalled(
                mapping,
                Reason.CONFLICTING_DECLARATIONS,
                f"UserMapping {winner.metadata.namespace}/{winner.metadata.name} maps the same user. Delete one of them.",
            )
        _say(mapping, all_results, report)
    results.keep_only(frozenset(mapping.metadata.uid for mapping in view.mappings), view.key)
    return people


_WORST_FIRST = (Reason.RESERVED_NAME, Reason.AMBIGUOUS, Reason.NOT_FOUND, Reason.NO_ACCOUNT, Reason.RESOLVED)


def _say(mapping: UserMapping, results: dict[ConnectionKey, Resolution], report: Report) -> None:
    found = min(results.values(), key=lambda result: _WORST_FIRST.index(result.state))
    roles = {result.role for result in results.values()}
    fields = {
        "roles": [
            {"connection": str(key), "role": result.role, "state": result.state.value}
            for key, result in list(results.items())[:64]
        ],
        "role": roles.pop() if len(roles) == 1 else None,
    }
    report.fields(mapping, fields)
    match found.state:
        case Reason.RESOLVED | Reason.NO_ACCOUNT:
            report.ready(mapping, found.state, found.message)
        case Reason.NOT_FOUND:
            report.waiting(mapping, found.state, found.message)
        case _:
            report.stalled(mapping, found.state, found.message)
    resolved = found.state in (Reason.RESOLVED, Reason.NO_ACCOUNT)
    report.fact(mapping, condition("MappingResolved", resolved, found.state, found.message))
