"""The caller of a simulation: speaks as ``actors/caller.py`` does, and its calls take virtual time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import Struct

from actors.base import Actor
from actors.caller import AreYouFree, Free
from protocol.chat import CallFailure
from protocol.errors import ErrorKind
from protocol.signals import Perform, Performed

if TYPE_CHECKING:
    from collections.abc import Callable

    from protocol.chat import ChatReply, ChatRequest
    from protocol.wire.profiles import Profile
    from runtime.simulated_provider import Dice, Said, Vendor


class Landed(Struct, frozen=True, kw_only=True, tag=True):
    """The reply to the call *call* is there, or its time is over."""

    call: str


class HangUp(Struct, frozen=True, kw_only=True, tag=True):
    """End the call *call*; empty: whichever is under way."""

    call: str = ""


class SimulatedLine:
    """Stands where the gateway keeps the line of a caller: what ends a call from outside is a message here."""

    def __init__(self, send: Callable[[HangUp], object]) -> None:
        self._send = send

    def call(
        self, request: ChatRequest, *, timeout: float, call: str
    ) -> tuple[ChatReply | CallFailure, float, dict[str, str]]:
        """Refuse: the simulated caller asks its vendor itself."""
        raise NotImplementedError

    def abort(self, call: str) -> None:
        """Have the call named *call* ended."""
        self._send(HangUp(call=call))

    def hang_up(self) -> None:
        """Have whatever call is under way ended."""
        self._send(HangUp())

    def close(self) -> None:
        """Do nothing: there is no connection."""


class SimulatedCaller(Actor):
    """Makes one call at a time; what comes meanwhile waits, as it would in front of a blocking one."""

    def __init__(self, vendor: Vendor, profile: Profile, dice: Dice) -> None:
        super().__init__()
        self._vendor = vendor
        self._profile = profile
        self._dice = dice
        self._perform: Perform | None = None
        self._said: Said | None = None
        self._began = 0.0
        self._mail: list[Perform | AreYouFree] = []

    def teardown(self) -> None:
        """Let go of the call under way."""
        self._let_go()

    def replaced(self) -> None:
        """As at the end: the next instance knows nothing of the call."""
        self._let_go()

    def on_receive(self, message: Any) -> None:
        """Begin a call, report one, or give one up."""
        match message:
            case Perform() | AreYouFree() if self._perform is not None:
                self._mail.append(message)
            case Perform():
                self._begin(message)
            case AreYouFree():
                self.tell(message.reply_to, Free(caller=self.address))
            case Landed() if self._said is not None:
                self._report(self._said.outcome)
            case HangUp() if self._perform is not None and message.call in {"", self._perform.call}:
                self._report(CallFailure(kind=ErrorKind.TIMEOUT, message="hung up from outside"))
            case _:
                pass  # too late: that call is over

    def _begin(self, perform: Perform) -> None:
        now = self._began = self.clock()
        said = self._vendor.take(perform.request, self._profile, now, self._dice.deal())
        if said.seconds > perform.timeout:
            late = CallFailure(kind=ErrorKind.TIMEOUT, message=f"no reply within {perform.timeout:g} s")
            said = said._replace(outcome=late, seconds=perform.timeout)
        self._perform, self._said = perform, said
        self.after(said.seconds, Landed(call=perform.call), key="call")

    def _report(self, outcome: ChatReply | CallFailure) -> None:
        perform = self._perform
        assert perform is not None
        elapsed = (self.clock() - self._began) * 1000.0
        self.cancel_timer("call")
        self._let_go()
        performed = Performed(call=perform.call, caller=self.address, outcome=outcome, elapsed_ms=elapsed)
        self.tell(perform.reply_to, performed)
        mail, self._mail = self._mail, []
        for message in mail:
            self.tell(self.address, message)

    def _let_go(self) -> None:
        if self._said is not None and self._said.gate is not None:
            self._said.gate.leave(self.clock())
        self._perform = self._said = None
