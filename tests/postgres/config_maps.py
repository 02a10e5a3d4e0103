"""ConfigMaps in memory."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lakebase_operator.api import PostgresRole
from lakebase_operator.api.base import ObjectMeta
from lakebase_operator.engine.keys import ObjectKey


@dataclass
class ConfigMaps:
    """As the API server has them: what is the same is not written, and what is somebody else's is left alone."""

    texts: dict[str, Mapping[str, str]] = field(default_factory=dict)
    owners: dict[str, str] = field(default_factory=dict)
    """UIDs by name."""
    writes: int = 0

    async def keep_config_map(self, kind: str, owner: ObjectMeta, name: str, data: Mapping[str, str]) -> bool:
        assert kind == "PostgresRole"
        if self.owners.setdefault(name, owner.uid) != owner.uid:
            return False
        if self.texts.get(name) != data:
            self.texts[name] = dict(data)
            self.writes += 1
        return True

    async def drop_config_map(self, owner: ObjectMeta, name: str) -> None:
        if self.owners.get(name) == owner.uid:
            del self.owners[name], self.texts[name]
            self.writes += 1

    def status(self, key: ObjectKey) -> Mapping[str, Any]:
        """The status of a PostgresRole that has been described before."""
        name = f"{key.name}-tables"
        return {"exposed": {"configMap": name}} if name in self.texts else {}

    def read(self, role: PostgresRole) -> dict[str, Any]:
        """What an application finds in that of a role."""
        found: dict[str, Any] = json.loads(self.texts[role.tables_name]["tables.json"])
        return found
