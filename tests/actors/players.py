"""Actors and a stage for the tests of the base: what they do is handed to them as functions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from actors.base import Actor
from actors.directory import ActorSpec, Directory
from actors.simulation import SimulatedDispatcher
from protocol.signals import ChildFailed, Restart

if TYPE_CHECKING:
    from collections.abc import Callable

    import pykka

    from actors.mailbox import Mailbox


class Player(Actor):
    """Does with each message what *act* says; *made* and *lost* run at its beginning and end."""

    def __init__(self, act: Callable[..., Any], *, made: Any = None, lost: Any = None) -> None:
        super().__init__()
        self.act, self.made, self.lost = act, made, lost

    def setup(self):
        if self.made is not None:
            self.made(self)

    def teardown(self):
        if self.lost is not None:
            self.lost(self)

    def on_receive(self, message):
        return self.act(self, message)


class Boss(Actor):
    """A root that hears of its children, and restarts those that failed unless told to wait."""

    def __init__(self, news: list[Any], *, restarts: bool = True) -> None:
        super().__init__()
        self.news, self.restarts = news, restarts

    def on_receive(self, message):
        self.news.append(message)
        if isinstance(message, ChildFailed) and self.restarts:
            self.tell(message.address, Restart())


class Stage:
    """A simulated system with a boss; ``seed=None`` delivers in the order of sending."""

    def __init__(self, seed: int | None = None, *, restarts: bool = True) -> None:
        self.dispatcher = SimulatedDispatcher(seed)
        self.directory = Directory(self.dispatcher)
        self.news: list[Any] = []
        self.log: list[Any] = []
        self.failures: list[str] = []
        self.directory.on_failure = lambda news, action: self.failures.append(f"{news.address}: {action}")
        self.directory.spawn(ActorSpec(address="boss", factory=lambda: Boss(self.news, restarts=restarts)))

    def spawn(
        self, address: str, act: Any = None, *, parent: str | None = "boss", **options: Any
    ) -> pykka.ActorRef[Any]:
        """Spawn a player; without *act* it writes what it gets into the log."""
        hooks = {name: options.pop(name) for name in ("made", "lost") if name in options}
        factory = options.pop("factory", lambda: Player(act or (lambda _, message: self.log.append(message)), **hooks))
        return self.directory.spawn(ActorSpec(address=address, factory=factory, parent=parent, **options))

    def tell(self, to: str, *messages: Any) -> None:
        """Send, and let everything settle."""
        for message in messages:
            self.directory.send(to, message)
        self.dispatcher.settle()

    def mailbox(self, address: str) -> Mailbox:
        """Return the mailbox of *address*."""
        return self.directory.mailboxes[address]

    def dead(self) -> list[Any]:
        """Return the messages nobody handled."""
        return [letter.message for letter in self.directory.dead]

    def heard(self, kind: type) -> list[Any]:
        """Return the news of one kind that the boss got."""
        return [news for news in self.news if isinstance(news, kind)]


def boom(_actor, _message):
    raise ValueError("boom")


def fails_on(bad, log):
    def act(_actor, message):
        if message == bad:
            raise ValueError(bad)
        log.append(message)

    return act
