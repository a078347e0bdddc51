"""A scripted, OpenAI-compatible server on loopback, for tests, the demo and benchmarks.

``POST /v1/chat/completions``, ``GET /v1/models``, ``GET /health``, ``GET /stats``, ``GET /log``. A raw
``asyncio.Protocol`` with the least of HTTP/1.1 that clients need: keep-alive, and bodies with a Content-Length;
pipelined requests are answered one after the other.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import signal
import socket
import struct
import sys
import threading
from concurrent.futures import Future
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar

from msgspec import json

from protocol.errors import ConfigError
from runtime import fake_script
from runtime.fake_desk import Arrival, Desk, Reply, Stats
from runtime.fake_script import Script

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

MAX_HEAD = 64 * 1024
MAX_BODY = 64 * 1024 * 1024
PR_SET_PDEATHSIG = 1
NO_ROUTE = b'{"error":{"message":"no such route","type":"invalid_request_error","param":null,"code":null}}'
T = TypeVar("T")


class _Connection(asyncio.Protocol):
    """One client's connection; all of it runs on the server's loop."""

    transport: asyncio.Transport

    def __init__(self, desk: Desk, open_ones: set[_Connection]) -> None:
        self.desk = desk
        self.open_ones = open_ones
        self.buffer = b""
        self.busy = False
        self.counted = False
        self.keep = True
        self.loop = asyncio.get_running_loop()
        self.gone: asyncio.Future[None] = self.loop.create_future()
        self.timer: asyncio.Handle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # a stream server hands out stream transports
        self.open_ones.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 (asyncio names it)
        self.open_ones.discard(self)
        if self.timer is not None:
            self.timer.cancel()
        self._leave(0)
        self.gone.set_result(None)

    def data_received(self, data: bytes) -> None:
        self.buffer = self.buffer + data if self.buffer else data
        if not self.busy:
            self._next()

    def _next(self) -> None:
        """Take one request out of the buffer, if a whole one is there."""
        head, blank, rest = self.buffer.partition(b"\r\n\r\n")
        if not blank:
            if len(head) > MAX_HEAD:
                self._refuse(431)
            return
        lower = head.lower()
        length = _content_length(lower)
        if length is None:
            self._refuse(411)
        elif length > MAX_BODY:
            self._refuse(413)
        elif len(rest) >= length:
            self.buffer = rest[length:]
            self.busy = True
            self.keep = b"\r\nconnection: close" not in lower and b" http/1.0" not in lower.partition(b"\r\n")[0]
            self._route(head, rest[:length])

    def _route(self, head: bytes, body: bytes) -> None:
        method, _, rest = head.partition(b" ")
        path = rest.partition(b" ")[0].partition(b"?")[0]
        if method == b"POST" and path == b"/v1/chat/completions":
            self.counted = True
            self._later(self.desk.take(head, body, self.loop.time()))
        elif method == b"GET" and path in PAGES:
            self._send(Reply(body=PAGES[path](self.desk)))
        else:
            self._send(Reply(status=404, body=NO_ROUTE))

    def _later(self, reply: Reply) -> None:
        """Answer when it is due: at once, later, dripping, never."""
        if reply.hang:
            return
        act: Callable[[Reply], None] = self._reset if reply.reset else self._drip if reply.drip else self._send
        if reply.delay > 0:
            self.timer = self.loop.call_later(reply.delay, act, reply)
        else:
            act(reply)

    def _reset(self, _: Reply) -> None:
        """Close with an RST: linger for no time, so that the client sees a reset and no orderly end."""
        self._leave(0)
        linger = struct.pack("ii", 1, 0)
        self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.transport.abort()

    def _drip(self, reply: Reply) -> None:
        self.transport.write(_head(reply, keep=self.keep))
        self._drop(reply, 0)

    def _drop(self, reply: Reply, at: int) -> None:
        self.transport.write(reply.body[at : at + 1])
        if at + 1 < len(reply.body):
            self.timer = self.loop.call_later(reply.drip, self._drop, reply, at + 1)
        else:
            self._done(reply)

    def _send(self, reply: Reply) -> None:
        self.transport.write(_head(reply, keep=self.keep) + reply.body)
        self._done(reply)

    def _done(self, reply: Reply) -> None:
        self._leave(reply.status)
        self.busy = False
        if not self.keep:
            self.transport.close()
        elif self.buffer:
            self.timer = self.loop.call_soon(self._next)

    def _leave(self, status: int) -> None:
        """Count the call as over; status 0 is one that was never answered."""
        if self.counted:
            self.counted = False
            self.desk.leave(status)

    def _refuse(self, status: int) -> None:
        self.busy, self.keep = True, False
        self._send(Reply(status=status))


def _content_length(lower_head: bytes) -> int | None:
    """Return the length of the body, None for a body without a stated one."""
    at = lower_head.find(b"\r\ncontent-length:")
    if at < 0:
        return None if b"\r\ntransfer-encoding:" in lower_head else 0
    value = lower_head[at + 17 :].partition(b"\r\n")[0].strip()
    return int(value) if value.isdigit() else None


def _head(reply: Reply, *, keep: bool) -> bytes:
    extra = b""
    if reply.headers:
        extra = "".join(f"{name}: {value}\r\n" for name, value in reply.headers.items()).encode("latin-1", "replace")
    return b"HTTP/1.1 %d %b\r\ncontent-type: %b\r\ncontent-length: %d\r\n%b%b\r\n" % (
        reply.status,
        REASONS.get(reply.status, b"Scripted"),
        reply.content_type,
        len(reply.body),
        extra,
        b"" if keep else b"connection: close\r\n",
    )


def _models(desk: Desk) -> bytes:
    return json.encode({"object": "list", "data": [{"id": desk.script.model, "object": "model", "owned_by": "troupe"}]})


REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}
PAGES: dict[bytes, Callable[[Desk], bytes]] = {
    b"/health": lambda _: b'{"status":"ok"}',
    b"/stats": lambda desk: json.encode(desk.stats),
    b"/log": lambda desk: json.encode(desk.log),
    b"/v1/models": _models,
}


async def _run(
    desk: Desk, port: int, ready: Callable[[int], None], until: asyncio.Future[None], tls: ssl.SSLContext | None = None
) -> None:
    """Serve on 127.0.0.1 until *until* is done; *ready* is told the port."""
    loop = asyncio.get_running_loop()
    connections: set[_Connection] = set()
    server = await loop.create_server(lambda: _Connection(desk, connections), "127.0.0.1", port, ssl=tls, backlog=1024)
    ready(server.sockets[0].getsockname()[1])
    try:
        await until
    finally:
        server.close()
        for connection in tuple(connections):
            connection.transport.abort()
            await connection.gone


class FakeServer:
    """The scripted server in a daemon thread of its own: ``with FakeServer(Script()) as server: server.url``.

    Every method is for the thread that made it; they reach the server's thread through its loop.
    """

    def __init__(self, script: Script | None = None, *, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        self.port = port
        self._desk = Desk(script or Script())
        self._tls = tls
        self._started: Future[tuple[int, asyncio.AbstractEventLoop, asyncio.Future[None]]] = Future()
        self._thread = threading.Thread(target=self._serve, name="fake-server", daemon=True)

    @property
    def url(self) -> str:
        """The base URL, ``/v1`` included."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}/v1"

    def start(self) -> Self:
        """Return when the port is open. Raises ``OSError`` when it is taken."""
        self._thread.start()
        self.port, self._loop, self._until = self._started.result(timeout=10)
        return self

    def stop(self) -> None:
        """Cut every connection and return when the thread has ended."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._end)
            self._thread.join(timeout=10)

    def stats(self) -> Stats:
        """Return a copy of the counters as they stand."""
        return self._ask(self._desk.stats.copy)

    def bodies(self) -> tuple[bytes, ...]:
        """Return the bodies of the calls so far, in order of arrival; empty unless the script records."""
        return self._ask(lambda: tuple(self._desk.bodies))

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def log(self) -> tuple[Arrival, ...]:
        """Return each request so far, in order of arrival, with its verdict; empty unless the script records."""
        return self._ask(lambda: tuple(self._desk.log))

    def _ask(self, read: Callable[[], T]) -> T:
        if not self._thread.is_alive():
            return read()

        async def answer() -> T:
            return read()

        return asyncio.run_coroutine_threadsafe(answer(), self._loop).result(timeout=10)

    def _serve(self) -> None:
        """Run in the server's thread."""
        try:
            asyncio.run(self._main())
        except OSError as error:
            self._started.set_exception(error)

    async def _main(self) -> None:
        loop = asyncio.get_running_loop()
        until: asyncio.Future[None] = loop.create_future()
        await _run(self._desk, self.port, lambda port: self._started.set_result((port, loop, until)), until, self._tls)

    def _end(self) -> None:
        if not self._until.done():
            self._until.set_result(None)


