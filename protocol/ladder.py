"""The ladder: the models of the configuration, and which of them a call goes to. Part of ``protocol/gateway.py``.

What a role names is taken; ``auto`` is chosen by ``protocol/policies/routing.py``. What becomes of a draft comes back
later, by the task that it was written for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from zlib import crc32

from msgspec import Struct
from msgspec.structs import replace

from protocol.calls import OUTPUT_UNKNOWN
from protocol.chat import ChatMessage
from protocol.models import ModelInfo
from protocol.policies.complexity import estimate as complexity_of
from protocol.policies.routing import Choice, Job, Room, Router, Rung
from protocol.policies.token_estimate import bound_messages, estimate_messages

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from protocol.signals import ChatCall, Graded

USUAL_OUTPUT = 1000
"""Output tokens that a call is taken to use, where it allows as many: what it may use says little."""
PATIENCE = 30.0
"""Seconds that a call may wait for a model that is better; with less time to its deadline, so long."""
MOST_OPEN = 4096
"""How many choices are remembered until somebody grades them; the oldest go first."""


class Picked(Struct, frozen=True, gc=False):
    """The model of a call (None: there is none of that name), and why.

    *beside* is the strongest model of the ladder where this one was chosen, None where there was no choice.
    """

    model: ModelInfo | None
    why: str = ""
    beside: ModelInfo | None = None


class Ladder:
    """Picks models. *router* may be shared with an earlier ladder, so that what was learnt survives a restart."""

    def __init__(self, models: Mapping[str, ModelInfo], router: Router | None = None) -> None:
        self._models = models
        self._router = router or Router(rungs(models.values()))
        self._open: dict[str, Choice] = {}

    def pick(
        self,
        call: ChatCall,
        rooms: Mapping[str, Room] | None = None,
        money: int | None = None,
        patience: float | None = None,
    ) -> Picked:
        """Return the model for *call*.

        *rooms* says how models stand now, *money* what is left, in nano-dollars, *patience* how many seconds it may
        wait; None: no bound but the usual.
        """
        if call.model in self._models:
            return Picked(self._models[call.model], "named in the configuration" if call.model != "auto" else "")
        if call.model != "auto" or not self._models:
            return Picked(None)
        if len(self._models) == 1:
            return Picked(next(iter(self._models.values())), "the only model")
        job = job_of(call, money, PATIENCE if patience is None else min(PATIENCE, patience))
        choice = self._router.choose(job, rooms if money is None else self._paid(call, rooms or {}))
        if call.occasion.task:
            self._open[call.occasion.task] = choice
            if len(self._open) > MOST_OPEN:
                del self._open[next(iter(self._open))]
        return Picked(self._models[choice.key], choice.why, max(self._models.values(), key=lambda model: model.tier))

    def _paid(self, call: ChatCall, rooms: Mapping[str, Room]) -> dict[str, Room]:
        """Return *rooms* with the most that the limiter would reserve for the call at each model."""
        schema = (
            () if call.schema is None else (ChatMessage(role="system", content=bytes(call.schema.schema).decode()),)
        )
        prompt = bound_messages((*call.messages, *schema))
        output = OUTPUT_UNKNOWN if call.max_tokens is None else call.max_tokens
        return {
            key: replace(rooms.get(key, Room()), most=model.most(prompt, output)) for key, model in self._models.items()
        }

    def forget(self, task: str) -> None:
        """The choice for *task* was not carried out: what becomes of its work teaches nothing about a model."""
        self._open.pop(task, None)

    def on_graded(self, graded: Graded) -> None:
        """Learn what became of the work of a task; one whose model was not chosen here teaches nothing."""
        choice = self._open.pop(graded.task, None)
        if choice is not None:
            self._router.learn(choice, good=graded.good, fact=graded.fact)


def rungs(models: Iterable[ModelInfo]) -> list[Rung]:
    """Return *models* as rungs of a ladder."""
    return [
        Rung(
            key=model.key,
            tier=model.tier,
            price_in=None if model.price is None else model.price.input,
            price_out=None if model.price is None else model.price.output,
            context=model.context,
            schema=model.output != "text",
        )
        for model in models
    ]


def job_of(call: ChatCall, money: int | None = None, patience: float = PATIENCE) -> Job:
    """Return what *call* wants a model for. The die is its step's name, so that it falls the same way every time."""
    occasion = call.occasion
    return Job(
        role=call.role,
        complexity=_complexity(call.messages) if occasion.complexity is None else occasion.complexity,
        prompt_tokens=estimate_messages(call.messages),
        output_tokens=min(call.max_tokens or USUAL_OUTPUT, USUAL_OUTPUT),
        schema=call.schema is not None,
        tried=occasion.tried,
        stronger=occasion.stronger,
        last=occasion.last,
        reviewed=occasion.rounds > 0,
        checked=occasion.checked,
        rounds=occasion.rounds,
        money=money,
        patience=patience,
        roll=crc32(call.step.encode("utf-8", "surrogatepass")) / 2**32,
    )


def _complexity(messages: tuple[ChatMessage, ...]) -> float:
    """Return how complex what was asked first is: later turns are about the same thing."""
    asked = next((message.content for message in messages if message.role == "user"), "")
    return complexity_of(asked).score
