"""A review as separate items that pass or fail, each with what it is based on, put together in code.

A model is asked what is the case, never for a total: which item failed, and the words of the draft that show it. The
score and the verdict follow by arithmetic, so a friendly mood or a long draft earns nothing. A quotation that does not
stand in the draft is made up, and its item does not count. (arXiv 2604.22891: a rubric of separate dimensions cuts
self-preference by a third.)
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from protocol.plan import Stated, Verdict

if TYPE_CHECKING:
    from protocol.plan import Check, Rubric

WEIGHTS: Final[dict[str, float]] = {"correctness": 4.0, "security": 3.0, "performance": 1.5, "best practices": 1.5}
"""What each aspect counts of the score."""
NEEDED: Final = frozenset(("correctness", "security"))
"""What fails here is never approved, whatever the score."""
MOST_QUOTED: Final = 120
_SPACE = re.compile(r"\s+")
_CUT = re.compile(r"\.{3,}|\u2026")


def aggregate(rubric: Rubric, draft: str) -> Verdict:
    """Return the verdict of *rubric* on *draft*: the share of the weights that passed, and the failed items alone.

    Aspects that nobody looked at count neither way, but without a look at correctness nothing is approved. A review
    that the model stated as a whole is taken as it is.
    """
    if isinstance(rubric, Stated):
        stated = rubric.review
        return Verdict(issues=stated.issues, score=stated.score, approved=stated.approved)
    checks = tuple([check for check in rubric.checks if check.passes or is_quoted(check.evidence, draft)])
    holds = dict.fromkeys([check.aspect for check in checks], True)
    failed = [check for check in checks if not check.passes]
    for check in failed:
        holds[check.aspect] = False
    whole = sum([WEIGHTS[aspect] for aspect in holds])
    score = round(10 * sum([WEIGHTS[aspect] for aspect in holds if holds[aspect]]) / whole) if whole else 0
    return Verdict(
        issues=tuple(dict.fromkeys([issue(check) for check in failed])),
        score=score,
        approved="correctness" in holds and not any(check.aspect in NEEDED for check in failed),
        checks=checks,
    )


def is_quoted(evidence: str, draft: str) -> bool:
    """Tell whether *evidence* stands in *draft*, but for spaces and dots of omission; nothing quoted is no lie.

    What is missing in a draft cannot be quoted from it.
    """
    text = _plain(draft)
    return all(_plain(part) in text for part in _CUT.split(evidence))


def issue(check: Check) -> str:
    """Return a failed item as its coder gets it: the aspect, what to mend, and where."""
    where = " ".join(check.evidence.split())
    quoted = f' (at "{where[:MOST_QUOTED]}")' if where else ""
    return f"{check.aspect}: {' '.join(check.fix.split()) or 'does not hold'}{quoted}"


def _plain(text: str) -> str:
    return _SPACE.sub("", text).strip("\"'`").casefold()
