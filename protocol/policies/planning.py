"""What becomes of a plan as the model wrote it: duplicates go, and no subtask is lost past the cap."""

from __future__ import annotations

import re

_NUMBER = re.compile(r"^\s*(?:\d{1,3}[.)]|[-*\u2022])\s+")
"""What models put before an item although it is one of a list already."""


def tidy(subtasks: tuple[str, ...], most: int) -> tuple[str, ...]:
    """Return *subtasks* without blanks and duplicates, at most *most*: further ones are merged into the last."""
    plain = (" ".join(_NUMBER.sub("", subtask).split()) for subtask in subtasks)
    distinct = tuple(dict.fromkeys(subtask for subtask in plain if subtask))
    if len(distinct) <= most:
        return distinct
    kept, rest = distinct[: most - 1], distinct[most - 1 :]
    return (*kept, "; ".join(rest))
