"""The limiter, message by message; what holds whatever happens stands in ``test_limiter_laws.py``."""

from __future__ import annotations

import pytest

from protocol.chat import Usage
from protocol.domain import UNPACED
from protocol.errors import ErrorKind
from protocol.limiter import GRACE, MOST_AT_ONCE, DomainLimits, Ignored, LeaseExpired, Limiter, Reply, Wake
from protocol.policies.budget import Budget
from protocol.signals import Acquire, Allow, Amount, Cancel, Granted, Outcome, Reaffirm, Refused, Settle

D = "main"


def ask(lease, *, tokens=0, output=0, nano=0, holder="gateway", domain=D, **options):
    amount = Amount(input_tokens=tokens, output_tokens=output, nano_usd=nano)
    return Acquire(lease=lease, domain=domain, amount=amount, holder=holder, reply_to=f"to/{holder}", **options)


def limiter(*, fresh=True, budget=None, flows=None, **limits):
    limits.setdefault("start_per_minute", UNPACED)
    return Limiter({D: DomainLimits(**limits)}, fresh=fresh, budget=budget, flows=flows)


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


def test_a_domain_that_nobody_configured_is_unlimited_but_starts_carefully():
    limiter_ = limiter(concurrency=1)
    effects = [limiter_.on_acquire(ask(f"{n}#1", domain="other", tokens=10**9), 0.0) for n in range(100)]
    assert sum(len(granted(e)) for e in effects) == 2
    later = [limiter_.on_wake("other", number / 60.0) for number in range(1, 100)]
    assert sum(len(granted(e)) for e in later) == 98


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
    limiter_.on_settle(Settle(lease="a#1"), 1.0)
    assert wakes(limiter_.on_settle(Settle(lease="b#1"), 1.0)) == [None]


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


def test_a_429_without_a_time_blocks_for_longer_each_time_until_a_success():
    limiter_, now, blocks = limiter(), 0.0, []
    for outcome in ("429", "429", "429", "ok", "429"):
        assert granted(limiter_.on_acquire(ask("a#1"), now)) == ["a#1"]
        if outcome == "ok":
            limiter_.on_settle(Settle(lease="a#1"), now)
        else:
            throttle(limiter_, "a#1", now)
            blocks.append(limiter_._domains[D].blocked_until - now)
        now += 60.0
    assert blocks == [about(0.25), about(1.0), about(5.0), about(0.25)]


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
    limiter_.on_acquire(ask("e#1"), 6.0)
    assert [e.message.epoch for e in limiter_.on_wake(D, 7.1) if isinstance(e, Reply)] == [2]


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


# --- speed


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


# --- a day


def test_a_day_s_requests_may_go_at_once_and_then_the_day_is_waited_for():
    limiter_ = limiter(requests_per_day=2)
    assert [len(granted(limiter_.on_acquire(ask(f"{n}#1"), 0.0))) for n in range(2)] == [1, 1]
    (wait,) = wakes(limiter_.on_acquire(ask("c#1"), 0.0))
    assert wait == pytest.approx(86_400.0 + 900.0)


def test_after_a_restart_a_day_counts_as_used_up_evenly_and_not_as_new():
    limiter_ = limiter(requests_per_day=96, fresh=False)
    limiter_.on_reaffirm(Reaffirm(holder="gateway", leases=()), 0.0)
    assert wakes(limiter_.on_acquire(ask("a#1"), 0.0)) == [about(900.0)]


# --- who is next


def waiting(limiter_, *asks):
    """Let *asks* wait for the one place there is; return the order in which they are served, a second each."""
    limiter_.on_acquire(ask("first#1"), 0.0)
    for request in asks:
        limiter_.on_acquire(request, 0.0)
    return served(limiter_, len(asks))


def served(limiter_, count, now=0.0):
    order, holds = [], next(iter(limiter_._leases))
    for n in range(count):
        (holds,) = granted(limiter_.on_settle(Settle(lease=holds), now + n))
        order.append(holds)
    return order


def test_the_more_urgent_class_goes_first():
    order = waiting(limiter(concurrency=1), ask("low#1", priority=2), ask("normal#1"), ask("high#1", priority=0))
    assert order == ["high#1", "normal#1", "low#1"]


