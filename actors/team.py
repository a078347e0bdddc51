"""The team's workflow: plan, code in parallel, review each draft as soon as it is there, revise by the rules.

There is no barrier: a draft goes to the reviewer while others are still being written, and comes back to its coder
alone. Facts come before opinions: where drafts are run, one that fails goes back with what failed, unreviewed.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct
from msgspec.structs import asdict, replace

from actors.workflow import Outcome, Workflow
from protocol.errors import ErrorKind, TaskFailed
from protocol.facts import Checked, Facts
from protocol.messages import Accepted
from protocol.plan import Brief, Plan, Review
from protocol.policies.code_blocks import given_tests
from protocol.policies.complexity import estimate
from protocol.policies.composition import compose
from protocol.policies.facts_gate import Standing, failures, in_words, shorten, standing
from protocol.policies.feedback import Next, judge
from protocol.policies.planning import tidy
from protocol.roles import AgentRole

NO_VERDICT = (ErrorKind.INVALID_OUTPUT, ErrorKind.TRUNCATED)
"""A review that cannot be read says nothing about the draft."""


class TeamRules(Struct, frozen=True, kw_only=True):
    """How a team works together; the ``[team]`` table of the configuration."""

    plan: str = "auto"
    max_rounds: int = 2
    accept_score: int = 7
    max_subtasks: int = 32
    max_parallel: int = 5


class Running(Struct, frozen=True, kw_only=True):
    """Whether drafts are run; ``reason`` says why they are not, although they should be."""

    on: bool = False
    reason: str = ""


class Draft(Struct, kw_only=True):
    """The best draft of one subtask so far, and how it stands."""

    subtask: str
    text: str = ""
    score: int | None = None
    accepted: bool = False
    kept: bool = False
    rounds: int = 0
    origin: str = ""
    note: str = ""
    kind: ErrorKind | None = None
    facts: Checked | None = None
    standing: Standing | None = None

    def accepted_as(self) -> Accepted:
        """Return what the result says of it; a note says where the subtask came from, and what went wrong."""
        note = "; ".join(filter(None, (self.origin, self.note)))
        return Accepted(
            subtask=self.subtask,
            accepted=self.accepted,
            score=self.score,
            rounds=self.rounds,
            note=note,
            facts=self.facts,
        )


class TeamWorkflow(Workflow):
    """Plan -> code -> review -> rounds while rejected -> composed output."""

    rules: TeamRules = TeamRules()
    checks = frozenset({AgentRole.EXECUTOR})

    def __init__(self, start: Any, rules: TeamRules | None = None, running: Running | None = None) -> None:
        super().__init__(start)
        self.rules = rules or self.rules
        self.running = running or Running()
        self.max_parallel = self.rules.max_parallel
        self.drafts: list[Draft] = []
        self.note = ""

    async def run(self, task: str) -> Outcome:
        """Do *task*; a subtask that fails for good makes the run fail, and leaves the others in the result."""
        subtasks = await self.plan(task)
        unknown = Checked(note=f"not run: {self.running.reason}") if self.running.reason else None
        self.drafts = [Draft(subtask=subtask, facts=unknown) for subtask in subtasks]
        self.drafts[-1].origin = self.note
        self.report("plan.made", subtasks=subtasks)
        if self.running.reason:
            self.report("drafts.not_run", reason=self.running.reason)
        await self.gather(*(self.build(task, draft) for draft in self.drafts))
        return self.outcome()

    async def plan(self, task: str) -> tuple[str, ...]:
        """Return the subtasks; the whole task as the only one when no plan is wanted, or none could be had."""
        complexity = estimate(task)
        if self.rules.plan == "never" or (self.rules.plan == "auto" and not complexity.worth_a_plan):
            self.report("plan.skipped", score=complexity.score, reasons=complexity.reasons)
            return (task,)
        try:
            plan = await self.ask(AgentRole.ORCHESTRATOR, task, returns=Plan)
        except TaskFailed as failure:
            self.note = f"no plan ({failure.result.error}): one coder does the whole task"
            self.report("plan.failed", error=failure.result.error)
            return (task,)
        subtasks = tidy(plan.subtasks, self.rules.max_subtasks)
        if len(subtasks) < len(tidy(plan.subtasks, len(plan.subtasks))):
            self.note = (
                f"the plan had more than {self.rules.max_subtasks} subtasks: the further ones were merged into this"
            )
        return subtasks or (task,)

    async def build(self, task: str, draft: Draft) -> None:
        """Write, run, review and revise one subtask until it is accepted or the rounds are over."""
        tests = given_tests(draft.subtask) or (given_tests(task) if len(self.drafts) == 1 else "")
        brief = Brief(task=task, subtask=draft.subtask, tests=tests)
        while True:
            try:
                text = await self.ask(AgentRole.CODER, draft.subtask, data=brief)
                draft.text = draft.text or text
                facts = await self.run_code(draft, text, brief)
                review = await self.review(text, brief, facts)
            except TaskFailed as failure:
                self._unfinished(draft, failure)
                return
            verdict = judge(
                review, round_=brief.round, accept_score=self.rules.accept_score, max_rounds=self.rules.max_rounds
            )
            self._reviewed(draft, text, review, verdict, brief.round, facts)
            if verdict is not Next.REVISE:
                return
            brief = replace(brief, draft=text, issues=review.issues, round=brief.round + 1)

    async def run_code(self, draft: Draft, text: str, brief: Brief) -> Facts | None:
        """Return what running *text* showed; None where drafts are not run. An executor that failed says nothing."""
        if not self.running.on:
            return None
        try:
            what = Brief(task="", subtask=brief.subtask, tests=brief.tests)
            facts = await self.ask(AgentRole.EXECUTOR, text, data=what, returns=Facts)
        except TaskFailed as failure:
            facts = Facts(note=f"not run: {failure.result.error}")
        short = shorten(facts)
        if draft.standing is None:
            draft.facts = short
        self.report("draft.checked", subtask=brief.subtask, round=brief.round, **asdict(short))
        return facts

    async def review(self, text: str, brief: Brief, facts: Facts | None) -> Review:
        """Return what is to be mended: what failed, or where nothing did, the reviewer's opinion."""
        failed = failures(facts)
        if failed:
            return Review(issues=failed, score=0, approved=False)
        told = brief if facts is None else replace(brief, facts=in_words(shorten(facts)))
        return await self.ask(AgentRole.REVIEWER, text, data=told, returns=Review)

    def _reviewed(
        self, draft: Draft, text: str, review: Review, verdict: Next, round_: int, facts: Facts | None
    ) -> None:
        score = None if failures(facts) else review.score
        now = standing(facts, score)
        if draft.standing is None or now > draft.standing or verdict is Next.ACCEPT:
            draft.text, draft.score, draft.standing = text, score, now
            draft.facts = draft.facts if facts is None else shorten(facts)
        draft.rounds = round_
        draft.accepted = verdict is Next.ACCEPT
        draft.kept = verdict is Next.KEEP
        self.report(
            f"draft.{_PAST[verdict]}",
            subtask=draft.subtask,
            score=score,
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
            have = "has" if len(open_) == 1 else "have"
            error = f"{len(open_)} of {len(self.drafts)} subtasks {have} no finished draft: {first}"
        return Outcome(
            output=self.compose(),
            success=bool(self.drafts) and not open_,
            accepted=tuple(draft.accepted_as() for draft in self.drafts),
            error=error,
            error_kind=open_[0].kind or ErrorKind.INTERNAL if open_ else None,
        )

    def compose(self) -> str:
        """Return the drafts as one text, each under its subtask."""
        return compose([(draft.subtask.partition("\n")[0], draft.text) for draft in self.drafts if draft.text])

    def salvage(self) -> Outcome:
        """Keep the drafts of a run that ends before its time."""
        return self.outcome()


_PAST = {Next.ACCEPT: "accepted", Next.REVISE: "rejected", Next.KEEP: "kept"}
