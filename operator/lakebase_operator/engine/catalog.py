"""The operator's view of the cluster: the objects of all kinds, those of grants by the connection that they belong to.

It is filled by LIST before the first pass and kept by watch events; a LIST from time to time finds what the watch missed.
It knows for each connection what changed since its last pass. Status and other echoes of the operator's own writes are
no change.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json, to_json

from lakebase_operator.api import (
    KINDS,
    AccessGrant,
    DatabaseCatalog,
    LakebaseConnection,
    LakebaseInstance,
    PostgresRole,
    Resource,
    UserMapping,
)
from lakebase_operator.api.base import FINALIZER, GROUP, ObjectMeta
from lakebase_operator.engine.keys import ConnectionKey, ObjectKey
from lakebase_operator.engine.sharing import share_field_sets, share_parts

Body = Mapping[str, Any]

CONNECTION = LakebaseConnection.kind_name
MODELS: Mapping[str, type[Resource]] = {model.kind_name: model for model in KINDS}

SEPARATE = frozenset({LakebaseInstance.kind_name, DatabaseCatalog.kind_name})
"""Kinds that no pass over a connection works on: each of their objects is a unit of work of its own."""
NOTHING: frozenset[ConnectionKey] = frozenset()
_OWN_ANNOTATIONS = f"{GROUP}/"
_MOST_OF_AN_ANNOTATION = 253
"""Characters: as much as a status has room for, which repeats some of them."""
_BROKEN = "Broken"

H = TypeVar("H", bound=Hashable)
V = TypeVar("V", bound=Hashable)
R = TypeVar("R", bound=Resource)


@dataclass(frozen=True, slots=True)
class Broken:
    """An object that this version cannot read. It is reported, and does not hold up the others."""

    kind: str
    metadata: ObjectMeta
    problem: str
    """Where and what, such as ``spec.objects[0].tables.schema: Field required``."""


CatalogObject = Resource | Broken


def kind_of(obj: CatalogObject) -> str:
    """The kind's name."""
    return obj.kind if isinstance(obj, Broken) else obj.kind_name


def key_of(obj: CatalogObject) -> ObjectKey:
    """The object's name in the catalog."""
    return ObjectKey(kind_of(obj), obj.metadata.namespace, obj.metadata.name)


@dataclass(frozen=True, slots=True)
class Dirty:
    """What happened to a connection since its last pass.

    Empty when a pass is only due again. ``full`` asks for a comparison of everything; else only ``objects`` changed.
    """

    full: bool = False
    objects: frozenset[ObjectKey] = frozenset()

    def __bool__(self) -> bool:
        return self.full or bool(self.objects)


@dataclass(slots=True)
class _Pending:
    """A :class:`Dirty` in the making."""

    full: bool = False
    objects: set[ObjectKey] = field(default_factory=set)


@dataclass(slots=True)
class _Entry:
    """One object. ``status`` is kept as JSON text: it is seldom looked at, and much smaller than as objects."""

    object: CatalogObject
    version: int
    home: ConnectionKey | None
    """The connection that it names; None: all of its namespace."""
    status: bytes
    ready: str
    created: str
    digest: int
    """Of the spec: one that is the same is not read again."""

    @property
    def order(self) -> tuple[str, str, str]:
        return (self.created, self.object.metadata.namespace, self.object.metadata.name)

    @property
    def shelf(self) -> str:
        """Objects are found by connection and shelf: their kind, or that they are broken."""
        return _BROKEN if isinstance(self.object, Broken) else self.object.kind_name


