"""What an agent remembers of a long conversation: the frame, and as many of the latest turns as fit.

A turn is an answer of the model with what was said to it. The frame is the system prompt, the first message of the
user (the task) and the last message. Dropping whole turns keeps the speakers alternating, which strict chat templates
demand.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from protocol.chat import ChatMessage

PER_MESSAGE = 4
"""Tokens that frame a message."""
MOST_PER_CHARACTER = 2
"""No tokeniser makes more of a character; emoji come to 1.8."""


def rough_tokens(text: str) -> int:
    """Return an upper guess of the tokens of *text*: a third of its bytes."""
    return len(text.encode("utf-8", "surrogatepass")) // 3 + 1


def trim(
    messages: tuple[ChatMessage, ...], limit: int, tokens: Callable[[str], int] = rough_tokens
) -> tuple[ChatMessage, ...]:
    """Return *messages* within *limit* tokens, as *tokens* counts them: the oldest turns go first, and go whole.

    The frame always stays, even when it alone is larger than *limit*.
    """
    if sum(MOST_PER_CHARACTER * len(message.content) + PER_MESSAGE for message in messages) <= limit:
        return messages  # far below: no need to count
    sizes = [tokens(message.content) + PER_MESSAGE for message in messages]
    excess = sum(sizes) - limit
    if excess <= 0:
        return messages
    dropped: set[int] = set()
    for turn in _turns(messages):
        if excess <= 0:
            break
        dropped.update(turn)
        excess -= sum(sizes[index] for index in turn)
    return tuple(message for index, message in enumerate(messages) if index not in dropped)


def _turns(messages: tuple[ChatMessage, ...]) -> list[list[int]]:
    """Return the indices outside the frame as turns, oldest first."""
    frame = _frame(messages)
    turns: list[list[int]] = []
    for index, message in enumerate(messages):
        if index in frame:
            continue
        if not turns or message.role == "assistant":
            turns.append([])
        turns[-1].append(index)
    return turns


def _frame(messages: tuple[ChatMessage, ...]) -> set[int]:
    leading = next((i for i, message in enumerate(messages) if message.role != "system"), len(messages))
    task = next((i for i, message in enumerate(messages) if message.role == "user"), leading)
    return {*range(leading), task, len(messages) - 1}
