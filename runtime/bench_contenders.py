"""The contenders of ``runtime/bench.py``, each in a process of its own: ``python -m runtime.bench_contenders``.

What to do comes as JSON on standard input, what it did goes as JSON to standard output. All calls are there at once.
"""

from __future__ import annotations

import asyncio
import sys
import time
from random import Random
from typing import TYPE_CHECKING, Literal

from msgspec import Struct, json

from runtime.bench_guide import AdaptiveRateLimiter, PriorityTaskQueue
from runtime.bench_http import Client
from runtime.bench_judge import Learned, Limit, Ran, text_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from runtime.handle import Handle

Name = Literal["sequential", "naive", "guide", "troupe"]
PAUSE = 0.5
"""Seconds that the naive loop waits, on average, before it tries again."""
CLASSES = ("high", "normal", "low")
PATIENCE = 300.0
"""Seconds after which a run of ours is given up."""


class Orders(Struct, frozen=True, kw_only=True):
    """What one contender is to do. ``known``: it is told the limit, where it takes one; else ours may start carefully.

    Each call's text has up to ``most_words`` more, drawn, so that calls are of mixed size.
    """

    name: Name
    url: str
    calls: int
    limit: Limit
    known: bool = True
    start_per_minute: float | None = None
    max_tokens: int = 64
    most_words: int = 0
    seed: int = 0


class Refused(Exception):  # noqa: N818 (a reply, not an error of ours)
    """The server has answered with an error status."""


def priorities(orders: Orders) -> tuple[int, ...]:
    """Return the class of each call, drawn: 0 high, 1 normal, 2 low."""
    dice = Random(orders.seed)  # noqa: S311 (the same for every contender)
    return tuple(dice.randrange(len(CLASSES)) for _ in range(orders.calls))


def texts(orders: Orders) -> list[str]:
    """Return the text of each call."""
    dice = Random(orders.seed + 1)  # noqa: S311 (as above)
    return [text_of(number, dice.randrange(orders.most_words + 1)) for number in range(orders.calls)]


# --- the others


async def sequential(client: Client, orders: Orders, done: Callable[[int], None]) -> None:
    """One call after the other; what is refused waits as long as it is told."""
    for number, text in enumerate(texts(orders)):
        while (answer := await client.post(text)).status != 200:  # noqa: ASYNC110 (nothing tells)
            await asyncio.sleep(answer.retry_after or PAUSE)
        done(number)


async def naive(client: Client, orders: Orders, done: Callable[[int], None]) -> None:
    """All calls at once, each tried until it is let in, with a random pause between."""
    dice = Random(orders.seed)  # noqa: S311 (as above)

    async def one(number: int, text: str) -> None:
        while (await client.post(text)).status != 200:  # noqa: ASYNC110 (nothing tells)
            await asyncio.sleep(2.0 * PAUSE * dice.random())
        done(number)

    await asyncio.gather(*(one(number, text) for number, text in enumerate(texts(orders))))


async def guide(client: Client, orders: Orders, done: Callable[[int], None]) -> None:
    """All calls through the guide's queue and limiter, with the numbers it comes with where it is told no limit."""
    limit = orders.limit
    limiter = AdaptiveRateLimiter(limit.per_second, limit.burst) if orders.known else AdaptiveRateLimiter()
    queue = PriorityTaskQueue()
    said = texts(orders)

    async def one(number: int) -> None:
        async def call() -> None:
            answer = await client.post(said[number])
            if answer.status != 200:
                raise Refused(answer.status)
            done(number)

        await limiter.execute(call)

    for number, priority in enumerate(priorities(orders)):
        queue.submit(priority, lambda number=number: one(number))  # type: ignore[misc]  # mypy knows no such default
    await queue.process()


async def _measured(
    run: Callable[[Client, Orders, Callable[[int], None]], Awaitable[None]], client: Client, orders: Orders
) -> Ran:
    answered: list[int] = []
    began, cpu = time.monotonic(), time.process_time()
    await run(client, orders, answered.append)
    ended, cpu = time.monotonic(), time.process_time() - cpu
    client.close()
    return Ran(
        began=began,
        ended=ended,
        cpu_s=cpu,
        answered=tuple(answered),
        submitted=(began,) * orders.calls,
        priorities=priorities(orders),
    )


# --- ours


def configuration(orders: Orders) -> str:
    """Return a configuration with the server's limit, or with none where it is not *known*."""
    limit = orders.limit
    limits = ["[limits.main]", f"requests_per_minute = {limit.per_second * 60.0!r}", f"burst = {limit.burst}"]
    if limit.tokens_per_second is not None:
        limits.append(f"tokens_per_minute = {limit.tokens_per_second * 60.0!r}")
    start = orders.start_per_minute
    careful = () if start is None else (f"[limits.main]\nstart_per_minute = {start!r}",)
    return "\n".join(
        (
            f'[provider.main]\nbase_url = "{orders.url}"',
            '[model.m]\nprovider = "main"\nname = "m"',
            f"[roles.caller]\nmax_tokens = {orders.max_tokens}\nmax_retries = 8",
            *(limits if orders.known else careful),
        )
    )


def troupe(orders: Orders) -> Ran:
    """Submit each call as a run of its own to an agent that asks the model once."""
    from actors import Agent  # noqa: PLC0415 (what the others do not need is not theirs to load)
    from runtime.config import Config  # noqa: PLC0415 (as above)
    from runtime.system import ActorSystem  # noqa: PLC0415 (as above)

    class OneCall(Agent):
        role = "caller"

        async def handle(self, message):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 (as in the README)
            return (await self.chat(message.content)).text

    urgency = priorities(orders)
    submitted: list[float] = []
    with ActorSystem(Config.parse(configuration(orders).encode(), "the benchmark")) as system:
        system.register(OneCall)
        began, cpu = time.monotonic(), time.process_time()
        offset = began - time.time()
        handles = []
        for text, priority in zip(texts(orders), urgency, strict=True):
            submitted.append(time.monotonic())
            handles.append(system.submit(text, to="caller", priority=CLASSES[priority]))
        results = [handle.result(timeout=PATIENCE) for handle in handles]
        ended, cpu = time.monotonic(), time.process_time() - cpu
        known = tuple(learned(handles, offset))
    return Ran(
        began=began,
        ended=ended,
        cpu_s=cpu,
        learned=known,
        answered=tuple(number for number, result in enumerate(results) if result.success),
        submitted=tuple(submitted),
        priorities=urgency,
    )


def learned(handles: list[Handle], offset: float) -> Iterator[Learned]:
    """Yield what the events of the runs tell of the limits, once an instant; *offset* makes wall time monotonic."""
    told = {
        event.at: event.facts["learned"]
        for handle in handles
        for event in handle.run.events
        if event.event == "limits.snapshot"
    }
    for at, limits in sorted(told.items()):
        for limit in limits:
            yield Learned(
                at=at + offset,
                resource=limit["resource"],
                per_second=limit["per_minute"] / 60.0,
                burst=limit["burst"],
                source=limit["source"],
            )


def run(orders: Orders) -> Ran:
    """Run one contender in this process."""
    if orders.name == "troupe":
        return troupe(orders)
    client = Client(orders.url, max_tokens=orders.max_tokens)
    way = {"sequential": sequential, "naive": naive, "guide": guide}[orders.name]
    return asyncio.run(_measured(way, client, orders))


def main() -> int:
    """Obey the orders on standard input."""
    orders = json.decode(sys.stdin.buffer.read(), type=Orders)
    sys.stdout.buffer.write(json.encode(run(orders)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
