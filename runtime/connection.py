"""One kept HTTP connection without a pool: what a caller needs of ``urllib3``, and nothing that it pays for in vain.

``requests`` hands each call to a pool. A caller makes one call at a time over one connection, so :class:`Sole` stands
where the pool would: no queue of connections, no retries, no redirects, no copy of the headers. Dialling and TLS stay
``urllib3``'s, bodies ``http.client``'s; the head of a request is written here in one piece, since it is the same each
time but for its length, and that of a reply is read here, into a plain dict, since ``email.parser`` took a fifth of a
call's CPU. :class:`Recorded` tells the line (``runtime/flight.py``) what happens.
"""

from __future__ import annotations

import http.client
from typing import TYPE_CHECKING, Any, cast

from runtime.flight import ClockedSocket, has_unread

if TYPE_CHECKING:
    import socket

    from runtime.flight import Line

MOST_LINE = 65_536
MOST_HEADERS = 100
BLANK = (b"\r\n", b"\n", b"")
NO_BODY = frozenset({101, 204, 304})


class Reply(http.client.HTTPResponse):
    """A reply whose headers are a plain dict, names in lower case, repeated ones joined by a comma.

    Malformed lines are left out in silence: the library would log them, with a key that they echo.
    """

    headers: Any  # a dict; all that the base asks of it is .get

    def begin(self: Any) -> None:
        """Read the head."""
        version, status, reason = self._read_status()
        while 100 <= status < 200 and status != http.client.SWITCHING_PROTOCOLS:  # interim: the reply is to come
            self._read_head()
            version, status, reason = self._read_status()
        self.code = self.status = status
        self.reason = reason
        self.version = 10 if version in {"HTTP/1.0", "HTTP/0.9"} else 11
        self.headers = headers = self._read_head()
        self.chunked = headers.get("transfer-encoding", "").lower() == "chunked"
        self.chunk_left = None
        self.length = 0 if status in NO_BODY else None if self.chunked else _length(headers.get("content-length"))
        self.will_close = self._check_close() or (self.length is None and not self.chunked)

    def hold(self: Any) -> None:
        """Keep the socket, since the connection is closed before the body is read."""
        self.fp.raw.hold()

    def _read_head(self) -> dict[str, str]:
        headers: dict[str, str] = {}
        readline = self.fp.readline
        for _ in range(MOST_HEADERS + 1):
            line = readline(MOST_LINE + 1)
            if line in BLANK:
                return headers
            if len(line) > MOST_LINE:
                raise http.client.LineTooLong("header line")
            name, colon, value = line.decode("latin-1").partition(":")
            name = name.lower()
            if colon and name and name.strip() == name:
                value = value.strip()
                headers[name] = f"{headers[name]}, {value}" if name in headers else value
        raise http.client.HTTPException(f"got more than {MOST_HEADERS} headers")


def _length(stated: str | None) -> int | None:
    """Return the length of a body. Raises ``HTTPException`` for several that differ, and for what is no number."""
    if stated is None:
        return None
    lengths = {each.strip() for each in stated.split(",")}
    length = lengths.pop()
    if lengths or not (length.isascii() and length.isdecimal() and len(length) < 20):
        raise http.client.HTTPException(f"malformed content-length {stated[:40]!a}")
    return int(length)


class Recorded:
    """The half of a urllib3 connection that tells the line what it does; the other half is the next base."""

    socket_kind: type[socket.socket]

    def __init__(self, *args: Any, line: Line, **options: Any) -> None:
        super().__init__(*args, **options)
        self.line = line

    def _new_conn(self: Any) -> Any:
        return self.line.dial(self.host, self.port, self.socket_kind)

    def exchange(self: Any, method: str, path: str, body: bytes, headers: dict[str, str]) -> Reply:
        """Send a request and return its reply, read up to the body.

        A kept connection is used when nothing waits in it; that the server has closed it is found out by using it.
        """
        self.line.connection = self
        if self.sock is not None and has_unread(self.sock):
            self.close()
        if self.sock is None:
            self.connect()  # first, so that the flight has its handle and the time left is that of the call
        self.line.board(self)
        self.sock.settimeout(self.line.flight.remaining())
        try:
            self.sock.sendall(self._head(method, path, headers) + body)
            reply: Reply = self._reply(method)
        except BaseException:
            self.close()
            raise
        return reply

    def _head(self: Any, method: str, path: str, headers: dict[str, str]) -> bytes:
        """Return the head of a request; its parts were checked when the caller was made."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        if self.port != self.default_port:
            host = f"{host}:{self.port}"
        lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", *[f"{name}: {headers[name]}" for name in headers]]
        return "\r\n".join([*lines, "\r\n"]).encode("ascii")

    def _reply(self: Any, method: str) -> Reply:
        reply: Reply = self.respond(self.sock, method=method)
        try:
            reply.begin()
        except BaseException:
            reply.close()
            raise
        if reply.will_close:
            reply.hold()
            self.close()
        return reply

    def respond(self, sock: socket.socket, **options: Any) -> Reply:
        """Return the reader of the reply; the request has been sent by now."""
        self.line.flight.sent = True
        return Reply(cast("socket.socket", ClockedSocket(sock, self.line.flight)), **options)


class Sole:
    """Stands where ``requests`` expects a pool, and has one connection."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    def urlopen(self, *, method: str, url: str, body: bytes, headers: dict[str, str], **_: Any) -> Reply:
        """Make one exchange; what the other options ask for is done elsewhere, or not at all."""
        reply: Reply = self.connection.exchange(method, url, body, headers)
        return reply

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()
