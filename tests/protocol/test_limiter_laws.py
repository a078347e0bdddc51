"""Laws 3, 4 and 5 and what else holds of the limiter, whatever happens in whatever order.

Callers ask, settle, cancel, die and are told late; the limiter is restarted, and hears of what is held late, twice or
not at all. Beside it stands a twin that looks at every waiter for every decision.
"""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec.structs import replace

from protocol import ids
from protocol.chat import Usage
from protocol.errors import ErrorKind
from protocol.limiter import GRACE, PATIENCE, DomainLimits, Ignored, LeaseExpired, Limiter, Reply, Wake
from protocol.policies.budget import Budget
from protocol.signals import Acquire, Allow, Amount, Cancel, Granted, Outcome, Reaffirm, Refused, Settle
from tests.protocol.test_ageing import DumbAgeing
from tests.protocol.test_fair_queue import DumbQueue

D = "main"
RPM, BURST, CONCURRENCY, AGEING = 300, 6, 4, 2.0
LIMITS = DomainLimits(
    requests_per_minute=RPM,
    burst=BURST,
    concurrency=CONCURRENCY,
    tokens_per_minute=60000,
    output_tokens_per_minute=30000,
    ageing=AGEING,
)
WEIGHTS = {"f": 1.0, "g": 3.0}
MONEY, OF_RUN = 12_000, 4_000
HOLDERS = ("one", "two")


def tokens_of(request):
    return max(1, request.amount.input_tokens + request.amount.output_tokens)


class DumbLine:
    """Who is next: a list for each class, everybody looked at."""

    def __init__(self):
        self.classes = [DumbQueue() for _ in range(3)]
        self.since = {}
        self.tickets = {}  # of the leases that were served or adopted in this life
        self.ageing = DumbAgeing(AGEING)

    def push(self, request, now):
        weight = WEIGHTS.get(request.flow, 1.0)
        self.classes[request.priority].push(request.lease, request.flow, tokens_of(request), weight)
        self.since[request.lease] = now

    def remove(self, request):
        self.classes[request.priority].remove(request.lease)
        del self.since[request.lease]

    def head(self, now):
        since = [min((self.since[entry[0]] for entry in queue.waiting), default=inf) for queue in self.classes]
        turn = self.ageing.turn(since, now)
        return self.classes[turn.level].head()[0], turn

    def serve(self, request, now):
        lease, turn = self.head(now)
        self.ageing.took(turn)
        assert lease == request.lease, "it was not its turn"
        _, self.tickets[lease] = self.classes[request.priority].pop()
        del self.since[request.lease]

    def settle(self, request, correction):
        ticket = self.tickets.pop(request.lease, None)
        if ticket is not None:
            self.classes[request.priority].settle(ticket, correction)

    def adopt(self, request):
        queue = self.classes[request.priority]
        self.tickets[request.lease] = request.flow, 0
        queue.times.setdefault(request.flow, 0)
        queue.floors.setdefault(request.flow, 0.0)
        queue.weights[request.flow] = WEIGHTS.get(request.flow, 1.0)
        queue.tags.setdefault(request.flow, 0.0)
        queue.under_way[request.flow] = queue.under_way.get(request.flow, 0) + 1


class AnyOrder:
    """No twin: whoever is served is right."""

    def push(self, request, now): ...
    def remove(self, request): ...
    def serve(self, request, now): ...
    def settle(self, request, correction): ...
    def adopt(self, request): ...


