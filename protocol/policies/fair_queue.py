"""Start-time fair queueing over weighted flows: each flow gets its share of what is served, whoever asks most.

A flow has a tag: the virtual time at which its next waiter starts. Served is the flow with the least tag (among equals
the one whose first waiter came first), and its tag moves on by ``cost / weight``. The virtual clock is the largest tag
served; a flow that comes back starts at the clock, so that idling earns no credit. What a call has really cost is known
at its end: then :meth:`FairQueue.settle` moves the tag by the difference, but what comes back for a call from before
the flow came back takes it no further than to where it would have started. When the last waiter goes a busy period is
over, and the clock moves to the largest tag of all: what was served while nobody had to wait is held against nobody.

Law: of two flows f and g that wait without a pause, ``|served_f / w_f - served_g / w_g| <= l_f / w_f + l_g / w_g`` with
l the largest cost; corrections for D calls under way widen the bound D + 1 times. Source: Goyal, Vin and Cheng,
*Start-time fair queueing* (1996). Every operation takes logarithmic time in the number of flows.
"""

from __future__ import annotations

from collections import OrderedDict
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Generic, TypeVar

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_IDLE = 1000
"""How many flows without a waiter and without a call under way are remembered with their tags."""
SLACK = 64
"""How many outdated entries the heap may hold beside as many as are valid."""
ROOMY = 1024
"""From so many waiters on, the room of a line that has shrunk to an eighth is given back."""


class Place(Struct, eq=False):
    """One waiter's place in line, and after that the ticket of its call: the base of what waits in a queue."""

    key: str
    cost: float
    number: int = 0
    flow: _Flow | None = None
    before: Place | None = None
    after: Place | None = None


P = TypeVar("P", bound=Place)


class _Entry(Struct, frozen=True, order=True, gc=False):
    """A flow's place in the heap. Names the flow, so that the collector need not look at it."""

    tag: float
    number: int
    flow: str


class _Flow:
    """A flow: its tag, its line, how many of its calls are under way, and its one valid entry in the heap.

    ``came`` is the number of the place with which it came (back), ``floor`` where its tag would be had it come with
    nothing on it.
    """

    __slots__ = ("came", "entry", "first", "floor", "last", "name", "tag", "under_way", "weight")

    def __init__(self, name: str, weight: float) -> None:
        self.name = name
        self.weight = weight
        self.tag = self.floor = 0.0
        self.came = 0
        self.first: Place | None = None
        self.last: Place | None = None
        self.under_way = 0
        self.entry: _Entry | None = None


