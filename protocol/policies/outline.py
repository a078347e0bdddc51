"""The tasks in a plain text plan: the items of its list.

A list is numbered when any of its outermost items is; bullets below a number then belong to that number, and bullets
elsewhere are prose. Indented items and continuation lines belong to the item above. Headings, and prose after a blank
line, end an item.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_NUMBERED = re.compile(
    r"(?:[*_]{2})?(?:(?:sub)?(?:step|task|schritt|aufgabe|teilaufgabe|phase) ?[0-9]{1,3}(?:[.):]| [-\u2013])[ *]"
    r"|[(]?[0-9]{1,3}[.):][*_]{0,2} |[0-9]{1,3}[\u3001\uff0e]|[A-Za-z][)] )",
    re.IGNORECASE,
)
_BULLET = re.compile(r"[-*+\u2022\u2013\u2023\u25aa\u25e6] ")
_CHECKBOX = re.compile(r"\[[ xX]?\] ")
_HEADING = re.compile(r"#{1,6} |(?:\*\*|__)[^*]{1,200}(?:\*\*:?|__:?)$|[-=*_ ]{3,}$|\|")
_FENCE = ("```", "~~~")
_NESTED = 2


class _Line(NamedTuple):
    indent: int
    text: str
    kind: str  # "numbered", "bullet", "text", "heading", "blank", "code"


def items(text: str) -> tuple[str, ...]:
    """Return the items of the list in *text*, without markers, each with its sub-items; () when there is no list.

    An item of several lines keeps its line breaks. Of items that say the same the first stays.
    """
    lines = _lines(text)
    marked = [line for line in lines if line.kind in {"numbered", "bullet"}]
    if not marked:
        return ()
    outermost = min(line.indent for line in marked) + _NESTED
    numbered = any(line.kind == "numbered" for line in marked if line.indent < outermost)
    return _distinct(_collected(lines, "numbered" if numbered else "bullet", outermost))


def _lines(text: str) -> list[_Line]:
    """Sort the lines by kind. In a code fence stands code once an item has begun, and text as any other before."""
    lines: list[_Line] = []
    fenced = begun = False
    for raw in text.splitlines():
        line = raw.expandtabs(4).rstrip()
        stripped = line.lstrip()
        indent = len(line) - len(stripped)
        if stripped.startswith(_FENCE):
            fenced = begun and not fenced
            if begun:
                lines.append(_Line(indent, stripped, "code"))
            continue
        kind = "code" if fenced else _kind(stripped)
        begun = begun or kind in {"numbered", "bullet"}
        lines.append(_Line(indent, line if fenced else stripped, kind))
    return lines


def _kind(line: str) -> str:
    if not line:
        return "blank"
    if _NUMBERED.match(line) and _says_something(line):
        return "numbered"
    if _HEADING.match(line):
        return "heading"
    if _BULLET.match(line) and _says_something(line):
        return "bullet"
    return "text"


def _collected(lines: list[_Line], kind: str, outermost: int) -> list[str]:
    """Walk down the lines and give each to the item it belongs to."""
    found: list[list[str]] = []
    open_, after_blank = False, False
    for line in lines:
        if line.kind == kind and line.indent < outermost:
            found.append([_content(line.text)])
            open_ = True
        elif line.indent < outermost and (line.kind == "heading" or (line.kind == "text" and after_blank)):
            open_ = False
        elif open_ and line.kind != "blank":
            found[-1].append(line.text)
        after_blank = line.kind == "blank"
    return ["\n".join(parts).strip() for parts in found]


def _content(line: str) -> str:
    """Return a marked line without its marker, and without the half of a bold pair that went with it."""
    marker = _NUMBERED.match(line) or _BULLET.match(line)
    rest = line[marker.end() :].strip() if marker else line
    box = _CHECKBOX.match(rest)
    rest = rest[box.end() :].strip() if box else rest
    if line.startswith(("**", "__")) and rest.count(line[:2]) % 2:
        rest = rest.replace(line[:2], "", 1)
    return rest.strip()


def _says_something(line: str) -> bool:
    return any(map(str.isalnum, _content(line)))


def _distinct(found: list[str]) -> tuple[str, ...]:
    distinct: dict[str, str] = {}
    for item in found:
        distinct.setdefault(" ".join(item.casefold().split()), item)
    return tuple(distinct.values())
