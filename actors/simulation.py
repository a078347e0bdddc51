"""The simulated dispatcher: no threads, no clock. A seeded scheduler picks who is next; time is virtual.

The very same actors run here as on threads. With the same seed and the same inputs the same turns happen in the same
order. Time is kept in integer microseconds and moves only when nothing is left to do at the present instant.
"""

from __future__ import annotations

from heapq import heappop, heappush
from random import Random
from typing import TYPE_CHECKING, Any

from actors.dispatcher import finish, open_mailbox

if TYPE_CHECKING:
    import pykka

    from actors.base import Actor, Timed
    from actors.directory import ActorSpec, Directory
    from actors.mailbox import Mailbox

MICROS = 1_000_000
EPOCH = 1_700_000_000.0
"""Where the simulated wall clock starts, in seconds since the epoch."""
MANY_TURNS = 1_000_000


class SimulatedDispatcher:
    """Executes actors in the caller's thread. ``seed=None`` delivers in the order of sending."""

    def __init__(self, seed: int | None = 0) -> None:
        self.micros = 0
        self.turns = 0
        self._random = None if seed is None else Random(seed)  # noqa: S311 (reproducible, no secret)
        self._tokens: list[Mailbox] = []
        self._heap: list[tuple[int, int, Mailbox, Timed]] = []
        self._sequence = 0

    def spawn(self, spec: ActorSpec, directory: Directory) -> pykka.ActorRef[Actor]:
        """Make the actor of *spec*."""
        return open_mailbox(spec, directory, self, self._tokens.append)

    def schedule(self, mailbox: Mailbox, seconds: float, timed: Timed) -> None:
        """Set a timer in virtual time."""
        self._sequence += 1
        heappush(self._heap, (self.micros + max(0, round(seconds * MICROS)), self._sequence, mailbox, timed))

    def retire(self, mailbox: Mailbox) -> None:
        """Do nothing: no thread belongs to an actor."""

    def now(self) -> float:
        """Return virtual seconds."""
        return self.micros / MICROS

    def wall(self) -> float:
        """Return virtual seconds since the epoch."""
        return EPOCH + self.micros / MICROS

    # --- what a test or a simulation drives

    def step(self) -> bool:
        """Execute one turn; return False when no message waits."""
        while self._tokens:
            mailbox = self._pick()
            try:
                item = mailbox.verdict() if mailbox.actor is None or mailbox.suspended else mailbox.take()
            except (IndexError, AttributeError):  # nothing to deliver, now or ever
                continue
            self._turn(mailbox, item)
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

    def run(self, *, until: float = float("inf")) -> None:
        """Settle and skip idle time until no timer is left, or virtual time would pass *until* seconds."""
        self.settle()
        while (due := self.next_timer()) is not None and due <= until:
            self._fire()

    # --- inside

    def _pick(self) -> Mailbox:
        tokens = self._tokens
        if self._random is None:
            return tokens.pop(0)
        index = int(self._random.random() * len(tokens))
        tokens[index], tokens[-1] = tokens[-1], tokens[index]
        return tokens.pop()

    def _turn(self, mailbox: Mailbox, item: Any) -> None:
        actor = mailbox.actor
        assert actor is not None
        self.turns += 1
        failure = None
        try:
            actor.execute(item)
        except BaseException as error:  # noqa: BLE001 (as on threads: one actor's SystemExit is that actor's failure)
            failure = error
        finish(actor, item, failure)

    def _live(self, mailbox: Mailbox, timed: Timed) -> bool:
        return mailbox.actor is not None and mailbox.actor.wants(timed)

    def _fire(self) -> None:
        due, _, mailbox, timed = heappop(self._heap)
        self.micros = max(self.micros, due)
        mailbox.put(timed)
        self.settle()