class Catalog:
    """The view. Not safe for threads: it belongs to the event loop.

    Parameters
    ----------
    on_change
        Told of each object that came, changed or went, once the view shows it.
    """

    def __init__(self, on_change: Callable[[ObjectKey], object] = lambda _key: None) -> None:
        self._on_change = on_change
        self._entries: dict[ObjectKey, _Entry] = {}
        self._of_kind: dict[str, set[ObjectKey]] = {kind: set() for kind in MODELS}
        self._readiness: Counter[tuple[str, str]] = Counter()
        self._ending: set[ObjectKey] = set()
        """AccessGrants with ``expiresAt``."""
        self._at_home: defaultdict[tuple[ConnectionKey, str], set[ObjectKey]] = defaultdict(set)
        """By the connection that they name (the connection itself included) and shelf."""
        self._homeless: defaultdict[tuple[str, str], set[ObjectKey]] = defaultdict(set)
        """By namespace and shelf: those that name no connection."""
        self._connections: defaultdict[str, set[ConnectionKey]] = defaultdict(set)
        """By namespace: the connections that exist."""
        self._secret_users: defaultdict[tuple[str, str], set[ObjectKey]] = defaultdict(set)
        self._pending: defaultdict[ConnectionKey, _Pending] = defaultdict(_Pending)
        self._gone: dict[str, dict[str, int]] = {kind: {} for kind in MODELS}
        """By kind: uid and resourceVersion of the deletion, so that an older list does not bring the object back."""
        self._listed: dict[tuple[str, str | None], int] = {}
        """By kind and namespace that were listed: resourceVersion of the last list."""

    # -- what comes in -----------------------------------------------------------------------------------------------

    def upsert(self, kind: str, body: Body) -> frozenset[ConnectionKey]:
        """Take an object as the watch gives it. Returns the connections that became dirty."""
        return self._take(kind, body)

    def is_news(self, kind: str, meta: Mapping[str, Any]) -> bool:
        """Whether an object with this metadata is later than what is known of it."""
        known = self._entries.get(ObjectKey(kind, meta["namespace"], meta["name"]))
        version = version_number(meta.get("resourceVersion", ""))
        return known is None or not version or version > known.version

    def absorb(self, kind: str, body: Body) -> frozenset[ConnectionKey]:
        """Take the API server's answer to a write of our own, so that its echo is known already.

        What somebody else changed in the meantime is a change as with :meth:`upsert`.
        """
        return self._take(kind, body, ours=True)

    def remove(
        self, kind: str, namespace: str, name: str, *, uid: str = "", version: str = ""
    ) -> frozenset[ConnectionKey]:
        """Forget an object. Returns the connections that became dirty.

        With ``uid``, an object of the same name that has been made since is left alone.
        """
        key = ObjectKey(kind, namespace, name)
        entry = self._entries.get(key)
        if uid:
            self._gone[kind][uid] = version_number(version) or (entry.version if entry else 0)
        if entry is None or (uid and entry.object.metadata.uid != uid):
            return NOTHING
        homes = self._homes(entry)
        self._unlink(key, entry)
        del self._entries[key]
        self._on_change(key)
        return self._mark(key, homes | self._homes(entry), full=kind == CONNECTION)

    def resync(self, kind: str, namespace: str | None = None) -> "Resync":
        """Begin to compare with a fresh list of one kind, of one namespace or of all."""
        return Resync(self, kind, namespace)

    def mark_full(self, key: ConnectionKey) -> None:
        """Have the next pass compare everything: after a start, a doubt, or a changed Secret."""
        self._pending[key].full = True

    # -- what the passes ask for -------------------------------------------------------------------------------------

    def take_dirty(self, key: ConnectionKey) -> Dirty:
        """What happened since the last call; the caller now answers for it (:meth:`restore_dirty` gives it back)."""
        pending = self._pending.pop(key, None)
        return Dirty(pending.full, frozenset(pending.objects)) if pending is not None else Dirty()

    def restore_dirty(self, key: ConnectionKey, dirty: Dirty) -> None:
        """A pass failed: what it took is still to be done."""
        if dirty:
            pending = self._pending[key]
            pending.full |= dirty.full
            pending.objects |= dirty.objects

    def connection(self, key: ConnectionKey) -> LakebaseConnection | None:
        """The connection, unless it does not exist or is broken."""
        entry = self._entries.get(ObjectKey(CONNECTION, key.namespace, key.name))
        return entry.object if entry is not None and isinstance(entry.object, LakebaseConnection) else None

    def roles(self, key: ConnectionKey) -> tuple[PostgresRole, ...]:
        """The roles that name the connection, oldest first."""
        return cast("tuple[PostgresRole, ...]", self._select(key, PostgresRole.kind_name))

    def mappings(self, key: ConnectionKey) -> tuple[UserMapping, ...]:
        """The mappings that name the connection, and those of its namespace that name none, oldest first."""
        return cast("tuple[UserMapping, ...]", self._select(key, UserMapping.kind_name))

    def grants(self, key: ConnectionKey) -> tuple[AccessGrant, ...]:
        """The grants that name the connection, oldest first."""
        return cast("tuple[AccessGrant, ...]", self._select(key, AccessGrant.kind_name))

    def some_grants(self, key: ConnectionKey, some: Iterable[ObjectKey]) -> tuple[AccessGrant, ...]:
        """Those of ``some`` that are grants and name the connection, in no particular order."""
        there = self._at_home.get((key, AccessGrant.kind_name), set())
        return tuple(cast("AccessGrant", self._entries[one].object) for one in some if one in there)

    def broken(self, key: ConnectionKey) -> tuple[Broken, ...]:
        """The connection's objects that cannot be read, oldest first; the connection itself may be one."""
        return cast("tuple[Broken, ...]", self._select(key, _BROKEN))

    def get(self, key: ObjectKey) -> CatalogObject | None:
        """One object."""
        entry = self._entries.get(key)
        return entry.object if entry is not None else None

    def concerns(self, key: ConnectionKey, one: ObjectKey) -> bool:
        """Whether an object is there and belongs to the connection, or to all of its namespace."""
        entry = self._entries.get(one)
        return entry is not None and key in self._homes(entry)

    def ending_grants(self) -> Iterator[AccessGrant]:
        """The AccessGrants that end at some time, in no particular order."""
        return (cast("AccessGrant", self._entries[key].object) for key in self._ending)

    def of_kind(self, model: type[R]) -> tuple[R, ...]:
        """All objects of a kind that can be read, oldest first."""
        entries = sorted(
            (self._entries[key] for key in self._of_kind[model.kind_name]), key=lambda entry: entry.order
        )
        return tuple(entry.object for entry in entries if isinstance(entry.object, model))

    def status(self, key: ObjectKey) -> dict[str, Any]:
        """The object's status as the API server last gave it; empty if there is none."""
        entry = self._entries.get(key)
        return cast("dict[str, Any]", from_json(entry.status)) if entry is not None and entry.status else {}

    def is_ready(self, key: ObjectKey) -> bool:
        """Whether the object's status says ``Ready``."""
        entry = self._entries.get(key)
        return entry is not None and entry.ready == "True"

    def status_digest(self, key: ObjectKey) -> int:
        """A number that is another one after a change of the status."""
        entry = self._entries.get(key)
        return hash(entry.status) if entry is not None else 0

    def connection_keys(self) -> tuple[ConnectionKey, ...]:
        """All connections that exist or that something names."""
        named = {key for key, _ in self._at_home}
        lonely = {
            ConnectionKey(namespace, "")
            for namespace, _ in self._homeless
            if not self._connections.get(namespace)
        }
        return tuple(sorted(named | lonely))

    def connections_ready(self) -> Iterator[tuple[ConnectionKey, bool]]:
        """The connections that exist, those that cannot be read among them, and whether their status says ``Ready``."""
        for key in sorted(self._of_kind[CONNECTION]):
            yield ConnectionKey(key.namespace, key.name), self.is_ready(key)

    def connections_in(self, namespace: str) -> tuple[ConnectionKey, ...]:
        """The connections of a namespace that exist."""
        return tuple(sorted(self._connections.get(namespace, ())))

    def secrets_used(self, key: ConnectionKey) -> frozenset[tuple[str, str]]:
        """Namespace and name of the Secrets that the connection refers to."""
        connection = self.connection(key)
        return frozenset(_secrets(connection)) if connection is not None else frozenset()

    def all_secrets(self) -> tuple[tuple[str, str], ...]:
        """Namespace and name of every Secret that a connection or a role refers to."""
        return tuple(sorted(self._secret_users))

    def secret_users(self, namespace: str, name: str) -> frozenset[ConnectionKey]:
        """The connections that refer to a Secret, or whose roles do."""
        users = self._secret_users.get((namespace, name), ())
        return frozenset(home for key in users if (home := self._entries[key].home) is not None)

    def readiness(self) -> Mapping[tuple[str, str], int]:
        """How many objects there are, by kind and status of ``Ready``."""
        return +self._readiness

    def __len__(self) -> int:
        return len(self._entries)

    # -- inside ------------------------------------------------------------------------------------------------------

    def _take(
        self, kind: str, body: Body, *, ours: bool = False, force: bool = False
    ) -> frozenset[ConnectionKey]:
        meta = body["metadata"]
        key = ObjectKey(kind, meta["namespace"], meta["name"])
        if not force and not self.is_news(kind, meta):
            return NOTHING  # an echo, or an event that has been overtaken
        old = self._entries.get(key)
        version = version_number(meta.get("resourceVersion", ""))
        if ours and (old is None or old.object.metadata.uid != meta["uid"]):
            return NOTHING  # gone since; the watch says what is there now
        if meta["uid"] in self._gone[kind] and not force:
            return NOTHING
        new = _entry(kind, body, version, old)
        changed = old is None or _differs(old.object, new.object)
        homes = self._homes(old) if old is not None else NOTHING
        if old is not None:
            self._unlink(key, old)
        self._entries[key] = new
        self._link(key, new)
        if not changed:
            return NOTHING
        self._on_change(key)
        return self._mark(key, homes | self._homes(new), full=kind == CONNECTION)

    def _mark(
        self, key: ObjectKey, homes: frozenset[ConnectionKey], *, full: bool
    ) -> frozenset[ConnectionKey]:
        for home in homes:
            pending = self._pending[home]
            pending.full |= full
            pending.objects.add(key)
        return homes

    def _homes(self, entry: _Entry) -> frozenset[ConnectionKey]:
        """The connections that an object concerns, as things are now.

        A connection also concerns the declarations of its namespace that name none, once it was the last one there.
        """
        namespace = entry.object.metadata.namespace
        if kind_of(entry.object) in SEPARATE:
            return NOTHING
        there = frozenset(self._connections.get(namespace) or {ConnectionKey(namespace, "")})
        if entry.home is None:
            return there
        if kind_of(entry.object) == CONNECTION and any(
            (namespace, shelf) in self._homeless for shelf in _SHELVES
        ):
            return frozenset({entry.home}) | (there - self._connections.get(namespace, set()))
        return frozenset({entry.home})

    def _link(self, key: ObjectKey, entry: _Entry) -> None:
        self._of_kind[key.kind].add(key)
        self._readiness[key.kind, entry.ready] += 1
        if isinstance(entry.object, AccessGrant) and entry.object.spec.expires_at is not None:
            self._ending.add(key)
        if key.kind in SEPARATE:
            return
        if entry.home is None:
            self._homeless[key.namespace, entry.shelf].add(key)
            return
        self._at_home[entry.home, entry.shelf].add(key)
        if key.kind == CONNECTION:
            self._connections[key.namespace].add(entry.home)
        for secret in _secrets(entry.object):
            self._secret_users[secret].add(key)

    def _unlink(self, key: ObjectKey, entry: _Entry) -> None:
        self._of_kind[key.kind].discard(key)
        self._readiness[key.kind, entry.ready] -= 1
        self._ending.discard(key)
        if key.kind in SEPARATE:
            return
        if entry.home is None:
            _discard(self._homeless, (key.namespace, entry.shelf), key)
            return
        _discard(self._at_home, (entry.home, entry.shelf), key)
        if key.kind == CONNECTION:
            _discard(self._connections, key.namespace, entry.home)
        for secret in _secrets(entry.object):
            _discard(self._secret_users, secret, key)

    def _select(self, key: ConnectionKey, shelf: str) -> tuple[Any, ...]:
        keys = self._at_home.get((key, shelf), set())
        connections = self._connections.get(key.namespace, set())
        if key in connections or not (key.name or connections):
            keys = keys | self._homeless.get((key.namespace, shelf), set())
        entries = sorted((self._entries[one] for one in keys), key=lambda entry: entry.order)
        return tuple(entry.object for entry in entries)


