"""The simulation beside reality, and how fast it is.

Agreement: the same team, configuration and provider once over HTTP against the loopback server and once simulated; the
makespans are compared. Two rows are those of ``team.py``, whose figures are read from its results, so that they come
from the same minute as its floors; three are drawn by seed, with rate limits and 5 % of faults. The latency that the
simulation is given is that of the server as a bare socket sees it.

Speed: ``python -m runtime simulate`` with 100, 1,000 and 10,000 workflows in processes of their own, and bare messages.

    python benchmarks/simulation.py [--rounds N] [--only team|drawn|speed] [--out benchmarks/results/simulation.json]
"""

from __future__ import annotations

import argparse
import json
import resource
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parent))
import team  # the neighbour

DRAWN = (1, 2, 3)
UNPACED = 10_000_000
WITHOUT_WHAT_IF = """
import sys
from runtime import what_if
what_if.MOST_WORKFLOWS = 0  # small simulations are run again with more of each limit, large ones are not
from runtime.cli import main
sys.exit(main(sys.argv[1:]))
"""
SIMULATED_SEEDS = 40
FAULTS = ("throttled", "throttled_without_hint", "server_error", "malformed", "slow", "timeout")
SHARE = 0.05
HINT = 0.5
SLOW = 5.0
TIMEOUT = 1.5
BOUNDS = {"agreement": 0.10, "cpu_s": 120.0, "peak_mb": 500, "per_workflow": 1.3, "bare_messages_per_s": 100_000}
RESULTS = Path(__file__).parent / "results"
MOST_FAILED = 3


# --- one case: a configuration, what the server does, how many workflows


def team_case(workflows: int) -> dict:
    return {
        "name": f"team.py, W = {workflows}",
        "workflows": workflows,
        "latency": [team.LATENCY, team.LATENCY],
        # team.py measures after a warm-up, in which the careful start of an unknown limit is over
        "limits": {"concurrency": team.SLOTS, "start_per_minute": UNPACED},
        "max_parallel": team.SLOTS,
        "faults": 0.0,
    }


def drawn_case(seed: int) -> dict:
    dice = Random(seed)
    low = round(dice.uniform(0.02, 0.08), 3)
    return {
        "name": f"drawn by seed {seed}",
        "seed": seed,
        "workflows": dice.randint(48, 80),
        "latency": [low, round(low * dice.uniform(1.2, 2.5), 3)],
        "limits": {
            "requests_per_minute": dice.randrange(4800, 9000, 100),
            "burst": dice.randint(5, 20),
            "concurrency": dice.randint(16, 48),
        },
        "max_parallel": dice.randint(4, 16),
        "faults": SHARE,
    }


def toml(case: dict, url: str, latency: list[float]) -> str:
    limits = "\n".join(f"{name} = {value}" for name, value in case["limits"].items())
    roles = "\n".join(f"[roles.{role}]\ntimeout = {TIMEOUT}" for role in ("orchestrator", "coder", "reviewer"))
    share = case["faults"] / len(FAULTS)
    faults = "\n".join(f"{name} = {share}" for name in FAULTS if share)
    return f"""
[provider.main]
base_url = "{url}"
[model.m]
provider = "main"
name = "m"
[limits.main]
{limits}
{roles}
[executor]
enabled = false
[team]
plan = "always"
max_parallel = {case["max_parallel"]}
[simulation]
latency = {latency[0]}
jitter = {latency[1] - latency[0]}
per_output_token = 0.0
spread = 0.0
round_trip = {sum(latency) / 2}
subtasks = {team.SUBTASKS}
[simulation.faults]
hint = {HINT}
slow_factor = {SLOW}
{faults}
"""