def test_a_class_that_has_waited_its_age_gets_every_second_turn():
    urgent = [ask(f"h{n}#1", priority=0) for n in range(8)]
    lowest = [ask(f"l{n}#1", priority=2) for n in range(2)]
    order = waiting(limiter(concurrency=1, ageing=2.0), *urgent, *lowest)
    assert order == ["h0#1", "h1#1", "h2#1", "h3#1", "l0#1", "h4#1", "l1#1", "h5#1", "h6#1", "h7#1"]


def test_the_timer_comes_when_somebody_has_aged_while_a_large_request_waits_for_its_tokens():
    limiter_ = limiter(tokens_per_minute=6000, ageing=2.0)
    limiter_.on_acquire(ask("a#1", tokens=600), 0.0)
    limiter_.on_acquire(ask("large#1", tokens=6000, priority=0), 0.0)
    assert wakes(limiter_.on_acquire(ask("small#1", tokens=100, priority=1), 0.0)) == [about(2.0)]
    assert granted(limiter_.on_wake(D, 2.0)) == ["small#1"]


def test_flows_are_served_by_weight_and_by_tokens():
    asks = [ask(f"{flow}/{n}#1", tokens=100, flow=flow) for n in range(8) for flow in ("a", "b")]
    order = waiting(limiter(concurrency=1, flows={"a": 1.0, "b": 3.0}), *asks)
    assert sorted(lease[0] for lease in order[:8]) == ["a"] * 2 + ["b"] * 6


def test_a_flow_is_corrected_to_what_its_calls_have_really_taken():
    limiter_ = limiter(concurrency=1)
    limiter_.on_acquire(ask("first#1"), 0.0)
    for lease, tokens in (("a/0#1", 1000), ("b/0#1", 100), ("b/1#1", 100), ("a/1#1", 1000)):
        limiter_.on_acquire(ask(lease, tokens=tokens, flow=lease[0]), 0.0)
    limiter_.on_settle(Settle(lease="first#1"), 0.0)
    real = Usage(input_tokens=10, output_tokens=10)
    assert granted(limiter_.on_settle(Settle(lease="a/0#1", usage=real), 0.0)) == ["b/0#1"]
    assert granted(limiter_.on_settle(Settle(lease="b/0#1"), 0.0)) == ["a/1#1"]


# --- leases that nobody settles


def test_a_lease_that_is_not_settled_long_after_its_deadline_expires_as_spent():
    budget = Budget(1000)
    limiter_ = limiter(concurrency=1, budget=budget)
    limiter_.on_acquire(ask("a#1", nano=600, deadline=10.0), 0.0)
    limiter_.on_acquire(ask("b#1", nano=400), 0.0)
    effects = limiter_.on_wake(D, 10.0 + GRACE)
    assert effects[0] == LeaseExpired("a#1", "gateway")
    assert granted(effects) == ["b#1"]
    assert (budget.total.spent, budget.total.reserved) == (600, 400)
    assert limiter_.on_settle(Settle(lease="a#1"), 50.0) == [Ignored("a#1", "settled already, or never granted")]


def test_the_timer_comes_for_a_lease_although_nobody_waits():
    assert wakes(limiter().on_acquire(ask("a#1", deadline=10.0), 4.0)) == [about(6.0 + GRACE)]


# --- money


def test_money_is_reserved_with_the_most_a_call_can_cost_and_given_back_at_its_end():
    budget = Budget(1000)
    limiter_ = limiter(budget=budget)
    assert granted(limiter_.on_acquire(ask("a#1", nano=700), 0.0)) == ["a#1"]
    assert granted(limiter_.on_acquire(ask("b#1", nano=500), 0.0)) == []
    assert granted(limiter_.on_settle(Settle(lease="a#1", usage=Usage(), nano_usd=200), 0.0)) == ["b#1"]
    assert (budget.total.spent, budget.total.reserved) == (200, 500)


@pytest.mark.parametrize(
    ("outcome", "spent"),
    [
        (Outcome.SUCCESS, 700),
        (Outcome.REJECTED, 0),
        (Outcome.THROTTLED, 0),
        (Outcome.OVERLOADED, 0),
        (Outcome.AMBIGUOUS, 700),
        (Outcome.UNSENT, 0),
    ],
)
def test_a_settlement_without_usage_costs_what_its_outcome_says(outcome, spent):
    budget = Budget(1000)
    limiter_ = limiter(budget=budget)
    limiter_.on_acquire(ask("a#1", nano=700), 0.0)
    limiter_.on_settle(Settle(lease="a#1", outcome=outcome), 0.0)
    assert (budget.total.spent, budget.total.reserved) == (spent, 0)