class Resync:
    """A comparison of the catalog with a list, page by page; watch events may come in between.

    What happened after the list was made is kept. A list that is older than the one before it means that the cluster was
    restored from a backup: then the list holds, whatever we knew.
    """

    def __init__(self, catalog: Catalog, kind: str, namespace: str | None) -> None:
        self._catalog = catalog
        self._kind = kind
        self._namespace = namespace
        self.version = ""
        """``metadata.resourceVersion`` of the list."""
        self._moment = 0
        self._restored = False
        self._seen: set[ObjectKey] = set()
        self._dirty: set[ConnectionKey] = set()
        self.newest = 0
        """Latest resourceVersion that was news to the catalog; 0 if nothing was. The watch has still to bring it."""

    def take(self, bodies: Iterable[Body], version: str) -> None:
        """One page, and the ``metadata.resourceVersion`` of the list, which is that of its first page throughout."""
        self.version, self._moment = version, version_number(version)
        self._restored = 0 < self._moment < self._catalog._listed.get((self._kind, self._namespace), 0)
        for body in bodies:
            meta = body["metadata"]
            key = ObjectKey(self._kind, meta["namespace"], meta["name"])
            self._seen.add(key)
            known = self._catalog.get(key)
            dirty = self._catalog._take(self._kind, body, force=self._restored)
            self._dirty |= dirty
            if dirty or (self._kind in SEPARATE and self._is_news(known, key)):
                self.newest = max(self.newest, version_number(meta["resourceVersion"]))

    def _is_news(self, known: CatalogObject | None, key: ObjectKey) -> bool:
        now = self._catalog.get(key)
        return now is not None and (known is None or _differs(known, now))

    def finish(self) -> frozenset[ConnectionKey]:
        """After the last page. Returns the connections for which the list had news.

        Mostly the watch is about to bring it, so it is a change like any other; a cluster that was restored is another one.
        """
        catalog, kind, moment = self._catalog, self._kind, self._moment
        catalog._listed[kind, self._namespace] = moment
        for key in catalog._of_kind[kind] - self._seen:
            entry = catalog._entries[key]
            if self._namespace in (None, key.namespace) and (
                self._restored or not moment or entry.version <= moment
            ):
                uid = entry.object.metadata.uid
                self._dirty |= catalog.remove(kind, key.namespace, key.name, uid=uid, version=str(moment))
        gone = catalog._gone[kind]
        catalog._gone[kind] = {uid: at for uid, at in gone.items() if at >= moment and not self._restored}
        if self._restored:
            for connection in self._dirty:
                catalog.mark_full(connection)
        return frozenset(self._dirty)


