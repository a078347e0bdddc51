"""What comes out of the sandbox by the runner's own pipe, read with distrust. Partner: ``runtime/sandbox_runner.py``.

The first line was written before any code of the draft ran, so it is the runner's. What follows may be anybody's, up
to the secret: only the runner can write that, and what it vouches for follows it with its length in front.
"""

from __future__ import annotations

import re
from typing import NamedTuple

READY = b"+"
_BEGIN = re.compile(rb"^begin (.{1,300})$", re.MULTILINE)
_HEAD = re.compile(rb"[0-9a-f]{8}")

Entries = tuple[tuple[str, ...], ...]


class Heard(NamedTuple):
    """What the pipe brought: what was seen before, what is vouched for (None: nothing), what was begun last."""

    look: Entries | None
    proof: Entries | None
    begun: str


def hear(data: bytes, secret: bytes) -> Heard:
    """Read all that came through the pipe of the run that was given *secret*."""
    first, newline, rest = data.removeprefix(READY).partition(b"\n")
    if not newline:
        return Heard(None, None, "")
    before, found, after = rest.partition(secret)
    begun = _BEGIN.findall(before)
    return Heard(
        _entries(first),
        _vouched(after) if found else None,
        begun[-1].decode(errors="replace") if begun else "",
    )


def _vouched(after: bytes) -> Entries | None:
    head = _HEAD.match(after)
    if head is None:
        return None
    body = after[head.end() :][: int(head[0], 16)]
    return _entries(body) if len(body) == int(head[0], 16) else None


def _entries(text: bytes) -> Entries | None:
    entries = tuple(tuple(entry.split("\x1f")) for entry in text.decode(errors="replace").split("\x1e") if entry)
    return entries if all(len(entry) == 4 for entry in entries) else None
