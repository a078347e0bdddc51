"""Which model a call goes to when its role says ``auto``: the cheapest that is likely good enough, by arithmetic.

Four steps, each of which says why:

1. *Filters*: what does not fit the context, cannot be paid, is throttled or does not know schemas is out, as long as
   something is left.
2. *Belief*: how often drafts of each model are good for this kind of call. A prior by tier and complexity, moved by
   what became of earlier drafts. Facts (tests, does it parse) count in full, a reviewer's verdict half. A call that
   failed on its way says nothing about the model, and is never learnt from.
3. *Arithmetic*: a draft that is rejected is written again, perhaps by a stronger model. With ``c`` the cost of a draft,
   ``v`` that of its review and ``r`` the chance that it is rejected, starting cheap costs ``c1 + v + r (c2 + v)``
   against ``c2 + v``; the quality that each way ends with is weighed by what a good result is worth.
4. *Exploration*: now and then, and only where it is cheap or might change the choice, another model is tried, since a
   model that is never asked can never prove itself.

Pure: the die is a number in the job. Costs are in any one unit.
"""

from __future__ import annotations

from math import exp, log, sqrt
from typing import TYPE_CHECKING, Final, NamedTuple

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

UNSURE: Final = {"model": 0.5, "class": 0.7, "stage": 0.2, "case": 0.2}
"""The variance of each effect before anything was seen: a model differs from its tier by about 0.7 in log-odds."""
EASY: Final = (0.85, 0.9, 0.94)
HARD: Final = (0.3, 0.5, 0.72)
"""The prior share of good first drafts by tier: of the easiest tasks and of the hardest."""
REJECTED: Final = {"first": 0.0, "again": -0.9, "up": -0.6}
"""What a rejection takes from the log-odds: of a model of the same tier, and of one above it."""
STAGES: Final = {"first": "a first draft", "again": "another draft", "up": "a step up after a rejection"}
WITHOUT_PRICE: Final = 5.0
"""How many times dearer a tier is taken to be than the one below, where a price is unknown."""


class Rules(Struct, frozen=True, kw_only=True):
    """How models are chosen.

    ``worth`` of a good result and ``review`` (the cost of one) are in drafts of the strongest model. ``explore`` is the
    share of first drafts that may be tried elsewhere, ``forget`` how much of what was learnt each new grade unsettles.
    A reviewer calls ``wrong`` of the drafts good that are bad, and the other way round; its verdicts count ``verdict``
    as much as facts. Without ``cascade`` a rejected draft is not reckoned with; without ``adaptive`` it is always the
    strongest model that fits.
    """

    worth: float = 40.0
    review: float = 0.2
    wrong: float = 0.1
    explore: float = 0.03
    forget: float = 0.0005
    verdict: float = 0.7
    learn: bool = True
    cascade: bool = True
    adaptive: bool = True


class Rung(Struct, frozen=True, kw_only=True):
    """A model of the ladder. Prices per token in any unit, None: unknown; ``context`` in tokens, None: unknown."""

    key: str
    tier: int = 1
    price_in: float | None = None
    price_out: float | None = None
    context: int | None = None
    schema: bool = True


class Room(Struct, frozen=True, kw_only=True):
    """How a model stands now: the seconds until a call may go, and whether it may be called at all.

    ``most`` is what is reserved for this call there, where there is a budget; None: nobody knows, and it is refused.
    """

    wait: float = 0.0
    open: bool = True
    most: float | None = 0.0


class Job(Struct, frozen=True, kw_only=True):
    """What a model is wanted for.

    ``tried`` are the models whose drafts of this were rejected, the last one last; ``stronger`` asks for one above it.
    ``last`` is the model that this conversation is with. ``reviewed`` says that somebody will look at the result,
    ``checked`` that tests will; ``rounds`` drafts may still be written, this one among them. ``money`` is what may be
    spent, in the unit of the prices, ``patience`` the seconds it may wait. ``roll`` is a die in [0, 1).
    """

    role: str
    complexity: float = 0.5
    prompt_tokens: int = 0
    output_tokens: int = 0
    schema: bool = False
    tried: tuple[str, ...] = ()
    stronger: bool = False
    last: str | None = None
    reviewed: bool = True
    checked: bool = False
    rounds: int = 3
    money: float | None = None
    patience: float = 30.0
    roll: float = 1.0