_SHELVES = (*MODELS, _BROKEN)


def _entry(kind: str, body: Body, version: int, old: _Entry | None) -> _Entry:
    """Read an object; most of the time only its metadata and status are new."""
    meta, spec = body["metadata"], body.get("spec")
    annotations = meta.get("annotations") or {}
    # Without managedFields, which is larger than all the rest, and without the notes of other tools.
    relevant = {
        **{name: meta[name] for name in _METADATA if name in meta},
        "annotations": {
            name: text[:_MOST_OF_AN_ANNOTATION]
            for name, text in annotations.items()
            if name.startswith(_OWN_ANNOTATIONS)
        },
    }
    metadata = ObjectMeta.model_validate(relevant)
    share_parts(metadata, relevant)
    digest = hash(to_json(spec))
    known = getattr(old.object, "spec", None) if old is not None and old.digest == digest else None
    status = body.get("status") or {}
    return _Entry(
        object=_read(kind, metadata, spec if known is None else known),
        version=version,
        home=_home(kind, metadata, spec),
        status=to_json(status),
        ready=_ready(status),
        created=meta.get("creationTimestamp") or "",
        digest=digest,
    )


_NO_STATUS = {kind: model.model_fields["status"].get_default() for kind, model in MODELS.items()}
"""Parsed objects share it: the last known status is in the entry."""
_METADATA = (
    "name",
    "namespace",
    "uid",
    "generation",
    "resourceVersion",
    "creationTimestamp",
    "deletionTimestamp",
    "labels",
    "finalizers",
)


