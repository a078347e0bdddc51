"""A type as the JSON schema that strict structured output takes. Source: wire.md 1.2 and 1.8.

The strict subset: the root is an object, every object closes with ``additionalProperties: false`` and requires all its
properties. A field with a default is required too and simply filled by the model. Properties keep the order of the
fields, since models write them in that order. What comes back is always decoded with the type itself, so a constraint
that an endpoint does not take is checked here all the same.
"""

from __future__ import annotations

import re
from functools import lru_cache
from inspect import cleandoc
from typing import Any

import msgspec
from msgspec import Raw

from protocol.chat import OutputSchema

CONSTRAINTS = frozenset(
    (
        "minLength",
        "maxLength",
        "minItems",
        "maxItems",
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "multipleOf",
        "pattern",
        "format",
        "minProperties",
        "maxProperties",
    )
)
_NOISE = frozenset(("title", "default", "examples", "discriminator"))
_NAME = re.compile(r"[^A-Za-z0-9_-]+")


@lru_cache(maxsize=512)
def strict_schema(type_: type[Any]) -> OutputSchema:
    """Return the strict schema of *type_*, with its constraints.

    Raises ``TypeError`` when *type_* cannot be asked for: its root is no object with fixed fields, or it holds a
    mapping.
    """
    document = msgspec.json.schema(type_)
    definitions = document.pop("$defs", {})
    root = definitions.get(_target(document), document)
    if root.get("type") != "object":
        raise TypeError(f"structured output must be an object with named fields, not {type_!r}: wrap it in a Struct")
    schema = _strict(root, type_)
    kept = _reachable(schema, {name: _strict(node, type_) for name, node in definitions.items()})
    if kept:
        schema["$defs"] = kept
    name = _NAME.sub("_", getattr(type_, "__name__", "output"))[:64]
    return OutputSchema(name=name, schema=Raw(msgspec.json.encode(schema)))


def without_constraints(schema: Raw) -> Raw:
    """Return *schema* without lengths, ranges, patterns and formats, for endpoints that refuse them."""
    return _loosened(bytes(schema))


@lru_cache(maxsize=512)
def _loosened(schema: bytes) -> Raw:
    return Raw(msgspec.json.encode(_mapped(msgspec.json.decode(schema), CONSTRAINTS)))


def tightened(schema: Raw, fewest: int, most: int, characters: int) -> Raw:
    """Return *schema* with lists of at most *most* items and texts of at most *characters*.

    A list that may not be empty gets *fewest* items or more, as far as its own bound goes. A grammar obeys these, so a
    small model's answer ends before its ``max_tokens`` do, and a plan of its is more than the task once again.
    """
    return _tightened(bytes(schema), fewest, most, characters)


@lru_cache(maxsize=512)
def _tightened(schema: bytes, fewest: int, most: int, characters: int) -> Raw:
    def bound(node: Any) -> Any:
        if isinstance(node, list):
            return [bound(part) for part in node]
        if not isinstance(node, dict):
            return node
        node = {keyword: bound(value) for keyword, value in node.items()}
        if node.get("type") == "string" and "enum" not in node:
            node["maxLength"] = min(node.get("maxLength", characters), characters)
        if node.get("type") == "array":
            node["maxItems"] = min(node.get("maxItems", most), most)
            if node.get("minItems"):
                node["minItems"] = max(node["minItems"], min(fewest, node["maxItems"]))
        return node

    return Raw(msgspec.json.encode(bound(msgspec.json.decode(schema))))


def _strict(node: dict[str, Any], type_: object) -> dict[str, Any]:
    """Return *node* and all below it in the strict subset."""
    if "$ref" in node:
        return {"$ref": node["$ref"]}
    if "properties" not in node and node.get("type") == "object":
        raise TypeError(f"structured output of {type_!r} holds a mapping with free keys: use named fields")
    strict = _mapped(node, _NOISE, type_)
    if "properties" in strict:
        strict["required"] = list(strict["properties"])
        strict["additionalProperties"] = False
    if "description" in strict:  # Python 3.13 takes the indent out of docstrings, and a prompt is the same everywhere
        strict["description"] = cleandoc(strict["description"])
    if not _anchored(strict.get("pattern", "^$")):
        del strict["pattern"]
    return strict


def _mapped(node: dict[str, Any], dropped: frozenset[str], type_: object = None) -> dict[str, Any]:
    """Return *node* without the keywords *dropped*, strict below it when *type_* is given; names are no keywords."""

    def below(value: Any) -> Any:
        if isinstance(value, list):
            return [below(item) for item in value]
        if not isinstance(value, dict):
            return value
        return _mapped(value, dropped) if type_ is None else _strict(value, type_)

    mapped: dict[str, Any] = {}
    for keyword, value in node.items():
        if keyword in {"properties", "$defs"}:
            mapped[keyword] = {name: below(sub) for name, sub in value.items()}
        elif keyword in {"items", "prefixItems", "anyOf"}:
            mapped[keyword] = below(value)
        elif keyword not in dropped:
            mapped[keyword] = value
    return mapped


def _anchored(pattern: str) -> bool:
    """Tell whether a grammar can take *pattern*: llama.cpp refuses the request when it is not anchored at both ends."""
    return pattern.startswith("^") and pattern.endswith("$")


def _target(node: dict[str, Any]) -> str:
    return str(node.get("$ref", "")).rpartition("/")[2]


def _reachable(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """Return the definitions that *schema* refers to, directly or not, in the order they are met."""
    kept: dict[str, Any] = {}
    waiting: list[Any] = [schema]
    while waiting:
        node = waiting.pop(0)
        if isinstance(node, list):
            waiting += node
        elif isinstance(node, dict):
            name = _target(node)
            if name in definitions and name not in kept:
                kept[name] = definitions[name]
                waiting.append(kept[name])
            waiting += node.values()
    return kept
