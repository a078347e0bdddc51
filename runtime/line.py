"""The line to a provider: wire codec over HTTP. What a caller (``actors/caller.py``) calls through."""

from __future__ import annotations

import time
from email.utils import formatdate
from typing import TYPE_CHECKING

from protocol.chat import CallFailure, ChatReply
from protocol.ids import run_of
from protocol.wire.openai import decode_response, encode_request
from runtime.http import HttpCaller, Response
from runtime.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Mapping

    from protocol.chat import ChatRequest
    from protocol.wire.profiles import Profile
    from runtime.secret import Secret

_log = get_logger()
TOLD = ("anthropic-priority-", "retry-after", "date")
"""How headers begin that say something of limits without the word in their names; the date, to reckon from."""


class ProviderLine:
    """One connection to one provider; an actor's own, save for :meth:`abort`."""

    def __init__(self, base_url: str, key: Secret | None, profile: Profile) -> None:
        headers = {"content-type": "application/json", "accept": "application/json"}
        headers |= profile.auth_headers(None if key is None else key.reveal())
        self._profile = profile
        self._call = ""
        self._http = HttpCaller(profile.url(base_url), headers)

    def call(
        self, request: ChatRequest, *, timeout: float, call: str
    ) -> tuple[ChatReply | CallFailure, float, dict[str, str]]:
        """Make the call and decode what comes; see ``actors.caller.Line``."""
        self._call = call
        body = encode_request(request, self._profile)
        began = time.monotonic()
        answer = self._http.post(body, timeout=timeout, call=call)
        elapsed = (time.monotonic() - began) * 1000.0
        if isinstance(answer, Response):
            outcome = decode_response(answer.status, answer.headers, answer.body, time.time())
            headers = _about_limits(answer.headers)
        else:
            outcome, headers = answer, {}
        self._note(request, outcome, elapsed, call)
        return outcome, elapsed, headers

    def abort(self, call: str) -> None:
        """End the call named *call* at once; any thread."""
        self._http.abort(call)

    def hang_up(self) -> None:
        """End whatever call is under way; any thread, at the end of the system."""
        self._http.abort(self._call)

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    @staticmethod
    def _note(request: ChatRequest, outcome: ChatReply | CallFailure, elapsed: float, call: str) -> None:
        if isinstance(outcome, ChatReply):
            _log.debug(
                "call.answered",
                correlation_id=run_of(call),
                call=call,
                model=request.model,
                elapsed_ms=round(elapsed, 1),
                prompt=request.messages[-1].content[:2000],
                reply=outcome.text[:2000],
            )
        else:
            _log.info(
                "call.failed",
                correlation_id=run_of(call),
                call=call,
                model=request.model,
                kind=outcome.kind,
                status=outcome.status,
                error=outcome.message,
            )


def _about_limits(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that say something of limits, with the date beside them; nothing where only that is said."""
    told = {name: value for name, value in headers.items() if "ratelimit" in name or name.startswith(TOLD)}
    if not told.keys() - {"date"}:
        return {}
    told.setdefault("date", formatdate(time.time(), usegmt=True))
    return told
