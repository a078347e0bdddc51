"""The books of a play: who sent what and who handled it, kept beside the actors and never asked of them.

Laws 1, 2 and 4, and that no answer is acted on before it is on record, are checked here after every single turn.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from actors.base import Timed, unwrap
from actors.mailbox import VERDICTS, Begin
from protocol import ids
from protocol.signals import (
    Answer,
    Cancel,
    ChatResult,
    ChildFailed,
    Control,
    DeadLetter,
    Forget,
    Granted,
    Reaffirm,
    Restart,
    RunEnded,
    Settle,
)
from tests.explorer.players import CROSSED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from actors.directory import Directory
    from actors.mailbox import Mailbox
    from protocol.messages import WorkflowResult

OUTSIDE = "outside"
ORDERS = (*VERDICTS, Begin)
"""What overtakes the mail that waits, and what a mailbox makes itself."""


class Violation(Exception):  # noqa: N818 (what happened to a law)
    """A law was broken; *law* is its short name."""

    def __init__(self, law: str, text: str) -> None:
        super().__init__(f"{law}: {text}")
        self.law = law


class Books:
    """Double entry: what left a sender on one side, what reached a handler or the dead letters on the other."""

    def __init__(self, directory: Directory, *, concurrency: int | None) -> None:
        self.directory = directory
        self.broken: Violation | None = None
        self.ended: dict[str, WorkflowResult] = {}  # the first end that was told: a desk hears no second one
        self.turned_away = False  # whether the breaker or the retry budget has kept a call from being made
        self.handled = 0
        self._open: dict[tuple[int, str], list[tuple[Any, str, bool, int]]] = {}
        self._numbers: Counter[tuple[str, str, bool]] = Counter()
        self._last: dict[tuple[str, str, bool], int] = {}
        self._turn: str | None = None
        self._again: list[tuple[Any, str]] = []
        self._leaving: set[tuple[int, str]] = set()
        self._forgotten: set[str] = set()  # what the recorder was told to forget
        self.leases = Leases(concurrency)

    # --- law 1: the sender's side

    def left(self, sender: str, _timers: Iterable[Any], outbox: Iterable[tuple[Any, Any]]) -> None:
        """Book what a turn sends, at its end. Fits ``Directory.on_turn``."""
        self._leaving.clear()
        for to, message in outbox:
            if isinstance(to, str):
                self._leaving.add((id(message), to))
                self._sent(sender, to, message)

    def sends(self, to: str, message: Any) -> None:
        """Book what is sent at once, from outside or in the midst of a turn.

        What :meth:`left` has booked comes by here too when nobody lives at its address.
        """
        key = (id(message), to)
        if key in self._leaving:
            self._leaving.discard(key)
        else:
            self._sent(f"{self._turn or OUTSIDE}, at once", to, message)

    def _sent(self, sender: str, to: str, message: Any) -> None:
        lane = isinstance(message, Control)
        self._numbers[sender, to, lane] += 1
        entry = (message, sender, lane, self._numbers[sender, to, lane])
        self._open.setdefault((id(message), to), []).append(entry)
        if isinstance(message, Granted):
            self._note(self.leases.granted(message.lease))

    # --- laws 1 and 2: the receiver's side

    def takes(self, mailbox: Mailbox, item: Any) -> None:
        """Book that *item* is about to be handled."""
        address = mailbox.address
        if self._turn is not None:
            self._break("law 2", f"{address} handles {_name(item)} while {self._turn} is in its turn")
        self._turn = address
        self.handled += 1
        if isinstance(item, Timed):
            return
        message, _ = unwrap(item)
        entry = self._settle((id(message), address))
        if entry is None:
            if not isinstance(message, ORDERS) and not self._is_taken_up(address, message):
                self._break("law 1", f"{address} handles {_name(item)}, which nobody sent, or for the second time")
        elif not isinstance(message, ORDERS):
            _, sender, lane, number = entry
            if number < self._last.get((sender, address, lane), 0):
                self._break("law 2", f"{address} handles {_name(item)} of {sender} after what was sent later")
            self._last[sender, address, lane] = number
        self._on_record(address, message)
        if address == ids.LIMITER:
            self._note(self.leases.told(message))
        elif isinstance(message, Forget) and address == ids.RECORDER:
            self._forgotten.add(message.run)
        elif isinstance(message, Answer) and address == ids.RECORDER:
            self.turned_away |= _is_turned_away(message.payload)
        elif isinstance(message, RunEnded) and address == ids.DESK:
            self.ended.setdefault(message.run, message.result)

    def _is_taken_up(self, address: str, message: Any) -> bool:
        """Tell whether an instance at *address* failed on *message*, so that the next may take it up, once."""
        for number, (failed, place) in enumerate(self._again):
            if failed is message and place == address:
                del self._again[number]
                return True
        return False

    def died(self, letter: DeadLetter) -> None:
        """Book a dead letter; one that tells of what was handled already stands for no message."""
        self._settle((id(letter.message), letter.to))
        if letter.reason.startswith(CROSSED):
            self._break("nonces", f"{letter.to}: {letter.reason}")
        if letter.reason.startswith("settlement ignored") and not self.leases.disturbed:
            self._break("law 4", f"the lease {letter.message} is settled for the second time")
        if letter.reason.endswith("never settled this lease"):
            self._note(self.leases.expired(letter.message))

    def ends(self, mailbox: Mailbox) -> None:
        """Book that the turn of *mailbox* has ended. Raises the first violation."""
        self._turn = None
        if mailbox.suspended and mailbox.failed_on is not None:
            self._again.append((mailbox.failed_on, mailbox.address))
        if mailbox.address == ids.LIMITER and mailbox.actor is not None and not mailbox.suspended:
            self._note(self.leases.compare(mailbox.actor._decide))
        if self.broken is not None:
            raise self.broken

    def close(self) -> None:
        """Compare both sides when nothing moves any more. Raises a :class:`Violation`."""
        queued: Counter[tuple[int, str]] = Counter()
        for box in self.directory.mailboxes.values():
            for lane in (box.control, box.data):
                queued.update((id(unwrap(item)[0]), box.address) for item in lane if not isinstance(item, Timed))
        for key, entries in self._open.items():
            if len(entries) != queued[key]:
                message, sender, _, _ = entries[0]
                self._break(
                    "law 1", f"{_name(message)} of {sender} to {key[1]}: not handled, no dead letter, not queued"
                )
        if self.broken is not None:
            raise self.broken

    def _settle(self, key: tuple[int, str]) -> tuple[Any, str, bool, int] | None:
        entries = self._open.get(key)
        if not entries:
            return None
        entry = entries.pop(0)
        if not entries:
            del self._open[key]
        return entry

    # --- on record before it is acted on

    def _on_record(self, address: str, message: Any) -> None:
        if not isinstance(message, Answer) or address == ids.RECORDER:
            return
        step = message.step
        record = (self.directory.mailboxes[ids.RECORDER].held or {}).get(ids.run_of(step))
        kept = None if record is None else record.answers.get(step)
        if kept is None and not self._forgotten.isdisjoint((step, *ids.above(step))):
            return  # what has ended is passed on and not kept
        if kept is None:
            self._break("record", f"{address} acts on the answer for {step}, which is on no record")
        elif kept.payload != message.payload:
            self._break("record", f"{address} acts on another answer for {step} than the one on record")

    def _note(self, text: str | None) -> None:
        if text is not None:
            self._break("law 4", text)

    def _break(self, law: str, text: str) -> None:
        if self.broken is None:
            self.broken = Violation(law, text)


class Leases:
    """What the limiter has handed out, by its messages alone; compared with its own books after each of its turns."""

    def __init__(self, concurrency: int | None) -> None:
        self.open: set[str] = set()
        self.disturbed = False
        self.may_be_late: Callable[[], bool] = bool  # whether the gateway was kept from giving one back in time
        self.granted_in_all = 0
        self._concurrency = concurrency
        self._allowed = concurrency or 0

    def granted(self, lease: str) -> str | None:
        """Book a grant that leaves the limiter; return what is wrong with it."""
        self.granted_in_all += 1
        if lease in self.open:
            return f"the lease {lease} is granted for the second time"
        self.open.add(lease)
        return None

    def told(self, message: Any) -> str | None:
        """Book what the limiter is about to handle; return what is wrong with it."""
        match message:
            case Settle(lease=lease) if lease not in self.open and not self.disturbed:
                return f"the lease {lease} is settled for the second time, or was never granted"
            case Settle(lease=lease) | Cancel(lease=lease):
                self.open.discard(lease)
            case Begin(again=True) | Restart():
                self.open.clear()
                self.disturbed = True
            case ChildFailed(address=ids.GATEWAY):
                self.open.clear()
                self.disturbed = True
            case Reaffirm():
                named = {request.lease for request in message.leases}
                self.open = named if message.replaced else self.open | named  # the gateway is the only holder
                self.disturbed = True
                self._allowed = max(self._allowed, len(self.open))
        return None

    def expired(self, lease: str) -> str | None:
        """Book that the limiter has waited long enough for a settlement; a late one is then no second one."""
        self.open.discard(lease)
        self.disturbed = True
        return None if self.may_be_late() else f"the lease {lease} was never given back"

    def compare(self, machine: Any) -> str | None:
        """Return how the limiter's own books differ from these, or that more is in flight than may be."""
        held = set(machine._leases)
        if held != self.open:
            return f"the limiter holds {sorted(held)}, handed out and not given back are {sorted(self.open)}"
        in_flight = machine.in_flight("main")
        if in_flight != len(held):
            return f"the limiter counts {in_flight} in flight and holds {sorted(held)}"
        if self._concurrency is not None and in_flight > self._allowed:
            return f"{in_flight} calls are in flight, {self._concurrency} may be"
        self._allowed = max(self._concurrency or 0, min(self._allowed, in_flight))
        return None


def _is_turned_away(payload: Any) -> bool:
    failure = payload.failure if isinstance(payload, ChatResult) else None
    return failure is not None and any(words in failure.message for words in ("not sent", "not tried again"))


def _name(item: Any) -> str:
    message, _ = unwrap(item)
    step = getattr(message, "message_id", None) or getattr(message, "step", None) or getattr(message, "lease", "")
    return f"{type(message).__name__} {step}".strip()
