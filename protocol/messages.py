"""What agents say to each other: the typed envelope and the answer to it.

All structs are frozen. A message that asks for something carries the address the answer goes to, and its ``message_id``
is the step id of the one who awaits it, so an answer finds its way without anybody remembering the question.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
from msgspec import Raw, Struct

from protocol.chat import Usage
from protocol.costs import Costs, Line
from protocol.errors import ErrorKind
from protocol.facts import Checked


class Priority:
    """The three classes of urgency; a smaller number is more urgent. Acts in the limiter, never in a mailbox."""

    HIGH = 0
    NORMAL = 1
    LOW = 2


PRIORITIES = {"high": Priority.HIGH, "normal": Priority.NORMAL, "low": Priority.LOW}


class AgentMessage(Struct, frozen=True, kw_only=True, tag=True):
    """The typed envelope between agents.

    ``message_id`` and ``timestamp`` (aware, UTC) are stamped by the sending shell when left empty. ``recipient`` is a
    role or an address; ``None`` lets the supervisor choose the role. ``data`` is a typed payload, encoded as JSON.
    ``deadline`` is in seconds on the system's monotonic clock. ``attempt`` counts deliveries after the first.
    """

    sender: str
    recipient: str | None
    content: str
    data: Raw = Raw()
    metadata: dict[str, Any] = {}
    message_id: str = ""
    timestamp: datetime | None = None
    correlation_id: str = ""
    causation_id: str | None = None
    reply_to: str | None = None
    priority: int = Priority.NORMAL
    deadline: float | None = None
    attempt: int = 0

    def payload(self, type_: type[Any]) -> Any:
        """Decode ``data`` as *type_*. Raises ``msgspec.ValidationError``."""
        return msgspec.json.decode(self.data, type=type_)


class TaskResult(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """The answer to one task, success or failure, with what it cost.

    ``execution_time_ms`` is the HTTP time of all attempts, also on failure; ``queue_time_ms`` the time spent waiting
    for the limiter and a free caller. ``retry_count`` is attempts - 1 summed over the model calls, also on success.
    ``cost_usd`` is None when the price is unknown, never 0. A typed result stands in ``result`` as JSON text.
    ``why_model`` says in words why it was this model. ``calls`` counts HTTP calls, ``served`` the answers that took no
    call of their own (from the cache, or shared with an identical call): they cost nothing and have no tokens here.
    ``truncated`` says that the text was cut at ``max_tokens`` and kept all the same. ``costs`` are the same figures by
    role, model and round.
    """

    task_id: str
    agent: str = ""
    success: bool
    result: str | None = None
    error: str | None = None
    error_kind: ErrorKind | None = None
    execution_time_ms: float = 0.0
    queue_time_ms: float = 0.0
    retry_count: int = 0
    model: str | None = None
    why_model: str | None = None
    usage: Usage = Usage()
    cost_usd: float | None = None
    priority: int = Priority.NORMAL
    calls: int = 0
    truncated: bool = False
    served: int = 0
    costs: tuple[Line, ...] = ()


def failed(
    task_id: str, kind: ErrorKind, error: str, *, agent: str = "", priority: int = Priority.NORMAL
) -> TaskResult:
    """Return the TaskResult of a task that failed before any call was made for it."""
    return TaskResult(task_id=task_id, agent=agent, success=False, error=error, error_kind=kind, priority=priority)


class Summary(Struct, frozen=True, kw_only=True):
    """What a run took, in the words of the guide's closing summary plus what it leaves out.

    ``llm_ms`` is the guide's sum of execution times; ``cost_usd`` is None when any price in it is unknown.
    """

    total_tasks: int = 0
    successful: int = 0
    failed: int = 0
    llm_calls: int = 0
    retries: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = None
    wall_ms: float = 0.0
    llm_ms: float = 0.0


class Accepted(Struct, frozen=True, kw_only=True):
    """How one subtask ended: whether its draft was accepted, the reviewer's score (of 10) and the rounds it took.

    ``facts`` says of the draft that was kept whether it parsed, ran and passed its tests; None: drafts are not run.
    """

    subtask: str
    accepted: bool
    score: int | None = None
    rounds: int = 0
    note: str = ""
    facts: Checked | None = None


class WorkflowResult(Struct, frozen=True, kw_only=True, tag=True):
    """How a run ended. ``results`` holds every TaskResult of the run in the order they were recorded.

    What the executor found is no task of its own: it stands in :attr:`accepted`, with the draft it was found in.
    ``costs`` are in integer nano-dollars, by role, model and round, with what was saved.
    """

    correlation_id: str
    success: bool
    output: str = ""
    error: str | None = None
    error_kind: ErrorKind | None = None
    results: tuple[TaskResult, ...] = ()
    accepted: tuple[Accepted, ...] = ()
    summary: Summary = Summary()
    costs: Costs = Costs()
