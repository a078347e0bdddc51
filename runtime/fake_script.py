"""What the scripted server is told to do: one frozen value, from Python, TOML or JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from protocol.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

Support = Literal["yes", "ignore", "reject"]
"""How a structured-output mode is met: obeyed, answered in prose, or refused with a 400."""

Seconds = Annotated[float, Meta(ge=0)]
Share = Annotated[float, Meta(ge=0, le=1)]


class Fault(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One rule of misbehaviour, for the calls that it matches.

    ``match`` is a role (``orchestrator``, ``coder``, ``reviewer``, ``other``) or a part of the request's text; empty
    matches every call. The first ``after`` matching calls pass, the next ``times`` are hit (0: all of them). Of several
    rules for one call the first with calls left is applied, and a call that one rule has taken counts for no later one.
    ``status`` sets the status, with an OpenAI-like error body unless ``body`` is given; ``delay`` comes on top of the
    script's latency; ``drip`` is the pause between two bytes of the body; ``hang`` never answers; ``reset`` cuts the
    connection with an RST; ``html``, ``malformed`` (half a JSON document), ``empty`` and ``error_in_200`` replace the
    body.
    """

    match: str = ""
    after: Annotated[int, Meta(ge=0)] = 0
    times: Annotated[int, Meta(ge=0)] = 1
    status: Annotated[int, Meta(ge=100, le=599)] = 200
    body: str | None = None
    headers: dict[str, str] = {}
    delay: Seconds = 0.0
    drip: Seconds = 0.0
    hang: bool = False
    reset: bool = False
    html: bool = False
    malformed: bool = False
    empty: bool = False
    error_in_200: bool = False
    finish_reason: str | None = None


class RateLimit(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A token bucket at the door: beyond it a call gets a 429 whose ``retry-after`` names the next free token.

    ``tokens_per_second`` adds a second one: a call needs its prompt and its ``max_tokens`` free, and gets back what its
    reply does not use; ``token_burst`` may come at once (None: what six seconds refill). A refused call counts in
    neither. With ``headers`` each reply also tells limit and remainder as OpenAI does (``x-ratelimit-*``, per minute);
    without ``hint`` a 429 names no time. ``closed_after`` seconds from the first call on nobody is let in for
    ``closed_for`` seconds.
    """

    per_second: Annotated[float, Meta(gt=0)]
    burst: Annotated[int, Meta(ge=1)] = 1
    tokens_per_second: Annotated[float, Meta(gt=0)] | None = None
    token_burst: Annotated[float, Meta(gt=0)] | None = None
    headers: bool = False
    hint: bool = True
    closed_after: Seconds = 0.0
    closed_for: Seconds = 0.0


class Script(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole behaviour of a scripted server; the same script and the same requests give the same replies.

    ``latency`` is in seconds, fixed or ``(low, high)`` drawn with ``seed``. ``reject_first_reviews`` is the share of
    subtasks whose first draft is rejected, chosen by their words, not by the order of arrival. ``nonce`` makes each
    prose reply repeat every ``nonce-XXXX`` of its request. ``api_key`` refuses any other bearer with a 401; ``usage``
    set to false leaves the token counts out of the replies. ``record`` keeps the log (``GET /log``) and the
    request bodies for whoever judges.
    """

    # no Annotated in here: msgspec 0.22 corrupts memory over a union of a constrained scalar and a fixed-length tuple
    latency: float | tuple[float, float] = 0.0
    seed: int = 0
    model: str = "scripted"
    subtasks: Annotated[int, Meta(ge=1, le=64)] = 3
    json_schema: Support = "yes"
    json_object: Support = "yes"
    reject_first_reviews: Share = 0.0
    faults: tuple[Fault, ...] = ()
    rate_limit: RateLimit | None = None
    nonce: bool = False
    api_key: str = ""
    usage: bool = True
    record: bool = False

    def __post_init__(self) -> None:
        low, high = self.latency if isinstance(self.latency, tuple) else (self.latency, self.latency)
        if not 0 <= low <= high < float("inf"):
            raise ValueError("latency is to be seconds, or two of them, the smaller first")


def load(path: Path) -> Script:
    """Read a script from a TOML or JSON file. Raises ``ConfigError`` that names the file and what is wrong in it."""
    decode = msgspec.toml.decode if path.suffix == ".toml" else msgspec.json.decode
    try:
        return decode(path.read_bytes(), type=Script)
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the script: {error.strerror}", page="script") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        known = ", ".join(Script.__struct_fields__)
        raise ConfigError(f"{path}: not a script: {error}; its keys are {known}", page="script") from error
