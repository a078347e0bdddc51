"""Where the time went: how much of the wall time was waiting for limits, model calls, reviews and so on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from protocol import ids
from protocol.roles import AgentRole

if TYPE_CHECKING:
    from protocol.signals import Progress

PARTS = {
    "limits": "waiting for limits",
    "http": "model calls",
    "review": "reviews",
    "execution": "running drafts",
    "retries": "retries and backoff",
    "own": "own overhead",
    "start_stop": "starting and stopping",
}
"""What wall time is spent on, in the words of the table."""
IN_FLIGHT: dict[str, str] = {AgentRole.REVIEWER: "review", AgentRole.EXECUTOR: "execution"}
"""What the calls of a role count as, where they are no work on the text itself."""


class Chain:
    """What the time up to *at* was spent on, along one chain of causes. Its parts add up to *at* less the begin."""

    __slots__ = ("at", "spent")

    def __init__(self, at: float, spent: dict[str, float] | None = None) -> None:
        self.at = at
        self.spent = dict.fromkeys(PARTS, 0.0) if spent is None else spent

    def branch(self) -> Chain:
        """Return a chain that goes on from here."""
        return Chain(self.at, dict(self.spent))

    def go_on(self, now: float, part: str) -> None:
        """Spend the time until *now* on *part*; a clock that steps back spends nothing."""
        if now > self.at:
            self.spent[part] += now - self.at
            self.at = now

    def rebook(self, seconds: float, part: str, other: str) -> None:
        """Count *seconds* of *part* as spent on *other*."""
        moved = max(0.0, min(seconds, self.spent[part]))
        self.spent[part] -= moved
        self.spent[other] += moved

    def ms(self) -> dict[str, float]:
        """Return the parts in milliseconds, as ``<part>_ms``."""
        return {f"{part}_ms": round(seconds * 1000.0, 3) for part, seconds in self.spent.items()}


class _Task:
    """A task under way: the chain that led to it, and where its model calls stand."""

    __slots__ = ("calls", "chain", "in_flight", "kept_back", "sent")

    def __init__(self, chain: Chain, role: str, *, kept_back: bool = False) -> None:
        self.chain = chain
        self.in_flight = IN_FLIGHT.get(role, "http")
        self.kept_back = kept_back
        self.calls: dict[str, str] = {}
        self.sent: dict[str, float] = {}

    def part(self) -> str:
        """Return what it spends time on now; of several calls at once one in flight counts, then one in line."""
        stages = self.calls.values()
        if "call.sent" in stages or self.in_flight == "execution":
            return self.in_flight
        if self.kept_back or "call.queued" in stages:
            return "limits"
        return "retries" if stages else "own"

    def move(self, event: Progress) -> None:
        """Follow a call to its next stage; what an attempt took that was in vain is no call's time."""
        step = event.facts["step"]
        self.chain.go_on(event.at, self.part())
        began = self.sent.pop(step, None)
        if began is not None and event.event != "call.ended":
            self.chain.rebook(event.at - began, self.in_flight, "limits" if event.event == "call.queued" else "retries")
        if event.event == "call.ended":
            self.calls.pop(step, None)
        else:
            self.calls[step] = event.event
        if event.event == "call.sent":
            self.sent[step] = event.at


class _Run:
    """A run under way: *before* is what led to it; its own time begins with it."""

    __slots__ = ("before", "began", "chain", "tasks")

    def __init__(self, before: Chain) -> None:
        self.before = before
        self.began = before.at
        self.chain = Chain(before.at)
        self.tasks: dict[str, _Task] = {}

    def begin(self, key: str, task: _Task, now: float) -> None:
        task.chain.go_on(now, "own")
        self.tasks[key] = task

    def end(self, key: str, now: float) -> None:
        """What begins next goes back to this task."""
        task = self.tasks.pop(key, None)
        if task is not None:
            task.chain.go_on(now, task.part())
            self.chain = task.chain

    def let_go(self, key: str, now: float) -> None:
        task = self.tasks.get(key)
        if task is not None:
            task.chain.go_on(now, task.part())
            task.kept_back = False

    def move(self, event: Progress) -> None:
        """Follow a call in the task that it is made for."""
        task = next((self.tasks[id_] for id_ in ids.above(event.facts["step"]) if id_ in self.tasks), None)
        if task is not None:
            task.move(event)

    def whole(self, wall: float) -> Chain:
        """Return what the run's *wall* seconds were spent on; work that was cut off at its end led to it as well."""
        now = max(self.began + wall, self.chain.at)
        cut = min(self.tasks.values(), key=lambda task: task.chain.at, default=None)
        if cut is not None:
            cut.chain.go_on(now, cut.part())
        chain = self.chain if cut is None else cut.chain
        chain.go_on(now, "own")
        return chain


