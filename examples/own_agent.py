"""A team of your own: a typed answer, two roles at once, a blocking function, a failure that is dealt with.

Takes a configuration file; without one a scripted server answers.
"""

from __future__ import annotations

import sys
from pathlib import Path

from actors import Agent, Workflow
from protocol import AgentMessage, TaskFailed
from runtime import ActorSystem, Config
from runtime.fake_server import FakeServer


class Critic(Agent):
    """Says what is wrong with a text."""

    role = "critic"
    system_prompt = "Name the weakest sentence of the text."

    async def handle(self, message: AgentMessage) -> str:
        """Ask, then ask back: one conversation remembers what was said in it."""
        await self.chat(message.content)
        return (await self.chat("How would you mend it? One sentence.")).text


class Counter(Agent):
    """Counts words; no model needed."""

    role = "counter"

    async def handle(self, message: AgentMessage) -> str:
        """Run a blocking function on a worker's thread; the loop stays free."""
        text = await self.call(Path(message.content).read_text, "utf-8")
        return f"{len(text.split())} words"


class Proofread(Workflow):
    """Has a file counted and criticised at once."""

    async def run(self, task: str) -> str:
        """*task* is a path; a file that cannot be read is an answer, not a crash."""
        try:
            words, advice = await self.gather(
                self.ask("counter", task), self.ask("critic", f"The text in {task}", timeout=30)
            )
        except TaskFailed as failure:
            return f"no proofreading: {failure.result.error}"
        return f"{words}. {advice}"


def main(config: Config) -> None:
    """Proofread this file, and one that is not there."""
    with ActorSystem(config) as system:
        system.register(Critic, instances=2)
        system.register(Counter)
        for path in (__file__, "/no/such/file"):
            print(system.submit(path, workflow=Proofread, priority="high").result(timeout=60).output)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Config.load(sys.argv[1]))
    else:
        with FakeServer() as server:
            main(Config.for_endpoint(server.url, "scripted"))
