"""What an agent remembers of a long conversation."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from protocol.chat import ChatMessage
from protocol.policies.history import PER_MESSAGE, rough_tokens, trim


def said(role, content):
    return ChatMessage(role=role, content=content)


MESSAGES = st.lists(
    st.builds(said, st.sampled_from(["system", "user", "assistant"]), st.text("ab", max_size=12)), max_size=12
).map(tuple)
ROUNDS = (
    said("system", "prompt"),
    said("user", "task"),
    said("assistant", "draft one"),
    said("user", "feedback one"),
    said("assistant", "draft two"),
    said("user", "feedback two"),
)


def size(messages):
    return sum(len(m.content) + PER_MESSAGE for m in messages)


def framed(messages):
    """The positions that must stay, found the slow way."""
    stay = set()
    for position, message in enumerate(messages):
        if message.role != "system":
            break
        stay.add(position)
    users = [position for position, message in enumerate(messages) if message.role == "user"]
    others = [position for position, message in enumerate(messages) if message.role != "system"]
    stay.update(users[:1] or others[:1])
    stay.update(range(len(messages))[-1:])
    return stay


def dumb_twin(messages, limit):
    """Try to drop no turn, one turn, two turns, ... and take the first result that fits, or the last."""
    stay = framed(messages)
    turns = []
    for position in [p for p in range(len(messages)) if p not in stay]:
        if messages[position].role == "assistant" or not turns:
            turns.append(set())
        turns[-1].add(position)
    for count in range(len(turns) + 1):
        gone = set().union(*turns[:count])
        left = tuple(m for position, m in enumerate(messages) if position not in gone)
        if size(left) <= limit:
            break
    return left


@given(MESSAGES, st.integers(-5, 120))
def test_trimming_is_the_same_as_trying_every_number_of_turns(messages, limit):
    assert trim(messages, limit, len) == dumb_twin(messages, limit)


@given(MESSAGES, st.integers(0, 120))
def test_what_is_left_fits_or_is_the_frame_alone(messages, limit):
    left = trim(messages, limit, len)
    assert size(left) <= limit or left == tuple(messages[p] for p in sorted(framed(messages)))


@given(MESSAGES, st.integers(0, 120))
def test_trimming_twice_changes_nothing(messages, limit):
    left = trim(messages, limit, len)
    assert trim(left, limit, len) == left


def test_what_fits_is_the_very_same():
    assert trim(ROUNDS, size(ROUNDS), len) is ROUNDS


def test_the_oldest_answer_goes_with_what_was_said_to_it():
    left = trim(ROUNDS, size(ROUNDS) - 1, len)
    assert [m.content for m in left] == ["prompt", "task", "draft two", "feedback two"]


def test_the_frame_stays_even_when_it_is_too_large():
    assert [m.content for m in trim(ROUNDS, 0, len)] == ["prompt", "task", "feedback two"]


def test_without_a_counter_a_third_of_the_bytes_is_taken():
    assert rough_tokens("a" * 30) == 11
    assert rough_tokens("\ud83d") == 2
    assert trim(ROUNDS, sum(rough_tokens(m.content) + PER_MESSAGE for m in ROUNDS)) is ROUNDS


def test_no_turn_goes_once_the_rest_fits_exactly():
    left = (*ROUNDS[:2], *ROUNDS[4:])
    longer = (*ROUNDS[:2], said("assistant", "first"), said("user", "first"), *ROUNDS[2:])
    assert trim(ROUNDS, size(left), len) == left
    assert trim(longer, size(ROUNDS), len) == ROUNDS
