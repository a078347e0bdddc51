"""The closing summary: the guide's four labels word for word, then what it leaves out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from protocol.messages import Summary

if TYPE_CHECKING:
    from collections.abc import Iterable

    from protocol.messages import WorkflowResult


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
        cost_usd=sum(known) if len(known) == len(costs) else None,
        wall_ms=round(wall_ms, 3),
        llm_ms=round(sum(result.summary.llm_ms for result in kept), 3),
        workflows=len(kept),
        workflows_failed=sum(1 for result in kept if not result.success),
    )


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


__all__ = ["Summary", "Totals", "lines", "total"]
