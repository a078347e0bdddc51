"""Systems for the tests of embedding: one line to make them, and agents that tell what reached them."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from actors import Agent, Workflow
from runtime import ActorSystem, Config
from tests.runtime.command import config

if TYPE_CHECKING:
    from collections.abc import Callable

    from protocol import AgentMessage
    from runtime.fake_server import FakeServer

TASK = "Implement an async HTTP client with retries"


def system_for(server: FakeServer, more: str = "") -> ActorSystem:
    return ActorSystem(Config.parse(config(server.url, more).encode(), "the test"))


def threads() -> list[str]:
    """Return the names of the threads that belong to systems."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("troupe-")]


def took(act: Callable[[], object]) -> float:
    """Return the seconds that *act* takes."""
    began = time.monotonic()
    act()
    return time.monotonic() - began


class Mirror(Agent):
    """Answers with what it was told about the message."""

    role = "mirror"

    async def handle(self, message: AgentMessage) -> str:
        in_time = message.deadline is not None and message.deadline > self.clock()
        return f"{message.content} {message.priority} {message.metadata.get('flow')} {in_time}"


class AskMirror(Workflow):
    async def run(self, task: str) -> str:
        return "seen: " + await self.ask("mirror", task)
