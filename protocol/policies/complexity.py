"""How complex a task is, which role it goes to, and into how many parts it is worth taking apart.

No model is asked: marks in the words, English and German, add up to a score in 0..1, and every mark that counted is
named. What is pasted (code, logs, quotes, data) is no part of the request and is cut out first, so a long report with a
small question stays small. What somebody knows besides (:class:`Hints`) moves the score.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from msgspec import Struct

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
MOST_READ: Final = 4000
"""Characters of a task that are looked at before what is pasted is cut out."""
LONGEST_REMEMBERED: Final = 4096
"""Characters of the longest task whose score is remembered: planner, coder and reviewer ask for the same one."""
MOST_ASKED: Final = 1000
"""Characters of the request that are scored; of a longer one the end counts as well, where its question stands."""

# --- words: "stem*" begins a word, "*stem" ends it, "word" is it

_PROJECT: Final = """
    build develop* migrat* port rewrite restructure redesign* reorgani* replace organi* plan prepare moderni*
    consolidate integrate launch compare analyse analyze research audit bring entwick* entwirf* entwerfe* migrier*
    programmier* plane planen realisier* digitalisier* portier* recherchier* organisier* analysier* baue bauen
    zusammen ersetze*"""
_MAKE: Final = "implement* create write design make erstell* schreib* mach*"
_HOUSE: Final = """
    our unser* across everything company team teams department* organization organisation legacy whole entire alles
    gesamte* firma unternehmen abteilung* altsystem komplett*"""
_STEPS: Final = """
    then next afterwards finally plus first danach anschließend dann sowie zuerst schließlich phase phases phasen
    milestone* meilenstein* rollout validate packages"""
_CONDITIONS: Final = """
    must should shall without compliant muss müssen soll* ohne mindestens *konform hochverfügbar accessib* wcag gdpr
    dsgvo iso barrierefrei* mehrsprachig* tenancy multitenan* mandantenfähig offline"""
_BIG: Final = """
    *app apps *application *applications *platform *portal *shop *store *website *site game games platformer clone
    *compiler interpreter kernel *system *systems *engine bot crawler *pipeline sdk *library libraries *framework
    marketplace dashboard gallery wiki *editor *database *client *server *service *services api parser scheduler
    protocol tool simulator backend frontend monolith erp crm management manager generator tracker planner course
    curriculum novel book study proposal brand conference campaign festival handbook documentation audit report
    *anwendung *plattform *laden *spiel *dienst *dienste *datenbank *bibliothek *werkzeug *schnittstelle *software
    *zentrale *verwaltung *steuerung *konzept lastenheft *buch *roman *kurs *lehrgang *hochzeit *tagung *messe
    *kampagne *gutachten *studie *buchhaltung *programm *automaten"""
_TINY: Final = """
    function functions method methods class regex regexp expression query liner snippet line lines sentence sentences
    mail email haiku poem limerick joke jokes tagline taglines slogan slogans name names title titles rule rules
    docstring docstrings comment comments tweet paragraph paragraphs greeting command dataclass enum constant variable
    is_* select synonym synonyms loop button icon color colour port timeout typo dockerfile hint hints case unit
    *funktion *methode *klasse *ausdruck *abfrage *zeiler *zeile *zeilen *satz sätze *absage *zusage *gedicht *witz
    namen titel befehl kommentar absatz *schleife variable *gruß betreff vorteil* nachteil* gründe unterschied*"""
_DEEDS: Final = """
    translate rename sort convert explain summari* proofread correct compute calculate tell name list suggest give
    turn undo change describe define rephrase paraphrase shorten count spell format round say remove delete übersetz*
    korrigier* sortier* nenn* erklär* wandle rechne berechne formulier* fasse fass änder* benenn* sag zähl* kürz*
    beschreib*"""
_ASKING: Final = """
    what who whom whose when where why how which is are am do does did can could would will has was wer wen wem wann
    wo warum wieso wie welche* ist sind kann darf hat wieviel*"""
_DISCIPLINES: Final = (  # two and more of these are work for several people
    "test tests tested testing testsuite testplan playwright coverage",
    "docs doc document* dokument* handbuch handbook guide guides tutorial* anleitung examples",
    "frontend front ui screen screens *oberfläche browser react dashboard*",
    "backend back api apis endpoint* rest *schnittstelle server",
    "database* schema migration migrations storage postgres* redis *datenbank speicher* inventory inventar",
    "mobile phone phones handy android ios smartphone app",
    "deploy* docker terraform kubernetes ci cd pipeline rollback release betrieb",
    "security auth* login signup permission* roles encrypt* anmeldung *rechte* berechtig* datenschutz risk",
    "payment* checkout billing abrechnung* bezahl* budget cost costs kosten preise prices",
    "admin* reception *verwaltung personal",
    "monitor* metrics alert* alarm* logging tracing telemetry opentelemetry statisti*",
    "import export sync integration anbindung übernahme datenübernahme datev sap interface interfaces",
    "multiplayer mehrspieler* realtime online live chat sharing",
    "train training schul* *kurs course onboard*",
    "market* campaign *kampagne press media launch presentation präsentation",
    "schedule timeline zeitplan zeittafel venue catering ablauf organis*",
    "regulation* compliance legal ethics rechtlich abnahme",
    "model predict* vorhers* segment* forecast* embedding* recommend* evaluation auswert*",
)
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


def _table() -> tuple[dict[str, tuple[str, ...]], ...]:
    """Return the marks by whole word, by beginning and by ending."""
    lists = {"project": _PROJECT, "make": _MAKE, "house": _HOUSE, "steps": _STEPS, "conditions": _CONDITIONS}
    lists |= {"big": _BIG, "tiny": _TINY, "deed": _DEEDS, "asking": _ASKING}
    lists |= {f"work {number}": words for number, words in enumerate(_DISCIPLINES)}
    tables: tuple[dict[str, tuple[str, ...]], ...] = ({}, {}, {})
    for mark, words in lists.items():
        for word in words.split():
            table = tables[2] if word[0] == "*" else tables[1] if word[-1] == "*" else tables[0]
            table[word.strip("*")] = (*table.get(word.strip("*"), ()), mark)
    return tables


_WHOLE, _BEGINS, _ENDS = _table()
_LONGEST: Final = max(map(len, (*_BEGINS, *_ENDS)))


@lru_cache(maxsize=4096)
def _marks_of(word: str) -> frozenset[str]:
    """Return the marks of a word in lower case."""
    found = set(_WHOLE.get(word, ()))
    for size in range(2, min(len(word), _LONGEST) + 1):
        found.update(_BEGINS.get(word[:size], ()), _ENDS.get(word[-size:], ()))
    return frozenset(found)


# --- phrases

_PASTED: Final = (
    re.compile(r"```.*?(?:```|\Z)", re.DOTALL),
    re.compile(r"`[^`\n]{0,400}`"),
    re.compile(r"Traceback \(most recent.*?(?:\n\s*\n|\Z)", re.DOTALL),
    re.compile(r"\"[^\"]{12,2000}\"|\u201e[^\u201c\u201d]{12,2000}[\u201c\u201d]|\u00bb[^\u00ab]{12,2000}\u00ab"),
    re.compile(r"(?<!\w)'[^']{12,2000}'(?!\w)|\u201c[^\u201d]{12,2000}\u201d|\u2018[^\u2019]{12,2000}\u2019"),
    re.compile(r"^[ \t]{0,8}[\[{<].*$", re.MULTILINE),
)
_POINTING: Final = re.compile(
    r"\b(?:this|these|following|below|diese\w{0,2}|folgende\w{0,2}|(?:den|der|dem|das|die) (?:text|satz|absatz|zeile))"
    r"\b[^:\n]{0,80}:",
    re.IGNORECASE,
)
_PLEASE: Final = re.compile(
    r"(?:(?:hi|hello|hey|hallo|moin)\b[^.!\n]{0,30}[,.!:\n]\s{0,9})?"
    r"(?:(?:please|kindly|bitte|can you|could you|kannst du|können sie|i need you to|we need to)\s{1,9})?",
    re.IGNORECASE,
)
_HEAD_ENDS: Final = re.compile(
    r"[.:!?\n(]|\b(?:for|that|which|who|from|with|about|of|to|using|für|mit|über|aus|zum|zur|von)\b", re.IGNORECASE
)
_CALLED: Final = re.compile(r"\b[a-z_]\w{0,40}\([\w:, *=]{0,60}\)")
_SHORT: Final = re.compile(
    r"\b(?:(?:one|two|three|ten|\d{1,2}|ein|eine[mrn]?|zwei|drei|zehn)[ -](?:words?|sentences?|lines?|paragraphs?"
    r"|sätzen?|satz|absatz|wörtern?|worten?|zeilen?)\b|short\b|briefly\b|nothing else\b|yes or no\b|kurze?[snmr]?\b"
    r"|knapp\b|ja oder nein\b|only (?:want|the)\b|just (?:want|need)\b|nur ein\b|mehr nicht\b)",
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
    r"|\b(?:like|wie) [A-Z]\w{1,30}(?:,| but\b| aber\b| nur\b)"
)
_SET_UP: Final = re.compile(
    r"\A(?:set up|roll out|führe? .{1,80}\bzusammen|stelle? .{1,80}\bum\b|löse? .{1,80}\bab\b)", re.IGNORECASE
)
_ONE_MORE: Final = re.compile(
    r"\A(?:fix (?:the|a|this)|review this|add (?:a|an|one|type)|füge? .{1,60}\b(?:ein|hinzu))\b", re.IGNORECASE
)
_ITEM: Final = re.compile(r"^[ \t]{0,12}(?:[-*\u2022]|\d{1,2}[.)])[ \t]{1,4}\S", re.MULTILINE)
_BETWEEN: Final = re.compile(r"[,;]|\b(?:and|und|sowie)\b", re.IGNORECASE)
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
    request = _request(task)
    parts = _parts(request)
    found = [*_words(request), *_phrases(request), *_shape(request, parts), *_known(hints or Hints())]
    found = found or [(0.0, "no mark of its size")]
    score = START + sum(weight for weight, _ in found)
    if hints is not None and hints.stated is not None:
        score = (max(0.0, min(1.0, score)) + hints.stated) / 2
        found.append((0.0, f"the planner says {hints.stated:.1f}"))
    return Complexity(score=max(0.0, min(1.0, score)), reasons=tuple(reason for _, reason in found), parts=parts)


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


def _request(task: str) -> str:
    """Return what *task* asks, without what is pasted into it."""
    text = task[:MOST_READ]
    pointing = _POINTING.search(text[:400])
    if pointing is not None and "?" not in task[-200:]:
        text = text[: pointing.end()]
    elif len(task) > MOST_READ:
        text = f"{text}\n{task[-MOST_READ // 5 :]}"
    for pasted in _PASTED:
        text = pasted.sub(" ", text)
    text = text.strip()
    polite = _PLEASE.match(text)
    text = text if polite is None else text[polite.end() :]
    return text if len(text) <= MOST_ASKED else f"{text[: MOST_ASKED - 200]}\n{text[-200:]}"


def _words(request: str) -> Iterator[tuple[float, str]]:
    """Yield what single words say."""
    words = _WORD.findall(request.lower())
    marks = [mark for word in words for mark in _marks_of(word)]
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
    if words and "deed" in _marks_of(words[0]):
        yield -0.35, "asks for one small deed"
    if (words and "asking" in _marks_of(words[0])) or request.endswith("?"):
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


def _shape(request: str, parts: int) -> Iterator[tuple[float, str]]:
    """Yield what the head of the request and its enumeration say; of a compound the last noun rules."""
    first, *rest = request[:300].split(maxsplit=1) or [""]
    tail = rest[0] if rest else ""
    end = _HEAD_ENDS.search(tail)
    head = f"{first} {' '.join(tail.split()[:8]) if end is None or end[0] == '(' else tail[: end.start()]}"
    nouns = [(w, m) for w in _WORD.findall(head.lower())[:10] for m in ("big", "tiny") if m in _marks_of(w)]
    noun, size = nouns[-1] if nouns else ("", "")
    if size == "tiny" or _CALLED.search(request[:200]):
        yield -0.35, f"is about one {noun if size == 'tiny' else 'function'}"
        return
    if size == "big":
        yield 0.25, f"is about a whole {noun}"
    elif any("big" in _marks_of(word) for word in _WORD.findall(request.lower())):
        yield 0.1, "names a system of parts"
    if parts >= 3:
        yield min(0.3, 0.07 * parts), f"lists {parts} parts"


def _parts(request: str) -> int:
    """Count what the request enumerates: items of a list, or what stands between commas and ands."""
    items = len(_ITEM.findall(request))
    return items if items >= 2 else len(_BETWEEN.findall(request)) + 1 if request else 0


def _known(hints: Hints) -> Iterator[tuple[float, str]]:
    """Yield what is known besides the words; few tasks seen say little."""
    moved = 0.4 * (hints.failure_rate - 0.3) * hints.seen / (hints.seen + 5)
    if abs(moved) >= 0.02:
        yield moved, f"{hints.failure_rate:.0%} of {hints.seen} tasks of its kind failed at first"
    if hints.history_tokens > 2000:
        yield min(0.15, hints.history_tokens / 100_000), f"carries {hints.history_tokens} tokens of history"
