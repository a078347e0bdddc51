"""The team over HTTP: makespan, CPU, memory and added latency, with floors in the same run.

Each workflow is 1 plan -> 8 drafts -> 8 reviews against a loopback server that answers after 50 ms, at most 64 calls
in flight. Contenders run in processes of their own, in turns: Troupe through ``submit`` (supervised, default logging),
a thread pool with ``requests``, and aiohttp. "Ideal" is the same graph on 64 slots with no overhead at all, first
come, first served.

    python benchmarks/team.py [--rounds N] [--out benchmarks/results/team.json] [--json]
"""

from __future__ import annotations

import argparse
import heapq
import json
import resource
import sys
import time
from pathlib import Path
from typing import Self

LATENCY = 0.05
SUBTASKS = 8
SLOTS = 64
CALLS = 1 + 2 * SUBTASKS
WORKFLOWS = (1, 16, 128)
CONTENDERS = ("troupe", "threads", "aiohttp")
TASK = (
    "Implement an async HTTP client with retries, timeouts, pooling, logging, metrics, caching, tests and docs (nr {n})"
)


def ideal(workflows: int) -> float:
    """Return the seconds of the graph on SLOTS slots without overhead, first come, first served."""
    ready = [(0.0, n, "plan") for n in range(workflows)]
    slots = [0.0] * SLOTS
    order, end = len(ready), 0.0
    while ready:
        at, _, kind = heapq.heappop(ready)
        done = max(at, heapq.heappop(slots)) + LATENCY
        heapq.heappush(slots, done)
        end = max(end, done)
        for _ in range({"plan": SUBTASKS, "code": 1, "review": 0}[kind]):
            order += 1
            heapq.heappush(ready, (done, order, "code" if kind == "plan" else "review"))
    return end


def body(role: str, text: str) -> dict:
    return {"model": "m", "messages": [{"role": "system", "content": role}, {"role": "user", "content": text}]}


# --- contenders: each yields (makespan seconds, CPU seconds, [added latency ms of each call])


def troupe(url: str, plan: list[int]):
    from runtime import ActorSystem, Config

    text = f"""
[provider.main]
kind = "openai"
base_url = "{url}"
[model.m]
provider = "main"
name = "m"
[limits.main]
concurrency = {SLOTS}
[executor]
enabled = false
[team]
plan = "always"
max_parallel = {SLOTS}
"""
    with ActorSystem(Config.parse(text.encode(), "benchmark")) as system:
        for number, workflows in enumerate(plan):
            wall, cpu = time.perf_counter(), time.process_time()
            handles = [system.submit(TASK.format(n=f"{number}-{n}")) for n in range(workflows)]
            results = [handle.result(timeout=120) for handle in handles]
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            assert all(result.success for result in results), results[0].error
            assert all(result.summary.llm_calls == CALLS for result in results)
            yield wall, cpu, list(added(handles))


def added(handles):
    """Yield, for each task, the ms to its answer that were neither the server's latency nor waiting for a slot."""
    for handle in handles:
        queue = {result.task_id: result.queue_time_ms for result in handle.result().results}
        began = {}
        for event in handle.events():
            if event.event == "task.started":
                began[event.facts["step"]] = event.at
            elif event.event == "task.finished":
                step = event.facts["step"]
                yield (event.at - began[step] - LATENCY) * 1000.0 - queue[step]


def threads(url: str, plan: list[int]):
    from concurrent.futures import ThreadPoolExecutor
    from threading import local

    import requests

    mine = local()

    def call(role: str, text: str) -> str:
        if not hasattr(mine, "session"):
            mine.session = requests.Session()
        began = time.perf_counter()
        answer = mine.session.post(f"{url}/chat/completions", json=body(role, text), timeout=30).json()
        over.append((time.perf_counter() - began - LATENCY) * 1000.0)
        return answer["choices"][0]["message"]["content"]

    with ThreadPoolExecutor(SLOTS) as pool, ThreadPoolExecutor(256) as graph:

        def build(n: int) -> None:
            draft = pool.submit(call, "coder", f"Implement: part {n}").result()
            pool.submit(call, "reviewer", f"Review: {draft}").result()

        def workflow(n: int) -> None:
            pool.submit(call, "orchestrator", f"Analyze and break down: {n}").result()
            list(parts.map(build, range(SUBTASKS)))

        parts = ThreadPoolExecutor(128 * SUBTASKS)
        for workflows in plan:
            over: list[float] = []
            wall, cpu = time.perf_counter(), time.process_time()
            list(graph.map(workflow, range(workflows)))
            yield time.perf_counter() - wall, time.process_time() - cpu, over
        parts.shutdown()


