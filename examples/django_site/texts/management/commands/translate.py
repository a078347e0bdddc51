"""Troupe in a management command. Run it with ``python manage.py translate Hello "Good morning"``.

``--team team.toml`` takes a configuration; without one a scripted server on this machine answers.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from actors import Agent
from protocol import AgentMessage, TroupeError
from runtime import ActorSystem, Config
from runtime.fake_server import FakeServer


class Translator(Agent):
    role = "translator"
    system_prompt = "You translate into German. Answer with the translation alone."

    async def handle(self, message: AgentMessage) -> str:
        return (await self.chat(message.content)).text


class Command(BaseCommand):
    help = "Translate texts, all at once, and print them in order."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("texts", nargs="+")
        parser.add_argument("--team", help="a configuration file")

    def handle(self, *, texts: list[str], team: str | None, **_: Any) -> None:
        try:
            failed = self.translate(texts, team)
        except TroupeError as error:  # a configuration that cannot be, say: one line instead of a traceback
            raise CommandError(str(error)) from None
        if failed:
            raise CommandError(f"{failed} of {len(texts)} failed")

    def translate(self, texts: list[str], team: str | None) -> int:
        """Print each translation and return how many there are none of. This is Django's thread: the ORM is at home."""
        failed = 0
        with ExitStack() as stack:
            config = Config.load(team) if team else scripted(stack)
            system = stack.enter_context(ActorSystem(config))
            system.register(Translator)
            handles = [system.submit(text, to="translator", priority="low", timeout=300) for text in texts]
            for text, handle in zip(texts, handles, strict=True):
                outcome = handle.result()
                failed += not outcome.success
                self.stdout.write(f"{text}: {outcome.output if outcome.success else outcome.error}")
        return failed


def scripted(stack: ExitStack) -> Config:
    """Return a configuration for a scripted server that ends with *stack*."""
    return Config.for_endpoint(stack.enter_context(FakeServer()).url, "scripted")
