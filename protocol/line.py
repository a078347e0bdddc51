"""Who waits in a domain, and who is next: classes with ageing, fair flows inside a class, deadlines over all.

Who waits for calls of its own run to end (their money, or their places) stands aside, so that one run's bounds do not
hold up the others.
"""

from __future__ import annotations

from collections import OrderedDict
from math import inf
from typing import TYPE_CHECKING

from protocol import ids
from protocol.policies.ageing import CLASSES, Ageing, Turn, class_of
from protocol.policies.deadlines import Deadlines
from protocol.policies.fair_queue import FairQueue, Place

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from protocol.signals import Acquire, Amount

Costs = tuple[int, int, int, int]
"""Requests, tokens, input tokens, output tokens."""
_TURNS = tuple(Turn(level, by_age=False) for level in range(CLASSES))


def costs_of(amount: Amount) -> Costs:
    """Return what a call is expected to take."""
    return amount.requests, amount.input_tokens + amount.output_tokens, amount.input_tokens, amount.output_tokens


def share(costs: Costs) -> int:
    """Return what *costs* take of a flow's share: the tokens, or the request where nobody counts tokens."""
    return costs[1] or costs[0]


class Waiter(Place, kw_only=True):
    """A request of *run*, with its *costs*, in line since the instant *since*; *called*: it stood aside before."""

    request: Acquire
    run: str
    costs: Costs
    since: float
    called: bool = False


def waiter_of(request: Acquire, since: float) -> Waiter:
    """Return who gets in line with *request*."""
    lease, costs = request.lease, costs_of(request.amount)
    return Waiter(lease, share(costs), request=request, run=ids.run_of(lease), costs=costs, since=since)


class Line:
    """The waiters of one domain."""

    __slots__ = ("_ageing", "_aside", "_classes", "_deadlines", "_waiting", "_weights")

    def __init__(self, ageing: float, weights: Mapping[str, float]) -> None:
        self._ageing = Ageing(ageing)
        self._weights = weights
        self._classes: tuple[FairQueue[Waiter], ...] = tuple(FairQueue() for _ in range(CLASSES))
        self._waiting = 0  # in all classes together
        self._aside: dict[str, OrderedDict[str, Waiter]] = {}  # by run
        self._deadlines = Deadlines()

    def __contains__(self, lease: str) -> bool:
        for queue in self._classes:
            if lease in queue.places:
                return True
        return bool(self._aside) and lease in self._aside.get(ids.run_of(lease), ())

    def __len__(self) -> int:
        """Return how many wait their turn; who stands aside does not."""
        return self._waiting

    def __iter__(self) -> Iterator[Waiter]:
        """Iterate over everybody, who stands aside included."""
        for queue in self._classes:
            yield from queue
        for waiters in self._aside.values():
            yield from waiters.values()

    def lengths(self) -> tuple[int, ...]:
        """Return how many wait their turn in each class, the most urgent first."""
        return tuple(map(len, self._classes))

    # --- joining and leaving

    def push(self, waiter: Waiter) -> bool:
        """Join the line; False when it is nobody else's turn for that, neither now nor later."""
        request = waiter.request
        if request.deadline is not None:
            self._deadlines.set(request.lease, request.deadline)
        queue = self._queue(request)
        alone = not queue.places
        self._join(waiter)
        return alone or queue.head() is waiter

    def remove(self, lease: str, now: float) -> Waiter | None:
        """Leave for good, wherever in line or aside; None for who is in neither."""
        for queue in self._classes:
            waiter = queue.remove(lease)
            if waiter is not None:
                self._waiting -= 1
                self.call_in(waiter.run, now)
                break
        else:
            waiter = self._step_back(lease)
        if waiter is not None:
            self._deadlines.discard(lease)
        return waiter

    def next_deadline(self) -> float:
        """Return the earliest deadline of somebody in line or aside, infinity when none has one."""
        return self._deadlines.next()

    def pop_late(self, now: float) -> Waiter | None:
        """Remove somebody whose deadline has passed, None when nobody's has."""
        lease = self._deadlines.pop(now)
        return None if lease is None else self.remove(lease, now)

    # --- whose turn it is

    def turn(self, now: float) -> Turn:
        """Return whose turn it is. Raises ``ValueError`` when nobody waits."""
        only = self._only()
        if only is not None:
            return only
        return self._ageing.turn(self._since(), now)

    def head(self, turn: Turn) -> Waiter:
        """Return who is served in *turn*."""
        return self._classes[turn.level].head()

    def pop(self, turn: Turn, now: float) -> Waiter:
        """Serve the head of *turn*; :meth:`settle` ends it."""
        waiter = self._classes[turn.level].pop()
        self._waiting -= 1
        self._ageing.took(turn)
        self._deadlines.discard(waiter.request.lease)
        self.call_in(waiter.run, now)
        return waiter

    def next_rise(self, now: float) -> float:
        """Return the next instant at which it may be somebody else's turn, infinity when there is none."""
        return inf if self._only() is not None else self._ageing.next_rise(self._since(), now)

    # --- shares

    def settle(self, waiter: Waiter, correction: float) -> None:
        """End a call that was served or adopted; it has cost its flow *correction* more than it was charged."""
        self._queue(waiter.request).settle(waiter, correction)

    def adopt(self, waiter: Waiter) -> None:
        """Count a call as under way that was served in an earlier life."""
        request = waiter.request
        self._queue(request).adopt(waiter, request.flow, self._weights.get(request.flow, 1.0))

    # --- aside

    def step_aside(self, waiter: Waiter) -> None:
        """Let the head out of the line, since it waits for calls of its own run to end; its deadline goes on.

        Whoever of that run leaves the line calls in the next, and so does the limiter when a call of the run has ended:
        so nobody is forgotten here, and at each such moment at most one looks in vain.
        """
        lease = waiter.request.lease
        self._queue(waiter.request).remove(lease)
        self._waiting -= 1
        waiters = self._aside.setdefault(waiter.run, OrderedDict())
        waiters[lease] = waiter
        if waiter.called:
            waiters.move_to_end(lease, last=False)

    def call_in(self, run: str, now: float) -> bool:
        """Let who of *run* has stood aside longest into the line, as one who comes now; False when nobody does."""
        waiters = self._aside.get(run)
        if waiters is None:
            return False
        waiter = next(iter(waiters.values()))
        self._step_back(waiter.request.lease)
        waiter.since, waiter.called = now, True
        self._join(waiter)
        return True

    # --- inside

    def _only(self) -> Turn | None:
        """Return the turn of the one class that anybody waits in; None when nobody waits, or in several."""
        for turn, queue in zip(_TURNS, self._classes, strict=True):
            if queue.places:
                return turn if len(queue.places) == self._waiting else None
        return None

    def _since(self) -> list[float]:
        return [queue.oldest().since if queue else inf for queue in self._classes]

    def _queue(self, request: Acquire) -> FairQueue[Waiter]:
        return self._classes[class_of(request.priority)]

    def _join(self, waiter: Waiter) -> None:
        request = waiter.request
        self._waiting += 1
        self._queue(request).push(waiter, request.flow, self._weights.get(request.flow, 1.0))

    def _step_back(self, lease: str) -> Waiter | None:
        run = ids.run_of(lease)
        waiters = self._aside.get(run)
        if waiters is None:
            return None
        waiter = waiters.pop(lease, None)
        if not waiters:
            del self._aside[run]
        return waiter
