"""The test kit: whole teams of real actors in one thread, in virtual time, without network and without sleeping.

::

    kit = ActorTestKit({"translator": [rate_limited(retry_after=7), "Hallo"]})
    kit.register(Translator)
    assert kit.ask("translator", "Hello").result == "Hallo"
    assert kit.now >= 7

The kit runs the very same actors, limits and retries as production; what a :class:`ScriptedModel` stands in for is the
provider. A :class:`TestProbe` is an actor that keeps what it is told. ``docs/testing.md`` teaches the rest.
"""

from __future__ import annotations

from actors.fault_plan import Crash, Delay, FaultPlan, Lose, Stall
from actors.kit import ActorTestKit
from actors.probe import TestProbe
from actors.scripted_answers import (
    bad_request,
    connection_lost,
    filtered,
    http_answer,
    http_error,
    malformed,
    overloaded,
    quota_exhausted,
    rate_limited,
    reply,
    server_error,
    slow,
    timeout,
    truncated,
    unauthorized,
)
from actors.scripted_model import ModelCall, ScriptedModel
from actors.workflow import DirectWorkflow
from protocol.limiter import DomainLimits
from protocol.models import ModelInfo, Price
from protocol.policies.backoff import Backoff

__all__ = [
    "ActorTestKit",
    "Backoff",
    "Crash",
    "Delay",
    "DirectWorkflow",
    "DomainLimits",
    "FaultPlan",
    "Lose",
    "ModelCall",
    "ModelInfo",
    "Price",
    "ScriptedModel",
    "Stall",
    "TestProbe",
    "bad_request",
    "connection_lost",
    "filtered",
    "http_answer",
    "http_error",
    "malformed",
    "overloaded",
    "quota_exhausted",
    "rate_limited",
    "reply",
    "server_error",
    "slow",
    "timeout",
    "truncated",
    "unauthorized",
]
