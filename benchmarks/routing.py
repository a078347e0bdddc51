"""What choosing a model is worth: ten worlds by seed, in virtual time and money; nothing is called.

A world has three models (cheap, middle, strong) with prices, and tasks of which only a noisy complexity is seen. Whether
a draft is good is a die, weighed by the model's skill, the task's hidden difficulty and a hidden effect of the task that
all its drafts share. A reviewer with errors, or for some tasks tests without any, accepts or rejects; a rejected draft is
written again, at most twice. *Quality* is the share of tasks whose delivered draft is truly good. All contenders see the
same dice. World 0: the cheap model is as good as the strong one. World 1: the cheap model is useless.

Contenders: always cheap, always strong, a random mix at our share of strong drafts, the rules alone (nothing learnt),
ours, and the oracle: the cheapest plan of models per class of complexity and round that loses at most a point against
always strong, found by trying all on the same tasks, knowing all outcomes. ``clairvoyant`` knows each task's dice as well: no policy can.

    python benchmarks/routing.py [--tasks N] [--rounds N] [--out benchmarks/results/routing.json] [--json]
"""

from __future__ import annotations

import argparse
import json
from itertools import combinations_with_replacement, product
from math import exp, sqrt
from pathlib import Path
from random import Random
from statistics import median

from protocol.policies.routing import Job, Router, Rules, Rung, band_of

MODELS = ("cheap", "middle", "strong")
DRAFTS = 3
BANDS = ("simple", "medium", "complex")
SLACK = 0.01
"""How much quality may be lost against always strong and still count as equal: a point of a hundred."""


class World:
    """What is true in one world: prices in strong drafts, skills, how far the reviewer errs, how many tasks have tests."""

    def __init__(self, seed: int) -> None:
        dice = Random(f"world {seed}")
        self.seed = seed
        ratio = dice.uniform(6, 30)
        self.cost = {"cheap": 1 / ratio, "middle": ratio**-0.5, "strong": 1.0}
        strong = dice.uniform(2.2, 3.2)
        gap = dice.uniform(0.8, 2.4)
        self.skill = {"cheap": strong - gap, "middle": strong - gap * dice.uniform(0.2, 0.7), "strong": strong}
        self.slope = dice.uniform(3.0, 7.0)
        self.review = dice.uniform(0.08, 0.25)
        self.wrong = dice.uniform(0.04, 0.14)
        self.tested = dice.uniform(0.4, 0.9)
        self.blur = dice.uniform(0.08, 0.2)
        self.easy = dice.uniform(0.4, 0.9)
        if seed == 0:
            self.skill["cheap"] = self.skill["middle"] = strong
        if seed == 1:
            self.skill["cheap"] = -9.0

    def tasks(self, count: int, stream: int):
        """Return tasks: what is seen of each, and its dice for every model and round."""
        dice = Random(f"tasks {self.seed} {stream}")
        return [self.task(dice, number) for number in range(count)]

    def task(self, dice: Random, number: int):
        hard = dice.betavariate(1.5, 8) if dice.random() < self.easy else dice.betavariate(5, 2)
        effect = dice.gauss(0, 0.8)
        tested = dice.random() < self.tested
        drafts = {}
        for model, n in product(MODELS, range(DRAFTS)):
            good = dice.random() < 1 / (1 + exp(-(self.skill[model] - self.slope * (hard - 0.3) + effect)))
            errs = dice.random() < self.wrong and not tested
            drafts[model, n] = (good, good != errs)
        seen = min(1.0, max(0.0, hard + dice.gauss(0, self.blur)))
        return {
            "seen": seen,
            "band": band_of(seen),
            "tested": tested,
            "drafts": drafts,
            "roll": dice.random(),
            "n": number,
        }


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


def ours(world: World, rules: Rules):
    """Return the chooser and the learner that the router makes."""
    router = Router(
        [Rung(key=m, tier=n + 1, price_in=0.0, price_out=world.cost[m]) for n, m in enumerate(MODELS)], rules
    )
    last = {}

    def choose(task, tried):
        job = Job(
            role="coder",
            complexity=task["seen"],
            output_tokens=1,
            tried=tried,
            roll=task["roll"],
            checked=task["tested"],
            rounds=DRAFTS - len(tried),
        )
        last["job"], last["choice"] = task, router.choose(job)
        return last["choice"].key

    def learn(accepted):
        router.learn(last["choice"], good=accepted, fact=last["job"]["tested"])

    return choose, learn


