"""Notices agents that work without getting anywhere, and says how hard to pull them out.

Two questions, both over the graph of what caused what. Of *outputs* of one piece of work, in order: is it the same
again, do two take turns, has nothing become better, was much spent since it last did? Of a *request* and those it lies
inside, all of which wait for it: has the same been asked already, are they nested without an end?

The reactions are graduated: the first signal gives a hint, the next calls for a stronger model, the third ends the work
with the best there is. None of them takes more than the rounds and the money that are allowed anyway.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING, Final

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

MOST_NESTED: Final = 24
"""So many requests inside each other are a recursion without an end."""
MOST_ASKED: Final = 2
"""So often may the same be asked of the same recipient inside itself."""


class Signal(StrEnum):
    """What was noticed."""

    REPEATED = "repeated"
    PING_PONG = "ping_pong"
    PLATEAU = "plateau"
    SPENDING = "spending"


class Reaction(IntEnum):
    """What to do about it, harder and harder."""

    GO_ON = 0
    HINT = 1
    STRONGER = 2
    STOP = 3


class Advice(Struct, frozen=True, gc=False):
    """The reaction, what was noticed (None: nothing), and the hint for the one who works."""

    reaction: Reaction
    signal: Signal | None = None
    hint: str = ""


HINTS: Final = {
    Signal.REPEATED: "Your last draft repeats an earlier one. Do not send it again: take another approach.",
    Signal.PING_PONG: "Your drafts go back and forth between two versions. Decide for one, and mend that.",
    Signal.PLATEAU: "Your last drafts were no better than the ones before. Take another approach.",
    Signal.SPENDING: "Much was spent without a better draft. Mend the most important issue, and nothing else.",
}


class Patience(Struct, frozen=True, kw_only=True):
    """How long to look on: *rounds* without a better score, and *spending* times the cost of the first output."""

    rounds: int = 2
    spending: float = 4.0
    noise: float = 2.5


class Output(Struct, frozen=True, kw_only=True):
    """One output of a piece of work; ``score`` is None when nobody judged it, ``cost`` in any one unit.

    Outputs with different ``mark`` are never the same, however alike their texts are.
    """

    text: str
    mark: str = ""
    score: float | None = None
    cost: float = 0.0


class ProgressGuard:
    """Watches one piece of work. *same* tells whether two texts are the same but for little."""

    def __init__(
        self, same: Callable[[str, str], bool], patience: Patience | None = None, *, stronger: bool = False
    ) -> None:
        self._same = same
        self._patience = patience or Patience()
        self._stronger = stronger
        self._outputs: list[Output] = []
        self._best: float | None = None
        self._idle = 0
        self._wasted = 0.0
        self._level = Reaction.GO_ON

    def on_output(self, output: Output) -> Advice:
        """Look at the next output; the answer is harder each time that something is noticed."""
        signal = self._notice(output)
        self._outputs.append(output)
        if signal is None:
            return Advice(Reaction.GO_ON)
        level = Reaction(min(self._level + 1, Reaction.STOP))
        if level is Reaction.STRONGER and not self._stronger:
            level = Reaction.STOP
        self._level = level
        return Advice(level, signal, HINTS[signal])

    def _notice(self, output: Output) -> Signal | None:
        self._count(output)
        earlier = [output.mark == before.mark and self._same(output.text, before.text) for before in self._outputs]
        if len(earlier) >= 2 and earlier[-2] and not earlier[-1]:
            return Signal.PING_PONG
        if any(earlier):
            return Signal.REPEATED
        if self._idle >= self._patience.rounds:
            return Signal.PLATEAU
        first = self._outputs[0].cost if self._outputs else output.cost
        return Signal.SPENDING if self._wasted > self._patience.spending * first > 0.0 else None

    def _count(self, output: Output) -> None:
        """Book the output as progress or as none; what nobody judged is none, but its rounds are not counted."""
        if output.score is not None and (self._best is None or output.score >= self._best + self._patience.noise):
            self._best, self._idle, self._wasted = output.score, 0, 0.0
            return
        self._idle += output.score is not None
        self._wasted += output.cost


def circles(recipient: str, content: str, above: Iterable[tuple[str, str]]) -> str | None:
    """Return why a request is one of an endless circle, None when it is not.

    *above* are recipient and content of the requests that it lies inside, nearest first: each waits for the next one.
    """
    waiting = list(above)
    if len(waiting) >= MOST_NESTED:
        return f"{len(waiting)} requests are nested in each other: agents ask each other without an end"
    if waiting.count((recipient, content)) >= MOST_ASKED:
        return f"{recipient} was asked the same {MOST_ASKED} times already by what waits for it: agents ask in a circle"
    return None
