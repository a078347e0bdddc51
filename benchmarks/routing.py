"""What choosing a model is worth: ten worlds by seed, in virtual time and money; nothing is called.

A world has three models (cheap, middle, strong) with prices, and tasks of which only a noisy complexity is seen.
Whether a draft is good is a die, weighed by the skill of the model, the hidden difficulty and an effect that all drafts
of a task share. A reviewer with errors, or for some tasks tests without any, accepts or rejects; a rejected draft is
written again, at most twice. *Quality* is the share of tasks whose delivered draft is truly good. All contenders see
the same dice. World 0: cheap is as good as strong. World 1: cheap is useless. The ranges of the worlds were set while
looking at what an oracle could save at all, then left alone; the rules were tuned on the worlds of the seeds 10 to 29,
and those of 0 to 9 are measured.

Each stream has TASKS tasks; what is learnt starts anew in each. Ours and all others are measured on the second half.
Contenders: always cheap, always strong, a random mix at our share of strong drafts, the rules alone (nothing learnt),
ours, the same with Thompson sampling in place of trials, and the oracle: the cheapest plan of models for each class of
tasks (complexity, tests or none) that loses at most a point against always strong, found by trying all of them on the
same tasks with all outcomes known. ``clairvoyant`` knows each task's dice, too: no policy can.

*Cost at equal quality* is read off the curve of our choices over what a good result is worth, where it comes within a
point of always strong; a world where it never does counts as 1.

    python benchmarks/routing.py [--tasks N] [--rounds N] [--seeds A-B] [--out benchmarks/results/routing.json] [--json]
"""

from __future__ import annotations

import argparse
import json
from itertools import combinations_with_replacement, product
from math import exp, log, sqrt
from pathlib import Path
from random import Random
from statistics import median

from protocol.policies.routing import Job, Router, Rules, Rung, band_of, logistic

MODELS = ("cheap", "middle", "strong")
DRAFTS = 3
BANDS = ("simple", "medium", "complex")
SLACK = 0.01
"""How much quality may be lost against always strong and still count as equal: a point of a hundred."""
WORTHS = (2, 4, 8, 15, 30, 60, 120, 240)
BOUNDS = {"cost_at_equal_quality": 0.6, "over_oracle": 0.1}


class World:
    """What is true in a world: costs in strong drafts, skills in log-odds, how the reviewer errs, how many tests."""

    def __init__(self, seed: int, *, tested: float | None = None, ratio: float | None = None) -> None:
        dice = Random(f"world {seed}")
        self.seed = seed
        drawn = dice.uniform(6, 30)
        ratio = drawn if ratio is None else ratio
        self.cost = {"cheap": 1 / ratio, "middle": ratio**-0.5, "strong": 1.0}
        strong = dice.uniform(2.2, 3.2)
        gap = dice.uniform(0.8, 2.4)
        self.skill = {"cheap": strong - gap, "middle": strong - gap * dice.uniform(0.2, 0.7), "strong": strong}
        self.slope = dice.uniform(3.0, 7.0)
        self.review = dice.uniform(0.08, 0.25)
        self.wrong = dice.uniform(0.04, 0.14)
        share = dice.uniform(0.4, 0.9)
        self.tested = share if tested is None else tested
        self.blur = dice.uniform(0.08, 0.2)
        self.easy = dice.uniform(0.4, 0.9)
        if seed == 0:
            self.skill["cheap"] = self.skill["middle"] = strong
        if seed == 1:
            self.skill["cheap"] = -9.0

    def tasks(self, count: int, stream: int):
        """Return tasks: what is seen of each, and its dice for every model and round."""
        dice = Random(f"tasks {self.seed} {stream}")
        return [self.task(dice) for _ in range(count)]

    def task(self, dice: Random):
        """Return one task."""
        hard = dice.betavariate(1.5, 8) if dice.random() < self.easy else dice.betavariate(5, 2)
        effect = dice.gauss(0, 0.8)
        tested = dice.random() < self.tested
        drafts = {}
        for model, n in product(MODELS, range(DRAFTS)):
            good = dice.random() < 1 / (1 + exp(-(self.skill[model] - self.slope * (hard - 0.3) + effect)))
            errs = dice.random() < self.wrong and not tested
            drafts[model, n] = (good, good != errs)
        seen = min(1.0, max(0.0, hard + dice.gauss(0, self.blur)))
        return {"seen": seen, "band": band_of(seen), "tested": tested, "drafts": drafts, "roll": dice.random()}


