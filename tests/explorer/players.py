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
    """Performs the program that its message carries."""

    role = "player"
    restart_on = (Unwell,)

    async def handle(self, message: AgentMessage) -> str:
        do = message.payload(Do)
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
    match do.kind:
        case "seq":
            return "+".join([await perform(actor, part, said) for part in do.parts])
        case "gather" | "fast":
            branches = (perform(actor, part, list(said)) for part in do.parts)
            return f"({','.join(await actor.gather(*branches, fail_fast=do.kind == 'fast'))})"
        case "try":
            try:
                return await perform(actor, do.parts[0], said)
            except TaskFailed as failure:
                return f"{do.label}!{failure.result.error_kind}"
        case "ask":
            answer: str = await actor.ask(do.to, do.label, data=do.parts[0], timeout=do.seconds)
            return _own(actor, f"<{do.label} ", answer)
        case "chat" | "typed":
            return await _talk(actor, do, said)
        case "call":
            return _own(actor, measured(do.label), await actor.call(measured, do.label))
        case "boom":
            return await actor.call(explodes, do.label)
        case "pause":
            await actor.pause(do.seconds)
            return f"{do.label}~"
        case "dice":
            return f"{do.label}={actor.random.random():.6f}"
        case "raise":
            raise ValueError(do.label)
        case _:
            raise Unwell(do.label)


async def _talk(actor: Any, do: Do, said: list[str]) -> str:
    line = f"say {do.label}"
    whole = digest([*said, do.label])
    if do.kind == "typed":
        verdict = await actor.chat(line, returns=Verdict)
        answer = _own(actor, f"{do.label} {whole}", f"{verdict.label} {verdict.digest}")
    else:
        try:
            answer = _own(actor, f"[{do.label} {whole}]", (await actor.chat(line)).text)
        except TaskFailed as failure:
            if failure.result.error_kind is ErrorKind.TRUNCATED:  # half an answer was said, and is remembered
                said.append(do.label)
            raise
    said.append(do.label)
    return answer


def _own(actor: Asking, expected: str, got: str) -> str:
    if not got.startswith(expected):
        _crossed(actor, expected, got)
    return got


def _crossed(actor: Asking, expected: str, got: str) -> None:
    actor._directory.dead_letter(actor.address, f"{CROSSED}expected {expected}, got {got}", None)
