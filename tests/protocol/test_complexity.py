"""How complex a task is taken to be, and which role it goes to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.policies.complexity import choose_role, estimate


@pytest.mark.parametrize(
    "task",
    [
        "Implement an async HTTP client with retries",
        "Implement an async HTTP client with retry logic",
        "Implementiere einen async HTTP-Client mit Retry-Logik",
        "Build a todo app with a database, authentication and tests",
        "Design a scheduler service and write its API",
        "Entwickle eine Anwendung, die Rechnungen einliest, prüft und ablegt",
    ],
)
def test_a_task_of_many_parts_is_worth_a_plan(task):
    assert estimate(task).worth_a_plan, estimate(task)


@pytest.mark.parametrize(
    "task",
    [
        "What is 2 + 2?",
        "Say hello",
        "Translate 'good morning' into German",
        "Fix the typo in README",
        "Was ist ein Aktor?",
        "",
    ],
)
def test_a_small_question_is_not(task):
    assert not estimate(task).worth_a_plan, estimate(task)


@given(st.text(max_size=400))
def test_a_score_lies_between_0_and_1_and_a_positive_one_has_reasons(task):
    complexity = estimate(task)
    assert 0.0 <= complexity.score <= 1.0
    assert complexity.score == 0.0 or complexity.reasons


def test_a_task_without_recipient_goes_to_a_role_that_is_there():
    assert choose_role("Review: x", ("coder", "reviewer")) == "reviewer"
    assert choose_role("Review: x", ("coder",)) == "coder"
    assert choose_role("Hello", ("translator",)) == "translator"
    assert choose_role("Hello", ()) is None


@given(st.text(max_size=100), st.lists(st.sampled_from(["coder", "reviewer", "orchestrator", "x"]), unique=True))
def test_a_role_is_chosen_among_those_there_are_and_always_when_there_is_one(task, roles):
    chosen = choose_role(task, tuple(roles))
    assert chosen in roles if roles else chosen is None


def test_of_a_book_only_the_first_pages_are_read():
    page = "Implement a client, a server and a database with tests. " * 400
    assert estimate(page * 1000) == estimate((page * 1000)[:20_000])
