"""AccessGrants, and what they select."""

from typing import Any

from lakebase_operator.api import AccessGrant
from lakebase_operator.api.access_grant import AccessLevel
from lakebase_operator.api.objects import Privilege
from lakebase_operator.domain.privileges import ObjectClass
from lakebase_operator.domain.selectors import Selector


def grant(**spec: Any) -> AccessGrant:
    spec = {"access": "Read", **spec} if "privileges" not in spec else spec
    return AccessGrant.from_object(
        {
            "metadata": {"name": "g", "namespace": "team", "uid": "u", "generation": 3},
            "spec": {
                "connectionRef": {"name": "marketing"},
                "subjects": [{"kind": "Role", "name": "r"}],
                "objects": [{"tables": {"schema": "sales", "names": ["orders"]}}],
                **spec,
            },
        }
    )


def selector(name: str = "t", **other: Any) -> Selector:
    return Selector(
        **{
            "object_class": ObjectClass.TABLE,
            "schema": "sales",
            "names": (name,),
            "matching": (),
            "excluding": (),
            "access": AccessLevel.READ,
            "privileges": (Privilege.SELECT,),
            **other,
        }
    )
