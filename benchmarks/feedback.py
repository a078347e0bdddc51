"""What feedback rounds are worth, and that they end: real agents in virtual time, models and reviewers by rule.

A draft has eight items, two for each aspect of the rubric; its *quality* is the share that is truly right, which only
the bench can see. A first draft gets each right with 70 %. A revision mends an item that was rightly named with 60 %,
breaks one that was wrongly named with 25 %, and any other with 3 %. Reviewers: *perfect*; *noisy*, wrong about each
item with 20 %; *useless*, a coin; *rejecting*, which rejects everything with words of its own each time; *stubborn*,
with the same words. Each is measured with the default rules, with early ends and the guard switched off, and with no
rounds at all (round 0). ``best of two`` is two first drafts and the higher score, for about the price of a revision.

The second part are models that never get anywhere, over 500 seeds each: the same draft for ever, two drafts in turn, a
reviewer and a planner that never write a readable answer, drafts that never please. All have to end within the rounds
and the money, with the best partial result.

    python benchmarks/feedback.py [--runs N] [--seeds N] [--out benchmarks/results/feedback.json] [--json]
"""

from __future__ import annotations

import argparse
import json
from math import sqrt
from pathlib import Path
from random import Random
from statistics import mean, stdev

from actors import Coder, Orchestrator, Reviewer, TeamWorkflow
from actors.team import TeamRules
from actors.testing import ActorTestKit, ModelInfo, Price, reply
from protocol.plan import Check, Rubric
from protocol.policies.rubric import aggregate

ASPECTS = ("correctness", "security", "performance", "best practices")
ITEMS = 8
RIGHT, MENDS, SPOILS, SLIPS = 0.7, 0.6, 0.25, 0.03
REVIEWERS = ("perfect", "noisy", "useless", "rejecting", "stubborn")
RULES = {
    "default": TeamRules(plan="never"),
    "off": TeamRules(plan="never", stop_rules="rounds", progress_guard="off"),
    "round 0": TeamRules(plan="never", max_rounds=0),
}
DRAFT_TOKENS, REVIEW_TOKENS, CONTEXT = 1000, 250, 0.2
"""Output tokens of a draft and of a review; what each token read costs of one written."""
MAX_COST = 2.2
LOOPS = ("same", "ping-pong", "unreadable", "never pleases")
LOOP_ROUNDS, LOOP_BUDGET = 4, 40.0


# --- drafts: the items as lines, right or wrong, in words of their own each time


def written(items: list[bool], dice: Random) -> str:
    return "\n".join(
        f"item {n} {'right' if item else 'wrong'} v{dice.randrange(10**6)}" for n, item in enumerate(items)
    )


def read(text: str) -> list[bool]:
    return [" right " in line for line in text.splitlines() if line.startswith("item ")]


def quality(text: str) -> float:
    return sum(read(text)) / ITEMS


def named(prompt: str) -> set[int]:
    """Return the numbers of the items that a revision's issues quote."""
    issues = prompt.partition("A reviewer found these issues")[2]
    return {int(part.split()[1]) for part in issues.split('"') if part.startswith("item ")}


class World:
    """One coder and one reviewer by rule, with dice of their own."""

    def __init__(self, reviewer: str, seed: int) -> None:
        self.reviewer = reviewer
        self.writing, self.judging = Random(f"draft {seed}"), Random(f"review {seed}")
        self.cost = 0.0

    def draft(self, prompt: str) -> str:
        """Return a first draft, or a revision of the draft that *prompt* shows."""
        if "A reviewer found" not in prompt:
            return written([self.writing.random() < RIGHT for _ in range(ITEMS)], self.writing)
        items, issues = read(prompt.partition("<draft>")[2].partition("</draft>")[0]), named(prompt)
        return written([self.revised(item, n in issues) for n, item in enumerate(items)], self.writing)

    def revised(self, right: bool, called: bool) -> bool:  # noqa: FBT001 (two facts about an item)
        """Return whether an item is right after a revision in which it was *called* wrong, or was not."""
        roll = self.writing.random()
        if right:
            return roll >= (SPOILS if called else SLIPS)
        return roll < (MENDS if called else SLIPS)

    def review(self, text: str) -> Rubric:
        """Return what the reviewer says of *text*."""
        lines = [line for line in text.splitlines() if line.startswith("item ")]
        return Rubric(checks=tuple(self.check(n, line) for n, line in enumerate(lines[:ITEMS])))

    def check(self, n: int, line: str) -> Check:
        """Return what the reviewer says of item *n*."""
        right, roll = " right " in line, self.judging.random()
        passes = {
            "perfect": right,
            "noisy": right != (roll < 0.2),
            "useless": roll < RIGHT,
            "rejecting": n > 1,
            "stubborn": n > 1,
        }[self.reviewer]
        fix = "mend it" if self.reviewer == "stubborn" else f"mend it, {roll:.6f}"
        evidence = "" if self.reviewer == "stubborn" else line
        return Check(
            aspect=ASPECTS[n % 4], passes=passes, evidence="" if passes else evidence, fix="" if passes else fix
        )


