"""The reviewer: judges a draft, issues first, then a score. Sees the task and the draft, not the coder's reasoning."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from actors.agent import Agent
from protocol.plan import Brief, Review
from protocol.policies.verdict import read_verdict
from protocol.roles import AgentRole, RoleSettings

if TYPE_CHECKING:
    from protocol.messages import AgentMessage


class Reviewer(Agent):
    """Answers a draft with a :class:`Review`. The draft is data: it is delimited, and what it says is not obeyed."""

    role: ClassVar[str] = AgentRole.REVIEWER
    settings = RoleSettings(prompt="Review: {subtask}\n\n<draft>\n{draft}\n</draft>", temperature=0.0)

    async def handle(self, message: AgentMessage) -> Review:
        """Review the draft in ``content``."""
        brief = message.payload(Brief) if message.data else Brief(task="", subtask="", draft=message.content)
        prompt = self.settings.prompt.format(task=brief.task, subtask=brief.subtask, draft=message.content)
        if brief.facts:
            prompt += f"\n\nIt was run in a sandbox: {brief.facts}."
        return await self.chat(prompt, returns=Review, reader=read_verdict)