def play(world: World, task: dict, choose, learn=None):
    """Run the feedback loop of one task; returns cost, whether the delivered draft is good, and the drafts by model."""
    cost, tried, delivered = 0.0, (), None
    for n in range(DRAFTS):
        model = choose(task, tried)
        good, accepted = task["drafts"][model, n]
        cost += world.cost[model] + world.review
        tried = (*tried, model)
        if learn is not None:
            learn(accepted)
        if delivered is None or MODELS.index(model) > MODELS.index(delivered[1]) or accepted:
            delivered = (good, model)
        if accepted:
            break
    return cost, delivered[0], tried


# --- contenders


class Thompson(Router):
    """Chances are drawn from what is believed, in place of trials."""

    def __init__(self, *arguments) -> None:
        super().__init__(*arguments)
        self.dice = Random(0)

    def chance(self, job, rung, tried):
        """Return a draw."""
        mean, sd = super().chance(job, rung, tried)
        spread = sd / max(1e-6, mean * (1 - mean))
        return logistic(log(mean / (1 - mean)) + self.dice.gauss(0, spread)), 0.0


def ours(world: World, rules: Rules, kind: type[Router] = Router):
    """Return the chooser and the learner that the router makes."""
    rungs = [Rung(key=m, tier=n + 1, price_in=0.0, price_out=world.cost[m]) for n, m in enumerate(MODELS)]
    router, last = kind(rungs, rules), {}

    def choose(task, tried):
        job = Job(
            role="coder",
            complexity=task["seen"],
            output_tokens=1,
            tried=tried,
            rounds=DRAFTS - len(tried),
            roll=task["roll"],
            checked=task["tested"],
        )
        last["task"], last["choice"] = task, router.choose(job)
        return last["choice"].key

    def learn(accepted):
        router.learn(last["choice"], good=accepted, fact=last["task"]["tested"])

    return choose, learn


def always(model):
    """Return a chooser that takes *model*."""
    return lambda _task, _tried: model


def by_plan(plan):
    """Return a chooser that goes through *plan*."""
    return lambda _task, tried: plan[len(tried)]


def oracle(world: World, tasks):
    """Return the figures of the cheapest plan per class of tasks whose quality is within SLACK of always strong.

    Plans are weighed by what quality is worth, and that is raised until the quality is enough.
    """
    floor = figures([play(world, task, always("strong")) for task in tasks])["quality"] - SLACK
    options = {}
    for kind in product(BANDS, (True, False)):
        mine = [task for task in tasks if (task["band"], task["tested"]) == kind]
        options[kind] = []
        for plan in combinations_with_replacement(MODELS, DRAFTS):
            rows = [play(world, task, by_plan(plan)) for task in mine]
            options[kind].append((sum(r[0] for r in rows), sum(r[1] for r in rows), plan))
    for worth in (1.2**n for n in range(60)):
        best = {kind: max(of, key=lambda o, worth=worth: worth * o[1] - o[0]) for kind, of in options.items()}
        quality = sum(o[1] for o in best.values()) / len(tasks)
        if quality >= floor:
            break
    return {"cost": sum(o[0] for o in best.values()) / len(tasks), "quality": quality}


def clairvoyant(world: World, tasks):
    """Return the figures of knowing every die: the cheapest model whose first draft is good and accepted, or strong."""
    rows = []
    for task in tasks:
        good = [m for m in MODELS if task["drafts"][m, 0] == (True, True)]
        rows.append(play(world, task, always(good[0] if good else "strong")))
    return figures(rows)


