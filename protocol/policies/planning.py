"""What becomes of a plan as the model wrote it: duplicates go, and no subtask is lost past the cap."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

_NUMBER = re.compile(r"^\s*(?:\d{1,3}[.)]|[-*\u2022])\s+")
"""What models put before an item although it is one of a list already."""


_FENCE = re.compile(r"^ {0,3}(?:```|~~~)", re.MULTILINE)
_BETWEEN = re.compile(r"[,;\n]|\b(?:and|und)\b")
"""What stands between the parts of a text in lower case."""
LONGEST_REMEMBERED = 4096
"""Characters of the longest pair whose words are remembered: planner, coder and reviewer ask for the same ones."""
QUOTED = 0.6
"""A subtask that names so many of the parts of its task quotes the task, and is no larger for it."""


PLAN_TOKENS = 150
"""Output tokens that a plan is taken to have: five instructions of thirty."""


class Planner(NamedTuple):
    """What a plan costs: the tokens that every planner's prompt has, and prices per token (None: unknown)."""

    fixed_tokens: int = 0
    price_in: float | None = None
    price_out: float | None = None

    def spared(self, task_tokens: int) -> int | None:
        """Return what the planner's call for a task of so many tokens would cost, in the unit of the prices."""
        if self.price_in is None or self.price_out is None:
            return None
        return round((self.fixed_tokens + task_tokens) * self.price_in + PLAN_TOKENS * self.price_out)


def own_words(subtask: str, task: str) -> str:
    """Return *subtask* without the words of *task*, when it quotes the whole of it: "Write the tests of ..."."""
    if len(subtask) + len(task) > LONGEST_REMEMBERED:
        return _without(_split(task), subtask)
    return _remembered(subtask, task)


@lru_cache(maxsize=1024)
def _remembered(subtask: str, task: str) -> str:
    return _without(_parts(task), subtask)


def _without(parts: tuple[str, ...], subtask: str) -> str:
    said = subtask.casefold()
    quoted = [part for part in parts if part in said]
    if not parts or len(quoted) < QUOTED * len(parts):
        return subtask
    for part in sorted(quoted, key=len, reverse=True):
        said = said.replace(part, " ")
    return " ".join(piece for piece in (piece.strip(" .") for piece in _BETWEEN.split(said)) if piece)


def _split(task: str) -> tuple[str, ...]:
    """Return what stands between the commas and ands of *task*, in lower case."""
    return tuple(part for part in (piece.strip(" .") for piece in _BETWEEN.split(task.casefold())) if part)


_parts = lru_cache(maxsize=64)(_split)


def tidy(subtasks: tuple[str, ...], most: int) -> tuple[str, ...]:
    """Return *subtasks* without blanks and duplicates, at most *most*: further ones are merged into the last."""
    plain = (_tidied(_NUMBER.sub("", subtask)) for subtask in subtasks)
    distinct = tuple(dict.fromkeys(subtask for subtask in plain if subtask))
    if len(distinct) <= most:
        return distinct
    kept, rest = distinct[: most - 1], distinct[most - 1 :]
    return (*kept, "; ".join(rest))


def _tidied(subtask: str) -> str:
    """Return *subtask* on one line, unless it brings code: tests that its draft must pass, say."""
    return subtask.strip() if _FENCE.search(subtask) else " ".join(subtask.split())