def run(reviewer: str, rules: TeamRules, seed: int):
    """Return quality, cost and rounds of one task, played by real agents; cost in output tokens."""
    world = World(reviewer, seed)

    def coder(call):
        text = world.draft(call.messages[-1].content)
        world.cost += DRAFT_TOKENS + CONTEXT * DRAFT_TOKENS * ("<draft>" in call.messages[-1].content)
        return text

    def judge(call):
        world.cost += REVIEW_TOKENS + CONTEXT * DRAFT_TOKENS
        return world.review(call.messages[-1].content.partition("<draft>")[2].partition("</draft>")[0])

    kit = ActorTestKit({"coder": coder, "reviewer": judge})
    kit.register(Coder)
    kit.register(Reviewer)
    result = kit.run(lambda start: TeamWorkflow(start, rules), "Write it")
    return {
        "quality": quality(result.output),
        "cost": world.cost,
        "rounds": result.accepted[0].rounds,
        "accepted": result.accepted[0].accepted,
        "why": result.accepted[0].note.removeprefix("kept as the best: "),
    }


def best_of_two(reviewer: str, seed: int):
    """Return quality and cost of two first drafts of which the higher score is taken."""
    world = World(reviewer, seed)
    drafts = [world.draft("") for _ in range(2)]
    scores = [aggregate(world.review(text), text).score for text in drafts]
    return {
        "quality": quality(drafts[scores.index(max(scores))]),
        "cost": 2 * (DRAFT_TOKENS + REVIEW_TOKENS + CONTEXT * DRAFT_TOKENS),
    }


def compared(runs: int):
    """Return, for each reviewer and set of rules, mean quality, cost in round 0s, rounds, and the noise of the gain."""
    rows = []
    for reviewer in REVIEWERS:
        base = [run(reviewer, RULES["round 0"], seed) for seed in range(runs)]
        unit = mean(row["cost"] for row in base)
        two = [best_of_two(reviewer, seed) for seed in range(runs)]
        for name, rules in RULES.items():
            mine = base if name == "round 0" else [run(reviewer, rules, seed) for seed in range(runs)]
            gains = [row["quality"] - first["quality"] for row, first in zip(mine, base, strict=True)]
            rows.append(
                {
                    "reviewer": reviewer,
                    "rules": name,
                    "quality": mean(row["quality"] for row in mine),
                    "gain": mean(gains),
                    "noise": 2 * stdev(gains) / sqrt(runs),
                    "cost": mean(row["cost"] for row in mine) / unit,
                    "rounds": mean(row["rounds"] for row in mine),
                    "most_rounds": max(row["rounds"] for row in mine),
                    "accepted": mean(row["accepted"] for row in mine),
                }
            )
        rows.append(
            {
                "reviewer": reviewer,
                "rules": "best of two",
                "quality": mean(row["quality"] for row in two),
                "gain": mean(row["quality"] for row in two) - mean(row["quality"] for row in base),
                "cost": mean(row["cost"] for row in two) / unit,
            }
        )
    return rows


# --- models that get nowhere


