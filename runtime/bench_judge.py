"""The judge of ``runtime/bench.py``: what a contender did, by the server's log and the clock. Pure."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runtime.fake_desk import Arrival

PREFIX = "bench call "
"""How the text of each call begins; its number follows."""
LAG = 0.05
"""Seconds that a grant, which nobody outside sees, may take to the server: who came so late was not waiting."""


class Limit(Struct, frozen=True, kw_only=True):
    """What the server enforces, and the seconds that it takes for an answer; ``closed_*`` as in ``RateLimit``."""

    per_second: float
    burst: int
    latency: float
    tokens_per_second: float | None = None
    token_burst: float | None = None
    closed_after: float = 0.0
    closed_for: float = 0.0


class Learned(Struct, frozen=True, kw_only=True):
    """What was known of a limit at an instant: units a second, at once (None: unknown), and from where."""

    at: float
    resource: str
    per_second: float
    burst: float | None
    source: str


class Ran(Struct, frozen=True, kw_only=True):
    """What a contender says of itself: monotonic seconds, CPU seconds, who was answered, when each call was there.

    ``answered`` are the numbers of the calls that came back well; ``submitted[n]`` is when call *n* could first go;
    ``learned`` what was known of the limits now and then, as far as the contender tells.
    """

    began: float
    ended: float
    cpu_s: float
    answered: tuple[int, ...]
    submitted: tuple[float, ...]
    priorities: tuple[int, ...]
    learned: tuple[Learned, ...] = ()


class Judged(Struct, frozen=True, kw_only=True):
    """The figures of one contender.

    ``over_ideal`` is its time over the least possible, ``throttled`` the share of requests answered with 429,
    ``inversions`` the share of pairs of waiting calls of which the less urgent was let in first.
    """

    over_ideal: float
    seconds: float
    requests: int
    throttled: float
    lost: int
    duplicates: int
    cpu_ms: float
    inversions: float


def text_of(number: int, words: int = 0) -> str:
    """Return the text of call *number* with *words* behind it, each of which is one token for every tokeniser."""
    return f"{PREFIX}{number:06d}{' any' * words}"


def number_of(arrival: Arrival) -> int | None:
    """Return the number of the call that *arrival* belongs to, None for any other request."""
    return int(arrival.text[len(PREFIX) :][:6]) if arrival.text.startswith(PREFIX) else None


def ideal(limit: Limit, calls: int, tokens: int = 0) -> float:
    """Return the least seconds in which *calls* that use *tokens* together can be answered."""
    seconds = max(0.0, (calls - limit.burst) / limit.per_second)
    if limit.tokens_per_second is not None:
        burst = limit.token_burst or 0.0
        seconds = max(seconds, (tokens - burst) / limit.tokens_per_second)
    return seconds + limit.latency


def judge(limit: Limit, ran: Ran, log: Sequence[Arrival]) -> Judged:
    """Return the figures of a contender that *ran* against *limit* and left *log* at the server."""
    calls = len(ran.submitted)
    admitted: dict[int, float] = {}
    accepted: Counter[int] = Counter()
    for arrival in log:
        number = number_of(arrival)
        if number is not None and arrival.status == 200:
            accepted[number] += 1
            admitted.setdefault(number, arrival.at)
    seconds = ran.ended - ran.began
    refused = sum(arrival.status == 429 for arrival in log)
    return Judged(
        over_ideal=round(seconds / ideal(limit, calls, sum(arrival.tokens for arrival in log)), 4),
        seconds=round(seconds, 3),
        requests=len(log),
        throttled=round(refused / len(log), 4) if log else 0.0,
        lost=calls - len(set(ran.answered)),
        duplicates=accepted.total() - len(accepted),
        cpu_ms=round(ran.cpu_s * 1000.0 / calls, 3),
        inversions=round(inversions(ran, admitted, limit.burst), 4),
    )


def inversions(ran: Ran, admitted: dict[int, float], burst: int) -> float:
    """Return the share of pairs, both waiting at one time, of which the server let the less urgent in first.

    The first *burst* calls are left out: nobody had to wait for them.
    """
    wrong = pairs = 0
    calls = sorted(admitted, key=admitted.__getitem__)[burst:]
    for place, first in enumerate(calls):
        for later in calls[place + 1 :]:
            if ran.priorities[first] == ran.priorities[later] or ran.submitted[later] > admitted[first] - LAG:
                continue
            pairs += 1
            wrong += ran.priorities[first] > ran.priorities[later]
    return wrong / pairs if pairs else 0.0
