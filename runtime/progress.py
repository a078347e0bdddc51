"""Progress as plain lines on standard error: what a run is doing, one line an event, as wide as the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import convert

from protocol.facts import Checked
from protocol.policies.facts_gate import in_words
from protocol.roles import AgentRole
from runtime.terminal import WIDTH, columns, printable, say

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from protocol.signals import Progress

WAITS_AGAIN = 10.0
"""Seconds after which a wait that goes on for the same reason is shown again."""
LEAST = 16
"""Characters of a content that are shown in any case, also where the line then does not fit."""


class ProgressLines:
    """Turns events into lines; ``several`` puts the run's id on each."""

    def __init__(
        self,
        began: float,
        *,
        several: bool = False,
        write: Callable[[str], object] = say,
        width: Callable[[], int] = columns,
    ) -> None:
        self._began = began
        self._several = several
        self._write = write
        self._width = width
        self._named: set[tuple[str, str]] = set()
        self._asked: dict[str, tuple[str, str]] = {}
        self._waits: dict[str, tuple[str, float]] = {}  # by domain: what for, and when it was shown

    def show(self, event: Progress) -> None:
        """Show *event* if it is one that people want to see."""
        run = f"{event.run} " if self._several else ""
        head = f"[{max(0.0, event.at - self._began):6.1f} s] {run}"
        if event.event == "limits.snapshot":
            head, text = head.removesuffix(run), self._waiting(event)
        else:
            text = self._text(event.event, event.facts, Room(self._width() - len(head)))
        if text is not None:
            self._write(head + text)

    def _text(self, name: str, facts: dict[str, Any], room: Room) -> str | None:
        match name:
            case "task.started":
                role = str(facts.get("role") or "team")
                self._asked[facts["step"]] = (role, str(facts.get("content", "")))
                return room.fit(f"{role:<12} begins: ", facts.get("content", ""))
            case "task.finished" | "task.failed":
                return self._ended(name, facts, room)
            case "plan.made":
                return self._plan(facts.get("subtasks", ()), self._width())
            case "plan.skipped":
                why = " and ".join(facts.get("reasons", ())) or "is a small one"
                return f"no plan: the task {why} (complexity {facts.get('score', 0.0):.2f})"
            case "plan.failed":
                return f"no plan could be had ({printable(str(facts.get('error')))}): one coder does the whole task"
            case _:
                return self._draft(name, facts, room)

    def _draft(self, name: str, facts: dict[str, Any], room: Room) -> str | None:
        match name:
            case "drafts.not_run":
                return f"drafts are not run: {printable(str(facts.get('reason')), 200)}"
            case "draft.checked":
                words = in_words(convert(facts, Checked))
                return room.fit(f"{AgentRole.EXECUTOR:<12} found:  ", facts.get("subtask", ""), f" ({words})")
            case "draft.accepted" | "draft.rejected" | "draft.kept":
                return self._judged(name.removeprefix("draft."), facts, room)
            case "draft.failed":
                return f"failed: {printable(facts.get('subtask', ''), 40)}: {printable(str(facts.get('error')))}"
        return None

    def _waiting(self, event: Progress) -> str | None:
        """Return what a domain's line waits for; once for all runs, and again when that changes or goes on for long."""
        facts = event.facts
        domain, why = str(facts.get("domain")), str(facts.get("waits_for"))
        before, at = self._waits.get(domain, ("", 0.0))
        if why == before and event.at - at < WAITS_AGAIN:
            return None
        self._waits[domain] = why, event.at
        blocked = facts.get("blocked_s", 0.0)
        until = f", blocked for {blocked:.0f} s" if blocked >= 1.0 else ""
        what = "the end of a 429" if why == "blocked" else why
        return printable(
            f"waits: {domain} {what}, {facts.get('waiting')} in line, {facts.get('in_flight')} in flight{until}", WIDTH
        )

    @staticmethod
    def _plan(subtasks: Sequence[str], width: int) -> str | None:
        """Return the plan, a line each; a plan of one part says no more than what its coder begins."""
        if len(subtasks) < 2:
            return None
        parts = (Room(width).fit(f"{'':>12}{n}. ", subtask) for n, subtask in enumerate(subtasks, 1))
        return "\n".join((f"plan with {len(subtasks)} subtasks:", *parts))

    def _ended(self, name: str, facts: dict[str, Any], room: Room) -> str:
        role, content = self._asked.pop(facts["step"], ("team", ""))
        if name == "task.failed":
            return f"{role:<12} failed: {printable(str(facts.get('error')))}"
        cut = ", cut" if facts.get("truncated") else ", without a call" if facts.get("served") else ""
        seconds = facts.get("execution_ms", 0.0) / 1000.0
        done = room.fit(
            f"{role:<12} done:   ", content, f" ({facts.get('output_tokens', 0)} tokens, {seconds:.1f} s{cut})"
        )
        why, model = str(facts.get("why_model") or ""), str(facts.get("model"))
        if not why or (not why.startswith("tier") and (model, why) in self._named):
            return done  # it was not chosen, and that was said
        self._named.add((model, why))
        chosen = room.fit(f"{'':>13}on {printable(model, 24)}: ", why)
        return f"{done}\n{chosen}"

    @staticmethod
    def _judged(how: str, facts: dict[str, Any], room: Room) -> str:
        score = f" with {facts['score']} of 10" if facts.get("score") is not None else ""
        failed = " and ".join(aspect for aspect, passes in facts.get("checks", {}).items() if not passes)
        beside = [f"draft {facts['round'] + 1}"] if facts.get("round") else []
        beside += [printable(str(facts["found"]), 60)] if facts.get("found") else []
        beside += [f"fails {failed}"] if failed else []
        beside += [str(facts["why"]).replace("_", " ")] if how == "kept" and facts.get("why") else []
        shown = f" ({'; '.join(beside)})" if beside else ""
        return room.fit(f"{how}{score}{shown}: ", facts.get("subtask", ""))


class Room(int):
    """The columns that are left of a line."""

    def fit(self, before: str, content: str, after: str = "") -> str:
        """Return one line with as much of *content* as there is room for, at most ``WIDTH`` characters of it."""
        left = max(LEAST, self - len(before) - len(after))
        return f"{before}{printable(content, min(WIDTH, left))}{after}"
