"""Unit tests of an agent: no threads, no network, no sleeping. Run with ``pytest examples/test_my_agent.py``."""

from __future__ import annotations

from actors import Agent
from actors.testing import ActorTestKit
from protocol import AgentMessage


class Translator(Agent):
    """Translates what it is told."""

    role = "translator"

    async def handle(self, message: AgentMessage) -> str:
        """Ask the model once."""
        return (await self.chat(message.content)).text


def test_a_reply() -> None:
    kit = ActorTestKit({"translator": "Hallo"})
    kit.register(Translator)
    assert kit.ask("translator", "Hello").result == "Hallo"
