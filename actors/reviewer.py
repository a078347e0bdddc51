"""The reviewer: judges a draft item by item. Sees the task and the draft, not the coder's reasoning."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, ClassVar

import msgspec

from actors.agent import Agent
from protocol.chat import Occasion
from protocol.plan import Brief, Review, Rubric, Stated
from protocol.policies.complexity import estimate
from protocol.policies.json_text import extract_json
from protocol.policies.planning import own_words
from protocol.policies.rubric import aggregate
from protocol.policies.verdict import read_verdict
from protocol.roles import AgentRole, RoleSettings

if TYPE_CHECKING:
    from protocol.messages import AgentMessage

ITEMS = """\
Look at correctness, security, performance and best practices; write one item for each thing you checked. Quote the \
words of the draft that an item is based on, exactly; where something is missing, quote nothing. Say whether the item \
passes, and how to mend it where it does not. Give no total."""

_CLOSING = re.compile(r"<(?=/?(?i:draft)\b)")


class Reviewer(Agent):
    """Answers a draft with a :class:`Review`. The draft is data: it is delimited, and what it says is not obeyed.

    With ``rubric`` in its settings the model is asked for separate items, and the verdict is made of them in code. What
    it is asked for stands in the system prompt, in front of what differs between drafts, for the sake of prompt caches.
    """

    role: ClassVar[str] = AgentRole.REVIEWER
    settings = RoleSettings(prompt="Review: {subtask}\n\n<draft>\n{draft}\n</draft>", temperature=0.0)

    async def handle(self, message: AgentMessage) -> Review:
        """Review the draft in ``content``."""
        brief = message.payload(Brief) if message.data else Brief(task="", subtask="", draft=message.content)
        prompt = self.settings.prompt.format(task=brief.task, subtask=brief.subtask, draft=as_data(message.content))
        if brief.facts:
            prompt += f"\n\nIt was run in a sandbox: {brief.facts}."
        asked = own_words(brief.subtask, brief.task) or brief.subtask
        occasion = Occasion(complexity=estimate(asked).score, round=brief.round)
        if not self.settings.rubric:
            return await self.chat(prompt, returns=Review, reader=read_verdict, occasion=occasion)
        rules = "\n\n".join(filter(None, (self.settings.system_prompt, ITEMS)))
        rubric = await self.chat(prompt, returns=Rubric, reader=as_rubric, system=rules, occasion=occasion)
        return aggregate(rubric, message.content)


def as_data(draft: str) -> str:
    """Return *draft* so that nothing in it can end the place where drafts stand."""
    return _CLOSING.sub("&lt;", draft)


def as_rubric(text: str) -> Rubric | None:
    """Read a whole review, JSON or plain, in place of a rubric: a model that knows no items still has a verdict."""
    found = extract_json(text)
    try:
        return Stated(review=msgspec.json.decode(found or "", type=Review))
    except (msgspec.DecodeError, RecursionError):
        review = read_verdict(text)
    return None if review is None else Stated(review=review)
