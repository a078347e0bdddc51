"""A role and a workflow of your own beside the built-in team.

Takes a configuration file; without one a scripted server answers.
"""

from __future__ import annotations

import sys

from actors import Agent, Workflow
from protocol import AgentMessage
from runtime import ActorSystem, Config
from runtime.fake_server import FakeServer


class Translator(Agent):
    """Translates what it is told."""

    role = "translator"
    system_prompt = "You translate into German. Answer with the translation alone."

    async def handle(self, message: AgentMessage) -> str:
        """Ask the model once."""
        reply = await self.chat(message.content)
        return reply.text


class Greetings(Workflow):
    """Translates each word of the task, all at once."""

    async def run(self, task: str) -> str:
        """Gather the translations in order."""
        texts = await self.gather(*(self.ask("translator", word) for word in task.split()))
        return "\n".join(texts)


def main(config: Config) -> None:
    """Run three tasks in one system."""
    with ActorSystem(config) as system:
        system.register(Translator)
        print(system.submit("Hello", to="translator").result(timeout=30).output)
        print(system.submit("good morning", workflow=Greetings).result(timeout=60).output)
        team = system.submit("Implement an async HTTP client with retries", correlation_id="task_001")
        for event in team.events():
            print(event.event, event.facts)
        print(team.result().output)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Config.load(sys.argv[1]))
    else:
        with FakeServer() as server:
            main(Config.for_endpoint(server.url, "scripted"))