def serve(port: int, script: Script, *, bare: bool = False) -> None:
    """Serve until the process is told to stop; print one line with the base URL (*bare*: the URL and nothing else).

    Raises ``OSError`` when the port is taken. ``KeyboardInterrupt`` ends it without a traceback.
    """

    def ready(actual: int) -> None:
        url = f"http://127.0.0.1:{actual}/v1"
        print(url if bare else f"fake server: {url}", flush=True)  # noqa: T201 (the line is what the command promises)

    async def main() -> None:
        await _run(Desk(script), port, ready, asyncio.get_running_loop().create_future())

    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        return


def main(argv: list[str] | None = None) -> int:
    """Run the server as a process; with ``--print-url`` it dies, on Linux, with the thread that started it."""
    parser = argparse.ArgumentParser(prog="python -m runtime.fake_server", description="a scripted server on loopback")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--script", type=Path, help="a TOML or JSON file; see runtime/fake_script.py")
    parser.add_argument("--print-url", action="store_true", help="print only the base URL; die with the parent")
    options = parser.parse_args(argv)
    if options.print_url and sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    try:
        serve(options.port, fake_script.load(options.script) if options.script else Script(), bare=options.print_url)
    except (ConfigError, OSError, OverflowError) as error:
        print(f"fake server: {error}", file=sys.stderr)  # noqa: T201 (a command speaks to its user)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
