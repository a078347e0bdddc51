"""The JSON in what a model wrote around it."""

from __future__ import annotations

import json
import time
import timeit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.policies.json_text import extract_json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 99) | st.text('ab{}[]"\\`\n', max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('a{["', max_size=3), inner, max_size=3),
    max_leaves=6,
)
CONTAINERS = st.lists(VALUES, max_size=3) | st.dictionaries(st.text(max_size=3), VALUES, max_size=3)


@given(st.text("ab .,:1\"`'\n}]", max_size=20), CONTAINERS, st.text(max_size=20), st.sampled_from([None, 1]))
def test_what_was_written_is_found_between_any_words(before, value, after, indent):
    written = json.dumps(value, indent=indent)
    assert extract_json(before + written + after) == written


def loads(text):
    def refuse(constant):
        raise ValueError(constant)

    return json.loads(text, parse_constant=refuse)


@given(st.text('{}[]":,1a N', max_size=14))
def test_what_is_found_is_json_and_none_that_was_whole_comes_before_it(text):
    found = extract_json(text)
    pieces = [(i, j) for i in range(len(text)) if text[i] in "{[" for j in range(i + 2, len(text) + 1)]
    whole = []
    for i, j in pieces:
        try:
            loads(text[i:j])
        except ValueError:
            continue
        whole.append((i, text[i:j]))
    if found is None:
        # what is left can only stand inside a document that broke off further on
        assert all(any(c in "{[" for c in text[:i]) for i, _ in whole)
    else:
        assert found in [piece for _, piece in whole]
        first = text.index(found)
        assert all(any(c in "{[" for c in text[:i]) for i, _ in whole if i < first)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('```json\n{"a": 1}\n```', '{"a": 1}'),
        ("Sure!\n```\n[1, 2]\n```\nDone.", "[1, 2]"),
        ('{"code": "```py\\n}{\\n```"}', '{"code": "```py\\n}{\\n```"}'),
        ('see [this] and {that}: {"a": [1]}', '{"a": [1]}'),
        ('f(x) { return {"a": 1}; }', '{"a": 1}'),
        ('{"a": "\\"}"} tail', '{"a": "\\"}"}'),
        ('{"a": NaN} {"b": 1}', '{"b": 1}'),
        ('{"a": 1,} then {}', "{}"),
        ('{"a": ' + "9" * 5000 + "}", '{"a": ' + "9" * 5000 + "}"),
        ('{"half": [1, 2', None),
        ('{"half": [1, 2], "and', None),
        ('{"half": [1, 2], oops', None),
        ('{"half": "never closed', None),
        ("5 and true", None),
        ("", None),
        ("[" * 50_000 + "]" * 50_000, None),
    ],
)
def test_examples_of_what_models_write(text, found):
    assert extract_json(text) == found


@pytest.mark.parametrize(
    "unit",
    [
        "{",
        "[",
        '{"',
        '{"a":',
        "[1,",
        '"',
        "\\",
        '{"a":1,',
        "[NaN",
        "{}x{"[2:],
        "[[[[NaN]]]]",
        '{"\\"',
        "[-",
        '{"a":"\n',
    ],
)
def test_time_grows_with_the_text_and_not_faster(unit):
    def cpu(text):
        return min(timeit.repeat(lambda: extract_json(text), timer=time.thread_time, number=1, repeat=5))

    brief, lengthy = (cpu(unit * (size // len(unit))) for size in (2_000, 20_000))
    assert lengthy < 50 * brief + 2e-3  # 10 where time grows with the text, 100 where with its square
    assert lengthy < 0.2


@pytest.mark.slow
@pytest.mark.parametrize("unit", ["{", '{"', "[-"])
def test_a_hundred_thousand_false_starts_cost_no_more_each(unit):
    short, long_ = unit * 5_000, unit * 100_000
    brief, lengthy = (
        min(timeit.repeat(lambda t=t: extract_json(t), timer=time.thread_time, number=1, repeat=2))
        for t in (short, long_)
    )
    assert lengthy < 60 * brief  # in proportion: 20; counting lines from the start each time: 100 and more