def loop(kind: str, seed: int):
    """Run a team of models that never get anywhere; return how it ended."""
    dice = Random(f"{kind} {seed}")
    turns = {"coder": 0}

    def said(text: str):
        return reply(text, input_tokens=0, output_tokens=1)

    def coder(_call):
        turns["coder"] += 1
        body = {"same": "alpha", "ping-pong": ("alpha", "beta")[turns["coder"] % 2]}.get(kind, f"draft {dice.random()}")
        return said(f"{body} " * 8)

    def reviewer(_call):
        if kind == "unreadable":
            return said("{" * dice.randrange(1, 9) + "the draft")
        bad = Check(
            aspect="correctness", passes=False, evidence="", fix=f"no {dice.random() if kind != 'same' else ''}"
        )
        good = Check(aspect=dice.choice(ASPECTS[1:]), passes=True)
        return said(json.dumps({"checks": [_plain(good), _plain(bad)]}))

    planned = said("no plan" if kind == "unreadable" else '{"subtasks": ["write alpha", "write beta"]}')
    dollar = ModelInfo(key="auto", provider="main", name="m", prices=(Price(input=0.0, output=1e9),))
    kit = ActorTestKit({"orchestrator": planned, "coder": coder, "reviewer": reviewer}, seed=seed, models=(dollar,))
    for agent in (Orchestrator, Coder, Reviewer):
        kit.register(agent)
    rules = TeamRules(plan="always", max_rounds=LOOP_ROUNDS, budget_usd=LOOP_BUDGET, ladder=bool(seed % 2))
    result = kit.run(lambda start: TeamWorkflow(start, rules), "Build it")
    kit.expect_idle()
    return {
        "ended": True,
        "rounds": max(accepted.rounds for accepted in result.accepted),
        "usd": result.summary.cost_usd,
        "calls": result.summary.llm_calls,
        "partial": bool(result.output),
        "success": result.success,
    }


def _plain(check: Check):
    return {name: getattr(check, name) for name in Check.__struct_fields__}


def looped(seeds: int):
    """Return, for each kind, the worst of all seeds."""
    rows = []
    for kind in LOOPS:
        made = [loop(kind, seed) for seed in range(seeds)]
        rows.append(
            {
                "kind": kind,
                "seeds": seeds,
                "ended": sum(row["ended"] for row in made),
                "most_rounds": max(row["rounds"] for row in made),
                "most_usd": max(row["usd"] for row in made),
                "mean_calls": mean(row["calls"] for row in made),
                "with_partial": sum(row["partial"] for row in made),
            }
        )
    return rows


def broken(result) -> list[str]:
    """Return the bounds that *result* breaks, in words."""
    found = []
    for row in result["reviewers"]:
        if row["rules"] != "default":
            continue
        if row["gain"] < -row["noise"]:
            found.append(f"{row['reviewer']}: {row['gain']:+.3f} below round 0, noise {row['noise']:.3f}")
        if row["cost"] > MAX_COST:
            found.append(f"{row['reviewer']}: {row['cost']:.2f} times round 0, at most {MAX_COST:g}")
        if row["most_rounds"] > TeamRules().max_rounds:
            found.append(f"{row['reviewer']}: {row['most_rounds']} rounds")
    for row in result["loops"]:
        fine = row["ended"] == row["with_partial"] == row["seeds"] and row["most_rounds"] <= LOOP_ROUNDS
        if not fine or row["most_usd"] > LOOP_BUDGET:
            found.append(f"{row['kind']}: {row}")
    return found


def table(result) -> str:
    lines = ["reviewer   rules        quality   gain    cost  rounds  accepted"]
    for row in result["reviewers"]:
        rest = f"{row['rounds']:>6.2f} {row['accepted']:>8.0%}" if "rounds" in row else ""
        lines.append(
            f"{row['reviewer']:<10} {row['rules']:<12} {row['quality']:.3f}  {row['gain']:+.3f} {row['cost']:>6.2f} "
            f"{rest}"
        )
    lines += [
        f"{row['kind']:<14} ended {row['ended']}/{row['seeds']}, at most {row['most_rounds']} rounds and "
        f"{row['most_usd']:.0f} of {LOOP_BUDGET:.0f} USD, {row['mean_calls']:.1f} calls, "
        f"{row['with_partial']} with a result"
        for row in result["loops"]
    ]
    return "\n".join([*lines, *(f"BROKEN {text}" for text in broken(result))])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=500)
    parser.add_argument("--out")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    from provenance import commit
    from routing import rounded

    result = rounded(
        {"commit": commit(), "runs": options.runs, "reviewers": compared(options.runs), "loops": looped(options.seeds)}
    )
    text = json.dumps(result, indent=1)
    if options.out:
        Path(options.out).write_text(text + "\n", encoding="utf-8")
    print(text if options.json else table(result))


if __name__ == "__main__":
    main()
