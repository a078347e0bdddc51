"""How complex a task is, which role it goes to, and into how many parts it is worth taking apart.

No model is asked: marks in the words, English and German, add up to a score in 0..1, and every mark that counted is
named. Only what is asked counts (``protocol/asked.py``), by the words that it holds (``protocol/words.py``). What
somebody knows besides (:class:`Hints`) moves the score.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from protocol.asked import asked, is_question, is_small, parts
from protocol.words import marks_of

if TYPE_CHECKING:
    from collections.abc import Iterator

PLAN_FROM: Final = 0.5
"""From this score on a task is planned."""
COMPLEX_FROM: Final = 0.8
"""From this score on a task is of the class ``complex``."""
SPLIT_FROM: Final = 5
"""So many parts make a complex subtask too large for one coder: it was planned already, so a score is not enough."""
START: Final = 0.3
"""The score of a task without any mark."""
FEW: Final = 6
"""Commas and ands that are no list of parts where nothing is said to be made."""
LONGEST_REMEMBERED: Final = 4096
"""Characters of the longest task whose score is remembered: planner, coder and reviewer ask for the same one."""
_COUNTED: Final = re.compile(
    r"repositor|(?:micro)?service|chapter|lesson|level|card|screen|page|sprache|language|kapitel|lektion|dienst|modul|guest|people"
    r"|employee|gäst|seiten|\w{0,12}karten|table|line|machine|wind|turbine|user"
)
_FIVE_AND_MORE: Final = re.compile(
    r"[5-9]|\d{2,9}|five|six|seven|eight|nine|ten|twelve|fifteen|twenty|fünf|sechs|sieben|acht|neun|zehn|zwölf"
)

Rule = tuple[str, float, float, str]
"""The mark, what each find is worth, what all are worth at most, the reason."""
_RULES: Final[tuple[Rule, ...]] = (
    ("project", 0.2, 0.2, "asks for a project"),
    ("make", 0.1, 0.1, "asks for something to be made"),
    ("house", 0.12, 0.24, "reaches across a whole house"),
    ("steps", 0.05, 0.15, "goes in steps"),
    ("conditions", 0.06, 0.18, "states conditions"),
)


# --- phrases

_HEAD_ENDS: Final = re.compile(
    r"[.:!?\n(]|\b(?:for|that|which|who|from|with|about|of|to|using|für|mit|über|aus|zum|zur|von)\b", re.IGNORECASE
)
_CALLED: Final = re.compile(r"\b[a-z_]\w{0,40}\([\w:, *=]{0,60}\)")
_SHORT: Final = re.compile(
    r"(?<![\d.,])\b(?:(?:one|two|three|ten|\d{1,3}|ein|eine[mrn]?|zwei|drei|zehn)[ -](?:words?|sentences?|lines?"
    r"|paragraphs?|sätzen?|satz|absatz|wörtern?|worten?|zeilen?)\b|short\b|briefly\b|nothing else\b|yes or no\b"
    r"|kurze?[snmr]?\b|knapp\b|ja oder nein\b|only (?:want|the)\b|just (?:want|need)\b|nur ein\b|mehr nicht\b)",
    re.IGNORECASE,
)
_SPOT: Final = re.compile(
    r"\b(?:this|that|the|following|diese\w?|folgenden?|die|der) (?:one )?(?:line|snippet|function|loop|sentence|word"
    r"|button|file|one-?liner|variable|typo|bug|test|zeile|funktion|schleife|wort|datei|taste|abfrage)\b"
    r"|\b(?:function|snippet|code) below\b|\bin dieses\b",
    re.IGNORECASE,
)
_NO_WORK: Final = re.compile(
    r"\b(?:do not|don't|not) (?:want|need)\b.{0,30}\b(?:design|build|implement|write|code|change)\b"
    r"|\bnichts? (?:bauen|umbauen|entwickeln)\b",
    re.IGNORECASE,
)
_LIKE: Final = re.compile(
    r"\bclone of\b|\b(?:app|site|shop|platform|\w{0,20}plattform) (?:like|wie)\b"
    r"|\b(?i:like|wie) [A-Z]\w{1,30}(?:,| but\b| aber\b| nur\b)"
)
_FILE: Final = re.compile(r"[\w/-]+\.(?:py|[jt]sx?|html|css|ya?ml|json|toml|conf|cs|java|go|rs|rb|php|sql|cpp|c|h)\b")
_NUMBERED: Final = re.compile(r"\b(?:\d{2,9}k? \w+|[Kk]lasse \d+|class \d+)")
"""What stands there more than once, or is called by a number, is no one thing: "180k lines", "class 7"."""
_SET_UP: Final = re.compile(
    r"\A(?:set up|roll out|führe? .{1,80}\bzusammen|stelle? .{1,80}\bum\b|löse? .{1,80}\bab\b)", re.IGNORECASE
)
_ONE_MORE: Final = re.compile(
    r"\A(?:fix (?:the|a|this)|review this|add (?:a|an|one|type)|füge? .{1,60}\b(?:ein|hinzu))\b", re.IGNORECASE
)
_WORD: Final = re.compile(r"\w+")
_REVIEW: Final = re.compile(
    r"\s{0,9}(?:please |bitte )?(?:review|audit|critique|prüf|begutacht|bewert)\w*\b", re.IGNORECASE
)
_RUN: Final = re.compile(r"\s{0,9}(?:please |bitte )?(?:run|execute|führe?\b.{1,80}\baus)\b", re.IGNORECASE)


class Hints(Struct, frozen=True, kw_only=True):
    """What is known of a task besides its words; every figure may be missing.

    ``stated`` is the orchestrator's own estimate (0..1). ``failure_rate`` says how often drafts of tasks of this kind
    were rejected, over ``seen`` of them. ``history_tokens`` is what the conversation carries along already.
    """

    stated: float | None = None
    failure_rate: float = 0.0
    seen: int = 0
    history_tokens: int = 0


class Complexity(Struct, frozen=True, kw_only=True):
    """How complex a task is, in 0..1, why, and how many parts it names."""

    score: float
    reasons: tuple[str, ...] = ()
    parts: int = 0

    @property
    def worth_a_plan(self) -> bool:
        """Tell whether taking the task apart pays."""
        return self.score >= PLAN_FROM

    @property
    def too_large(self) -> bool:
        """Tell whether even a subtask like this should be taken apart once more."""
        return self.score >= COMPLEX_FROM and self.parts >= SPLIT_FROM

    @property
    def band(self) -> str:
        """Return the class of the score: ``simple``, ``medium`` or ``complex``."""
        return "complex" if self.score >= COMPLEX_FROM else "medium" if self.worth_a_plan else "simple"

    def fan_out(self, most: int) -> int:
        """Return into how many subtasks to split at most: more for what names more and scores higher."""
        by_score = round(3 + 24 * max(0.0, self.score - PLAN_FROM))
        return max(1, min(most, max(by_score, self.parts + 2)))


def estimate(task: str, hints: Hints | None = None) -> Complexity:
    """Score *task*, in well under a millisecond for a page of text. What was asked lately is remembered."""
    return _remembered(task, hints) if len(task) <= LONGEST_REMEMBERED else _estimate(task, hints)


def _estimate(task: str, hints: Hints | None) -> Complexity:
    request = asked(task)
    named = parts(request)
    found = [*_words(request), *_phrases(request), *_shape(request, named), *_known(hints or Hints())]
    found = found or [(0.0, "no mark of its size")]
    score = START + sum(weight for weight, _ in found)
    if hints is not None and hints.stated is not None:
        score = (max(0.0, min(1.0, score)) + hints.stated) / 2
        found.append((0.0, f"the planner says {hints.stated:.1f}"))
    return Complexity(score=max(0.0, min(1.0, score)), reasons=tuple(reason for _, reason in found), parts=named)


_remembered = lru_cache(maxsize=1024)(_estimate)


def choose_role(task: str, roles: tuple[str, ...]) -> str | None:
    """Return the role of *roles* that *task* without a recipient goes to; None when there is none at all.

    A role whose name the task begins with in other words (``translator``: "Translate ...") goes before all.
    """
    wanted = _named(task, roles) or _built_in(task)
    for role in (wanted, "coder", "orchestrator"):
        if role in roles:
            return role
    return roles[0] if roles else None


def _built_in(task: str) -> str:
    if _REVIEW.match(task):
        return "reviewer"
    if _RUN.match(task):
        return "executor"
    return "orchestrator" if estimate(task).worth_a_plan else "coder"


def _named(task: str, roles: tuple[str, ...]) -> str | None:
    """Return the role whose name the task's first words begin with, its ending aside."""
    words = _WORD.findall(task[:80].lower())[:4]
    for role in roles:
        stem = re.sub(r"(?:[eo]r|ist|ant|ing)$", "", role)
        if len(stem) >= 4 and any(word.startswith(stem) for word in words):
            return role
    return None


