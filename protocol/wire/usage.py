"""Token counts of any shape, as :class:`~protocol.chat.Usage`. Source: wire.md 1.3, 1.6 and 1.7.

Counts come as ints, floats, text, null or not at all, under the names of OpenAI, of Anthropic or of DeepSeek.
"""

from __future__ import annotations

import math
from typing import Any

from protocol.chat import Usage

MOST_TOKENS = 2**53
"""A count beyond this is no count."""


def read_usage(usage: Any) -> Usage | None:
    """Return the usage of any shape; what can only be inferred, or is missing, makes it inexact."""
    if not isinstance(usage, dict):
        return None
    inputs = _first(usage, "prompt_tokens", "input_tokens")
    outputs = _first(usage, "completion_tokens", "output_tokens")
    total = _count(usage.get("total_tokens"))
    if inputs is None and outputs is None:
        return None
    exact = inputs is not None and outputs is not None
    inputs = max((total or 0) - (outputs or 0), 0) if inputs is None else inputs
    outputs = max((total or 0) - inputs, 0) if outputs is None else outputs
    reasoning = _nested(usage, "reasoning_tokens", "completion_tokens_details", "output_tokens_details") or 0
    read = _nested(usage, "cached_tokens", *_OF_INPUT) or _first(usage, "prompt_cache_hit_tokens") or 0
    written = _nested(usage, "cache_write_tokens", *_OF_INPUT) or 0
    if "prompt_tokens" not in usage and not read:  # as at Anthropic: what was cached is no part of the input
        read = _first(usage, "cache_read_input_tokens") or 0
        written = _first(usage, "cache_creation_input_tokens") or 0
        inputs += read + written
    return counted(inputs, outputs, read, written, reasoning, total, exact=exact)


_OF_INPUT = ("prompt_tokens_details", "input_tokens_details")


def counted(
    inputs: int, outputs: int, read: int, written: int, reasoning: int, total: int | None, *, exact: bool = True
) -> Usage:
    """Return the usage, with what a provider leaves out of its output put in: the *total* tells."""
    if reasoning and total == inputs + outputs + reasoning:
        outputs += reasoning
    return Usage(
        input_tokens=inputs,
        output_tokens=outputs,
        cached_tokens=min(read, inputs),
        reasoning_tokens=min(reasoning, outputs),
        exact=exact,
        written_tokens=max(0, min(written, inputs - read)),
    )


def _first(fields: dict[str, Any], *names: str) -> int | None:
    return next((count for count in (_count(fields.get(name)) for name in names) if count is not None), None)


def _nested(usage: dict[str, Any], name: str, *places: str) -> int | None:
    found = (_count(details.get(name)) for place in places if isinstance(details := usage.get(place), dict))
    return next((count for count in found if count is not None), None)


def _count(value: Any) -> int | None:
    """Return a count that came as int, float or text; None when it is none."""
    if isinstance(value, str) and len(value) <= 20:
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MOST_TOKENS:
        return None
    return math.ceil(value)