class World(RuleBasedStateMachine):
    """Two holders, a clock that fires the timer, and the books of who waits, who holds, and what was paid."""

    OF_RUNS = None  # what runs may spend
    Line = DumbLine

    def __init__(self):
        super().__init__()
        self.now, self.wake_at, self.serial = 100.0, inf, 0
        self.budget = Budget(MONEY)
        self.waiting, self.held, self.settled, self.line = {}, {}, set(), self.Line()
        self.arrivals, self.spent, self.spent_by = {}, 0, {}
        self.storm = None  # the first and the last 429 since anything has succeeded
        self.silent = set()  # holders that a restarted limiter has not heard of yet
        self.limiter = self.make(fresh=True)
        for run in self.bounded():
            allow = Allow(run=run, nano_usd=self.OF_RUNS, calls=1 if run == "b" else None)
            self.perform(self.limiter.on_allow(allow, self.now))

    def make(self, *, fresh):
        return Limiter({D: LIMITS}, flows=WEIGHTS, budget=self.budget, fresh=fresh)

    def bounded(self):
        """Return the runs that have a budget of their own."""
        return "" if self.OF_RUNS is None else "ab"

    # --- what comes out

    def perform(self, effects):
        for effect in effects:
            match effect:
                case Reply(message=Granted(lease=lease)):
                    self.granted(lease)
                case Reply(message=Refused(lease=lease, kind=kind)):
                    self.refused(self.waiting.pop(lease), kind)
                case Wake(after=after):
                    assert after is None or after >= 1e-6
                    self.wake_at = inf if after is None else self.now + after
                case LeaseExpired(lease=lease):
                    request = self.held.pop(lease)
                    assert self.now >= request.deadline + GRACE - 1e-5
                    self.settled.add(lease)
                    self.book(request, request.amount.nano_usd)
                    self.line.settle(request, 0)
                case Ignored(lease=lease):
                    assert lease in self.settled

    def granted(self, lease):
        request = self.waiting.pop(lease)
        assert not self.silent, "somebody may hold more than is known"
        assert request.deadline is None or request.deadline > self.now
        self.line.serve(request, self.now)
        self.held[lease] = request
        self.arrivals[lease] = self.now

    def refused(self, request, kind):
        match kind:
            case ErrorKind.DEADLINE:
                assert request.deadline <= self.now
            case ErrorKind.BUDGET:
                run = ids.run_of(request.lease)
                left = MONEY - self.spent
                if run in self.bounded():
                    left = min(left, self.OF_RUNS - self.spent_by.get(run, 0))
                assert request.amount.nano_usd > left
            case ErrorKind.RATE_LIMITED:
                first, last = self.storm
                assert last - first > PATIENCE
            case _:
                assert kind is ErrorKind.NEVER_FITS
                assert tokens_of(request) > 60000
                return
        self.line.remove(request)

    def book(self, request, nano):
        run = ids.run_of(request.lease)
        self.spent += nano
        self.spent_by[run] = self.spent_by.get(run, 0) + nano

    # --- what goes in

    @rule(
        tokens=st.sampled_from([0, 100, 5000, 40000, 70000]),
        nano=st.sampled_from([0, 10, 1500, 3800]),
        patience=st.none() | st.floats(0.0, 5.0),
        holder=st.sampled_from(HOLDERS),
        priority=st.sampled_from([0, 1, 1, 2]),
        flow=st.sampled_from("fgh"),
        run=st.sampled_from("abc"),
        count=st.integers(1, 6),
    )
    def acquire(self, tokens, nano, patience, holder, priority, flow, run, count):
        for _ in range(count):
            request = Acquire(
                lease=f"{run}/{self.serial + 1}#1",
                domain=D,
                amount=Amount(input_tokens=tokens, output_tokens=tokens // 10, nano_usd=nano),
                priority=priority,
                flow=flow,
                deadline=None if patience is None else self.now + patience,
                holder=holder,
                reply_to=holder,
            )
            self.ask(request)

    def ask(self, request):
        self.serial += 1
        self.waiting[request.lease] = request
        if tokens_of(request) <= 60000:
            self.line.push(request, self.now)
        self.perform(self.limiter.on_acquire(request, self.now))

    @rule(
        index=st.integers(0, 99),
        outcome=st.sampled_from(list(Outcome)),
        hint=st.none() | st.sampled_from([0.5, 3.0]),
        part=st.sampled_from([0.0, 0.3, 1.0]),
    )
    def settle(self, index, outcome, hint, part):
        if not self.held:
            return
        request = self.held.pop(list(self.held)[index % len(self.held)])
        reserved, tokens = request.amount.nano_usd, tokens_of(request)
        cost, real = 0, 1
        if outcome is Outcome.SUCCESS:
            cost, real = int(reserved * part), max(1, int(tokens * part) + 50)
        elif outcome is Outcome.AMBIGUOUS:
            cost, real = reserved, tokens
        elif outcome is Outcome.UNSENT:
            real = 0
            del self.arrivals[request.lease]  # it reached no server
        self.settled.add(request.lease)
        self.book(request, cost)
        self.line.settle(request, real - tokens)
        usage = Usage(input_tokens=real - 50, output_tokens=50) if outcome is Outcome.SUCCESS else None
        if outcome is Outcome.SUCCESS:
            self.storm = None
        elif outcome is Outcome.THROTTLED:
            self.storm = (self.storm or (self.now,))[0], self.now
        settle = Settle(lease=request.lease, outcome=outcome, retry_after=hint, usage=usage, nano_usd=cost)
        self.perform(self.limiter.on_settle(settle, self.now))

    @rule()
    def settle_again(self):
        before = self.limiter.in_flight(D), self.budget.total.spent
        for lease in sorted(self.settled)[-2:]:
            self.perform(self.limiter.on_settle(Settle(lease=lease), self.now))
        assert (self.limiter.in_flight(D), self.budget.total.spent) == before

    @rule(index=st.integers(0, 99))
    def return_a_lease_unused(self, index):
        if self.held:
            request = self.held.pop(list(self.held)[index % len(self.held)])
            del self.arrivals[request.lease]
            self.settled.add(request.lease)
            self.line.settle(request, -tokens_of(request))
            self.perform(self.limiter.on_cancel(Cancel(lease=request.lease), self.now))

    @rule(index=st.integers(0, 99))
    def cancel_a_waiter(self, index):
        if self.waiting:
            request = self.waiting.pop(list(self.waiting)[index % len(self.waiting)])
            self.line.remove(request)
            self.perform(self.limiter.on_cancel(Cancel(lease=request.lease), self.now))

    @precondition(lambda self: self.held and self.waiting)
    @rule(holder=st.sampled_from(HOLDERS))
    def a_holder_dies(self, holder):
        for lease in [lease for lease, request in self.held.items() if request.holder == holder]:
            request = self.held.pop(lease)
            self.settled.add(lease)
            self.book(request, request.amount.nano_usd)
            self.line.settle(request, 0)
        for lease in [lease for lease, request in self.waiting.items() if request.holder == holder]:
            request = self.waiting.pop(lease)
            self.line.remove(request)
        self.silent.discard(holder)
        self.perform(self.limiter.on_holder_gone(holder, self.now))

    # --- restarts

    @precondition(lambda self: self.held)
    @rule(seconds=st.sampled_from([0.0, 2.0, 40.0]))
    def the_limiter_is_restarted(self, seconds):
        """It forgets everything but the books; who waited asks again, under a new lease."""
        self.silent = {request.holder for request in self.held.values()}
        again, self.waiting, self.line, self.wake_at = self.waiting, {}, self.Line(), inf
        self.limiter, self.storm = self.make(fresh=False), None
        for request in again.values():
            self.ask(replace(request, lease=f"{ids.run_of(request.lease)}/{self.serial + 1}#2"))
        self.pass_time(seconds)

    @precondition(lambda self: self.silent)
    @rule(twice=st.booleans())
    def a_holder_reaffirms(self, twice):
        holder = min(self.silent)
        self.silent.discard(holder)
        leases = tuple(request for request in self.held.values() if request.holder == holder)
        for request in leases:
            self.line.adopt(request)
        for _ in range(1 + twice):
            self.perform(self.limiter.on_reaffirm(Reaffirm(holder=holder, leases=leases), self.now))

    @rule(seconds=st.sampled_from([0.01, 0.3, 2.0, 40.0]))
    def pass_time(self, seconds):
        end = self.now + seconds
        for _ in range(10_000):
            if self.wake_at > end:
                break
            self.now, self.wake_at = max(self.now, self.wake_at), inf
            self.perform(self.limiter.on_wake(D, self.now))
        else:
            raise AssertionError("the timer fires for ever")
        self.now = end

    # --- the laws

    @invariant()
    def never_more_in_flight_than_allowed(self):
        assert len(self.held) <= CONCURRENCY
        if not self.silent:
            assert self.limiter.in_flight(D) == len(self.held)

    @invariant()
    def law_3_no_window_holds_more_arrivals_than_the_limit_and_the_burst(self):
        arrivals = list(self.arrivals.values())
        for first, start in enumerate(arrivals):
            for count, end in enumerate(arrivals[first:], 1):
                assert count <= RPM / 60 * (end - start) + BURST

    @invariant()
    def law_4_reserved_and_spent_stay_within_the_budget(self):
        reserved = sum(request.amount.nano_usd for request in self.held.values())
        assert (self.budget.total.reserved, self.budget.total.spent) == (reserved, self.spent)
        assert reserved + self.spent <= MONEY
        for run in self.bounded():
            reserved = sum(r.amount.nano_usd for r in self.held.values() if ids.run_of(r.lease) == run)
            assert reserved + self.spent_by.get(run, 0) <= self.OF_RUNS
            assert run == "a" or sum(ids.run_of(lease) == "b" for lease in self.held) <= 1

    @invariant()
    def nobody_is_forgotten(self):
        """Who stands aside is called in by somebody of the same run: one that waits in line, or whose call will end."""
        line = self.limiter._domains[D].line if D in self.limiter._domains else None
        for run in line._aside if line is not None else ():
            in_line = [waiter for queue in line._classes for waiter in queue if ids.run_of(waiter.key) == run]
            assert in_line or self.budget.account(run).calls > 0

    @invariant()
    def nobody_waits_past_the_deadline(self):
        assert all(r.deadline is None or r.deadline > self.now - 1e-5 for r in self.waiting.values())

    def teardown(self):
        while self.silent:
            self.a_holder_reaffirms(twice=False)
        for _ in range(2000):
            for lease in list(self.held):
                request = self.held.pop(lease)
                self.line.settle(request, 0)
                self.book(request, request.amount.nano_usd)
                self.perform(self.limiter.on_settle(Settle(lease=lease), self.now))
            if not self.waiting and not self.held:
                break
            self.pass_time(min(30.0, max(0.0, self.wake_at - self.now)) + 1e-6)
        assert (self.waiting, self.held, self.limiter.in_flight(D), self.limiter._leases) == ({}, {}, 0, {})
        assert self.budget.total.reserved == 0
        assert self.wake_at == inf


class WorldOfRuns(World):
    """The same where two runs have budgets of their own: nobody is held up by another run's, nobody is forgotten."""

    OF_RUNS = OF_RUN
    Line = AnyOrder


World.TestCase.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
WorldOfRuns.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestWorld = pytest.mark.uncounted(pytest.mark.slow(World.TestCase))
TestWorldOfRuns = pytest.mark.uncounted(pytest.mark.slow(WorldOfRuns.TestCase))
