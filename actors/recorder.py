"""The recorder in memory: every awaited answer passes here before it is delivered.

The first answer for a step wins; a later one is a dead letter. What is kept of a run is forgotten when the run has
ended. It lies in the mailbox, which outlives the instance: a restarted recorder has lost nothing.
"""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from actors.base import Actor
from protocol import ids
from protocol.policies.recent import Recent
from protocol.signals import Answer, Forget, Recall, Recalled


class Record:
    """The answers of one run in the order in which they came, and when the run first asked for them."""

    __slots__ = ("answers", "began")

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.began: float | None = None


class Records(dict[str, Record]):
    """The records of the runs that are under way, and which runs have ended lately."""

    def __init__(self) -> None:
        super().__init__()
        self.ended = Recent()


class Recorder(Actor):
    """Keeps the answers of runs that are under way."""

    def __init__(self) -> None:
        super().__init__()
        self._runs = Records()

    def setup(self) -> None:
        """Take over what an earlier instance kept, and the answer that it failed on: somebody waits for it."""
        mailbox = self.actor_inbox
        if mailbox.held is None:
            mailbox.held = self._runs
        assert isinstance(mailbox.held, Records)
        self._runs = mailbox.held
        unfinished, mailbox.failed_on = mailbox.failed_on, None
        if isinstance(unfinished, Answer):
            self._take_back(unfinished)
        if isinstance(unfinished, (Answer, Recall, Forget)):
            mailbox.put_back(unfinished)

    def on_receive(self, message: Any) -> None:
        """Record and deliver, recall, or forget."""
        match message:
            case Answer():
                self._record(message)
            case Recall():
                self._recall(message)
            case Forget():
                self._forget(message.run)
            case _:
                self._directory.dead_letter(self.address, f"no use for {type(message).__name__}", message)

    def _record(self, answer: Answer) -> None:
        if answer.to not in self._directory.mailboxes:
            self._directory.dead_letter(answer.to, "whoever asked has gone", answer)
            return
        stamped = replace(answer, at=self.wall())
        run = ids.run_of(answer.step)
        if not self._is_late(answer.step, run):  # else it is passed on and not kept
            answers = self._open(run).answers
            if answer.step in answers:
                self._directory.dead_letter(answer.to, "a second answer for the same step", answer)
                return
            answers[answer.step] = stamped
        self.tell(answer.to, stamped)

    def _is_late(self, step: str, run: str) -> bool:
        """Tell whether *step* is of a run that has ended, or of a conversation that was told and has ended."""
        ended, record = self._runs.ended, self._runs.get(run)
        if run in ended:
            return True
        return (record is None or record.began is None) and any(above in ended for above in ids.above(step))

    def _take_back(self, answer: Answer) -> None:
        """Forget *answer* when the turn that failed had recorded it already: it has not been delivered."""
        record = self._runs.get(ids.run_of(answer.step))
        recorded = None if record is None else record.answers.get(answer.step)
        if record is not None and recorded is not None and recorded.payload is answer.payload:
            del record.answers[answer.step]

    def _recall(self, recall: Recall) -> None:
        inside = recall.conversation + "/"
        run = ids.run_of(recall.conversation)
        if run == recall.conversation:
            self._runs.ended.discard(run)
            record = self._open(run)
            record.began = self.wall() if record.began is None else record.began
        else:
            record = self._runs.get(run) or Record()
        recalled = Recalled(
            conversation=recall.conversation,
            answers=tuple(answer for step, answer in record.answers.items() if step.startswith(inside)),
            answered=recall.conversation in record.answers or self._is_late(recall.conversation, run),
            began=record.began or 0.0,
        )
        self.tell(recall.reply_to, recalled)

    def _open(self, run: str) -> Record:
        record = self._runs.get(run)
        if record is None:
            record = self._runs[run] = Record()
        return record

    def _forget(self, what: str) -> None:
        """Forget a run; or a conversation of somebody who was told something and never asked."""
        run = ids.run_of(what)
        self._runs.ended.add(what)
        if what == run:
            self._runs.pop(run, None)
        elif (record := self._runs.get(run)) is not None:
            for step in [step for step in record.answers if step.startswith(what + "/")]:
                del record.answers[step]
            if not record.answers and record.began is None:
                del self._runs[run]