class Choice(NamedTuple):
    """The model and why; then what its draft is graded under, and whether it is a trial.

    ``prior`` is in log-odds.
    """

    key: str
    why: str
    role: str
    band: str
    stage: str
    prior: float
    trial: bool = False


class Effect(Struct, frozen=True, kw_only=True):
    """What is learnt of one thing, as log-odds that are added to the prior: how much, how unsure, from how many."""

    name: str
    value: float = 0.0
    variance: float
    seen: int = 0


class End(NamedTuple):
    """How a way is expected to end: the chance of a good result, and the cost in drafts of the strongest model."""

    quality: float
    cost: float


class Plan(NamedTuple):
    """What stays the same while the ways of one job are gone through."""

    job: Job
    rungs: list[Rung]
    costs: dict[str, float]
    worth: float
    known: dict[tuple[str, str], tuple[float, float]]

    def value(self, end: End) -> float:
        """Return what *end* is worth."""
        return self.worth * end.quality - end.cost


class Router:
    """The ladder of models and what was learnt about them."""

    def __init__(self, rungs: Iterable[Rung], rules: Rules | None = None, learnt: Iterable[Effect] = ()) -> None:
        self._rules = rules or Rules()
        self._rungs = {rung.key: rung for rung in rungs}
        self._learnt = {effect.name: effect for effect in learnt if effect.name.partition(" ")[0] in UNSURE}

    @property
    def learnt(self) -> tuple[Effect, ...]:
        """What was learnt, to be kept."""
        return tuple(self._learnt.values())

    def learn(self, choice: Choice, *, good: bool, fact: bool = False) -> None:
        """Book what became of the draft of *choice*: *good* is its verdict, or with *fact* what tests say."""
        rules = self._rules
        if not rules.learn or choice.key not in self._rungs:
            return
        effects = self._effects(choice.role, choice.band, choice.stage, choice.key)
        chance = logistic(choice.prior + sum(effect.value for effect in effects))
        share = float(good) if fact else soft(chance, good=good, wrong=rules.wrong)
        weight = 1.0 if fact else rules.verdict
        sharp = weight * chance * (1.0 - chance)
        damped = 1.0 + sharp * sum(effect.variance for effect in effects)
        for effect in effects:
            seen = effect.variance - sharp * effect.variance**2 / damped
            self._learnt[effect.name] = Effect(
                name=effect.name,
                value=effect.value + effect.variance * weight * (share - chance) / damped,
                variance=seen + rules.forget * (UNSURE[effect.name.partition(" ")[0]] - seen),
                seen=effect.seen + 1,
            )

    def choose(self, job: Job, rooms: Mapping[str, Room] | None = None) -> Choice:
        """Return the model for *job*. Raises ``ValueError`` when the ladder has no rung."""
        if not self._rungs:
            raise ValueError("there is no model to choose from")
        able, left_out = self._filtered(job, rooms or {})
        rungs = self._above(job, able)
        if not self._rules.adaptive:
            return self._chosen(job, max(rungs, key=lambda rung: rung.tier), [*left_out, "always the strongest"])
        if len(rungs) == 1:
            return self._chosen(job, rungs[0], [*left_out, "the only one left"])
        if job.last is not None and not job.tried and job.last in {rung.key for rung in rungs}:
            return self._chosen(job, self._rungs[job.last], [*left_out, "this conversation is with it"])
        values = self._values(job, rungs)
        best = max(rungs, key=lambda rung: values[rung.key])
        trial = self._trial(job, best, rungs, values)
        if trial is not None:
            return self._chosen(job, trial, [*left_out, f"tried in place of {best.key}"], trial=True)
        return self._chosen(job, best, left_out)

    def cost(self, rung: Rung, job: Job) -> float:
        """Return what a call of *job* costs at *rung*, in the unit of the prices; by tier where one is unknown."""
        if any(other.price_in is None or other.price_out is None for other in self._rungs.values()):
            return float(WITHOUT_PRICE**rung.tier)
        assert rung.price_in is not None
        assert rung.price_out is not None
        return rung.price_in * job.prompt_tokens + rung.price_out * job.output_tokens

    def chance(self, job: Job, rung: Rung, tried: tuple[str, ...]) -> tuple[float, float]:
        """Return how likely a draft of *rung* is good, after those of *tried* were not, and how sure that is (sd)."""
        stage = self._stage(rung, tried)
        effects = self._effects(job.role, band_of(job.complexity), stage, rung.key)
        chance = logistic(prior(rung.tier, job.complexity, stage) + sum(effect.value for effect in effects))
        return chance, chance * (1.0 - chance) * sqrt(sum(effect.variance for effect in effects))

    def _effects(self, role: str, band: str, stage: str, key: str) -> tuple[Effect, ...]:
        """Return what moves the prior: the model, the class of task, the stage, and this model in just this case."""
        names = (f"model {key}", f"class {role} {band}", f"stage {role} {stage}", f"case {role} {band} {stage} {key}")
        return tuple(
            self._learnt.get(name) or Effect(name=name, variance=UNSURE[name.partition(" ")[0]]) for name in names
        )

    # --- filters

    def _filtered(self, job: Job, rooms: Mapping[str, Room]) -> tuple[list[Rung], list[str]]:
        """Return what is able, and who was left out for what. A filter that leaves nothing is passed over."""
        able, reasons = list(self._rungs.values()), []
        room = {rung.key: rooms.get(rung.key, Room()) for rung in able}
        passing = {
            "the prompt does not fit": [rung for rung in able if _fits(rung, job)],
            "cannot be paid": [rung for rung in able if self._payable(rung, job, room[rung.key])],
            "may not be called now": [rung for rung in able if room[rung.key].open],
            "is throttled": [rung for rung in able if room[rung.key].wait <= job.patience],
            "knows no schema": [rung for rung in able if rung.schema or not job.schema],
        }
        for why, passed in passing.items():
            kept = [rung for rung in able if rung in passed]
            out = [rung.key for rung in able if rung not in passed]
            if kept and out:
                able = kept
                reasons.append(f"{', '.join(out)}: {why}")
        return able, reasons

    def _payable(self, rung: Rung, job: Job, room: Room) -> bool:
        """Tell whether the money that is left is enough: for what a call is likely to cost, and what is reserved."""
        if job.money is None:
            return True
        return room.most is not None and max(room.most, self.cost(rung, job)) <= job.money

    def _above(self, job: Job, able: list[Rung]) -> list[Rung]:
        """Return what may follow the models that were tried: never a weaker one, a stronger one where that is asked."""
        tier = max((self._rungs[key].tier for key in job.tried if key in self._rungs), default=0)
        above = [rung for rung in able if rung.tier > tier] if job.stronger else []
        return above or [rung for rung in able if rung.tier >= tier] or able

    # --- arithmetic

    def _values(self, job: Job, rungs: list[Rung], more: float = 0.0) -> dict[str, float]:
        """Return what starting with each of *rungs* is worth; *more* sds are added to its first chance."""
        unit = max(self.cost(rung, job) for rung in self._rungs.values()) or 1.0
        costs = {rung.key: self.cost(rung, job) / unit for rung in rungs}
        rounds = max(1, job.rounds) if self._rules.cascade and job.reviewed else 1
        plan = Plan(job, rungs, costs, self._rules.worth, {})
        return {rung.key: plan.value(self._end(plan, rung, job.tried, rounds, more)) for rung in rungs}

    def _end(self, plan: Plan, rung: Rung, tried: tuple[str, ...], rounds: int, more: float = 0.0) -> End:
        """Return how a draft of *rung* ends, with what follows when it is rejected; *rounds* drafts are left."""
        rules, job = self._rules, plan.job
        case = (rung.key, self._stage(rung, tried))
        mean, sd = plan.known.get(case) or plan.known.setdefault(case, self.chance(job, rung, tried))
        good = min(1.0, mean + more * sd)
        spent = plan.costs[rung.key] + (rules.review if job.reviewed else 0.0)
        if rounds == 1:
            return End(good, spent)
        wrong = 0.0 if job.checked else rules.wrong
        rejected = good * wrong + (1.0 - good) * (1.0 - wrong)
        above = [other for other in plan.rungs if other.tier >= rung.tier]
        follow = max((self._end(plan, other, (*tried, rung.key), rounds - 1) for other in above), key=plan.value)
        return End(good * (1.0 - wrong) + rejected * follow.quality, spent + rejected * follow.cost)

    def _trial(self, job: Job, best: Rung, rungs: list[Rung], values: dict[str, float]) -> Rung | None:
        """Return another model to try: a cheaper one any time, a dearer one only where it might be the better one."""
        if not self._rules.learn or job.tried or job.roll >= self._rules.explore:
            return None
        hoped, most = self._values(job, rungs, more=2.0), self.cost(best, job)
        others = [
            rung
            for rung in rungs
            if rung is not best and (self.cost(rung, job) <= most or hoped[rung.key] > values[best.key])
        ]
        return others[int(job.roll / self._rules.explore * len(others))] if others else None

    # --- words

    def _stage(self, rung: Rung, tried: tuple[str, ...]) -> str:
        before = [self._rungs[key].tier for key in tried if key in self._rungs]
        return "first" if not before else "up" if rung.tier > max(before) else "again"

    def _chosen(self, job: Job, rung: Rung, reasons: list[str], *, trial: bool = False) -> Choice:
        stage, band = self._stage(rung, job.tried), band_of(job.complexity)
        seen = self._effects(job.role, band, stage, rung.key)[-1].seen
        chance, _ = self.chance(job, rung, job.tried)
        known = f"{chance:.0%} likely good" + (f", {seen} of its kind seen" if seen else "")
        why = "; ".join((f"tier {rung.tier}: {STAGES[stage]} for a {band} {job.role} task, {known}", *reasons))
        return Choice(rung.key, why, job.role, band, stage, prior(rung.tier, job.complexity, stage), trial)


