"""How many tokens a text has, about."""

from __future__ import annotations

import time
import timeit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.chat import ChatMessage
from protocol.policies.token_estimate import bound_messages, estimate, estimate_messages

ENGLISH = "The quick brown fox jumps over the lazy dog while the committee considers an extraordinary proposal. "
PYTHON = "def take(self, cost: float, now: float) -> float:\n    return max(self.level - cost, 0.0)\n"


def dumb_twin(text: str) -> float:
    """The class heuristic character by character, without opaque and blank runs."""
    count, at = 0.0, 0
    classes = [
        (lambda c: (c.isascii() and c.isalpha()) or "\u00c0" <= c <= "\u024f", lambda n: 1 + max(n - 7, 0) / 4),
        (lambda c: c.isascii() and c.isdigit(), lambda n: -(-n // 3)),
        (lambda c: c.isascii() and c.isprintable() and not c.isalnum() and c != " ", lambda n: 1 + 0.45 * (n - 1)),
        (lambda c: "\u4e00" <= c <= "\u9fff", lambda n: 0.72 * n),
        (lambda c: "\u0400" <= c <= "\u052f", lambda n: n / 3.5),
        (lambda c: "\u0590" <= c <= "\u0dff", lambda n: n / 2.2),
        (lambda c: c >= "\U0001f300", lambda n: 4 * n / 2.2),
    ]
    while at < len(text):
        for belongs, cost in classes:
            end = at
            while end < len(text) and belongs(text[end]):
                end += 1
            if end > at:
                count, at = count + cost(end - at), end
                break
        else:
            at += 1
    return count


@given(st.text(alphabet="abcdefghijk LMN 0123 .,(){} \u00fc\u4e2d\u0436\u0645\U0001f600", max_size=40))
def test_the_estimate_is_the_class_heuristic(text):
    assert estimate(text) == pytest.approx(max(dumb_twin(text), 1 if text else 0), abs=1)
    assert estimate(text) >= dumb_twin(text) - 1e-6


@pytest.mark.parametrize(
    ("text", "characters_per_token"),
    [
        (ENGLISH * 20, 4.72),
        (PYTHON * 20, 4.39),
        ("\u4eca\u5929\u5929\u6c14\u5f88\u597d\u6211\u4eec\u53bb\u516c\u56ed" * 30, 1.61),
        (
            "\u0421\u044a\u0435\u0448\u044c \u0435\u0449\u0451 \u044d\u0442\u0438\u0445 \u0431\u0443\u043b\u043e\u043a "
            * 30,
            4.83,
        ),
        ("3141592653589793" * 20, 3.0),
        ("9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08" * 3, 1.77),
        ("\U0001f600" * 40, 0.56),
    ],
)
def test_estimates_are_near_what_was_measured(text, characters_per_token):
    true = len(text) / characters_per_token
    assert 0.85 * true <= estimate(text) <= 1.8 * true


def test_opaque_runs_cost_more_than_long_names():
    base64 = "aGVsbG8gd29ybGQ5NzM0MjE5ODc2NTQzMjEwYWJjZGVm" * 2
    name = "this_is_a_very_long_snake_case_name_that_goes_on_and_on"
    assert estimate(base64) > len(base64) / 1.6
    assert estimate(name) < len(name) / 1.6


def test_long_blank_runs_cost_something_and_little():
    assert estimate(" " * 10_000) == pytest.approx(126, abs=1)


@settings(max_examples=50)
@given(st.text(st.characters(exclude_categories=()), max_size=60))
def test_any_text_has_an_estimate(text):
    assert (estimate(text) > 0) == bool(text)


def test_messages_cost_three_each_and_three_for_the_reply():
    messages = (ChatMessage(role="system", content=ENGLISH), ChatMessage(role="user", content="Hi"))
    assert estimate_messages(messages) == estimate(ENGLISH) + estimate("Hi") + 3 + 3 + 3
    assert estimate_messages(()) == 3


@settings(max_examples=50)
@given(st.text(st.characters(exclude_categories=()), max_size=60))
def test_the_bound_is_above_one_token_a_byte_and_above_every_estimate(text):
    messages = (ChatMessage(role="user", content=text), ChatMessage(role="user", content=text))
    assert bound_messages(messages) >= 2 * len(text.encode("utf-8", "surrogatepass")) + 2 * 8
    assert bound_messages(messages) >= estimate_messages(messages)


@pytest.mark.parametrize(
    "unit",
    ["a", "1", "-", "\u4e2d", " ", "a1", ENGLISH, PYTHON, "x" * 40 + " ", "A1b2" * 9 + "\n", "\U0001f600 ", "=\n"],
)
def test_time_grows_with_the_text_and_not_faster(unit):
    short, long_ = unit * (10_000 // len(unit)), unit * (80_000 // len(unit))
    estimate(short)
    brief, lengthy = (
        min(timeit.repeat(lambda t=t: estimate(t), timer=time.thread_time, number=1, repeat=5)) for t in (short, long_)
    )
    assert lengthy < 30 * brief + 1e-3
    assert brief < 10e-3
