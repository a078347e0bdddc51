"""Unit tests of agents: no threads, no network, no sleeping. Run with ``pytest test_my_agent.py``.

``pip install troupe pytest`` brings the fixtures: ``actor_kit`` is a running system in virtual time, ``scripted_model``
its provider, ``actor_probe`` an actor that keeps what it is told. ``docs/testing.md`` says what else there is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from actors import Agent, Coder, Reviewer, TeamWorkflow
from actors.testing import DirectWorkflow, rate_limited, slow, timeout
from protocol import AgentMessage, ErrorKind
from protocol.plan import Review

if TYPE_CHECKING:
    from actors.testing import ActorTestKit, ScriptedModel


class Translator(Agent):
    """Translates what it is told."""

    role = "translator"

    async def handle(self, message: AgentMessage) -> str:
        """Ask the model once."""
        return (await self.chat(message.content)).text


def test_a_reply(actor_kit: ActorTestKit, scripted_model: ScriptedModel) -> None:
    scripted_model.on("translator", "Hallo")
    actor_kit.register(Translator)
    assert actor_kit.ask("translator", "Hello").result == "Hallo"


def test_a_retry_after_a_429_in_virtual_time(actor_kit: ActorTestKit, scripted_model: ScriptedModel) -> None:
    scripted_model.on("translator", [rate_limited(retry_after=60), "Hallo"])
    actor_kit.register(Translator)
    result = actor_kit.ask("translator", "Hello")
    assert (result.result, result.retry_count) == ("Hallo", 1)
    assert actor_kit.now >= 60.0


def test_a_timeout(actor_kit: ActorTestKit, scripted_model: ScriptedModel) -> None:
    scripted_model.on("translator", timeout())
    actor_kit.register(Translator)
    result = actor_kit.ask("translator", "Hello")
    assert (result.success, result.error_kind) == (False, ErrorKind.TIMEOUT)
    assert len(scripted_model.calls) == 1 + 3  # one call and three retries


def test_a_crash_keeps_the_mail(actor_kit: ActorTestKit, scripted_model: ScriptedModel) -> None:
    scripted_model.on("translator", slow("Hallo", seconds=5))
    (address,) = actor_kit.register(Translator)
    run = actor_kit.submit(DirectWorkflow, "Hello", to="translator")
    actor_kit.advance(1.0)
    actor_kit.crash(address)
    assert actor_kit.result(run).output == "Hallo"
    assert len(scripted_model.calls) == 1  # what was paid is not paid again


def test_a_rejected_draft_is_revised(actor_kit: ActorTestKit, scripted_model: ScriptedModel) -> None:
    scripted_model.on("coder", ["first draft", "second draft"])
    bad, good = Review(issues=("no tests",), score=3, approved=False), Review(score=9, approved=True)
    scripted_model.on("reviewer", [bad, good])
    actor_kit.register(Coder)
    actor_kit.register(Reviewer)
    assert actor_kit.run(TeamWorkflow, "write a parser").output == "second draft"
    assert "no tests" in scripted_model.calls[2].text
