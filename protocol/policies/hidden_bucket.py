"""Infer rate and burst of a token bucket that nobody can see, from what it let through and what it turned away.

Give every candidate rate a *virtual queue*: each request that was let through adds its cost, time drains it at the
rate, and it never falls below 0 (Lindley's recursion). If the rate is right, the depth of the queue is exactly what
the bucket lacks of being full. So a bucket of burst B lets a request through while the depth with it is at most B, and
turns it away above: all depths that went through lie below all that were turned away, and B lies between. Under a rate
that is too low the queue grows without end although everything goes through; under one that is too high requests are
turned away although the queue is empty. One number for each rate is all the state this needs, and one pass over the
history all the time.

From one storm of refusals every rate is possible, with a burst to match, and a guess of the burst decides (a bell over
its logarithm, a factor of two wide). A second storm, after a run at another pace, leaves one pair. What disagrees
costs its distance in requests; a refusal three times as much as a passage, for there are few of them, but no storm of
them more than ``STORM``: what no bucket explains (an outage, somebody else on the same key) must not drag the rate
along. The answer is the median of the rates, each weighed by what its loss leaves of it; part of it is whether the
last refusal was explained, and how far the likely rates are spread.

It costs some twenty microseconds for each event of the history, once for each storm. A fixed window is no bucket: what
is found for one is a rate that it would let through, not always its own.

Sources: D. Lindley, "The Theory of Queues with a Single Server" (1952); the bucket as a virtual queue: J.-Y. Le Boudec
and P. Thiran, *Network Calculus*, 1.2; the oracle and the closed loop are in the tests.
"""

from __future__ import annotations

from itertools import pairwise
from math import exp, inf, log2, sqrt
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

Event = tuple[float, float, int | None]
"""When a request went, what it cost, and in which storm it was turned away: counted from 1, 0 when it was let through.

None when nobody knows; then, or when it cost nothing, it counts as never sent.
"""

DEEPEST = 127
"""The largest burst that is thought of, in requests."""
LEAST = 4
"""From fewer events than this nothing is inferred."""
REFUSAL, STORM = 3.0, 9.0
"""What a refusal costs for each request it came too early, and what one storm costs at most; a passage costs 1."""
FAR = 3.0
"""A refusal that came so many requests too early is not explained."""
EDGE = 0.05
"""What a passage costs that took the last of the burst: of bursts that are as good the larger is likelier."""
BELIEF, DOUBT = 30.0, 12.0
"""What it costs to be a factor of two off the believed rate, and what disbelief costs at most."""
QUANTILES = (0.1, 0.5, 0.9)
FINE, FINES, COARSE, COARSES = 0.97, 24, 0.8, 18
"""Rates are tried from the highest down: in steps of 3 % to about a half, in steps of 20 % to about a hundredth."""
LONGEST = 2
BURSTS = (0, 1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 19, 24, 31, 40)
"""And those that follow if with such a burst the bucket went from full to empty between two storms, the longest two."""


class Inferred(NamedTuple):
    """Units per second and units at once.

    ``explained`` tells whether the last refusal follows from them; eight of ten rates that explain everything about as
    well lie within the factor ``spread``.
    """

    rate: float
    burst: float
    explained: bool
    spread: float


Steps = list[tuple[float, float, int]]
"""Seconds since the event before, cost in requests of mean cost, storm."""


