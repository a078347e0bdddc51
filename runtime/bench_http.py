"""A client of the least cost: what the other contenders of ``runtime/bench.py`` call with. Loopback only.

It knows no deadline, no redirect and no TLS, so what it costs flatters whoever uses it.
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple
from urllib.parse import urlsplit

from msgspec import json

BLANK = b"\r\n\r\n"


class Answered(NamedTuple):
    """The status of a reply, and the seconds that it asks to wait (None where it says nothing)."""

    status: int
    retry_after: float | None


class Client:
    """Keeps as many connections as calls were ever under way at once."""

    def __init__(self, url: str, *, max_tokens: int) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._path = f"{parts.path}/chat/completions"
        self._max_tokens = max_tokens
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def post(self, text: str) -> Answered:
        """Make one call with *text* as its message. Raises ``OSError``."""
        if self._idle:
            reader, writer = self._idle.pop()
        else:
            reader, writer = await asyncio.open_connection(self._host, self._port)
        writer.write(self._request(text))
        head = (await reader.readuntil(BLANK)).decode("latin-1").lower()
        lines = head.split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines[1:] if line)
        await reader.readexactly(int(headers["content-length"]))
        self._idle.append((reader, writer))
        hint = headers.get("retry-after")
        return Answered(int(lines[0].split(" ")[1]), None if hint is None else float(hint))

    def close(self) -> None:
        """Close every connection."""
        for _, writer in self._idle:
            writer.close()

    def _request(self, text: str) -> bytes:
        body = json.encode(
            {"model": "m", "messages": [{"role": "user", "content": text}], "max_tokens": self._max_tokens}
        )
        head = f"POST {self._path} HTTP/1.1\r\nhost: {self._host}\r\ncontent-type: application/json\r\n"
        return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body
