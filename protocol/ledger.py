"""What a conversation has cost: sums over its model calls and over what others did for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from protocol.chat import Usage
from protocol.costs import Place, Sums, book, in_order

if TYPE_CHECKING:
    from protocol.messages import TaskResult
    from protocol.signals import ChatResult

NANO = 1_000_000_000


class Ledger(Struct, eq=False, gc=False):
    """The running sums of one conversation.

    Money is integer nano-dollars inside, so the order of booking changes nothing.
    """

    calls: int = 0
    served: int = 0
    retries: int = 0
    execution_ms: float = 0.0
    queue_ms: float = 0.0
    usage: Usage = Usage()
    cost: int | None = 0
    model: str | None = None
    why_model: str | None = None
    truncated: bool = False
    kept: dict[Place, Sums] = {}

    def add_call(self, result: ChatResult, role: str = "", round_: int | None = None) -> None:
        """Book a model call of *role*, in round *round_* if there are any, whether it succeeded or not."""
        if result.attempts or result.served:
            book(self.kept, Place(role, result.model or "", round_), sums_of(result))
        self.served += bool(result.served)
        self.calls += result.attempts
        self.retries += result.attempts - 1 if result.attempts else 0
        self.execution_ms += result.execution_time_ms
        self.queue_ms += result.queue_time_ms
        self.usage += result.usage
        self.model = result.model or self.model
        self.why_model = result.why_model or self.why_model
        self._spend(result.cost)

    def add_task(self, result: TaskResult) -> None:
        """Book what another agent did for this conversation."""
        for line in result.costs:
            book(self.kept, line.place, line.sums)
        self.served += result.served
        self.calls += result.calls
        self.retries += result.retry_count
        self.execution_ms += result.execution_time_ms
        self.queue_ms += result.queue_time_ms
        self.usage += result.usage
        if result.calls:
            self._spend(None if result.cost_usd is None else round(result.cost_usd * NANO))

    @property
    def cost_usd(self) -> float | None:
        """Dollars, None as soon as one price in the sum is unknown."""
        return None if self.cost is None else self.cost / NANO

    def settle(self, result: TaskResult) -> TaskResult:
        """Return *result* with these figures in it."""
        return replace(
            result,
            execution_time_ms=round(self.execution_ms, 3),
            queue_time_ms=round(self.queue_ms, 3),
            retry_count=self.retries,
            usage=self.usage,
            cost_usd=self.cost_usd,
            model=self.model,
            why_model=self.why_model,
            calls=self.calls,
            served=self.served,
            costs=in_order(self.kept),
            truncated=self.truncated,
        )

    def _spend(self, nano: int | None) -> None:
        self.cost = None if nano is None or self.cost is None else self.cost + nano


def sums_of(result: ChatResult) -> Sums:
    """Return what one model call took, and saved."""
    return Sums(
        calls=result.attempts,
        served=int(bool(result.served)),
        input_tokens=result.usage.input_tokens,
        cached_tokens=result.usage.cached_tokens,
        output_tokens=result.usage.output_tokens,
        nano_usd=result.cost,
        routing=result.saved_by_routing,
        serving=result.saved_by_serving,
    )
