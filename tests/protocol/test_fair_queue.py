"""Law 5: flows that wait without a pause are served by their weights, and nobody hoards a share."""

from __future__ import annotations

import sys

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from protocol.policies import fair_queue
from protocol.policies.fair_queue import MOST_IDLE, ROOMY, SLACK, FairQueue, Place


def push(queue, key, flow, cost=1.0, weight=1.0):
    queue.push(Place(key, cost), flow, weight)


def served(queue, count=None):
    return [queue.pop().key for _ in range(len(queue) if count is None else count)]


class DumbQueue:
    """The twin: a list of everybody, tags kept for ever, every question answered by looking at all of them."""

    def __init__(self):
        self.waiting = []  # [key, flow, cost], in the order they came
        self.tags, self.floors, self.weights, self.under_way, self.times = {}, {}, {}, {}, {}
        self.clock = self.top = 0.0

    def waits(self, flow):
        return any(entry[1] == flow for entry in self.waiting)

    def push(self, key, flow, cost, weight):
        self.weights[flow] = weight
        if not self.waits(flow):
            self.tags[flow] = max(self.tags.get(flow, 0.0), self.clock)
            self.floors[flow] = self.clock
            self.times[flow] = self.times.get(flow, 0) + 1  # how often it has come
        self.waiting.append([key, flow, cost])

    def head(self):
        return min(self.waiting, key=lambda entry: (self.tags[entry[1]], self.waiting.index(entry)))

    def pop(self):
        key, flow, cost = entry = self.head()
        self.waiting.remove(entry)
        self.clock = max(self.clock, self.tags[flow])
        self.tags[flow] += cost / self.weights[flow]
        self.floors[flow] += cost / self.weights[flow]
        self.top = max(self.top, self.tags[flow])
        self.under_way[flow] = self.under_way.get(flow, 0) + 1
        ticket = flow, self.times[flow]
        self.rest()
        return key, ticket

    def remove(self, key):
        self.waiting = [entry for entry in self.waiting if entry[0] != key]
        self.rest()

    def settle(self, ticket, correction):
        flow, time = ticket
        self.under_way[flow] -= 1
        change = correction / self.weights[flow]
        if time == self.times[flow]:
            self.tags[flow] += change
            self.floors[flow] += change
        else:
            self.tags[flow] = max(self.tags[flow] + change, self.floors[flow])

    def rest(self):
        if not self.waiting:
            self.clock = self.top
            for flow in [flow for flow in self.tags if not self.under_way.get(flow)]:
                del self.tags[flow]


FLOWS = st.sampled_from("abcd")
COSTS = st.sampled_from([1.0, 2.0, 7.0, 40.0])


class Twins(RuleBasedStateMachine):
    """Whoever comes, leaves and ends: the queue answers as the twin does."""

    def __init__(self):
        super().__init__()
        self.queue, self.twin, self.serial, self.calls = FairQueue(), DumbQueue(), 0, []

    @rule(flow=FLOWS, cost=COSTS, weight=st.sampled_from([1.0, 3.0]), count=st.integers(1, 4))
    def push(self, flow, cost, weight, count):
        for _ in range(count):
            self.serial += 1
            push(self.queue, str(self.serial), flow, cost, weight)
            self.twin.push(str(self.serial), flow, cost, weight)

    @rule(count=st.integers(1, 5))
    def pop(self, count):
        for _ in range(min(count, len(self.queue))):
            assert self.queue.head().key == self.twin.head()[0]
            place, (key, ticket) = self.queue.pop(), self.twin.pop()
            assert place.key == key
            self.calls.append((place, ticket))

    @rule(index=st.integers(0, 50))
    def remove(self, index):
        if self.twin.waiting:
            key = self.twin.waiting[index % len(self.twin.waiting)][0]
            assert self.queue.remove(key).key == key
            self.twin.remove(key)

    @rule(index=st.integers(0, 50), correction=st.sampled_from([-30.0, -1.0, 0.0, 5.0]))
    def settle(self, index, correction):
        if self.calls:
            place, ticket = self.calls.pop(index % len(self.calls))
            self.queue.settle(place, correction)
            self.twin.settle(ticket, correction)

    @invariant()
    def the_same_wait(self):
        assert [place.key for place in self.queue] == [entry[0] for entry in self.twin.waiting]
        assert len(self.queue) == len(self.twin.waiting)
        if self.twin.waiting:
            assert self.queue.oldest().key == self.twin.waiting[0][0]
            assert self.queue.head().key == self.twin.head()[0]

    @invariant()
    def nothing_is_remembered_that_says_nothing(self):
        telling = {flow for flow, tag in self.twin.tags.items() if tag > self.twin.clock or self.twin.waits(flow)}
        assert telling <= set(self.queue._flows) <= set(self.twin.tags)
        assert len(self.queue._heap) <= 2 * len(self.twin.tags) + SLACK


