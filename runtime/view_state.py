"""What the live view knows: a reducer over events. It draws nothing, reads no clock and knows no terminal."""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING, Any

from protocol import ids
from protocol.roles import AgentRole

if TYPE_CHECKING:
    from collections.abc import Mapping

    from protocol.messages import WorkflowResult
    from protocol.signals import Progress

WAITING, WRITING, RUNNING, REVIEWED, RETRYING = "waiting", "writing", "running", "in review", "retrying"
DONE, REVISED, KEPT, FAILED, STOPPED = "done", "revised", "kept", "failed", "stopped"
SETTLED = frozenset({DONE, REVISED, KEPT, FAILED, STOPPED})
WORK: dict[str, str] = {AgentRole.CODER: WRITING, AgentRole.REVIEWER: REVIEWED, AgentRole.EXECUTOR: RUNNING}
"""What is done to a leaf by a role; any other role's work counts as writing."""
STAGES = {"call.parked": RETRYING, "call.queued": WAITING, "call.landed": RETRYING, "call.rested": RETRYING}
"""What a leaf does while the call for it stands there; one that is sent works."""
MINUTE = 60
MOST_RUNS = 40
"""How many runs that have ended are kept to be seen, where none that is open needs their place."""
FRESH = 2.5
"""Seconds for which a snapshot of a limit's line is still true: it comes once a second while somebody waits."""
USUAL = 7.0
"""Tasks of a run that has no plan yet, where no other has one."""


class Leaf:
    """One part of a plan. ``state`` is one of the words above, ``round`` counts revisions."""

    __slots__ = ("round", "score", "state", "title")

    def __init__(self, title: str) -> None:
        self.title = title
        self.state = WAITING
        self.round = 0
        self.score: int | None = None


class RunState:
    """One run under way, or the last one. ``groups`` names the parts of what was too large by what it was."""

    def __init__(self, run: str, title: str, began: float) -> None:
        self.run = run
        self.title = title
        self.began = began
        self.ended: float | None = None
        self.planning = False
        self.planned = False
        self.result: str | None = None
        self.leaves: dict[str, Leaf] = {}
        self.groups: dict[str, str] = {}
        self.tasks_done = 0

    def leaf(self, title: str, *, made: bool = True) -> Leaf | None:
        """Return the leaf of *title*; without a plan it is made."""
        if title not in self.leaves and made and not self.planned:
            self.leaves[title] = Leaf(title)
        return self.leaves.get(title)

    def counts(self) -> Counter[str]:
        """Return how many leaves are in which state."""
        return Counter(leaf.state for leaf in self.leaves.values())

    def tasks(self) -> int:
        """Return how many tasks it takes when nothing goes wrong: a plan, and for each leaf a draft and a review."""
        return 1 + 2 * max(1, len(self.leaves))

    def rest(self, usual: float, pace: float) -> float:
        """Return how many tasks are to come: of *usual* before there is a plan; *pace* times as many as thought."""
        open_ = sum(leaf.state not in SETTLED for leaf in self.leaves.values())
        expected = (self.tasks() if self.planned else usual) * pace
        return max(expected - self.tasks_done, float(open_), 0.5)


class RoleState:
    """What a role's agents do, counted in tasks; ``retries`` in calls."""

    __slots__ = ("done", "failed", "retries", "running", "waiting")

    def __init__(self) -> None:
        self.running = self.waiting = self.done = self.failed = self.retries = 0


class Minute:
    """A sum over the last minute, kept by the second."""

    def __init__(self) -> None:
        self._seconds: dict[int, int] = {}

    def add(self, at: float, amount: int = 1) -> None:
        """Count *amount* at the time *at*."""
        second = int(at)
        self._seconds[second] = self._seconds.get(second, 0) + amount
        if len(self._seconds) > 2 * MINUTE:
            self._seconds = {key: value for key, value in self._seconds.items() if key > second - MINUTE}

    def sum(self, now: float) -> int:
        """Return the sum of the minute that ends *now*."""
        first = int(now) - MINUTE
        return sum(amount for second, amount in self._seconds.items() if second > first)


class DomainState:
    """One limiter's domain: what is allowed (units a minute, by resource), used, waited for."""

    def __init__(self, concurrency: int | None = None, allowed: Mapping[str, float] | None = None) -> None:
        self.concurrency = concurrency
        self.allowed = dict(allowed or {})
        self.requests = Minute()
        self.tokens = Minute()
        self.in_flight = 0
        self.blocked_until = 0.0
        self._waiting = (0, "", 0.0)

    def snapshot(self, at: float, facts: dict[str, Any]) -> None:
        """Take in what the limiter says of itself."""
        self.blocked_until = at + facts.get("blocked_s", 0.0)
        self._waiting = facts.get("waiting", 0), str(facts.get("waits_for", "")), at
        self.allowed |= facts.get("rates", {})

    def waiting(self, now: float) -> tuple[int, str]:
        """Return how many wait in line, and for what; nobody as soon as that is old."""
        count, why, at = self._waiting
        return (count, why) if now - at < FRESH else (0, "")


