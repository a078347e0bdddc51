"""The cast of a scenario: agents and a workflow of a user's that perform a program, and look after their nonces.

What is said to the model names everything this branch has said before, as the provider saw it. So a reply, an answer or
a history that belongs to somebody else is seen by whoever gets it; that is told as a dead letter, which the books read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from zlib import crc32

import msgspec
from msgspec import Struct

from actors import Agent, Workflow
from actors.workflow import Outcome
from protocol.errors import ErrorKind, TaskFailed
from tests.explorer.program import Do

if TYPE_CHECKING:
    from actors.asking import Asking
    from protocol.messages import AgentMessage

CROSSED = "crossed: "
"""How the reason of a dead letter begins that tells of a nonce in the wrong conversation."""


class Unwell(Exception):  # noqa: N818 (how an agent feels)
    """What an agent restarts on."""


class Verdict(Struct, frozen=True, kw_only=True):
    """What a typed chat returns."""

    label: str
    digest: str


def digest(said: list[str]) -> str:
    """Return what stands for a whole history of labels."""
    return f"{crc32(','.join(said).encode()):08x}"


def measured(label: str) -> str:
    return f"{{{label}}}"


def explodes(label: str) -> str:
    raise OSError(label)


class Player(Agent):
    """Performs the program that its message carries; a plain message is something to say."""

    role = "player"
    restart_on = (Unwell,)

    async def handle(self, message: AgentMessage) -> str:
        do = message.payload(Do) if message.data else Do("chat", message.content)
        if do.label != message.content:
            _crossed(self, message.content, do.label)
        return f"<{message.content} {await perform(self, do, [])}>"


class Script(Workflow):
    """Performs the program that is its task."""

    async def run(self, task: str) -> str:
        return await perform(self, msgspec.json.decode(task, type=Do), [])

    def salvage(self) -> Outcome:
        return Outcome(output="salvaged", success=False)


async def perform(actor: Any, do: Do, said: list[str]) -> str:
    """Do what is to be done and return it in words; *said* is what this branch has told the model so far."""
    return await _DOING[do.kind](actor, do, said)


async def _seq(actor: Any, do: Do, said: list[str]) -> str:
    return "+".join([await perform(actor, part, said) for part in do.parts])


async def _gather(actor: Any, do: Do, said: list[str]) -> str:
    branches = (perform(actor, part, list(said)) for part in do.parts)
    return f"({','.join(await actor.gather(*branches, fail_fast=do.kind == 'fast'))})"


async def _try(actor: Any, do: Do, said: list[str]) -> str:
    try:
        return await perform(actor, do.parts[0], said)
    except TaskFailed as failure:
        return f"{do.label}!{failure.result.error_kind}"


async def _ask(actor: Any, do: Do, said: list[str]) -> str:
    answer: str = await actor.ask(do.to, do.label, data=do.parts[0], timeout=do.seconds)
    return _own(actor, f"<{do.label} ", answer)


async def _chat(actor: Any, do: Do, said: list[str]) -> str:
    try:
        answer = (await actor.chat(f"say {do.label}")).text
    except TaskFailed as failure:
        if failure.result.error_kind is ErrorKind.TRUNCATED:  # half an answer was said, and is remembered
            said.append(do.label)
        raise
    said.append(do.label)
    return _own(actor, f"[{do.label} {digest(said)}]", answer)


async def _typed(actor: Any, do: Do, said: list[str]) -> str:
    verdict = await actor.chat(f"say {do.label}", returns=Verdict)
    said.append(do.label)
    return _own(actor, f"{do.label} {digest(said)}", f"{verdict.label} {verdict.digest}")


async def _call(actor: Any, do: Do, said: list[str]) -> str:
    return _own(actor, measured(do.label), await actor.call(measured, do.label))


async def _boom(actor: Any, do: Do, said: list[str]) -> str:
    return await actor.call(explodes, do.label)


async def _pause(actor: Any, do: Do, said: list[str]) -> str:
    await actor.pause(do.seconds)
    return f"{do.label}~"


async def _dice(actor: Any, do: Do, said: list[str]) -> str:
    return f"{do.label}={actor.random.random():.6f}"


async def _raise(actor: Any, do: Do, said: list[str]) -> str:
    raise ValueError(do.label)


async def _unwell(actor: Any, do: Do, said: list[str]) -> str:
    raise Unwell(do.label)


_DOING = {
    "seq": _seq,
    "gather": _gather,
    "fast": _gather,
    "try": _try,
    "ask": _ask,
    "chat": _chat,
    "typed": _typed,
    "call": _call,
    "boom": _boom,
    "pause": _pause,
    "dice": _dice,
    "raise": _raise,
    "unwell": _unwell,
}


def _own(actor: Asking, expected: str, got: str) -> str:
    if not got.startswith(expected):
        _crossed(actor, expected, got)
    return got


def _crossed(actor: Asking, expected: str, got: str) -> None:
    actor._directory.dead_letter(actor.address, f"{CROSSED}expected {expected}, got {got}", None)
