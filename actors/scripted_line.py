"""The line of a scripted model, and the caller on it: what stands in a test where HTTP stands in production.

The line answers at once and says how long it took; the caller reports after that time, which is virtual. Until then it
is as deaf as a caller in a socket: it takes no other mail, save that its call is hung up from outside.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import Struct

from actors.caller import AreYouFree, Caller
from actors.scripted_model import ModelCall
from protocol.chat import CallFailure, ChatReply
from protocol.errors import ErrorKind
from protocol.signals import Perform, Performed

if TYPE_CHECKING:
    from collections.abc import Callable

    from actors.scripted_model import ScriptedModel
    from protocol.chat import ChatRequest
    from protocol.signals import ChatCall

HUNG_UP = CallFailure(
    kind=ErrorKind.TIMEOUT, message="the call to the scripted model was ended from outside: deadline or cancel"
)
SILENT = CallFailure(kind=ErrorKind.TIMEOUT, message="no complete reply from the scripted model in time")


class HangUp(Struct, frozen=True, kw_only=True, tag=True):
    """End the call named *call*, whichever it is when None."""

    call: str | None = None


class ScriptedLine:
    """A line whose provider is *model*. *asked* gives who awaits a step, *tell* sends to the caller on this line."""

    def __init__(
        self,
        model: ScriptedModel,
        *,
        asked: Callable[[str], ChatCall | None],
        now: Callable[[], float],
        tell: Callable[[HangUp], object],
    ) -> None:
        self._model = model
        self._asked = asked
        self._now = now
        self._tell = tell

    def call(
        self, request: ChatRequest, *, timeout: float, call: str
    ) -> tuple[ChatReply | CallFailure, float, dict[str, str]]:
        """Give the scripted outcome at once, and the time that it takes in ms; past *timeout* it is a failure."""
        step, _, attempt = call.rpartition("#")
        asked = self._asked(step)
        if asked is None:
            return HUNG_UP, 0.0, {}  # its asker has gone meanwhile
        answer, seconds = self._model.answer(
            ModelCall(asked=asked, request=request, attempt=int(attempt), at=self._now())
        )
        self._model.under_way.add(step)
        if seconds > timeout:
            return SILENT, timeout * 1000.0, {}
        return answer, seconds * 1000.0, {}

    def ended(self, call: str, *, hung_up: bool) -> None:
        """Note that the call is over; called by its caller."""
        step = call.rpartition("#")[0]
        self._model.under_way.discard(step)
        if hung_up:
            self._model.cancelled.append(step)

    def abort(self, call: str) -> None:
        """End the call named *call*."""
        self._tell(HangUp(call=call))

    def hang_up(self) -> None:
        """End whatever call is under way."""
        self._tell(HangUp())

    def close(self) -> None:
        """Do nothing: there is no connection."""


class PatientCaller(Caller):
    """A caller that never blocks: it reports a call after the time that its line says the call takes."""

    def __init__(self, line: ScriptedLine) -> None:
        super().__init__(line)
        self._scripted = line
        self._busy: Perform | None = None
        self._began = 0.0
        self._mail: list[Any] = []

    def replaced(self) -> None:
        """Forget the call that this instance failed in; its gateway has heard."""
        if self._busy is not None:
            self._scripted.ended(self._busy.call, hung_up=False)

    def teardown(self) -> None:
        """As when it is replaced."""
        self.replaced()
        super().teardown()

    def on_receive(self, message: Any) -> None:
        """Make one call at a time; the rest waits, as it waits for a caller that is blocked in a socket."""
        match message:
            case Performed() if self._busy is not None:
                self._report(message)
            case HangUp() if self._busy is not None and message.call in {None, self._busy.call}:
                self._report(self._performed(HUNG_UP, (self.clock() - self._began) * 1000.0), hung_up=True)
            case HangUp():
                return  # that call has ended
            case Perform() | AreYouFree() if self._busy is not None:
                self._mail.append(message)
            case Perform():
                self._begin(message)
            case _:
                super().on_receive(message)

    def _begin(self, perform: Perform) -> None:
        self._busy, self._began = perform, self.clock()
        outcome, elapsed_ms, headers = self._line.call(perform.request, timeout=perform.timeout, call=perform.call)
        performed = self._performed(outcome, elapsed_ms, headers)
        if elapsed_ms <= 0.0:
            self._report(performed)
        else:
            self.after(elapsed_ms / 1000.0, performed, key="call")

    def _performed(
        self, outcome: ChatReply | CallFailure, elapsed_ms: float, headers: dict[str, str] | None = None
    ) -> Performed:
        assert self._busy is not None
        return Performed(
            call=self._busy.call, caller=self.address, outcome=outcome, elapsed_ms=elapsed_ms, headers=headers or {}
        )

    def _report(self, performed: Performed, *, hung_up: bool = False) -> None:
        assert self._busy is not None
        self.tell(self._busy.reply_to, performed)
        self._scripted.ended(performed.call, hung_up=hung_up)
        self.cancel_timer("call")
        self._busy = None
        mail, self._mail = self._mail, []
        for message in mail:
            self.tell(self.address, message)
