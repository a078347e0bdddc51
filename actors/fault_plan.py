"""What goes wrong in a simulation, as a value: it can be printed, replayed, drawn from a seed, and made shorter.

Messages are counted by address, over all instances that play there: what reaches ``on_receive``, live timers among it,
never the beginning, restart or stop of an instance, which run no handler of a user's.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Annotated, Any, Self

import msgspec
from msgspec import Meta, Struct

from actors.base import Timed, is_stop, unwrap
from actors.mailbox import Begin, Leave
from protocol.signals import Restart, Stop

if TYPE_CHECKING:
    from collections.abc import Sequence

    from actors.base import Actor

Number = Annotated[int, Meta(ge=1)]
Seconds = Annotated[float, Meta(ge=0.0, le=1e9)]


class Crash(Struct, frozen=True, tag="crash", forbid_unknown_fields=True):
    """The handler of *address* raises at its message number *at*, after it has done everything else.

    After, not instead: what it changed in place is then changed and nothing that it sent leaves, which is the worst
    that a handler that raises can do. Its supervisor decides what follows.
    """

    address: str
    at: Number


class Stall(Struct, frozen=True, tag="stall", forbid_unknown_fields=True):
    """From its message number *at* on, *address* does nothing for so many virtual *seconds*.

    That message waits, and all behind it, urgent ones too. Their order is kept.
    """

    address: str
    at: Number
    seconds: Seconds


class Lose(Struct, frozen=True, tag="lose", forbid_unknown_fields=True):
    """*address* crashes at its message number *at* and is given up at once, as after its last restart.

    Its closing hooks run, its mail becomes dead letters, nobody plays there again; without a vital actor the system
    has collapsed.
    """

    address: str
    at: Number


class Delay(Struct, frozen=True, tag="delay", forbid_unknown_fields=True):
    """The timer that *address* sets as number *at* fires so many virtual *seconds* later than it was set for."""

    address: str
    at: Number
    seconds: Seconds


Fault = Crash | Stall | Lose | Delay


class FaultPlan(Struct, frozen=True, forbid_unknown_fields=True):
    """The faults of one simulation. Those whose moment never comes do nothing."""

    faults: tuple[Fault, ...] = ()

    def encode(self) -> str:
        """Return the plan as one line of JSON, for :meth:`decode`."""
        return _encode(self).decode()

    @classmethod
    def decode(cls, text: str) -> FaultPlan:
        """Return the plan that *text* holds. Raises ``ValueError`` that names what is wrong."""
        return _decode(text)

    @classmethod
    def drawn(
        cls,
        seed: int,
        addresses: Sequence[str],
        *,
        mortal: Sequence[str] = (),
        most: int = 4,
        messages: int = 40,
        seconds: float = 10.0,
    ) -> Self:
        """Return 1 to *most* faults among *addresses*, drawn by *seed*: the same on any machine.

        Each strikes at one of the first *messages* messages or timers of its address, for at most *seconds* where it
        takes time. Only the *mortal* addresses are ever lost.
        """
        dice = Random(seed)  # noqa: S311 (reproducible, no secret)

        def below(bound: int) -> int:
            return int(dice.random() * bound)

        def fault() -> Fault:
            kind = (Crash, Stall, Delay, Lose)[below(4 if mortal else 3)]
            places = mortal if kind is Lose else addresses
            address, at = places[below(len(places))], 1 + below(messages)
            late = round(dice.random() * seconds, 3)
            if kind is Stall:
                return Stall(address, at, late)
            if kind is Delay:
                return Delay(address, at, late)
            return Lose(address, at) if kind is Lose else Crash(address, at)

        return cls(tuple(fault() for _ in range(1 + below(most))))

    def without(self, number: int) -> FaultPlan:
        """Return the plan without its fault *number* (from 0), to see whether it is needed."""
        return FaultPlan((*self.faults[:number], *self.faults[number + 1 :]))


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(FaultPlan).decode


class Crashed(Exception):  # noqa: N818 (what has happened, as Pykka's own names)
    """The fault plan made this handler raise."""


class Faults:
    """A plan under way: what has been counted so far, and which faults are still to come."""

    def __init__(self, plan: FaultPlan) -> None:
        self.fired: list[Fault] = []
        self._messages: dict[str, int] = {}
        self._timers: dict[str, int] = {}
        self._strikes: dict[tuple[str, int], list[Crash | Stall | Lose]] = {}
        self._delays: dict[tuple[str, int], list[Delay]] = {}
        stalls_first = sorted(plan.faults, key=lambda fault: not isinstance(fault, Stall))  # then the same may crash
        for fault in stalls_first:
            if isinstance(fault, Delay):
                self._delays.setdefault((fault.address, fault.at), []).append(fault)
            else:
                self._strikes.setdefault((fault.address, fault.at), []).append(fault)

    def on_message(self, address: str) -> Crash | Stall | Lose | None:
        """Return what happens at the next message of *address* and count it; a stall lets it come again uncounted."""
        number = self._messages.get(address, 0) + 1
        waiting = self._strikes.get((address, number))
        fault = waiting.pop(0) if waiting else None
        if fault is not None:
            self.fired.append(fault)
        if not isinstance(fault, Stall):
            self._messages[address] = number
        return fault

    def on_timer(self, address: str) -> float:
        """Count a timer that *address* sets and return the seconds it is late."""
        number = self._timers[address] = self._timers.get(address, 0) + 1
        late = self._delays.pop((address, number), [])
        self.fired += late
        return sum(fault.seconds for fault in late)


def reaches_handler(actor: Actor, item: Any) -> bool:
    """Tell whether *item* will run the handler of *actor*, and so counts as a message."""
    if isinstance(item, Timed):
        return actor.wants(item)
    return not (isinstance(item, (Begin, Restart, Stop, Leave)) or is_stop(unwrap(item)[0]))


def crash(actor: Actor, item: Any, fault: Crash | Lose) -> None:
    """Let *actor* handle *item* and raise at the end of it, in one turn. Always raises."""
    handle = actor.on_receive

    def crashing(message: Any) -> Any:
        handle(message)
        raise Crashed(f"message {fault.at} of {fault.address}, by the fault plan")

    own = vars(actor).get("on_receive")
    vars(actor)["on_receive"] = crashing
    try:
        actor.execute(item)
    finally:
        del vars(actor)["on_receive"]
        if own is not None:
            vars(actor)["on_receive"] = own