def _read(kind: str, metadata: ObjectMeta, spec: object) -> CatalogObject:
    if (place := _nul_in(spec, ("spec",))) is not None:
        return Broken(
            kind, metadata, f"{_path(place)}: holds a NUL character, which no text in PostgreSQL can"
        )
    try:
        read = MODELS[kind].from_object({"metadata": metadata, "spec": spec, "status": _NO_STATUS[kind]})
    except ValidationError as error:
        return Broken(kind, metadata, problem_of(error))
    if isinstance(spec, Mapping):
        share_parts(cast(BaseModel, _content(read)), spec)
    share_field_sets(read)
    return read


def problem_of(error: ValidationError, within: str = "") -> str:
    """Where and what is wrong first, as :attr:`Broken.problem` has it; ``within`` is the field that was read."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    return f"{_path((within, *first['loc']))}: {first['msg']}"


def _nul_in(value: object, place: tuple[int | str, ...]) -> tuple[int | str, ...] | None:
    """Where there is a NUL character. The API server lets it in, and a single one would fail a statement about all objects."""
    inner: Iterable[tuple[int | str, object]] = ()
    if isinstance(value, str):
        return place if "\0" in value else None
    if isinstance(value, Mapping):
        if any("\0" in key for key in value):
            return place
        inner = value.items()
    elif isinstance(value, list):
        inner = enumerate(value)
    return next((found for key, one in inner if (found := _nul_in(one, (*place, key))) is not None), None)


def _path(location: tuple[int | str, ...]) -> str:
    """A place in an object as people write it: ``spec.objects[0].tables``."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")


