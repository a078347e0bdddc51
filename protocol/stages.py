"""What there is to see of model calls: an event each time one changes its stage, read off the gateway's effects.

=========== ============================================================ =================================
event       then it waits for                                            facts besides ``step``
=========== ============================================================ =================================
call.parked a breaker that is open                                       none
call.queued the limiter's grant and a free caller                        ``domain``: the limiter's
call.sent   the provider's answer                                        none
call.landed nobody, or a breaker: an attempt is over, and nothing follows none
call.rested the end of its backoff                                       ``seconds``: how long that is
call.ended  nothing: it is answered                                      none
=========== ============================================================ =================================

A call that is queued again after it was sent has met a 429, or is asked differently.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from protocol.calls import AnswerStep, AskLimiter, Dispatch, Effect, Later, TellLimiter
from protocol.signals import ChatCall, Settle

if TYPE_CHECKING:
    from collections.abc import Iterable


def stages(effects: Iterable[Effect], message: object = None) -> dict[str, tuple[str, dict[str, Any]]]:
    """Return by step the event and the facts of each call that *effects* move on: where it stands after all of them.

    *message* is what they answer: a call that moves nothing is parked.
    """
    moved: dict[str, tuple[str, dict[str, Any]]] = {}
    if isinstance(message, ChatCall):
        moved[message.step] = "call.parked", {}
    for effect in effects:
        match effect:
            case TellLimiter(message=Settle(lease=lease)):
                moved[_step(lease)] = "call.landed", {}
            case AskLimiter(message=request):
                moved[_step(request.lease)] = "call.queued", {"domain": request.domain}
            case Dispatch(perform=perform):
                moved[_step(perform.call)] = "call.sent", {}
            case Later(key=key, seconds=seconds) if key.startswith("retry:"):
                moved[key.removeprefix("retry:")] = "call.rested", {"seconds": round(seconds, 3)}
            case AnswerStep(answer=answer):
                moved[answer.step] = "call.ended", {}
    return moved


def _step(lease: str) -> str:
    return lease.rpartition("#")[0]
