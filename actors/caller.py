"""The caller: a pinned actor that makes one blocking HTTP call at a time, over a connection of its own.

A caller blocked in a socket cannot read its mailbox. So the gateway's deadline reaches it through the line's
``abort``, the one method that another thread may call; everything else is a message.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from msgspec import Struct

from actors.base import Actor
from protocol.signals import Perform, Performed

if TYPE_CHECKING:
    from protocol.chat import CallFailure, ChatReply, ChatRequest


class AreYouFree(Struct, frozen=True, kw_only=True, tag=True):
    """Say :class:`Free` to *reply_to* once the call under way, if there is one, has ended."""

    reply_to: str


class Free(Struct, frozen=True, kw_only=True, tag=True):
    """*caller* has reported whatever it was told to do before it was asked."""

    caller: str


class Line(Protocol):
    """A way to one provider: blocking, for one thread, save for :meth:`abort`."""

    def call(
        self, request: ChatRequest, *, timeout: float, call: str
    ) -> tuple[ChatReply | CallFailure, float, dict[str, str]]:
        """Make the call; give its outcome, its wall time in ms, and the rate-limit headers.

        Never raises for what a server does.
        """
        ...

    def abort(self, call: str) -> None:
        """End the call named *call*, if it is still under way. Called from another thread; returns at once."""
        ...

    def hang_up(self) -> None:
        """End whatever call is under way. Called from another thread; returns at once."""
        ...

    def close(self) -> None:
        """Close the connection."""
        ...


class Caller(Actor):
    """Makes the calls it is told to, one after the other."""

    def __init__(self, line: Line) -> None:
        super().__init__()
        self._line = line

    def teardown(self) -> None:
        """Close the connection."""
        self._line.close()

    def on_receive(self, message: Any) -> None:
        """Make one call and report how it went."""
        if isinstance(message, AreYouFree):
            self.tell(message.reply_to, Free(caller=self.address))
            return
        assert isinstance(message, Perform)
        outcome, elapsed_ms, headers = self._line.call(message.request, timeout=message.timeout, call=message.call)
        self.tell(
            message.reply_to,
            Performed(call=message.call, caller=self.address, outcome=outcome, elapsed_ms=elapsed_ms, headers=headers),
        )