def _home(kind: str, metadata: ObjectMeta, spec: object) -> ConnectionKey | None:
    """The connection that an object names, read leniently: a broken object too is reported with its connection."""
    if kind == CONNECTION:
        return ConnectionKey(metadata.namespace, metadata.name)
    reference = spec.get("connectionRef") if isinstance(spec, Mapping) else None
    if not isinstance(reference, Mapping) or not isinstance(reference.get("name"), str):
        return None
    namespace = reference.get("namespace")
    return ConnectionKey(namespace if isinstance(namespace, str) else metadata.namespace, reference["name"])


def _secrets(obj: CatalogObject) -> set[tuple[str, str]]:
    if isinstance(obj, PostgresRole) and obj.spec.password is not None:
        given = obj.spec.password.from_
        used = {obj.secret_name, *([given.name] if given else ())}
        return {(obj.metadata.namespace, name) for name in used}
    if not isinstance(obj, LakebaseConnection):
        return set()
    auth, tls = obj.spec.auth, obj.spec.tls
    names = {
        auth.oauth_m2m.client_secret_ref.name if auth.oauth_m2m else None,
        auth.password.secret_ref.name if auth.password else None,
        tls.ca_ref.name if tls.ca_ref else None,
    }
    return {(obj.metadata.namespace, name) for name in names if name}


def _differs(old: CatalogObject, new: CatalogObject) -> bool:
    """Whether an object changed in a way that concerns the database.

    Its status does not, nor does our own finalizer: the watch may bring both before the answer to the write comes.
    """
    was, now = old.metadata, new.metadata
    return (
        type(old) is not type(new)
        or was.uid != now.uid
        or was.generation != now.generation
        or was.deletion_timestamp != now.deletion_timestamp
        or was.labels != now.labels
        or was.annotations != now.annotations
        or _others(was.finalizers) != _others(now.finalizers)
        or ((spec := _content(old)) is not (new_spec := _content(new)) and spec != new_spec)
    )


def _others(finalizers: list[str]) -> list[str]:
    return [one for one in finalizers if one != FINALIZER]


def _content(obj: CatalogObject) -> object:
    return obj.problem if isinstance(obj, Broken) else getattr(obj, "spec", None)


def _ready(status: Mapping[str, Any]) -> str:
    conditions = status.get("conditions") or ()
    return next((str(one.get("status")) for one in conditions if one.get("type") == "Ready"), "Unknown")


def version_number(version: str) -> int:
    """A resourceVersion as a number, by which moments can be compared; 0 if it is none.

    Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions
    """
    return int(version) if version.isdecimal() else 0


def _discard(index: defaultdict[H, set[V]], key: H, value: V) -> None:
    values = index.get(key)
    if values is not None:
        values.discard(value)
        if not values:
            del index[key]
