"""What the players of a scenario do, as data: drawn from a seed, carried in messages, performed by ``players.py``."""

from __future__ import annotations

from random import Random  # noqa: TC003 (msgspec reads the annotations of this module)

from msgspec import Struct

FOR_EVER = 100_000.0
"""Virtual seconds that no scenario lives to see: whoever pauses so long has to be cancelled."""
SURE = (3.0, 8.0)
"""Between these many seconds lies a timeout that is certain to pass, since what it waits for takes for ever."""


class Do(Struct, frozen=True, omit_defaults=True):
    """One thing to do. *label* is its nonce: nothing else in its scenario has it.

    ``seq`` and ``gather`` and ``fast`` (a gather that cancels at the first error) do their *parts*; ``try`` does them
    and puts a failure into words. ``ask`` has the role *to* do the parts, within *seconds*; ``chat`` and ``typed`` talk
    to the model; ``call`` and ``boom`` run a blocking function; ``pause`` waits; ``dice`` rolls; ``raise`` fails the
    task; ``unwell`` raises what the agent restarts on.
    """

    kind: str
    label: str = ""
    to: str = ""
    seconds: float | None = None
    parts: tuple[Do, ...] = ()


class Author:
    """Writes programs of at most *budget* things to do, for the roles that there are.

    A *strict* program ends the same in every order of events; a loose one may hang on who is quicker.
    """

    def __init__(self, dice: Random, roles: tuple[str, ...], *, strict: bool, budget: int) -> None:
        self._dice = dice
        self.roles = roles
        self._strict = strict
        self._left = budget

    def program(self, label: str, *, agent: bool = False, depth: int = 0) -> Do:
        """Return what a workflow, or an agent, does: one to three things, one after the other."""
        count = 1 + int(self._dice.random() * 2.5)
        return Do("seq", label, parts=tuple(self._thing(f"{label}.{n}", agent, depth) for n in range(count)))

    def _thing(self, label: str, agent: bool, depth: int) -> Do:  # noqa: FBT001 (one function in two moods)
        dice = self._dice
        self._left -= 1
        kinds = _AGENT if agent else _WORKFLOW
        if self._left <= 0 or depth > 3:
            kinds = _SMALL_AGENT if agent else _SMALL_WORKFLOW
        kind = dice.choices(*kinds)[0]
        if kind in {"fast", "unwell"} and self._strict:
            kind = "gather" if kind == "fast" else "raise"
        done = self._compose(kind, label, agent, depth)
        return Do("try", label, parts=(done,)) if dice.random() < 0.6 else done

    def _compose(self, kind: str, label: str, agent: bool, depth: int) -> Do:  # noqa: FBT001
        dice = self._dice
        if kind in {"gather", "fast"}:
            count = 2 + int(dice.random() * 2.0)
            return Do(kind, label, parts=tuple(self._thing(f"{label}.{n}", agent, depth + 1) for n in range(count)))
        if kind == "ask":
            return self._ask(label, depth)
        if kind == "pause":
            return Do(kind, label, seconds=round(dice.random() * 3.0, 2))
        return Do(kind, label)

    def _ask(self, label: str, depth: int) -> Do:
        dice = self._dice
        to = "nobody" if dice.random() < 0.02 else dice.choice(self.roles)
        roll = dice.random()
        if roll < 0.06:  # a timeout that is certain to pass
            seconds = round(SURE[0] + dice.random() * (SURE[1] - SURE[0]), 2)
            waits = Do("seq", label, parts=(Do("pause", f"{label}.0", seconds=FOR_EVER),))
            return Do("ask", label, to=to, seconds=seconds, parts=(waits,))
        asked = self.program(label, agent=True, depth=depth + 1)
        if roll < 0.3:
            asked_within = 3000.0 if self._strict else round(dice.random() ** 2 * 20.0, 2)
            return Do("ask", label, to=to, seconds=asked_within, parts=(asked,))
        return Do("ask", label, to=to, parts=(asked,))


_WORKFLOW = (("ask", "gather", "fast", "call", "boom", "pause", "dice", "raise"), (60, 20, 4, 8, 2, 8, 4, 2))
_SMALL_WORKFLOW = (("call", "pause", "dice"), (2, 2, 1))
_AGENT = (
    ("chat", "typed", "ask", "gather", "fast", "call", "boom", "pause", "dice", "raise", "unwell"),
    (50, 10, 10, 9, 2, 8, 2, 7, 3, 3, 2),
)
_SMALL_AGENT = (("chat", "call", "pause"), (8, 1, 1))
