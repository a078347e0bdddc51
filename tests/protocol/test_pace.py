"""A domain learns: what its provider's refusals, headers, overload and timeouts teach, composed as the limiter does."""

from __future__ import annotations

from dataclasses import replace
from math import inf
from statistics import median

import pytest

from protocol.chat import Usage
from protocol.domain import UNPACED, Domain, DomainLimits, real_costs
from protocol.errors import ErrorKind
from protocol.limiter import Learnt, Limiter, Reply, Wake
from protocol.signals import Acquire, Amount, Cancel, Granted, Outcome, Reaffirm, Settle
from tests.protocol.vendor import Loop, Vendor, drawn, weather

D = "main"
ONE = (1, 0, 0, 0)


def domain(*, empty_at=None, **limits):
    return Domain(D, DomainLimits(**limits), {}, empty_at=empty_at)


def settle(known, ticket, now, outcome=Outcome.SUCCESS, *, costs=ONE, roll=0.0, **fields):
    """End one call of *known*, as the limiter does."""
    said = Settle(lease="a#1", outcome=outcome, **fields)
    real = real_costs(costs, said)
    known.learn(ticket, said, now, roll)
    known.correct(costs, real, now)
    known.in_flight -= 1


def spoken(limit, remaining, what="requests"):
    return {
        f"x-ratelimit-limit-{what}": str(limit),
        f"x-ratelimit-remaining-{what}": str(remaining),
        f"x-ratelimit-reset-{what}": "1s",
    }


# --- 429s


def go(known, now):
    """Let go whoever may; return the tickets."""
    tickets = []
    while known.wait(ONE, now) == 0.0:
        tickets.append(known.take(ONE, now))
    return tickets


def crowded(known, seconds, took=0.05):
    """Let go as many as may for so long, each with an answer that *took* so long; return when each went."""
    went, out, now = [], [], 0.0
    while now < seconds:
        wait = known.wait(ONE, now)
        if wait == 0.0:
            out.append((now + took, known.take(ONE, now)))
            went.append(now)
        elif out and out[0][0] <= now + wait:
            now, ticket = out.pop(0)
            settle(known, ticket, now)
        else:
            now += wait
    return went


def test_where_no_limit_is_known_it_starts_carefully_and_is_soon_at_full_speed():
    went = crowded(domain(), 0.4)
    assert sum(at < 0.05 for at in went) <= 6
    assert sum(0.3 <= at < 0.35 for at in went) >= 64


def test_where_answers_take_long_the_start_grows_no_faster_than_threefold_with_each_round():
    went = crowded(domain(), 3.0, took=1.0)
    rounds = [sum(second <= at < second + 1.0 for at in went) for second in range(3)]
    assert rounds[0] == 62
    assert 62 < rounds[1] <= 3 * 62
    assert rounds[1] < rounds[2] <= 9 * 62


def test_who_knows_better_starts_at_once():
    assert len(crowded(domain(start_per_minute=UNPACED, concurrency=500), 0.001)) == 500


def storm(known, now=0.0, *, passed=40, refused=10, every=0.02):
    """Let calls go every so often, the last few of them turned away; then the probe, which passes."""
    tickets = []
    for _ in range(passed + refused):
        tickets.append((known.take(ONE, now), now))
        now += every
    for number, (ticket, at) in enumerate(tickets):
        settle(known, ticket, at + 0.1, Outcome.SUCCESS if number < passed else Outcome.THROTTLED)
    now = known.blocked_until + 1e-5
    settle(known, known.take(ONE, now), now + 0.1)
    return now + 0.1


def test_a_429_shows_that_there_is_a_limit_and_from_then_on_it_is_kept():
    known = domain()
    now = storm(known)
    (limit,) = known.learned(now).limits
    assert (limit.resource, limit.source) == ("requests", "refusals")
    assert 60.0 < limit.per_minute < 3000.0
    known.take(ONE, now)
    known.take(ONE, now)
    assert known.wait(ONE, now) > 0.0


def test_a_configured_rate_is_never_passed_whatever_headers_say():
    known = domain(requests_per_minute=60, burst=2)
    for second in range(5):
        settle(known, known.take(ONE, float(second)), second + 0.1, headers=spoken(6000, 99))
    known.take(ONE, 10.0)
    assert known.wait(ONE, 10.0) == pytest.approx(1.0, abs=1e-4)


