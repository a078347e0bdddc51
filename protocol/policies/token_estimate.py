"""How many tokens a text has, without a tokeniser. Source: the class heuristic measured in wire.md 4.3.

Estimates for o200k lie between 0.86 (Korean) and 1.7 (file paths) of the true count, above 1 for English, code, JSON,
Chinese and base64; the gateway calibrates the rest per model. Every class is one linear pass.
"""

from __future__ import annotations

import math
import re
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from protocol.chat import ChatMessage

PER_MESSAGE = 3
PER_REPLY = 3
FRAME = 16
"""More tokens than any chat template puts around a message, or around all of them."""
LONGEST_REMEMBERED = 4096
"""Characters of the longest text whose estimate is remembered."""

_OPAQUE = re.compile(r"(?<![A-Za-z0-9+/_=-])[A-Za-z0-9+/_=-]{41,}")
_WORD = re.compile(r"[A-Za-z\u00c0-\u024f]+")
_LONG_WORD = re.compile(r"[A-Za-z\u00c0-\u024f]{8,}")
_DIGITS = re.compile(r"[0-9]{1,3}")
_NUMBER = re.compile(r"[0-9]+")
_PUNCTUATION = re.compile(r"[!-/:-@\[-`{-~]+")
_BLANKS = re.compile(r"[ \t\r\n]{9,}")
_CJK = re.compile(
    r"[\u1100-\u11ff\u3000-\u30ff\u3130-\u318f\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef]+"
)
_CYRILLIC = re.compile(r"[\u0400-\u052f]+")
_INDIC_ARABIC = re.compile(r"[\u0590-\u0dff]+")
_OTHER = re.compile(
    r"[^\x00-\x7f\u00c0-\u024f\u0400-\u052f\u0590-\u0dff\u1100-\u11ff\u3000-\u30ff\u3130-\u318f\u3400-\u4dbf\u4e00-\u9fff"
    r"\uac00-\ud7af\uf900-\ufaff\uff00-\uffef]+"
)


def estimate(text: str) -> int:
    """Return about how many tokens *text* has; 0 only for the empty text. Prompts that come again are remembered."""
    return _remembered(text) if len(text) <= LONGEST_REMEMBERED else _estimate(text)


def _estimate(text: str) -> int:
    if not text:
        return 0
    opaque = [run for run in _OPAQUE.findall(text) if _is_opaque(run)]
    if opaque:
        text = _OPAQUE.sub(lambda run: " " if _is_opaque(run[0]) else run[0], text)
    count = sum(map(len, opaque)) / 1.55 + _latin(text)
    if not text.isascii():
        count += _beyond_latin(text)
    return max(math.ceil(count), 1)


_remembered = lru_cache(maxsize=512)(_estimate)


def estimate_messages(messages: Iterable[ChatMessage]) -> int:
    """Return about how many input tokens a call with *messages* has, with what frames each message and the reply."""
    return PER_REPLY + sum(estimate(message.content) + PER_MESSAGE for message in messages)


def bound_messages(messages: Iterable[ChatMessage]) -> int:
    """Return more input tokens than a call with *messages* can have: no tokeniser makes more tokens than bytes."""
    return FRAME + sum(len(message.content.encode("utf-8", "surrogatepass")) + FRAME for message in messages)


def _is_opaque(run: str) -> bool:
    """Tell base64, hex and ids from long names: more than 12 % of the neighbours switch between digit and other."""
    switches = 2 * len(_NUMBER.findall(run)) - run[0].isdigit() - run[-1].isdigit()
    return switches > 0.12 * (len(run) - 1)


def _latin(text: str) -> float:
    words, long_words = len(_WORD.findall(text)), _LONG_WORD.findall(text)
    marks, blanks = _PUNCTUATION.findall(text), _BLANKS.findall(text)
    return (
        words
        + (_length(long_words) - 7 * len(long_words)) / 4
        + len(_DIGITS.findall(text))
        + 0.55 * len(marks)
        + 0.45 * _length(marks)
        + len(blanks)
        + _length(blanks) / 80
    )


def _beyond_latin(text: str) -> float:
    return (
        0.72 * _length(_CJK.findall(text))
        + _length(_CYRILLIC.findall(text)) / 3.5
        + _length(_INDIC_ARABIC.findall(text)) / 2.2
        + len("".join(_OTHER.findall(text)).encode("utf-8", "surrogatepass")) / 2.2
    )


def _length(runs: list[str]) -> int:
    return len("".join(runs))
