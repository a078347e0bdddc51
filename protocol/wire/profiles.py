"""What endpoints do differently, as data. Source: the vendors' pages as collected in wire.md 1.1, 1.2 and 1.6.

A profile is where a conversation with an endpoint starts; what its refusals teach (a field it does not know, a rung of
the output ladder it does not have) is kept by the gateway.
"""

from __future__ import annotations

from typing import Literal
from urllib.parse import urlsplit

from msgspec import Struct

from protocol.chat import OutputMode
from protocol.wire.hints import DAY, MINUTE

TokensField = Literal["max_tokens", "max_completion_tokens"]
AuthStyle = Literal["bearer", "api-key"]


class Profile(Struct, frozen=True, kw_only=True):
    """How one endpoint wants to be spoken to.

    ``output`` is the best rung of ``OUTPUT_LADDER`` it has. ``keep_constraints`` leaves lengths and ranges in a
    schema: grammars of local servers need them to end, the strict mode of OpenAI refuses them. ``requests_period`` is
    the seconds its ``x-ratelimit-*-requests`` headers count by. ``tight`` bounds the lists (fewest and most
    items) and texts (characters) of every schema, so that a small model takes a task apart and comes to an end.
    """

    name: str
    max_tokens_field: TokensField = "max_tokens"
    output: OutputMode = "json_schema"
    keep_constraints: bool = True
    system_role: str = "system"
    path: str = "/chat/completions"
    auth: AuthStyle = "bearer"
    requests_period: float = MINUTE
    tight: tuple[int, int, int] | None = None

    def url(self, base_url: str) -> str:
        """Return the address of a call; joined as text, since ``urljoin`` would drop ``/v1``."""
        return base_url.rstrip("/") + self.path

    def auth_headers(self, key: str | None) -> dict[str, str]:
        """Return the header that carries *key*; none without a key, as local servers like it."""
        if not key:
            return {}
        return {"api-key": key} if self.auth == "api-key" else {"Authorization": f"Bearer {key}"}


DEFAULT = Profile(name="openai-compatible")
"""Any other server: Ollama, vLLM, llama.cpp, the embedded model, relays that nobody knows."""

EMBEDDED = Profile(name="embedded", tight=(3, 4, 80))
"""The embedded model of 135M parameters: with these bounds every answer ended before 256 tokens; left alone it plans
one part every other time."""

_OPENAI = Profile(name="openai", max_tokens_field="max_completion_tokens", keep_constraints=False)
_AZURE = Profile(name="azure", max_tokens_field="max_completion_tokens", keep_constraints=False, auth="api-key")
_JSON_ONLY: OutputMode = "json_object"

PROFILES: dict[str, Profile] = {
    "api.openai.com": _OPENAI,
    "openai.azure.com": _AZURE,
    "cognitiveservices.azure.com": _AZURE,
    "services.ai.azure.com": _AZURE,
    "openrouter.ai": Profile(name="openrouter", keep_constraints=False),
    "api.groq.com": Profile(name="groq", keep_constraints=False, requests_period=DAY),
    "api.holysheep.ai": Profile(name="holysheep", keep_constraints=False),
    "api.deepseek.com": Profile(name="deepseek", output=_JSON_ONLY, keep_constraints=False),
    "bigmodel.cn": Profile(name="glm", output=_JSON_ONLY, keep_constraints=False),
    "api.z.ai": Profile(name="glm", output=_JSON_ONLY, keep_constraints=False),
    "api.minimax.io": Profile(name="minimax", output=_JSON_ONLY, keep_constraints=False),
    "aliyuncs.com": Profile(name="qwen", output=_JSON_ONLY, keep_constraints=False),
}
"""Profiles by host; a host also stands for the hosts below it."""


def profile_for(base_url: str) -> Profile:
    """Return the profile of the host in *base_url*; ``DEFAULT`` for loopback and for hosts that nobody knows."""
    try:
        host = (urlsplit(base_url.strip()).hostname or "").rstrip(".")
    except ValueError:
        return DEFAULT
    while host:
        if host in PROFILES:
            return PROFILES[host]
        host = host.partition(".")[2]
    return DEFAULT