class _Task:
    __slots__ = ("calls", "kept_back", "leaf", "role", "sent")

    def __init__(self, role: str, leaf: Leaf | None, *, kept_back: bool = False) -> None:
        self.role = role
        self.leaf = leaf
        self.kept_back = kept_back
        self.calls: dict[str, tuple[str, str]] = {}  # by step: its stage, and its domain
        self.sent: set[str] = set()

    @property
    def waits(self) -> bool:
        stages = {stage for stage, _ in self.calls.values()}
        return self.kept_back or (bool(stages) and "call.sent" not in stages)


class ViewState:
    """Everything that there is to see of *total* runs. *limits* are the configured ones, *budget* is in dollars.

    The times of events are in seconds since the epoch, and so is *now* everywhere.
    """

    def __init__(
        self,
        *,
        began: float,
        total: int = 1,
        limits: Mapping[str, DomainState] | None = None,
        budget: float | None = None,
    ) -> None:
        self.began = began
        self.total = total
        self.budget = budget
        self.domains: dict[str, DomainState] = dict(limits or {})
        self.runs: dict[str, RunState] = {}
        self.roles: dict[str, RoleState] = {}
        self.input_tokens = self.output_tokens = self.ended = self.failed = 0
        self.cost: float | None = 0.0
        self.outcomes: Counter[str] = Counter()
        self._tasks: dict[str, dict[str, _Task]] = {}
        self._tasks_of_ended = self._good = self._done = self._planned = 0
        self._over: deque[str] = deque()
        self._nowhere = DomainState()  # where a call counts that has never waited for a domain

    # --- runs

    def on_opened(self, run: str, title: str, now: float) -> None:
        """Begin a run."""
        self.runs[run] = RunState(run, title, now)
        self._tasks[run] = {}

    def on_ended(self, result: WorkflowResult, now: float) -> None:
        """End a run: its leaves are what its result says of them."""
        run = self.runs.get(result.correlation_id)
        if run is None or run.ended is not None:
            return
        for step in list(self._tasks[run.run]):
            self._drop(run.run, step)
        del self._tasks[run.run]
        run.ended, run.planning = now, False
        run.result = DONE if result.success else f"{result.error_kind}: {result.error}"
        for leaf in run.leaves.values():
            if leaf.state not in SETTLED:
                leaf.state = STOPPED
        self.ended += 1
        self.failed += not result.success
        self.outcomes += run.counts()
        self._tasks_of_ended += run.tasks_done
        if result.success:
            self._good, self._done, self._planned = (
                self._good + 1,
                self._done + run.tasks_done,
                self._planned + run.tasks(),
            )
        self._over.append(run.run)
        while self._over and len(self.runs) > MOST_RUNS:
            del self.runs[self._over.popleft()]

    # --- events

    def on_event(self, event: Progress) -> None:
        """Take one event in; unknown ones and those of unknown runs change nothing."""
        if event.event == "limits.snapshot":
            self._domain(str(event.facts.get("domain"))).snapshot(event.at, event.facts)
            return
        run = self.runs.get(event.run)
        if run is None or run.ended is not None:
            return
        kind, _, _ = event.event.partition(".")
        match kind:
            case "task":
                self._task(run, event)
            case "call":
                self._call(run, event)
            case "plan" | "subtask":
                self._plan(run, event.event, event.facts)
            case "draft" | "check":
                self._draft(run, event.event, event.facts)

    def _plan(self, run: RunState, name: str, facts: dict[str, Any]) -> None:
        run.planning = False
        if name == "plan.made":
            run.planned = True
            run.leaves = {subtask: Leaf(subtask) for subtask in facts.get("subtasks", ())}
        elif name == "subtask.split":
            run.groups |= dict.fromkeys(facts.get("pieces", ()), facts["subtask"])

    def _task(self, run: RunState, event: Progress) -> None:
        facts, tasks = event.facts, self._tasks[run.run]
        step = facts["step"]
        if event.event == "task.started":
            role = str(facts.get("role") or "team")
            run.planning = run.planning or role == AgentRole.ORCHESTRATOR
            leaf = None if role == AgentRole.ORCHESTRATOR else run.leaf(str(facts.get("content", "")))
            self._add(run.run, step, _Task(role, leaf, kept_back=bool(facts.get("kept_back"))))
            return
        task = tasks.get(step)
        if task is None:
            return
        if event.event == "task.sent":
            self._recount(task, -1)
            task.kept_back = False
            self._recount(task, 1)
            return
        good = event.event == "task.finished"
        self._book(task, event, good=good)
        run.tasks_done += 1
        self._drop(run.run, step)
        if not run.planned and task.leaf is not None:
            task.leaf.state = DONE if good else FAILED

    def _book(self, task: _Task, event: Progress, *, good: bool) -> None:
        """Add up what a task that has ended took."""
        role, facts = self._role(task.role), event.facts
        role.done += good
        role.failed += not good
        got, gave = facts.get("input_tokens", 0), facts.get("output_tokens", 0)
        self.input_tokens += got
        self.output_tokens += gave
        cost = facts.get("cost_usd")
        self.cost = None if self.cost is None or (cost is None and got + gave) else self.cost + (cost or 0.0)
        for _, domain in list(task.calls.values())[-1:]:
            self._domain(domain).tokens.add(event.at, got + gave)

    def _call(self, run: RunState, event: Progress) -> None:
        step = event.facts["step"]
        tasks = self._tasks[run.run]
        task = next((tasks[id_] for id_ in ids.above(step) if id_ in tasks), None)
        if task is None:
            return
        self._recount(task, -1)
        stage, domain = task.calls.get(step, ("", ""))
        self._domain(domain).in_flight -= stage == "call.sent"
        domain = event.facts.get("domain", domain)
        task.calls[step] = event.event, domain
        if event.event == "call.sent":
            self._domain(domain).in_flight += 1
            self._domain(domain).requests.add(event.at)
            self._role(task.role).retries += step in task.sent
            task.sent.add(step)
        self._recount(task, 1)
        if task.leaf is not None:
            task.leaf.state = STAGES.get(event.event) or WORK.get(task.role, WRITING)

    def _draft(self, run: RunState, name: str, facts: dict[str, Any]) -> None:
        title = str(facts.get("subtask", ""))
        leaf = run.leaf(title, made=False)
        if name == "check.started":
            self._add(run.run, _check(title), _Task(AgentRole.EXECUTOR, leaf))
        elif name == "draft.checked":
            self._role(AgentRole.EXECUTOR).done += self._drop(run.run, _check(title))
        if leaf is None:
            return
        leaf.score = facts.get("score", leaf.score)
        match name:
            case "check.started":
                leaf.state = RUNNING
            case "draft.accepted":
                leaf.state = REVISED if leaf.round else DONE
            case "draft.rejected":
                leaf.round, leaf.state = leaf.round + 1, WAITING
            case "draft.kept" | "draft.failed":
                leaf.state = KEPT if name == "draft.kept" else FAILED

    # --- the books

    def _add(self, run: str, step: str, task: _Task) -> None:
        self._drop(run, step)
        self._tasks[run][step] = task
        self._recount(task, 1)

    def _drop(self, run: str, step: str) -> bool:
        task = self._tasks[run].pop(step, None)
        if task is None:
            return False
        self._recount(task, -1)
        for stage, domain in task.calls.values():
            self._domain(domain).in_flight -= stage == "call.sent"
        return True

    def _recount(self, task: _Task, by: int) -> None:
        role = self._role(task.role)
        if task.waits:
            role.waiting += by
        else:
            role.running += by

    def _role(self, name: str) -> RoleState:
        return self.roles.setdefault(name, RoleState())

    def _domain(self, name: str) -> DomainState:
        return self.domains.setdefault(name, DomainState()) if name else self._nowhere

    # --- what follows

    def progress(self) -> float:
        """Return how much of all runs is done, from 0 to 1, counted in tasks; runs that have ended tell how many."""
        open_ = [run for run in self.runs.values() if run.ended is None]
        rest = float(self.total - self.ended)
        if not rest:
            return 1.0
        planned = [run.tasks() for run in open_ if run.planned]
        usual = sum(planned) / len(planned) if planned else self._planned / self._good if self._good else USUAL
        pace = self._done / self._planned if self._planned else 1.0
        rest = sum(run.rest(usual, pace) for run in open_) + (rest - len(open_)) * usual * pace
        done = self._tasks_of_ended + sum(run.tasks_done for run in open_)
        return done / (done + rest)

    def time_left(self, now: float) -> float | None:
        """Return an estimate of the seconds until all is done, at the pace so far; None: too early to tell."""
        done, took = self.progress(), now - self.began
        return took * (1.0 - done) / done if done >= 0.01 and took >= 1.0 else None


def _check(title: str) -> str:
    return f"check: {title}"
