"""The tasks in a plain text plan."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.policies.outline import items

WORDS = st.lists(st.sampled_from(["build", "the", "parser", "API", "tests", "2", "x"]), min_size=1, max_size=4).map(
    " ".join
)
TASKS = st.lists(WORDS, min_size=1, max_size=8, unique_by=str.casefold)
MARKERS = st.sampled_from(["{n}. ", "{n}) ", "({n}) ", "- ", "* ", "\u2022 ", "Step {n}: ", "**{n}.** "])


def first_of_each(tasks):
    return tuple(dict.fromkeys(tasks))


@given(
    TASKS, MARKERS, st.sampled_from(["", "Here is the plan:\n\n", "# Plan\n", "```\n"]), st.sampled_from(["\n", "\n\n"])
)
def test_a_list_that_was_written_is_read_again(tasks, marker, before, gap):
    text = before + gap.join(marker.format(n=n) + task for n, task in enumerate(tasks, 1))
    assert items(text + "\n\nLet me know.") == tuple(tasks)


@given(TASKS, TASKS)
def test_sub_items_belong_to_their_parent(tasks, details):
    below = "\n".join(f"   - {detail}" for detail in details)
    text = "\n".join(f"{n}. {task}\n{below}" for n, task in enumerate(tasks, 1))
    assert items(text) == tuple("\n".join([task, *(f"- {detail}" for detail in details)]) for task in tasks)


@given(st.text(max_size=80))
def test_any_text_gives_distinct_items_that_say_something(text):
    found = items(text)
    assert len({" ".join(item.casefold().split()) for item in found}) == len(found)
    assert all(any(map(str.isalnum, item)) for item in found)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Just do it. 2024. was a year; 1.5 is a number.",
        "# 1. Heading\n## Next",
        "**Overview**\n\nWe build things.",
        "- \n- ***\n1. \n---\n* * *",
        "-no space\n1.none",
        "| a | b |\n|---|---|",
    ],
)
def test_prose_and_headings_are_no_tasks(text):
    assert items(text) == ()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("1. a\nmore of a\n2. b", ("a\nmore of a", "b")),
        ("1. a\n\n   still a\n\nprose\n2. b", ("a\n\nstill a".replace("\n\n", "\n"), "b")),
        ("1. a\n- sub\n- sub two\n2. b", ("a\n- sub\n- sub two", "b")),
        ("Think of:\n- speed\n- cost\n\nTasks:\n1. a\n2. b", ("a", "b")),
        ("1. a\n2. b\n\nNotes:\n- be careful", ("a", "b")),
        ("## Backend\n1. a\n## Frontend\n1. b\n### Notes\nprose", ("a", "b")),
        ("- a\n  1. x\n  2. y\n- b", ("a\n1. x\n2. y", "b")),
        ("  - a\n  - b\n    - c", ("a", "b\n- c")),
        ("- [ ] a\n- [x] b", ("a", "b")),
        ("1. **Setup**: install\n2. **Run** it", ("**Setup**: install", "**Run** it")),
        ("**1. Setup**\n**2. Run**", ("Setup", "Run")),
        ("1. a\n```py\n1. not me\n  2. nor me\n```\n2. b", ("a\n```py\n1. not me\n  2. nor me\n```", "b")),
        ("```\n1. a\n2. b\n```", ("a", "b\n```")),
        ("1. Same\n2. other\n3.  same ", ("Same", "other")),
        ("1\u3001\u505a\u8fd9\u4e2a\n2\u3001\u505a\u90a3\u4e2a", ("\u505a\u8fd9\u4e2a", "\u505a\u90a3\u4e2a")),
        ("Schritt 1: Plan\nSchritt 2: Bau", ("Plan", "Bau")),
        ("Subtask 1 - go\nSubtask 2 - stop", ("go", "stop")),
        ("1. a\r\n2. b\r\n", ("a", "b")),
        ("10. ten\n\t- tabbed\n11. eleven", ("ten\n- tabbed", "eleven")),
    ],
)
def test_examples_of_what_models_write(text, found):
    assert items(text) == found
