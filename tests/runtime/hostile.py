"""A server on loopback that does to a client what servers do on bad days: raw sockets and threads."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"


class Hostile:
    """``with Hostile(handler) as server``: *handler* gets the socket and the server, in a thread of its own.

    ``reached`` is done when a handler says so; ``requests`` holds every request read, ``connections`` counts.
    """

    def __init__(self, handler: Callable[[socket.socket, Hostile], None], tls: ssl.SSLContext | None = None) -> None:
        self.handler = handler
        self.tls = tls
        self.requests: list[bytes] = []
        self.connections = 0
        self.reached: Future[None] = Future()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://localhost:{self.port}/v1/chat/completions"
        self.open: list[socket.socket] = []
        self.threads = [threading.Thread(target=self._accept, daemon=True)]

    def __enter__(self) -> Self:
        self.threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.threads[0].join(5)
        self.listener.close()
        for sock in self.open:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self.threads:
            thread.join(5)
        for sock in self.open:
            sock.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self.listener.accept()
                self.connections += 1
                self.open.append(sock)
                self.threads.append(threading.Thread(target=self._serve, args=(sock,), daemon=True))
                self.threads[-1].start()

    def _serve(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            if self.tls is not None:
                sock = self.tls.wrap_socket(sock, server_side=True)
                self.open.append(sock)
            self.handler(sock, self)

    def read(self, sock: socket.socket) -> bytes:
        """Read one request; raises ``OSError`` when the client has gone."""
        data = b""
        while b"\r\n\r\n" not in data:
            data += self._more(sock)
        head, _, body = data.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        while len(body) < length:
            body += self._more(sock)
        self.requests.append(head + b"\r\n\r\n" + body)
        return body

    def _more(self, sock: socket.socket) -> bytes:
        got = sock.recv(65536)
        if not got:
            raise OSError("the client has gone")
        return got


def reply(body: bytes = b'{"ok":true}', *headers: bytes) -> bytes:
    """Return a whole, well-behaved reply."""
    return OK + b"".join(h + b"\r\n" for h in headers) + b"content-length: %d\r\n\r\n" % len(body) + body


def silence(sock: socket.socket, server: Hostile) -> None:
    """Say nothing more until the client goes."""
    if not server.reached.done():
        server.reached.set_result(None)
    while sock.recv(65536):
        pass


def drip(sock: socket.socket, server: Hostile, data: bytes, pause: float) -> None:
    """Send byte after byte until the client goes."""
    for at in range(len(data)):
        sock.sendall(data[at : at + 1])
        if not server.reached.done():
            server.reached.set_result(None)
        if select.select([sock], [], [], pause)[0]:
            return


def reset(sock: socket.socket) -> None:
    """Cut the connection with an RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
