"""What happened, for tests to look at."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class TargetStats:
    """Of one target.

    Parameters:
        wake_ups: how often a connection or an API call woke its endpoint.
        logins: successful ones by (user, method), the method being `oauth` or `native`.
        refused_logins: by user.
    """

    wake_ups: int = 0
    logins: Counter[tuple[str, str]] = field(default_factory=Counter)
    refused_logins: Counter[str] = field(default_factory=Counter)

    def to_json(self) -> dict[str, Any]:
        logins: dict[str, dict[str, int]] = {}
        for (user, method), count in sorted(self.logins.items()):
            logins.setdefault(user, {})[method] = count
        return {"wake_ups": self.wake_ups, "logins": logins, "refused_logins": dict(self.refused_logins)}


@dataclass(slots=True)
class Stats:
    """Of the whole workspace.

    Parameters:
        requests: by "METHOD /path".
        secret_sightings: where an OAuth client secret was seen, by "METHOD /path" or "login <target>".
    """

    requests: Counter[str] = field(default_factory=Counter)
    secret_sightings: Counter[str] = field(default_factory=Counter)
    targets: dict[str, TargetStats] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {
            "requests": dict(self.requests),
            "secret_sightings": dict(self.secret_sightings),
            "targets": {name: target.to_json() for name, target in self.targets.items()},
        }
