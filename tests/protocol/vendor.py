"""A simulated vendor and the closed loop around it: pure, in virtual time, everything drawn by a seed.

The vendor knows its true limit and tells it to nobody, unless its terms say that headers tell. What it has let in and
turned away stands in its log, by which a run is judged.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from heapq import heappop, heappush
from itertools import pairwise
from math import ceil, inf
from typing import NamedTuple

from protocol.policies.adaptive_rate import AdaptiveRate
from protocol.policies.aimd import Aimd, AimdLimits
from protocol.policies.hidden_bucket import infer
from protocol.policies.learned_limits import LearnedLimits
from protocol.wire.hints import wait_hint, windows_of

EPOCH = 1_800_000_000.0
TOKEN_SECONDS = 6.0


class Storm(NamedTuple):
    """From *start* to *end* every call is answered with *status*, and with *hint* as its retry-after."""

    start: float
    end: float
    status: int = 429
    hint: float | None = None


@dataclass(frozen=True)
class Terms:
    """What a vendor really does. Times in seconds, the rate in requests a second."""

    rate: float = 50.0
    burst: float = 10.0
    window: float | None = None  # a fixed window of so many seconds in place of a bucket
    phase: float = 0.0  # where in its window the vendor stands at the start
    capacity: float = inf  # calls at once; one more is turned away with 529
    hints: str = "none"  # or "seconds" (whole ones, rounded up), or "exact"
    headers: bool = False  # x-ratelimit-*-requests with each reply, and -tokens where they are limited
    tokens: float = inf  # tokens a second, six seconds' worth at once
    output: int = 64  # the most an answer may have: taken at the door, given back but for what it has
    way: float = 0.01  # to the vendor and back, each
    jitter: float = 0.003  # the mean of what chance adds to each way
    service: float = 0.2  # the median of an answer
    spread: float = 0.4  # the sigma of its logarithm
    storms: tuple[Storm, ...] = ()
    steps: tuple[tuple[float, float], ...] = ()  # (from then on, the rate)
    odd: float = 0.0  # the share of calls that is turned away for no reason, for a second

    @property
    def ideal(self):
        """Return the rate and the burst that decide how fast anybody could be."""
        return self.rate, self.burst if self.window is None else 0.0


def drawn(seed, **fixed):
    """Draw the terms of a vendor around 50 a second and a burst of 10; *fixed* ones are not drawn."""
    dice = random.Random(f"vendor {seed}")
    terms = Terms(
        rate=dice.uniform(30.0, 75.0),
        burst=float(dice.randint(5, 20)),
        hints=dice.choice(["none", "seconds", "exact"]),
        way=dice.uniform(0.002, 0.04),
        jitter=dice.uniform(0.0005, 0.005),
        service=dice.uniform(0.05, 0.6),
        phase=dice.random(),
    )
    return replace(terms, **fixed)


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]


class Vendor:
    """Lets in and turns away, and keeps a log of (instant, status)."""

    def __init__(self, terms):
        self.terms = terms
        self.level, self.at = terms.burst, 0.0
        self.token_level = TOKEN_SECONDS * terms.tokens
        self.slot, self.count = None, 0
        self.busy = 0
        self.log = []
        self.dice = random.Random(f"odd {terms.odd}")

    def arrive(self, at, size=(0, 0)):
        status, wait = self.judge(at, size[0] + self.terms.output)
        if status == 200 and self.terms.tokens < inf:
            self.token_level -= sum(size)
        self.log.append((at, status))
        self.busy += status == 200
        headers = self.limits() if self.terms.headers else {}
        if wait is not None:
            headers["retry-after"] = f"{wait:.3f}".removesuffix(".000")
        return Answer(status, headers)

    def judge(self, at, tokens=0):
        """Return a status and the wait that it names, if any."""
        for storm in self.terms.storms:
            if storm.start <= at < storm.end:
                return storm.status, storm.hint
        if self.busy >= self.terms.capacity:
            return 529, None
        if self.dice.random() < self.terms.odd:
            return 429, 1.0
        short = self.short_of_tokens(at, tokens)
        if short > 0.0:
            return 429, self.hint(short)
        wait = self.bucket(at) if self.terms.window is None else self.fixed_window(at)
        if wait == 0.0:
            return 200, None
        return 429, self.hint(wait)

    def hint(self, wait):
        return {"none": None, "seconds": max(1, ceil(wait)), "exact": wait}[self.terms.hints]

    def short_of_tokens(self, at, tokens):
        """Return the seconds until *tokens* are there; call this before the bucket, which moves the clock."""
        if self.terms.tokens == inf:
            return 0.0
        most = TOKEN_SECONDS * self.terms.tokens
        self.token_level = min(most, self.token_level + self.terms.tokens * (at - self.at))
        if tokens > self.token_level:
            self.at, self.level = at, min(self.terms.burst, self.level + self.rate(at) * (at - self.at))
        return (tokens - self.token_level) / self.terms.tokens

    def rate(self, at):
        return [rate for start, rate in ((0.0, self.terms.rate), *self.terms.steps) if start <= at][-1]

    def bucket(self, at):
        rate = self.rate(at)
        self.level, self.at = min(self.terms.burst, self.level + rate * (at - self.at)), at
        if self.level >= 1.0:
            self.level -= 1.0
            return 0.0
        return (1.0 - self.level) / rate

    def fixed_window(self, at):
        span = self.terms.window
        slot = at / span + self.terms.phase
        if int(slot) != self.slot:
            self.slot, self.count = int(slot), 0
        if self.count < round(self.rate(at) * span):
            self.count += 1
            return 0.0
        return (self.slot + 1 - slot) * span

    def limits(self):
        full, left = self.terms.burst, self.level
        if self.terms.window is not None:
            full = round(self.terms.rate * self.terms.window)
            left = full - self.count
        said = {
            "x-ratelimit-limit-requests": str(round(self.terms.rate * 60)),
            "x-ratelimit-remaining-requests": str(int(left)),
            "x-ratelimit-reset-requests": f"{(full - left) / self.terms.rate:.3f}s",
        }
        if self.terms.tokens < inf:
            missing = TOKEN_SECONDS * self.terms.tokens - self.token_level
            said |= {
                "x-ratelimit-limit-tokens": str(round(self.terms.tokens * 60)),
                "x-ratelimit-remaining-tokens": str(max(0, int(self.token_level))),
                "x-ratelimit-reset-tokens": f"{missing / self.terms.tokens:.3f}s",
            }
        return said

    def statuses(self, start=0.0, end=inf):
        return [status for at, status in self.log if start <= at < end]

    def served(self, start, end):
        return self.statuses(start, end).count(200)


class Client:
    """What the limiter does with the policies, in the smallest form: one resource, nobody before anybody else."""

    def __init__(self, terms=None, *, aimd=None):
        """With *terms* their limit is configured, otherwise it is unknown."""
        known = {} if terms is None else {"limit": terms.rate, "burst": terms.burst}
        self.rate = AdaptiveRate(infer, **known)
        self.aimd = Aimd(AimdLimits(first=10**6, most=10**6) if aimd is None else aimd)
        self.learned = LearnedLimits()

    def wait(self, now, in_flight):
        """Return the wait of a call; infinity when only the end of another can help."""
        return self.rate.wait(now) if in_flight < self.aimd.limit else inf

    def grant(self, now):
        return self.rate.on_granted(now), self.aimd.epoch

    def settle(self, lease, answer, now, in_flight, roll):
        passed, epoch = lease
        windows = windows_of(answer.headers, EPOCH + now)
        for lesson in self.learned.on_headers(windows):
            if lesson.rate is not None:
                self.rate.teach(lesson.rate)
            if lesson.remaining is not None:
                self.rate.on_remaining(passed, lesson.remaining, now)
        if answer.status == 200:
            self.rate.on_success(passed, now)
            self.aimd.on_success(epoch, in_flight)
        elif answer.status == 429:
            self.rate.on_throttled(passed, now, wait_hint(answer.headers, "", EPOCH + now), roll)
        else:
            self.rate.on_other(passed, now)
            self.aimd.on_overload(epoch)


@dataclass
class Loop:
    """*calls* calls, all waiting at once; with *agents* only so many at a time. A call turned away waits again."""

    client: Client
    vendor: Vendor
    seed: int = 0
    calls: int = 500
    agents: int | None = None
    until: float = inf
    look: tuple[int, object] | None = None  # after so many calls done, call this once with the loop
    now: float = 0.0
    done: int = 0
    waiting: int = 0
    left: int = 0
    sizes: object = None  # draws the tokens of a call, prompt and answer, from a die
    in_flight: int = 0
    serial: int = 0
    due: float = inf
    events: list = field(default_factory=list)

    def run(self):
        self.dice = random.Random(f"loop {self.seed}")
        self.waiting = self.calls if self.agents is None else min(self.agents, self.calls)
        self.left = self.calls - self.waiting
        self.let_go()
        while self.events and self.done < self.calls and self.now < self.until:
            self.now, _, act, arguments = heappop(self.events)
            act(*arguments)
            self.let_go()
        return self

    def after(self, delay, act, *arguments):
        self.serial += 1
        heappush(self.events, (self.now + delay, self.serial, act, arguments))

    def way(self):
        return self.vendor.terms.way + self.dice.expovariate(1.0 / self.vendor.terms.jitter)

    def let_go(self):
        while self.waiting:
            wait = self.client.wait(self.now, self.in_flight)
            if wait > 0.0:
                if self.now + wait < self.due - 1e-6:
                    self.due = self.now + wait
                    self.after(wait + self.dice.uniform(0.0, 0.0015), self.wake, self.due)
                return
            self.waiting -= 1
            self.in_flight += 1
            if self.sizes is None:
                self.after(self.way(), self.arrive, self.client.grant(self.now))
            else:
                size = self.sizes(self.dice)
                self.after(self.way(), self.arrive, self.client.grant(self.now, size), size)

    def wake(self, due):
        if due == self.due:
            self.due = inf

    def arrive(self, lease, *size):
        answer, spent = self.vendor.arrive(self.now, *size), 0.001
        if answer.status == 200:
            spent = self.vendor.terms.service * self.dice.lognormvariate(0.0, self.vendor.terms.spread)
            self.after(spent, self.leave)
        self.after(spent + self.way(), self.hear, lease, answer)

    def leave(self):
        self.vendor.busy -= 1

    def hear(self, lease, answer):
        self.client.settle(lease, answer, self.now, self.in_flight, self.dice.random())
        self.in_flight -= 1
        if answer.status != 200:
            self.waiting += 1
            return
        self.done += 1
        if self.left:
            self.left -= 1
            self.waiting += 1
        if self.look is not None and self.done == self.look[0]:
            self.look[1](self)


class Verdict(NamedTuple):
    """How 500 calls went: time over the ideal, the share of 429s, how far off the learned rate was after 200."""

    time: float
    refused: float
    off: float


MODES = ("configured", "headers", "refusals")


def judge(seed, mode, *, calls=500, **fixed):
    """Run *calls* calls against the vendor drawn by *seed*; its log decides."""
    terms = drawn(seed, headers=mode == "headers", **fixed)
    vendor, learned = Vendor(terms), []
    look = (200, lambda loop: learned.append(loop.client.rate.learned().rate))
    client = Client(terms if mode == "configured" else None)
    Loop(client, vendor, seed, calls=calls, look=look).run()
    rate, burst = terms.ideal
    served = [at for at, status in vendor.log if status == 200]
    return Verdict(
        time=(served[-1] - vendor.log[0][0]) / ((calls - burst) / rate),
        refused=1.0 - len(served) / len(vendor.log),
        off=abs(learned[0] - rate) / rate if learned[0] else inf,
    )


class Recovery(NamedTuple):
    """How 50 agents came through a storm of 429s."""

    in_flight: int  # turned away because they were under way when it began
    probes: int
    in_ten_seconds: int  # probes, at most
    gap: float  # the shortest between two probes
    back: float  # seconds from its end to 90 % of the limit, over five seconds


def weather(seed, mode, hint, *, start=10.0, length=30.0, client=Client):
    """Let 50 agents who always want more run into a storm, and out of it; *client* makes what lets their calls go."""
    end = start + length
    terms = drawn(seed, headers=mode == "headers", storms=(Storm(start, end, 429, hint),))
    vendor = Vendor(terms)
    Loop(client(terms if mode == "configured" else None), vendor, seed, calls=10**6, agents=50, until=end + 65.0).run()
    refused = [at for at, status in vendor.log if start <= at < end and status == 429]
    probes = [at for at in refused if at > refused[0] + 0.2]
    most = min(terms.rate, 50 / (terms.service * 1.08 + 2 * terms.way + 2 * terms.jitter))
    back = next(
        (after / 2 for after in range(120) if vendor.served(end + after / 2, end + after / 2 + 5) >= 4.5 * most), inf
    )
    return Recovery(
        in_flight=len(refused) - len(probes),
        probes=len(probes),
        in_ten_seconds=max((sum(at <= other < at + 10.0 for other in probes) for at in probes), default=0),
        gap=min((later - at for at, later in pairwise(probes)), default=inf),
        back=back,
    )
