"""What a coroutine may await: a step, several at once, or a scope of steps. The driver is ``protocol/steps.py``."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Generator

    from protocol.signals import Payload

T = TypeVar("T")


class Step(Generic[T]):
    """One awaited request: what is asked (``kind``, ``recipient``, ``content``), how, and how its answer reads."""

    __slots__ = ("_fingerprint", "content", "kind", "options", "read", "recipient")

    def __init__(
        self,
        kind: str,
        recipient: str | None,
        content: str,
        read: Callable[[Payload], T],
        options: dict[str, Any] | None = None,
    ) -> None:
        self.kind = kind
        self.recipient = recipient
        self.content = content
        self.read = read
        self.options = options or {}
        self._fingerprint = ""

    def __await__(self) -> Generator[Step[T], Payload, T]:
        return self.read((yield self))

    @property
    def fingerprint(self) -> str:
        """What is compared on resume (rule 5): kind, recipient and what the coroutine passed, never how it was sent."""
        if not self._fingerprint:
            self._fingerprint = fingerprint(self.kind, self.recipient, self.content)
        return self._fingerprint


def fingerprint(kind: str, recipient: str | None, content: str) -> str:
    """Name a request so that the same question has the same name in every process."""
    digest = blake2b(content.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
    return f"{kind}:{recipient or ''}:{digest}"


class Gather:
    """Several awaitables at once; the awaited value is the tuple of their values in argument order (rule 3)."""

    __slots__ = ("awaitables", "fail_fast")

    def __init__(self, awaitables: tuple[Awaitable[Any], ...], *, fail_fast: bool = False) -> None:
        self.awaitables = awaitables
        self.fail_fast = fail_fast

    def __await__(self) -> Generator[Gather, Any, Any]:
        return (yield self)


class Scope:
    """A coroutine whose steps count as children of one step (rule 8): a chat and its model turns."""

    __slots__ = ("coroutine",)

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self.coroutine = coroutine

    def __await__(self) -> Generator[Scope, Any, Any]:
        return (yield self)
