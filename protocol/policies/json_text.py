"""Find the JSON in what a model wrote around it.

The text is tried at each bracket; a failed try consumes what it has read, so the whole is linear. Brackets and fences
inside JSON strings are part of the string.
"""

from __future__ import annotations

import json
import re
from typing import NoReturn

_BEHIND = 1024
"""How many characters may lie behind a try: a ``JSONDecodeError`` counts the lines of them all each time."""

_OPENING = re.compile(r"[{\[]")
_CONSTANT = re.compile(r"NaN|Infinity")


class _NotJsonError(ValueError):
    """Python's reader met a word that JSON does not have."""


def extract_json(text: str) -> str | None:
    """Return the first JSON object or array in *text*, exactly as it stands there, or None.

    Prose, code fences and brackets that are no JSON are passed over. A document that breaks off is not repaired.
    Nesting beyond Python's recursion limit counts as none.
    """
    opening = _OPENING.search(text)
    while opening is not None:
        start = opening.start()
        if start > _BEHIND:
            text, start = text[start:], 0
        try:
            _, end = _READER.raw_decode(text, start)
        except json.JSONDecodeError as error:
            end = max(error.pos, start + 1)
        except _NotJsonError:
            constant = _CONSTANT.search(text, start)
            end = constant.end() if constant else start + 1
        except RecursionError:
            return None
        else:
            return text[start:end]
        opening = _OPENING.search(text, end)
    return None


def _refuse(constant: str) -> NoReturn:
    raise _NotJsonError(constant)


_READER = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=_refuse)
