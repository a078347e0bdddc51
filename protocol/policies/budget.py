"""Hard budgets: what is reserved and what is spent together never exceed what may be spent.

Before a call goes, the most it can cost is reserved; its end turns the reservation into what it has cost. Checked is
before anything is sent, and checking and reserving are one step: whoever checks, calls and adds up afterwards passes
the budget by as much as was under way meanwhile. There is one budget for the system and one for each run that has one;
a run may also have a bound of calls under way.

Law: ``reserved + spent <= budget`` at every instant, as long as no call costs more than was reserved for it; what one
does cost more is booked all the same. Money is integer nano-dollars. Source: wire.md 4.4.
"""

from __future__ import annotations

from enum import Enum

from msgspec import Struct

from protocol import ids


class Verdict(Enum):
    """What a budget says to a reservation."""

    FITS = "fits"
    LATER = "later"  # when reservations of others have come back
    LATER_IN_RUN = "later in run"  # when calls of the same run have ended
    NEVER = "never"
    NEVER_IN_RUN = "never in run"
    UNPRICED = "unpriced"  # nobody knows what it costs


FITS, LATER, LATER_IN_RUN, NEVER, NEVER_IN_RUN, UNPRICED = Verdict


class Account:
    """What may be spent (None: no bound), what is spent and what is reserved, in nano-dollars; and calls under way."""

    __slots__ = ("calls", "closed", "limit", "most_calls", "reserved", "spent")

    def __init__(self, limit: int | None, most_calls: int | None = None) -> None:
        self.limit = limit
        self.most_calls = most_calls
        self.spent = 0
        self.reserved = 0
        self.calls = 0
        self.closed = False

    def fits(self, nano: int) -> bool:
        """Tell whether one more call, of *nano*, could go now."""
        if self.most_calls is not None and self.calls >= self.most_calls:
            return False
        return self.limit is None or self.spent + self.reserved + nano <= self.limit

    def can_ever_fit(self, nano: int) -> bool:
        """Tell whether waiting for *nano* can ever end."""
        return self.limit is None or self.spent + nano <= self.limit


class Reservation(Struct, frozen=True, gc=False):
    """What is held for a lease, in the system's books and in those of its run, if that has any."""

    run: str
    account: Account | None
    holder: str
    nano: int


class Budget:
    """The books of all leases. They outlive the limiter's instances, so that what was spent stays spent."""

    __slots__ = ("_leases", "_runs", "total")

    def __init__(self, limit: int | None = None, *, spent: int = 0) -> None:
        """*limit* is the system's, None for none; *spent* was spent before, in nano-dollars."""
        self.total = Account(limit)
        self.total.spent = spent
        self._runs: dict[str, Account] = {}
        self._leases: dict[str, Reservation] = {}

    # --- runs

    def allow(self, run: str, limit: int | None, most_calls: int | None = None) -> None:
        """Let *run* spend at most *limit*, with at most *most_calls* calls under way; None is no bound.

        What it has spent already counts. A new run of an old name begins anew.
        """
        account = self._runs.setdefault(run, Account(limit))
        account.limit, account.most_calls = limit, most_calls
        if account.closed:
            account.closed, account.spent = False, 0

    def close(self, run: str) -> None:
        """The run is over: its account goes with the last of its calls."""
        account = self._runs.get(run)
        if account is not None:
            account.closed = True
            self._clear(run, account)

    def account(self, run: str) -> Account | None:
        """Return the account of a run that has one."""
        return self._runs.get(run)

    # --- leases

    def judge(self, run: str, nano: int | None) -> Verdict:
        """Say whether *nano* (None: the price is unknown) could be reserved for a lease of *run*."""
        account, total = self._runs.get(run), self.total
        if nano is None:
            if total.limit is not None or (account is not None and account.limit is not None):
                return UNPRICED
            nano = 0
        bounded = total.limit is not None
        if bounded and not total.can_ever_fit(nano):
            return NEVER
        if account is not None and not account.fits(nano):
            return LATER_IN_RUN if account.can_ever_fit(nano) else NEVER_IN_RUN
        return LATER if bounded and not total.fits(nano) else FITS

    def reserve(self, lease: str, holder: str, nano: int) -> None:
        """Hold *nano* for *lease*, which *holder* holds; the caller has asked :meth:`judge`, or the call is under way.

        Does nothing for a lease that something is held for.
        """
        if lease in self._leases:
            return
        run = ids.run_of(lease)
        account = self._runs.get(run)
        self._leases[lease] = Reservation(run, account, holder, nano)
        self.total.reserved += nano
        if account is not None:
            account.reserved += nano
            account.calls += 1

    def settle(self, lease: str, nano: int | None) -> bool:
        """Turn what is held for *lease* into *nano* spent (None: into all of it). False when nothing is held for it."""
        held = self._leases.pop(lease, None)
        if held is None:
            return False
        spent = held.nano if nano is None else nano
        self.total.reserved -= held.nano
        self.total.spent += spent
        if held.account is not None:
            held.account.reserved -= held.nano
            held.account.spent += spent
            held.account.calls -= 1
            self._clear(held.run, held.account)
        return True

    def held_by(self, holder: str) -> list[str]:
        """Return the leases that *holder* holds."""
        return [lease for lease, held in self._leases.items() if held.holder == holder]

    def holders(self) -> set[str]:
        """Return who holds leases."""
        return {held.holder for held in self._leases.values()}

    def _clear(self, run: str, account: Account) -> None:
        if account.closed and account.calls == 0:
            del self._runs[run]
