"""The API reference, one page per kind and one of all reasons, written from the schemas and nothing else."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

from lakebase_operator.api.base import API_VERSION, Resource
from lakebase_operator.api.conditions import CONDITIONS, ConditionType
from lakebase_operator.api.reasons import Reason
from lakebase_operator.crdgen.enums import members
from lakebase_operator.crdgen.manifest import GENERATED
from lakebase_operator.crdgen.schema import JSON, VALIDATIONS

_HEADER: Final = f"<!-- {GENERATED} -->\n"

_REASONS_INTRODUCTION: Final = (
    "A condition's `reason`, and the reason of an Event, is always one of these words. "
    "They are stable: match on them, not on messages.\n"
)

_EVENTS: Final = (
    ("Reconcile", "any object", "`Ready` changes its value or its reason; a Warning where the object is then `Stalled`"),
    ("Compare", "LakebaseConnection", "something was changed by hand: `DriftRepaired`, `DriftFound`"),
    ("Review", "LakebaseConnection", "an access report has something that the one before had not: `WiderThanDeclared`"),
    ("Rotate", "PostgresRole", "a password was replaced: `PasswordFresh`"),
    ("TestConnection", "PostgresRole", "a published login begins to work: `ConnectionTestPassed`"),
    ("Delete", "any object", "an object was let go without cleaning up: `Abandoned`"),
)  # fmt: skip
"""Action of an Event, what it is about, and when there is one. A test compares the actions with those in the code."""


@dataclass(frozen=True, slots=True)
class _Field:
    path: str
    schema: JSON
    required: bool


def kind_page(kind: type[Resource], definition: JSON) -> str:
    """The page of one kind, from its CustomResourceDefinition."""
    names = definition["spec"]["names"]
    (version,) = definition["spec"]["versions"]
    root: JSON = version["schema"]["openAPIV3Schema"]
    spec, status = root["properties"]["spec"], root["properties"]["status"]
    return "\n".join(
        [
            _HEADER,
            f"# {names['kind']}\n",
            f"{root['description']}\n",
            f"`apiVersion: {API_VERSION}`, `kind: {names['kind']}`, namespaced.",
            f"Short name `{'`, `'.join(names['shortNames'])}`; `kubectl get {names['categories'][0]}` lists all kinds.\n",
            f"[Example](../../examples/reference/{names['singular']}.yaml) · [All reasons](reasons.md)\n",
            "## Spec\n",
            *_fields_table(_fields(spec, "spec"), with_defaults=True),
            "### Rules\n",
            "The API server refuses an object that breaks one of these, with this message.\n",
            *_table(("Where", "Message"), _rules(root, "")),
            "## Status\n",
            "Written by the operator only.\n",
            *_fields_table(_fields(status, "status"), with_defaults=False),
            "### Conditions\n",
            *_table(("Type", "Meaning"), _conditions(kind.kind_name)),
            "## Columns\n",
            f"What `kubectl get {names['plural']}` shows.\n",
            *_table(("Column", "From", "Meaning"), _columns(version["additionalPrinterColumns"])),
        ]
    )


def index_page(definitions: Iterable[JSON]) -> str:
    """The page that leads to the others."""
    rows = [
        (
            f"[{names['kind']}]({names['singular']}.md)",
            f"`{'`, `'.join(names['shortNames'])}`",
            d["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["description"],
        )
        for d in definitions
        if (names := d["spec"]["names"])
    ]
    return "\n".join(
        [
            _HEADER,
            f"# API reference of `{API_VERSION}`\n",
            *_table(("Kind", "Short name", "Is"), rows),
            "[All reasons](reasons.md) that conditions and Events give.\n",
        ]
    )


def reasons_page() -> str:
    """The page of all reasons, by section."""
    lines = [_HEADER, "# Reasons\n", _REASONS_INTRODUCTION]
    lines += [
        "## Events\n",
        "Each has a reason of this page, and says in `action` what the operator was doing.\n",
    ]
    lines += _table(
        ("Action", "About", "When"), [(f"`{action}`", about, when) for action, about, when in _EVENTS]
    )
    for section, found in groupby(members(Reason), key=lambda member: member.section):
        lines.append(f"## {section[:1].upper()}{section[1:]}\n")
        lines += _table(("Reason", "Meaning"), [(f"`{m.value}`", m.description) for m in found])
    return "\n".join(lines)


def _conditions(kind_name: str) -> list[tuple[str, str]]:
    meaning = {member.value: member.description for member in members(ConditionType)}
    return [(f"`{type_}`", meaning[type_]) for type_ in CONDITIONS[kind_name]]


def _columns(columns: list[JSON]) -> list[tuple[str, str, str]]:
    return [
        (
            c["name"] + (" (with `-o wide`)" if c.get("priority") else ""),
            f"`{c['jsonPath']}`",
            c["description"],
        )
        for c in columns
    ]


def _fields(node: JSON, path: str) -> Iterator[_Field]:
    """All fields below ``node``, each before its own."""
    for name, child in node.get("properties", {}).items():
        field = _Field(f"{path}.{name}", child, required=name in node.get("required", ()))
        yield field
        yield from _fields(*_inside(child, field.path))


def _inside(node: JSON, path: str) -> tuple[JSON, str]:
    """The node whose properties are shown below ``path``: the elements of a list or map, else the node itself."""
    if "items" in node:
        return _inside(node["items"], f"{path}[]")
    if "additionalProperties" in node:
        return _inside(node["additionalProperties"], f"{path}{{}}")
    return node, path


def _rules(node: JSON, path: str) -> Iterator[tuple[str, str]]:
    """All CEL rules at and below ``node``."""
    for rule in node.get(VALIDATIONS, ()):
        yield f"`{path.lstrip('.') or 'the object'}`" if path else "the object", rule["message"]
    for name, child in node.get("properties", {}).items():
        yield from _rules(child, f"{path}.{name}")
    for key, suffix in (("items", "[]"), ("additionalProperties", "{}")):
        if key in node:
            yield from _rules(node[key], path + suffix)


def _fields_table(fields: Iterable[_Field], *, with_defaults: bool) -> list[str]:
    if not with_defaults:
        return _table(
            ("Field", "Type", "Description"),
            [(f"`{f.path}`", _type(f.schema), _description(f.schema)) for f in fields],
        )
    return _table(
        ("Field", "Type", "Default", "Description"),
        [(f"`{f.path}`", _type(f.schema), _default(f), _description(f.schema)) for f in fields],
    )


def _type(node: JSON) -> str:
    if "enum" in node:
        return ", ".join(f"`{value}`" for value in node["enum"])
    match node["type"]:
        case "array":
            return f"list of {_type(node['items'])}"
        case "object" if "additionalProperties" in node:
            return f"map of {_type(node['additionalProperties'])}"
        case "string" if node.get("format") == "date-time":
            return "time"
        case other:
            return str(other)


def _default(field: _Field) -> str:
    if field.required:
        return "required"
    match field.schema.get("default"):
        case None:
            return ""
        case dict():
            return "see below"
        case value:
            return f"`{_plain(value)}`"


def _plain(value: Any) -> str:
    match value:
        case bool():
            return str(value).lower()
        case list():
            return f"[{', '.join(map(_plain, value))}]"
        case _:
            return str(value)


def _description(node: JSON) -> str:
    return " ".join([node["description"].replace("\n\n", " "), *_limits(node)])


def _limits(node: JSON) -> Iterator[str]:
    """The bounds of a value, in words."""
    if "pattern" in node:
        yield f"Matches `{node['pattern']}`."
    match node:
        case {"maxLength": longest}:
            yield f"At most {longest} characters."
        case {"minimum": least, "maximum": most}:
            yield f"From {least} to {most}."
        case {"minItems": least, "maxItems": most}:
            yield f"{least} to {most} entries."
        case {"maxItems": most} | {"maxProperties": most}:
            yield f"At most {most} entries."


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    body = [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows]
    if not body:
        return ["None.\n"]
    return [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", *body, ""]
