"""What each part of a model becomes, and what is refused."""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from lakebase_operator.api.base import Identifier, Model, cel, validations
from lakebase_operator.crdgen.schema import UnsupportedSchema, paragraphs, structural_schema

Text = Annotated[str, Field(max_length=10)]


class Colour(StrEnum):
    """What an enumeration says of itself."""

    RED = "Red"
    BLUE = "Blue"


class Inner(Model):
    """What a model says of itself."""

    text: Text = "as is"
    """Some text."""
    other: Text | None = None
    """Some other text."""


class Node(Model):
    """Contains itself."""

    child: "Node | None" = None
    """Another one."""


def of(annotation: Any, default: Any = ...) -> dict[str, Any]:
    """The schema of a field with this annotation."""
    model = type(
        "Probe",
        (Model,),
        {
            "__doc__": "A model with one field.",
            "__annotations__": {"field": Annotated[annotation, Field(description="A field.")]},
            "__module__": __name__,
        }
        | ({} if default is ... else {"field": default}),
    )
    schema = structural_schema(model)["properties"]["field"]
    assert schema.pop("description")
    return schema


def test_an_optional_field_is_a_plain_field_that_is_not_required() -> None:
    schema = structural_schema(Inner)
    assert schema["properties"]["other"] == {
        "description": "Some other text.",
        "type": "string",
        "maxLength": 10,
    }
    assert "required" not in schema


def test_a_field_without_a_default_is_required_under_its_name_in_the_manifest() -> None:
    class Probe(Model):
        """A model."""

        some_text: Text
        """Some text."""

    assert structural_schema(Probe)["required"] == ["someText"]


def test_a_referenced_model_is_written_in_place_and_the_description_of_the_field_wins() -> None:
    class Probe(Model):
        """A model."""

        inner: Inner
        """What the field says."""

    field = structural_schema(Probe)["properties"]["inner"]
    assert field["description"] == "What the field says."
    assert set(field["properties"]) == {"text", "other"}


def test_the_default_of_a_model_is_written_in_full_but_without_what_is_absent() -> None:
    assert of(Inner, Inner())["default"] == {"text": "as is"}


def test_a_default_of_none_is_not_written() -> None:
    assert "default" not in of(Text | None, None)


def test_a_constant_and_a_literal_become_an_enumeration() -> None:
    assert of(Literal["a"]) == {"type": "string", "enum": ["a"]}
    assert of(Literal["a", "b"]) == {"type": "string", "enum": ["a", "b"]}


def test_an_enumeration_lists_its_values_in_order() -> None:
    assert of(Colour) == {"type": "string", "enum": ["Red", "Blue"]}


def test_integers_have_64_bits_and_exclusive_bounds_become_flags() -> None:
    assert of(Annotated[int, Field(gt=0, le=9)]) == {
        "type": "integer",
        "format": "int64",
        "minimum": 0,
        "exclusiveMinimum": True,
        "maximum": 9,
    }


def test_a_set_becomes_a_list_of_type_set() -> None:
    schema = of(Annotated[set[Text], Field(max_length=3)])
    assert schema["x-kubernetes-list-type"] == "set"
    assert schema["maxItems"] == 3


def test_a_moment_needs_no_bound() -> None:
    assert of(datetime) == {"type": "string", "format": "date-time"}


def test_what_keys_of_a_map_must_look_like_becomes_a_rule() -> None:
    key = Annotated[str, Field(pattern="^[a-z]+$", max_length=5)]
    schema = of(Annotated[dict[key, Text], Field(max_length=2)])
    assert schema["maxProperties"] == 2
    assert schema["additionalProperties"] == {"type": "string", "maxLength": 10}
    (rule,) = schema["x-kubernetes-validations"]
    assert rule["rule"] == "self.all(key, key.size() <= 5 && key.matches('^[a-z]+$'))"


def test_rules_on_a_type_and_on_a_field_that_uses_it_add_up() -> None:
    of_the_type = Annotated[
        str, Field(max_length=9, json_schema_extra=validations(cel("self != 'a'", "not a")))
    ]
    for annotation in (
        Annotated[of_the_type, Field(json_schema_extra=validations(cel("self != 'b'", "not b")))],
        Annotated[of_the_type | None, Field(json_schema_extra=validations(cel("self != 'b'", "not b")))],
    ):
        assert [rule["message"] for rule in of(annotation)["x-kubernetes-validations"]] == ["not a", "not b"]


def test_an_identifier_in_a_list_keeps_its_rule() -> None:
    items = of(Annotated[list[Identifier], Field(max_length=2)])["items"]
    assert [rule["rule"] for rule in items["x-kubernetes-validations"]] == ["bytes(self).size() <= 63"]


@pytest.mark.parametrize(
    ("annotation", "problem"),
    [
        (str, "field: has no maxLength"),
        (list[Text], "field: has no maxItems"),
        (Annotated[list[str], Field(max_length=1)], r"field\[\]: has no maxLength"),
        (dict[str, Text], "field: has no maxProperties"),
        (Annotated[dict[str, str], Field(max_length=1)], r"field\{\}: has no maxLength"),
        (Annotated[int | Text, Field()], "the keyword 'anyOf' has no place"),
        (timedelta, "ISO 8601 durations"),
        (Any, "has no type"),
        (Annotated[dict[str, Any], Field(max_length=1)], "the keyword|must say|has no type"),
        (
            Annotated[dict[Annotated[str, Field(pattern="^a$")], Text], Field(max_length=1)],
            "keys of a map need exactly a pattern and a maximal length",
        ),
        (Annotated[Text, Field(json_schema_extra={"x-made-up": 1})], "the keyword 'x-made-up' has no place"),
    ],
)
def test_what_a_definition_cannot_express_or_needs_to_know_is_refused(annotation: Any, problem: str) -> None:
    with pytest.raises(UnsupportedSchema, match=problem):
        of(annotation)


def test_a_model_that_contains_itself_is_refused() -> None:
    with pytest.raises(UnsupportedSchema, match="Node contains itself"):
        structural_schema(Node)


def test_a_field_without_a_docstring_is_refused() -> None:
    class Probe(Model):
        """A model."""

        text: Text

    with pytest.raises(UnsupportedSchema, match=r"Probe\.text: has no description"):
        structural_schema(Probe)


def test_a_docstring_becomes_one_line_per_paragraph() -> None:
    assert paragraphs("One\n    line.\n\n    Another.") == "One line.\n\nAnother."