def test_after_a_block_one_probe_goes_and_the_others_wait_for_it():
    known = domain()
    settle(known, known.take(ONE, 0.0), 0.1, Outcome.THROTTLED, retry_after=5.0)
    assert known.wait(ONE, 0.1) == pytest.approx(5.0, abs=1e-4)
    known.take(ONE, 5.2)
    assert known.wait(ONE, 5.2) == pytest.approx(0.3, abs=1e-3)
    assert known.obstacle(ONE, 5.2) == "blocked"


@pytest.mark.parametrize(("outcome", "free"), [(Outcome.UNSENT, 1.0), (Outcome.REJECTED, 1.0), (Outcome.SUCCESS, 0.0)])
def test_a_probe_that_says_nothing_is_followed_by_another(outcome, free):
    known = domain()
    settle(known, known.take(ONE, 0.0), 0.1, Outcome.THROTTLED, retry_after=5.0)
    settle(known, known.take(ONE, 5.2), 5.3, outcome)
    assert known.wait(ONE, 5.3) == pytest.approx(free, abs=0.06)


def test_where_a_careful_start_is_asked_for_it_is_paced_from_the_first_call_on_and_grows_with_success():
    known, now, waits = domain(start_per_minute=600), 0.0, []
    for _ in range(4):
        ticket = known.take(ONE, now)
        waits.append(known.wait(ONE, now))
        now += waits[-1]
        settle(known, ticket, now)
    assert 0.0 < waits[0] < 0.1
    assert waits[-1] < waits[1]


# --- headers


def test_headers_teach_the_rate_and_the_domain_keeps_below_it():
    known = domain()
    settle(known, known.take(ONE, 0.0), 0.1, headers=spoken(600, 500))
    assert [(limit.per_minute, limit.source) for limit in known.learned(0.1).limits] == [(600.0, "headers")]
    known.take(ONE, 1.0)
    known.take(ONE, 1.0)
    assert 0.05 < known.wait(ONE, 1.0) < 0.2


def test_what_headers_say_is_left_lowers_the_level():
    known = domain(requests_per_minute=600, burst=20)
    settle(known, known.take(ONE, 0.0), 0.0, headers=spoken(600, 0))
    assert known.wait(ONE, 0.0) == pytest.approx(0.1, rel=0.02)


def test_headers_without_a_rate_lower_the_level():
    known = domain()
    settle(known, known.take(ONE, 0.0), 0.0, headers={"x-ratelimit-remaining": "0"})
    assert known.wait(ONE, 0.0) > 0.0
    assert domain().wait(ONE, 0.0) == 0.0


def test_a_token_limit_that_headers_teach_is_paced_by_what_calls_have_used():
    known = domain()
    costs = (1, 500, 400, 100)
    ticket = known.take(costs, 0.0)
    settle(known, ticket, 0.1, costs=costs, headers=spoken(6000, 3000, "tokens"))
    assert {limit.resource for limit in known.learned(0.1).limits} == {"tokens"}
    known.take(costs, 1.0)
    known.take(costs, 1.0)
    assert known.wait(costs, 1.0) > 1.0
    assert known.wait((1, 0, 0, 0), 1.0) > 1.0
    assert known.obstacle(costs, 1.0) == "tokens_per_minute"


def test_calls_whose_tokens_nobody_has_estimated_are_charged_what_calls_usually_use():
    known, used = domain(), Usage(input_tokens=400, output_tokens=100)
    settle(known, known.take(ONE, 0.0), 0.1, headers=spoken(6000, 1000, "tokens"), usage=used)
    assert len(go(known, 1.0)) == 1
    assert known.wait(ONE, 1.0) == pytest.approx(4.0, abs=0.1)


def test_what_such_a_call_has_really_used_is_charged_in_the_end():
    known = domain()
    settle(known, known.take(ONE, 0.0), 0.1, headers=spoken(6000, 1000, "tokens"), usage=Usage(input_tokens=500))
    (first,) = go(known, 1.0)
    settle(known, first, 1.0, usage=Usage(input_tokens=100))
    (second,) = go(known, 1.0)
    settle(known, second, 1.0, usage=Usage(input_tokens=1500))
    assert known.wait(ONE, 1.0) > 8.0


