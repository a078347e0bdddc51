"""The recorder in memory: every awaited answer passes here before it is delivered.

The first answer for a step wins; a later one is a dead letter. What is kept of a run is forgotten when the run has
ended.
"""

from __future__ import annotations

from typing import Any, assert_never

from msgspec.structs import replace

from actors.base import Actor
from protocol import ids
from protocol.signals import Answer, Forget, Recall, Recalled

Message = Answer | Recall | Forget


class Recorder(Actor):
    """Keeps the answers of runs that are under way, in the order in which they came."""

    def __init__(self) -> None:
        super().__init__()
        self._runs: dict[str, dict[str, Answer]] = {}

    def on_receive(self, message: Any) -> None:
        """Record and deliver, recall, or forget."""
        known: Message = message
        match known:
            case Answer():
                self._record(known)
            case Recall():
                self._recall(known)
            case Forget():
                self._runs.pop(known.run, None)
            case _:
                assert_never(known)

    def _record(self, answer: Answer) -> None:
        if answer.to not in self._directory.mailboxes:
            self._directory.dead_letter(answer.to, "whoever asked has gone", answer)
            return
        run = self._runs.setdefault(ids.run_of(answer.step), {})
        if answer.step in run:
            self._directory.dead_letter(answer.to, "a second answer for the same step", answer)
            return
        stamped = replace(answer, at=self.wall())
        run[answer.step] = stamped
        self.tell(answer.to, stamped)

    def _recall(self, recall: Recall) -> None:
        run = self._runs.get(ids.run_of(recall.conversation), {})
        inside = recall.conversation + "/"
        mine = [answer for answer in run.values() if answer.to == recall.reply_to and answer.step.startswith(inside)]
        others = {answer.step for answer in mine if answer.kind == "ask"} | set(recall.without)
        answers = tuple(answer for answer in mine if not any(step in others for step in ids.above(answer.step)))
        recalled = Recalled(conversation=recall.conversation, answers=answers, answered=recall.conversation in run)
        self.tell(recall.reply_to, recalled)
