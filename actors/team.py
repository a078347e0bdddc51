"""The team's workflow: plan, code in parallel, review each draft as soon as it is there, revise by the rules.

There is no barrier: a draft goes to the reviewer while others are still being written, and comes back to its coder
alone. Facts come before opinions: where drafts are run, one that fails goes back with what failed, unreviewed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import Struct
from msgspec.structs import asdict, replace

from actors.asking import decode
from actors.workflow import Outcome, Workflow
from protocol import ids
from protocol.errors import ErrorKind, TaskFailed
from protocol.facts import Checked, Facts
from protocol.messages import Accepted, TaskResult
from protocol.plan import Brief, Plan, Verdict
from protocol.policies.code_blocks import given_tests
from protocol.policies.complexity import estimate
from protocol.policies.composition import compose
from protocol.policies.facts_gate import failures, in_words, proven, reached, shorten
from protocol.policies.feedback import Judgement, Left, Next, Round, Rules, Stop, alike, best_of, judge
from protocol.policies.planning import own_words, tidy
from protocol.policies.progress_guard import Advice, Output, Patience, ProgressGuard, Reaction
from protocol.roles import AgentRole
from protocol.signals import Graded

if TYPE_CHECKING:
    from collections.abc import Iterable

NO_VERDICT = (ErrorKind.INVALID_OUTPUT, ErrorKind.TRUNCATED)
"""A review that cannot be read says nothing about the draft."""
REPEATS = (Stop.CYCLE, Stop.SAME_CRITIQUE)
"""What the progress guard sees to."""


class TeamRules(Struct, frozen=True, kw_only=True):
    """How a team works together; the ``[team]`` table of the configuration.

    ``budget_usd`` is what the run may spend, ``ladder`` whether there is a stronger model to turn to.
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
    history: tuple[Round, ...] = ()
    facts: Checked | None = None
    checked: tuple[Checked | None, ...] = ()

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
        self._run_began = 0.0

    async def run(self, task: str) -> Outcome:
        """Do *task*; a subtask that fails for good makes the run fail, and leaves the others in the result."""
        self._run_began = self.now()
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
        """Take apart once more what is too large for one coder, within the cap; what cannot be split stays whole."""
        room = self.rules.max_subtasks - len(subtasks)
        large = [subtask for subtask in subtasks if estimate(own_words(subtask, task)).too_large]
        if self.rules.split == "never" or not large or room <= 0:
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
        """Write, run, review and revise one subtask until it is accepted, or another round is not worth it."""
        tests = given_tests(draft.subtask) or (given_tests(task) if len(self.drafts) == 1 else "")
        brief: Brief | None = Brief(task=task, subtask=draft.subtask, rounds=self.rules.max_rounds + 1, tests=tests)
        guard = ProgressGuard(alike, Patience(noise=self.rules.judge_noise), stronger=self.rules.ladder)
        while brief is not None:
            try:
                brief = await self._round(draft, brief, guard)
            except TaskFailed as failure:
                self._unfinished(draft, failure)
                return

    async def _round(self, draft: Draft, brief: Brief, guard: ProgressGuard) -> Brief | None:
        """Write a draft, run it, have it reviewed; return what its coder is told next, None when the loop is over.

        A draft that is an earlier one again is neither run nor reviewed again. Raises ``TaskFailed`` for what is no
        judgement.
        """
        began = self.now()
        written = await self.ask(AgentRole.CODER, draft.subtask, data=brief, returns=TaskResult)
        text, results = written.result or "", [written]
        draft.text = draft.text or text
        guarded = self.rules.progress_guard == "auto"
        twin = next((n for n, earlier in enumerate(draft.history) if guarded and alike(text, earlier.text)), None)
        if twin is None:
            facts = await self.run_code(draft, text, brief)
            review = await self._review(draft, text, brief, facts, results)
            draft.checked += (None if facts is None else shorten(facts),)
            round_ = _found(text, facts, review)
        else:
            review, round_ = None, replace(draft.history[twin], text=text, score=None, issues=draft.history[-1].issues)
            draft.checked += (draft.checked[twin],)
        took = self.now() - began
        draft.history += (replace(round_, cost_usd=_sum(result.cost_usd for result in results), seconds=took),)
        return self._decided(draft, brief, guard, review, results, again=twin is not None)

    def _decided(
        self,
        draft: Draft,
        brief: Brief,
        guard: ProgressGuard,
        review: Verdict | None,
        results: list[TaskResult],
        *,
        again: bool,
    ) -> Brief | None:
        """Judge the last round, let everybody hear of it, and return what the coder is told next."""
        last, written = draft.history[-1], results[0]
        judgement = judge(draft.history, self.rules.judging(), self._left(draft), REPEATS if again else ())
        advice = Advice(Reaction.GO_ON)
        if self.rules.progress_guard == "auto" and judgement.next is Next.REVISE:
            tokens = sum(result.usage.input_tokens + result.usage.output_tokens for result in results)
            advice = guard.on_output(Output(text=last.text, score=last.score, cost=tokens))
        if advice.reaction is Reaction.STOP:
            judgement = judgement._replace(next=Next.KEEP, why=Stop.CYCLE if again else Stop.PLATEAU)
        if last.score is not None or last.passed is not None:
            self._grade(written, good=judgement.next is Next.ACCEPT, fact=last.passed is not None)
        self._judged(draft, judgement, review)
        return self._next(brief, draft, advice, written.model) if judgement.next is Next.REVISE else None

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

    async def _review(
        self, draft: Draft, text: str, brief: Brief, facts: Facts | None, results: list[TaskResult]
    ) -> Verdict | None:
        """Return the verdict on *text*; None where it failed, or when nobody can read it: that says nothing about it.

        The reviewer's result is added to *results*.
        """
        if failures(facts):
            return None
        told = brief if facts is None else replace(brief, facts=in_words(shorten(facts)))
        try:
            result = await self.ask(AgentRole.REVIEWER, text, data=told, returns=TaskResult)
        except TaskFailed as failure:
            if failure.result.error_kind not in NO_VERDICT:
                raise
            results.append(failure.result)
            draft.note = str(failure.result.error)
            return None
        results.append(result)
        return decode(result, Verdict)

    def _grade(self, result: TaskResult, *, good: bool, fact: bool = False) -> None:
        """Let those who choose models learn what became of a task's work; not again when a resumed run catches up."""
        if not self._running.replaying:
            self.tell(ids.GATEWAY, Graded(task=result.task_id, good=good, fact=fact))

    def _next(self, brief: Brief, draft: Draft, advice: Advice, model: str | None) -> Brief:
        """Return what the coder is told next: the last draft, or the best when the last is worse, and its issues."""
        last, best = draft.history[-1], draft.history[best_of(draft.history, self.rules.judge_noise)]
        shown = best if last.score is None or (best.score or 0) > last.score else last
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
        usd, seconds = self.rules.budget_usd, self._start.timeout
        if usd is not None:
            usd = usd / len(self.drafts) - sum(round_.cost_usd or 0.0 for round_ in draft.history)
        return Left(usd=usd, seconds=None if seconds is None else seconds - (self.now() - self._run_began))

    def _judged(self, draft: Draft, judgement: Judgement, review: Verdict | None) -> None:
        verdict, last = judgement.next, draft.history[-1]
        number = len(draft.history) - 1 if verdict is Next.ACCEPT else judgement.best
        best = draft.history[number]
        draft.text, draft.score = best.text, best.score
        draft.facts = draft.checked[number] or draft.facts
        draft.rounds = len(draft.history) - 1
        draft.accepted = verdict is Next.ACCEPT
        draft.kept = verdict is Next.KEEP
        if draft.kept:
            draft.note = draft.note or f"kept as the best: {judgement.why}"
        self.report(
            f"draft.{_PAST[verdict]}",
            subtask=draft.subtask,
            score=last.score,
            round=draft.rounds,
            issues=len(last.issues),
            why=judgement.why,
            checks=_by_aspect(review),
            error=draft.note or None,
        )

    def _unfinished(self, draft: Draft, failure: TaskFailed) -> None:
        """A provider's failure is no judgement, and leaves the draft unfinished; a cut revision keeps the best."""
        draft.note, draft.kind = str(failure.result.error), failure.result.error_kind
        draft.kept = bool(draft.history) and failure.result.error_kind in NO_VERDICT
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


def _found(text: str, facts: Facts | None, review: Verdict | None) -> Round:
    """Return what was found about a draft: what failed, or where nothing did, the reviewer's opinion."""
    failed = failures(facts)
    return Round(
        text=text,
        score=None if review is None else review.score,
        approved=review is not None and review.approved,
        issues=failed or (() if review is None else review.issues),
        passed=proven(facts),
        reached=reached(facts),
    )


def _by_aspect(review: Verdict | None) -> dict[str, bool]:
    """Return whether each aspect passes: when all of its items do."""
    passes: dict[str, bool] = {}
    for check in () if review is None else review.checks:
        passes[check.aspect] = passes.get(check.aspect, True) and check.passes
    return passes


def _sum(costs: Iterable[float | None]) -> float | None:
    """Return the sum, None as soon as one is unknown."""
    known = list(costs)
    return None if None in known else sum(cost or 0.0 for cost in known)
