"""A review in plain text, read with lenience: its score, its verdict, its issues.

Words decide over the score, and a doubt counts as no: "not approved", "approve once the tests pass" are rejections.
Words that reviews use of the code itself ("invalid input is rejected") count only where a verdict stands.
"""

from __future__ import annotations

import math
import re

from protocol.plan import Review

APPROVED_SCORE = 8
"""The score of a review that approves and names none."""
REJECTED_SCORE = 3
"""The score of a review that rejects and names none."""
PASSING_SCORE = 7
"""From which score on a review without a word of verdict approves."""

MOST_ISSUES = 20
LONGEST_ISSUE = 1000

_LABEL = r"\b(?:score|rating|bewertung|note|wertung|punktzahl|punkte|gesamt|overall|grade)\b[^0-9\n]{0,20}?"
_VALUE = r"(?<![0-9./,])([0-9]{1,3}(?:[.,][0-9]{1,2})?)"
_OUT_OF = r" {0,3}(?:/|out of|von|of) {0,3}([0-9]{1,3})(?![0-9]|[./][0-9])"
_LABELLED = re.compile(rf"{_LABEL}{_VALUE}(?:{_OUT_OF}|(?! ?[0-9%/]))", re.IGNORECASE)
_BARE = re.compile(rf"{_VALUE} {{0,3}}(?:/|out of|von) {{0,3}}(10)(?![0-9]|[./][0-9])", re.IGNORECASE)

_YES = r"(?:approved?|approve|approval|accepted|accept|lgtm|freigegeben|genehmigt|akzeptiert|angenommen)"
_NOT = r"(?:\b(?:not|cannot|never|nicht|kein|keine|no|without|un|dis)|n['\u2019]t)"
_PLACE = (
    r"(?:^|[.!?:\u2013-] {1,3}"
    r"|\b(?:verdict|decision|status|result|conclusion|recommendation|fazit|urteil|ergebnis|entscheidung)\b"
    r"[\"'*_:= -]{0,6}"
    r"|\b(?:draft|code|change|changes|patch|solution|implementation|submission|pr|it|this|work|i)"
    r" (?:is |are |was |has been |must be |should be |hereby )?)[\"'*_ #>-]{0,6}"
)
_NO = re.compile(
    rf"{_NOT}[ -]?(?:[a-z]{{1,10}} ){{0,2}}{_YES}\b"
    r"|\bapproved?[\"'*_]{0,3} ?[:=]? ?[\"'*_]{0,3} ?(?:no|false|nein)\b"
    rf"|\b{_YES}[,]? (?:once|after|if|when|unless|only|sobald|wenn)\b"
    r"|(?<!no )\b(?:needs?|requires?|requesting|request) (?:[a-z]{1,10} ){0,2}(?:changes|revision|rework|work)\b"
    r"|(?<!no )\bchanges (?:are )?(?:requested|required|needed|necessary)\b"
    r"|\b(?:abgelehnt|zur\u00fcckgewiesen|muss \u00fcberarbeitet werden)\b"
    r"|\b\u00fcberarbeitung (?:n\u00f6tig|erforderlich)\b"
    rf"|{_PLACE}(?:rejected|reject|refused|declined)\b",
    re.IGNORECASE | re.MULTILINE,
)
_YES_SAID = re.compile(
    r"\b(?:approved|lgtm|freigegeben|genehmigt|looks good to me|ship it)\b"
    r"|\bapproved?[\"'*_]{0,3} ?[:=] ?[\"'*_]{0,3} ?(?:yes|true|ja)\b"
    rf"|{_PLACE}(?:approve|accepted|accept|akzeptiert|angenommen)\b",
    re.IGNORECASE | re.MULTILINE,
)
_ITEM = re.compile(r"^[ \t]{0,12}(?:[-*+\u2022]|[0-9]{1,3}[.)])[ \t]{1,4}(\S.*)$", re.MULTILINE)


def read_verdict(text: str) -> Review | None:
    """Return the review that *text* is, or None when it says neither a score nor a verdict.

    A score of another scale is brought to 10 and rounded down. Without a score the verdict stands for one, without a
    verdict the score does. The issues are the items of its lists.
    """
    approved, score = _approval(text), _score(text)
    if approved is None and score is None:
        return None
    if approved is None:
        approved = score is not None and score >= PASSING_SCORE
    if score is None:
        score = APPROVED_SCORE if approved else REJECTED_SCORE
    return Review(issues=_issues(text), score=score, approved=approved)


def _approval(text: str) -> bool | None:
    if _NO.search(text):
        return False
    return True if _YES_SAID.search(text) else None


def _score(text: str) -> int | None:
    """Return the last score that is called one, otherwise the last bare ``x/10``: summaries stand at the end."""
    for pattern in (_LABELLED, _BARE):
        scores = [score for score in map(_of_ten, pattern.findall(text)) if score is not None]
        if scores:
            return scores[-1]
    return None


def _of_ten(found: tuple[str, str]) -> int | None:
    value, scale = float(found[0].replace(",", ".")), int(found[1] or 10)
    return math.floor(value * 10 / scale + 1e-9) if scale and value <= scale else None


def _issues(text: str) -> tuple[str, ...]:
    found = dict.fromkeys(item.strip()[:LONGEST_ISSUE] for item in _ITEM.findall(text) if not _is_verdict(item))
    return tuple(found)[:MOST_ISSUES]


def _is_verdict(item: str) -> bool:
    """Tell whether a list item is the verdict itself, or nothing at all."""
    if not any(map(str.isalnum, item)):
        return True
    return len(item) <= 60 and (_score(item) is not None or _approval(item) is not None)
