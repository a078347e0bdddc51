"""A text that must not be seen: shown as stars wherever it is printed, refused wherever it would be stored."""

from __future__ import annotations

from typing import NoReturn


class Secret:
    """A key that only :meth:`reveal` gives out.

    ``repr``, ``str`` and f-strings show stars; pickling and copying raise ``TypeError``, and msgspec, which knows
    nothing of this class, refuses to encode it.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the text itself; for the one place that sends it."""
        return self._text

    def __bool__(self) -> bool:
        return bool(self._text)

    def __repr__(self) -> str:
        return "Secret(****)"

    def __str__(self) -> str:
        return "****"

    def __reduce_ex__(self, _: object) -> NoReturn:
        raise TypeError("a Secret is neither pickled nor copied; pass it on, or reveal() it where it is sent")
