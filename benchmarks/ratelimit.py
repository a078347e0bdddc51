"""500 calls under a limit that the server enforces and draws at random, judged by the server's log.

Four cases: the limit is configured, learned from headers, or learned from 429s that name no time, from the first call
on or after a careful start (``start_per_minute``). The server limits requests alone, or tokens as well. Each is run
with limits drawn around 50/s and 10 at once, cold, by a contender process of its own against a server process of its
own; then as a user would: ``python -m runtime run --tasks``.

    python benchmarks/ratelimit.py [--rounds N] [--calls N] [--out benchmarks/results/ratelimit.json] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from random import Random

from msgspec import structs

from runtime.bench import LimitedServer, child
from runtime.bench_contenders import Orders, configuration
from runtime.bench_judge import Limit, Ran, judge, text_of

HERE = Path(__file__).parent

CALLS = 500
MAX_TOKENS = 64
LATENCY = 0.05
CASES = ("configured", "headers", "429s", "429s, careful")
CAREFUL = 1200.0
"""Calls a minute to begin with where the limit is unknown, in the last case."""
VARIANTS = ("requests", "requests and tokens")
BOUNDS = {
    "configured": {"over_ideal": 1.03, "throttled": 0.005},
    "headers": {"over_ideal": 1.10, "throttled": 0.02},
    "429s": {"over_ideal": 1.30, "throttled": 0.05},
    "429s, careful": {"over_ideal": 1.30, "throttled": 0.05},
}
MOST_INVERSIONS = 0.01
MOST_CPU_MS = 1.0
BUDGET_USD = 0.03
PRICE_USD = 10.0
"""Dollars per million tokens in the run with a budget: it ends about a third of the calls in."""


def drawn(seed: int, variant: str) -> Limit:
    """Return a limit around 50/s and 10 at once; of tokens about as many as the calls use at that rate."""
    dice = Random(seed)
    rate, burst = round(dice.uniform(40.0, 60.0), 2), dice.randrange(8, 13)
    if variant == "requests":
        return Limit(per_second=rate, burst=burst, latency=LATENCY)
    tokens = round(rate * TOKENS_A_CALL * dice.uniform(0.8, 1.0), 1)
    return Limit(
        per_second=rate, burst=burst, latency=LATENCY, tokens_per_second=tokens, token_burst=round(tokens * 6.0, 1)
    )


MOST_WORDS = 240
TOKENS_A_CALL = 145
"""What a call uses on average, prompt and reply together, as the server counts."""


def once(case: str, variant: str, seed: int, calls: int) -> dict:
    """Run one case once; return what the judge says, with the limit drawn."""
    limit = drawn(seed, variant)
    orders = Orders(
        name="troupe",
        url="",
        calls=calls,
        limit=limit,
        known=case == "configured",
        start_per_minute=CAREFUL if case == "429s, careful" else None,
        max_tokens=MAX_TOKENS,
        most_words=MOST_WORDS,
        seed=seed,
    )
    with LimitedServer(limit, headers=case == "headers", hint=not case.startswith("429s")) as server:
        ran = child(structs.replace(orders, url=server.url))
        log = server.log()
    return figures(limit, ran, log)


def figures(limit: Limit, ran: Ran, log) -> dict:
    judged = judge(limit, ran, log)
    tokens = sum(arrival.tokens for arrival in log)
    return {
        "per_second": limit.per_second,
        "burst": limit.burst,
        "tokens_per_second": limit.tokens_per_second,
        "tokens": tokens,
        **{name: getattr(judged, name) for name in judged.__struct_fields__},
        "rate_after_200": rate_after(log, 200, limit),
        "learned": learned_after(ran, log, 200, limit),
    }


def rate_after(log, first: int, limit: Limit) -> float | None:
    """Return the rate of what was let in after call *first*, over the rate that the server would have let in."""
    times = [arrival.at for arrival in log if arrival.status == 200][first:]
    if len(times) < 50:
        return None
    return round((len(times) - 1) / (times[-1] - times[0]) / limit.per_second, 4)


def learned_after(ran: Ran, log, first: int, limit: Limit) -> dict[str, float]:
    """Return the rates known at the first look after *first* calls were let in, over those of the server."""
    times = [arrival.at for arrival in log if arrival.status == 200]
    if len(times) <= first:
        return {}
    later = [each for each in ran.learned if each.at >= times[first]]
    real = {"requests": limit.per_second, "tokens": limit.tokens_per_second}
    return {
        f"{each.resource}, {each.source}": round(each.per_second / real[each.resource], 4)
        for each in later
        if each.at == later[0].at and real.get(each.resource)
    }


# --- thirty seconds of refusals

CLOSED_AFTER, CLOSED_FOR = 4.0, 30.0
STORM_CALLS = 1500
WINDOW = 2.0


def storm(seed: int) -> dict:
    """Refuse everything for 30 s, with no hint, while 50 calls are in flight at most; return what came meanwhile."""
    drawn_limit = drawn(seed, "requests")
    limit = structs.replace(drawn_limit, closed_after=CLOSED_AFTER, closed_for=CLOSED_FOR)
    orders = Orders(name="troupe", url="", calls=STORM_CALLS, limit=limit, max_tokens=MAX_TOKENS, seed=seed)
    with LimitedServer(limit, hint=False) as server:
        ran = child(structs.replace(orders, url=server.url), patience=200.0)
        log = server.log()
    closed = log[0].at + CLOSED_AFTER
    opened = closed + CLOSED_FOR
    probes = [arrival.at - closed for arrival in log if closed + 1.0 <= arrival.at < opened]
    let_in = [arrival.at - opened for arrival in log if arrival.status == 200 and arrival.at >= opened]
    return {
        "per_second": limit.per_second,
        "burst": limit.burst,
        "in_the_first_second": sum(closed <= arrival.at < closed + 1.0 for arrival in log),
        "probes": len(probes),
        "most_in_10_s": most_in(probes, 10.0),
        "most_in_1_s": most_in(probes, 1.0),
        "first_let_in_s": round(let_in[0], 3) if let_in else None,
        "back_at_90_s": back_at(let_in, 0.9 * limit.per_second),
        "lost": STORM_CALLS - len(ran.answered),
        "throttled": round(sum(arrival.status == 429 for arrival in log) / len(log), 4),
    }


def most_in(times: list[float], window: float) -> int:
    """Return how many of *times* lie in one half-open window at most."""
    return max((sum(at <= other < at + window for other in times) for at in times), default=0)


def back_at(times: list[float], rate: float) -> float | None:
    """Return when the first window begins in which *times* come at *rate* or more; None: never."""
    for step in range(int(times[-1] / 0.5) if times else 0):
        begin = step * 0.5
        if sum(begin <= at < begin + WINDOW for at in times) >= rate * WINDOW:
            return begin
    return None


# --- the way of the command line


def tasks_run(seed: int, calls: int, *, budget: bool = False) -> dict:
    """Let ``python -m runtime run --tasks`` make *calls* calls with the limit configured; return its figures."""
    limit = drawn(seed, "requests")
    with LimitedServer(limit) as server, tempfile.TemporaryDirectory() as folder:
        orders = Orders(name="troupe", url=server.url, calls=calls, limit=limit, max_tokens=MAX_TOKENS)
        config, tasks = Path(folder, "team.toml"), Path(folder, "tasks.jsonl")
        config.write_text(team(orders, budget=budget), encoding="utf-8")
        urgencies = [Random(seed).choice(("high", "normal", "low")) for _ in range(calls)]
        tasks.write_text(
            "".join(
                json.dumps({"task": text_of(n), "id": f"n{n}", "priority": urgencies[n]}) + "\n" for n in range(calls)
            ),
            encoding="utf-8",
        )
        command = [sys.executable, "-m", "runtime", "run", "--tasks", str(tasks), "--config", str(config)]
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        done = subprocess.run(
            [*command, "--json", "--quiet"],
            capture_output=True,
            check=False,
            env={**os.environ, "PYTHONPATH": f"{HERE.parent}{os.pathsep}{HERE}"},
        )
        ended, after = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
        log = server.log()
    documents = [json.loads(line) for line in done.stdout.splitlines()]
    answered = tuple(int(d["correlation_id"][1:]) for d in documents if d.get("success"))
    began = min(began, log[0].at) if log else began
    ran = Ran(
        began=log[0].at,
        ended=log[-1].at + LATENCY,
        cpu_s=after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        answered=answered,
        submitted=(began,) * calls,
        priorities=tuple({"high": 0, "normal": 1, "low": 2}[u] for u in urgencies),
    )
    found = figures(limit, ran, log)
    found |= {"process_s": round(ended - began, 3), "exit": done.returncode}
    if budget:
        found |= {"budget_usd": BUDGET_USD, "spent_usd": round(found["tokens"] * PRICE_USD / 1e6, 9)}
    return found


def team(orders: Orders, *, budget: bool) -> str:
    """Return a configuration in which each task is one call: no plan, no review."""
    text = configuration(orders).replace("[roles.caller]", '[roles.caller]\nagent = "one_call:OneCall"')
    if budget:
        price = f"[model.m.price]\ninput = {PRICE_USD}\noutput = {PRICE_USD}"
        text = f"{text}\n{price}\n[budget]\nusd = {BUDGET_USD}"
    return f'{text}\n[team]\nworkflow = "one_call:Alone"\n'


# --- all of it


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--calls", type=int, default=CALLS)
    parser.add_argument("--only", help="one of the cases")
    parser.add_argument("--out")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    from provenance import commit

    result = {"commit": commit(), "calls": options.calls, "rounds": options.rounds, "rows": []}
    for variant in VARIANTS:
        for case in CASES:
            if options.only in (None, case):
                runs = [once(case, variant, seed, options.calls) for seed in range(options.rounds)]
                result["rows"].append(row(case, variant, runs))
                print(shown(result["rows"][-1]), file=sys.stderr)
    if options.only in (None, "tasks"):
        runs = [tasks_run(seed, options.calls) for seed in range(options.rounds)]
        result["rows"].append(row("run --tasks", VARIANTS[0], runs))
        print(shown(result["rows"][-1]), file=sys.stderr)
        result["budget"] = tasks_run(0, options.calls, budget=True)
    if options.only in (None, "storm"):
        result["storm"] = storm(0)
        print(result["storm"], file=sys.stderr)
    text = json.dumps(result, indent=1)
    if options.out:
        Path(options.out).write_text(text + "\n", encoding="utf-8")
    print(text if options.json else "\n".join(map(shown, result["rows"])))
    bad = broken(result)
    for each in bad:
        print(f"over its bound: {each}", file=sys.stderr)
    return 1 if bad else 0


MEDIANS = ("over_ideal", "throttled", "cpu_ms", "inversions")


def row(case: str, variant: str, runs: list[dict]) -> dict:
    medians = {name: statistics.median(run[name] for run in runs) for name in MEDIANS}
    worst = {name: max(run[name] for run in runs) for name in ("lost", "duplicates")}
    return {"case": case, "variant": variant, **medians, **worst, "runs": runs}


def broken(result: dict) -> list[str]:
    """Return what does not hold its bound."""
    found = []
    for each in result["rows"]:
        bounds = dict(BOUNDS.get(each["case"], BOUNDS["configured"]))
        bounds |= {"inversions": MOST_INVERSIONS, "cpu_ms": MOST_CPU_MS, "lost": 0, "duplicates": 0}
        if each["case"] == "run --tasks":
            del bounds["cpu_ms"]  # start and end of two processes are in it
        name = f"{each['case']}, {each['variant']}"
        found += [f"{name}: {what} {each[what]}, at most {most}" for what, most in bounds.items() if each[what] > most]
    budget = result.get("budget")
    if budget and budget["spent_usd"] > budget["budget_usd"]:
        found.append(f"budget: {budget['spent_usd']} of {budget['budget_usd']} spent")
    flood = result.get("storm")
    if flood:
        most = {"most_in_10_s": 3, "most_in_1_s": 1, "lost": 0, "back_at_90_s": 60.0}
        never = flood["back_at_90_s"] is None
        found += ["storm: never back at 90 %"] if never else []
        found += [f"storm: {what} {flood[what]}, at most {at}" for what, at in most.items() if (flood[what] or 0) > at]
    return found


def shown(each: dict) -> str:
    return (
        f"{each['case']:<12} {each['variant']:<20} time/ideal {each['over_ideal']:.3f}  429s {each['throttled']:.2%}  "
        f"lost {each['lost']}  duplicates {each['duplicates']}  CPU {each['cpu_ms']:.2f} ms  "
        f"inversions {each['inversions']:.3f}  rate {[run['rate_after_200'] for run in each['runs']]}  "
        f"learned {[run['learned'] for run in each['runs']]}"
    )


if __name__ == "__main__":
    raise SystemExit(main())
