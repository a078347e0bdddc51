"""The limiter: never more in flight than allowed, never faster than allowed, in the order of arrival, nothing leaks."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from protocol.chat import Usage
from protocol.errors import ErrorKind
from protocol.limiter import DomainLimits, Ignored, Limiter, Reply, Wake
from protocol.signals import Acquire, Amount, Cancel, Granted, Outcome, Reaffirm, Refused, Settle

D = "main"


def ask(lease, *, tokens=0, output=0, deadline=None, holder="gateway", domain=D):
    amount = Amount(input_tokens=tokens, output_tokens=output)
    return Acquire(lease=lease, domain=domain, amount=amount, deadline=deadline, holder=holder, reply_to=f"to/{holder}")


def limiter(*, fresh=True, **limits):
    return Limiter({D: DomainLimits(**limits)}, fresh=fresh)


def granted(effects):
    return [e.message.lease for e in effects if isinstance(e, Reply) and isinstance(e.message, Granted)]


def refused(effects):
    return [
        (e.message.lease, e.message.kind) for e in effects if isinstance(e, Reply) and isinstance(e.message, Refused)
    ]


def wakes(effects):
    return [e.after for e in effects if isinstance(e, Wake)]


def about(seconds):
    return pytest.approx(seconds, abs=1e-5)


# --- admission


def test_what_fits_is_granted_at_once_with_what_was_asked_for():
    effects = limiter(concurrency=1).on_acquire(ask("a#1", tokens=5), 0.0)
    assert effects == [Reply("to/gateway", Granted(lease="a#1", epoch=0, tokens=Amount(input_tokens=5)))]


def test_what_does_not_fit_waits_for_a_settlement():
    limiter_ = limiter(concurrency=1)
    limiter_.on_acquire(ask("a#1"), 0.0)
    assert limiter_.on_acquire(ask("b#1"), 0.0) == []
    assert granted(limiter_.on_settle(Settle(lease="a#1"), 1.0)) == ["b#1"]


def test_what_does_not_fit_the_rate_waits_for_a_timer():
    limiter_ = limiter(requests_per_minute=60, burst=1)
    limiter_.on_acquire(ask("a#1"), 0.0)
    assert wakes(limiter_.on_acquire(ask("b#1"), 0.0)) == [about(1.0)]
    assert granted(limiter_.on_wake(D, 1.00001)) == ["b#1"]


def test_what_waits_for_concurrency_has_consumed_no_rate():
    limiter_ = limiter(requests_per_minute=60, burst=3, concurrency=1)
    limiter_.on_acquire(ask("a#1"), 0.0)
    for n in range(50):
        limiter_.on_acquire(ask(f"b{n}#1"), 0.0)
        limiter_.on_cancel(Cancel(lease=f"b{n}#1"), 0.0)
    limiter_.on_settle(Settle(lease="a#1"), 0.0)
    assert granted(limiter_.on_acquire(ask("c#1"), 0.0)) == ["c#1"]


def test_a_head_that_needs_much_is_not_overtaken():
    limiter_ = limiter(tokens_per_minute=6000)
    limiter_.on_acquire(ask("a#1", tokens=500), 0.0)
    limiter_.on_acquire(ask("large#1", tokens=500), 0.0)
    assert granted(limiter_.on_acquire(ask("small#1", tokens=1), 0.0)) == []


def test_a_request_larger_than_a_minute_is_refused_at_once():
    limiter_ = limiter(tokens_per_minute=1000)
    assert refused(limiter_.on_acquire(ask("a#1", tokens=600, output=401), 0.0)) == [("a#1", ErrorKind.NEVER_FITS)]


@pytest.mark.parametrize(
    ("limits", "costs"),
    [
        ({"input_tokens_per_minute": 600}, {"tokens": 59}),
        ({"output_tokens_per_minute": 600}, {"output": 59}),
        ({"tokens_per_minute": 600}, {"tokens": 29, "output": 30}),
    ],
)
def test_each_kind_of_token_is_limited_by_its_own_rate(limits, costs):
    limiter_ = limiter(**limits)
    assert granted(limiter_.on_acquire(ask("a#1", **costs), 0.0)) == ["a#1"]
    assert wakes(limiter_.on_acquire(ask("b#1", **costs), 0.0)) == [about(5.9)]


def test_a_domain_that_nobody_configured_is_unlimited():
    limiter_ = limiter(concurrency=1)
    effects = [limiter_.on_acquire(ask(f"{n}#1", domain="other", tokens=10**9), 0.0) for n in range(100)]
    assert sum(len(granted(e)) for e in effects) == 100


def test_domains_do_not_wait_for_each_other():
    limiter_ = Limiter({D: DomainLimits(concurrency=1), "b": DomainLimits(concurrency=1)})
    for lease in ("a#1", "a#2"):
        limiter_.on_acquire(ask(lease), 0.0)
    assert granted(limiter_.on_acquire(ask("b#1", domain="b"), 0.0)) == ["b#1"]


def test_a_lease_asked_for_twice_is_granted_once():
    limiter_ = limiter(concurrency=1)
    limiter_.on_acquire(ask("a#1"), 0.0)
    limiter_.on_acquire(ask("b#1"), 0.0)
    assert limiter_.on_acquire(ask("a#1"), 0.0) == limiter_.on_acquire(ask("b#1"), 0.0) == []
    assert granted(limiter_.on_settle(Settle(lease="a#1"), 0.0)) == ["b#1"]
    assert limiter_.on_settle(Settle(lease="b#1"), 0.0) == []


# --- deadlines


def test_a_waiter_is_refused_at_its_deadline():
    limiter_ = limiter(concurrency=1)
    limiter_.on_acquire(ask("a#1"), 0.0)
    assert wakes(limiter_.on_acquire(ask("b#1", deadline=5.0), 1.0)) == [about(4.0)]
    assert refused(limiter_.on_wake(D, 5.0)) == [("b#1", ErrorKind.DEADLINE)]


def test_a_request_after_its_deadline_is_not_granted():
    assert refused(limiter().on_acquire(ask("a#1", deadline=1.0), 1.0)) == [("a#1", ErrorKind.DEADLINE)]


def test_a_timer_nobody_needs_any_more_is_unset():
    limiter_ = limiter(concurrency=1)
    limiter_.on_acquire(ask("a#1"), 0.0)
    limiter_.on_acquire(ask("b#1", deadline=500.0), 0.0)
    assert wakes(limiter_.on_settle(Settle(lease="a#1"), 1.0)) == [None]


def test_a_timer_never_comes_without_time_passing():
    limiter_ = limiter(concurrency=1)
    limiter_.on_acquire(ask("a#1"), 0.0)
    assert wakes(limiter_.on_acquire(ask("b#1", deadline=1e-9), 0.0)) == [1e-6]


# --- settlements


@pytest.mark.parametrize(
    ("outcome", "usage", "tokens_left", "requests_left"),
    [
        (Outcome.SUCCESS, Usage(input_tokens=10, output_tokens=10), 79, 3),
        (Outcome.SUCCESS, Usage(input_tokens=100, output_tokens=50), -51, 3),
        (Outcome.SUCCESS, None, 39, 3),
        (Outcome.REJECTED, None, 99, 3),
        (Outcome.OVERLOADED, None, 99, 3),
        (Outcome.AMBIGUOUS, None, 39, 3),
        (Outcome.UNSENT, None, 99, 4),
    ],
)
def test_a_settlement_gives_back_what_its_outcome_says(outcome, usage, tokens_left, requests_left):
    limiter_ = limiter(tokens_per_minute=1000, requests_per_minute=60, burst=5)
    limiter_.on_acquire(ask("a#1", tokens=40, output=20), 0.0)
    limiter_.on_settle(Settle(lease="a#1", outcome=outcome, usage=usage), 0.0)
    requests, tokens = (bucket for _, bucket in limiter_._domains[D].meters)
    assert (tokens.level(0.0), requests.level(0.0)) == (about(tokens_left), about(requests_left))


def test_a_second_settlement_is_ignored_and_said_to_be():
    limiter_ = limiter(concurrency=1)
    limiter_.on_acquire(ask("a#1"), 0.0)
    limiter_.on_settle(Settle(lease="a#1"), 0.0)
    assert limiter_.on_settle(Settle(lease="a#1"), 0.0) == [Ignored("a#1", "settled already, or never granted")]
    assert limiter_.in_flight(D) == 0


def test_a_cancelled_lease_comes_back_unused():
    limiter_ = limiter(requests_per_minute=60, burst=2, concurrency=5)
    limiter_.on_acquire(ask("a#1"), 0.0)
    limiter_.on_acquire(ask("b#1"), 0.0)
    assert granted(limiter_.on_cancel(Cancel(lease="a#1"), 0.0)) == ["b#1"]


def test_a_cancelled_waiter_is_passed_over():
    limiter_ = limiter(concurrency=1)
    for lease in ("a#1", "b#1", "c#1"):
        limiter_.on_acquire(ask(lease), 0.0)
    limiter_.on_cancel(Cancel(lease="b#1"), 0.0)
    assert granted(limiter_.on_settle(Settle(lease="a#1"), 0.0)) == ["c#1"]


def test_who_waits_behind_a_head_that_leaves_is_served_at_once():
    limiter_ = limiter(tokens_per_minute=6000)
    for lease, tokens in (("a#1", 500), ("large#1", 500), ("small#1", 1)):
        limiter_.on_acquire(ask(lease, tokens=tokens), 0.0)
    assert granted(limiter_.on_cancel(Cancel(lease="large#1"), 0.0)) == ["small#1"]


def test_a_cancel_of_what_nobody_knows_does_nothing():
    assert limiter().on_cancel(Cancel(lease="a#1"), 0.0) == []


def test_a_dead_holder_gives_back_its_leases_as_spent_and_waits_no_more():
    limiter_ = limiter(concurrency=2, requests_per_minute=60, burst=5)
    for lease, holder in (("a#1", "dead"), ("b#1", "alive"), ("c#1", "dead"), ("d#1", "alive")):
        limiter_.on_acquire(ask(lease, holder=holder), 0.0)
    assert granted(limiter_.on_holder_gone("dead", 0.0)) == ["d#1"]
    assert limiter_.in_flight(D) == 2
    assert limiter_._domains[D].meters[0][1].level(0.0) == about(1.0)


# --- a provider that throttles


def throttle(limiter_, lease, now, retry_after=None):
    return limiter_.on_settle(Settle(lease=lease, outcome=Outcome.THROTTLED, retry_after=retry_after), now)


def test_a_429_blocks_the_whole_domain_until_the_provider_said():
    limiter_ = limiter(tokens_per_minute=6000)
    limiter_.on_acquire(ask("a#1"), 0.0)
    throttle(limiter_, "a#1", 0.0, 7.0)
    assert wakes(limiter_.on_acquire(ask("b#1"), 1.0)) == [about(6.0)]
    assert granted(limiter_.on_wake(D, 7.00001)) == ["b#1"]


def test_a_429_without_a_time_blocks_by_backoff_that_a_success_ends():
    limiter_, now, blocks = limiter(), 0.0, []
    for outcome in ("429", "429", "429", "ok", "429"):
        limiter_.on_acquire(ask("a#1"), now)
        if outcome == "ok":
            limiter_.on_settle(Settle(lease="a#1"), now)
            continue
        throttle(limiter_, "a#1", now)
        blocks.append(limiter_._domains[D].blocked_until - now)
        now += 60.0
    assert blocks == [about(1.0), about(2.0), about(4.0), about(1.0)]


def test_a_storm_of_429_counts_one_epoch_and_the_latest_end():
    limiter_ = limiter()
    for lease in ("a#1", "b#1", "c#1"):
        limiter_.on_acquire(ask(lease), 0.0)
    throttle(limiter_, "a#1", 0.0, 2.0)
    throttle(limiter_, "b#1", 0.5, 5.0)
    throttle(limiter_, "c#1", 1.0)
    assert wakes(limiter_.on_acquire(ask("d#1"), 1.0)) == [about(4.5)]
    assert [e.message.epoch for e in limiter_.on_wake(D, 5.6) if isinstance(e, Reply)] == [1]
    throttle(limiter_, "d#1", 6.0, 1.0)
    assert limiter_._domains[D].epoch == 2


def test_after_a_block_one_probe_goes_and_not_a_burst():
    limiter_ = limiter(requests_per_minute=60, burst=9)
    limiter_.on_acquire(ask("a#1"), 0.0)
    throttle(limiter_, "a#1", 0.0, 10.0)
    for n in range(5):
        limiter_.on_acquire(ask(f"b{n}#1"), 0.0)
    assert granted(limiter_.on_wake(D, 10.00001)) == ["b0#1"]


def test_a_domain_blocked_for_very_long_refuses_instead_of_letting_wait():
    limiter_ = limiter(concurrency=1)
    limiter_.on_acquire(ask("a#1"), 0.0)
    limiter_.on_acquire(ask("b#1"), 0.0)
    assert refused(throttle(limiter_, "a#1", 0.0, 3600.0)) == [("b#1", ErrorKind.RATE_LIMITED)]
    (reply,) = limiter_.on_acquire(ask("c#1"), 10.0)
    assert reply.message.retry_after == about(3590.0)
    assert wakes(limiter_.on_acquire(ask("d#1"), 3500.0)) == [about(100.0)]


# --- after a restart


def test_a_restarted_limiter_grants_nothing_before_it_knows_who_holds_what():
    limiter_ = limiter(fresh=False, concurrency=2)
    assert granted(limiter_.on_acquire(ask("c#1"), 10.0)) == []
    assert granted(limiter_.on_reaffirm(Reaffirm(holder="gateway", leases=(ask("a#1"), ask("b#1"))), 10.1)) == []
    assert granted(limiter_.on_settle(Settle(lease="a#1"), 10.2)) == ["c#1"]


def test_a_restarted_limiter_that_nobody_tells_anything_grants_after_a_while():
    limiter_ = limiter(fresh=False, concurrency=2)
    assert wakes(limiter_.on_acquire(ask("c#1"), 10.0)) == [about(1.0)]
    assert granted(limiter_.on_wake(D, 11.0)) == ["c#1"]


def test_a_restarted_limiter_starts_with_empty_buckets():
    limiter_ = limiter(fresh=False, requests_per_minute=60, burst=10)
    limiter_.on_reaffirm(Reaffirm(holder="gateway", leases=()), 10.0)
    assert wakes(limiter_.on_acquire(ask("a#1"), 10.0)) == [about(1.0)]


def test_a_reaffirmed_debt_is_charged_again():
    limiter_ = limiter(fresh=False, tokens_per_minute=6000)
    leases = (ask("a#1", tokens=3000), ask("b#1", tokens=100))
    limiter_.on_reaffirm(Reaffirm(holder="gateway", leases=leases), 0.0)
    assert limiter_._domains[D].meters[0][1].level(0.0) == about(-2401.0)


def test_what_a_holder_does_not_name_it_does_not_hold():
    limiter_ = limiter(concurrency=2)
    for lease in ("a#1", "b#1"):
        limiter_.on_acquire(ask(lease), 0.0)
    named = ask("b#1")
    assert granted(limiter_.on_reaffirm(Reaffirm(holder=named.holder, leases=(named,)), 1.0)) == []
    assert (limiter_.in_flight(D), set(limiter_._leases)) == (1, {"b#1"})


def test_what_is_reaffirmed_twice_counts_once():
    limiter_ = limiter(fresh=False, concurrency=5)
    reaffirm = Reaffirm(holder="gateway", leases=(ask("a#1"), ask("a#1")))
    limiter_.on_reaffirm(reaffirm, 0.0)
    limiter_.on_reaffirm(reaffirm, 0.0)
    assert limiter_.in_flight(D) == 1


def test_a_lease_settled_while_its_repeated_request_waits_waits_no_more():
    limiter_ = limiter(fresh=False, concurrency=1)
    limiter_.on_acquire(ask("a#1"), 0.0)
    limiter_.on_acquire(ask("b#1"), 0.0)
    assert limiter_.on_settle(Settle(lease="a#1"), 0.5)[0] == Ignored("a#1", "settled while it waited")
    assert granted(limiter_.on_wake(D, 1.0)) == ["b#1"]


def test_a_wake_for_a_domain_nobody_asked_for_does_nothing():
    assert (limiter().on_wake("other", 0.0), limiter().in_flight("other")) == ([], 0)


# --- the laws, whatever happens in whatever order

RPM, BURST, CONCURRENCY = 300, 6, 4


class World(RuleBasedStateMachine):
    """A holder or two, a clock that fires the timer, and a model of who waits and who holds."""

    def __init__(self):
        super().__init__()
        self.now = 100.0
        self.limiter = limiter(
            requests_per_minute=RPM,
            burst=BURST,
            concurrency=CONCURRENCY,
            tokens_per_minute=60000,
            output_tokens_per_minute=30000,
        )
        self.waiting = {}
        self.held = {}
        self.arrivals = {}
        self.settled = set()
        self.wake_at = inf
        self.serial = 0
        self.patient = 0.0

    def perform(self, effects):
        for effect in effects:
            match effect:
                case Reply(message=Granted(lease=lease)):
                    assert lease == next(iter(self.waiting)), "not the one who came first"
                    self.held[lease] = self.waiting.pop(lease)
                    self.arrivals[lease] = self.now
                case Reply(message=Refused(lease=lease, kind=kind)):
                    late = self.waiting.pop(lease)
                    assert kind is not ErrorKind.DEADLINE or late.deadline <= self.now
                case Wake(after=after):
                    assert after is None or after >= 1e-6
                    self.wake_at = inf if after is None else self.now + after
                case Ignored(lease=lease):
                    assert lease in self.settled

    @rule(
        tokens=st.sampled_from([0, 100, 5000, 40000, 70000]),
        patience=st.none() | st.floats(0.0, 5.0),
        holder=st.sampled_from(["one", "two"]),
        count=st.integers(1, 6),
    )
    def acquire(self, tokens, patience, holder, count):
        for _ in range(count):
            self.serial += 1
            deadline = None if patience is None else self.now + patience
            request = ask(f"s/{self.serial}#1", tokens=tokens, output=tokens // 10, deadline=deadline, holder=holder)
            self.waiting[request.lease] = request
            self.perform(self.limiter.on_acquire(request, self.now))

    @rule(
        index=st.integers(0, 99), outcome=st.sampled_from(list(Outcome)), hint=st.none() | st.sampled_from([0.5, 3.0])
    )
    def settle(self, index, outcome, hint):
        if self.held:
            lease = list(self.held)[index % len(self.held)]
            del self.held[lease]
            self.settled.add(lease)
            usage = Usage(input_tokens=3000, output_tokens=50) if outcome is Outcome.SUCCESS else None
            if outcome is Outcome.UNSENT:
                del self.arrivals[lease]  # it reached no server
            settle = Settle(lease=lease, outcome=outcome, retry_after=hint, usage=usage)
            self.perform(self.limiter.on_settle(settle, self.now))

    @rule()
    def settle_again(self):
        before = self.limiter.in_flight(D)
        for lease in list(self.settled)[-2:]:
            self.perform(self.limiter.on_settle(Settle(lease=lease), self.now))
        assert self.limiter.in_flight(D) == before

    @rule(index=st.integers(0, 99))
    def return_a_lease_unused(self, index):
        if self.held:
            lease = list(self.held)[index % len(self.held)]
            del self.held[lease], self.arrivals[lease]
            self.settled.add(lease)
            self.perform(self.limiter.on_cancel(Cancel(lease=lease), self.now))

    @rule(index=st.integers(0, 99))
    def cancel_a_waiter(self, index):
        if self.waiting:
            lease = list(self.waiting)[index % len(self.waiting)]
            del self.waiting[lease]
            self.perform(self.limiter.on_cancel(Cancel(lease=lease), self.now))

    @rule(holder=st.sampled_from(["one", "two"]))
    def a_holder_dies(self, holder):
        self.settled |= {lease for lease, request in self.held.items() if request.holder == holder}
        self.held = {lease: request for lease, request in self.held.items() if request.holder != holder}
        self.waiting = {lease: request for lease, request in self.waiting.items() if request.holder != holder}
        self.perform(self.limiter.on_holder_gone(holder, self.now))

    @rule(seconds=st.sampled_from([0.01, 0.3, 2.0]))
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

    @invariant()
    def never_more_in_flight_than_allowed(self):
        assert len(self.held) <= CONCURRENCY
        assert self.limiter.in_flight(D) == len(self.held)

    @invariant()
    def no_window_holds_more_arrivals_than_the_limit_and_the_burst(self):
        arrivals = list(self.arrivals.values())
        for first, start in enumerate(arrivals):
            for count, end in enumerate(arrivals[first:], 1):
                assert count <= RPM / 60 * (end - start) + BURST

    @invariant()
    def nobody_waits_past_the_deadline(self):
        assert all(r.deadline is None or r.deadline > self.now - 1e-5 for r in self.waiting.values())

    def teardown(self):
        for _ in range(2000):
            for lease in list(self.held):
                del self.held[lease]
                self.perform(self.limiter.on_settle(Settle(lease=lease), self.now))
            if not self.waiting and not self.held:
                break
            self.pass_time(min(30.0, max(0.0, self.wake_at - self.now)) + 1e-6)
        assert (self.waiting, self.held, self.limiter.in_flight(D), self.limiter._leases) == ({}, {}, 0, {})
        assert self.wake_at == inf


World.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestWorld = World.TestCase


def test_no_call_takes_longer_than_its_turn_needs():
    """Two hundred in line at 300 a minute with four in flight: the last goes after exactly its 194 paces."""
    limiter_, now, order = limiter(requests_per_minute=300, burst=6, concurrency=4), 0.0, []
    for n in range(200):
        order += granted(limiter_.on_acquire(ask(f"{n}#1"), now))
    while len(order) < 200:
        effects = [e for lease in order[-4:] for e in limiter_.on_settle(Settle(lease=lease), now)]
        if not granted(effects):
            now += 0.2001
            effects = limiter_.on_wake(D, now)
        order += granted(effects)
    assert order == [f"{n}#1" for n in range(200)]
    assert now == pytest.approx(195 * 0.2, rel=0.01)


# --- what can be looked at


def test_where_nobody_waits_there_is_no_obstacle():
    limiter_ = limiter(concurrency=1)
    limiter_.on_acquire(ask("a#1"), 0.0)
    assert limiter_.obstacles(0.0) == {}


@pytest.mark.parametrize(
    ("limits", "obstacle"),
    [
        ({"concurrency": 1, "requests_per_minute": 60, "burst": 1}, "concurrency"),
        ({"requests_per_minute": 60, "burst": 1}, "requests_per_minute"),
        ({"requests_per_minute": 6000, "burst": 1, "output_tokens_per_minute": 100}, "output_tokens_per_minute"),
        ({"requests_per_minute": 60, "burst": 1, "input_tokens_per_minute": 1e6}, "requests_per_minute"),
        ({"tokens_per_minute": 100}, "tokens_per_minute"),
    ],
)
def test_the_obstacle_is_what_the_first_in_line_waits_for_longest(limits, obstacle):
    limiter_ = limiter(**limits)
    for lease in ("a#1", "b#1", "c#1"):
        limiter_.on_acquire(ask(lease, tokens=5, output=10), 0.0)
    assert limiter_.obstacles(0.0) == {D: obstacle}


def test_after_a_429_the_obstacle_is_the_block():
    limiter_ = limiter(requests_per_minute=6000, burst=10)
    limiter_.on_acquire(ask("a#1"), 0.0)
    limiter_.on_settle(Settle(lease="a#1", outcome=Outcome.THROTTLED, retry_after=5.0), 0.0)
    limiter_.on_acquire(ask("b#1"), 1.0)
    assert limiter_.obstacles(1.0) == {D: "blocked"}
