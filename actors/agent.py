"""The agent: an actor with its own mailbox that plays a role, its ``handle`` a coroutine.

One agent serves many messages at once: each is a conversation with its own locals, history and costs, so parallel
tasks never mix. A handler that raises fails its own task. Mail that was taken and not yet answered is held in the
mailbox, which outlives the instance: after a restart the new instance resumes it from the record, so nothing that was
paid is paid again.
"""

from __future__ import annotations

import inspect
from copy import deepcopy
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, cast

from msgspec import Struct
from msgspec.structs import replace

from actors.asking import Talk
from actors.chatting import Chatting
from actors.conversations import WORKS, as_text, failure_of, guard
from actors.directory import ActorSpec, answer_to
from protocol import ids
from protocol.errors import Cancelled, ErrorKind
from protocol.messages import AgentMessage, TaskResult, failed
from protocol.signals import Answer, CancelStep, Forget, Reaffirmed, Recall, Recalled, TaskSettled, WhoHolds

if TYPE_CHECKING:
    from protocol.roles import RoleSettings

MOST_DELIVERIES = 3
"""A message that was under way at this many restarts is poison: it is failed, the agent goes on."""

OWN = frozenset({"blocking", "handle", "restart_on", "role", "settings", "system_prompt"})
"""What a subclass may define."""


class Held(Struct, eq=False):
    """A message taken and not yet answered; lives in the mailbox.

    *blamed*: its handler made the agent restart. *open*: what an earlier instance waited for, by whoever works for it.
    """

    message: AgentMessage
    deliveries: int = 1
    blamed: bool = False
    open: dict[str, str] = {}

    def note(self, talk: Talk) -> None:
        """Remember what *talk* waits for: whoever ends it, if it is not resumed, has to say that nobody does."""
        for step, branch in talk.conversation.waiting.items():
            if branch.request.kind in WORKS:
                self.open[step] = WORKS[branch.request.kind]


