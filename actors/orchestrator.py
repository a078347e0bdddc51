"""The orchestrator: takes a task apart into subtasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import msgspec

from actors.agent import Agent
from protocol.plan import Brief, Plan
from protocol.policies.outline import items
from protocol.roles import AgentRole, RoleSettings

if TYPE_CHECKING:
    from protocol.messages import AgentMessage


MOST = "\n\nName at most {most} subtasks."


class Orchestrator(Agent):
    """Answers a task with a :class:`Plan`: by JSON schema where the model knows it, else from a numbered list."""

    role: ClassVar[str] = AgentRole.ORCHESTRATOR
    settings = RoleSettings(prompt="Analyze and break down: {task}")

    async def handle(self, message: AgentMessage) -> Plan:
        """Plan the task in ``content``, into as many subtasks at most as the brief in ``data`` names."""
        most = message.payload(Brief).most if message.data else 0
        prompt = self.settings.prompt.format(task=message.content) + (MOST.format(most=most) if most else "")
        return await self.chat(prompt, returns=Plan, reader=read_plan)


def read_plan(text: str) -> Plan | None:
    """Read a plan from a numbered or bulleted list; None when the text has none."""
    try:
        return msgspec.convert({"subtasks": [item[:2000] for item in items(text)[:64]]}, Plan)
    except msgspec.ValidationError:
        return None
