"""Role definition, the first pillar: who does which kind of work.

A role is a kind of work; an agent is an actor that plays it. The four below come with Troupe, any other string that
matches :data:`protocol.ids.ROLE_NAME` is a role of the user's. On the wire a role is a plain ``str``.
"""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct


class AgentRole(StrEnum):
    """The roles that a team is made of."""

    ORCHESTRATOR = "orchestrator"
    CODER = "coder"
    REVIEWER = "reviewer"
    EXECUTOR = "executor"


class RoleSettings(Struct, frozen=True, kw_only=True):
    """How a role works: its model, its words, its limits.

    ``model`` is a key of the configuration or ``auto``. ``timeout`` is in seconds per attempt, so ``max_retries`` = 3
    means four attempts. ``temperature`` None sends none. ``history_tokens`` bounds what one conversation carries
    along. ``prompt`` and ``revise`` are templates; which variables they know stands in the built-in agents.
    ``keep_truncated`` keeps a text that was cut at ``max_tokens``. ``rubric`` asks a reviewer for separate items, and
    not for a total. ``coalesce`` sends identical calls in flight once, ``cache_seconds`` gives an answer again for so
    long (0: never); both whatever the temperature is.
    """

    model: str = "auto"
    system_prompt: str = ""
    prompt: str = "{task}"
    revise: str = ""
    temperature: float | None = None
    max_tokens: int | None = None
    timeout: float = 30.0
    max_retries: int = 3
    history_tokens: int = 8000
    keep_truncated: bool = False
    rubric: bool = True
    coalesce: bool = False
    cache_seconds: float = 0.0