def test_a_call_that_no_money_is_left_for_is_refused_with_the_figures():
    limiter_ = limiter(budget=Budget(2_000_000, spent=1_500_000))
    (reply,) = limiter_.on_acquire(ask("run/0#1", nano=500_001), 0.0)
    assert (reply.message.kind, reply.message.retry_after) == (ErrorKind.BUDGET, None)
    assert reply.message.reason == (
        "the budget of the system does not cover this call: $0.001500 of $0.002000 are spent, and it may cost $0.000500"
    )


def test_a_run_has_a_budget_of_its_own():
    limiter_ = limiter()
    limiter_.on_allow(Allow(run="a", nano_usd=1000), 0.0)
    (reply,) = limiter_.on_acquire(ask("a/0#1", nano=1001), 0.0)
    assert reply.message.reason.startswith("the budget of the run a does not cover this call")
    assert granted(limiter_.on_acquire(ask("b/0#1", nano=1001), 0.0)) == ["b/0#1"]


def test_a_call_without_a_price_is_refused_where_a_budget_is_set():
    (reply,) = limiter(budget=Budget(1000)).on_acquire(ask("a/0#1", nano=None), 0.0)
    assert (reply.message.kind, "no price" in reply.message.reason) == (ErrorKind.BUDGET, True)
    assert granted(limiter().on_acquire(ask("a/0#1", nano=None), 0.0)) == ["a/0#1"]


def test_who_waits_for_the_money_of_its_own_run_holds_up_nobody():
    limiter_ = limiter()
    limiter_.on_allow(Allow(run="a", nano_usd=1000), 0.0)
    limiter_.on_acquire(ask("a/0#1", nano=800), 0.0)
    assert granted(limiter_.on_acquire(ask("a/1#1", nano=800, priority=0), 0.0)) == []
    assert granted(limiter_.on_acquire(ask("b/0#1", nano=800), 0.0)) == ["b/0#1"]
    assert granted(limiter_.on_settle(Settle(lease="a/0#1", usage=Usage(), nano_usd=100), 0.0)) == ["a/1#1"]


def test_a_run_has_at_most_so_many_calls_under_way_and_holds_up_nobody():
    limiter_ = limiter()
    limiter_.on_allow(Allow(run="a", calls=2), 0.0)
    effects = [limiter_.on_acquire(ask(lease), 0.0) for lease in ("a/0#1", "a/1#1", "a/2#1", "b/0#1")]
    assert [granted(each) for each in effects] == [["a/0#1"], ["a/1#1"], [], ["b/0#1"]]
    assert granted(limiter_.on_settle(Settle(lease="a/0#1"), 0.0)) == ["a/2#1"]


def test_the_money_of_a_run_goes_to_all_who_fit_in_the_order_they_came():
    limiter_ = limiter()
    limiter_.on_allow(Allow(run="a", nano_usd=1000), 0.0)
    for n, nano in enumerate((900, 300, 300, 300)):
        limiter_.on_acquire(ask(f"a/{n}#1", nano=nano), 0.0)
    assert granted(limiter_.on_settle(Settle(lease="a/0#1", usage=Usage(), nano_usd=100), 0.0)) == [
        "a/1#1",
        "a/2#1",
        "a/3#1",
    ]


def test_who_looked_for_money_in_vain_keeps_the_place_before_the_others_of_the_run():
    limiter_ = limiter()
    limiter_.on_allow(Allow(run="a", nano_usd=1000), 0.0)
    for n, nano in enumerate((450, 450, 800, 100)):
        limiter_.on_acquire(ask(f"a/{n}#1", nano=nano), 0.0)
    assert granted(limiter_.on_cancel(Cancel(lease="a/3#1"), 0.0)) == []
    assert granted(limiter_.on_acquire(ask("a/4#1", nano=550), 0.0)) == []
    assert granted(limiter_.on_settle(Settle(lease="a/0#1", outcome=Outcome.UNSENT), 0.0)) == []
    assert granted(limiter_.on_settle(Settle(lease="a/1#1", outcome=Outcome.UNSENT), 0.0)) == ["a/2#1"]


