"""Objects of our kinds through a real API server, and its refusals as exceptions."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kubernetes import client
from kubernetes.client.exceptions import ApiException

from lakebase_operator.api import KINDS
from lakebase_operator.api.base import GROUP, VERSION

PLURALS = {kind.kind_name: kind.plural for kind in KINDS}


class Refused(Exception):  # noqa: N818 - that is what the API server did
    """The API server refused an object; the text is its message."""


@dataclass(frozen=True)
class Objects:
    """Objects of our kinds in one namespace, through the API server."""

    api: client.CustomObjectsApi
    namespace: str

    def create(self, body: dict[str, Any], *, dry_run: bool = False) -> dict[str, Any]:
        return self._call(
            self.api.create_namespaced_custom_object,
            body["kind"],
            body=body,
            field_validation="Strict",
            **({"dry_run": "All"} if dry_run else {}),
        )

    def read(self, kind: str, name: str) -> dict[str, Any]:
        return self._call(self.api.get_namespaced_custom_object, kind, name=name)

    def patch(self, kind: str, name: str, patch: dict[str, Any]) -> dict[str, Any]:
        return self._call(self.api.patch_namespaced_custom_object, kind, name=name, body=patch)

    def replace(self, body: dict[str, Any], *, name: str) -> dict[str, Any]:
        return self._call(self.api.replace_namespaced_custom_object, body["kind"], name=name, body=body)

    def patch_status(self, kind: str, name: str, status: dict[str, Any]) -> dict[str, Any]:
        return self._call(
            self.api.patch_namespaced_custom_object_status, kind, name=name, body={"status": status}
        )

    def _call(self, method: Callable[..., Any], kind: str, **arguments: Any) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = method(GROUP, VERSION, self.namespace, PLURALS[kind], **arguments)
        except ApiException as error:
            raise Refused(json.loads(error.body)["message"]) from error
        return answer
