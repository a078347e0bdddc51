"""The simulated dispatcher: no threads, no clock. A seeded scheduler picks who is next; time is virtual.

The very same actors run here as on threads. With the same seed and the same inputs the same turns happen in the same
order. Time is kept in integer microseconds and moves only when nothing is left to do at the present instant, or as a
simulated processor works.

A :class:`~actors.fault_plan.FaultPlan` crashes, stalls and loses actors and delays their timers. With ``wire`` every
message that an actor sends is written as bytes and read again, as if the receiver were on another machine: a message
that cannot be is the failure of its sender's turn.
"""

from __future__ import annotations

from collections import deque
from heapq import heappop, heappush
from random import Random
from typing import TYPE_CHECKING, Any

from actors.base import unwrap
from actors.dispatcher import finish, open_mailbox
from actors.fault_plan import Crash, Faults, Lose, Stall, crash, reaches_handler
from actors.trace import line
from protocol.codec import decode, encode
from protocol.errors import ErrorKind
from protocol.signals import ChildFailed, Control, Local, Stop

if TYPE_CHECKING:
    from collections.abc import Callable

    import pykka

    from actors.base import Actor, Timed
    from actors.directory import ActorSpec, Directory
    from actors.fault_plan import Fault, FaultPlan
    from actors.mailbox import Mailbox

MICROS = 1_000_000
EPOCH = 1_700_000_000.0
"""Where the simulated wall clock starts, in seconds since the epoch."""
MANY_TURNS = 1_000_000


