"""How long a provider asks to wait, and what its rate-limit headers say.

Providers speak in seconds, milliseconds, Go durations (``6m0s``), epochs (seconds or milliseconds), HTTP dates, RFC
3339 and prose. A hint that is not understood, negative or not finite is no hint. Headers have lower-case names.

============================================================ ==========================================================
family                                                        who speaks it
============================================================ ==========================================================
``x-ratelimit-{limit,remaining,reset}-{requests,tokens}``     OpenAI, Azure, Groq (requests by the day) and most relays
the same with ``_usage_based``, or ``-{minute,hour,day,..}``  OpenAI; Cerebras, Mistral and others
``anthropic-ratelimit-{..}-{limit,remaining,reset}``          Anthropic; ``anthropic-priority-..`` for its priority tier
``x-ratelimit-{limit,remaining,reset}``                       OpenRouter; the period is not said
``ratelimit-{limit,remaining,reset}``, ``ratelimit-policy``   IETF draft 03 to 06: ``100, 100;w=60``
``ratelimit: limit=.., remaining=.., reset=..``               IETF draft 07
``ratelimit: "name";r=..;t=..``, ``ratelimit-policy``         IETF draft 08 and later: ``"name";q=..;w=..``
============================================================ ==========================================================
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, NamedTuple

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MINUTE = 60.0
DAY = 86400.0

_LONGEST = 100
_LONG = 1000
_SPANS = {"second": 1.0, "minute": MINUTE, "hour": 3600.0, "day": DAY}
_VALUE = r'(?:"[^"]{0,100}"|[^",; \t]{1,100})'
_ITEM = re.compile(
    r'("[^"]{0,100}"|[A-Za-z0-9*_.:/-]{1,100})'
    rf"((?:[ \t]{{0,9}};[ \t]{{0,9}}[a-z][a-z0-9_*.-]{{0,30}}(?:={_VALUE})?){{0,20}})"
)
_PAIR = re.compile(r"([a-z]{1,20})=([0-9.]{1,20})")
_WORDING = (("q", "limit"), ("r", "remaining"), ("t", "reset"))
_PARAMETER = re.compile(rf";[ \t]{{0,9}}([a-z][a-z0-9_*.-]{{0,30}})=({_VALUE})")
_NUMBER = re.compile(r"[0-9]{1,18}(?:\.[0-9]{0,18})?(?:[eE][+-]?[0-9]{1,2})?")
_PIECE = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,18})?)(ms|us|µs|μs|ns|d|h|m|s)")
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": MINUTE, "h": 3600.0, "d": DAY}
_WORDS = _UNITS | {
    **dict.fromkeys(("millisecond", "milliseconds"), 1e-3),
    **dict.fromkeys(("sec", "secs", "second", "seconds"), 1.0),
    **dict.fromkeys(("min", "mins", "minute", "minutes"), MINUTE),
    **dict.fromkeys(("hr", "hrs", "hour", "hours"), 3600.0),
    **dict.fromkeys(("day", "days"), DAY),
}
_ASKED = re.compile(
    r"(?:try again|retry|retrying|wait|available)[-_ ]?(?:in|after|for|delay)?(?:[-_ ](seconds|secs|ms))?(?: about)?"
    r"[\"': ]{0,4}(?=[0-9])",
    re.IGNORECASE,
)
_SAID = re.compile(r" ?([0-9]{1,12}(?:\.[0-9]{1,12})?)(?![0-9:/-]) ?([a-zµμ]{0,12})", re.IGNORECASE)


class Window(Struct, frozen=True, kw_only=True):
    """One counted resource: ``limit`` per ``period`` seconds, what is left of it, and the seconds until it is full.

    None is what is not said.
    """

    limit: int | None = None
    remaining: int | None = None
    reset: float | None = None
    period: float | None = MINUTE


class Counted(NamedTuple):
    """What a window counts: ``requests``, ``tokens`` of both kinds, ``input_tokens`` or ``output_tokens``."""

    resource: str
    window: Window


Item = tuple[str, dict[str, str]]
"""A member of a structured field's list: its name, and its parameters."""


class RateLimits(Struct, frozen=True, kw_only=True):
    """What a reply's headers say about the key's limits; None where they say nothing.

    ``remaining`` is a snapshot of the moment of admission: use it only to lower a local level (wire.md 3.4).
    """

    requests: Window | None = None
    tokens: Window | None = None
    input_tokens: Window | None = None
    output_tokens: Window | None = None