def band_of(complexity: float) -> str:
    """Return the class of a complexity: ``simple``, ``medium`` or ``complex``."""
    return "simple" if complexity < 0.5 else "medium" if complexity < 0.8 else "complex"


def prior(tier: int, complexity: float, stage: str = "first") -> float:
    """Return the log-odds that a draft of a model of *tier* (1 to 3) is taken to be good."""
    easy, hard = EASY[min(tier, 3) - 1], HARD[min(tier, 3) - 1]
    chance = easy + (hard - easy) * complexity
    return log(chance / (1.0 - chance)) + REJECTED[stage]


def logistic(odds: float) -> float:
    """Return the chance of these log-odds."""
    return 1.0 / (1.0 + exp(-max(-30.0, min(30.0, odds))))


def soft(mean: float, *, good: bool, wrong: float) -> float:
    """Return how likely a draft is good whose chance was *mean*, after a reviewer who errs that often judged it."""
    said_good = mean * (1.0 - wrong) / (mean * (1.0 - wrong) + (1.0 - mean) * wrong)
    said_bad = mean * wrong / (mean * wrong + (1.0 - mean) * (1.0 - wrong))
    return said_good if good else said_bad


def _fits(rung: Rung, job: Job) -> bool:
    return rung.context is None or job.prompt_tokens + job.output_tokens <= rung.context
