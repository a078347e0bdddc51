"""How a team's drafts become one text."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})", re.MULTILINE)


def compose(drafts: Sequence[tuple[str, str]]) -> str:
    """Return *drafts*, pairs of a subtask and its text, as one text, each under its subtask; a single one stands alone.

    A block of code that was cut in its middle is closed, since it would swallow what follows.
    """
    if len(drafts) == 1:
        return drafts[0][1]
    parts = ((subtask, closed(text).strip("\n")) for subtask, text in drafts)
    return "\n\n".join(f"## {subtask}\n\n{text}" for subtask, text in parts)


def closed(text: str) -> str:
    """Return *text* with the end of a block of code that is still open."""
    fence = ""
    if "```" not in text and "~~~" not in text:
        return text
    for found in _FENCE.finditer(text):
        if not fence:
            fence = found[1]
        elif found[1].startswith(fence):
            fence = ""
    return f"{text.rstrip()}\n{fence}" if fence else text
