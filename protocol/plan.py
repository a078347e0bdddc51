"""What a team says beyond text: the plan, the draft's review.

Field order matters: models write properties in schema order, so evidence (``issues``) comes before judgement
(``score``).
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

Subtask = Annotated[str, Meta(min_length=1, max_length=2000)]


class Plan(Struct, frozen=True, kw_only=True):
    """A task taken apart into subtasks that can be worked on side by side."""

    subtasks: Annotated[tuple[Subtask, ...], Meta(min_length=1, max_length=64)]


class Review(Struct, frozen=True, kw_only=True):
    """A reviewer's verdict: concrete issues first, then a score of 10."""

    issues: Annotated[tuple[Annotated[str, Meta(max_length=1000)], ...], Meta(max_length=20)] = ()
    score: Annotated[int, Meta(ge=0, le=10)]
    approved: bool


class Brief(Struct, frozen=True, kw_only=True):
    """What a role is told beside the message: the whole task, the subtask, the last draft, its issues.

    ``tests`` is Python that the executor runs beside the draft's own; ``facts`` says in words what running it showed.
    """

    task: str
    subtask: str
    draft: str = ""
    issues: tuple[str, ...] = ()
    round: int = 0
    tests: str = ""
    facts: str = ""
