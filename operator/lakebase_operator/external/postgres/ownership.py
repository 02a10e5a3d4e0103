"""Reading who owns what should be owned by others."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from psycopg.types.json import Jsonb

from lakebase_operator.domain.ownership import OwnedClass, OwnedObject
from lakebase_operator.external.postgres.queries import query
from lakebase_operator.external.postgres.session import Connection


@dataclass(frozen=True, slots=True)
class Ownership:
    """The database against ``spec.owns``, read in one statement."""

    objects: tuple[OwnedObject, ...]
    """Those that somebody else owns than some selector wants."""
    owned: Mapping[int, int]
    """By OID of a role: how many of the objects selected for it it owns."""
    absent: tuple[tuple[int, str], ...]
    """Names that do not exist, by the number of their selector."""


async def read_ownership(
    connection: Connection,
    rules: Sequence[Mapping[str, object]],
    *,
    home: bool,
    platform: Iterable[str] = (),
) -> Ownership:
    """Find the objects that are to be owned.

    Parameters
    ----------
    connection
        A session in the database.
    rules
        ``OwnedSelector.as_json`` of each.
    home
        This database answers for databases themselves.
    platform
        Schemas that are an application's own: patterns leave them out.
    """
    objects: list[OwnedObject] = []
    owned: dict[int, int] = {}
    absent: list[tuple[int, str]] = []
    parameters = {"rules": Jsonb(list(rules)), "home": home, "platform": sorted(platform)}
    async for row in await connection.execute(query("owned"), parameters, binary=True):
        match row["tag"]:
            case "object":
                objects.append(
                    OwnedObject(
                        selectors=tuple(row["rules"]),
                        object_class=OwnedClass(row["class"]),
                        oid=row["oid"],
                        name=row["name"],
                        owner=row["owner"],
                        schema=row["schema"],
                        schema_owner=row["schema_owner"],
                        new_may_create=row["new_may_create"],
                        owner_may_use=row["owner_may_use"],
                        operator_may_use=row["operator_may_use"],
                        grantable=row["grantable"],
                        owner_may_become=row["owner_may_become"],
                    )
                )
            case "owned":
                owned[row["owner"]] = row["objects"]
            case "absent":
                absent.append((row["rules"][0], row["name"]))
    return Ownership(tuple(objects), owned, tuple(absent))
