"""Reading and writing objects: the four kinds, and the Secrets, Namespaces and Events that go with them."""

import asyncio
import base64
import binascii
import logging
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from lakebase_operator.api import KINDS
from lakebase_operator.api.base import API_VERSION, FINALIZER, GROUP, LABEL_WATCHED, VERSION, ObjectMeta
from lakebase_operator.api.reasons import Reason
from lakebase_operator.domain.errors import InvalidError
from lakebase_operator.external.kube.client import JSON_PATCH, MERGE_PATCH, KubeClient
from lakebase_operator.external.kube.errors import Conflict, Forbidden, Gone, KubeError, Rejected, Terminating
from lakebase_operator.external.kube.parallel import side_by_side

logger = logging.getLogger(__name__)

PLURALS: Mapping[str, str] = {model.kind_name: model.plural for model in KINDS}
CHUNK = 500
PARALLEL = 32
CONFLICT_RETRIES = 5
REPORTING_CONTROLLER = f"{GROUP}/operator"
MAX_NOTE = 1024
MAX_EVENT_NAME = 63

EventType = Literal["Normal", "Warning"]
OnWrite = Callable[[str, dict[str, Any]], object]
"""Given the kind and the whole object as the API server answered to a write."""
OnSecret = Callable[[str, str, str | None], None]
"""Given namespace, name and resourceVersion (None: absent) of a Secret that was read or written."""


@dataclass(frozen=True, slots=True)
class Page:
    """Some of the objects of a list."""

    bodies: tuple[dict[str, Any], ...]
    version: str
    """``metadata.resourceVersion`` of the list, the same on all of its pages."""


@dataclass(frozen=True, slots=True)
class Secret:
    """A Secret's data, decoded. Its values are not printed."""

    namespace: str
    name: str
    resource_version: str
    values: Mapping[str, bytes] = field(repr=False)
    annotations: Mapping[str, str] = field(default_factory=dict)
    owners: frozenset[str] = frozenset()
    """UIDs of the objects that it goes with."""


@dataclass(frozen=True, slots=True)
class ObjectEvent:
    """An Event about an object."""

    type: EventType
    reason: Reason
    message: str
    action: str = "Reconcile"
    """What the operator was doing, in CamelCase."""


FIELD_MANAGER = "lakebase-operator"
LABEL_MANAGED_BY = "app.kubernetes.io/managed-by"