# --- figures


def figures(rows):
    """Return mean cost, mean quality and the share of drafts by the strong model."""
    drafts = [model for _, _, tried in rows for model in tried]
    return {
        "cost": sum(row[0] for row in rows) / len(rows),
        "quality": sum(row[1] for row in rows) / len(rows),
        "strong": drafts.count("strong") / len(drafts),
        "drafts": len(drafts) / len(rows),
        "tasks": len(rows),
    }


def streamed(world: World, streams, rules: Rules, kind: type[Router] = Router):
    """Return our rows of the first and of the second half of each stream; each is learnt from anew."""
    early, late = [], []
    for tasks in streams:
        choose, learn = ours(world, rules, kind)
        rows = [play(world, task, choose, learn) for task in tasks]
        early += rows[: len(rows) // 2]
        late += rows[len(rows) // 2 :]
    return early, late


def contest(world: World, count: int, rounds: int):
    """Return every contender's figures in one world."""
    streams = [world.tasks(count, stream) for stream in range(rounds)]
    tasks = [task for stream in streams for task in stream[count // 2 :]]
    early, late = streamed(world, streams, Rules())
    made = {"early": figures(early), "ours": figures(late)}
    made["thompson"] = figures(streamed(world, streams, Rules(explore=0.0), Thompson)[1])
    made["rules"] = figures(streamed(world, streams, Rules(learn=False))[1])
    made |= {name: figures([play(world, task, always(name)) for task in tasks]) for name in ("cheap", "strong")}
    dice, share = Random(world.seed), share_of_tasks(made)
    mixed = [play(world, task, always("strong" if dice.random() < share else "cheap")) for task in tasks]
    made |= {"mix": figures(mixed), "oracle": oracle(world, tasks), "clairvoyant": clairvoyant(world, tasks)}
    curve = [figures(streamed(world, streams, Rules(worth=worth))[1]) for worth in WORTHS]
    made["curve"] = [{"worth": worth, **point} for worth, point in zip(WORTHS, curve, strict=True)]
    return {"seed": world.seed, **made, "verdicts": verdicts(made)}


def share_of_tasks(made):
    """Return the share of tasks that a mix gives to the strong model to have our share of strong drafts.

    The cheap model's tasks take more drafts, so the two shares differ.
    """
    strong, cheap = made["strong"]["drafts"], made["cheap"]["drafts"]
    wanted = made["ours"]["strong"]
    return wanted * cheap / (strong - wanted * strong + wanted * cheap)


def verdicts(made):
    """Return what is held against the bounds."""
    strong, cheap, floor = made["strong"], made["cheap"], made["strong"]["quality"] - SLACK
    cost = at_quality([(p["cost"], p["quality"]) for p in (*made["curve"], made["ours"])], floor)
    margins = [point["quality"] - line(point["cost"], cheap, strong) for point in (*made["curve"], made["ours"])]
    return {
        "cost_at_equal_quality": 1.0 if cost is None else min(1.0, cost / strong["cost"]),
        "over_oracle": (strong["cost"] if cost is None else cost) / made["oracle"]["cost"] - 1,
        "above_mix": min(margins),
        "noise": 2 * sqrt(strong["quality"] * (1 - strong["quality"]) / strong["tasks"]),
        "ours_of_strong": made["ours"]["cost"] / strong["cost"],
        "ours_loses": strong["quality"] - made["ours"]["quality"],
        "thompson_of_strong": made["thompson"]["cost"] / strong["cost"],
        "thompson_loses": strong["quality"] - made["thompson"]["quality"],
    }


def at_quality(points, floor):
    """Return the least cost at which the curve through *points* has the quality *floor*; None when it never has."""
    costs = [cost for cost, quality in points if quality >= floor]
    for (low, less), (high, more) in product(points, points):
        if less < floor <= more and low < high:
            costs.append(low + (floor - less) / (more - less) * (high - low))
    return min(costs, default=None)


def line(cost, cheap, strong):
    """Return the quality of the random mix that costs as much; paying more than always strong buys nothing more."""
    if strong["cost"] <= cheap["cost"]:
        return max(cheap["quality"], strong["quality"])
    share = min(1.0, max(0.0, (cost - cheap["cost"]) / (strong["cost"] - cheap["cost"])))
    return cheap["quality"] + share * (strong["quality"] - cheap["quality"])


def broken(result):
    """Return the bounds that *result* breaks, in words."""
    rows = [world["verdicts"] for world in result["worlds"]]
    found = []
    for name, bound in BOUNDS.items():
        value = median(row[name] for row in rows)
        if value > bound:
            found.append(f"{name}: {value:.3f} in the median world, at most {bound:g}")
    below = [
        world["seed"] for world in result["worlds"] if world["verdicts"]["above_mix"] < -world["verdicts"]["noise"]
    ]
    return [*found, *(f"world {seed}: below the random mix" for seed in below)]


def sensitivity(count: int, rounds: int):
    """Return the median cost at equal quality of five worlds, by the share of tasks with tests and by the prices."""
    rows = []
    for name, values in (("tested", (0.0, 0.3, 0.6, 0.9)), ("ratio", (3.0, 10.0, 30.0))):
        for value in values:
            made = [contest(World(seed, **{name: value}), count, rounds)["verdicts"] for seed in range(2, 7)]
            figure = {
                key: round(median(row[key] for row in made), 3) for key in ("cost_at_equal_quality", "over_oracle")
            }
            rows.append({"what": name, "value": value, **figure})
    return rows


def rounded(value):
    """Return *value* with floats of four digits."""
    if isinstance(value, dict):
        return {key: rounded(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [rounded(inner) for inner in value]
    return round(value, 4) if isinstance(value, float) else value


def table(result) -> str:
    """Return the figures as text."""
    lines = ["world  at equal quality  over oracle  above mix  ours: cost, loss  Thompson  rules  oracle  clairvoyant"]
    for world in result["worlds"]:
        v, strong = world["verdicts"], world["strong"]["cost"]
        others = "  ".join(f"{world[name]['cost'] / strong:.2f}" for name in ("rules", "oracle", "clairvoyant"))
        lines.append(
            f"{world['seed']:>5}  {v['cost_at_equal_quality']:>16.3f}  {v['over_oracle']:>+11.3f}"
            f"  {v['above_mix']:>+9.3f}"
            f"  {v['ours_of_strong']:>9.2f}, {v['ours_loses']:+.3f}"
            f"  {v['thompson_of_strong']:.2f}, {v['thompson_loses']:+.3f}  {others}"
        )
    for name in ("cost_at_equal_quality", "over_oracle"):
        values = [world["verdicts"][name] for world in result["worlds"]]
        lines.append(f"{name}: median {median(values):.3f}, worst of {len(values)} {max(values):.3f}")
    lines += [f"{row['what']} = {row['value']:g}: {row['cost_at_equal_quality']:.3f}" for row in result["sensitivity"]]
    return "\n".join([*lines, *(f"BROKEN {text}" for text in broken(result))])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tasks", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seeds", default="0-9")
    parser.add_argument("--out")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--short", action="store_true", help="without the table of what the figures depend on")
    options = parser.parse_args()
    from provenance import commit

    first, last = map(int, options.seeds.split("-"))
    worlds = [contest(World(seed), options.tasks, options.rounds) for seed in range(first, last + 1)]
    rows = [] if options.short else sensitivity(options.tasks, max(1, options.rounds // 2))
    result = rounded(
        {"commit": commit(), "tasks": options.tasks, "rounds": options.rounds, "worlds": worlds, "sensitivity": rows}
    )
    text = json.dumps(result, indent=1)
    if options.out:
        Path(options.out).write_text(text + "\n", encoding="utf-8")
    print(text if options.json else table(result))


if __name__ == "__main__":
    main()