Twins.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestTwins = pytest.mark.slow(Twins.TestCase)


WEIGHTS = {"a": 1.0, "b": 3.0, "c": 0.5}


class Law5(RuleBasedStateMachine):
    """Three flows that always have somebody waiting; more flows come and go between them."""

    def __init__(self):
        super().__init__()
        self.queue = FairQueue()
        self.serial = 0
        self.got = dict.fromkeys(WEIGHTS, 0.0)
        self.largest = dict.fromkeys(WEIGHTS, 0.0)
        for flow in WEIGHTS:
            self.ask(flow, 5.0)
            self.ask(flow, 5.0)

    def ask(self, flow, cost):
        self.serial += 1
        push(self.queue, f"{flow}/{self.serial}", flow, cost, WEIGHTS.get(flow, 1.0))
        if flow in self.largest:
            self.largest[flow] = max(self.largest[flow], cost)

    @rule(flow=st.sampled_from("abcxyz"), cost=COSTS)
    def somebody_comes(self, flow, cost):
        self.ask(flow, cost)

    @rule(count=st.integers(1, 8), cost=COSTS)
    def serve(self, count, cost):
        for _ in range(count):
            place = self.queue.pop()
            flow = place.key[0]
            self.queue.settle(place, 0.0)
            if flow in self.got:
                self.got[flow] += place.cost / WEIGHTS[flow]
                if sum(waiting.key[0] == flow for waiting in self.queue) < 2:
                    self.ask(flow, cost)

    @invariant()
    def two_flows_differ_by_no_more_than_the_bound(self):
        for f in self.got:
            for g in self.got:
                bound = self.largest[f] / WEIGHTS[f] + self.largest[g] / WEIGHTS[g]
                assert abs(self.got[f] - self.got[g]) <= bound + 1e-6


Law5.TestCase.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
TestLaw5 = pytest.mark.slow(Law5.TestCase)


def backlog(queue, costs, weights):
    """Let two flows wait with equal mixes of sizes; return how often each was served among the first half."""
    for n, cost in enumerate(costs):
        for flow, weight in weights.items():
            push(queue, f"{flow}/{n}", flow, cost, weight)


def shares(queue, costs, weights, total):
    got = dict.fromkeys(weights, 0.0)
    while sum(got.values()) < total:
        place = queue.pop()
        got[place.key[0]] += place.cost
    return got


def test_weights_of_one_and_three_give_one_and_three_parts_of_300_requests_of_mixed_size():
    queue, costs = FairQueue(), [10.0 + 37 * n % 400 for n in range(300)]
    backlog(queue, costs, {"a": 1.0, "b": 3.0})
    got = shares(queue, costs, {"a": 1.0, "b": 3.0}, sum(costs))
    assert got["b"] / got["a"] == pytest.approx(3.0, rel=0.05)


def test_the_law_turns_red_where_the_tag_does_not_move_by_the_weight(monkeypatch):
    """The mutation: first come, first served is what is left without tags."""
    monkeypatch.setattr(fair_queue._Flow, "weight", property(lambda _: 1e12, lambda *_: None), raising=False)
    queue, costs = FairQueue(), [10.0] * 100
    backlog(queue, costs, {"a": 1.0, "b": 3.0})
    got = shares(queue, costs, {"a": 1.0, "b": 3.0}, 1000.0)
    assert got["b"] / got["a"] == pytest.approx(1.0, rel=0.05)


def test_inside_a_flow_the_first_that_came_goes_first():
    queue = FairQueue()
    for key in ("1", "2", "3"):
        push(queue, key, "a")
    assert served(queue) == ["1", "2", "3"]


