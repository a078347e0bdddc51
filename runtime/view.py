"""The live view of a run: events go into its state, and a frame is drawn when one is due.

Everything happens in the thread that waits for events: it asks :meth:`LiveView.refresh` how long it may wait. The
writing of frames is left to the thread that writes lines, so nobody waits for the terminal.
"""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

from runtime import terminal
from runtime.view_state import DomainState, ViewState

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from protocol.messages import WorkflowResult
    from protocol.signals import Progress
    from runtime.config import Config, Limits
    from runtime.screen import Frame

EVERY = 0.25
"""Seconds between two frames at least."""
SHARE = 0.02
"""Of the time so much is spent on drawing at most: frames that take long come less often."""
MOST_ROWS = 200
"""Lines of the last frame, which may be longer than the terminal: it is no longer replaced."""


def wanted(environ: Mapping[str, str] = os.environ) -> bool:
    """Tell whether a live view can be shown: standard error is a terminal that moves its cursor, and rich is there."""
    if environ.get("TERM", "dumb") in {"dumb", "unknown"} or not terminal.is_terminal():
        return False
    try:
        import rich.console  # noqa: F401, PLC0415 (an extra: loaded only where it is used)
    except ImportError:
        return False
    return True


class LiveView:
    """Shows *state* on the terminal of standard error. ``clock`` is monotonic, ``wall`` as in events."""

    def __init__(
        self,
        state: ViewState,
        *,
        show: Callable[[Frame], object] = terminal.show,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        cpu: Callable[[], float] = time.thread_time,
        size: Callable[[], tuple[int, int]] = lambda: (terminal.columns(), terminal.rows()),
    ) -> None:
        from runtime.view_draw import draw  # noqa: PLC0415 (as above)

        self.state = state
        self._draw = draw
        self._show = show
        self._clock, self._wall, self._cpu, self._size = clock, wall, cpu, size
        self._utf8 = (sys.stderr.encoding or "").lower().replace("-", "") == "utf8"
        self._due = 0.0

    def refresh(self) -> float:
        """Draw when a frame is due; return the seconds until the next one is."""
        now = self._clock()
        if now >= self._due:
            took = self._frame()
            self._due = now + max(EVERY, took / SHARE)
        return max(0.0, self._due - now)

    def close(self) -> None:
        """Draw the last frame, which stays, whole."""
        self._frame(stays=True)

    def on_event(self, event: Progress) -> None:
        """Take in one event."""
        self.state.on_event(event)

    def on_opened(self, run: str, title: str) -> None:
        """Begin a run."""
        self.state.on_opened(run, title, self._wall())

    def on_ended(self, result: WorkflowResult) -> None:
        """End a run."""
        self.state.on_ended(result, self._wall())

    def _frame(self, *, stays: bool = False) -> float:
        """Draw and return the seconds of this thread's time that it took."""
        began = self._cpu()
        columns, rows = self._size()
        frame = self._draw(
            self.state, self._wall(), columns, MOST_ROWS if stays else rows, utf8=self._utf8, stays=stays
        )
        self._show(frame)
        return self._cpu() - began


def live_view(config: Config, total: int, began: float, max_cost: float | None = None) -> LiveView:
    """Return the view of *total* runs in a system with *config*."""
    budgets = [usd for usd in (config.budget.usd, max_cost if total == 1 else None) if usd is not None]
    limits = {name: _domain(table) for name, table in config.limits.items()}
    return LiveView(ViewState(began=began, total=total, limits=limits, budget=min(budgets, default=None)))


def _domain(table: Limits) -> DomainState:
    rates = ("requests_per_minute", "tokens_per_minute", "input_tokens_per_minute", "output_tokens_per_minute")
    known = {name: getattr(table, name) for name in rates}
    return DomainState(table.concurrency, {name: rate for name, rate in known.items() if rate is not None})