def test_who_stands_aside_is_refused_at_the_deadline_and_may_leave():
    limiter_ = limiter()
    limiter_.on_allow(Allow(run="a", nano_usd=1000), 0.0)
    limiter_.on_acquire(ask("a/0#1", nano=800), 0.0)
    limiter_.on_acquire(ask("a/1#1", nano=800, deadline=5.0), 0.0)
    limiter_.on_acquire(ask("a/2#1", nano=800), 0.0)
    assert limiter_.on_acquire(ask("a/2#1", nano=800), 0.0) == []
    assert refused(limiter_.on_wake(D, 5.0)) == [("a/1#1", ErrorKind.DEADLINE)]
    limiter_.on_cancel(Cancel(lease="a/2#1"), 5.0)
    assert granted(limiter_.on_settle(Settle(lease="a/0#1", outcome=Outcome.UNSENT), 6.0)) == []


def test_who_stands_aside_is_forgotten_with_a_dead_holder():
    limiter_ = limiter()
    limiter_.on_allow(Allow(run="a", nano_usd=1000), 0.0)
    limiter_.on_acquire(ask("a/0#1", nano=800), 0.0)
    limiter_.on_acquire(ask("a/1#1", nano=800, holder="dead"), 0.0)
    limiter_.on_holder_gone("dead", 0.0)
    assert granted(limiter_.on_settle(Settle(lease="a/0#1", outcome=Outcome.UNSENT), 0.0)) == []


def test_who_stands_aside_is_called_in_when_the_holder_of_the_run_s_calls_dies():
    limiter_ = limiter()
    limiter_.on_allow(Allow(run="a", calls=1), 0.0)
    limiter_.on_acquire(ask("a/0#1", holder="dead"), 0.0)
    limiter_.on_acquire(ask("a/1#1"), 0.0)
    assert granted(limiter_.on_holder_gone("dead", 0.0)) == ["a/1#1"]


def test_a_budget_that_is_raised_lets_in_who_stands_aside():
    limiter_ = limiter()
    limiter_.on_allow(Allow(run="a", nano_usd=1000), 0.0)
    limiter_.on_acquire(ask("a/0#1", nano=800), 0.0)
    limiter_.on_acquire(ask("a/1#1", nano=800), 0.0)
    assert granted(limiter_.on_allow(Allow(run="a", nano_usd=1600), 0.0)) == ["a/1#1"]


def test_money_that_comes_back_in_one_domain_serves_another():
    limiter_ = Limiter({D: DomainLimits(), "b": DomainLimits()}, budget=Budget(1000))
    limiter_.on_acquire(ask("x/0#1", nano=800), 0.0)
    assert granted(limiter_.on_acquire(ask("y/0#1", nano=800, domain="b"), 0.0)) == []
    assert granted(limiter_.on_settle(Settle(lease="x/0#1", usage=Usage(), nano_usd=200), 0.0)) == ["y/0#1"]


def test_who_can_never_be_paid_any_more_is_refused_when_its_turn_comes():
    limiter_ = limiter(budget=Budget(1000))
    limiter_.on_acquire(ask("a/0#1", nano=800), 0.0)
    limiter_.on_acquire(ask("b/0#1", nano=300), 0.0)
    limiter_.on_acquire(ask("c/0#1", nano=100), 0.0)
    effects = limiter_.on_settle(Settle(lease="a/0#1"), 0.0)
    assert (refused(effects), granted(effects)) == ([("b/0#1", ErrorKind.BUDGET)], ["c/0#1"])


def test_the_budget_of_a_run_goes_with_the_run():
    limiter_ = limiter()
    limiter_.on_allow(Allow(run="a", nano_usd=1000), 0.0)
    limiter_.on_run_ended("a")
    assert granted(limiter_.on_acquire(ask("a/0#1", nano=2000), 0.0)) == ["a/0#1"]


# --- the books outlive the limiter


def restarted(budget, *leases, **limits):
    """Return a limiter that comes after one that had granted *leases*."""
    before = limiter(budget=budget, **limits)
    for lease in leases:
        before.on_acquire(lease, 0.0)
    return limiter(fresh=False, budget=budget, **limits)


def test_what_an_earlier_life_has_granted_stays_reserved_until_it_is_settled():
    budget = Budget(1000)
    limiter_ = restarted(budget, ask("a/0#1", nano=800))
    assert limiter_.on_settle(Settle(lease="a/0#1", usage=Usage(), nano_usd=300), 1.0) == []
    assert (budget.total.spent, budget.total.reserved) == (300, 0)
    assert limiter_.on_settle(Settle(lease="a/0#1"), 1.0) == [Ignored("a/0#1", "settled already, or never granted")]


