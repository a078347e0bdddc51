"""What a task asks, without what is pasted into it and without the story around it."""

import pytest

from protocol.asked import MOST_ASKED, asked, is_question, is_small, items
from protocol.words import marks_of

STORY = "Our shop runs on Django with a React frontend, Celery, Redis and Postgres. "
LETTER = "Dear members, " + "we look back on a year in which a lot was built and much was planned. " * 5


@pytest.mark.parametrize(
    ("task", "request_"),
    [
        (STORY + "Rename the button in the footer.", "Rename the button in the footer."),
        (STORY + "Could you please hide the banner?", "hide the banner?"),
        ("Bitte nur die Kommas korrigieren:\n\n" + LETTER, "nur die Kommas korrigieren:"),
        ("Why does it fail?\n\n" + LETTER, "Why does it fail?"),
    ],
)
def test_of_a_story_and_one_small_request_the_request_is_left(task, request_):
    assert asked(task) == request_


@pytest.mark.parametrize(
    "task",
    [
        STORY + "Build us a shop app with search. Rename the button as well.",
        STORY + "Find what is slow, fix it, test it and write it down. Why is it slow?",
        STORY + "Alles bitte zusammenführen, vergleichen, überarbeiten und ablegen.",
        STORY + "Rename it. Hide it. Count it.",
        STORY,
        "Turn the sheet into an app. We use it daily.",
    ],
)
def test_a_story_with_more_than_one_small_request_stays_whole(task):
    assert asked(task) == task.strip()


def test_a_list_after_the_first_paragraph_is_no_material():
    task = "Describe our plan:\n\n- " + "\n- ".join(LETTER.split(". "))
    assert items(asked(task)) > 2


def test_what_is_no_small_request_keeps_the_paragraphs_below():
    assert asked("Build a club site.\n\n" + LETTER) == ("Build a club site.\n\n" + LETTER).strip()


def test_of_a_long_request_beginning_and_end_are_left():
    request = asked("Build this. " + "It must be fast. " * 200 + "Is that all?")
    assert (len(request), request.endswith("Is that all?")) == (MOST_ASKED + 1, True)


@pytest.mark.parametrize("said", ["What is it", "Is it done?", "Build fails, what is missing?"])
def test_a_question_asks_what_is_so(said):
    assert is_question(said)


@pytest.mark.parametrize("said", ["", "...", "Is it", "Build it?", "Do it"])
def test_what_asks_for_a_deed_is_no_question(said):
    assert not is_question(said)


@pytest.mark.parametrize("said", ["", "Turn it into a web platform", "Rename a, b, c, d and e"])
def test_what_asks_for_nothing_or_for_much_is_not_small(said):
    assert not is_small(said)


def test_a_word_has_the_marks_of_its_beginning_its_ending_and_of_all_of_it():
    assert marks_of("buildsystem") == {"big"}
    assert marks_of("build") == {"project"}
    assert "big" in marks_of("webplattform")