def script(case: dict, round_: int) -> dict:
    """Return what the server is told: the share of calls that is hit, every kind equally often, at places drawn anew.

    Retries are calls too, and are hit like others.
    """
    calls = round(case["workflows"] * team.CALLS / (1.0 - case["faults"]))
    dice = Random(f"{case['name']} {round_}")
    middle = sum(case["latency"]) / 2
    kinds = {
        "throttled": {"status": 429, "headers": {"retry-after": str(HINT)}},
        "throttled_without_hint": {"status": 429},
        "server_error": {"status": 500},
        "malformed": {"malformed": True},
        "slow": {"delay": middle * (SLOW - 1.0)},
        "timeout": {"hang": True},
    }
    hit = sorted(dice.sample(range(calls), round(case["faults"] * calls)))
    what = [FAULTS[number % len(FAULTS)] for number in range(len(hit))]
    dice.shuffle(what)
    rules = [
        {**kinds[kind], "after": place - before} for before, (place, kind) in enumerate(zip(hit, what, strict=True))
    ]
    told = {"latency": case["latency"], "subtasks": team.SUBTASKS, "seed": round_, "faults": rules}
    if "requests_per_minute" in case["limits"]:
        rate = case["limits"]["requests_per_minute"] / 60.0
        told["rate_limit"] = {"per_second": rate, "burst": case["limits"]["burst"]}
    return told


# --- the two sides


def real(case: dict, url: str) -> float:
    """Run the case over HTTP in this process and return its makespan."""
    from runtime import ActorSystem, Config

    with ActorSystem(Config.parse(toml(case, url, case["latency"]).encode(), "benchmark")) as system:
        began = time.perf_counter()
        handles = [system.submit(team.TASK.format(n=n)) for n in range(case["workflows"])]
        results = [handle.result(timeout=300) for handle in handles]
        wall = time.perf_counter() - began
    assert sum(not result.success for result in results) <= MOST_FAILED, [r.error for r in results if not r.success]
    return wall


def simulated(case: dict, seed: int, latency: list[float]) -> float:
    from runtime.config import Config
    from runtime.simulation import SimulatedSystem

    config = Config.parse(toml(case, "http://127.0.0.1:9/v1", latency).encode(), "benchmark")
    system = SimulatedSystem(config, case["workflows"], seed=seed)
    while system.work(100_000):
        pass
    assert system.sums.failed.total() <= MOST_FAILED, system.sums.failed
    return system.sums.ended - system.sums.began


def overhead() -> float:
    """Return the seconds that a call takes at a bare socket beyond the latency that the server was told."""
    data = json.dumps(team.body("coder", "Implement: x")).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(data)}\r\n\r\n".encode()
    with team.Server({"latency": team.LATENCY}) as server:
        host, port = server.url.split("//")[1].split("/", maxsplit=1)[0].split(":")
        with socket.create_connection((host, int(port))) as line:
            times = []
            for _ in range(40):
                began = time.perf_counter()
                line.sendall(head + data)
                line.recv(65536)
                times.append(time.perf_counter() - began)
    return statistics.median(times) - team.LATENCY


