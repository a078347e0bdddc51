"""What becomes of a plan as the model wrote it: duplicates go, and no subtask is lost past the cap."""

from __future__ import annotations


def tidy(subtasks: tuple[str, ...], most: int) -> tuple[str, ...]:
    """Return *subtasks* without blanks and duplicates, at most *most* of them: further ones are merged into the last."""
    distinct = tuple(dict.fromkeys(" ".join(s.split()) for s in subtasks if s.strip()))
    if len(distinct) <= most:
        return distinct
    kept, rest = distinct[: most - 1], distinct[most - 1 :]
    return (*kept, "; ".join(rest))
