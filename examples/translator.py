"""An agent of your own. Run it with ``python translator.py``: a scripted server on this machine answers."""

from actors import Agent
from protocol import AgentMessage
from runtime import ActorSystem, Config
from runtime.fake_server import FakeServer


class Translator(Agent):
    role = "translator"
    system_prompt = "You translate into German. Answer with the translation alone."

    async def handle(self, message: AgentMessage) -> str:
        return (await self.chat(message.content)).text


if __name__ == "__main__":
    with FakeServer() as server, ActorSystem(Config.for_endpoint(server.url, "scripted")) as system:
        system.register(Translator)
        print(system.submit("Good morning", to="translator").result(timeout=60).output)