class SimulatedDispatcher:
    """Executes actors in the caller's thread. ``seed=None`` delivers in the order of sending.

    *trace* gets one line for each message that is delivered, before it is handled (``actors/trace.py``). *cost* gives
    the microseconds that the one simulated processor needs for a turn: then time passes in every turn, and timers come
    due while mail waits. Without it a turn takes no time, and a timer waits until all mail is handled.
    """

    def __init__(
        self,
        seed: int | None = 0,
        *,
        faults: FaultPlan | None = None,
        wire: bool = False,
        trace: Callable[[bytes], object] | None = None,
        cost: Callable[[Mailbox, Any], int] | None = None,
    ) -> None:
        self.micros = 0
        self.turns = 0
        self._random = None if seed is None else Random(seed)  # noqa: S311 (reproducible, no secret)
        self._tokens: deque[Mailbox] | list[Mailbox]
        if seed is None:
            ready: deque[Mailbox] = deque()
            self._tokens = ready
            self._pick: Callable[[], Mailbox] = ready.popleft
        else:
            self._tokens, self._pick = [], self._draw
        self._heap: list[tuple[int, int, Mailbox, Timed | None]] = []
        self._sequence = 0
        self._faults = None if faults is None else Faults(faults)
        self._stalled: dict[Mailbox, int] = {}  # the wake tokens that each of them is owed when it goes on
        self._wire = wire
        self._trace = trace
        self._cost = cost

    def spawn(self, spec: ActorSpec, directory: Directory) -> pykka.ActorRef[Actor]:
        """Make the actor of *spec*."""
        return open_mailbox(spec, directory, self, self._tokens.append)

    def schedule(self, mailbox: Mailbox, seconds: float, timed: Timed) -> None:
        """Set a timer in virtual time."""
        if self._faults is not None:
            seconds += self._faults.on_timer(mailbox.address)
        self._set(mailbox, seconds, timed)

    def retire(self, mailbox: Mailbox) -> None:
        """Do nothing: no thread belongs to an actor."""

    def now(self) -> float:
        """Return virtual seconds."""
        return self.micros / MICROS

    def wall(self) -> float:
        """Return virtual seconds since the epoch."""
        return EPOCH + self.micros / MICROS

    def across(self, message: Any) -> Any:
        """Return *message* as its receiver gets it: as it is, or with ``wire`` written as bytes and read again.

        Raises ``protocol.codec.NotCodable``. What never leaves its process is not touched.
        """
        if not self._wire or isinstance(message, Local) or unwrap(message)[0] is not message:
            return message
        return decode(encode(message), type(message))

    @property
    def fired(self) -> tuple[Fault, ...]:
        """The faults of the plan that have struck so far, in order."""
        return () if self._faults is None else tuple(self._faults.fired)

    # --- what a test or a simulation drives

    def step(self) -> bool:
        """Execute one turn; return False when no message waits."""
        if self._cost is not None and self._heap and self._heap[0][0] <= self.micros:
            self._fire_due()
        while self._tokens:
            mailbox = self._pick()
            if self._stalled and mailbox in self._stalled:
                self._stalled[mailbox] += 1
                continue
            try:
                item = mailbox.verdict() if mailbox.actor is None or mailbox.suspended else mailbox.take()
            except (IndexError, AttributeError):  # nothing to deliver, now or ever
                continue
            fault = None if self._faults is None else self._strike(self._faults, mailbox, item)
            if isinstance(fault, Stall):
                self._stall(mailbox, item, fault)
                continue
            self._turn(mailbox, item, fault)
            return True
        return False

    def settle(self, *, turns: int = MANY_TURNS) -> int:
        """Execute until no message waits, without moving time; return the turns.

        Raises ``RuntimeError`` past *turns*.
        """
        start = self.turns
        while self.step():
            if self.turns - start > turns:
                raise RuntimeError(
                    f"no end after {turns} messages at {self.now():.6f} s: do two actors answer each other for ever?"
                )
        return self.turns - start

    def next_timer(self) -> float | None:
        """Return when the next live timer fires, in virtual seconds."""
        while self._heap and not self._live(self._heap[0][2], self._heap[0][3]):
            heappop(self._heap)
        return self._heap[0][0] / MICROS if self._heap else None

    def advance(self, seconds: float) -> None:
        """Let *seconds* pass, firing timers in order and settling after each."""
        self.settle()
        end = self.micros + round(seconds * MICROS)
        while (due := self.next_timer()) is not None and round(due * MICROS) <= end:
            self._fire()
        self.micros = max(self.micros, end)

    def work(self, turns: int) -> bool:
        """Execute up to *turns* turns and skip idle time between them; return False when nothing is left to do."""
        end = self.turns + turns
        while self.turns < end:
            if self.step():
                continue
            if self.next_timer() is None:
                return False
            self._ring()
        return True

    def run(self, *, until: float = float("inf")) -> None:
        """Settle and skip idle time until no timer is left, or virtual time would pass *until* seconds."""
        self.settle()
        while (due := self.next_timer()) is not None and due <= until:
            self._fire()

    # --- inside

    def _draw(self) -> Mailbox:
        tokens = self._tokens
        assert self._random is not None
        index = int(self._random.random() * len(tokens))
        tokens[index], tokens[-1] = tokens[-1], tokens[index]
        return tokens.pop()

    def _turn(self, mailbox: Mailbox, item: Any, fault: Crash | Lose | None) -> None:
        actor = mailbox.actor
        assert actor is not None
        self.turns += 1
        if self._trace is not None:
            self._trace(line(self.micros, mailbox.address, item))
        failure = None
        try:
            if fault is None:
                actor.execute(item)
            else:
                crash(actor, item, fault)
            if self._wire:
                actor.rewrite(self.across)
        except BaseException as error:  # noqa: BLE001 (as on threads: one actor's SystemExit is that actor's failure)
            failure = error
        if self._cost is not None:
            self.micros += self._cost(mailbox, item)
        if isinstance(fault, Lose):
            self._lose(mailbox, f"lost for good: {failure}")
        finish(actor, item, failure)

    def _live(self, mailbox: Mailbox, timed: Timed | None) -> bool:
        return timed is None or (mailbox.actor is not None and mailbox.actor.wants(timed))

    def _fire(self) -> None:
        self._ring()
        self.settle()

    def _ring(self) -> None:
        due, _, mailbox, timed = heappop(self._heap)
        self.micros = max(self.micros, due)
        self._put(mailbox, timed)

    def _fire_due(self) -> None:
        while self._heap and self._heap[0][0] <= self.micros:
            _, _, mailbox, timed = heappop(self._heap)
            if self._live(mailbox, timed):
                self._put(mailbox, timed)

    def _put(self, mailbox: Mailbox, timed: Timed | None) -> None:
        if timed is None:
            self._tokens.extend([mailbox] * self._stalled.pop(mailbox))
        else:
            mailbox.put(timed)

    def _set(self, mailbox: Mailbox, seconds: float, timed: Timed | None) -> None:
        self._sequence += 1
        heappush(self._heap, (self.micros + max(0, round(seconds * MICROS)), self._sequence, mailbox, timed))

    # --- faults

    @staticmethod
    def _strike(faults: Faults, mailbox: Mailbox, item: Any) -> Crash | Stall | Lose | None:
        actor = mailbox.actor
        assert actor is not None
        return faults.on_message(mailbox.address) if reaches_handler(actor, item) else None

    def _stall(self, mailbox: Mailbox, item: Any, fault: Stall) -> None:
        """Put *item* back where it was taken from, and deliver nothing here until the stall is over."""
        (mailbox.control if isinstance(item, Control) else mailbox.data).appendleft(item)  # type: ignore[union-attr]
        self._stalled[mailbox] = 1
        self._set(mailbox, fault.seconds, None)

    @staticmethod
    def _lose(mailbox: Mailbox, reason: str) -> None:
        """Give the actor up before anybody else judges its failure, as its supervisor does in the end."""
        mailbox.put(Stop(reason=reason))
        spec, directory = mailbox.spec, mailbox.directory
        if spec is not None and spec.vital and directory is not None:
            directory.collapse(ChildFailed(address=mailbox.address, kind=ErrorKind.INTERNAL, error=reason))
