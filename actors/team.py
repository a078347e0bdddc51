"""The team's workflow: plan, code in parallel, review each draft as soon as it is there, revise by the rules.

There is no barrier: a draft goes to the reviewer while others are still being written, and comes back to its coder
alone. Facts come before opinions: where drafts are run, one that fails goes back with what failed, unreviewed.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct
from msgspec.structs import asdict, replace

from actors.asking import decode
from actors.workflow import Outcome, Workflow
from protocol import ids
from protocol.draft import Draft, by_aspect, in_short, mark, round_of, total
from protocol.errors import ErrorKind, TaskFailed
from protocol.facts import Checked, Facts
from protocol.ledger import NANO
from protocol.messages import TaskResult
from protocol.plan import Brief, Plan, Verdict
from protocol.policies.code_blocks import given_tests
from protocol.policies.complexity import estimate
from protocol.policies.composition import compose
from protocol.policies.facts_gate import failures, in_words, proven, shorten
from protocol.policies.feedback import Left, Next, Rules, Stop, alike, judge
from protocol.policies.planning import Planner, own_words, tidy
from protocol.policies.progress_guard import Advice, Output, Patience, ProgressGuard, Reaction
from protocol.policies.token_estimate import estimate as tokens_of
from protocol.roles import AgentRole
from protocol.signals import Graded

NO_VERDICT = (ErrorKind.INVALID_OUTPUT, ErrorKind.TRUNCATED)
"""A review that cannot be read says nothing about the draft."""
REPEATS = (Stop.CYCLE, Stop.SAME_CRITIQUE)
"""What the progress guard sees to."""


class TeamRules(Struct, frozen=True, kw_only=True):
    """How a team works together; the ``[team]`` table of the configuration.

    ``budget_usd`` is what the run may spend, ``ladder`` whether there is a stronger model to turn to, ``planner`` what
    a plan costs.
    """

    plan: str = "auto"
    fan_out: str = "auto"
    split: str = "auto"
    max_rounds: int = 2
    accept_score: int = 7
    max_subtasks: int = 32
    max_parallel: int = 5
    stop_rules: str = "auto"
    progress_guard: str = "auto"
    judge_noise: float = 2.5
    budget_usd: float | None = None
    ladder: bool = False
    planner: Planner = Planner()

    def judging(self) -> Rules:
        """Return the rules that end a feedback loop."""
        return Rules(
            accept_score=self.accept_score,
            max_rounds=self.max_rounds,
            noise=self.judge_noise,
            early=self.stop_rules == "auto",
        )


class Running(Struct, frozen=True, kw_only=True):
    """Whether drafts are run; ``reason`` says why they are not, although they should be."""

    on: bool = False
    reason: str = ""


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
        self.spared: int | None = 0
        self._run_began = 0.0

    async def run(self, task: str) -> Outcome:
        """Do *task*; a subtask that fails for good makes the run fail, and leaves the others in the result."""
        self._run_began = self.now()
        subtasks = await self.plan(task)
        unknown = Checked(note=f"not run: {self.running.reason}") if self.running.reason else None
        self.drafts = [Draft(subtask=subtask, noise=self.rules.judge_noise, facts=unknown) for subtask in subtasks]
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
            if self.rules.plan == "auto":
                self.spared = self.rules.planner.spared(tokens_of(task))
            self.report("plan.skipped", score=complexity.score, reasons=complexity.reasons)
            return (task,)
        most = self.rules.max_subtasks if self.rules.fan_out == "max" else complexity.fan_out(self.rules.max_subtasks)
        try:
            plan = await self.ask(
                AgentRole.ORCHESTRATOR, task, data=Brief(task=task, subtask=task, most=most), returns=Plan
            )
        except TaskFailed as failure:
            self.note = f"no plan ({failure.result.error}): one coder does the whole task"
            self.report("plan.failed", error=failure.result.error)
            return (task,)
        subtasks = tidy(plan.subtasks, most)
        if len(subtasks) < len(tidy(plan.subtasks, len(plan.subtasks))):
            self.note = f"the plan had more than {most} subtasks: the further ones were merged into this"
        return await self._split(task, subtasks) or (task,)

    async def _split(self, task: str, subtasks: tuple[str, ...]) -> tuple[str, ...]:
        """Take apart once more what is too large for one coder, within the cap; what cannot be split stays whole.

        So does a subtask that brings tests: they are those of the whole of it.
        """
        room = max(0, self.rules.max_subtasks - len(subtasks))
        whole = (subtask for subtask in subtasks if not given_tests(subtask))
        large = [subtask for subtask in whole if estimate(own_words(subtask, task)).too_large][:room]
        if self.rules.split == "never" or not large:
            return subtasks
        most = 1 + room // len(large)
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
        """Write, run, review and revise one subtask until it is accepted, or another round is not worth it."""
        tests = given_tests(draft.subtask) or (given_tests(task) if len(self.drafts) == 1 else "")
        tests = tests if self.running.on else ""
        brief: Brief | None = Brief(task=task, subtask=draft.subtask, rounds=self.rules.max_rounds + 1, tests=tests)
        while brief is not None:
            try:
                brief = await self._round(draft, brief)
            except TaskFailed as failure:
                self._unfinished(draft, failure)
                return

    async def _round(self, draft: Draft, brief: Brief) -> Brief | None:
        """Write a draft, run it, have it reviewed; return what its coder is told next, None when the loop is over.

        A draft that is an earlier one again is not reviewed again; one that differs in little is run all the same.
        Raises ``TaskFailed`` for what is no judgement; what is known of the draft is booked then, too.
        """
        began = self.now()
        written = await self.ask(AgentRole.CODER, draft.subtask, data=brief, returns=TaskResult)
        text, results = written.result or "", [written]
        draft.begin(text)
        guarded = self.rules.progress_guard == "auto"
        known = draft.known(text) if guarded else None
        facts = None if known is not None else await self.run_code(draft, text, brief)
        found = in_short(facts) if known is None else draft.checked[known]
        twin = draft.twin(text, found) if guarded else None
        review, failure = None, None
        if twin is None:
            review, failure = await self._reviewed(draft, text, brief, facts, results)
            round_ = round_of(text, facts, review)
        else:
            round_ = replace(draft.history[twin], text=text, score=None, issues=draft.history[-1].issues)
        cost = total(result.cost_usd for result in results)
        draft.add(replace(round_, cost_usd=cost, seconds=self.now() - began), found)
        if failure is not None:
            raise failure
        return self._decided(draft, brief, review, results, again=twin is not None)

    def _decided(
        self, draft: Draft, brief: Brief, review: Verdict | None, results: list[TaskResult], *, again: bool
    ) -> Brief | None:
        """Judge the last round, let everybody hear of it, and return what the coder is told next."""
        last, written = draft.history[-1], results[0]
        judgement = judge(draft.history, self.rules.judging(), self._left(draft), REPEATS if again else ())
        advice = Advice(Reaction.GO_ON)
        if self.rules.progress_guard == "auto" and judgement.next is Next.REVISE:
            advice = self._watched(draft, results)
        if advice.reaction is Reaction.STOP:
            judgement = replace(judgement, next=Next.KEEP, why=Stop.CYCLE if again else Stop.PLATEAU)
        if last.score is not None or last.passed is not None:
            self._grade(written, good=judgement.next is Next.ACCEPT, fact=last.passed is not None)
        draft.judged(judgement)
        self.report(
            f"draft.{_PAST[judgement.next]}",
            subtask=draft.subtask,
            score=last.score,
            round=draft.rounds,
            issues=len(last.issues),
            why=judgement.why,
            checks=by_aspect(review),
            found="" if draft.checked[-1] is None else in_words(draft.checked[-1]),
            error=draft.note or None,
        )
        return self._next(brief, draft, advice, written.model) if judgement.next is Next.REVISE else None

    def _watched(self, draft: Draft, results: list[TaskResult]) -> Advice:
        """Let the draft's guard look at its last round; there is one as soon as there is a draft to be mended."""
        last = draft.history[-1]
        if draft.guard is None:
            draft.guard = ProgressGuard(alike, Patience(noise=self.rules.judge_noise), stronger=self.rules.ladder)
        tokens = sum(result.usage.input_tokens + result.usage.output_tokens for result in results)
        return draft.guard.on_output(
            Output(text=last.text, mark=mark(last, draft.checked[-1]), score=last.score, cost=tokens)
        )

    async def run_code(self, draft: Draft, text: str, brief: Brief) -> Facts | None:
        """Return what running *text* showed; None where drafts are not run. An executor that failed says nothing."""
        if not self.running.on:
            return None
        try:
            what = Brief(task="", subtask=brief.subtask, tests=brief.tests)
            self.report("check.started", subtask=brief.subtask, round=brief.round)
            facts = await self.ask(AgentRole.EXECUTOR, text, data=what, returns=Facts)
        except TaskFailed as failure:
            facts = Facts(note=f"not run: {failure.result.error}")
        short = shorten(facts)
        if not draft.history:
            draft.facts = short
        self.report("draft.checked", subtask=brief.subtask, round=brief.round, **asdict(short))
        return facts

    async def _reviewed(
        self, draft: Draft, text: str, brief: Brief, facts: Facts | None, results: list[TaskResult]
    ) -> tuple[Verdict | None, TaskFailed | None]:
        """Return the verdict on *text*, or why there could be none; neither where nobody is asked, or can read it.

        What failed is not reviewed; what has passed the given tests needs no verdict. The reviewer's result is added to
        *results*.
        """
        if failures(facts):
            return None, None
        told = brief if facts is None or facts.parsed is None else replace(brief, facts=in_words(shorten(facts)))
        try:
            result = await self.ask(AgentRole.REVIEWER, text, data=told, returns=TaskResult)
        except TaskFailed as failure:
            results.append(failure.result)
            draft.note = str(failure.result.error)
            return None, None if failure.result.error_kind in NO_VERDICT or proven(facts) else failure
        results.append(result)
        return decode(result, Verdict), None

    def _grade(self, result: TaskResult, *, good: bool, fact: bool = False) -> None:
        """Let those who choose models learn what became of a task's work; not again when a resumed run catches up."""
        if not self._running.replaying:
            self.tell(ids.GATEWAY, Graded(task=result.task_id, good=good, fact=fact))

    @staticmethod
    def _next(brief: Brief, draft: Draft, advice: Advice, model: str | None) -> Brief:
        """Return what the coder is told next: the last draft, or the best when the last is worse, and its issues."""
        shown = draft.shown()
        return replace(
            brief,
            draft=shown.text,
            issues=shown.issues,
            round=brief.round + 1,
            hint=advice.hint,
            tried=(*brief.tried, *((model,) if model else ())),
            stronger=advice.reaction is Reaction.STRONGER,
            rounds=brief.rounds - 1,
        )

    def _left(self, draft: Draft) -> Left:
        """Return what a draft may still take: its share of the money, and the time of the run."""
        own, seconds = self._start.max_cost, self._start.timeout
        bounds = [bound for bound in (self.rules.budget_usd, None if own is None else own / NANO) if bound is not None]
        usd = min(bounds) / len(self.drafts) - draft.spent() if bounds else None
        return Left(usd=usd, seconds=None if seconds is None else seconds - (self.now() - self._run_began))

    def _unfinished(self, draft: Draft, failure: TaskFailed) -> None:
        """A provider's failure is no judgement, and leaves the draft unfinished; a cut revision keeps the best."""
        kind = failure.result.error_kind
        draft.failed(str(failure.result.error), kind, kept=kind in NO_VERDICT)
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
            planning=self.spared,
        )

    def compose(self) -> str:
        """Return the drafts as one text, each under its subtask."""
        return compose([(draft.subtask.partition("\n")[0], draft.text) for draft in self.drafts if draft.text])

    def salvage(self) -> Outcome:
        """Keep the drafts of a run that ends before its time."""
        return self.outcome()


_PAST = {Next.ACCEPT: "accepted", Next.REVISE: "rejected", Next.KEEP: "kept"}
