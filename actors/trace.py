"""The trace of a simulation: one line of JSON for each delivered message, the same on any machine.

``[microseconds, receiver, type, content]``. Nothing in it depends on the process that wrote it: dicts and sets are
sorted, a function or a factory stands with its type alone, the traceback of a failure, which names files of this
machine, is left out, and so is where in memory an object lies.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec
from msgspec.structs import replace

from actors.base import Timed, unwrap
from protocol.codec import whole
from protocol.signals import ChildFailed

IN_MEMORY = re.compile(rb" at 0x[0-9a-fA-F]+")


def line(micros: int, receiver: str, item: Any) -> bytes:
    """Return the line, with its end, of *item* as *receiver* gets it at virtual time *micros*."""
    message, _ = unwrap(item)
    name = type(message).__name__
    if isinstance(item, Timed):
        name = f"{name} timer {item.key}"
    if isinstance(message, ChildFailed):
        message = replace(message, traceback="")
    try:
        text = _encode([micros, receiver, name, whole(message)])
    except (TypeError, ValueError, OverflowError, RecursionError) as error:  # a text that is none, a dict with odd keys
        text = _encode([micros, ascii(receiver), ascii(name), f"<{type(error).__name__}>"])
    return IN_MEMORY.sub(b" at 0x", text + b"\n") if b" at 0x" in text else text + b"\n"


def _by_type(value: Any) -> str:
    return f"<{type(value).__name__}>"


_encode = msgspec.json.Encoder(order="deterministic", enc_hook=_by_type).encode
