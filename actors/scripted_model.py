"""The scripted model: the provider of a test. It stands behind the real gateway, limiter and retry policy.

What it is asked are HTTP calls, so a retry is one more call. It is strict: a call that it has no answer for fails the
test with what was asked.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from actors.base import in_words
from actors.scripted_answers import Answer, Slow, as_answer
from protocol.chat import CallFailure, ChatMessage, ChatReply, ChatRequest, Usage
from protocol.errors import ErrorKind
from protocol.signals import ChatCall


class ModelCall(Struct, frozen=True, kw_only=True):
    """One HTTP call as the provider gets it: who asked (*asked*), and the *request* as the gateway rendered it.

    *attempt* counts from 1; *at* is in virtual seconds.
    """

    asked: ChatCall
    request: ChatRequest
    attempt: int
    at: float

    @property
    def role(self) -> str:
        """The role of the agent that asked."""
        return self.asked.role

    @property
    def step(self) -> str:
        """The step that awaits the answer; the same for every attempt."""
        return self.asked.step

    @property
    def messages(self) -> tuple[ChatMessage, ...]:
        """The whole chat."""
        return self.request.messages

    @property
    def text(self) -> str:
        """The last message's text: what is asked now."""
        return self.request.messages[-1].content

    @property
    def system(self) -> str:
        """The system prompt, empty when there is none."""
        first = self.request.messages[0]
        return first.content if first.role == "system" else ""

    def __str__(self) -> str:
        return f"{self.role} asked ({self.step}, attempt {self.attempt}, {self.at:g} s): {self.text[:200]}"


When = Callable[[ModelCall], bool] | str
"""A predicate on the call, or a regular expression searched for in its last message."""
Said = Answer | Slow | Sequence[Any] | Callable[[ModelCall], Any]
"""One answer for every call, a list used up in order, or a function of the call."""


class Rule:
    """What to answer to the calls of *role* (None: of any) that *when* holds for."""

    def __init__(self, role: str | None, said: Said, when: When | None) -> None:
        self.role = role
        self.when = re.compile(when, re.DOTALL) if isinstance(when, str) else when
        self.said = said
        self.left: list[Any] | None = list(said) if isinstance(said, list | tuple) else None
        self.total = len(self.left or ())
        for each in [said] if self.left is None else self.left:
            if not callable(each):
                as_answer(each.answer if isinstance(each, Slow) else each)  # a script that cannot be is refused here

    def wants(self, call: ModelCall) -> bool:
        """Tell whether this rule is meant for *call*, with an answer left or without."""
        if self.role is not None and self.role != call.role:
            return False
        if isinstance(self.when, re.Pattern):
            return self.when.search(call.text) is not None
        return self.when is None or bool(self.when(call))

    def take(self, call: ModelCall) -> Any:
        """Return the answer to *call*, the next one of a list. Raises what a function of the call raises."""
        said = self.left.pop(0) if self.left is not None else self.said
        return said(call) if callable(said) else said

    def __str__(self) -> str:
        when = self.when.pattern if isinstance(self.when, re.Pattern) else getattr(self.when, "__name__", None)
        return f"{self.role or 'any role'}" + (f" when {when}" if when else "")


class ScriptedModel:
    """Answers model calls by script; ``latency`` is in virtual seconds a call.

    *answers* maps a role to what its model says, or is what it says to every role: one thing for every call, a list
    used up in order, or a function of the :class:`ModelCall`. See ``actors.testing`` for failures that can be said.
    """

    def __init__(self, answers: dict[str, Any] | Said | None = None, *, latency: float = 0.0) -> None:
        self.latency = latency
        self.calls: list[ModelCall] = []
        self.cancelled: list[str] = []
        self.under_way: set[str] = set()
        self.unexpected: list[str] = []
        self.errors: list[BaseException] = []
        self._rules: list[Rule] = []
        if isinstance(answers, dict):
            for role, said in answers.items():
                self.on(role, said)
        elif answers is not None:
            self.on(None, answers)

    def on(self, role: str | None, said: Said, *, when: When | None = None) -> ScriptedModel:
        """Say *said* to the calls of *role* (None: of any role) that *when* holds for; returns itself.

        *when* is a predicate on the :class:`ModelCall`, or a regular expression searched for in its last message. A
        rule with *when* goes before those without; otherwise the first that was given goes first, and a list that is
        used up gives way to the next. Raises ``TypeError`` for what no provider can say.
        """
        rule = Rule(None if role is None else str(role), said, when)
        first_plain = next((n for n, known in enumerate(self._rules) if known.when is None), len(self._rules))
        self._rules.insert(first_plain if when is not None else len(self._rules), rule)
        return self

    def expect_used_up(self) -> None:
        """Fail when a list of answers has some left."""
        left = [f"{rule}: {len(rule.left)} of {rule.total}" for rule in self._rules if rule.left]
        if left:
            raise AssertionError(f"the scripted model was asked less than expected; answers left: {'; '.join(left)}")

    # --- what a line asks

    def answer(self, call: ModelCall) -> tuple[ChatReply | CallFailure, float]:
        """Return what to say to *call*, and after how many seconds. Never raises; :meth:`blame` says what was amiss."""
        self.calls.append(call)
        try:
            said = self._say(call)
            seconds, said = (said.seconds, said.answer) if isinstance(said, Slow) else (self.latency, said)
            answer = as_answer(said)
        except BaseException as error:  # noqa: BLE001 (a function of the test's: it is raised again in the test itself)
            self.errors.append(error)
            return _given_up(in_words(error)), 0.0
        return _with_usage(call, answer), seconds

    def blame(self) -> str | None:
        """Return what was asked or answered wrong and has not been told yet; None when nothing was."""
        if self.unexpected:
            told, self.unexpected = self.unexpected, []
            return "the scripted model was asked something unexpected: " + "; ".join(told)
        if self.errors:
            return f"an answer of the scripted model raised {in_words(self.errors[0])}"
        return None

    def _say(self, call: ModelCall) -> Any:
        meant = [rule for rule in self._rules if rule.wants(call)]
        for rule in meant:
            if rule.left != []:
                return rule.take(call)
        why = "its answers are used up" if meant else self._known()
        self.unexpected.append(f"{call} ({why})")
        return _given_up(self.unexpected[-1])

    def _known(self) -> str:
        return f"there are answers for: {', '.join(str(rule) for rule in self._rules) or 'nobody'}"


def _given_up(why: str) -> CallFailure:
    """Return a failure of a kind that is not tried again, so that the test ends and can tell *why*."""
    return CallFailure(kind=ErrorKind.INTERNAL, message=f"the scripted model has no answer; {why}")


def _with_usage(call: ModelCall, answer: ChatReply | CallFailure) -> ChatReply | CallFailure:
    """Count words as tokens where the reply counts none, as a provider would send it."""
    if isinstance(answer, CallFailure):
        return answer
    usage = Usage(input_tokens=sum(len(m.content.split()) for m in call.messages))
    if answer.usage is None:
        usage += Usage(output_tokens=len(answer.text.split()))
    elif answer.usage.input_tokens:
        usage = answer.usage
    else:
        usage += answer.usage
    return replace(answer, usage=usage)
