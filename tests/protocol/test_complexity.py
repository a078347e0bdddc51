"""How complex a task is taken to be, which role it goes to, and into how many parts it is taken apart."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.policies.complexity import COMPLEX_FROM, PLAN_FROM, Complexity, Hints, choose_role, estimate

LIST = Path(__file__).parent.parent / "data" / "tasks.jsonl"
TASKS = [json.loads(line) for line in LIST.read_text(encoding="utf-8").splitlines()]


def share_right(label, half, author, planned=lambda task: estimate(task).worth_a_plan):
    """Return the share of the labelled tasks that are planned, or skip planning, as their label says."""
    mine = [row for row in TASKS if (row["label"], row["half"], row["author"]) == (label, half, author)]
    return sum(planned(row["text"]) == (label == "complex") for row in mine) / len(mine)


@pytest.mark.parametrize(("author", "half"), [(1, "tune"), (1, "held-out"), (2, "tune"), (3, "tune"), (3, "held-out")])
@pytest.mark.parametrize("label", ["simple", "complex"])
def test_nine_of_ten_labelled_tasks_are_planned_as_a_competent_lead_would(label, half, author):
    assert share_right(label, half, author) >= 0.9


@pytest.mark.parametrize("author", [1, 3])
def test_a_rule_that_goes_by_length_alone_would_be_noticed(author):
    by_length = [
        share_right(label, "held-out", author, lambda task: len(task.split()) > 20) for label in ("simple", "complex")
    ]
    assert min(by_length) < 0.9


@pytest.mark.parametrize(
    ("key", "value", "count"),
    [("label", "simple", 180), ("label", "complex", 180), ("lang", "de", 120), ("half", "held-out", 120)],
)
def test_the_list_holds_as_many_of_each_as_it_says(key, value, count):
    assert sum(row[key] == value for row in TASKS) == count


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


PASTED = "Build a platform with a database, an API, a mobile app, tests, docs and monitoring for our company."


@pytest.mark.parametrize(
    "quoting",
    ["```\n{}\n```", 'Their note says "{}"', "\u201e{}\u201c", "`{}`", "Traceback (most recent call last):\n{}\n\n"],
)
def test_what_is_pasted_is_no_part_of_the_request(quoting):
    request = "Name the author.\n"
    assert estimate(request + quoting.format(PASTED)).score == 0.0


def test_what_stands_after_a_word_that_points_at_it_is_only_material():
    assert estimate(f"Shorten the following text: {PASTED}").score == 0.0
    assert "is a question" in estimate(f"In the following case: {PASTED} Who is right?").reasons


def test_the_last_noun_of_a_compound_says_what_it_is_about():
    assert "is about a whole tool" in estimate("Create a command line tool").reasons
    assert "is about one line" in estimate("Create a tool line").reasons


def test_a_name_that_is_called_is_one_function():
    assert "is about one function" in estimate("Create total(items) in our shop").reasons


def test_numbers_count_only_before_what_can_be_counted():
    assert "counts its parts" in estimate("Translate the 12 chapters").reasons
    assert "counts its parts" not in estimate("Convert 12 degrees").reasons


def test_a_list_is_counted_by_its_items():
    assert estimate("Needed:\n- one, two, three\n- four\n1. five").parts == 3


@given(st.text(max_size=400))
def test_a_score_lies_between_0_and_1_and_has_reasons(task):
    complexity = estimate(task)
    assert 0.0 <= complexity.score <= 1.0
    assert complexity.reasons


def test_of_a_book_the_first_pages_and_the_end_are_read():
    page = "Implement a client, a server and a database with tests. " * 4000
    assert estimate(page).parts < 50
    assert "is a question" in estimate(f"{page} Is that much?").reasons


def test_what_the_planner_says_counts_as_much_as_the_words():
    plain = estimate("Write the tests").score
    stated = estimate("Write the tests", Hints(stated=1.0))
    assert stated.score == pytest.approx((plain + 1.0) / 2)
    assert stated.reasons[-1] == "the planner says 1.0"


def test_a_kind_of_task_that_failed_often_counts_as_harder_the_more_of_it_was_seen():
    few, many = (estimate("Write the tests", Hints(failure_rate=0.9, seen=seen)).score for seen in (1, 100))
    assert estimate("Write the tests").score < few < many
    assert estimate("Write the tests", Hints(failure_rate=0.0, seen=100)).score < estimate("Write the tests").score


def test_a_long_history_makes_a_task_harder():
    assert estimate("Go on", Hints(history_tokens=8000)).score == pytest.approx(estimate("Go on").score + 0.08)


def test_the_bands_follow_the_score():
    assert [Complexity(score=s).band for s in (0.0, PLAN_FROM, COMPLEX_FROM)] == ["simple", "medium", "complex"]


@given(st.floats(0, 1), st.floats(0, 1), st.integers(0, 40), st.integers(1, 64))
def test_fan_out_grows_with_the_score_and_stays_within_its_bounds(one, other, parts, most):
    low, high = sorted([one, other])
    small, large = (Complexity(score=score, parts=parts).fan_out(most) for score in (low, high))
    assert 1 <= small <= large <= most


def test_every_part_that_is_named_has_room_in_the_plan():
    assert Complexity(score=0.5, parts=9).fan_out(32) >= 9


def test_a_subtask_is_too_large_only_when_it_is_complex_and_names_many_parts():
    large = "Build the storage layer, the API, the admin UI and the mobile app, with tests and docs"
    assert estimate(large).too_large
    assert not Complexity(score=1.0, parts=4).too_large
    assert not Complexity(score=0.7, parts=9).too_large


def test_a_task_without_recipient_goes_to_the_role_that_fits():
    everybody = ("coder", "executor", "orchestrator", "reviewer")
    assert choose_role("Review: x", everybody) == "reviewer"
    assert choose_role("Bitte prüfe diesen Text", everybody) == "reviewer"
    assert choose_role("Run the tests", everybody) == "executor"
    assert choose_role("Führe die Tests aus", everybody) == "executor"
    assert choose_role("Build a shop for our farm", everybody) == "orchestrator"
    assert choose_role("Fix the typo", everybody) == "coder"


def test_a_role_of_the_users_own_that_the_task_names_goes_before_all():
    assert choose_role("Please translate: Build a shop", ("coder", "orchestrator", "translator")) == "translator"
    assert choose_role("Build a shop", ("coder", "orchestrator", "translator")) == "orchestrator"


def test_a_task_without_recipient_goes_to_a_role_that_is_there():
    assert choose_role("Review: x", ("coder",)) == "coder"
    assert choose_role("Hello", ("translator",)) == "translator"
    assert choose_role("Hello", ()) is None


@given(st.text(max_size=100), st.lists(st.sampled_from(["coder", "reviewer", "orchestrator", "x"]), unique=True))
def test_a_role_is_chosen_among_those_there_are_and_always_when_there_is_one(task, roles):
    chosen = choose_role(task, tuple(roles))
    assert chosen in roles if roles else chosen is None
