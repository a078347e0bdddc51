"""The sequence of a test: who sent what to whom, and when, kept to be shown when an assertion fails."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from msgspec import Raw, Struct, structs

from protocol.chat import CallFailure, ChatReply
from protocol.messages import AgentMessage, TaskResult
from protocol.signals import Answer, ChatCall, ChatResult, Perform, Performed, RunEnded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from actors.base import Timed

KEPT = 1000
"""How many entries are kept; the oldest go first."""
WIDTH = 60
"""Characters of a message's content that are shown."""
OUTSIDE = "test"
"""Who sends what a test says itself."""

_IDS = ("message_id", "step", "lease", "call", "run", "conversation", "task_id", "address")
_TEXTS = ("content", "text", "task", "result", "event", "reason", "error", "outcome", "message", "key", "value")


class Entry(NamedTuple):
    """One thing that happened at *at* virtual seconds; *note* says what it was beside a message being sent."""

    at: float
    sender: str
    to: str
    message: Any
    note: str = ""

    def told(self) -> str:
        """Return what was said, in a few words."""
        return " ".join(part for part in (self.note, "" if self.message is None else brief(self.message)) if part)


class Sequence:
    """The last messages that were sent, in the order in which they left their senders. Any thread may add."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self.entries: deque[Entry] = deque(maxlen=KEPT)

    def turn(self, sender: str, timers: Iterable[tuple[float, Timed]], sent: Iterable[tuple[Any, Any]]) -> None:
        """Keep what one turn of *sender* sent, and the timers that it set. Fits ``Directory.on_turn``."""
        now = self._now()
        for seconds, timed in timers:
            self.entries.append(Entry(now, sender, sender, timed.message, f"(in {seconds:g} s)"))
        for to, message in sent:
            if isinstance(to, str):
                self.entries.append(Entry(now, sender, to, message))

    def said(self, to: str, message: Any, *, note: str = "", sender: str = OUTSIDE) -> None:
        """Keep one message that no actor's turn sent."""
        self.entries.append(Entry(self._now(), sender, to, message, note))

    def last(self, count: int) -> str:
        """Return the last *count* entries as text, a line each: virtual time, from, to, type, id, content."""
        shown = list(self.entries)[-count:]
        way = max((len(entry.sender) + len(entry.to) for entry in shown), default=0) + 4
        lines = (f"{e.at:12.6f}  {f'{e.sender} -> {e.to}':{way}}  {e.told()}" for e in shown)
        return "\n".join(lines) or "(no message was sent)"


def brief(message: Any) -> str:
    """Name a message in a few words: its type, its id, its content cut short."""
    if isinstance(message, str):
        return shortened(repr(message))
    fields = getattr(message, "__struct_fields__", None)
    if fields is None:
        return shortened(f"{type(message).__name__} {message!r}")
    id_ = next((value for name in _IDS if isinstance(value := getattr(message, name, None), str) and value), "")
    return " ".join(part for part in (type(message).__name__, id_, shortened(_content(message))) if part)


def in_full(message: Any) -> str:
    """Return a message with all it holds, save fields that say nothing; a payload as the JSON that it is."""
    if not isinstance(message, Struct):
        return repr(message)
    parts = []
    for field in structs.fields(message):
        value = getattr(message, field.name)
        if isinstance(value, Raw):
            value = bytes(value).decode(errors="replace")
        if value not in (field.default, "", None, {}, ()):
            parts.append(f"{field.name}={value!r}")
    return f"{type(message).__name__}({', '.join(parts)})"


def shortened(text: str) -> str:
    """Return *text* on one line, cut to what a reader takes in at a glance."""
    line = " ".join(text.split())
    return line if len(line) <= WIDTH else f"{line[:WIDTH]}..."


def _content(message: Any) -> str:
    said: Callable[[Any], str] | None = _CONTENT.get(type(message))
    if said is not None:
        return said(message)
    found = (str(value) for name in _TEXTS if (value := getattr(message, name, None)) is not None)
    return next(found, "")


_CONTENT: dict[type, Callable[[Any], str]] = {
    AgentMessage: lambda message: repr(message.content),
    Answer: lambda answer: _content(answer.payload),
    CallFailure: lambda failure: f"{failure.kind}: {failure.message}",
    ChatCall: lambda call: repr(call.messages[-1].content),
    ChatReply: lambda reply: repr(reply.text),
    ChatResult: lambda result: _content(result.reply or result.failure),
    Perform: lambda perform: repr(perform.request.messages[-1].content),
    Performed: lambda performed: _content(performed.outcome),
    RunEnded: lambda ended: repr(ended.result.output) if ended.result.success else f"failed: {ended.result.error}",
    TaskResult: lambda result: repr(result.result) if result.success else f"{result.error_kind}: {result.error}",
}