def measured(case: dict, rounds: int) -> list[float]:
    """Return the real makespans of *case*: as ``team.py`` has left them, or over HTTP now, a server for each round."""
    if not case["faults"]:
        figures = json.loads((RESULTS / "team.json").read_text(encoding="utf-8"))
        return [figures["troupe"][str(case["workflows"])]["wall_s"]]
    walls = []
    for round_ in range(rounds):
        with team.Server(script(case, round_)) as server:
            command = [sys.executable, __file__, "--real", server.url, "--case", json.dumps(case)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            walls.append(float(done.stdout))
    return walls


def compare(case: dict, rounds: int, extra: float) -> dict:
    walls = measured(case, rounds)
    latency = [each + extra for each in case["latency"]]
    seeds = range(SIMULATED_SEEDS if case["faults"] else 1)
    virtual = [simulated(case, seed, latency) for seed in seeds]
    wall, makespan = statistics.mean(walls), statistics.mean(virtual)  # each fault adds its part to a makespan
    return {
        "name": case["name"],
        "workflows": case["workflows"],
        "limits": case["limits"],
        "real_s": round(wall, 3),
        "real_from_to": [round(min(walls), 3), round(max(walls), 3)],
        "simulated_s": round(makespan, 3),
        "simulated_from_to": [round(min(virtual), 3), round(max(virtual), 3)],
        "ratio": round(makespan / wall, 3),
    }


def agreement(rounds: int, which: tuple[str, ...], before: dict) -> dict:
    """Return the rows of the cases *which*, among the rows that there were before."""
    extra = overhead()
    rows = {row["name"]: row for row in before.get("rows", ())}
    team_cases = [team_case(workflows) for workflows in (16, 128)]
    drawn_cases = [drawn_case(seed) for seed in DRAWN]
    for case in (*(team_cases if "team" in which else ()), *(drawn_cases if "drawn" in which else ())):
        rows[case["name"]] = row = compare(case, rounds, extra)
        print(json.dumps(row), file=sys.stderr)
    order = [case["name"] for case in (*team_cases, *drawn_cases) if case["name"] in rows]
    return {"server_overhead_ms": round(extra * 1000.0, 2), "rows": [rows[name] for name in order]}


# --- speed


def speed() -> dict:
    rows = []
    for workflows in (100, 1000, 10_000):
        command = [sys.executable, "-c", WITHOUT_WHAT_IF, "simulate", "--workflows", str(workflows)]
        began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        text = subprocess.run(command, check=True, capture_output=True, text=True)
        wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        messages = int(text.stderr.split("simulated ")[1].split(" messages")[0].replace(",", ""))
        calls = int(text.stdout.split("Calls:")[1].split(";")[0].replace(",", ""))
        rows.append(
            {
                "workflows": workflows,
                "calls": calls,
                "messages": messages,
                "wall_s": round(wall, 2),
                "cpu_s": round(cpu, 2),
                "cpu_ms_per_workflow": round(cpu * 1000.0 / workflows, 3),
                "messages_per_cpu_s": round(messages / cpu),
                "peak_mb": round(after.ru_maxrss / 1024),  # of the largest so far, which is the last
            }
        )
        print(json.dumps(rows[-1]), file=sys.stderr)
    return {"rows": rows, "bare_messages_per_s": bare()}


def bare(messages: int = 300_000) -> dict:
    """Return the messages a CPU second between two actors that do nothing else, by way of delivery."""
    from actors.base import Actor
    from actors.directory import ActorSpec, Directory
    from actors.simulation import SimulatedDispatcher

    class Player(Actor):
        def on_receive(self, message: tuple[str, int]) -> None:
            other, left = message
            if left:
                self.tell(other, (self.address, left - 1))

    rates = {}
    plain, hashed = {"seed": None}, {"seed": None, "trace": [].append}
    kinds = {
        "in order": plain,
        "shuffled": {"seed": 1},
        "across the wire": {"seed": None, "wire": True},
        "traced": hashed,
    }
    for name, options in kinds.items():
        dispatcher = SimulatedDispatcher(**options)
        directory = Directory(dispatcher)
        for address in ("a", "b"):
            directory.spawn(ActorSpec(address=address, factory=Player))
        dispatcher.settle()
        directory.send("a", ("b", messages))
        began = time.process_time()
        dispatcher.settle()
        rates[name] = round(messages / (time.process_time() - began))
    return rates


def broken(result: dict) -> list[str]:
    """Return the bounds that *result* does not hold."""
    rows, first, last = result["agreement"]["rows"], result["speed"]["rows"][0], result["speed"]["rows"][-1]
    growth = last["cpu_ms_per_workflow"] / first["cpu_ms_per_workflow"]
    slowest = min(result["speed"]["bare_messages_per_s"].values())
    found = [f"{row['name']}: ratio {row['ratio']}" for row in rows if abs(row["ratio"] - 1.0) > BOUNDS["agreement"]]
    found += [f"{name}: {last[name]}" for name in ("cpu_s", "peak_mb") if last[name] > BOUNDS[name]]
    found += [f"per workflow: {growth:.2f}"] if growth > BOUNDS["per_workflow"] else []
    return found + ([f"bare messages: {slowest}"] if slowest < BOUNDS["bare_messages_per_s"] else [])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", choices=["team", "drawn", "speed"])
    parser.add_argument("--out")
    parser.add_argument("--real", metavar="URL", help=argparse.SUPPRESS)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.real:
        print(real(json.loads(options.case), options.real))
        return
    out = Path(options.out) if options.out else None
    result = json.loads(out.read_text(encoding="utf-8")) if out is not None and out.exists() else {}
    if options.only != "speed":
        which = ("team", "drawn") if options.only is None else (options.only,)
        result["agreement"] = agreement(options.rounds, which, result.get("agreement", {}))
    if options.only in {None, "speed"}:
        result["speed"] = speed()
    text = json.dumps(result, indent=1)
    if out is not None:
        out.write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
