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
from protocol.errors import ErrorKind, TaskFailed
from protocol.facts import Checked, Facts
from protocol.messages import Accepted, TaskResult
from protocol.plan import Brief, Plan, Verdict
from protocol.policies.code_blocks import given_tests
from protocol.policies.complexity import estimate
from protocol.policies.composition import compose
from protocol.policies.facts_gate import failures, in_words, shorten
from protocol.policies.feedback import Judgement, Left, Next, Round, Rules, Stop, alike, best_of, judge
from protocol.policies.planning import own_words, tidy
from protocol.policies.progress_guard import Advice, Output, Patience, ProgressGuard, Reaction
from protocol.roles import AgentRole
from protocol.signals import Graded

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


class Found(Struct, frozen=True, kw_only=True):
    """What was found about one draft: the issues, the facts, and the review unless something failed before it."""

    issues: tuple[str, ...] = ()
    review: Verdict | None = None
    passed: bool | None = None
    facts: Checked | None = None

    def as_round(self, text: str, cost_usd: float | None, seconds: float) -> Round:
        """Return it as a round of the loop."""
        review, facts = self.review, self.facts or Checked()
        return Round(
            text=text,
            score=None if review is None else review.score,
            approved=review is not None and review.approved,
            issues=self.issues,
            passed=self.passed,
            reached=bool(facts.parsed) + bool(facts.ran) + facts.tests_passed,
            cost_usd=cost_usd,
            seconds=seconds,
        )

    def aspects(self) -> dict[str, bool]:
        """Return whether each aspect of the rubric passes: when all of its items do."""
        passes: dict[str, bool] = {}
        for check in () if self.review is None else self.review.checks:
            passes[check.aspect] = passes.get(check.aspect, True) and check.passes
        return passes


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
    checked: tuple[Checked | None, ...] = ()
    facts: Checked | None = None

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
        brief: Brief | None = Brief(task=task, subtask=draft.subtask, tests=tests, rounds=self.rules.max_rounds + 1)
        guard = ProgressGuard(alike, Patience(noise=self.rules.judge_noise), stronger=self.rules.ladder)
        while brief is not None:
            try:
                brief = await self._round(draft, brief, guard)
            except TaskFailed as failure:
                self._unfinished(draft, failure)
                return

    async def _round(self, draft: Draft, brief: Brief, guard: ProgressGuard) -> Brief | None:
        """Write a draft and have it judged; return what its coder is told next, None when the loop is over.

        A draft that is an earlier one again is not judged again. Raises ``TaskFailed`` for what is no judgement.
        """
        began = self.now()
        written = await self.ask(AgentRole.CODER, draft.subtask, data=brief, returns=TaskResult)
        text, guarded = written.result or "", self.rules.progress_guard == "auto"
        draft.text = draft.text or text
        again = guarded and any(alike(text, earlier.text) for earlier in draft.history)
        found: Found = Found(issues=draft.history[-1].issues if again else ())
        results: tuple[TaskResult, ...] = (written,)
        if not again:
            found, results = await self._find(draft, text, brief, written)
        costs = [result.cost_usd for result in results]
        cost = None if None in costs else sum(usd or 0.0 for usd in costs)
        draft.history += (found.as_round(text, cost, self.now() - began),)
        draft.checked += (found.facts,)
        judgement = judge(draft.history, self.rules.judging(), self._left(draft), REPEATS if again else ())
        advice = Advice(Reaction.GO_ON)
        if guarded and judgement.next is Next.REVISE:
            tokens = sum(result.usage.input_tokens + result.usage.output_tokens for result in results)
            advice = guard.on_output(Output(text=text, score=draft.history[-1].score, cost=tokens))
        if advice.reaction is Reaction.STOP:
            judgement = judgement._replace(next=Next.KEEP, why=Stop.CYCLE if again else Stop.PLATEAU)
        if found.passed is not None or found.review is not None:
            self._grade(written, good=judgement.next is Next.ACCEPT, fact=found.passed is not None)
        self._judged(draft, judgement, found)
        if judgement.next is not Next.REVISE:
            return None
        return self._next(brief, draft, advice, written.model, again=again)

    async def _find(
        self, draft: Draft, text: str, brief: Brief, written: TaskResult
    ) -> tuple[Found, tuple[TaskResult, ...]]:
        """Return what running and reviewing *text* showed. Where something failed, no opinion is asked.

        A review that nobody can read says nothing about the draft.
        """
        facts = await self.run_code(draft, text, brief)
        short, failed = None if facts is None else shorten(facts), failures(facts)
        if failed:
            return Found(issues=failed, passed=False, facts=short), (written,)
        passed = True if brief.tests and short is not None and short.tests_passed else None
        told = brief if short is None else replace(brief, facts=in_words(short))
        try:
            result = await self.ask(AgentRole.REVIEWER, text, data=told, returns=TaskResult)
            review = decode(result, Verdict)
        except TaskFailed as failure:
            if failure.result.error_kind not in NO_VERDICT:
                raise
            draft.note = str(failure.result.error)
            return Found(passed=passed, facts=short), (written, failure.result)
        return Found(issues=review.issues, review=review, passed=passed, facts=short), (written, result)

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
        if not draft.history:
            draft.facts = short
        self.report("draft.checked", subtask=brief.subtask, round=brief.round, **asdict(short))
        return facts

    def _grade(self, result: TaskResult, *, good: bool, fact: bool = False) -> None:
        """Let those who choose models learn what became of a task's work; not again when a resumed run catches up."""
        if not self._running.replaying:
            self.tell(ids.GATEWAY, Graded(task=result.task_id, good=good, fact=fact))

    def _next(self, brief: Brief, draft: Draft, advice: Advice, model: str | None, *, again: bool) -> Brief:
        """Return what the coder is told next: the last draft, or the best when the last is worse, and its issues."""
        last, best = draft.history[-1], draft.history[best_of(draft.history, self.rules.judge_noise)]
        worse = last.score is not None and best.score is not None and best.score > last.score
        shown = best if again or worse else last
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

    def _judged(self, draft: Draft, judgement: Judgement, found: Found) -> None:
        verdict, last = judgement.next, draft.history[-1]
        number = len(draft.history) - 1 if verdict is Next.ACCEPT else judgement.best
        draft.text, draft.score = draft.history[number].text, draft.history[number].score
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
            checks=found.aspects(),
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
