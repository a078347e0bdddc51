"""Text from outside is made safe."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.wire.text import mended, one_line, read_json, word

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=40)


@given(
    st.recursive(st.none() | st.booleans() | st.integers() | ANY_TEXT, lambda v: st.lists(v, max_size=3), max_leaves=5)
)
def test_what_python_writes_as_json_is_read(value):
    assert read_json(json.dumps(value).encode()) == value


@given(st.binary(max_size=50))
def test_bytes_that_are_no_json_are_none_and_raise_nothing(body):
    read_json(body)
    assert read_json(b"{'" + body) is None


@pytest.mark.parametrize("body", [b"[" * 5000, b"[" * 50_000 + b"]" * 50_000, b"9" * 5000 + b"x", b"", b"\xff\xfe"])
def test_what_breaks_readers_is_none(body):
    assert read_json(body) is None


@given(ANY_TEXT)
def test_mended_text_can_be_encoded_and_good_text_is_unchanged(text):
    fixed = mended(text)
    fixed.encode()
    if not any("\ud800" <= character <= "\udfff" for character in text):
        assert fixed == text


@given(ANY_TEXT, st.integers(0, 50))
def test_one_line_is_short_and_printable(text, longest):
    line = one_line(text, longest)
    assert (line.isprintable(), len(line) <= longest) == (True, True)


def test_a_key_broken_by_control_characters_is_scrubbed_whole():
    assert one_line("sk-abc\x00def\u200bghi\x1fjkl end") == "sk-*** end"


@pytest.mark.parametrize(
    ("value", "text"), [("a\nb", "a b"), (429, "429"), (True, ""), (None, ""), (10**50, ""), ([1], "")]
)
def test_codes_are_words(value, text):
    assert word(value) == text
