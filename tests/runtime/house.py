"""A house with real threads for the tests of loops and watchdog: nothing in it sleeps, everything waits on channels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from actors.directory import ActorSpec, Directory
from runtime.channel import Channel
from runtime.loop import PinnedDispatcher, SharedDispatcher
from runtime.watchdog import Watchdog
from tests.actors.players import Boss, Player

if TYPE_CHECKING:
    from collections.abc import Callable

    import pykka

    from runtime.loop import Loop

TIMEOUT = 10.0
"""Seconds after which a test gives up; none waits that long when all is well."""


class News(Channel):
    """What the boss heard, for the thread of the test."""

    append = Channel.put

    def next(self, kind: type = object) -> Any:
        """Return the next of *kind*, dropping others."""
        while not isinstance(news := self.get(timeout=TIMEOUT), kind):
            pass
        return news


class House:
    """A directory with a shared and a pinned dispatcher, a boss on the shared one, a watchdog that looks when told."""

    def __init__(self) -> None:
        self.shared, self.pinned = SharedDispatcher(), PinnedDispatcher()
        self.directory = Directory(self.shared, self.pinned)
        self.news, self.slow = News(), []
        self.watchdog = Watchdog(self.directory, (self.shared, self.pinned), lambda *facts: self.slow.append(facts))
        self._gates: list[Gate] = []
        self._now = 0.0
        self._threads: list[Any] = []
        self.shared.start()
        self.directory.spawn(ActorSpec(address="boss", factory=lambda: Boss(self.news)))

    def spawn(self, address: str, act: Callable[..., Any], **options: Any) -> pykka.ActorRef[Any]:
        """Spawn a player."""
        hooks = {name: options.pop(name) for name in ("made", "lost") if name in options}
        factory = options.pop("factory", lambda: Player(act, **hooks))
        ref = self.directory.spawn(ActorSpec(address=address, factory=factory, parent="boss", **options))
        self._threads += [thread for thread in self.threads() if thread not in self._threads]
        return ref

    def loop(self, address: str) -> Loop:
        """Return the loop that runs *address* now."""
        return self.pinned._loops.get(address, self.shared.loop)

    def threads(self) -> list[Any]:
        """Return the threads of both dispatchers."""
        return [*self.shared.threads(), *self.pinned.threads()]

    def gate(self) -> Gate:
        """Return a gate that is opened at the latest when the house closes."""
        self._gates.append(Gate())
        return self._gates[-1]

    def pass_time(self, seconds: float) -> None:
        """Let the watchdog look every 50 ms for *seconds* of its own time."""
        for _ in range(round(seconds / 0.05) + 1):
            self.watchdog.look(self._now)
            self._now += 0.05

    def close(self) -> None:
        """Open every gate, end every thread, and see that none is left."""
        threads = {*self._threads, *self.threads(), *self.watchdog.stuck}
        for gate in self._gates:
            gate.open()
        self.pinned.stop()
        self.shared.stop()
        for thread in threads:
            thread.join(timeout=TIMEOUT)
        assert [thread for thread in threads if thread.is_alive()] == []


class Gate:
    """Where a handler hangs until the test lets it go."""

    def __init__(self) -> None:
        self._inside: Channel[None] = Channel()
        self._open: Channel[None] = Channel()

    def hang(self) -> None:
        """Called by the handler: wait until the gate is opened."""
        self._inside.put(None)
        self._open.get(timeout=4 * TIMEOUT)
        self._open.put(None)

    def wait(self) -> None:
        """Called by the test: wait until a handler hangs here."""
        self._inside.get(timeout=TIMEOUT)

    def open(self) -> None:
        """Let go whoever hangs, now and later."""
        self._open.put(None)
