"""The closing summary: the guide's four labels word for word, then what it leaves out."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from protocol.ledger import NANO
from protocol.messages import Summary

if TYPE_CHECKING:
    from collections.abc import Iterable

    from protocol.costs import Costs, Sums
    from protocol.messages import WorkflowResult


MOST_NOTES = 3
HOW = {
    "routing_usd": "the same tokens at the strongest model, less what they cost; rejected drafts included",
    "planning_usd": "for each plan that was skipped the planner's call alone: its prompt, and 150 tokens of answer",
    "serving_usd": "what answers from the cache, and shared with an identical call, had cost when they were called for",
}
"""How each estimate of what was saved is made."""


class Totals(Struct, frozen=True, kw_only=True):
    """Sums over several runs; ``wall_ms`` is the time of the whole batch, not the sum."""

    total_tasks: int
    successful: int
    failed: int
    llm_calls: int
    retries: int
    input_tokens: int
    output_tokens: int
    cost_usd: float | None
    wall_ms: float
    llm_ms: float
    workflows: int
    workflows_failed: int


def total(results: Iterable[WorkflowResult], wall_ms: float) -> Totals:
    """Add up the summaries of *results*."""
    kept = list(results)
    costs = [result.summary.cost_usd for result in kept]
    known = [cost for cost in costs if cost is not None]

    def add(field: str) -> int:
        return sum(getattr(result.summary, field) for result in kept)

    return Totals(
        total_tasks=add("total_tasks"),
        successful=add("successful"),
        failed=add("failed"),
        llm_calls=add("llm_calls"),
        retries=add("retries"),
        input_tokens=add("input_tokens"),
        output_tokens=add("output_tokens"),
        cost_usd=round(sum(known), 9) if len(known) == len(costs) else None,
        wall_ms=round(wall_ms, 3),
        llm_ms=round(sum(result.summary.llm_ms for result in kept), 3),
        workflows=len(kept),
        workflows_failed=sum(1 for result in kept if not result.success),
    )


class Tally:
    """What running the drafts showed, added up over several runs: parsed? ran? tests passed?"""

    def __init__(self) -> None:
        self._drafts = self._parsed = self._ran = self._passed = self._tests = 0
        self._notes: Counter[str] = Counter()

    def add(self, result: WorkflowResult) -> None:
        """Count the drafts of *result* that were kept."""
        for facts in (accepted.facts for accepted in result.accepted):
            if facts is None:
                continue
            self._drafts += 1
            self._parsed += facts.parsed is True
            self._ran += facts.ran is True
            self._passed += facts.tests_passed
            self._tests += facts.tests_passed + facts.tests_failed
            self._notes.update(filter(None, [facts.note]))

    def lines(self) -> list[str]:
        """Return the lines of the closing summary; none where nothing was to be run."""
        if not self._drafts:
            return []
        of = f"of {self._drafts}"
        text = []
        if self._parsed or self._notes.total() < self._drafts:
            tests = f"{self._passed} of {self._tests} tests passed" if self._tests else "no tests"
            text.append(f"Drafts: parsed {self._parsed} {of}, ran {self._ran} {of}, {tests}")
        text += [f"Drafts: {count} {of} {note}" for note, count in self._notes.most_common(MOST_NOTES)]
        return text


def costs_document(costs: Costs) -> dict[str, Any]:
    """Return *costs* as they stand in ``--json``: dollars, null where a price is unknown, and estimates named so."""
    saved = {"routing_usd": costs.total.routing, "planning_usd": costs.planning, "serving_usd": costs.total.serving}
    return {
        **_sums(costs.total),
        "roles": {key: _sums(sums) for key, sums in costs.roles.items()},
        "models": {key: _sums(sums) for key, sums in costs.models.items()},
        "rounds": {key: _sums(sums) for key, sums in costs.rounds.items()},
        "saved_estimates": {key: _usd(nano) for key, nano in saved.items()} | {"how": HOW},
    }


def cost_lines(costs: Costs) -> list[str]:
    """Return what the closing summary says beyond the cost: who caused it, and what was saved, where that is known."""
    text = []
    if costs.total.nano_usd and len(costs.roles) > 1:
        by = (f"{key} {_dollars(sums.nano_usd)}" for key, sums in costs.roles.items())
        text.append(f"Cost by role: {', '.join(by)}")
    saved = [
        f"{_dollars(nano)} {how}"
        for nano, how in ((costs.total.routing, "by choosing models"), (costs.planning, "by skipping plans"))
        if nano
    ]
    if costs.total.served:
        answers = "1 answer" if costs.total.served == 1 else f"{costs.total.served} answers"
        saved.append(f"{_dollars(costs.total.serving)} by {answers} without a call")
    return [*text, f"Saved (estimates): {', '.join(saved)}"] if saved else text


def _sums(sums: Sums) -> dict[str, Any]:
    return {
        "calls": sums.calls,
        "served": sums.served,
        "input_tokens": sums.input_tokens,
        "cached_tokens": sums.cached_tokens,
        "output_tokens": sums.output_tokens,
        "cost_usd": _usd(sums.nano_usd),
    }


def _usd(nano: int | None) -> float | None:
    return None if nano is None else nano / NANO


def _dollars(nano: int | None) -> str:
    return "an unknown sum" if nano is None else f"${nano / NANO:.6f}".replace("$-", "-$")


def lines(summary: Summary | Totals, notes: Iterable[str] = ()) -> list[str]:
    """Return the closing summary as lines of text."""
    cost = "unknown (no price is configured)" if summary.cost_usd is None else f"${summary.cost_usd:.6f}"
    calls = "1 call" if summary.llm_calls == 1 else f"{summary.llm_calls} calls"
    retries = f", {summary.retries} of them retries" if summary.retries else ""
    text = [
        f"Total Tasks: {summary.total_tasks}",
        f"Successful: {summary.successful}",
        f"Failed: {summary.failed}",
        f"Total Execution Time: {summary.llm_ms:.2f} ms",
        f"Wall time: {summary.wall_ms / 1000.0:.2f} s",
        f"Model time: {summary.llm_ms / 1000.0:.2f} s in {calls}{retries}",
        f"Tokens: {summary.input_tokens} in, {summary.output_tokens} out",
        f"Cost: {cost}",
    ]
    if summary.wall_ms > 0.0 and summary.llm_ms > 0.0:
        text.append(f"Speed-up over one after another: {summary.llm_ms / summary.wall_ms:.1f} x")
    return [*text, *notes]


__all__ = ["Summary", "Tally", "Totals", "cost_lines", "costs_document", "lines", "total"]