class FairQueue(Generic[P]):
    """Waiters by key; the next one is chosen among the flows, inside a flow the first that came.

    ``places`` is who waits, by key, in the order they came.
    """

    __slots__ = ("_clock", "_flows", "_heap", "_idle", "_most", "_number", "_ready", "_top", "places")

    def __init__(self) -> None:
        self.places: OrderedDict[str, P] = OrderedDict()
        self._flows: dict[str, _Flow] = {}
        self._idle: OrderedDict[str, None] = OrderedDict()
        self._heap: list[_Entry] = []
        self._ready = 0  # flows that somebody waits in
        self._number = 0
        self._most = 0  # how many have waited since room was given back
        self._clock = 0.0
        self._top = 0.0  # the largest tag that serving has made

    def __contains__(self, key: str) -> bool:
        return key in self.places

    def __len__(self) -> int:
        return len(self.places)

    def __iter__(self) -> Iterator[P]:
        """Iterate over who waits, in the order they came."""
        return iter(self.places.values())

    # --- who waits

    def push(self, place: P, flow: str, weight: float = 1.0) -> None:
        """Let somebody wait under a key that is not in line. The last *weight* named for a flow counts."""
        state = self._enter(flow, weight)
        self._number += 1
        if len(self.places) >= self._most:
            self._most = len(self.places) + 1
        place.number, place.flow = self._number, state
        self.places[place.key] = place
        last = state.last
        state.last = place
        if last is None:
            state.first = place
            state.came = place.number
            state.floor = self._clock
            state.tag = max(state.tag, self._clock)
            self._ready += 1
            self._offer(state, place)
        else:
            place.before, last.after = last, place

    def oldest(self) -> P:
        """Return who has waited longest, in whatever flow. Raises ``StopIteration`` when nobody waits."""
        return next(iter(self.places.values()))

    def head(self) -> P:
        """Return who is served next. Raises ``IndexError`` when nobody waits."""
        heap, flows = self._heap, self._flows
        while True:
            entry = heap[0]
            flow = flows.get(entry.flow)
            if flow is not None and flow.entry is entry:
                return flow.first  # type: ignore[return-value]
            heappop(heap)

    def pop(self) -> P:
        """Serve the head: charge its flow, and count one more call of it as under way, until it is settled."""
        place = self.head()
        flow = place.flow
        assert flow is not None
        share = place.cost / flow.weight
        self._clock = max(self._clock, flow.tag)
        flow.tag += share
        flow.floor += share
        flow.under_way += 1
        self._top = max(self._top, flow.tag)
        del self.places[place.key]
        self._unlink(place, flow)
        return place

    def remove(self, key: str) -> P | None:
        """Let somebody leave who was not served, wherever in line; None for who is not in it."""
        place = self.places.pop(key, None)
        if place is not None:
            assert place.flow is not None
            self._unlink(place, place.flow)
            place.flow = None
        return place

    # --- what was served

    def adopt(self, place: P, flow: str, weight: float = 1.0) -> None:
        """Count a call of *flow* as under way that was served, and charged, in an earlier life."""
        place.flow = self._enter(flow, weight)
        place.flow.under_way += 1

    def settle(self, place: P, correction: float) -> None:
        """End the call of *place*, which was served or adopted; it has cost *correction* more than it was charged."""
        flow, place.flow = place.flow, None
        assert flow is not None
        flow.under_way -= 1
        change = correction / flow.weight
        if place.number >= flow.came:
            flow.tag += change
            flow.floor += change
        else:
            flow.tag = max(flow.tag + change, flow.floor)
        if flow.first is None:
            self._retire(flow)
        elif change:
            self._offer(flow, flow.first)

    # --- inside

    def _enter(self, name: str, weight: float) -> _Flow:
        flow = self._flows.get(name)
        if flow is None:
            flow = self._flows[name] = _Flow(name, weight)
        else:
            flow.weight = weight
            self._idle.pop(name, None)
        return flow

    def _offer(self, flow: _Flow, first: Place) -> None:
        """Enter *flow* into the heap as it stands now, in place of its entry before."""
        flow.entry = _Entry(flow.tag, first.number, flow.name)
        heappush(self._heap, flow.entry)
        if len(self._heap) > 2 * self._ready + SLACK:
            self._sweep()

    def _sweep(self) -> None:
        """Take what is outdated out of the heap."""
        self._heap = [flow.entry for flow in self._flows.values() if flow.entry is not None]
        heapify(self._heap)

    def _unlink(self, place: Place, flow: _Flow) -> None:
        """Take *place* out of the line of its *flow*."""
        before, after = place.before, place.after
        place.before = place.after = None
        if self._most > ROOMY and self._most > 8 * len(self.places):
            self._give_back()
        if after is not None:
            after.before = before
        else:
            flow.last = before
        if before is not None:
            before.after = after
            return
        flow.first = after
        if after is not None:
            self._offer(flow, after)
            return
        flow.entry = None
        self._ready -= 1
        self._retire(flow)
        if not self.places:
            self._rest()
        elif len(self._heap) > 2 * self._ready + SLACK:
            self._sweep()

    def _retire(self, flow: _Flow) -> None:
        """Forget a flow that nothing is known of any more, or remember its tag for a while when it is ahead."""
        if flow.under_way:
            return
        if flow.tag > self._clock:
            self._idle[flow.name] = None
            if len(self._idle) > MOST_IDLE:
                del self._flows[self._idle.popitem(last=False)[0]]
            return
        del self._flows[flow.name]

    def _give_back(self) -> None:
        """Give back the room of a line that was much longer: a dict keeps that of its largest day."""
        self.places, self._flows = OrderedDict(self.places), dict(self._flows)
        self._most = len(self.places)

    def _rest(self) -> None:
        """End a busy period: all are equal again."""
        self._clock = self._top
        self._heap.clear()
        for name in self._idle:
            del self._flows[name]
        self._idle.clear()
