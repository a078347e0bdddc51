"""The coder: writes a draft for a subtask, and mends it by the reviewer's issues."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from actors.agent import Agent
from protocol.chat import Occasion
from protocol.plan import Brief
from protocol.policies.complexity import estimate
from protocol.policies.planning import own_words
from protocol.roles import AgentRole, RoleSettings

if TYPE_CHECKING:
    from protocol.messages import AgentMessage

REVISE = """Implement: {subtask}

Your previous draft:
<draft>
{draft}
</draft>

A reviewer found these issues. Answer with the whole improved draft:
{issues}"""


class Coder(Agent):
    """Answers a subtask with a draft."""

    role: ClassVar[str] = AgentRole.CODER
    settings = RoleSettings(prompt="Implement: {subtask}", revise=REVISE)

    async def handle(self, message: AgentMessage) -> str:
        """Write the draft for ``content``, or the next one when the brief in ``data`` holds a draft and its issues."""
        brief = message.payload(Brief) if message.data else Brief(task=message.content, subtask=message.content)
        asked = own_words(brief.subtask, brief.task) or brief.subtask
        occasion = Occasion(
            complexity=estimate(asked).score,
            rounds=brief.rounds,
            tried=brief.tried,
            stronger=brief.stronger,
            round=brief.round,
            checked=bool(brief.tests),
        )
        reply = await self.chat(self.prompt(brief), occasion=occasion)
        return reply.text

    def prompt(self, brief: Brief) -> str:
        """Fill the role's template; a revision shows the last draft and only its open issues, and a hint if any."""
        template = self.settings.revise or REVISE
        if not brief.draft:
            return self.settings.prompt.format(task=brief.task, subtask=brief.subtask)
        issues = (
            "\n".join(f"- {issue}" for issue in brief.issues) or "- not good enough; the reviewer named no single issue"
        )
        prompt = template.format(task=brief.task, subtask=brief.subtask, draft=brief.draft, issues=issues)
        return f"{prompt}\n\n{brief.hint}" if brief.hint else prompt
