"""What a team says beyond text: the plan, the draft's review.

Field order matters: models write properties in schema order, so evidence (``issues``) comes before judgement
(``score``).
"""

from __future__ import annotations

from typing import Annotated, Literal

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


Aspect = Annotated[
    Literal["correctness", "security", "performance", "best practices"], Meta(extra_json_schema={"type": "string"})
]
"""What a draft is looked at for; strict endpoints want the type of an enumeration named."""


class Check(Struct, frozen=True, kw_only=True):
    """One item of a review: what was looked at, the words of the draft that show it, whether it passes, how to mend it.

    ``evidence`` is quoted from the draft; it is empty where something is missing, which cannot be quoted.
    """

    aspect: Aspect
    evidence: Annotated[str, Meta(max_length=400)] = ""
    passes: bool
    fix: Annotated[str, Meta(max_length=600)] = ""


class Rubric(Struct, frozen=True, kw_only=True):
    """What a reviewer is asked for where it can do more than say yes or no; the verdict is made of it in code."""

    checks: Annotated[tuple[Check, ...], Meta(min_length=1, max_length=16)]


class Stated(Rubric, frozen=True, kw_only=True):
    """What stands in a rubric's place where the reviewer gave a whole review of its own; never asked for."""

    checks: tuple[Check, ...] = ()
    review: Review


class Verdict(Review, frozen=True, kw_only=True):
    """A review with the items it was made of; without any where the reviewer gave its score itself."""

    checks: tuple[Check, ...] = ()


class Brief(Struct, frozen=True, kw_only=True):
    """What an agent is told beside the message: the whole task, the subtask, the last draft, its issues.

    ``most`` is into how many subtasks a planner should split; 0: as many as it sees. ``hint`` is for a coder that gets
    nowhere. ``tried`` are the models whose drafts were rejected; ``stronger`` asks for one above them.
    ``rounds`` drafts may still be written, this one among them; 0: nobody will review it.
    ``tests`` is Python that the executor will run beside the draft's own; ``facts`` says in words what it found.
    """

    task: str
    subtask: str
    draft: str = ""
    issues: tuple[str, ...] = ()
    round: int = 0
    most: int = 0
    hint: str = ""
    tried: tuple[str, ...] = ()
    stronger: bool = False
    rounds: int = 0
    tests: str = ""
    facts: str = ""