def always(model):
    return lambda task, tried: model


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
            rows = [play(world, task, lambda task, tried, plan=plan: plan[len(tried)]) for task in mine]
            options[kind].append((sum(r[0] for r in rows), sum(r[1] for r in rows), plan))
    for worth in (1.2**n for n in range(60)):
        best = {kind: max(of, key=lambda o: worth * o[1] - o[0]) for kind, of in options.items()}
        quality = sum(o[1] for o in best.values()) / len(tasks)
        if quality >= floor:
            break
    return {
        "cost": sum(o[0] for o in best.values()) / len(tasks),
        "quality": quality,
        "plan": {f"{band}{', tested' * tested}": " > ".join(o[2]) for (band, tested), o in best.items()},
    }


def clairvoyant(world: World, tasks):
    """Return the figures of knowing every die: the cheapest model whose first draft is good and accepted, or strong."""
    rows = []
    for task in tasks:
        good = [m for m in MODELS if task["drafts"][m, 0] == (True, True)]
        model = good[0] if good else "strong"
        rows.append(play(world, task, always(model)))
    return figures(rows)


def contest(seed: int, count: int, streams: int, rules: Rules):
    """Return every contender's figures in one world; ours and the oracle are taken from the second half of each stream."""
    world = World(seed)
    rows = {name: [] for name in ("cheap", "strong", "rules", "ours", "early")}
    late = []
    for stream in range(streams):
        tasks = world.tasks(count, stream)
        choose, learn = ours(world, rules)
        mine = [play(world, task, choose, learn) for task in tasks]
        rows["early"] += mine[: count // 2]
        rows["ours"] += mine[count // 2 :]
        late += tasks[count // 2 :]
    without, _ = ours(world, Rules(learn=False, worth=rules.worth))
    rows["cheap"] = [play(world, task, always("cheap")) for task in late]
    rows["strong"] = [play(world, task, always("strong")) for task in late]
    rows["rules"] = [play(world, task, without) for task in late]
    made = {name: figures(of) for name, of in rows.items()}
    dice, share = Random(seed), share_of_tasks(made)
    rows["mix"] = [play(world, task, always("strong" if dice.random() < share else "cheap")) for task in late]
    made["mix"] = figures(rows["mix"])
    made |= {"oracle": oracle(world, late), "clairvoyant": clairvoyant(world, late)}
    return made | {"seed": seed, "verdicts": verdicts(made)}


def share_of_tasks(made):
    """Return the share of tasks that a mix gives to the strong model to have our share of strong drafts.

    The cheap model's tasks take more drafts, so the two shares differ.
    """
    strong, cheap = made["strong"]["drafts"], made["cheap"]["drafts"]
    wanted = made["ours"]["strong"]
    return wanted * cheap / (strong - wanted * strong + wanted * cheap)


def verdicts(made):
    """Return what is measured against the bounds: cost at equal quality, the random-mix line, the oracle."""
    mine, strong, cheap = made["ours"], made["strong"], made["cheap"]
    noise = 2 * sqrt(0.25 / mine["tasks"])
    equal = mine["quality"] >= strong["quality"] - SLACK
    return {
        "cost_of_strong": mine["cost"] / strong["cost"] if equal else 1.0,
        "equal_quality": equal,
        "above_mix": mine["quality"] - line(mine["cost"], cheap, strong),
        "noise": noise,
        "over_oracle": mine["cost"] / made["oracle"]["cost"] - 1,
    }


def line(cost, cheap, strong):
    """Return the quality of the random mix of the same cost; what is dearer than always strong buys no more than that."""
    if strong["cost"] <= cheap["cost"]:
        return max(cheap["quality"], strong["quality"])
    share = min(1.0, max(0.0, (cost - cheap["cost"]) / (strong["cost"] - cheap["cost"])))
    return cheap["quality"] + share * (strong["quality"] - cheap["quality"])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tasks", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--worth", type=float, default=Rules().worth)
    parser.add_argument("--out")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    worlds = [contest(seed, options.tasks, options.rounds, Rules(worth=options.worth)) for seed in range(10)]
    print(table(worlds))


def table(worlds):
    lines = [
        "world  cost of strong  quality ours/strong  over the mix line  over oracle | cheap strong rules ours oracle clairvoyant"
    ]
    for w in worlds:
        v = w["verdicts"]
        lines.append(
            f"{w['seed']:>5}  {v['cost_of_strong']:>14.3f}  {w['ours']['quality']:>9.3f} {w['strong']['quality']:>9.3f}  "
            f"{v['above_mix']:>+17.3f}  {v['over_oracle']:>+11.3f} | "
            + " ".join(
                f"{w[n]['cost']:.2f}/{w[n]['quality']:.2f}"
                for n in ("cheap", "strong", "mix", "rules", "early", "ours", "oracle", "clairvoyant")
            )
            + f" {w['oracle']['plan']}"
        )
    cost = [w["verdicts"]["cost_of_strong"] for w in worlds]
    over = [w["verdicts"]["over_oracle"] for w in worlds]
    lines.append(
        f"median cost of strong {median(cost):.3f}, worst {max(cost):.3f}; median over oracle {median(over):+.3f}"
    )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
