"""The team's workflow: plan, code in parallel, review each draft as soon as it is there, revise by the rules.

There is no barrier: a draft goes to the reviewer while others are still being written, and comes back to its coder
alone.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from actors.workflow import Outcome, Workflow
from protocol.errors import ErrorKind, TaskFailed
from protocol.messages import Accepted
from protocol.plan import Brief, Plan, Review
from protocol.policies.complexity import estimate
from protocol.policies.feedback import Next, judge
from protocol.policies.planning import tidy
from protocol.roles import AgentRole

NO_VERDICT = (ErrorKind.INVALID_OUTPUT, ErrorKind.TRUNCATED)
"""A review that cannot be read says nothing about the draft."""


class TeamRules(Struct, frozen=True, kw_only=True):
    """How a team works together; the ``[team]`` table of the configuration."""

    plan: str = "auto"
    fan_out: str = "auto"
    split: str = "auto"
    max_rounds: int = 2
    accept_score: int = 7
    max_subtasks: int = 32
    max_parallel: int = 5


class Draft(Struct, kw_only=True):
    """The best draft of one subtask so far, and how it stands."""

    subtask: str
    text: str = ""
    score: int | None = None
    accepted: bool = False
    kept: bool = False
    rounds: int = 0
    note: str = ""
    kind: ErrorKind | None = None


class TeamWorkflow(Workflow):
    """Plan -> code -> review -> rounds while rejected -> composed output."""

    rules: TeamRules = TeamRules()

    def __init__(self, start: Any, rules: TeamRules | None = None) -> None:
        super().__init__(start)
        self.rules = rules or self.rules
        self.max_parallel = self.rules.max_parallel
        self.drafts: list[Draft] = []
        self.note = ""

    async def run(self, task: str) -> Outcome:
        """Do *task*; a subtask that fails for good makes the run fail, and leaves the others in the result."""
        subtasks = await self.plan(task)
        self.drafts = [Draft(subtask=subtask) for subtask in subtasks]
        self.report("plan.made", subtasks=subtasks)
        await self.gather(*(self.build(task, draft) for draft in self.drafts))
        return self.outcome()

    async def plan(self, task: str) -> tuple[str, ...]:
        """Return the subtasks; the whole task as the only one when no plan is wanted, or none could be had."""
        complexity = estimate(task)
        if self.rules.plan == "never" or (self.rules.plan == "auto" and not complexity.worth_a_plan):
            self.report("plan.skipped", score=complexity.score, reasons=complexity.reasons)
            return (task,)
        most = self.rules.max_subtasks if self.rules.fan_out == "max" else complexity.fan_out(self.rules.max_subtasks)
        try:
            plan = await self.ask(
                AgentRole.ORCHESTRATOR, task, data=Brief(task=task, subtask=task, most=most), returns=Plan
            )
        except TaskFailed as failure:
            self.note = f"no plan ({failure.result.error}); one coder did the whole task"
            self.report("plan.failed", error=failure.result.error)
            return (task,)
        subtasks = tidy(plan.subtasks, most)
        if len(subtasks) < len(tidy(plan.subtasks, len(plan.subtasks))):
            self.note = f"the plan had more than {most} subtasks; the further ones were merged into the last"
        return await self._split(subtasks) or (task,)

    async def _split(self, subtasks: tuple[str, ...]) -> tuple[str, ...]:
        """Take apart once more what is too large for one coder, within the cap; what cannot be split stays whole."""
        room = self.rules.max_subtasks - len(subtasks)
        large = [subtask for subtask in subtasks if estimate(subtask).too_large] if room > 0 else []
        if self.rules.split == "never" or not large:
            return subtasks
        most = 1 + max(1, room // len(large))
        pieces = dict(zip(large, await self.gather(*(self._pieces(subtask, most) for subtask in large)), strict=True))
        return tidy(tuple(p for subtask in subtasks for p in pieces.get(subtask, (subtask,))), self.rules.max_subtasks)

    async def _pieces(self, subtask: str, most: int) -> tuple[str, ...]:
        brief = Brief(task=subtask, subtask=subtask, most=most)
        try:
            plan = await self.ask(AgentRole.ORCHESTRATOR, subtask, data=brief, returns=Plan)
        except TaskFailed as failure:
            self.report("split.failed", subtask=subtask, error=failure.result.error)
            return (subtask,)
        pieces = tidy(plan.subtasks, most)
        self.report("subtask.split", subtask=subtask, pieces=pieces)
        return pieces or (subtask,)

    async def build(self, task: str, draft: Draft) -> None:
        """Write, review and revise one subtask until it is accepted or the rounds are over."""
        brief = Brief(task=task, subtask=draft.subtask)
        while True:
            try:
                text = await self.ask(AgentRole.CODER, draft.subtask, data=brief)
                draft.text = draft.text or text
                review = await self.ask(AgentRole.REVIEWER, text, data=brief, returns=Review)
            except TaskFailed as failure:
                self._unfinished(draft, failure)
                return
            verdict = judge(
                review, round_=brief.round, accept_score=self.rules.accept_score, max_rounds=self.rules.max_rounds
            )
            self._reviewed(draft, text, review, verdict, brief.round)
            if verdict is not Next.REVISE:
                return
            brief = Brief(task=task, subtask=draft.subtask, draft=text, issues=review.issues, round=brief.round + 1)

    def _reviewed(self, draft: Draft, text: str, review: Review, verdict: Next, round_: int) -> None:
        if draft.score is None or review.score > draft.score or verdict is Next.ACCEPT:
            draft.text, draft.score = text, review.score
        draft.rounds = round_
        draft.accepted = verdict is Next.ACCEPT
        draft.kept = verdict is Next.KEEP
        self.report(
            f"draft.{_PAST[verdict]}",
            subtask=draft.subtask,
            score=review.score,
            round=round_,
            issues=len(review.issues),
        )

    def _unfinished(self, draft: Draft, failure: TaskFailed) -> None:
        """A provider's failure is no judgement; an unreadable verdict ends the rounds and keeps the best."""
        draft.note, draft.kind = str(failure.result.error), failure.result.error_kind
        draft.kept = bool(draft.text) and failure.result.error_kind in NO_VERDICT
        self.report("draft.kept" if draft.kept else "draft.failed", subtask=draft.subtask, error=draft.note)

    def outcome(self) -> Outcome:
        """Put the drafts together; a success when each is accepted, or was kept as the best after the last round."""
        open_ = [draft for draft in self.drafts if not (draft.accepted or draft.kept)]
        error = None
        if open_:
            first = f"{open_[0].subtask}: {open_[0].note}"
            error = f"{len(open_)} of {len(self.drafts)} subtasks have no finished draft: {first}"
        return Outcome(
            output=self.compose(),
            success=bool(self.drafts) and not open_,
            accepted=tuple(
                Accepted(subtask=d.subtask, accepted=d.accepted, score=d.score, rounds=d.rounds, note=d.note)
                for d in self.drafts
            ),
            error=error or self.note or None,
            error_kind=open_[0].kind or ErrorKind.INTERNAL if open_ else None,
        )

    def compose(self) -> str:
        """Return the drafts as one text, each under its subtask."""
        written = [draft for draft in self.drafts if draft.text]
        if len(written) == 1:
            return written[0].text
        return "\n\n".join(f"## {draft.subtask}\n\n{draft.text}" for draft in written)

    def salvage(self) -> Outcome:
        """Keep the drafts of a run that ends before its time."""
        return self.outcome()


_PAST = {Next.ACCEPT: "accepted", Next.REVISE: "rejected", Next.KEEP: "kept"}