def wait_hint(headers: Mapping[str, str], message: str, now: float) -> float | None:
    """Return the seconds the provider asks to wait, or None. *now* is in seconds since the epoch.

    In this order: ``retry-after-ms``, ``retry-after``, the prose of *message*, the reset of the exhausted limit.
    """
    asked = asked_wait(headers, message, now)
    return reset_wait(headers, now) if asked is None else asked


def asked_wait(headers: Mapping[str, str], message: str, now: float) -> float | None:
    """Return the wait that is asked for in so many words (not the reset of a limit), in seconds, or None."""
    milliseconds = number(headers.get("retry-after-ms", ""))
    if milliseconds is not None:
        return milliseconds / 1000
    after = headers.get("retry-after")
    wait = None if after is None else seconds(after, server_now(headers, now))
    return _said_wait(message) if wait is None else wait


def reset_wait(headers: Mapping[str, str], now: float) -> float | None:
    """Return the seconds until the exhausted limits are full again, or None. A limit that has some left is not one."""
    windows = [counted.window for counted in windows_of(headers, now)]
    exhausted = [w.reset for w in windows if w.remaining == 0 and w.reset is not None]
    unsaid = [w.reset for w in windows if w.remaining is None and w.reset is not None]
    return max(exhausted) if exhausted else min(unsaid, default=None)


def rate_limits(headers: Mapping[str, str], now: float, *, requests_period: float = MINUTE) -> RateLimits:
    """Return the first window of each resource; see :func:`windows_of`."""
    first: dict[str, Window] = {}
    for resource, window in windows_of(headers, now, requests_period=requests_period):
        first.setdefault(resource, window)
    return RateLimits(**first)


def windows_of(headers: Mapping[str, str], now: float, *, requests_period: float = MINUTE) -> tuple[Counted, ...]:
    """Return every window the headers speak of, in the order of the table above; one resource may have several.

    *requests_period* is what the endpoint counts requests by (a day at Groq: see its Profile), in seconds.
    """
    if not any("ratelimit" in name or name.startswith("anthropic-priority-") for name in headers):
        return ()
    now = server_now(headers, now)
    found = [*_named_windows(headers, now, requests_period), *_ietf_windows(headers, now)]
    if not any(resource == "requests" for resource, _ in found):
        found += _read_window(headers, "requests", _PLAIN, now, None)
    return tuple(found)


def number(text: str) -> float | None:
    """Return a plain non-negative finite number, or None."""
    text = text[:_LONGEST].strip()
    return float(text) if _NUMBER.fullmatch(text) else None  # the pattern has no room for infinity


def seconds(text: str, now: float) -> float | None:
    """Return the seconds from *now* that *text* names: a number, an epoch, a Go duration or a date; 0 for the past."""
    value = number(text)
    if value is not None:
        return value if value <= 1e9 else _until(value / 1000 if value > 1e11 else value, now)
    duration = go_duration(text)
    if duration is not None:
        return duration
    at = date(text)
    return None if at is None else _until(at, now)


def go_duration(text: str) -> float | None:
    """Return the seconds of ``1h2m3.5s``, ``20ms``; None unless the pieces tile the whole of *text*."""
    text, total, end = text[:_LONGEST].strip(), 0.0, 0
    while end < len(text):
        piece = _PIECE.match(text, end)
        if piece is None:
            return None
        total, end = total + float(piece[1]) * _UNITS[piece[2]], piece.end()
    return total if end else None


def date(text: str) -> float | None:
    """Return the epoch seconds of an HTTP date or an RFC 3339 time, or None. Without a zone it is UTC."""
    text = text[:_LONGEST].strip()
    for parse in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            at = parse(text)
            return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
        except (ValueError, TypeError, IndexError, OverflowError):
            continue
    return None


def server_now(headers: Mapping[str, str], now: float) -> float:
    """Return the server's own idea of now (its ``date`` header), or *now*: a difference of clocks is no wait."""
    at = date(headers["date"]) if "date" in headers else None
    return now if at is None else at


def _until(at: float, now: float) -> float | None:
    wait = max(at - now, 0.0)
    return wait if math.isfinite(wait) else None


def _said_wait(message: str) -> float | None:
    for asked in _ASKED.finditer(message):
        wait = _said_amount(message, asked.end(), asked[1])
        if wait is not None:
            return wait
    return None


def _said_amount(message: str, at: int, unit: str | None) -> float | None:
    """Sum pieces such as ``1m``, ``30.5s`` or ``20 seconds`` from *at* on; a bare number is seconds, or *unit*."""
    total: float | None = None
    for _ in range(4):
        piece = _SAID.match(message, at)
        if piece is None:
            break
        name = piece[2].lower() or ((unit or "s").lower() if total is None else "")
        factor = _WORDS.get(name)
        if factor is None:
            break
        total, at = (total or 0.0) + float(piece[1]) * factor, piece.end()
    return total


