"""What ``benchmarks/ratelimit.py`` lets the command line run: a workflow of one call, and the agent that makes it."""

from __future__ import annotations

from actors import Agent, Workflow


class OneCall(Agent):
    """Asks the model once."""

    role = "caller"

    async def handle(self, message):
        """Answer with the model's text."""
        return (await self.chat(message.content)).text


class Alone(Workflow):
    """Sends the task to the one agent."""

    async def run(self, task):
        """Ask once."""
        return await self.ask("caller", task)