def test_nothing_is_granted_before_everybody_who_holds_leases_is_heard_of_however_late():
    leases = (ask("a/0#1", holder="one"), ask("b/0#1", holder="two"))
    limiter_ = restarted(Budget(), *leases, concurrency=2)
    assert wakes(limiter_.on_acquire(ask("c/0#1"), 100.0)) == []
    assert granted(limiter_.on_reaffirm(Reaffirm(holder="one", leases=leases[:1]), 200.0)) == []
    assert granted(limiter_.on_holder_gone("two", 300.0)) == ["c/0#1"]


def test_a_lease_that_was_reaffirmed_corrects_the_share_of_its_flow_like_any_other():
    lease = ask("a/0#1", tokens=100, flow="a")
    limiter_ = restarted(Budget(), lease, concurrency=2)
    limiter_.on_reaffirm(Reaffirm(holder="gateway", leases=(lease,)), 0.0)
    for request in (ask("x#1"), ask("a/1#1", flow="a"), ask("b/0#1", flow="b")):
        limiter_.on_acquire(request, 0.0)
    usage = Usage(input_tokens=5000)
    assert granted(limiter_.on_settle(Settle(lease="a/0#1", usage=usage), 1.0)) == ["b/0#1"]


def test_the_end_of_somebody_who_held_nothing_tells_a_restarted_limiter_nothing():
    limiter_ = limiter(fresh=False, concurrency=2)
    limiter_.on_acquire(ask("c/0#1"), 10.0)
    assert granted(limiter_.on_holder_gone("two", 10.1)) == []


def test_a_cancel_of_an_earlier_life_s_lease_gives_its_money_back():
    budget = Budget(1000)
    limiter_ = restarted(budget, ask("a/0#1", nano=800))
    limiter_.on_reaffirm(Reaffirm(holder="gateway", leases=()), 1.0)
    assert granted(limiter_.on_acquire(ask("b/0#1", nano=500), 1.0)) == []
    assert granted(limiter_.on_cancel(Cancel(lease="a/0#1"), 1.0)) == ["b/0#1"]


def test_a_settlement_that_an_earlier_life_has_failed_on_counts_as_spent():
    budget = Budget(1000)
    restarted(budget, ask("a/0#1", nano=800)).on_lost("a/0#1")
    assert (budget.total.spent, budget.total.reserved) == (800, 0)


# --- no turn is long


def test_a_domain_that_is_blocked_refuses_so_many_in_a_turn():
    limiter_ = limiter(concurrency=1)
    limiter_.on_acquire(ask("a#1"), 0.0)
    for n in range(MOST_AT_ONCE + 1):
        limiter_.on_acquire(ask(f"{n}#1"), 0.0)
    effects = throttle(limiter_, "a#1", 0.0, 3600.0)
    assert (len(refused(effects)), wakes(effects)) == (MOST_AT_ONCE, [1e-6])
    assert len(refused(limiter_.on_wake(D, 0.1))) == 1


def test_a_turn_answers_so_many_and_leaves_the_others_to_the_next():
    limiter_ = limiter(concurrency=1)
    limiter_.on_acquire(ask("a#1"), 0.0)
    for n in range(2 * MOST_AT_ONCE):
        limiter_.on_acquire(ask(f"{n}#1", deadline=5.0), 0.0)
    effects = limiter_.on_wake(D, 5.0)
    assert (len(refused(effects)), wakes(effects)) == (MOST_AT_ONCE, [1e-6])
    assert len(refused(limiter_.on_wake(D, 5.1))) == MOST_AT_ONCE


# --- what adapts to a provider


@pytest.mark.parametrize("replaced", [False, True])
def test_what_a_replaced_holder_does_not_name_is_free_and_what_another_does_not_may_be_on_its_way(replaced):
    limiter_ = limiter(concurrency=2)
    for lease in ("a#1", "b#1", "c#1"):
        limiter_.on_acquire(ask(lease), 0.0)
    named = ask("b#1")
    limiter_.on_reaffirm(Reaffirm(holder=named.holder, leases=(named,), replaced=replaced), 1.0)
    assert set(limiter_._leases) == ({"b#1"} if replaced else {"a#1", "b#1"})
    assert limiter_.in_flight(D) == len(limiter_._leases)
    assert granted(limiter_.on_settle(Settle(lease="b#1"), 2.0)) == ([] if replaced else ["c#1"])


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
