"""Types as strict schemas."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import msgspec
import pytest
from msgspec import Meta, Struct

from protocol.chat import ChatMessage, ChatRequest
from protocol.plan import Plan, Review
from protocol.wire.openai import encode_request
from protocol.wire.profiles import EMBEDDED
from protocol.wire.schema import CONSTRAINTS, strict_schema, tightened, without_constraints


class Leaf(Struct, frozen=True, kw_only=True):
    """A leaf."""

    title: Annotated[str, Meta(max_length=5, title="T", examples=["x"])] = "none"
    default: int | None = None
    pattern: Annotated[str, Meta(pattern="^[a-z]+$")]
    loose: Annotated[str, Meta(pattern="[a-z]")]
    when: datetime


class Tree(Struct, frozen=True, kw_only=True):
    zeta: tuple[Leaf, ...]
    alpha: list[Tree] = []
    pair: tuple[int, str]


class Mapping(Struct, frozen=True, kw_only=True):
    counts: dict[str, int]


def document(type_: type) -> dict[str, Any]:
    return msgspec.json.decode(strict_schema(type_).schema)


def objects(node: Any):
    if isinstance(node, dict):
        if isinstance(node.get("properties"), dict) and node.get("type") == "object":
            yield node
        for value in node.values():
            yield from objects(value)
    elif isinstance(node, list):
        for value in node:
            yield from objects(value)


@pytest.mark.parametrize("type_", [Plan, Review, Leaf, Tree])
def test_every_object_is_closed_and_requires_its_properties_in_field_order(type_):
    found = list(objects(document(type_)))
    assert found
    for node in found:
        assert node["additionalProperties"] is False
        assert node["required"] == list(node["properties"])
    assert document(type_)["required"] == list(type_.__struct_fields__)


def test_evidence_comes_before_judgement():
    assert list(document(Review)["properties"]) == ["issues", "score", "approved"]


def test_the_root_is_an_object_and_unused_definitions_are_dropped():
    assert document(Plan)["type"] == "object"
    assert "$defs" not in document(Plan)


def test_a_type_that_holds_itself_keeps_its_definition():
    tree = document(Tree)
    assert set(tree["$defs"]) == {"Leaf", "Tree"}
    assert tree["properties"]["alpha"]["items"] == {"$ref": "#/$defs/Tree"}


def test_constraints_are_kept_and_noise_is_dropped():
    leaf = document(Leaf)
    assert leaf["properties"]["title"] == {"type": "string", "maxLength": 5}
    assert leaf["properties"]["default"] == {"anyOf": [{"type": "integer"}, {"type": "null"}]}


def test_a_pattern_stays_only_when_a_grammar_can_take_it():
    properties = document(Leaf)["properties"]
    assert (properties["pattern"], properties["loose"]) == (
        {"type": "string", "pattern": "^[a-z]+$"},
        {"type": "string"},
    )


@pytest.mark.parametrize("type_", [Plan, Review, Tree])
def test_constraints_can_be_dropped_and_nothing_else_changes(type_):
    def drop(node, *, names):
        if isinstance(node, list):
            return [drop(item, names=False) for item in node]
        if not isinstance(node, dict):
            return node
        return {
            key: drop(value, names=key in {"properties", "$defs"} and not names)
            for key, value in node.items()
            if names or key not in CONSTRAINTS
        }

    loosened = msgspec.json.decode(without_constraints(strict_schema(type_).schema))
    assert loosened == drop(document(type_), names=False)


def test_a_property_named_like_a_keyword_survives():
    loosened = msgspec.json.decode(without_constraints(strict_schema(Leaf).schema))
    assert list(loosened["properties"]) == ["title", "default", "pattern", "loose", "when"]
    assert loosened["properties"]["when"] == {"type": "string"}


def test_the_schema_is_named_after_the_type_in_characters_that_are_allowed():
    odd = type("Größe!" + "x" * 90, (Struct,), {"__annotations__": {"a": int}})
    assert strict_schema(Plan).name == "Plan"
    assert strict_schema(odd).name == "Gr_e_" + "x" * 59


def test_the_schema_of_a_type_is_made_once():
    assert strict_schema(Plan) is strict_schema(Plan)


@pytest.mark.parametrize("type_", [int, tuple[int, ...], dict[str, int], Mapping, Plan | None])
def test_what_strict_output_cannot_hold_is_refused_in_words(type_):
    with pytest.raises(TypeError, match="structured output"):
        strict_schema(type_)


def test_a_tightened_schema_bounds_every_list_and_text_and_loosens_none():
    document = msgspec.json.decode(tightened(strict_schema(Review).schema, 3, 4, 80))
    issues = document["properties"]["issues"]
    assert (issues["maxItems"], issues["items"]["maxLength"]) == (4, 80)
    assert msgspec.json.decode(tightened(strict_schema(Review).schema, 1, 99, 9999)) == msgspec.json.decode(
        strict_schema(Review).schema
    )
    request = ChatRequest(
        model="m", messages=(ChatMessage(role="user", content="x"),), schema=strict_schema(Plan), output="json_schema"
    )
    assert b'"maxItems":4' in encode_request(request, EMBEDDED)


@pytest.mark.parametrize(("fewest", "most", "expected"), [(3, 4, 3), (3, 2, 2), (0, 4, 1)])
def test_a_tightened_list_that_may_not_be_empty_gets_a_few_items_at_least(fewest, most, expected):
    plan = msgspec.json.decode(tightened(strict_schema(Plan).schema, fewest, most, 80))
    assert plan["properties"]["subtasks"]["minItems"] == expected
    review = msgspec.json.decode(tightened(strict_schema(Review).schema, fewest, most, 80))
    assert "minItems" not in review["properties"]["issues"]


class Told(Struct):
    """What the model is told of it.

    The second paragraph stands in the schema as it would in text.
    """

    word: str


def test_a_docstring_is_the_same_text_in_every_version_of_python():
    description = document(Told)["description"]
    assert (
        description == "What the model is told of it.\n\nThe second paragraph stands in the schema as it would in text."
    )