@pytest.mark.parametrize(("outcome", "back"), [(Outcome.AMBIGUOUS, False), (Outcome.REJECTED, True)])
def test_what_nobody_knows_the_use_of_keeps_the_usual_charge(outcome, back):
    known = domain()
    settle(known, known.take(ONE, 0.0), 0.1, headers=spoken(6000, 1000, "tokens"), usage=Usage(input_tokens=500))
    (first,) = go(known, 1.0)
    settle(known, first, 1.0, outcome)
    assert (known.wait(ONE, 1.0) == 0.0) == back


def test_a_first_word_of_tokens_counts_what_is_under_way():
    known, used = domain(start_per_minute=UNPACED), Usage(input_tokens=300)
    settle(known, known.take(ONE, 0.0), 0.1, headers=spoken(6000, 6000, "tokens"), usage=used)
    other = domain(start_per_minute=UNPACED)
    tickets = [other.take(ONE, 0.0) for _ in range(3)]
    settle(other, tickets[0], 0.1, usage=used, headers=spoken(600, 600))
    settle(other, tickets[1], 0.1, usage=used, headers=spoken(6000, 600, "tokens"))
    assert known.pace.rates[1].level(0.1) == pytest.approx(594.0, rel=0.02)
    assert other.pace.rates[1].level(0.1) == pytest.approx(600.0 - 300.0, rel=0.02)


def test_a_limit_of_tokens_that_is_taught_may_go_in_six_seconds_worth_at_once_and_no_more():
    known = domain()
    settle(known, known.take(ONE, 0.0), 0.1, headers=spoken(6000, 6000, "tokens"))
    assert known.pace.rates[1].level(100.0) == 600.0


def test_a_429_for_tokens_cuts_the_tokens_and_blocks_everything():
    known = domain(tokens_per_minute=60_000, requests_per_minute=6000)
    costs = (1, 500, 400, 100)
    ticket = known.take(costs, 0.0)
    gone = spoken(60_000, 0, "tokens") | spoken(6000, 99)
    settle(known, ticket, 0.1, Outcome.THROTTLED, costs=costs, headers=gone, retry_after=2.0)
    assert (known.pace.rates[0].cuts, known.pace.rates[1].cuts) == (0, 1)
    assert known.wait(costs, 0.1) == pytest.approx(2.0, abs=1e-3)


def test_tokens_that_were_not_used_come_back_to_the_pace_as_well():
    known = domain(tokens_per_minute=60_000)
    costs = (1, 5000, 1000, 4000)
    ticket = known.take(costs, 0.0)
    assert known.wait(costs, 0.0) > 3.0
    settle(known, ticket, 0.0, Outcome.REJECTED, costs=costs)
    assert known.wait(costs, 0.0) == 0.0


# --- calls in flight


def busy(known, calls):
    return [known.take(ONE, 0.0) for _ in range(calls)]


@pytest.mark.parametrize(
    ("outcome", "kind", "left"),
    [
        (Outcome.OVERLOADED, ErrorKind.PROVIDER_OVERLOADED, 7),
        (Outcome.AMBIGUOUS, ErrorKind.TIMEOUT, 9),
        (Outcome.AMBIGUOUS, ErrorKind.CONNECTION, None),
        (Outcome.AMBIGUOUS, None, None),
        (Outcome.SUCCESS, None, None),
    ],
)
@pytest.mark.parametrize("most", [None, 64])
def test_overload_and_timeouts_cut_what_is_in_flight_once_and_nothing_else_does(outcome, kind, left, most):
    known = domain(concurrency=most)
    for ticket in busy(known, 10):
        settle(known, ticket, 1.0, outcome, kind=kind)
    assert known.learned(1.0).concurrency == (most if left is None else left)


def test_successes_bring_calls_in_flight_back_to_what_is_configured_and_no_further():
    known = domain(concurrency=8)
    settle(known, busy(known, 8)[0], 1.0, Outcome.OVERLOADED)
    assert known.pace.concurrency == 5
    for _ in range(200):
        settle(known, known.take(ONE, 2.0), 2.1)
    assert known.pace.concurrency == 8