def test_a_flow_that_comes_late_is_owed_nothing_for_the_time_before():
    queue = FairQueue()
    for n in range(10):
        push(queue, f"a{n}", "a")
    served(queue, 5)
    for n in range(3):
        push(queue, f"b{n}", "b")
    assert served(queue, 4) == ["b0", "a5", "b1", "a6"]


def test_what_was_served_while_nobody_waited_is_held_against_nobody():
    queue = FairQueue()
    for n in range(100):
        push(queue, f"a{n}", "a", cost=50.0)
        queue.pop()
    push(queue, "a", "a")
    push(queue, "b", "b")
    assert served(queue) == ["a", "b"]


def test_a_correction_at_the_end_of_a_call_counts_for_those_who_wait_already():
    queue = FairQueue()
    for n in range(4):
        push(queue, f"a{n}", "a", cost=1000.0)
        push(queue, f"b{n}", "b", cost=100.0)
    first = queue.pop()
    assert [first.key, *served(queue, 3)] == ["a0", "b0", "b1", "b2"]
    queue.settle(first, -990.0)
    assert served(queue, 1) == ["a1"]


def test_what_comes_back_from_before_a_flow_came_back_gives_it_no_credit():
    queue = FairQueue()
    push(queue, "a0", "a", cost=1000.0)
    first = queue.pop()  # nobody else waits: the clock moves on, for all
    for n in range(1, 5):
        push(queue, f"a{n}", "a", cost=10.0)
        push(queue, f"b{n}", "b", cost=10.0)
    queue.settle(first, -990.0)
    assert served(queue, 4) == ["a1", "b1", "a2", "b2"]


def test_a_call_adopted_from_an_earlier_life_corrects_its_flow():
    queue, place = FairQueue(), Place("a0", 1.0)
    queue.adopt(place, "a")
    push(queue, "a", "a")
    push(queue, "b", "b")
    queue.settle(place, 5.0)
    assert served(queue) == ["b", "a"]


def test_who_is_not_in_line_cannot_leave_it():
    queue = FairQueue()
    push(queue, "a", "a")
    assert ("a" in queue, "b" in queue, queue.remove("b")) == (True, False, None)


def test_when_nobody_waits_any_more_nothing_is_remembered():
    queue = FairQueue()
    push(queue, "a", "a", cost=50.0)
    push(queue, "b", "b", cost=60.0)
    queue.settle(queue.pop(), 0.0)
    queue.settle(queue.pop(), 0.0)
    assert (queue._flows, queue._idle, queue._heap) == ({}, {}, [])


def test_of_flows_that_come_and_go_only_the_latest_are_remembered():
    queue = FairQueue()
    push(queue, "first", "stays")
    push(queue, "second", "stays")
    queue.pop()
    for n in range(2 * MOST_IDLE):
        push(queue, str(n), f"flow{n}", cost=5.0)
        queue.settle(queue.pop(), 0.0)
    assert len(queue._flows) <= MOST_IDLE + 1


def test_the_room_of_a_long_line_is_given_back_when_it_gets_short():
    queue = FairQueue()
    for n in range(4 * ROOMY):
        push(queue, str(n), f"f{n}")
    room = sys.getsizeof(queue.places), sys.getsizeof(queue._flows), sys.getsizeof(queue._heap)
    for n in range(4 * ROOMY - 5):
        queue.remove(str(n))
    left = sys.getsizeof(queue.places), sys.getsizeof(queue._flows), sys.getsizeof(queue._heap)
    assert all(now < most / 3 for now, most in zip(left, room, strict=True))
    assert served(queue) == [str(n) for n in range(4 * ROOMY - 5, 4 * ROOMY)]


def test_outdated_entries_never_outnumber_the_valid_ones():
    queue = FairQueue()
    for n in range(20):
        push(queue, str(n), f"f{n}")
    for n in range(1000):
        place = Place("", 1.0)
        queue.adopt(place, f"f{n % 20}")
        queue.settle(place, float(n))
        assert len(queue._heap) <= 2 * 20 + SLACK
    assert served(queue) == [str(n) for n in range(20)]