class TimeSpent:
    """Says from the events of runs where the wall time went.

    Work runs in parallel, so the times of all calls say nothing about the wall time: 64 calls of a second may take one.
    What decides when a run ends is one chain of causes: its last answer, the task that this one began upon, and so on
    back to the begin. The chain is followed forwards: a task begins with a copy of the chain of the task that ended
    last in its run, which is its cause, and adds what it spends itself, instant by instant, on what its model calls do
    then. So each chain has a part for each instant since the begin, exactly one, and its parts add up to the wall time
    whatever was parallel. Of several runs, one goes back to the run that ended last before it began. The chain that
    ended last is the table: making a part of it faster makes the whole faster, until another chain is the longest.
    *began* is in seconds since the epoch, like the time of the events.
    """

    def __init__(self, began: float) -> None:
        self._began = began
        self._runs: dict[str, _Run] = {}
        self._last = Chain(began)
        self._ended = 0

    def on_event(self, event: Progress) -> None:
        """Follow one event; those that say nothing about time are welcome."""
        run = self._run(event.run, event.at)
        name, facts, now = event.event, event.facts, event.at
        match name:
            case "task.started":
                task = _Task(run.chain.branch(), str(facts.get("role")), kept_back=bool(facts.get("kept_back")))
                run.begin(facts["step"], task, now)
            case "task.sent":
                run.let_go(facts["step"], now)
            case "task.finished" | "task.failed":
                run.end(facts["step"], now)
            case "check.started":
                run.begin(_check(facts), _Task(run.chain.branch(), AgentRole.EXECUTOR), now)
            case "draft.checked":
                run.end(_check(facts), now)
            case _ if name.startswith("call."):
                run.move(event)

    def on_ended(self, run: str, wall_ms: float) -> dict[str, float]:
        """Return what the *wall_ms* of the run were spent on, in milliseconds: they add up to it."""
        ended = self._runs.pop(run, None)
        if ended is None:  # it never said anything
            return {f"{part}_ms": round(wall_ms, 3) if part == "own" else 0.0 for part in PARTS}
        chain = ended.whole(wall_ms / 1000.0)
        if chain.at >= self._last.at:
            self._last = Chain(chain.at, {part: ended.before.spent[part] + chain.spent[part] for part in PARTS})
        self._ended += 1
        return chain.ms()

    def total(self, wall_ms: float) -> dict[str, float]:
        """Return what the *wall_ms* of all runs together were spent on, in milliseconds: they add up to it."""
        chain = self._last.branch()
        chain.go_on(self._began + wall_ms / 1000.0, "start_stop")
        return chain.ms()

    def _run(self, name: str, now: float) -> _Run:
        run = self._runs.get(name)
        if run is None:
            before = self._last.branch()
            before.go_on(now, "own" if self._ended else "start_stop")
            run = self._runs[name] = _Run(before)
        return run


def _check(facts: dict[str, Any]) -> str:
    return f"check: {facts.get('subtask')}"


def lines(spent: dict[str, float]) -> list[str]:
    """Return the table as lines of text; *spent* is in milliseconds, by part."""
    whole = sum(spent.values())
    return [
        "Where the wall time went:",
        *(
            f"  {words:<21}{spent[f'{part}_ms'] / 1000.0:8.2f} s {_share(spent[f'{part}_ms'], whole):>5}"
            for part, words in PARTS.items()
        ),
    ]


def _share(part: float, whole: float) -> str:
    return f"{100.0 * part / whole:.0f} %" if whole > 0.0 else "-"
