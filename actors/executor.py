"""The executor: runs a draft's code in the sandbox and answers with facts. Its decisions: ``protocol/execution.py``.

The code never runs in this process; what runs it is handed in, and blocks a worker, never a loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Protocol

from actors.agent import Agent
from protocol.errors import Cancelled, TaskFailed
from protocol.execution import Execution
from protocol.facts import Ending, Job, Ran
from protocol.plan import Brief
from protocol.roles import AgentRole

if TYPE_CHECKING:
    from protocol.facts import Facts
    from protocol.messages import AgentMessage


class Box(Protocol):
    """A place where code that nobody trusts can be run."""

    def run(self, job: Job) -> Ran:
        """Run *job* and return what came of it; blocks until then, for a bounded time."""

    def kill(self, id_: str) -> None:
        """End the run of job *id_* soon, if there is one; returns at once."""


class NoBox:
    """Runs nothing; there is no other way to run code without a sandbox."""

    def __init__(self, reason: str = "none was given") -> None:
        self._reason = reason

    def run(self, job: Job) -> Ran:
        """Say that there is none."""
        del job
        return Ran(ending=Ending.NO_SANDBOX, reason=self._reason)

    def kill(self, id_: str) -> None:
        """Do nothing: nothing runs."""


class Executor(Agent):
    """Answers a draft with :class:`Facts`: does it parse, does it import, do its tests pass.

    Without a *box* it runs nothing, and says so.
    """

    role: ClassVar[str] = AgentRole.EXECUTOR

    def __init__(self, box: Box | None = None) -> None:
        super().__init__()
        self._box = box or NoBox()

    async def handle(self, message: AgentMessage) -> Facts:
        """Run the draft in ``content`` with its tests and those of the brief in ``data``."""
        brief = message.payload(Brief) if message.data else Brief(task="", subtask="")
        execution = Execution(message.message_id, message.content, brief.tests)
        while (job := execution.job()) is not None:
            try:
                execution.on_ran(await self.call(self._box.run, job))
            except (Cancelled, TaskFailed):
                self._box.kill(job.id)  # nobody waits for it any longer
                raise
        return execution.facts()
