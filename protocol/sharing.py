"""Which model calls need not be made: an identical one is under way, or was answered a while ago. Part of the gateway.

Both are opted in by role (``coalesce``, ``cache_seconds``), whatever its temperature: who opts in wants the same answer
to the same question. Two calls are the same when model, messages, schema, ``max_tokens`` and temperature are; who asks,
for whom, how urgently and until when plays no part.

- Of identical calls in flight the first *leads*: it has the lease, the attempts, the costs. The others *follow*: they
  hold nothing, wait until their own deadlines, and get its answer; it cost them nothing, and says so.
- What fails a leader fails its followers, since theirs is the same request, and a retry of each would multiply an
  outage; except for what is the leader's own (:data:`OWN`: its deadline, its run's budget; a retry that its deadline
  leaves no time for; a cancel). Then the most urgent follower leads, and takes over the flight if there is one.
- Nobody waits for who is less urgent: a call that finds a leader of a lower class that is not in the air yet leads too.
- Kept is a whole reply alone (``stop``), good or bad: what it is worth is seen by who reads it.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple

from protocol.errors import ErrorKind
from protocol.policies.response_cache import ResponseCache
from protocol.signals import ChatResult

if TYPE_CHECKING:
    from protocol.chat import CallFailure, ChatReply
    from protocol.models import ModelInfo
    from protocol.signals import ChatCall

OWN = frozenset({ErrorKind.DEADLINE, ErrorKind.BUDGET})
"""How a leader may fail without its followers failing, too."""


class Remembered(NamedTuple):
    """A reply, and what it cost in nano-dollars (None: the price is unknown)."""

    reply: ChatReply
    cost: int | None


class Follower(NamedTuple):
    """A call that waits for an identical one since then; the model that both are for, and why (as in ``Picked``)."""

    call: ChatCall
    model: ModelInfo
    why: str
    beside: ModelInfo | None
    since: float


class Group:
    """A leading call, by its step, and who follows it."""

    __slots__ = ("followers", "key", "leader")

    def __init__(self, key: bytes, leader: str) -> None:
        self.key = key
        self.leader = leader
        self.followers: dict[str, Follower] = {}


class Sharing:
    """Who waits for whose call, and what is remembered."""

    def __init__(self, cache: ResponseCache[Remembered] | None = None) -> None:
        self._cache: ResponseCache[Remembered] = ResponseCache() if cache is None else cache
        self._groups: dict[bytes, Group] = {}  # which group to join
        self._led: dict[str, Group] = {}  # by the leader's step
        self._joined: dict[str, Group] = {}  # by the follower's

    def remembered(self, call: ChatCall, key: bytes, now: float) -> Remembered | None:
        """Return the answer to *call* that is kept, if its role wants that."""
        return self._cache.get(key, now) if call.cache_seconds > 0.0 else None

    def leader(self, call: ChatCall, key: bytes) -> str | None:
        """Return the step of the call that *call* could wait for."""
        group = self._groups.get(key) if call.coalesce else None
        return None if group is None else group.leader

    def lead(self, step: str, key: bytes) -> None:
        """Let the call of *step*, which goes now, be waited for; who comes from now on waits for this one."""
        self._groups[key] = self._led[step] = Group(key, step)

    def follow(self, key: bytes, follower: Follower) -> None:
        """Let a call wait for the one that leads."""
        group = self._joined[follower.call.step] = self._groups[key]
        group.followers[follower.call.step] = follower

    # --- followers

    def follower(self, step: str) -> Follower | None:
        """Return the call of *step* if it waits for another one."""
        group = self._joined.get(step)
        return None if group is None else group.followers[step]

    def again(self, call: ChatCall) -> bool:
        """Tell whether *call* waits already; if so, its answer goes to whoever asked last."""
        group = self._joined.get(call.step)
        if group is None:
            return False
        group.followers[call.step] = group.followers[call.step]._replace(call=call)
        return True

    def leave(self, step: str) -> None:
        """The call of *step*, a follower, waits no longer for another one."""
        del self._joined.pop(step).followers[step]

    # --- the end of a leader

    def succeed(self, step: str) -> Follower | None:
        """Let the most urgent follower lead in place of *step*; None when there is none: then nobody leads."""
        group = self._led.pop(step, None)
        if group is None:
            return None
        if not group.followers:
            self._forget(group)
            return None
        heir = min(group.followers.values(), key=lambda follower: follower.call.priority)
        self.leave(heir.call.step)
        group.leader = heir.call.step
        self._led[group.leader] = group
        return heir

    def late(self, step: str, now: float) -> list[Follower]:
        """Let go of those who wait for the call of *step* and whose deadline has come; return them."""
        group = self._led.get(step)
        late = [] if group is None else [one for one in group.followers.values() if is_late(one.call, now)]
        for follower in late:
            self.leave(follower.call.step)
        return late

    def disband(self, step: str) -> list[Follower]:
        """The call of *step* has ended: return who waited for it."""
        group = self._led.pop(step, None)
        if group is None:
            return []
        self._forget(group)
        followers = list(group.followers.values())
        for follower in followers:
            del self._joined[follower.call.step]
        return followers

    def remember(self, call: ChatCall, model: ModelInfo, reply: ChatReply, now: float) -> None:
        """Keep the reply to *call*, if its role wants that and the reply is whole."""
        if call.cache_seconds > 0.0 and reply.finish_reason == "stop":
            size = len(reply.text.encode("utf-8", "surrogatepass"))
            kept = Remembered(reply, cost_of(reply, model))
            self._cache.put(identity(call, model.key), kept, size, now + call.cache_seconds)

    def _forget(self, group: Group) -> None:
        if self._groups.get(group.key) is group:
            del self._groups[group.key]


def is_late(call: ChatCall, now: float) -> bool:
    """Tell whether the deadline of *call* has come."""
    return call.deadline is not None and call.deadline <= now


def identity(call: ChatCall, model: str) -> bytes:
    """Return what two calls have in common exactly when they are the same."""
    schema = None if call.schema is None else (call.schema.name, bytes(call.schema.schema))
    said = [(message.role, message.content) for message in call.messages]
    what = repr((model, said, schema, call.max_tokens, call.temperature))
    return blake2b(what.encode("utf-8", "surrogatepass"), digest_size=32).digest()


def cost_of(reply: ChatReply, model: ModelInfo) -> int | None:
    """Return what *reply* cost, None when nobody knows."""
    return None if reply.usage is None else model.cost(reply.usage)


def from_cache(kept: Remembered, model: ModelInfo, why: str) -> ChatResult:
    """Return the result of a call that was not made, since its answer is remembered."""
    return ChatResult(
        reply=kept.reply, model=model.key, why_model=why or None, cost=0, served="cache", saved_by_serving=kept.cost
    )


def shared(follower: Follower, reply: ChatReply | None, failure: CallFailure | None, now: float) -> ChatResult:
    """Return the result of a call that was not made, since it waited for an identical one."""
    model, waited = follower.model, (now - follower.since) * 1000.0
    if reply is None:
        return ChatResult(failure=failure, model=model.key, cost=0, queue_time_ms=waited)
    return ChatResult(
        reply=reply,
        model=model.key,
        why_model=follower.why or None,
        cost=0,
        queue_time_ms=waited,
        served="shared",
        saved_by_serving=cost_of(reply, model),
    )