def test_where_all_places_are_taken_only_the_end_of_a_call_can_help():
    known = domain(concurrency=8)
    settle(known, busy(known, 8)[0], 1.0, Outcome.OVERLOADED)
    assert (known.in_flight, known.wait(ONE, 1.0), known.obstacle(ONE, 1.0)) == (7, inf, "concurrency")


# --- through the limiter


def ask(lease):
    return Acquire(lease=lease, domain=D, amount=Amount(), holder="gateway", reply_to="gateway")


def granted(effects):
    return [e.message.lease for e in effects if isinstance(e, Reply) and isinstance(e.message, Granted)]


def limiter(**limits):
    return Limiter({D: DomainLimits(**limits)})


def test_what_was_learned_is_news_once_and_can_be_asked_for_ever():
    machine, news = limiter(), []
    for number in range(5):
        machine.on_acquire(ask(f"{number}/0#1"), float(number))
        said = Settle(lease=f"{number}/0#1", headers=spoken(600, 500))
        news += [e for e in machine.on_settle(said, number + 0.5) if isinstance(e, Learnt)]
    assert [(each.domain, each.limit.per_minute, each.limit.source) for each in news] == [(D, 600.0, "headers")]
    (known,) = machine.learned(9.0)
    assert (known.domain, known.limits, known.throttled) == (D, (news[0].limit,), 0)


def test_a_lease_that_is_cancelled_takes_its_call_back_from_the_pace():
    machine = limiter(requests_per_minute=60, burst=2)
    machine.on_acquire(ask("a/0#1"), 0.0)
    machine.on_acquire(ask("b/0#1"), 0.0)
    assert granted(machine.on_cancel(Cancel(lease="a/0#1"), 0.0)) == ["b/0#1"]


def test_who_waits_is_refused_when_a_provider_has_answered_with_429s_alone_for_too_long():
    machine, now, ends = limiter(), 0.0, []
    machine.on_acquire(ask("0/0#1"), now)
    machine.on_acquire(ask("x/0#1"), now)
    held = ["0/0#1", "x/0#1"]
    for number in range(1, 40):
        effects = [e for lease in held for e in machine.on_settle(Settle(lease=lease, outcome=Outcome.THROTTLED), now)]
        effects += machine.on_acquire(ask(f"{number}/0#1"), now)
        ends += [e.message for e in effects if isinstance(e, Reply) and not isinstance(e.message, Granted)]
        if ends:
            break
        now = machine._domains[D].blocked_until + 1e-5
        held = granted(machine.on_wake(D, now))
    assert 120.0 < now < 140.0
    assert [end.kind for end in ends] == [ErrorKind.RATE_LIMITED]
    assert "has answered every call" in ends[0].reason


def test_after_a_restart_an_unknown_limit_is_approached_carefully():
    machine = Limiter({}, fresh=False)
    machine.on_reaffirm(Reaffirm(holder="gateway", leases=(ask("held/0#1"),)), 100.0)
    effects = [e for number in range(20) for e in machine.on_acquire(ask(f"{number}/0#1"), 100.0)]
    assert granted(effects) == ["0/0#1"]
    assert 0.0 < next(e.after for e in effects if isinstance(e, Wake)) < 0.05


def test_a_call_of_an_earlier_life_that_is_turned_away_blocks_as_any_other():
    machine = Limiter({}, fresh=False)
    machine.on_reaffirm(Reaffirm(holder="gateway", leases=(ask("held/0#1"),)), 100.0)
    machine.on_settle(Settle(lease="held/0#1", outcome=Outcome.THROTTLED, retry_after=9.0), 100.0)
    assert granted(machine.on_acquire(ask("a/0#1"), 101.0)) == []
    assert machine.learned(101.0)[0].blocked == pytest.approx(8.0)


def test_a_holder_that_is_gone_leaves_the_probe_to_another():
    machine = limiter()
    machine.on_acquire(ask("a/0#1"), 0.0)
    machine.on_settle(Settle(lease="a/0#1", outcome=Outcome.THROTTLED, retry_after=5.0), 0.0)
    machine.on_acquire(ask("b/0#1"), 1.0)
    assert granted(machine.on_wake(D, 5.1)) == ["b/0#1"]
    machine.on_holder_gone("gateway", 5.2)
    machine.on_acquire(ask("c/0#1"), 5.3)
    assert granted(machine.on_wake(D, 6.3)) == ["c/0#1"]


