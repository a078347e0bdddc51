"""The bench command: what its judge counts, what its server enforces, and every contender once, in small."""

from __future__ import annotations

import asyncio

import pytest
from msgspec import json

from runtime import bench
from runtime.bench_contenders import Orders, configuration
from runtime.bench_guide import AdaptiveRateLimiter, PriorityTaskQueue
from runtime.bench_judge import Limit, Ran, ideal, inversions, judge, text_of
from runtime.config import Config
from runtime.fake_desk import Arrival, Desk
from runtime.fake_script import RateLimit, Script

LIMIT = Limit(per_second=50.0, burst=10, latency=0.05)


def arrival(number, at, status=200, tokens=0):
    return Arrival(at=at, status=status, tokens=tokens, text=text_of(number))


def ran(calls=3, **more):
    usual = {"began": 0.0, "ended": 1.0, "cpu_s": 0.006, "answered": tuple(range(calls))}
    return Ran(**usual | {"submitted": (0.0,) * calls, "priorities": (0,) * calls} | more)


# --- the judge


def test_the_ideal_is_the_burst_at_once_and_the_rest_at_the_rate():
    assert ideal(LIMIT, 500) == pytest.approx(490 / 50 + 0.05)
    assert ideal(LIMIT, 5) == 0.05


def test_the_ideal_under_two_limits_is_that_of_the_tighter_one():
    both = Limit(per_second=50.0, burst=10, latency=0.0, tokens_per_second=1000.0, token_burst=500.0)
    assert ideal(both, 500, tokens=100) == 9.8
    assert ideal(both, 500, tokens=50_500) == 50.0


def test_the_server_says_who_was_lost_doubled_and_refused():
    log = [arrival(0, 0.1), arrival(0, 0.2), arrival(1, 0.3, 429), arrival(1, 0.4), arrival(2, 0.5, 429)]
    found = judge(LIMIT, ran(answered=(0, 1)), log)
    assert (found.requests, found.throttled, found.lost, found.duplicates) == (5, 0.4, 1, 1)
    assert (found.over_ideal, found.cpu_ms) == (20.0, 2.0)


@pytest.mark.parametrize(
    ("order", "share"),
    [([0, 1, 2], 0.0), ([2, 1, 0], 1.0), ([0, 2, 1], pytest.approx(1 / 3)), ([1, 0, 2], pytest.approx(1 / 3))],
)
def test_a_less_urgent_call_that_is_let_in_first_is_an_inversion(order, share):
    admitted = {number: float(place + 1) for place, number in enumerate(order)}
    assert inversions(ran(priorities=(0, 1, 2)), admitted, 0) == share


def test_who_was_not_there_yet_or_was_let_in_with_the_burst_is_no_inversion():
    assert inversions(ran(2, priorities=(0, 2), submitted=(5.0, 0.0)), {1: 1.0, 0: 6.0}, 0) == 0.0
    assert inversions(ran(2, priorities=(0, 2)), {1: 1.0, 0: 6.0}, 1) == 0.0


# --- the server


def statuses(limit, bodies, every=0.0):
    desk = Desk(Script(rate_limit=limit, record=True))
    replies = [desk.take(b"", body, n * every) for n, body in enumerate(bodies)]
    return replies, desk


def request(text="x" * 400, max_tokens=100):
    return json.encode({"model": "m", "messages": [{"role": "user", "content": text}], "max_tokens": max_tokens})


