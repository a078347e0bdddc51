"""A plan as the model wrote it: what is no subtask goes, and no subtask is lost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.policies.planning import PLAN_TOKENS, Planner, own_words, tidy


def test_blanks_numbers_and_duplicates_go():
    assert tidy(("1. a", " a ", "", "2) b\n c", "- ", "\u2022 d"), 9) == ("a", "b c", "d")


def test_subtasks_past_the_cap_are_merged_into_the_last():
    assert tidy(("a", "b", "c", "d"), 3) == ("a", "b", "c; d")


@given(st.lists(st.text(alphabet="abc 1.", max_size=5), max_size=12), st.integers(1, 6))
def test_no_subtask_is_lost_and_the_cap_holds(subtasks, most):
    kept = tidy(tuple(subtasks), most)
    assert len(kept) <= most
    assert "; ".join(kept) == "; ".join(tidy(tuple(subtasks), 100))


TASK = "Implement a client with retries, timeouts, pooling, logging and docs."


def test_a_subtask_that_quotes_its_whole_task_is_no_larger_for_it():
    assert own_words(f"Write the tests of {TASK}", TASK) == "write the tests of"
    assert own_words(f"Write the tests of {TASK[:-1]}, benchmarks and examples", TASK) == (
        "write the tests of benchmarks examples"
    )


def test_a_subtask_that_takes_some_of_the_parts_keeps_them():
    for subtask in ("Implement retries and timeouts", "Something else"):
        assert own_words(subtask, TASK) == subtask
    assert own_words("x", "") == "x"


def test_a_plan_that_is_not_made_saves_its_call_and_without_a_price_nobody_knows_what():
    assert Planner(fixed_tokens=50, price_in=2.0, price_out=10.0).spared(10) == 60 * 2 + PLAN_TOKENS * 10
    assert (Planner(price_in=1.0).spared(10), Planner(price_out=1.0).spared(10)) == (None, None)


@pytest.mark.parametrize("size", [10, 5000])
def test_the_words_of_a_subtask_are_its_own_however_long_its_task_is(size):
    task = ", ".join(["write a parser", "draw the tree", "x" * size])
    assert own_words(f"Test this: {task}", task) == "test this:"