def infer(
    history: Sequence[Event], *, highest: float, guess: float, likely: float | None = None, whole: bool = True
) -> Inferred | None:
    """Return the bucket that explains *history* best, None when it holds no refusal or too little.

    Rates up to *highest* units a second are tried; *guess* is the likely burst, in requests of mean cost, *likely* the
    rate that is believed until refusals speak clearly against it. *whole* tells that nothing went before *history*, so
    that the bucket was full; otherwise a refusal counts only once the queue has been empty.
    """
    known = [(at, cost, storm) for at, cost, storm in history if storm is not None and cost > 0.0]
    if len(known) < LEAST or not any(storm for _, _, storm in known):
        return None
    unit = sum(cost for _, cost, _ in known) / len(known)
    steps = [(at - before, cost / unit, storm) for (before, _, _), (at, cost, storm) in pairwise([known[0], *known])]

    def loss_of(rate: float) -> float:
        belief = 0.0 if likely is None else min(DOUBT, BELIEF * log2(rate * unit / likely) ** 2)
        return _explain(steps, rate, guess, whole=whole)[0] + belief

    losses = {rate: loss_of(rate) for rate in (*_grid(highest / unit), *_between(steps, highest / unit))}
    best = min(losses, key=losses.__getitem__)
    step = FINE if best > highest / unit * FINE**FINES else COARSE
    losses |= {rate: loss_of(rate) for rate in (best * step ** (n / 5.0) for n in range(-4, 5))}
    low, rate, high = _quantiles(losses)
    _, burst, last = _explain(steps, rate, guess, whole=whole)
    if last is None:
        return None
    return Inferred(rate * unit, burst * unit, explained=burst + 0.5 - last < FAR, spread=high / low)


def _quantiles(losses: dict[float, float]) -> tuple[float, float, float]:
    """Return first decile, median and last decile of the rate, when each weighs what its loss leaves of it."""
    rates, least = sorted(losses), min(losses.values())
    edges = [rates[0], *(sqrt(rate * after) for rate, after in pairwise(rates)), rates[-1]]
    weights = [
        exp(least - losses[rate]) * (high - low) for rate, (low, high) in zip(rates, pairwise(edges), strict=True)
    ]
    found: list[float] = []
    total, below = sum(weights), 0.0
    for rate, weight in zip(rates, weights, strict=True):
        below += weight
        while len(found) < len(QUANTILES) and below >= QUANTILES[len(found)] * total:
            found.append(rate)
    return found[0], found[1], found[2]


def _grid(highest: float) -> list[float]:
    fine = [highest * FINE**n for n in range(FINES + 1)]
    return fine + [fine[-1] * COARSE**n for n in range(1, COARSES + 1)]


def _between(steps: Steps, highest: float) -> list[float]:
    """Return the rates by which a full bucket was empty after what passed between two storms, for the longest such."""
    stretches: list[tuple[float, float]] = []
    passed = lasted = 0.0
    for gap, cost, storm in steps:
        if not storm:
            lasted += gap if passed else 0.0
            passed += cost
        elif passed:
            stretches.append((passed, lasted + gap))
            passed = lasted = 0.0
    return [
        (passed - burst) / lasted
        for passed, lasted in sorted(stretches)[-LONGEST:]
        for burst in BURSTS
        if 0.0 < passed - burst <= highest * lasted
    ]


def _explain(steps: Steps, rate: float, guess: float, *, whole: bool) -> tuple[float, int, float | None]:
    """Return the least loss at *rate*, the burst that has it, and the depth at the last refusal that says anything."""
    passed = [0] * (DEEPEST + 1)
    storms: dict[int, list[float]] = {}
    depth = 0.0
    last: float | None = None
    sound = whole
    for gap, cost, storm in steps:
        depth -= rate * gap
        if depth <= 0.0:
            depth = 0.0
            sound = sound or gap > 0.0
        here = depth + cost
        if not storm:
            depth = here
            passed[int(here + 0.5) if here < DEEPEST else DEEPEST] += 1
        elif sound:
            last = here
            storms.setdefault(storm, []).append(here)
    return (*_best_burst(passed, list(storms.values()), guess), last)


def _best_burst(passed: list[int], storms: list[list[float]], guess: float) -> tuple[float, int]:
    """Return the least loss over all bursts, and the burst that has it."""
    least, best = inf, 1
    shallowest = [(min(depths), depths) for depths in storms]
    above = count = 0  # the requests that passed deeper than the burst, and the sum of their distances from it
    for burst in range(DEEPEST, 0, -1):
        above += count
        loss = above + EDGE * passed[burst] + log2(burst / guess) ** 2
        count += passed[burst]
        for shallow, depths in shallowest:
            if loss > least:
                break
            missed = burst + 0.5 - shallow
            if missed >= STORM / REFUSAL:
                loss += STORM
            elif missed > 0.0:
                loss += min(STORM, REFUSAL * sum(burst + 0.5 - depth for depth in depths if depth < burst + 0.5))
        if loss <= least:
            least, best = loss, burst
    return least, best
