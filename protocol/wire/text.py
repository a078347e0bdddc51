"""Text from outside, made safe: JSON read with patience, broken characters mended, secrets taken out.

Nothing here raises, whatever the bytes are.
"""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec

LONGEST_LINE = 300
"""How many characters of a provider's message are kept."""

_READ = 4000
_SECRETS = (
    (re.compile(r"(bearer|basic) +[^\s\"',;]+", re.IGNORECASE), r"\1 ***"),
    (re.compile(r"(?<![A-Za-z])(sk|gsk|pk|rk|hs|xai|hf|nvapi)([-_])[^\s\"',;]+"), r"\1\2***"),
    (re.compile(r"AIza[\w-]+"), "AIza***"),
    (re.compile(r"(api[-_ ]?key(?: provided)?\"?\s?[:=]\s?\"?)[^\s\"',;]+", re.IGNORECASE), r"\1***"),
)


def read_json(body: bytes) -> Any:
    """Return the document in *body*, or None when it holds none.

    Takes what strict JSON refuses and servers send: a byte order mark, blank lines first, NaN, lone surrogates, bytes
    that are not UTF-8. Nesting beyond Python's recursion limit counts as no document.
    """
    try:
        return msgspec.json.decode(body)
    except (ValueError, RecursionError):
        pass
    try:
        return json.loads(body.decode("utf-8-sig", "replace"))
    except (ValueError, RecursionError):
        return None


def mended(text: str) -> str:
    """Return *text* with surrogate pairs joined and lone surrogates replaced, so that it can be encoded as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def scrubbed(text: str) -> str:
    """Return *text* without what looks like an API key."""
    for pattern, mask in _SECRETS:
        text = pattern.sub(mask, text)
    return text


def one_line(text: str, longest: int = LONGEST_LINE) -> str:
    """Return the first *longest* printable characters of *text* on one line, without secrets."""
    visible = "".join(filter(_is_visible, mended(text[:_READ])))
    return scrubbed(" ".join(visible.split()))[:longest]


def _is_visible(character: str) -> bool:
    """Tell what is shown or parts words; the rest is taken out without a gap, so that it cannot cut a key in two."""
    return character.isprintable() or (character.isspace() and not "\x1c" <= character <= "\x1f")


def word(value: object) -> str:
    """Return a code, type or name as text: codes come as words, numbers and null."""
    if isinstance(value, str):
        return one_line(value, 100)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**9:
        return str(value)
    return ""
