"""The rate at which a provider may be called: given, taught by its headers, or learned from its refusals alone.

*A 429 blocks.* Everybody waits until the hint, or without one for a short pause. Then one probe goes. If it is not
turned away in the time of a refusal, calls go on; if it is, the next probe comes after ``PAUSES``, or its own hint if
that is longer: one a second and three in ten seconds at most. After several the way back is a slow start.

*One cut per epoch.* A refusal ends the epoch, and what was let go before it and fails later belongs to the same storm.
A failing probe ends the epoch too, but cuts nothing: the block was too short, not the rate too high. Nor does the odd
refusal where less than half of a known limit was in use: some providers refuse a few calls for reasons of their own.

*How far to cut.* The refusal is evidence: ``infer`` (``hidden_bucket.py``; passed in, since policies do not import
each other) finds the rate and burst that explain it together with all that went through before. That is the new goal.
A refusal that nothing explains is an outage or somebody else's doing, and the goal stays: the rate before the storm.
Two such storms on end mean that the limit has fallen: the goal comes down by a third and the evidence is dropped.

*Growth* is a cubic in time, as in CUBIC: ``goal + (goal - from) * (t / k - 1) ** 3``, from a little below the goal
quickly up to it, a plateau around it, and then with more and more courage beyond. ``k`` is short while little is known
and a mistake is cheap (the block was short); it doubles with each refusal that confirms the goal, up to a minute, and
is short again once the rate has left the goal behind unrefused. Time counts only while calls are held back: a rate
that nobody needs is no proof. With no knowledge at all it begins with a slow start: ``start`` calls a second, and up to
``gain`` more with each success of a call that was held back. It is paced from the first call on: a crowd that comes at
once and is turned away tells a burst but no rate, while a ramp that is refused was near the limit.

*Phases.* FREE is what is given, SLOW a slow start to its threshold, CUBIC the growth that leads back to what is given.

What is configured and what headers teach are ceilings, and without a refusal it is at the lower of them.
Sources: wire.md 3.4, 6.6, 6.7; RFC 9438 (CUBIC); RFC 5681 (slow start). Measured: benchmarks/adaptation.py.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import StrEnum
from math import inf
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from protocol.policies.hidden_bucket import Event, Inferred

PAUSES = (0.25, 1.0, 5.0, 7.5, 10.0)
"""Seconds before the first probe without a hint, and before each further one at least; the last is repeated."""
SHORTEST, LONGEST = 0.1, 3600.0
"""No block or wait for a probe is shorter, no block longer: after an hour a probe asks whether the hint still holds."""
GRACE, DOUBTFUL = 3.0, 3.5
"""A probe not turned away in so many times the time of a refusal has passed; after one that failed, so many seconds."""
HINT_JITTER = 0.1
"""The share of a hint, and at most one second, that is added to it by chance."""
BLIND_CUT, SWELL = 0.7, 2.0
"""What is left of a rate that is cut blindly; in a slow start a success adds so many by the time of its answer."""
ODD, HALF = 0.1, 0.5
"""Not more than this share of calls is refused, and less than this share of a known limit in use: no news of it."""
FLOOR, LEAST, NEAR = 1.0, 0.1, 0.1
"""Refusals teach no rate below this, nor below this share of a known limit; off by less than this is about the same."""
SURE, SURE_START, UNSURE_START = 1.15, 0.97, 0.9
SURE_K, MOST_K, UNSURE_K, MOST_UNSURE_K = 3.0, 60.0, 1.0, 5.0
"""Rates within ``SURE`` are sure; growth starts at which share of a goal that is, or is not; seconds to the goal."""
USUAL, TICK = 0.1, 1e-6
"""The weight of a cost in the usual one; waits are rounded up, so that a timer of microseconds is never too early."""
Infer = Callable[..., "Inferred | None"]


class RateSettings(Struct, frozen=True, kw_only=True):
    """How it starts without knowledge, and how it paces; rates in units per second.

    ``headroom`` is the share of a taught limit that is used, ``slack`` the seconds of rate that may go at once, beside
    one call, so that timers may be late, ``burst`` the likely one of who says none, ``memory`` the grants remembered.
    """

    start: float = 30.0
    gain: float = 2.0
    headroom: float = 0.99
    slack: float = 0.02
    burst: float = 10.0
    memory: int = 512


class Source(StrEnum):
    """Where the knowledge of a limit comes from."""

    NOTHING = "nothing"
    CONFIGURED = "configured"
    HEADERS = "headers"
    REFUSALS = "refusals"


class Learned(Struct, frozen=True, gc=False):
    """What is known of the limit: units per second and at once, None for unknown, and from where."""

    rate: float | None
    burst: float | None
    source: Source


class Pass(Struct, frozen=True, gc=False):
    """What was let go: in which epoch, as which one, when, the sum of all costs with it, its own, and how."""

    epoch: int
    number: int
    at: float
    total: float
    cost: float
    held_back: bool
    probe: bool


class Phase(StrEnum):
    """What decides the rate; see above."""

    FREE = "free"
    SLOW = "slow"
    CUBIC = "cubic"


FREE, SLOW, CUBIC = Phase


class AdaptiveRate:
    """The pace of one resource of one domain. *limit* (units per second) and *burst* are the configured ones."""

    def __init__(
        self,
        infer: Infer,
        *,
        limit: float | None = None,
        burst: float | None = None,
        settings: RateSettings | None = None,
    ) -> None:
        self.settings = RateSettings() if settings is None else settings
        self.phase = SLOW if limit is None else FREE
        self.epoch = self.cuts = 0
        self.blocked_until = -inf
        self.probing = False
        self._infer = infer
        self._limit = self._ceiling = inf if limit is None else limit
        self._limit_burst = burst
        self._taught, self._taught_burst, self._unit = inf, 0.0, 1.0
        self._pace, self._threshold = self.settings.start, inf
        self._goal, self._from, self._k, self._grown = inf, 0.0, UNSURE_K, 0.0
        self._sent: deque[Event] = deque(maxlen=self.settings.memory)
        self._whole, self._resumed, self._ask_again = True, 0, inf
        self._found: float | None = None
        self._found_burst: float | None = None
        self._storms = self._confirmed = self._unexplained = 0
        self._cut_from: float | None = None
        self._first_pause, self._echo, self._failing = 0.0, 0.0, 0
        self._probe_at: float | None = None
        self._granted, self._total, self._level = 0, 0.0, 0.0
        self._at: float | None = None

    # --- what can be asked

    @property
    def rate(self) -> float:
        """Units per second that may go now, blocks aside."""
        if self.phase is FREE:
            return self._ceiling
        return min(self._pace if self.phase is SLOW else self._cubic(), self._ceiling)

    @property
    def burst(self) -> float:
        """Units that may go at once: next to none, or in the phase FREE one less than the configured burst."""
        return self._burst_of(self.rate)

    def _burst_of(self, rate: float) -> float:
        pacing = self.settings.slack * rate + (self._unit if self._limit_burst is None else 1.0)
        if self.phase is not FREE:
            return pacing
        if self._limit_burst is None:
            return max(pacing, self._taught_burst)
        known = self._limit_burst if self._found_burst is None else min(self._limit_burst, self._found_burst)
        return max(pacing, known - 1.0)

    def level(self, now: float) -> float:
        """Return what may go at once at *now*; below 0 it is a debt."""
        return self._level_of(now, self.rate, self.burst)

    def _level_of(self, now: float, rate: float, burst: float) -> float:
        if self._at is None:
            return burst
        return min(burst, self._level + rate * max(0.0, now - self._at))

    def wait(self, now: float, cost: float = 1.0) -> float:
        """Return the seconds until *cost* may go, 0 for at once. Nothing is taken."""
        if now < self.blocked_until:
            return self.blocked_until - now + TICK
        if self.probing:
            if self._probe_at is None:
                return 0.0
            passed_at = self._probe_at + max(DOUBTFUL if self._failing else SHORTEST, GRACE * self._echo)
            if now < passed_at:
                return passed_at - now + TICK
        burst = self._burst_of(rate := self.rate)
        short = (min(burst, cost)) - self._level_of(now, rate, burst)
        return short / rate + TICK if short > TICK else 0.0

    def learned(self) -> Learned:
        """Say what is known of the limit: by refusals if they taught less than was given, else by what was given."""
        given = min(self._limit, self._taught)
        if self._found is not None and self._found < (1.0 - NEAR) * given:
            return Learned(self._found, self._found_burst, Source.REFUSALS)
        if given == inf:
            return Learned(None, None, Source.NOTHING)
        taught = self._taught <= self._limit
        return Learned(given, None if taught else self._limit_burst, Source.HEADERS if taught else Source.CONFIGURED)

    # --- what happens

    def on_granted(self, now: float, cost: float = 1.0) -> Pass:
        """Let *cost* go at *now*, since :meth:`wait` was 0; it is counted whether it was or not."""
        probe = self.probing and self._probe_at is None
        if probe:
            self._probe_at = now
        elif self.probing and now >= self.blocked_until:
            self._resume(now)
        burst = self._burst_of(rate := self.rate)
        level = self._level_of(now, rate, burst)
        held_back = self._at is not None and level < burst - TICK
        if held_back and self.phase is CUBIC and not self.probing:
            self._grow(now)
        if cost != self._unit and cost > 0.0:
            self._unit = cost if self._unit == 1.0 else self._unit + USUAL * (cost - self._unit)
        self._level, self._at = level - cost, now
        self._granted += 1
        self._total += cost
        self._sent.append((now, cost, 0))
        return Pass(self.epoch, self._granted, now, self._total, cost, held_back, probe)

    def on_success(self, passed: Pass, now: float) -> None:
        """What was let go has succeeded."""
        if passed.epoch != self.epoch:
            return
        if passed.probe and self.probing:
            self._resume(now)
        self._failing = 0
        if self.phase is SLOW and (passed.held_back or passed.probe):
            self._pace += min(self.settings.gain, SWELL / max(TICK, now - passed.at)) * passed.cost
            if self._pace >= self._threshold:
                self.phase, self._grown = CUBIC, 0.0

    def on_throttled(self, passed: Pass, now: float, hint: float | None, roll: float) -> None:
        """What was let go was turned away; *hint* is the wait it was told, in seconds, *roll* a die in [0, 1)."""
        self._echo = max(now - passed.at, (1.0 - NEAR) * self._echo)
        self._mark(passed, None if passed.probe else passed.epoch + 1)
        if passed.epoch != self.epoch:
            if hint is not None and now < self.blocked_until:
                self.blocked_until = max(self.blocked_until, now + min(hint, LONGEST))
            return
        self._failing = self._failing + 1 if passed.probe else 0
        least = PAUSES[min(self._failing, len(PAUSES) - 1)] * (1.0 + HINT_JITTER * roll)
        if hint is not None:
            least = max(least if self._failing else SHORTEST, hint + roll * min(1.0, HINT_JITTER * hint))
        if not passed.probe:
            self._cut_from, self._first_pause = None if self._odd(passed.at) else self.rate, least
            self.cuts += self._cut_from is not None
        self.epoch += 1
        self.blocked_until = max(self.blocked_until, now + min(least, LONGEST))
        self.probing, self._probe_at = True, None

    def on_unsent(self, passed: Pass, now: float) -> None:
        """What was let go never went: it comes back."""
        self.correct(passed.cost, now)
        self._mark(passed, None)
        self.on_other(passed, now)

    def correct(self, surplus: float, now: float) -> None:
        """What was let go has cost so much less than was thought; below 0 it has cost more."""
        self._total -= surplus
        self._level, self._at = min(self.burst, self.level(now) + surplus), now

    def on_other(self, passed: Pass, now: float) -> None:
        """What was let go ended in a way that says nothing about the rate; if it was the probe, the next goes soon."""
        if passed.probe and self.probing and passed.epoch == self.epoch:
            self._probe_at, self.blocked_until = None, max(self.blocked_until, now + PAUSES[1])

    def teach(self, limit: float, burst: float = 0.0) -> None:
        """The provider's own headers say that *limit* units a second are allowed; what is no rate teaches nothing.

        *burst* is how many of them may go at once; what is configured counts more.
        """
        if not 0.0 < limit < inf:
            return
        self._taught, self._taught_burst = limit, burst
        self._ceiling = min(self._limit, limit * self.settings.headroom)
        if self.phase is SLOW and self._threshold == inf:
            self.phase = FREE

    def on_remaining(self, passed: Pass, remaining: float, now: float) -> None:
        """The reply to *passed* said that *remaining* was left when it was let in: that can only lower the level.

        What has gone since is taken off, what the provider has refilled since is added.
        """
        refill = self.rate if self._ceiling == inf else self._ceiling
        self.lower(remaining + refill * max(0.0, now - passed.at) - (self._total - passed.total), now)

    def lower(self, level: float, now: float) -> None:
        """No more than *level* may go at once at *now*; below 0 it is a debt, of a burst at most."""
        if level < self.level(now):
            self._level, self._at = max(level, -self.burst), now

    def drain(self, now: float) -> None:
        """Start from an empty bucket: what an earlier life has let go is not known."""
        self._level, self._at, self._whole = 0.0, now, False

    # --- inside

    def _cubic(self) -> float:
        return self._goal + (self._goal - self._from) * (self._grown / self._k - 1.0) ** 3

    def _grow(self, now: float) -> None:
        """Let the time since the last grant count, and look at the evidence again where the rate leaves it behind."""
        self._grown += min(1.0, max(0.0, now - (self._at or now)))
        if self._grown >= self._k:
            self._unexplained = 0
        rate = self._cubic()
        if rate >= self._ceiling:
            self.phase, self._found = FREE, None
        elif rate > self._ask_again:
            found = self._ask(rate)
            if found is None:
                self._found = max(self._found or 0.0, rate / (1.0 + NEAR))
            else:
                self._found, self._found_burst = found.rate, found.burst
            self._ask_again = (1.0 + NEAR) * rate
            if self._k > MOST_UNSURE_K:
                self._goal, self._from, self._k = rate, UNSURE_START * rate, UNSURE_K
                self._grown = self._k

    def _odd(self, now: float) -> bool:
        """Tell whether a refusal is no news: few are refused, and of a limit that is known no half was in use."""
        lately = [cost for at, cost, _ in self._sent if at > now - 1.0]
        few = sum(bool(storm) for _, _, storm in self._sent) <= ODD * len(self._sent)
        return few and self.phase is FREE and len(lately) < self.settings.memory and sum(lately) < HALF * self.rate

    def _mark(self, passed: Pass, storm: int | None) -> None:
        index = len(self._sent) - 1 - (self._granted - passed.number)
        if index >= 0:
            self._sent[index] = (*self._sent[index][:2], storm)

    def _resume(self, now: float) -> None:
        """The probe has passed: calls go on, from an empty bucket; after an outage by a slow start."""
        self.probing, self._probe_at = False, None
        self._level, self._at, self._grown = min(0.0, self._level), now, 0.0
        if self._cut_from is not None:
            self._cut(self._cut_from)
            self._cut_from = None
        elif self.phase is FREE:
            if self._failing < 2:
                return
            self._goal, self._from = self._ceiling, UNSURE_START * self._ceiling
        self.phase = CUBIC
        if self._failing > 1:
            self.phase, self._pace, self._threshold = SLOW, self._goal / 8.0, self._from

    def _cut(self, rate: float) -> None:
        """Set goal, start and courage after a refusal at *rate*."""
        found, sure = self._ask(rate), False
        floor = FLOOR if self._ceiling == inf else LEAST * self._ceiling
        if found is not None and found.explained:
            near = self._found is not None and abs(found.rate - self._found) <= NEAR * self._found
            self._confirmed = self._confirmed + 1 if near else 0
            self._storms += 1
            self._unexplained = 0
            self._found, self._found_burst = max(found.rate, floor), found.burst
            sure = self._storms > 1 and found.spread < SURE
        else:
            self._leave_unexplained(rate, floor)
        goal = self._ceiling if self._found is None else min(self._found, self._ceiling)
        self._goal = self._ceiling if goal > (1.0 - NEAR) * self._ceiling else goal
        self._from = (SURE_START if sure else UNSURE_START) * self._goal
        courage = min(MOST_K, SURE_K * 2.0**self._confirmed)
        self._k = courage if sure else max(UNSURE_K, min(MOST_UNSURE_K, 2.0 * self._first_pause))
        self._ask_again = (1.0 + NEAR) * self._goal
        self._resumed = self._granted

    def _leave_unexplained(self, rate: float, floor: float) -> None:
        """No bucket explains the last refusals: they are no evidence. Two such storms on end are a lower limit."""
        events = self._sent
        for index in range(max(0, len(events) - (self._granted - self._resumed)), len(events)):
            at, cost, storm = events[index]
            events[index] = (at, cost, None if storm else 0)
        self._unexplained += 1
        if self._unexplained > 1:
            self._unexplained = self._storms = self._confirmed = 0
            events.clear()
            self._whole = False
            self._found = max(floor, BLIND_CUT * min(rate, self._found or self._ceiling))
        elif self._found is None and self._ceiling == inf:
            self._found = BLIND_CUT * rate

    def _ask(self, highest: float) -> Inferred | None:
        return self._infer(
            tuple(self._sent),
            highest=(1.0 + NEAR) * highest,
            guess=self.settings.burst if self._limit_burst is None else self._limit_burst,
            likely=None if self._ceiling == inf else self._ceiling,
            whole=self._whole and self._granted <= self.settings.memory,
        )