class Agent(Chatting):
    """Base of every agent. Subclasses set :attr:`role` and implement :meth:`handle`.

    ``blocking = True`` gives the agent a thread of its own, on which ``handle`` may block. An exception listed in
    ``restart_on`` restarts the agent instead of only failing the task.
    """

    role: ClassVar[str] = ""
    """The role that it plays where ``register`` names no other; any name of small letters, digits, ``-`` and ``_``."""
    system_prompt: ClassVar[str] = ""
    """What the model is told first, where ``[roles.<role>]`` does not say it."""
    blocking: ClassVar[bool] = False
    """Whether the agent has a thread of its own."""
    restart_on: ClassVar[tuple[type[BaseException], ...]] = ()
    """Exceptions that restart the agent; its open conversations are then resumed from their records."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        guard(cls, Agent, OWN)

    async def handle(self, message: AgentMessage) -> Any:
        """Do the task in *message*; return its result, a ``str`` or a struct."""
        raise NotImplementedError(f"{type(self).__name__} has no handle()")

    # --- mail

    def setup(self) -> None:
        """Resume what an earlier instance had taken and not answered."""
        held, mailbox = self._held(), self.actor_inbox
        stuck = self._stuck_id(held)
        unfinished, mailbox.failed_on, mailbox.stuck = mailbox.failed_on, None, None
        if isinstance(unfinished, WhoHolds | CancelStep):
            mailbox.put_back(unfinished)
        if stuck is None:
            for item in [item for item in held.values() if item.blamed] or held.values():
                item.deliveries += 1
                item.blamed = False
        for id_, item in list(held.items()):
            if id_ == stuck:
                self._fail(item, ErrorKind.STUCK, "its handler did not return")
            elif item.deliveries > MOST_DELIVERIES:
                text = f"the agent was restarted {MOST_DELIVERIES} times with this message under way"
                self._fail(item, ErrorKind.POISON, text)
            else:
                self.tell(ids.RECORDER, Recall(conversation=id_, reply_to=self.address))

    def teardown(self) -> None:
        """Fail what is still open: nobody will work on it any more."""
        for item in list(self._held().values()):
            self._fail(item, ErrorKind.STOPPED, "the agent was stopped")
        for talk in list(self._talks.values()):
            self.drop(talk)

    def on_receive(self, message: Any) -> None:
        """Start a conversation, resume one, or cancel one."""
        match message:
            case AgentMessage():
                self._accept(message)
            case Answer() if message.at == 0.0:
                self.on_timer(message)
            case Answer():
                self.deliver(message)
            case Recalled():
                self._recalled(message)
            case CancelStep():
                self._cancel(message.step)
            case WhoHolds():
                steps = tuple(self._held())
                self.tell(message.reply_to, Reaffirmed(agent=self.address, role=self.role, steps=steps))
            case _:
                self._directory.dead_letter(self.address, f"an agent has no use for {type(message).__name__}", message)

    def _held(self) -> dict[str, Held]:
        mailbox = self.actor_inbox
        if mailbox.held is None:
            mailbox.held = {}
        return mailbox.held

    def _accept(self, message: AgentMessage) -> None:
        if not message.message_id or message.timestamp is None:
            id_ = message.message_id or self._next_id(message)
            message = replace(message, message_id=id_, timestamp=message.timestamp or self.timestamp())
        held = self._held()
        if message.message_id in held:
            self._directory.dead_letter(self.address, "this task is already under way", replace(message, reply_to=None))
            return
        held[message.message_id] = Held(message)
        if message.attempt:  # it may have been answered already, or begun
            self.tell(ids.RECORDER, Recall(conversation=message.message_id, reply_to=self.address))
        else:
            self._open(message)

    def _next_id(self, message: AgentMessage) -> str:
        self.actor_inbox.generation += 1
        return f"{message.correlation_id or 'told'}/{self.address}#{self.actor_inbox.generation}"

    def _open(self, message: AgentMessage, recorded: tuple[Answer, ...] = (), *, again: bool = False) -> None:
        talk = Talk(
            message.message_id,
            message,
            priority=message.priority,
            flow=str(message.metadata.get("flow", "")),
            deadline=message.deadline,
        )
        sent = self.wall() if message.timestamp is None else message.timestamp.timestamp()
        self.begin(talk, self._handled(message), sent, recorded, again=again)

    async def _handled(self, message: AgentMessage) -> str:
        """Run :meth:`handle` and give its value as text: what a user's code does here fails no more than the task."""
        outcome: Any = self.handle(replace(message, metadata=_copied(message.metadata)))
        return as_text(await outcome if inspect.isawaitable(outcome) else outcome)

    def _recalled(self, recalled: Recalled) -> None:
        item = self._held().get(recalled.conversation)
        if item is None or recalled.conversation in self._talks:
            return
        if recalled.answered:
            self._abandon(item)
            self._forget(item.message)
        else:
            item.open.clear()
            self._open(item.message, recalled.answers, again=True)

    def recalling(self, step: str) -> bool:
        """As in the base: conversations that are held and not open have been asked for."""
        held = self._held()
        return any(id_ in held and id_ not in self._talks for id_ in ids.above(step))

    def _cancel(self, step: str) -> None:
        talk, item = self._talks.get(step), self._held().get(step)
        if item is not None and talk is not None:
            item.note(talk)
            self.cancel_talk(talk)
        elif item is not None:
            self._abandon(item)
            self._forget(item.message)

    def _abandon(self, item: Held) -> None:
        """Tell whoever works for what an earlier instance asked, and this one will not, that nobody waits for it."""
        for step, worker in item.open.items():
            self.tell(worker, CancelStep(step=step))

    def replaced(self) -> None:
        """As in the base; what is waited for is noted for the next instance."""
        held = self._held()
        for talk in list(self._talks.values()):
            if talk.id in held:
                held[talk.id].note(talk)
        super().replaced()

    def ended(self, talk: Talk, value: Any, error: BaseException | None) -> None:
        """Answer the message of *talk* unless it was cancelled; restart on an error that the agent lists."""
        message = cast("AgentMessage", talk.message)
        if talk.conversation.cancelled or isinstance(error, Cancelled):
            self._forget(message)
            return
        if error is None:
            result = TaskResult(task_id=talk.id, agent=self.address, success=True, result=value, priority=talk.priority)
        elif isinstance(error, self.restart_on):
            self._held()[talk.id].blamed = True
            raise error
        else:
            self._raised(talk, error)
            kind, text = failure_of(error)
            result = failed(talk.id, kind, text, agent=self.address, priority=talk.priority)
        self._answer(message, talk.ledger.settle(result))

    def _fail(self, item: Held, kind: ErrorKind, text: str) -> None:
        message = item.message
        result = failed(message.message_id, kind, text, agent=self.address, priority=message.priority)
        self._abandon(item)
        self._answer(message, result)

    def _answer(self, message: AgentMessage, result: TaskResult) -> None:
        if message.reply_to is not None:
            self.tell(ids.RECORDER, answer_to(message, result))
        elif not result.success:
            self._directory.dead_letter(self.address, f"{result.error_kind}: {result.error}", message)
        self._forget(message)

    def _forget(self, message: AgentMessage) -> None:
        self.when_done(partial(self._held().pop, message.message_id, None))
        self.tell(ids.SUPERVISOR, TaskSettled(agent=self.address, step=message.message_id))
        if message.reply_to is None:
            self.tell(ids.RECORDER, Forget(run=message.message_id))

    def _stuck_id(self, held: dict[str, Held]) -> str | None:
        """Return the id of the conversation that held the thread when the watchdog took over."""
        match self.actor_inbox.stuck:
            case AgentMessage(message_id=id_):
                return id_ or next(reversed(held), None)
            case Recalled(conversation=id_):
                return id_
            case Answer(step=step):
                return next((id_ for id_ in ids.above(step) if id_ in held), None)
            case _:
                return None


def agent_spec(
    agent: type[Agent], role: str, number: int, settings: RoleSettings | None = None, **options: Any
) -> ActorSpec:
    """Return the spec of instance *number* of *agent* in the pool of *role*."""
    return ActorSpec(
        address=f"{role}/{number}",
        factory=lambda: equip(agent(), role, settings),
        parent=ids.SUPERVISOR,
        role=role,
        pinned=agent.blocking,
        stuck_after=None if agent.blocking else 5.0,
        **options,
    )


def equip(agent: Agent, role: str, settings: RoleSettings | None) -> Agent:
    """Give *agent* its role and settings; what the class itself says wins where the settings say nothing."""
    agent.__dict__["role"] = role
    if settings is not None:
        agent.settings = settings
    if agent.system_prompt and not agent.settings.system_prompt:
        agent.settings = replace(agent.settings, system_prompt=agent.system_prompt)
    return agent


_PLAIN = (str, int, float, type(None))


def _copied(metadata: dict[str, Any]) -> dict[str, Any]:
    """Return a copy that shares nothing mutable; plain values, the common case, need no deep one."""
    for value in metadata.values():
        if not isinstance(value, _PLAIN):
            return deepcopy(metadata)
    return dict(metadata)
