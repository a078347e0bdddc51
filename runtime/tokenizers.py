"""Exact token counts for models whose tokeniser is public, by the extra ``troupe[tokenizers]`` (splintr-rs).

The vocabularies come with the package; nothing is fetched. Counts are made on the loop, a tenth of a millisecond for
ten pages, and only where somebody counts tokens or money. For every other model the estimate of
``protocol/policies/token_estimate.py`` stands, and for both the calibration absorbs what chat templates add.
"""

from __future__ import annotations

import re
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Final

from protocol.policies.token_estimate import LONGEST_REMEMBERED, PER_MESSAGE, PER_REPLY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from protocol.calls import Estimate
    from protocol.chat import ChatMessage

VOCABULARIES: Final = (
    (re.compile(r"gpt-oss"), "gpt-oss"),
    (re.compile(r"gpt-(?:4o|4\.1|4\.5|5)|chatgpt-4o|o[134](?:-|\Z)"), "o200k_base"),
    (re.compile(r"gpt-(?:4|3\.5)"), "cl100k_base"),
    (re.compile(r"deepseek-(?:v3|chat|r1)"), "deepseek_v3"),
    (re.compile(r"(?:meta-)?llama-?3"), "llama3"),
    (re.compile(r"qwen-?3"), "qwen3"),
)
"""How a model's name begins, behind its vendor's, and whose vocabulary it uses; the first that fits."""
PIECE: Final = 1000
"""Characters that are counted in one go: an unbroken run takes the square of its length. A cut adds a token at most."""


def tokenizers(names: Mapping[str, str]) -> dict[str, Estimate]:
    """Return what counts tokens exactly, for each key of *names* whose model is known; none without the package."""
    found = {key: _vocabulary(name) for key, name in names.items()}
    counters = {key: _counter(vocabulary) for key, vocabulary in found.items() if vocabulary is not None}
    return {key: counter for key, counter in counters.items() if counter is not None}


def _vocabulary(name: str) -> str | None:
    plain = name.lower().rpartition("/")[2]
    return next((vocabulary for pattern, vocabulary in VOCABULARIES if pattern.match(plain)), None)


@cache
def _counter(vocabulary: str) -> Estimate | None:
    try:
        from splintr import Tokenizer  # noqa: PLC0415 (optional, and a tenth of a second to load)

        encode: Callable[[str], list[int]] = Tokenizer.from_pretrained(vocabulary).encode_ordinary
    except (ImportError, ValueError):
        return None

    def count(text: str) -> int:
        text = text.encode("utf-8", "replace").decode()  # a lone surrogate is nothing that a vocabulary knows
        return sum(len(encode(text[start : start + PIECE])) for start in range(0, len(text), PIECE))

    remembered = lru_cache(maxsize=512)(count)

    def counted(messages: Iterable[ChatMessage]) -> int:
        texts = [message.content for message in messages]
        sizes = ((remembered if len(text) <= LONGEST_REMEMBERED else count)(text) for text in texts)
        return PER_REPLY + sum(size + PER_MESSAGE for size in sizes)

    return counted
