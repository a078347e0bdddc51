"""What a coroutine may await: a step, several at once, or a scope of steps. The driver is ``protocol/steps.py``."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Generator

    from protocol.signals import Payload

T = TypeVar("T")


class Step(Generic[T]):
    """One awaited request: what is asked, how (``options``), and how its answer reads.

    ``kind``, ``recipient``, ``content`` and ``data`` (a typed payload, encoded as JSON) are what is asked.
    """

    __slots__ = ("_fingerprint", "content", "data", "kind", "options", "read", "recipient")

    def __init__(
        self,
        kind: str,
        recipient: str | None,
        content: str,
        read: Callable[[Step[T], Payload], T],
        options: dict[str, Any] | None = None,
        data: bytes = b"",
    ) -> None:
        if not isinstance(content, str):
            raise TypeError(f"what is asked is a str, not {type(content).__name__}; a typed payload goes into data=")
        self.kind = kind
        self.recipient = recipient
        self.content = content
        self.read = read
        self.options = options or {}
        self.data = data
        self._fingerprint = ""

    def __await__(self) -> Generator[Step[T], Payload, T]:
        return self.read(self, (yield self))

    @property
    def fingerprint(self) -> str:
        """What is compared on resume (rule 5): kind, recipient and what the coroutine passed, never how it was sent."""
        if not self._fingerprint:
            self._fingerprint = fingerprint(self.kind, self.recipient, self.content, self.data)
        return self._fingerprint


def fingerprint(kind: str, recipient: str | None, content: str, data: bytes = b"") -> str:
    """Name a request so that the same question has the same name in every process."""
    said = content.encode("utf-8", "surrogatepass")
    digest = blake2b(said + b"\0" + data if data else said, digest_size=8).hexdigest()
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