def test_a_call_needs_its_prompt_and_its_longest_reply_free_and_gets_back_what_it_did_not_use():
    limit = RateLimit(per_second=1000.0, burst=1000, tokens_per_second=1.0, token_burst=400.0)
    replies, desk = statuses(limit, [request()] * 4)
    used = desk.log[0].tokens
    assert 100 < used < 200
    assert [reply.status for reply in replies] == [200] * (1 + (400 - 200) // used) + [429] * (3 - (400 - 200) // used)
    assert float(replies[-1].headers["retry-after"]) == pytest.approx(200 - (400 - (used * 2)), abs=1.0)
    assert desk.log[-1].tokens == 0


def test_a_call_that_one_limit_refuses_counts_in_neither():
    limit = RateLimit(per_second=1.0, burst=2, tokens_per_second=1.0, token_burst=200.0)
    replies, _ = statuses(limit, [request(), request(), request("y", 1)])
    assert [reply.status for reply in replies] == [200, 429, 200]


def test_a_429_without_a_hint_names_no_time_and_the_log_keeps_every_verdict():
    replies, desk = statuses(RateLimit(per_second=1.0, burst=1, hint=False), [request("one"), request("two")])
    assert "retry-after" not in replies[1].headers
    assert [(each.status, each.text) for each in desk.log] == [(200, "one"), (429, "two")]


def test_a_door_that_is_closed_for_a_while_lets_nobody_in_and_says_for_how_long():
    limit = RateLimit(per_second=100.0, burst=10, closed_after=2.0, closed_for=3.0)
    replies, _ = statuses(limit, [request()] * 7, every=1.0)
    assert [reply.status for reply in replies] == [200, 200, 429, 429, 429, 200, 200]
    assert replies[3].headers["retry-after"] == "2.000"


def test_headers_tell_both_limits_per_minute():
    limit = RateLimit(per_second=2.0, burst=5, tokens_per_second=100.0, headers=True)
    (reply,), _ = statuses(limit, [request()])
    assert reply.headers["x-ratelimit-limit-requests"] == "120"
    assert reply.headers["x-ratelimit-remaining-requests"] == "4"
    assert reply.headers["x-ratelimit-limit-tokens"] == "6000"
    assert 400 < int(reply.headers["x-ratelimit-remaining-tokens"]) < 500


# --- the contenders


def test_the_configuration_of_ours_names_the_limit_only_where_it_is_known():
    limit = Limit(per_second=50.0, burst=10, latency=0.0, tokens_per_second=10.0)
    orders = Orders(name="troupe", url="http://127.0.0.1:9/v1", calls=1, limit=limit)
    known = Config.parse(configuration(orders).encode(), "test").limits["main"]
    assert (known.requests_per_minute, known.burst, known.tokens_per_minute) == (3000.0, 10, 600.0)
    unknown = Orders(name="troupe", url="http://127.0.0.1:9/v1", calls=1, limit=limit, known=False)
    assert Config.parse(configuration(unknown).encode(), "test").limits == {}


def test_the_guides_queue_begins_by_priority_and_a_failed_call_is_tried_again():
    order = []
    queue, limiter = PriorityTaskQueue(), AdaptiveRateLimiter(1000.0, 10.0)
    limiter.BASE = 0.0

    def call(name, fails):
        async def once():
            order.append(name)
            if order.count(name) <= fails:
                raise OSError

        return lambda: limiter.execute(once)

    for priority, name, fails in ((2, "low", 0), (0, "high", 1), (0, "lost", 9)):
        queue.submit(priority, call(name, fails))
    asyncio.run(queue.process())
    assert order[:3] == ["high", "lost", "low"]
    assert (order.count("high"), order.count("lost")) == (2, 5)


@pytest.mark.slow
def test_every_contender_makes_every_call_once():
    limit = Limit(per_second=200.0, burst=5, latency=0.005)
    (table,) = bench.measure((limit,), 40, (bench.FIELD,))
    rows = {row.contender: row.figures for row in table.rows}
    names = [entry.label for entry in bench.FIELD]
    assert {name: (of.lost, of.duplicates) for name, of in rows.items()} == dict.fromkeys(names, (0, 0)), table
    assert rows["naive"].throttled > 0.1 > rows["troupe"].throttled
    assert len(list(bench.lines(table))) == 6


@pytest.mark.slow
def test_a_contender_that_cannot_run_is_named_with_its_last_words():
    orders = Orders(name="naive", url="http://127.0.0.1:9/v1", calls=1, limit=LIMIT)
    with pytest.raises(bench.TroupeError, match="ConnectionRefusedError"):
        bench.child(orders)