def aiohttp(url: str, plan: list[int]):
    import asyncio

    import aiohttp as client

    async def main():
        rows = []
        slots = asyncio.Semaphore(SLOTS)
        async with client.ClientSession(connector=client.TCPConnector(limit=SLOTS)) as session:

            async def call(role: str, text: str) -> str:
                async with slots:
                    began = time.perf_counter()
                    async with session.post(f"{url}/chat/completions", json=body(role, text)) as response:
                        answer = await response.json()
                    over.append((time.perf_counter() - began - LATENCY) * 1000.0)
                return answer["choices"][0]["message"]["content"]

            async def build(n: int) -> None:
                await call("reviewer", "Review: " + await call("coder", f"Implement: part {n}"))

            async def workflow(n: int) -> None:
                await call("orchestrator", f"Analyze and break down: {n}")
                await asyncio.gather(*(build(k) for k in range(SUBTASKS)))

            for workflows in plan:
                over: list[float] = []
                wall, cpu = time.perf_counter(), time.process_time()
                await asyncio.gather(*(workflow(n) for n in range(workflows)))
                rows.append((time.perf_counter() - wall, time.process_time() - cpu, over))
        return rows

    yield from asyncio.run(main())


# --- one contender in this process


def contend(name: str, url: str, rounds: int) -> dict:
    plan = [16, *[w for w in WORKFLOWS for _ in range(rounds)]]
    rows = list({"troupe": troupe, "threads": threads, "aiohttp": aiohttp}[name](url, plan))[1:]
    out = {"contender": name, "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)}
    for k, workflows in enumerate(WORKFLOWS):
        mine = rows[k * rounds : (k + 1) * rounds]
        added_ms = sorted(ms for row in mine for ms in row[2])
        out[str(workflows)] = {
            "walls": [round(row[0], 4) for row in mine],
            "cpu_ms_per_call": [round(row[1] * 1000 / (workflows * CALLS), 4) for row in mine],
            "added_ms": [round(added_ms[int(len(added_ms) * q)], 2) for q in (0.5, 0.99)] if added_ms else None,
        }
    return out


# --- all of them


def ceiling(url: str) -> float:
    """Return the server's requests a second without latency, from 16 raw keep-alive connections."""
    import asyncio

    host, port = url.split("//")[1].split("/", maxsplit=1)[0].split(":")
    data = json.dumps(body("coder", "Implement: x")).encode()
    request = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(data)}\r\n\r\n"
    ).encode() + data

    async def one(count: int) -> None:
        reader, writer = await asyncio.open_connection(host, int(port))
        for _ in range(count):
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            await reader.readexactly(length)
        writer.close()

    async def main() -> float:
        began = time.perf_counter()
        await asyncio.gather(*(one(250) for _ in range(16)))
        return 16 * 250 / (time.perf_counter() - began)

    return asyncio.run(main())


class Server:
    """The loopback server in a process of its own."""

    def __init__(self, script: dict) -> None:
        import subprocess  # what a contender does not need would count as its memory

        path = Path(f"/tmp/troupe-bench-{time.time_ns()}.json")
        path.write_text(json.dumps(script), encoding="utf-8")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "runtime.fake_server", "--port", "0", "--script", str(path), "--print-url"],
            stdout=subprocess.PIPE,
            stdin=subprocess.PIPE,
            text=True,
        )
        self.url = self.process.stdout.readline().strip()
        path.unlink()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(10)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--contender", choices=CONTENDERS)
    parser.add_argument("--url")
    parser.add_argument("--out")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.contender:
        print(json.dumps(contend(options.contender, options.url, options.rounds)))
        return
    import subprocess

    from provenance import commit

    with Server({"latency": 0, "subtasks": SUBTASKS}) as server:
        result = {
            "commit": commit(),
            "server_ceiling_per_s": round(ceiling(server.url)),
            "latency_s": LATENCY,
            "slots": SLOTS,
        }
    with Server({"latency": LATENCY, "subtasks": SUBTASKS}) as server:
        for name in CONTENDERS:
            command = [
                sys.executable,
                __file__,
                "--contender",
                name,
                "--url",
                server.url,
                "--rounds",
                str(options.rounds),
            ]
            result[name] = summarise(
                json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            )
    text = json.dumps(result, indent=1)
    if options.out:
        Path(options.out).write_text(text + "\n", encoding="utf-8")
    print(text if options.json else table(result))


def summarise(row: dict) -> dict:
    import statistics

    out = {"peak_mb": row["peak_mb"]}
    for workflows in WORKFLOWS:
        mine = row[str(workflows)]
        wall = statistics.median(mine["walls"])
        out[str(workflows)] = {
            "over_ideal": round(wall / ideal(workflows), 3),
            "wall_s": round(wall, 4),
            "cpu_ms_per_call": round(statistics.median(mine["cpu_ms_per_call"]), 3),
            "added_ms_p50_p99": mine["added_ms"],
        }
    return out


def table(result: dict) -> str:
    lines = [
        f"server ceiling: {result['server_ceiling_per_s']} requests/s",
        "contender   W    over ideal  CPU ms/call  added p50/p99 ms",
    ]
    for name in CONTENDERS:
        for workflows in WORKFLOWS:
            row = result[name][str(workflows)]
            lines.append(
                f"{name:<10} {workflows:>4} {row['over_ideal']:>10.3f} {row['cpu_ms_per_call']:>12.3f}  "
                f"{row['added_ms_p50_p99'] or '':}"
            )
        lines.append(f"{name:<10} peak memory {result[name]['peak_mb']} MB")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