# --- the marks


def _words(request: str) -> Iterator[tuple[float, str]]:
    """Yield what single words say."""
    words = _WORD.findall(request.lower())
    marks = [mark for word in words for mark in marks_of(word)]
    for mark, weight, most, reason in _RULES:
        if count := marks.count(mark):
            yield min(weight * count, most), reason
    kinds = len({mark for mark in marks if mark.startswith("work ")})
    if kinds >= 2:
        yield min(0.3, 0.08 * kinds), f"touches {kinds} kinds of work"
    counts = sum(_is_count(words, place) for place in range(len(words)))
    if counts:
        yield min(0.1 * counts, 0.3), "counts its parts"
    if len(words) > 40:
        yield min(0.15, len(words) / 800), f"asks in {len(words)} words"
    if is_small(request):
        yield -0.35, "asks for one small deed"
    elif is_question(request) or request.endswith("?"):
        yield -0.35, "is a question"


def _is_count(words: list[str], place: int) -> bool:
    """Tell whether a number of five and more stands here, before what it counts."""
    if _FIVE_AND_MORE.fullmatch(words[place]) is None:
        return False
    return any(map(_COUNTED.match, words[place + 1 : place + 4]))


def _phrases(request: str) -> Iterator[tuple[float, str]]:
    """Yield what several words together say."""
    for weight, reason, pattern in (
        (0.2, "asks for a project", _SET_UP),
        (0.2, "names a product to be like", _LIKE),
        (-0.35, "asks for one small deed", _ONE_MORE),
        (-0.25, "wants a short answer", _SHORT),
        (-0.2, "points at one spot", _SPOT),
        (-0.3, "asks not to build", _NO_WORK),
    ):
        if pattern.search(request):
            yield weight, reason
    if len(set(_FILE.findall(request))) == 1:
        yield -0.2, "names one file"


