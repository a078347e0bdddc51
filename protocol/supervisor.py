"""What the supervisor decides: who gets a message, and what becomes of a child that failed.

Partner of ``actors/supervisor.py``.

Routing is by recipient role and correlation id: a run's messages for a role stay with the agent that got the first,
new runs go to the agent with the least open tasks. Ties go to the agent that was registered first, so that routing is
the same on every run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from protocol import ids
from protocol.errors import ErrorKind
from protocol.policies.complexity import choose_role
from protocol.policies.progress_guard import circles

if TYPE_CHECKING:
    from protocol.messages import AgentMessage
    from protocol.policies.restarts import RestartLimit, Verdict


class Route(Struct, frozen=True, gc=False):
    """Deliver to the agent at *address*."""

    address: str


class NoRoute(Struct, frozen=True, gc=False):
    """Nobody can take it; answer so at once."""

    kind: ErrorKind
    reason: str


class Wait(Struct, frozen=True, gc=False):
    """Somebody may hold it already: ask again when every agent has named what it holds."""


class Supervisor:
    """The directory of roles, who holds which task, and how often each child has failed."""

    def __init__(self) -> None:
        self.roles: dict[str, list[str]] = {}
        self._load: dict[str, int] = {}
        self._holders: dict[str, str] = {}
        self._asked: dict[str, tuple[str, str]] = {}
        self._sticky: dict[tuple[str, str], str] = {}
        self._runs: set[str] = set()
        self._silent: dict[str, None] = {}
        self._failures: dict[str, tuple[float, ...]] = {}

    # --- who plays what

    def on_registered(self, role: str, address: str) -> None:
        """An agent plays *role* from now on."""
        pool = self.roles.setdefault(role, [])
        if address not in pool:
            pool.append(address)
            self._load.setdefault(address, 0)

    def on_found(self, role: str, address: str) -> None:
        """An agent was there before this supervisor; what it holds is not known until :meth:`on_reaffirmed`."""
        self.on_registered(role, address)
        self._silent[address] = None

    @property
    def recovering(self) -> bool:
        """Whether an agent has yet to name what it holds."""
        return bool(self._silent)

    def on_gone(self, address: str) -> None:
        """An agent plays nothing any more; its conversations move on with their next message."""
        self._failures.pop(address, None)
        self._silent.pop(address, None)
        if address not in self._load:
            return  # it played no role: a workflow, say
        for pool in self.roles.values():
            if address in pool:
                pool.remove(address)
        del self._load[address]
        self._sticky = {key: agent for key, agent in self._sticky.items() if agent != address}
        self._holders = {step: agent for step, agent in self._holders.items() if agent != address}
        self._asked = {step: asked for step, asked in self._asked.items() if step in self._holders}

    # --- routing

    def on_message(self, message: AgentMessage) -> Route | NoRoute | Wait:
        """Choose the agent for *message*: by its role, by its address, or by what it asks for when it names neither."""
        holder = self._holders.get(message.message_id)
        if holder is not None:
            return Route(holder)  # a restarted asker asks again
        if message.attempt and message.message_id and self._silent:
            return Wait()
        recipient = message.recipient
        if recipient is None:
            recipient = choose_role(message.content, tuple(role for role, pool in self.roles.items() if pool))
        if recipient is None or not (pool := self.roles.get(recipient)):
            return self._direct(message) if recipient in self._load else self._nobody(recipient)
        if (circle := self._circle(message, recipient)) is not None:
            return NoRoute(ErrorKind.CIRCLE, circle)
        key = (message.correlation_id, recipient)
        agent = self._sticky.get(key)
        if agent is None:
            agent = min(pool, key=self._load.__getitem__)
            if message.correlation_id in self._runs:
                self._sticky[key] = agent
        return self._book(message, agent)

    def _circle(self, message: AgentMessage, recipient: str) -> str | None:
        """Tell why *message* is one of an endless circle: what a request lies inside is open, and waits for it."""
        above = [self._asked[step] for step in ids.above(message.message_id) if step in self._asked]
        circle = circles(recipient, message.content, above) if above else None
        if circle is None and message.message_id:
            self._asked[message.message_id] = (recipient, message.content)
        return circle

    def _direct(self, message: AgentMessage) -> Route:
        assert message.recipient is not None
        return self._book(message, message.recipient)

    def _book(self, message: AgentMessage, agent: str) -> Route:
        if message.message_id:  # what has no id is told, and never settled
            self._load[agent] += 1
            self._holders[message.message_id] = agent
        return Route(agent)

    def _nobody(self, role: str | None) -> NoRoute:
        known = ", ".join(sorted(role for role, pool in self.roles.items() if pool)) or "none"
        if role in self.roles:
            return NoRoute(ErrorKind.NO_SUCH_ROLE, f"no agent is left that plays the role {role!r}; there are: {known}")
        return NoRoute(ErrorKind.NO_SUCH_ROLE, f"no agent plays the role {role!r}; there are: {known}")

    def holders_of(self, step: str) -> tuple[str, ...]:
        """Return the agent that works for *step*; where that is not known, those who have yet to say so."""
        holder = self._holders.get(step)
        return tuple(self._silent) if holder is None else (holder,)

    def steps_of(self, run: str) -> tuple[str, ...]:
        """Return the tasks of *run* that somebody works for."""
        return tuple(step for step in self._holders if ids.run_of(step) == run)

    def on_settled(self, step: str) -> None:
        """A task was answered or given up: its agent has one less."""
        agent = self._holders.pop(step, None)
        self._asked.pop(step, None)
        if agent in self._load:
            self._load[agent] -= 1

    def on_reaffirmed(self, agent: str, role: str, steps: tuple[str, ...]) -> None:
        """After a restart of the supervisor an agent names what it holds."""
        self._silent.pop(agent, None)
        self.on_registered(role, agent)
        for step in steps:
            if step not in self._holders:
                self._holders[step] = agent
                self._load[agent] += 1
                if ids.run_of(step) in self._runs:
                    self._sticky.setdefault((ids.run_of(step), role), agent)

    def on_run_started(self, run: str) -> None:
        """What *run* asks of a role stays with one agent; what belongs to no run goes to the least loaded."""
        self._runs.add(run)

    def on_run_ended(self, run: str) -> None:
        """Forget where the conversations of *run* were; it may ask no more."""
        self._runs.discard(run)
        for role in self.roles:
            self._sticky.pop((run, role), None)

    # --- restarts

    def on_child_failed(self, address: str, limit: RestartLimit, now: float) -> Verdict:
        """Judge a failed child by its own history."""
        history = (*self._failures.get(address, ()), now)
        self._failures[address] = history[-2 * limit.times - 1 :]
        return limit.judge(history, now)
