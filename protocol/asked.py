"""What a task asks: without what is pasted into it, and without the story around one small request.

A long report with a small question is small. So what is code, log, quotation or data goes, what stands after a request
as its material goes, and of a text that tells a story and asks for one small thing only the asking is left.
"""

from __future__ import annotations

import re
from typing import Final

from protocol.words import marks_of

MOST_READ: Final = 4000
"""Characters of a task that are looked at before what is pasted is cut out."""
MOST_ASKED: Final = 1000
"""Characters of the request that are scored; of a longer one the end counts as well, where its question stands."""
MANY: Final = 4
"""Commas and ands in a sentence that asks for more than one small thing."""
MATERIAL: Final = 30
"""Words after the first paragraph that may be material; fewer belong to the request."""

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
    r"(?:(?:please|kindly|bitte|can you|could you|kannst du|können sie"
    r"|i need you to|we need to|come up with)\s{1,9}){0,3}",
    re.IGNORECASE,
)
_WORD: Final = re.compile(r"\w+")
_ITEM: Final = re.compile(r"^[ \t]{0,12}(?:[-*\u2022]|\d{1,2}[.)])[ \t]{1,4}\S", re.MULTILINE)
_BETWEEN: Final = re.compile(r"[,;]|\b(?:and|und|sowie)\b", re.IGNORECASE)
_SENTENCE: Final = re.compile(r"(?<=[.!?:])\s+|\n+")


def asked(task: str) -> str:
    """Return what *task* asks, in its own words."""
    text = task[:MOST_READ]
    pointing = _POINTING.search(text[:400])
    if pointing is not None and "?" not in task[-200:]:
        text = text[: pointing.end()]
    elif len(task) > MOST_READ:
        text = f"{text}\n{task[-MOST_READ // 5 :]}"
    for pasted in _PASTED:
        text = pasted.sub(" ", text)
    text = _small(_without_material(text.strip()))
    polite = _PLEASE.match(text)
    text = text if polite is None else text[polite.end() :]
    return text if len(text) <= MOST_ASKED else f"{text[: MOST_ASKED - 200]}\n{text[-200:]}"


def items(request: str) -> int:
    """Count the items of a list in *request*."""
    return len(_ITEM.findall(request))


def parts(request: str) -> int:
    """Count what *request* enumerates: the items of a list, or what stands between commas and ands."""
    listed = items(request)
    return listed if listed >= 2 else len(_BETWEEN.findall(request)) + 1 if request else 0


def _without_material(text: str) -> str:
    """Return the first paragraph alone, when it asks for a small thing to be done with all that follows."""
    first, _, rest = text.partition("\n\n")
    if len(_WORD.findall(rest)) < MATERIAL or items(rest) >= 2:
        return text
    return first if any(map(is_small, _sentences(first))) else text


def _small(text: str) -> str:
    """Return what asks for one small thing, when the sentences around it ask for nothing."""
    sentences = _sentences(text)
    if len(sentences) < 2 or items(text) >= 2 or any(map(_is_large, sentences)):
        return text
    small = [sentence for sentence in sentences if is_small(sentence)]
    return " ".join(small) if 1 <= len(small) <= 2 else text


def _sentences(text: str) -> list[str]:
    return [sentence for sentence in map(str.strip, _SENTENCE.split(text)) if sentence]


def is_small(sentence: str) -> bool:
    """Tell whether *sentence* asks for one small deed, or a question."""
    said = _FILLED.sub("", sentence)
    words = _WORD.findall(said.lower())[:30]
    if not words or len(_BETWEEN.findall(said)) >= MANY or _becomes(words):
        return False
    first = marks_of(words[0])
    if "deed" in first or is_question(said) or _LITTLE.search(sentence):
        return True
    return _BITTE.search(sentence) is not None and any("deed" in marks_of(word) for word in words)


def _is_large(sentence: str) -> bool:
    """Tell whether *sentence* asks for something to be built."""
    said = _FILLED.sub("", sentence)
    words = _WORD.findall(said.lower())[:12]
    marks = [marks_of(word) for word in words]
    if not marks:
        return False
    wanted = "make" in marks[0] or _WANTED.match(said) is not None
    built = "project" in marks[0] or (wanted and any("big" in each for each in marks)) or _becomes(words)
    return _is_chain(said) or (built and not is_question(said))


def is_question(said: str) -> bool:
    """Tell whether *said* asks what is so; with "can you" it asks for a deed instead."""
    words = _WORD.findall(said.lower())[:30]
    if not words:
        return False
    asks = said.rstrip().endswith("?")
    first = marks_of(words[0])
    return "asking" in first or (asks and ("verb" in first or any("asking" in marks_of(word) for word in words)))


def _is_chain(said: str) -> bool:
    """Tell whether one sentence asks for three deeds and more: "find it, fix it, write it down and deploy"."""
    acts = sum(not _ACTS.isdisjoint(marks_of(word)) for word in _STARTS.findall(said.lower()))
    return acts >= 3 or len(_ENDS_IN_VERB.findall(said)) >= 3


def _becomes(words: list[str]) -> bool:
    """Tell whether something is to be turned into something large: "turn this sheet into an app"."""
    start = next((place + 1 for place, word in enumerate(words) if word in {"into", "zu"}), len(words))
    return "deed" in marks_of(words[0]) and any("big" in marks_of(word) for word in words[start : start + 4])


_FILLED: Final = re.compile(
    r"\A(?:(?:and|so|anyway|also|now|just|only|then|please|kindly|simply|can you|could you|would you|i need you to"
    r"|we need to|i just need|bitte|einfach|nur|also|dann|kannst du|könntest du|können sie|könnten sie)\b[\s,]*)*",
    re.IGNORECASE,
)
_WANTED: Final = re.compile(
    r"(?:we|i|wir|ich)(?:'d)? (?:need|want|would like|like|are building|brauchen?|wollen|will|möchten?|hätten?)\b",
    re.IGNORECASE,
)
_LITTLE: Final = re.compile(
    r"\b(?:really small|quick (?:question|fix|one)|(?:small|tiny|silly|dumb|stupid) (?:thing|question|fix|change)"
    r"|(?:one|single|ein(?:e|en|em)?)[ -](?:single[ -])?(?:sentence|paragraph|line|word|satz|wort|zeile)"
    r"|(?:kleine|kurze|blöde|dumme) frage|(?:just|only) (?:need|want|tell|give|change)|all (?:i|we) (?:need|want))\b",
    re.IGNORECASE,
)
_ACTS: Final = frozenset({"act", "make", "project", "deed"})
_STARTS: Final = re.compile(r"(?:\A|[,;:] |\band |\bund )(?:and |then |und |dann )?(\w+)")
_ENDS_IN_VERB: Final = re.compile(r"\b[a-zäöüß]{3,20}en(?=[,.]| und )")
_BITTE: Final = re.compile(r"\b(?:bitte|nur|einfach|please)\b", re.IGNORECASE)