# --- a storm


class Held:
    """Lets the calls of :mod:`tests.protocol.vendor` go through a real domain."""

    def __init__(self, terms, **limits):
        if terms is not None:
            limits = {"requests_per_minute": 60.0 * terms.rate, "burst": int(terms.burst)}
        self.domain = domain(**limits)

    def wait(self, now, _in_flight):
        return self.domain.wait(ONE, now)

    def grant(self, now, size=None):
        return self.domain.take(ONE, now), size

    def settle(self, lease, answer, now, _in_flight, roll):
        ticket, size = lease
        outcome = {200: Outcome.SUCCESS, 429: Outcome.THROTTLED}.get(answer.status, Outcome.OVERLOADED)
        hint = answer.headers.get("retry-after")
        after = None if hint is None else float(hint)
        usage = Usage(input_tokens=size[0], output_tokens=size[1]) if size and outcome is Outcome.SUCCESS else None
        settle(self.domain, ticket, now, outcome, roll=roll, headers=answer.headers, retry_after=after, usage=usage)


@pytest.mark.slow
@pytest.mark.uncounted
@pytest.mark.parametrize(
    ("mode", "time", "refused", "off"),
    [("configured", 1.03, 0.005, 0.1), ("headers", 1.10, 0.02, 0.1), ("refusals", 1.30, 0.05, 0.1)],
)
def test_500_calls_are_done_in_time_at_a_provider_whose_limit_is_configured_taught_or_found_out(
    mode, time, refused, off
):
    verdicts = []
    for seed in range(9):
        terms = drawn(seed, headers=mode == "headers")
        client = Held(terms if mode == "configured" else None)
        vendor, learned = Vendor(terms), []
        look = (200, lambda loop, learned=learned: learned.append(loop.client.domain.pace.rates[0].learned().rate))
        Loop(client, vendor, seed, calls=500, agents=64, look=look).run()
        served = [at for at, status in vendor.log if status == 200]
        took = (served[-1] - vendor.log[0][0]) / ((500 - terms.burst) / terms.rate)
        verdicts.append((took, 1.0 - len(served) / len(vendor.log), abs(learned[0] - terms.rate) / terms.rate))
    medians = [median(each) for each in zip(*verdicts, strict=True)]
    assert medians[0] <= time
    assert medians[1] <= refused
    assert medians[2] <= off


@pytest.mark.slow
@pytest.mark.uncounted
@pytest.mark.parametrize("tight", [0.3, 0.9])
def test_500_calls_of_mixed_size_are_done_in_time_where_headers_teach_requests_and_tokens(tight):
    verdicts = []
    for seed in range(5):
        terms = drawn(seed, headers=True)
        terms = replace(terms, tokens=145.0 * terms.rate * tight)
        vendor, used = Vendor(terms), []

        def sizes(dice, used=used):
            used.append(17 + dice.randrange(241))
            return used[-1], 54

        Loop(Held(None), vendor, seed, calls=500, agents=64, sizes=sizes).run()
        served = [at for at, status in vendor.log if status == 200]
        tokens = 500 * (sum(used) / len(used) + 54)
        ideal = max((500 - terms.burst) / terms.rate, tokens / terms.tokens - 6.0)
        verdicts.append(((served[-1] - vendor.log[0][0]) / ideal, 1.0 - len(served) / len(vendor.log)))
    time, refused = (median(each) for each in zip(*verdicts, strict=True))
    assert time <= 1.10
    assert refused <= 0.02


@pytest.mark.slow
@pytest.mark.uncounted
@pytest.mark.parametrize("hint", [None, 2.0, 40.0])
@pytest.mark.parametrize("mode", ["configured", "headers", "refusals"])
def test_fifty_agents_come_through_thirty_seconds_of_429s(mode, hint):
    for seed in range(3):
        came = weather(seed, mode, hint, client=Held)
        assert came.in_ten_seconds <= 3
        assert came.back <= 60.0