def _named_windows(headers: Mapping[str, str], now: float, requests_period: float) -> Iterator[Counted]:
    for family in sorted({_FAMILY_OF[name] for name in headers if name in _FAMILY_OF}):
        resource, names, period = _FAMILIES[family]
        yield from _read_window(headers, resource, names, now, requests_period if period is None else period)


def _read_window(
    headers: Mapping[str, str], resource: str, names: tuple[str, ...], now: float, period: float | None
) -> Iterator[Counted]:
    limit, remaining = (_count(headers.get(name, "")) for name in names[:2])
    reset = seconds(headers.get(names[2], ""), now)
    if limit is not None or remaining is not None or reset is not None:
        yield Counted(resource, Window(limit=limit, remaining=remaining, reset=reset, period=period))


def _names(pattern: str) -> tuple[str, ...]:
    return tuple(pattern.format(part) for part in ("limit", "remaining", "reset"))


def _families() -> Iterator[tuple[str, tuple[str, ...], float | None]]:
    """Yield what is counted, the names of its three headers, and its period; None is the endpoint's for requests."""
    for what in ("requests", "tokens", "input-tokens", "output-tokens"):
        resource, period = what.replace("-", "_"), None if what == "requests" else MINUTE
        yield resource, _names(f"x-ratelimit-{{}}-{what}"), period
        yield resource, _names(f"x-ratelimit-{{}}-{what}_usage_based"), period
        for span, length in _SPANS.items():
            yield resource, _names(f"x-ratelimit-{{}}-{what}-{span}"), length
        yield resource, _names(f"anthropic-ratelimit-{what}-{{}}"), MINUTE
        yield resource, _names(f"anthropic-priority-{what}-{{}}"), MINUTE


_FAMILIES = tuple(_families())
_FAMILY_OF = {name: index for index, (_, names, _) in enumerate(_FAMILIES) for name in names}
_PLAIN = _names("x-ratelimit-{}")


def _ietf_windows(headers: Mapping[str, str], now: float) -> Iterator[Counted]:
    """Match the counters with the policies they belong to; a policy without counters still says a limit."""
    limits = headers.get("ratelimit-limit", "")
    policies = [*_items(headers.get("ratelimit-policy", "")), *_items(limits.partition(",")[2])]
    for name, said in _counters(headers.get("ratelimit", ""), limits, headers):
        known = [policy for policy in policies if policy[0] == (name or said.get("q"))] or policies
        policy = known[0] if known and (known != policies or len(policies) == 1) else ("", {})
        policies = [other for other in policies if other is not policy]
        yield from _ietf_window(name or policy[0], {**policy[1], **said}, now)
    for name, said in policies:
        yield from _ietf_window(name, {"q": name, **said}, now)


def _counters(field: str, limits: str, headers: Mapping[str, str]) -> Iterator[Item]:
    """Yield what is left of which policy, in the words of the newest draft: q, r and t."""
    pairs = dict(_PAIR.findall(field[:_LONG]))
    if "limit" in pairs or "remaining" in pairs:
        yield "", {new: pairs[old] for new, old in _WORDING if old in pairs}
    else:
        yield from _items(field)
    old_fields = {
        "q": limits.partition(",")[0].partition(";")[0].strip(),
        "r": headers.get("ratelimit-remaining", ""),
        "t": headers.get("ratelimit-reset", ""),
    }
    if any(old_fields.values()):
        yield "", {key: value for key, value in old_fields.items() if value}


def _ietf_window(name: str, said: dict[str, str], now: float) -> Iterator[Counted]:
    unit = f"{said.get('qu', '')} {name}".lower()
    period = number(said.get("w", "")) or None
    window = Window(
        limit=_count(said.get("q", "")),
        remaining=_count(said.get("r", "")),
        reset=seconds(said.get("t", ""), now),
        period=period,
    )
    if window != Window(period=period) and "concurren" not in unit and "bytes" not in unit:
        yield Counted("tokens" if "token" in unit else "requests", window)


def _items(field: str) -> Iterator[Item]:
    """Yield the items of a structured field's list with their parameters; what is none is passed over."""
    for item in _ITEM.finditer(field[:_LONG]):
        said = {key: value.strip('"') for key, value in _PARAMETER.findall(item[2])}
        yield item[1].strip('"'), said


def _count(text: str) -> int | None:
    value = number(text)
    return None if value is None or value > 2**53 else int(value)
