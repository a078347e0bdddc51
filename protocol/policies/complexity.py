"""A first simple estimate of how complex a task is, and which role it is for. A later policy refines it.

A score in 0..1 with the reasons for it: what a task asks to be made, how many things, how long it is. Features and
idea of a rule router: reference on routing without training (words that ask for work, counts, constraints); the
weights are ours.
"""

from __future__ import annotations

import re

from msgspec import Struct

PLAN_FROM = 0.35
"""From this score on a task is planned."""

_MAKE = re.compile(
    r"\b(implement\w*|build\w*|develop\w*|design\w*|creat\w+|refactor\w*|migrat\w+|integrat\w+|architect\w*|programm\w*|"
    r"write|entwick\w+|entwirf|erstell\w*|bau\w*|schreib\w*|realisier\w*)\b",
    re.IGNORECASE,
)
_THING = re.compile(
    r"\b(api|client|server|service|system|library|framework|application|app|database|parser|compiler|cli|pipeline|module|"
    r"protocol|engine|platform|website|dashboard|backend|frontend|tool|game|crawler|scheduler|cache|queue|bot|"
    r"bibliothek|anwendung|dienst|datenbank|schnittstelle|modul|werkzeug|programm)s?\b|\w+(?:client|server|service|system)\b",
    re.IGNORECASE,
)
_SEVERAL = re.compile(
    r"(?m)^\s*(?:[-*]|\d+[.)])\s+\S|[,;]|\b(?:and|then|with|plus|und|dann|mit|sowie)\b", re.IGNORECASE
)
_CONSTRAINT = re.compile(
    r"\b(must|should|support\w*|handle\w*|including|tests?|async|retr\w+|muss|soll\w*|unterstütz\w*)\b", re.IGNORECASE
)
_SMALL = re.compile(
    r"^\s*(?:what|who|when|where|why|how|which|is|are|does|say|translate|rename|fix (?:the|a|this) typo|"
    r"was|wer|wann|wo|warum|wie|welche\w*|ist|sind|sag|übersetze)\b|\?\s*$",
    re.IGNORECASE,
)
_REVIEW = re.compile(r"^\s*(?:please\s+)?(?:review|audit|critique|prüfe|begutachte|bewerte)\b", re.IGNORECASE)


class Complexity(Struct, frozen=True, kw_only=True):
    """How complex a task is, in 0..1, and why."""

    score: float
    reasons: tuple[str, ...] = ()

    @property
    def worth_a_plan(self) -> bool:
        """Tell whether taking the task apart pays."""
        return self.score >= PLAN_FROM


def estimate(task: str) -> Complexity:
    """Score *task*: pure, well under a millisecond for a page of text."""
    text = task[:20_000]
    words = len(text.split())
    several = len(_SEVERAL.findall(text))
    found = [
        (0.35, bool(_MAKE.search(text)), "asks for something to be made"),
        (0.2, bool(_THING.search(text)), "names a system of parts"),
        (min(0.3, 0.06 * several), several > 0, f"lists {several} things"),
        (min(0.2, 0.07 * len(_CONSTRAINT.findall(text))), bool(_CONSTRAINT.search(text)), "has constraints"),
        (min(0.3, words / 300), words > 30, f"is {words} words long"),
        (-0.35, bool(_SMALL.search(text)) and words < 30, "is a small question"),
    ]
    score = sum(weight for weight, holds, _ in found if holds)
    return Complexity(score=max(0.0, min(1.0, score)), reasons=tuple(reason for _, holds, reason in found if holds))


def choose_role(task: str, roles: tuple[str, ...]) -> str | None:
    """Return the role of *roles* that *task* without a recipient goes to; None when there is none at all."""
    wanted = "reviewer" if _REVIEW.search(task) else "orchestrator" if estimate(task).worth_a_plan else "coder"
    for role in (wanted, "coder", "orchestrator"):
        if role in roles:
            return role
    return roles[0] if roles else None
