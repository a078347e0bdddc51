"""The provider of a scenario: what it says hangs on what it is asked alone, never on when or in which order.

Every chat has a fate, drawn from the scenario's seed and the words that are said: how often it fails first, in which
way, how long each call takes, and how it ends.
"""

from __future__ import annotations

import re
from collections import Counter
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from actors import testing as say
from actors.scripted_answers import Slow
from protocol.chat import ChatReply
from protocol.plan import Plan, Review
from protocol.roles import AgentRole
from tests.explorer.players import Verdict, digest

if TYPE_CHECKING:
    from collections.abc import Callable

    from actors.scripted_model import ModelCall
    from tests.explorer.scenario import Scenario

SAID = re.compile(r"^say (\S+)$", re.MULTILINE)
SUBTASK = re.compile(r"part \d+ of \S+")

PASSING: dict[str, Callable[[Random], Any]] = {
    "429": lambda _: say.rate_limited(),
    "429 with a hint": lambda dice: say.rate_limited(retry_after=1 + int(dice.random() * 3.0)),
    "500": lambda _: say.server_error(),
    "503": lambda _: say.overloaded(),
    "malformed": lambda _: say.malformed(),
    "lost": lambda _: say.connection_lost(),
    "never sent": lambda _: say.connection_lost(sent=False),
    "silent": lambda _: say.timeout(),
}
"""What is tried again."""
ASKED_AGAIN = "asked again for ever"
FINAL: dict[str, Callable[[Random], Any]] = {
    "400": lambda _: say.bad_request(),
    "401": lambda _: say.unauthorized(),
    "quota": lambda _: say.quota_exhausted(),
    "filtered": lambda _: say.filtered(),
    "cut": lambda _: say.truncated("half a"),
    ASKED_AGAIN: lambda _: say.malformed(),
}
"""What a chat ends with."""
FOR_ALL = ("401", "quota")
"""After these nobody else's calls are sent either, for a while: what those come to hangs on who was quicker."""
ENDLESS = ("500", "429", "silent")
"""What a loose scenario's chat may fail with each time: then it hangs on who restarted how often."""


class Fate(NamedTuple):
    """What one chat meets: the answers before the last, in order, then the last (None: what was asked for)."""

    first: tuple[Any, ...]
    last: Any
    seconds: tuple[float, ...]
    names: tuple[str, ...]


class Provider:
    """Answers the calls of one play."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._made: Counter[str] = Counter()
        self.met: Counter[str] = Counter()
        self.ended: Counter[str] = Counter()  # by step: calls that were answered for good
        self.crossed: list[str] = []

    def __call__(self, call: ModelCall) -> Any:
        words = "\n".join(message.content for message in call.messages)
        fate = self._scenario.fates.get(words)
        if fate is None:
            fate = self._scenario.fates[words] = self._draw(words)
        number = self._made[words]
        self._made[words] += 1
        self.met[fate.names[min(number, len(fate.names) - 1)]] += 1
        schema = call.request.schema
        if schema is not None and call.request.output == "json_schema" and not self._scenario.knows_schemas:
            self._made[words] -= 1
            return say.bad_request("no such response_format", param="response_format")
        seconds = fate.seconds[number % len(fate.seconds)]
        if number < len(fate.first):
            return _after(seconds, fate.first[number])
        if fate.names[-1] != ASKED_AGAIN:
            self.ended[call.step] += 1
        return _after(seconds, self._reply(call) if fate.last is None else fate.last)

    def _draw(self, words: str) -> Fate:
        scenario = self._scenario
        dice = Random(f"{scenario.seed} {words}")
        names: list[str] = []
        while dice.random() < scenario.trouble and len(names) < scenario.most_trouble:
            name = dice.choice(list(PASSING))
            if name != "malformed" or name not in names:  # the second is the last: a restarted gateway counts anew
                names.append(name)
        first = [PASSING[name](dice) for name in names]
        last, end = None, "replied"
        if dice.random() < scenario.trouble / 4:
            end = dice.choice([name for name in FINAL if not (scenario.strict and name in FOR_ALL)])
            last = FINAL[end](dice)
        elif not scenario.strict and dice.random() < scenario.trouble / 8:
            last, end = PASSING[dice.choice(ENDLESS)](dice), ASKED_AGAIN
        seconds = tuple(round(dice.random() ** 2 * scenario.latency, 3) for _ in range(3))
        return Fate(tuple(first), last, seconds, (*names, end))

    def _reply(self, call: ModelCall) -> Any:
        match call.role:
            case AgentRole.ORCHESTRATOR:
                task = call.text.partition(": ")[2]
                count = 1 + self._roll(task, 3)
                return Plan(subtasks=tuple(f"part {n} of {task}" for n in range(count)))
            case AgentRole.CODER:
                subtask = SUBTASK.search(call.text)
                name = subtask[0] if subtask else call.text.partition(": ")[2]
                return f"draft of {name}, {digest([call.text])}"
            case AgentRole.REVIEWER:
                return self._review(call)
            case _:
                return self._said(call)

    def _review(self, call: ModelCall) -> Any:
        score = self._roll(call.text, 11)
        if call.text.startswith("Review: part"):
            subtask = SUBTASK.search(call.text)
            draft = call.text.partition("draft of ")[2]
            if subtask is None or not draft.startswith(subtask[0] + ","):
                self.crossed.append(call.text)
        return Review(issues=(f"issue {score}",), score=score, approved=score >= 5)

    def _said(self, call: ModelCall) -> Any:
        said = SAID.findall("\n".join(m.content for m in call.messages if m.role == "user"))
        whole = digest(said)
        if call.request.schema is None:
            return f"[{said[-1]} {whole}]"
        if self._roll(said[-1], 3) == 0 and call.text.startswith("say "):  # the first answer is no JSON
            return "I would rather not."
        return ChatReply(text=msgspec.json.encode(Verdict(label=said[-1], digest=whole)).decode())

    def _roll(self, words: str, sides: int) -> int:
        return int(digest([str(self._scenario.seed), words]), 16) % sides


def _after(seconds: float, answer: Any) -> Any:
    return answer if isinstance(answer, Slow) else Slow(answer=answer, seconds=seconds)
