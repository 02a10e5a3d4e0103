"""From a pydantic model to the structural schema that the API server takes.

pydantic speaks JSON Schema; a CustomResourceDefinition takes the subset that Kubernetes calls a *structural schema*
(https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#specifying-a-structural-schema).
What the subset lacks is translated where it has an equal, and refused otherwise: a rule is never lost in silence.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from lakebase_operator.api.base import RULE_KEY

JSON = dict[str, Any]

VALIDATIONS: Final = "x-kubernetes-validations"

_ORDER: Final = (
    "description", "type", "format", "enum", "default", "pattern",
    "minLength", "maxLength", "minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum", "multipleOf",
    "minItems", "maxItems", "minProperties", "maxProperties",
    "x-kubernetes-list-type", "x-kubernetes-list-map-keys", "x-kubernetes-map-type",
    "x-kubernetes-preserve-unknown-fields", "x-kubernetes-int-or-string",
    "required", "properties", "additionalProperties", "items", VALIDATIONS,
)  # fmt: skip
"""Every keyword that may come out, in the order in which it is written."""

_FIXED_SIZE_FORMATS: Final = frozenset({"date-time", "date"})
"""String formats that bound the length by themselves."""


class UnsupportedSchema(Exception):  # noqa: N818 - reads as what it says
    """A model uses something that a CustomResourceDefinition cannot express, or leaves out something that it needs."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}")


