"""Drafts become one text, and none of them swallows the next."""

from __future__ import annotations

import pytest

from protocol.policies.composition import closed, compose


def test_each_draft_stands_under_its_subtask_in_the_order_of_the_plan():
    assert compose([("a", "one\n\n"), ("b", "\n  two")]) == "## a\n\none\n\n## b\n\n  two"


def test_a_single_draft_stands_alone_as_it_was_written():
    assert compose([("a", "```\ncut")]) == "```\ncut"


def test_of_no_draft_nothing_is_made():
    assert compose([]) == ""


def test_a_block_that_was_cut_does_not_swallow_the_next_draft():
    assert compose([("a", "```python\nx = (\n  "), ("b", "two")]) == "## a\n\n```python\nx = (\n```\n\n## b\n\ntwo"


@pytest.mark.parametrize(
    "text",
    [
        "no block",
        "```\nx\n```",
        "```\nx\n```\n~~~\ny\n~~~",
        "````\n```\n````",
        "```\n~~~\n```",
        "a `single` word and ``` in a line",
        "    ```\n",
    ],
)
def test_what_is_closed_stays_as_it_is(text):
    assert closed(text) == text


@pytest.mark.parametrize(
    ("text", "end"), [("```\nx", "```"), ("~~~~ py\nx\n~~~", "~~~~"), ("```\na\n```\n\n```\nb", "```")]
)
def test_what_is_open_is_closed_with_its_own_fence(text, end):
    assert closed(text) == f"{text}\n{end}"
