"""Wait hints and rate-limit headers, in every dialect."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.wire.hints import (
    DAY,
    Counted,
    RateLimits,
    Window,
    date,
    go_duration,
    rate_limits,
    seconds,
    wait_hint,
    windows_of,
)

NOW = 1_800_000_000.0  # Fri, 15 Jan 2027 08:00:00 GMT


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({}, None),
        ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9.0),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": " 3600 "}, 3600.0),
        ({"retry-after": "30s"}, 30.0),
        ({"retry-after": "Fri, 15 Jan 2027 08:00:20 GMT"}, 20.0),
        ({"retry-after": "Fri, 15 Jan 2027 07:00:00 GMT"}, 0.0),
        ({"retry-after": "Fri, 15 Jan 2027 08:00:20 GMT", "date": "Fri, 15 Jan 2027 08:00:15 GMT"}, 5.0),
        ({"retry-after": "Fri, 15 Jan 2027 08:00:20 GMT", "date": "yesterday"}, 20.0),
        ({"retry-after": "1800000012"}, 12.0),
        ({"retry-after": "1800000012000"}, 12.0),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "1_0"}, None),
        ({"retry-after": "1e99"}, 1e99 / 1000 - NOW),
        ({"retry-after": "\u0663"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "a while"}, None),
    ],
)
def test_headers_ask_in_many_ways(headers, wait):
    assert wait_hint(headers, "", NOW) == wait


@pytest.mark.parametrize(
    ("text", "wait"),
    [
        ("Please try again in 5.289s.", 5.289),
        ("Please try again in 20ms.", 0.02),
        ("Please try again in 1h12m36s. Visit", 4356.0),
        ("Please retry after 26 seconds.", 26.0),
        ("retry after 26", 26.0),
        ("Try again in 2 minutes.", 120.0),
        ("wait for 1 hour", 3600.0),
        ('{"retryDelay": "34s"}', 34.0),
        ('{"retry_after": 5}', 5.0),
        ('{"retry_after_ms": 500}', 0.5),
        ("retry in 0s", 0.0),
        ("retry in 1h 2m 3s 4ms 5s", 3723.004),
        ("retry after 3 attempts", None),
        ("retry after 3 attempts, try again in 4s", 4.0),
        ("try again in -5s", None),
        ("available 2025-01-01", None),
        ("we limit you to 20 per 60s", None),
        ("try again later", None),
    ],
)
def test_prose_asks_in_many_ways(text, wait):
    assert wait_hint({}, text, NOW) == pytest.approx(wait)


def test_headers_go_before_prose_and_prose_before_limits():
    limits = {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "9s"}
    assert wait_hint({"retry-after": "1"} | limits, "try again in 2s", NOW) == 1.0
    assert wait_hint(limits, "try again in 2s", NOW) == 2.0
    assert wait_hint(limits, "", NOW) == 9.0


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "6m0s"}, 360.0),
        ({"x-ratelimit-remaining-requests": "3", "x-ratelimit-reset-requests": "6m0s"}, None),
        ({"x-ratelimit-reset-requests": "20ms"}, 0.02),
        ({"x-ratelimit-reset-requests": "-1"}, None),
        ({"x-ratelimit-reset-requests": "garbage"}, None),
        (
            {
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-reset-requests": "1s",
                "x-ratelimit-remaining-tokens": "0",
                "x-ratelimit-reset-tokens": "2s",
            },
            2.0,
        ),
        ({"x-ratelimit-reset": "1800000040", "x-ratelimit-remaining": "0"}, 40.0),
        (
            {
                "anthropic-ratelimit-output-tokens-remaining": "0",
                "anthropic-ratelimit-output-tokens-reset": "2027-01-15T08:00:07Z",
            },
            7.0,
        ),
    ],
)
def test_the_reset_of_an_exhausted_limit_is_a_hint(headers, wait):
    assert wait_hint(headers, "", NOW) == wait


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("6m0s", 360.0),
        ("20ms", 0.02),
        ("2m59.56s", 179.56),
        ("1h2m3.5s", 3723.5),
        ("1d", DAY),
        ("5us", 5e-6),
        ("0s", 0.0),
    ]
    + [(text, None) for text in ("", "1m30", "m", "-1s", "1s!", "1 s", "s1", "1y")],
)
def test_go_durations_must_tile_the_text(text, expected):
    assert go_duration(text) == pytest.approx(expected)


@given(
    st.lists(st.tuples(st.integers(0, 999), st.sampled_from(["d", "h", "m", "s", "ms", "us"])), min_size=1, max_size=4)
)
def test_go_durations_are_the_sum_of_their_pieces(pieces):
    unit = {"d": 86400, "h": 3600, "m": 60, "s": 1, "ms": 0.001, "us": 0.000001}
    text = "".join(f"{count}{name}" for count, name in pieces)
    assert go_duration(text) == pytest.approx(sum(count * unit[name] for count, name in pieces))


@pytest.mark.parametrize(
    "text",
    [
        "Fri, 15 Jan 2027 08:00:00 GMT",
        "2027-01-15T08:00:00Z",
        "2027-01-15T09:00:00+01:00",
        "Fri, 15 Jan 2027 08:00:00 -0000",
    ],
)
def test_dates_of_both_kinds_are_the_same_instant(text):
    assert date(text) == NOW


@settings(max_examples=60)
@given(st.text(st.characters(exclude_categories=()), max_size=30), st.floats())
def test_no_text_raises_and_every_wait_is_finite(text, now):
    waits = [
        wait_hint({"retry-after": text, "date": text, "x-ratelimit-reset-tokens": text}, f"retry after {text}", now),
        seconds(text, now),
    ]
    assert [w for w in waits if w is not None and not (w >= 0 and math.isfinite(w))] == []


def test_openai_limits_are_read():
    headers = {
        "x-ratelimit-limit-requests": "500",
        "x-ratelimit-remaining-requests": "499",
        "x-ratelimit-reset-requests": "120ms",
        "x-ratelimit-limit-tokens": "30000",
        "x-ratelimit-remaining-tokens": "29982",
        "x-ratelimit-reset-tokens": "36ms",
    }
    assert rate_limits(headers, NOW) == RateLimits(
        requests=Window(limit=500, remaining=499, reset=0.12),
        tokens=Window(limit=30000, remaining=29982, reset=pytest.approx(0.036)),
    )


def test_groq_counts_requests_by_the_day():
    headers = {
        "x-ratelimit-limit-requests": "14400",
        "x-ratelimit-remaining-requests": "14370",
        "x-ratelimit-reset-requests": "2m59.56s",
        "x-ratelimit-limit-tokens": "18000",
        "x-ratelimit-remaining-tokens": "17997",
        "x-ratelimit-reset-tokens": "7.66s",
    }
    limits = rate_limits(headers, NOW, requests_period=DAY)
    assert limits.requests == Window(limit=14400, remaining=14370, reset=pytest.approx(179.56), period=DAY)
    assert limits.tokens == Window(limit=18000, remaining=17997, reset=7.66)


def test_anthropic_limits_are_read_and_a_reset_in_the_past_is_now():
    headers = {"date": "Fri, 15 Jan 2027 08:00:10 GMT"}
    for name in ("requests", "tokens", "input-tokens", "output-tokens"):
        headers[f"anthropic-ratelimit-{name}-limit"] = "1000"
        headers[f"anthropic-ratelimit-{name}-remaining"] = "7"
        headers[f"anthropic-ratelimit-{name}-reset"] = "2027-01-15T08:00:12Z"
    headers["anthropic-ratelimit-tokens-reset"] = "2027-01-15T08:00:09Z"
    window = Window(limit=1000, remaining=7, reset=2.0)
    full = Window(limit=1000, remaining=7, reset=0.0)
    assert rate_limits(headers, NOW) == RateLimits(
        requests=window, tokens=full, input_tokens=window, output_tokens=window
    )


def test_headers_without_limits_say_nothing():
    assert rate_limits({"date": "x", "x-request-id": "1"}, NOW) == RateLimits()


def test_counts_that_are_none_are_left_out():
    headers = {
        "x-ratelimit-remaining-tokens": "-1",
        "x-ratelimit-limit-tokens": "1e30",
        "x-ratelimit-reset-tokens": "3",
    }
    assert rate_limits(headers, NOW).tokens == Window(reset=3.0)


def counted(resource, limit=None, remaining=None, reset=None, period=60.0):
    return Counted(resource, Window(limit=limit, remaining=remaining, reset=reset, period=period))


@pytest.mark.parametrize(
    ("headers", "windows"),
    [
        (
            {"ratelimit": '"default";r=50;t=30', "ratelimit-policy": '"default";q=100;w=60'},
            [counted("requests", 100, 50, 30.0)],
        ),
        (
            {
                "ratelimit": '"rpm";r=50;t=30, "tpm";r=1000;t=4',
                "ratelimit-policy": '"rpm";q=100;w=60;pk=:c2Q=:, "tpm";q=90000;w=60;qu="tokens"',
            },
            [counted("requests", 100, 50, 30.0), counted("tokens", 90000, 1000, 4.0)],
        ),
        (
            {"ratelimit-policy": '"second";q=10;w=1, "hour";q=1000;w=3600'},
            [counted("requests", 10, period=1.0), counted("requests", 1000, period=3600.0)],
        ),
        (
            {"ratelimit": '"anonymous";r=5;t=9'},
            [counted("requests", None, 5, 9.0, None)],
        ),
        (
            {"ratelimit": "limit=100, remaining=50, reset=5", "ratelimit-policy": "100;w=60"},
            [counted("requests", 100, 50, 5.0)],
        ),
        (
            {"ratelimit": "limit=100, remaining=50, reset=5", "ratelimit-policy": "10;w=1, 100;w=60"},
            [counted("requests", 100, 50, 5.0), counted("requests", 10, period=1.0)],
        ),
        (
            {"ratelimit": "limit=7, remaining=5, reset=5", "ratelimit-policy": "10;w=1, 100;w=60"},
            [counted("requests", 7, 5, 5.0, None), counted("requests", 10, period=1.0), counted("requests", 100)],
        ),
        (
            {"ratelimit-limit": "10, 10;w=1, 50;w=60", "ratelimit-remaining": "3", "ratelimit-reset": "1"},
            [counted("requests", 10, 3, 1.0, 1.0), counted("requests", 50)],
        ),
        (
            {"ratelimit-limit": "300", "ratelimit-remaining": "280", "ratelimit-reset": "53"},
            [counted("requests", 300, 280, 53.0, None)],
        ),
        ({"ratelimit-remaining": "280"}, [counted("requests", None, 280, None, None)]),
        ({"ratelimit": '"c";r=5', "ratelimit-policy": '"c";q=10;qu="concurrent-requests"'}, []),
        ({"ratelimit": '"b";r=5', "ratelimit-policy": '"b";q=10;qu="content-bytes"'}, []),
        ({"ratelimit": ';;;,,,"', "ratelimit-policy": "\x00=;w"}, []),
        ({"ratelimit-policy": '"x";q=5;w=0'}, [counted("requests", 5, period=None)]),
    ],
)
def test_every_draft_of_the_ietf_is_read(headers, windows):
    assert windows_of(headers, NOW) == tuple(windows)


@pytest.mark.parametrize(
    ("headers", "windows"),
    [
        (
            {
                "x-ratelimit-limit-requests-day": "1440",
                "x-ratelimit-limit-tokens-minute": "60000",
                "x-ratelimit-remaining-tokens-minute": "59000",
                "x-ratelimit-reset-tokens-minute": "12.5",
                "x-ratelimit-limit-requests-second": "5",
                "x-ratelimit-limit-requests-hour": "300",
            },
            [
                counted("requests", 5, period=1.0),
                counted("requests", 300, period=3600.0),
                counted("requests", 1440, period=DAY),
                counted("tokens", 60000, 59000, 12.5),
            ],
        ),
        (
            {"x-ratelimit-limit-tokens": "90000", "x-ratelimit-limit-tokens_usage_based": "50000"},
            [counted("tokens", 90000), counted("tokens", 50000)],
        ),
        (
            {"anthropic-priority-input-tokens-limit": "8000", "anthropic-priority-input-tokens-remaining": "7000"},
            [counted("input_tokens", 8000, 7000)],
        ),
        (
            {"x-ratelimit-limit": "20", "x-ratelimit-remaining": "0", "x-ratelimit-reset": "1800000040000"},
            [counted("requests", 20, 0, 40.0, None)],
        ),
        (
            {"x-ratelimit-limit": "20", "x-ratelimit-limit-requests": "500"},
            [counted("requests", 500)],
        ),
    ],
)
def test_windows_of_other_lengths_and_tiers_are_read(headers, windows):
    assert windows_of(headers, NOW) == tuple(windows)


def test_the_first_window_of_a_resource_stands_for_it():
    headers = {"x-ratelimit-limit-tokens": "90000", "x-ratelimit-limit-tokens-day": "50000"}
    assert rate_limits(headers, NOW) == RateLimits(tokens=Window(limit=90000))


NAMES = [
    "ratelimit",
    "ratelimit-policy",
    "ratelimit-limit",
    "ratelimit-remaining",
    "ratelimit-reset",
    "x-ratelimit-limit",
    "x-ratelimit-remaining-tokens",
    "x-ratelimit-reset-requests-day",
    "anthropic-ratelimit-requests-limit",
    "anthropic-priority-output-tokens-remaining",
    "date",
]
HOSTILE = st.one_of(
    st.text(st.characters(exclude_categories=()), max_size=40),
    st.text('";=,.0123456789abqrtw-', max_size=60),
    st.sampled_from(["NaN", "-1", "1e308", "9" * 400, '"a";q=1;' * 300, "Infinity", "0", "-0"]),
)


@settings(max_examples=100)
@given(st.dictionaries(st.sampled_from(NAMES), HOSTILE, max_size=5))
def test_whatever_a_server_sends_each_window_holds_sane_numbers_or_none(headers):
    for _, window in windows_of(headers, NOW):
        assert all(value is None or 0 <= value <= 2**53 for value in (window.limit, window.remaining))
        assert all(value is None or (value >= 0 and math.isfinite(value)) for value in (window.reset, window.period))


def test_a_long_hostile_field_is_read_in_no_time_and_only_its_beginning():
    field = ", ".join(f'"{n}";r={n};t=1' for n in range(100_000))
    assert len(windows_of({"ratelimit": field, "ratelimit-policy": field}, NOW)) < 200