class _KubernetesJsonSchema(GenerateJsonSchema):
    """pydantic's generator, but optional means absent and never null."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def dict_schema(self, schema: core_schema.DictSchema) -> JsonSchemaValue:
        # pydantic makes patternProperties of constrained keys, and loses their length.
        keys = self.generate_inner(schema["keys_schema"]) if "keys_schema" in schema else {}
        out: JsonSchemaValue = {
            "type": "object",
            "additionalProperties": self.generate_inner(schema["values_schema"]),
        }
        if keys.keys() - {"type", "title"}:
            out["propertyNames"] = keys
        self.update_with_validations(out, schema, self.ValidationsMapping.object)
        return out

    def sort(self, value: JsonSchemaValue, parent_key: str | None = None) -> JsonSchemaValue:  # noqa: ARG002
        return value  # rules stay in the order in which they are written

    def encode_default(self, dft: Any) -> Any:
        if isinstance(dft, BaseModel):
            # In full: the API server checks rules against a default as it stands, before it fills in those inside.
            return dft.model_dump(mode="json", by_alias=True, exclude_none=True)
        return super().encode_default(dft)


def structural_schema(model: type[BaseModel]) -> JSON:
    """The structural schema of a model.

    Parameters
    ----------
    model
        The model; its attribute docstrings become the descriptions.

    Raises
    ------
    UnsupportedSchema
        The model cannot be expressed, or a description or a bound is missing; names the field.
    """
    document = model.model_json_schema(by_alias=True, schema_generator=_KubernetesJsonSchema)
    return _Walk(document.get("$defs", {})).node(document, path=model.__name__, parents=())


class _Walk:
    """One recursive walk; ``parents`` are the definitions being inlined, ``path`` is for error messages."""

    def __init__(self, definitions: Mapping[str, JSON]) -> None:
        self._definitions = definitions

    def node(self, raw: JSON, *, path: str, parents: tuple[str, ...]) -> JSON:
        raw, parents = self._inlined(raw, path=path, parents=parents)
        out: JSON = {}
        for keyword, value in raw.items():
            self._keyword(keyword, value, out, path=path, parents=parents)
        _require_type(out, path)
        _require_bounds(out, path)
        return {keyword: out[keyword] for keyword in _ORDER if keyword in out}

    def _inlined(self, raw: JSON, *, path: str, parents: tuple[str, ...]) -> tuple[JSON, tuple[str, ...]]:
        """Replace ``$ref`` by what it stands for; what stands beside it wins."""
        siblings = {keyword: value for keyword, value in raw.items() if keyword not in ("$ref", "$defs")}
        if "$ref" not in raw:
            return siblings, parents
        name = raw["$ref"].removeprefix("#/$defs/")
        if name in parents:
            raise UnsupportedSchema(path, f"{name} contains itself; a structural schema cannot recur")
        base, parents = self._inlined(self._definitions[name], path=path, parents=(*parents, name))
        return base | siblings, parents

    def _keyword(self, keyword: str, value: Any, out: JSON, *, path: str, parents: tuple[str, ...]) -> None:
        match keyword:
            case "properties":
                out["properties"] = {
                    name: self._property(child, path=f"{path}.{name}", parents=parents)
                    for name, child in value.items()
                }
            case "items":
                out["items"] = self.node(value, path=f"{path}[]", parents=parents)
            case "additionalProperties" if isinstance(value, dict):
                out["additionalProperties"] = self.node(value, path=f"{path}{{}}", parents=parents)
            case "propertyNames":
                out.setdefault(VALIDATIONS, []).append(_key_rule(value, path))
            case _ if keyword.startswith(RULE_KEY):
                out.setdefault(VALIDATIONS, []).append(validation_rule(value))
            case _:
                out.update(_translated(keyword, value, path))

    def _property(self, raw: JSON, *, path: str, parents: tuple[str, ...]) -> JSON:
        out = self.node(raw, path=path, parents=parents)
        if not out.get("description"):
            raise UnsupportedSchema(path, "has no description; write a docstring below the field")
        return out


def _translated(keyword: str, value: Any, path: str) -> JSON:
    """What a keyword that holds no other schema is in a structural schema."""
    match keyword, value:
        case ("title" | "examples", _) | ("default", None):
            return {}
        case "description", text:
            return {"description": paragraphs(text)}
        case "const", only:
            return {"enum": [only]}
        case "uniqueItems", True:
            return {"x-kubernetes-list-type": "set"}
        case (("exclusiveMinimum" | "exclusiveMaximum"), bound):
            # JSON Schema gives the bound here; OpenAPI 3.0 gives the bound in the plain keyword, and here a flag.
            return {keyword.removeprefix("exclusive").lower(): bound, keyword: True}
        case "format", "duration":
            raise UnsupportedSchema(path, "ISO 8601 durations; Kubernetes' format `duration` is Go's")
        case _ if keyword in _ORDER and keyword != "additionalProperties":
            return {keyword: value}
        case _:
            raise UnsupportedSchema(path, f"the keyword {keyword!r} has no place in a structural schema")


def paragraphs(text: str) -> str:
    """A docstring as running text: one line per paragraph."""
    return "\n\n".join(" ".join(block.split()) for block in re.split(r"\n\s*\n", text.strip()))


def validation_rule(rule: Mapping[str, str]) -> JSON:
    """A CEL rule with its keys in the order in which they are read."""
    return {key: rule[key] for key in ("rule", "message", "fieldPath") if key in rule}


def _require_type(out: JSON, path: str) -> None:
    if "type" not in out:
        raise UnsupportedSchema(path, "has no type (a union, or Any)")
    if out["type"] == "integer":
        out.setdefault("format", "int64")


def _require_bounds(out: JSON, path: str) -> None:
    """The API server prices CEL rules by the largest possible value, and refuses what has no largest value."""
    match out["type"]:
        case "string" if "enum" not in out and out.get("format") not in _FIXED_SIZE_FORMATS:
            needed = "maxLength"
        case "array":
            needed = "maxItems"
        case "object" if "additionalProperties" in out:
            needed = "maxProperties"
        case _:
            return
    if needed not in out:
        raise UnsupportedSchema(path, f"has no {needed}")


def _key_rule(names: JSON, path: str) -> JSON:
    """Structural schemas have no ``propertyNames``: what it says of a map's keys becomes a CEL rule."""
    unknown = names.keys() - {"pattern", "maxLength", "type", "title"}
    if unknown or "maxLength" not in names or "pattern" not in names:
        raise UnsupportedSchema(path, "keys of a map need exactly a pattern and a maximal length")
    pattern, longest = names["pattern"], names["maxLength"]
    if "'" in pattern or "\\" in pattern:
        raise UnsupportedSchema(path, "a pattern for keys may hold neither quotes nor backslashes")
    return {
        "rule": f"self.all(key, key.size() <= {longest} && key.matches('{pattern}'))",
        "message": f"keys match {pattern} and have at most {longest} characters",
    }
