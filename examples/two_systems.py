"""Two systems in one process share nothing: keys, limits, budgets, ids. Run it with ``python two_systems.py``."""

from __future__ import annotations

from actors import Agent
from protocol import AgentMessage
from runtime import ActorSystem, Config
from runtime.fake_server import FakeServer


class Translator(Agent):
    role = "translator"

    async def handle(self, message: AgentMessage) -> str:
        return (await self.chat(message.content)).text


with FakeServer() as acme, FakeServer() as umbrella:  # two providers, or two keys of one
    one, two = (Config.for_endpoint(server.url, "scripted") for server in (acme, umbrella))
    with ActorSystem(one) as first, ActorSystem(two) as second:
        first.register(Translator)
        handles = [system.submit("Hello", to="translator", correlation_id="hello") for system in (first, second)]
        for handle in handles:
            outcome = handle.result(timeout=30)
            print(outcome.correlation_id, outcome.output or outcome.error)
    print("calls:", acme.stats().requests, umbrella.stats().requests)