class KubeObjects:
    """The operator's requests to the API server.

    Parameters
    ----------
    instance
        Name of this process, for Events.
    on_write
        Is given each object that a write of ours returned, so that the echo of the write is recognised.
    on_secret_read, on_secret_written
        Are told which version of a Secret is in use, so that a change can be noticed.
    """

    def __init__(
        self,
        client: KubeClient,
        *,
        instance: str = "lakebase-operator",
        on_write: OnWrite | None = None,
        on_secret_read: OnSecret | None = None,
        on_secret_written: OnSecret | None = None,
    ) -> None:
        self._client = client
        self._instance = instance[:128]
        self._on_write = on_write or (lambda _kind, _body: None)
        self._on_secret_read = on_secret_read or (lambda _namespace, _name, _version: None)
        self._on_secret_written = on_secret_written or (lambda _namespace, _name, _version: None)

    # -- the four kinds ------------------------------------------------------------------------------------------------

    async def pages(self, kind: str, namespace: str | None = None) -> AsyncIterator[Page]:
        """List all objects of a kind, a page at a time, without ``managedFields``.

        Raises
        ------
        Expired
            The list became too old while it was read; start again.
        Gone
            The CustomResourceDefinition is not installed.
        KubeError, Forbidden
            The request failed.
        """
        following: asyncio.Task[Any] | None = asyncio.create_task(self._page(kind, namespace, None))
        try:
            while following is not None:
                answer = await following
                rest = answer["metadata"].get("continue")
                following = asyncio.create_task(self._page(kind, namespace, rest)) if rest else None
                await asyncio.sleep(0)  # so that the next page is on its way while this one is looked at
                for body in answer["items"]:
                    body["metadata"].pop("managedFields", None)
                yield Page(tuple(answer["items"]), answer["metadata"]["resourceVersion"])
        finally:
            if following is not None:
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)

    async def _page(self, kind: str, namespace: str | None, rest: str | None) -> Any:
        query = {"limit": str(CHUNK), **({"continue": rest} if rest else {})}
        return await self._client.request(
            "GET", _collection(kind, namespace), operation=f"list {PLURALS[kind]}", query=query
        )

    async def read(self, kind: str, namespace: str, name: str) -> dict[str, Any] | None:
        """One object, or None if there is none."""
        try:
            body: dict[str, Any] = await self._client.request(
                "GET", _path(kind, namespace, name), operation=f"get {PLURALS[kind]}"
            )
        except Gone:
            return None
        return body

    async def replace_status(
        self, kind: str, meta: ObjectMeta, status: Mapping[str, Any]
    ) -> dict[str, Any] | None:
        """Make ``status`` the whole status of an object.

        The status is replaced, not merged, so that nothing of an older one survives. A namesake that was made since is
        left alone.

        Returns
        -------
        The object as it is now, or None if it is gone.
        """
        patch = [
            {"op": "test", "path": "/metadata/uid", "value": meta.uid},
            {"op": "add", "path": "/status", "value": dict(status)},
        ]
        path = f"{_path(kind, meta.namespace, meta.name)}/status"
        try:
            body: dict[str, Any] = await self._client.request(
                "PATCH",
                path,
                operation=f"write status of {PLURALS[kind]}",
                body=patch,
                content_type=JSON_PATCH,
            )
        except Gone:
            return None
        except Rejected:
            if await self._is_gone(kind, meta):
                return None
            raise
        self._on_write(kind, body)
        return body

    async def add_finalizer(self, kind: str, meta: ObjectMeta) -> bool:
        """Have the operator asked before the object goes. Returns whether the object is still there and has it.

        An object that is being deleted takes no new finalizer.
        """
        return await self._set_finalizer(kind, meta, present=True)

    async def remove_finalizer(self, kind: str, meta: ObjectMeta) -> bool:
        """Let the object go. Returns whether it was still there."""
        return await self._set_finalizer(kind, meta, present=False)

    async def add_finalizers(self, objects: Iterable[tuple[str, ObjectMeta]]) -> bool:
        """:meth:`add_finalizer` for many objects, given by kind and metadata. Returns whether all are still there and have it."""
        return all(
            await side_by_side("finalizers", lambda one: self.add_finalizer(*one), objects, limit=PARALLEL)
        )

    async def remove_finalizers(self, objects: Iterable[tuple[str, ObjectMeta]]) -> None:
        """:meth:`remove_finalizer` for many objects, given by kind and metadata."""
        await side_by_side("finalizers", lambda one: self.remove_finalizer(*one), objects, limit=PARALLEL)

    async def _set_finalizer(self, kind: str, meta: ObjectMeta, *, present: bool) -> bool:
        path = _path(kind, meta.namespace, meta.name)
        finalizers, version = list(meta.finalizers), meta.resource_version
        for _ in range(CONFLICT_RETRIES):
            if present == (FINALIZER in finalizers):
                return True
            wanted = [*finalizers, FINALIZER] if present else [one for one in finalizers if one != FINALIZER]
            patch = {"metadata": {"uid": meta.uid, "resourceVersion": version, "finalizers": wanted}}
            try:
                body: dict[str, Any] = await self._client.request(
                    "PATCH",
                    path,
                    operation=f"set finalizer of {PLURALS[kind]}",
                    body=patch,
                    content_type=MERGE_PATCH,
                )
            except Gone:
                return False
            except Conflict:
                current = await self.read(kind, meta.namespace, meta.name)
                if current is None or current["metadata"]["uid"] != meta.uid:
                    return False
                if present and current["metadata"].get("deletionTimestamp"):
                    return False
                finalizers = list(current["metadata"].get("finalizers") or ())
                version = current["metadata"]["resourceVersion"]
            else:
                self._on_write(kind, body)
                return True
        raise KubeError(
            409, f"{kind} {meta.namespace}/{meta.name} changes all the time: its finalizer could not be set"
        )

    async def _is_gone(self, kind: str, meta: ObjectMeta) -> bool:
        current = await self.read(kind, meta.namespace, meta.name)
        return current is None or current["metadata"]["uid"] != meta.uid

    # -- what goes with them -------------------------------------------------------------------------------------------

    async def read_secret(self, namespace: str, name: str) -> Secret | None:
        """A Secret, or None if there is none.

        Raises
        ------
        InvalidError
            The operator may not read it, or its data is not what a Secret holds.
        KubeError
            The request failed.
        """
        try:
            body = await self._client.request(
                "GET", f"/api/v1/namespaces/{namespace}/secrets/{name}", operation="get secrets"
            )
        except Gone:
            self._on_secret_read(namespace, name, None)
            return None
        except Forbidden as error:
            raise InvalidError(
                Reason.SECRET_NOT_FOUND,
                f"the operator may not read Secret {namespace}/{name}: give its ServiceAccount the right to get Secrets there",
            ) from error
        version = body["metadata"]["resourceVersion"]
        self._on_secret_read(namespace, name, version)
        try:
            values = {
                key: base64.b64decode(text, validate=True) for key, text in (body.get("data") or {}).items()
            }
        except binascii.Error as error:
            raise InvalidError(
                Reason.SECRET_NOT_FOUND, f"Secret {namespace}/{name} holds data that is not base64"
            ) from error
        metadata = body["metadata"]
        owners = frozenset(one["uid"] for one in metadata.get("ownerReferences") or ())
        return Secret(namespace, name, version, values, metadata.get("annotations") or {}, owners)

    async def secret_version(self, namespace: str, name: str) -> str | None:
        """resourceVersion of a Secret, or None if there is none. Its data is not even sent."""
        try:
            body = await self._client.request(
                "GET",
                f"/api/v1/namespaces/{namespace}/secrets/{name}",
                operation="get secret versions",
                accept="application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
            )
        except Gone:
            return None
        return str(body["metadata"]["resourceVersion"])

    async def apply_secret(
        self,
        kind: str,
        owner: ObjectMeta,
        name: str,
        data: Mapping[str, bytes],
        *,
        secret_type: str,
        annotations: Mapping[str, str],
        version: str | None,
    ) -> None:
        """Make a Secret beside an object, which goes with it, or make it so again; keys of an earlier time go.

        Parameters
        ----------
        kind, owner
            The object that it belongs to.
        secret_type
            Its ``type``, which cannot be changed later.
        version
            The ``resourceVersion`` that it has; None: there is none yet.

        Raises
        ------
        Conflict
            It has been changed since.
        KubeError, Forbidden
            The API server did not take it.
        """
        metadata: dict[str, Any] = {
            "name": name,
            "labels": {LABEL_MANAGED_BY: FIELD_MANAGER, LABEL_WATCHED: "true"},
            "annotations": dict(annotations),
            "ownerReferences": [
                {
                    "apiVersion": API_VERSION,
                    "kind": kind,
                    "name": owner.name,
                    "uid": owner.uid,
                    "controller": True,
                }
            ],
        }
        if version is not None:
            metadata["resourceVersion"] = version
        answer = await self._client.request(
            "PATCH",
            f"/api/v1/namespaces/{owner.namespace}/secrets/{name}",
            operation="apply secrets",
            query={"fieldManager": FIELD_MANAGER, "force": "true"},
            body={
                "apiVersion": "v1",
                "kind": "Secret",
                "type": secret_type,
                "metadata": metadata,
                "data": {key: base64.b64encode(value).decode() for key, value in data.items()},
            },
            content_type="application/apply-patch+yaml",
        )
        self._on_secret_written(owner.namespace, name, answer["metadata"]["resourceVersion"])

    async def apply_config_map(
        self, kind: str, owner: ObjectMeta, name: str, data: Mapping[str, bytes]
    ) -> None:
        """Make a ConfigMap beside an object, which goes with it. Text is stored as such, the rest as binary data.

        Raises
        ------
        KubeError, Forbidden
            The API server did not take it.
        """
        plain, binary = {}, {}
        for key, value in data.items():
            try:
                plain[key] = value.decode()
            except UnicodeDecodeError:
                binary[key] = base64.b64encode(value).decode()
        body = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": name,
                "ownerReferences": [
                    {"apiVersion": API_VERSION, "kind": kind, "name": owner.name, "uid": owner.uid}
                ],
            },
            "data": plain,
            "binaryData": binary,
        }
        await self._client.request(
            "PATCH",
            f"/api/v1/namespaces/{owner.namespace}/configmaps/{name}",
            operation="apply configmaps",
            query={"fieldManager": FIELD_MANAGER, "force": "true"},
            body=body,
            content_type="application/apply-patch+yaml",
        )

    async def keep_config_map(self, kind: str, owner: ObjectMeta, name: str, data: Mapping[str, str]) -> bool:
        """Have a ConfigMap beside an object hold just these texts; it goes with the object.

        The API server itself looks whose it is, so no right to read ConfigMaps is needed, and writes nothing that is there
        already.

        Returns
        -------
        Whether it does; False: there is one of this name that is not the object's, and it is left alone.

        Raises
        ------
        KubeError, Forbidden
            The API server did not take it.
        """
        path = f"/api/v1/namespaces/{owner.namespace}/configmaps"
        patch = [_is_owned_by(owner), {"op": "add", "path": "/data", "value": dict(data)}]
        try:
            await self._patch_config_map(f"{path}/{name}", patch)
        except Rejected:
            if await self._own_config_map(owner, name) is not None:
                raise
            return False
        except Gone:
            metadata = {
                "name": name,
                "labels": {LABEL_MANAGED_BY: FIELD_MANAGER},
                "ownerReferences": [
                    {"apiVersion": API_VERSION, "kind": kind, "name": owner.name, "uid": owner.uid}
                ],
            }
            body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": dict(data)}
            try:
                await self._client.request("POST", path, operation="create configmaps", body=body)
            except Conflict:
                return False
        return True

    async def drop_config_map(self, owner: ObjectMeta, name: str) -> None:
        """Remove a ConfigMap of :meth:`keep_config_map`; one that is not the object's is left alone.

        Raises
        ------
        KubeError, Forbidden
            The API server refused.
        """
        uid = await self._own_config_map(owner, name)
        if uid is None:
            return
        try:
            await self._client.request(
                "DELETE",
                f"/api/v1/namespaces/{owner.namespace}/configmaps/{name}",
                operation="delete configmaps",
                body={"preconditions": {"uid": uid}},
            )
        except (Gone, Conflict):  # it is gone, and another may have come
            return

    async def _own_config_map(self, owner: ObjectMeta, name: str) -> str | None:
        """UID of the ConfigMap of this name, if it is the object's."""
        path = f"/api/v1/namespaces/{owner.namespace}/configmaps/{name}"
        try:
            body = await self._patch_config_map(path, [_is_owned_by(owner)])
        except (Gone, Rejected):
            return None
        return str(body["metadata"]["uid"])

    async def _patch_config_map(self, path: str, patch: object) -> Any:
        """Returns its metadata."""
        return await self._client.request(
            "PATCH",
            path,
            operation="patch configmaps",
            query={"fieldManager": FIELD_MANAGER},
            body=patch,
            content_type=JSON_PATCH,
            accept="application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
        )

    async def delete_config_map(self, namespace: str, name: str) -> None:
        """Remove a ConfigMap; harmless where there is none.

        Raises
        ------
        KubeError, Forbidden
            The API server refused.
        """
        try:
            await self._client.request(
                "DELETE", f"/api/v1/namespaces/{namespace}/configmaps/{name}", operation="delete configmaps"
            )
        except Gone:
            return

    async def namespace_labels(self, namespace: str) -> dict[str, str] | None:
        """Labels of a namespace, or None if it does not exist."""
        metadata = await self._namespace(namespace)
        return None if metadata is None else dict(metadata.get("labels") or {})

    async def namespace_is_going(self, namespace: str) -> bool:
        """Whether a namespace is being deleted, and everything in it with it."""
        metadata = await self._namespace(namespace)
        return metadata is None or "deletionTimestamp" in metadata

    async def _namespace(self, namespace: str) -> dict[str, Any] | None:
        try:
            body = await self._client.request(
                "GET", f"/api/v1/namespaces/{namespace}", operation="get namespaces"
            )
        except Gone:
            return None
        return dict(body["metadata"])

    async def create_event(self, kind: str, meta: ObjectMeta, event: ObjectEvent) -> None:
        """Tell people what happened to an object. That this fails is logged; it never fails the work.

        A namespace that is being deleted takes no Events; that is no failure.

        Source: https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/event-v1/
        """
        suffix = uuid.uuid4().hex[:16]
        body = {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {
                "name": f"{meta.name[: MAX_EVENT_NAME - len(suffix) - 1].rstrip('.-')}.{suffix}",
                "namespace": meta.namespace,
            },
            "eventTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "reportingController": REPORTING_CONTROLLER,
            "reportingInstance": self._instance,
            "action": event.action,
            "reason": event.reason.value,
            "type": event.type,
            "note": event.message[:MAX_NOTE],
            "regarding": {
                "apiVersion": API_VERSION,
                "kind": kind,
                "namespace": meta.namespace,
                "name": meta.name,
                "uid": meta.uid,
                "resourceVersion": meta.resource_version,
            },
        }
        path = f"/apis/events.k8s.io/v1/namespaces/{meta.namespace}/events"
        try:
            await self._client.request("POST", path, operation="create events", body=body)
        except (KubeError, Forbidden) as error:
            logger.log(
                logging.DEBUG if isinstance(error, Terminating | Gone) else logging.WARNING,
                "Event %s is lost: %s",
                event.reason,
                error.message,
                extra={"object": f"{kind} {meta.namespace}/{meta.name}"},
            )

    async def create_events(self, kind: str, meta: ObjectMeta, events: Iterable[ObjectEvent]) -> None:
        """Several Events about one object, in order."""
        for event in events:
            await self.create_event(kind, meta, event)


def _is_owned_by(owner: ObjectMeta) -> dict[str, str]:
    """Of a JSON patch: nothing is changed unless the object was made beside this one."""
    return {"op": "test", "path": "/metadata/ownerReferences/0/uid", "value": owner.uid}


def _collection(kind: str, namespace: str | None) -> str:
    scope = f"/namespaces/{namespace}" if namespace else ""
    return f"/apis/{GROUP}/{VERSION}{scope}/{PLURALS[kind]}"


def _path(kind: str, namespace: str, name: str) -> str:
    return f"{_collection(kind, namespace)}/{name}"