def _shape(request: str, parts: int) -> Iterator[tuple[float, str]]:
    """Yield what the head of the request and its enumeration say; of a compound the last noun rules."""
    first, *rest = request[:300].split(maxsplit=1) or [""]
    tail = rest[0] if rest else ""
    end = _HEAD_ENDS.search(tail)
    head = f"{first} {' '.join(tail.split()[:8]) if end is None or end[0] == '(' else tail[: end.start()]}"
    head = _NUMBERED.sub(" ", head)
    nouns = [(w, m) for w in _WORD.findall(head.lower())[:10] for m in ("big", "tiny") if m in marks_of(w)]
    noun, size = nouns[-1] if nouns else ("", "")
    if size == "tiny" or _CALLED.search(request[:200]):
        yield -0.35, f"is about one {noun if size == 'tiny' else 'function'}"
        return
    if size == "big":
        yield 0.25, f"is about a whole {noun}"
    elif any("big" in marks_of(word) for word in _WORD.findall(request.lower())):
        yield 0.1, "names a system of parts"
    made = bool(size) or any({"make", "project"} & marks_of(word) for word in _WORD.findall(request.lower()))
    if parts >= (3 if made else FEW):
        yield min(0.3, 0.07 * parts), f"lists {parts} parts"


def _known(hints: Hints) -> Iterator[tuple[float, str]]:
    """Yield what is known besides the words; few tasks seen say little."""
    moved = 0.4 * (hints.failure_rate - 0.3) * hints.seen / (hints.seen + 5)
    if abs(moved) >= 0.02:
        yield moved, f"{hints.failure_rate:.0%} of {hints.seen} tasks of its kind failed at first"
    if hints.history_tokens > 2000:
        yield min(0.15, hints.history_tokens / 100_000), f"carries {hints.history_tokens} tokens of history"
