"""Troupe inside an asyncio application: runs are awaited, events are an async iterator, the loop stays free."""

from __future__ import annotations

import asyncio
import sys

from runtime import ActorSystem, Config
from runtime.fake_server import FakeServer

TASKS = ("Write a parser for INI files, with tests", "Build a small HTTP cache with expiry and metrics")


async def main(config: Config) -> None:
    """Run the tasks side by side and watch the first."""
    async with ActorSystem(config) as system:
        handles = [system.submit(task) for task in TASKS]
        async for event in handles[0].aevents():
            print(event.event)
        for outcome in await asyncio.gather(*handles):
            print(outcome.correlation_id, "succeeded" if outcome.success else outcome.error)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        asyncio.run(main(Config.load(sys.argv[1])))
    else:
        with FakeServer() as server:
            asyncio.run(main(Config.for_endpoint(server.url, "scripted")))
