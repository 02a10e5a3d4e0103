"""What all kinds share: how a model becomes a schema, references, conditions, the status skeleton."""

from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

GROUP = "lakebase.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
FINALIZER = f"{GROUP}/finalizer"
CATEGORY = "lakebase"

ANNOTATION_SYNC_NOW = f"{GROUP}/sync-now"
ANNOTATION_APPROVE = f"{GROUP}/approve"
ANNOTATION_ABANDON = f"{GROUP}/abandon"
ANNOTATION_ROTATE = f"{GROUP}/rotate"
LABEL_WATCHED = f"{GROUP}/watched"

MAX_STATUS_ISSUES = 20


def cel(rule: str, message: str, *, field_path: str | None = None) -> dict[str, str]:
    """One validation rule for the API server (Common Expression Language)."""
    rules = {"rule": rule, "message": message}
    return rules | ({"fieldPath": field_path} if field_path else {})


RULE_KEY = "x-lakebase-rule: "


def validations(*rules: dict[str, str]) -> dict[str, Any]:
    """``json_schema_extra`` that carries CEL rules. Each has a key of its own, because pydantic merges what is said of a
    type and of a field that uses it key by key, and of two equal keys would drop one in silence."""
    return {RULE_KEY + rule["rule"]: rule for rule in rules}


IMMUTABLE = cel("self == oldSelf", "is immutable")

Name = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")]
"""Name of a Kubernetes object."""
FITS_IN_A_NAME = cel("bytes(self).size() <= 63", "is longer than 63 bytes; PostgreSQL would cut it short")
Identifier = Annotated[str, Field(min_length=1, max_length=63, json_schema_extra=validations(FITS_IN_A_NAME))]
"""A PostgreSQL identifier, as it is stored: case counts, no quotes around it."""
Glob = Annotated[str, Field(min_length=1, max_length=63)]
"""A pattern with ``*`` (any characters) and ``?`` (one character), matched against whole names."""
Duration = Annotated[str, Field(pattern=r"^([0-9]+(s|m|h))+$", max_length=32)]
"""A duration such as ``30s``, ``10m`` or ``1h30m``."""
Timestamp = AwareDatetime
"""A moment with its offset, RFC 3339."""


class Model(BaseModel):
    """Base of everything that appears in a manifest. Unknown fields are refused by the API server, not here:
    an older operator must be able to read what a newer CRD lets in."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="ignore",
        frozen=True,
        use_attribute_docstrings=True,
    )


class ConnectionRef(Model):
    """Names a LakebaseConnection."""

    name: Name
    """Name of the LakebaseConnection."""
    namespace: Name | None = None
    """Its namespace, if another one. The connection must allow it in `spec.allowedNamespaces`."""


class SecretKeyRef(Model):
    """Names one key of a Secret in the same namespace."""

    name: Name
    """Name of the Secret."""
    key: Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[-._a-zA-Z0-9]+$")]
    """Key in its data."""


class SecretRef(Model):
    """Names a Secret in the same namespace."""

    name: Name
    """Name of the Secret."""


class Condition(Model):
    """One observed fact, as Kubernetes' metav1.Condition."""

    type: Annotated[str, Field(max_length=316)]
    """What the fact is about, in CamelCase."""
    status: Literal["True", "False", "Unknown"]
    """Whether it holds."""
    reason: Annotated[
        str, Field(min_length=1, max_length=1024, pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$")
    ]
    """Why, in one CamelCase word; all are listed in the reference of reasons."""
    message: Annotated[str, Field(max_length=32768)] = ""
    """What is wrong and what to do, in a sentence."""
    observed_generation: int
    """The `metadata.generation` that this was said of."""
    last_transition_time: datetime
    """When `status` last changed."""


class Status(Model):
    """What every status has."""

    model_config = ConfigDict(json_schema_extra={"default": {}})

    observed_generation: Annotated[int, Field(json_schema_extra={"default": -1})] = -1
    """The `metadata.generation` that the rest of the status speaks of; -1 before the operator has seen the object."""
    conditions: Annotated[
        list[Condition],
        Field(
            max_length=32,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
        ),
    ] = Field(default_factory=list)
    """`Ready` sums up; the others give details; `Reconciling` and `Stalled` are there only while true."""


class ObjectMeta(Model):
    """The part of metadata that the operator reads."""

    name: str
    namespace: str
    uid: str
    generation: int = 1
    resource_version: str = ""
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    finalizers: list[str] = Field(default_factory=list)


class PrinterColumn(Model):
    """One column of ``kubectl get``."""

    name: str
    type: Literal["string", "integer", "date", "boolean"]
    json_path: str
    description: str
    priority: int = 0


READY_COLUMNS = (
    PrinterColumn(
        name="Ready",
        type="string",
        json_path='.status.conditions[?(@.type=="Ready")].status',
        description="Whether what is declared is so in the database.",
    ),
    PrinterColumn(
        name="Reason",
        type="string",
        json_path='.status.conditions[?(@.type=="Ready")].reason',
        description="Why.",
    ),
)
TRAILING_COLUMNS = (
    PrinterColumn(
        name="Age", type="date", json_path=".metadata.creationTimestamp", description="Time since creation."
    ),
    PrinterColumn(
        name="Message",
        type="string",
        json_path='.status.conditions[?(@.type=="Ready")].message',
        description="What is wrong and what to do.",
        priority=1,
    ),
)


class Resource(Model):
    """Base of the kinds. A subclass *is* its CustomResourceDefinition; ``crdgen`` writes it out."""

    kind_name: ClassVar[str]
    plural: ClassVar[str]
    short_names: ClassVar[tuple[str, ...]]
    columns: ClassVar[tuple[PrinterColumn, ...]] = ()
    rules: ClassVar[tuple[dict[str, str], ...]] = ()
    """CEL rules on the whole object (for what depends on ``metadata.name``)."""

    metadata: ObjectMeta

    @classmethod
    def from_object(cls, body: Any) -> Self:
        """Read an object as the API server gives it.

        Raises
        ------
        pydantic.ValidationError
            The object does not fit this version's model.
        """
        return cls.model_validate(body)
