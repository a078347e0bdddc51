"""What ends a call: a deadline that counts, and the right of another thread to hang up. Sockets only, no HTTP library.

``requests`` bounds only the gap between two bytes and cannot be interrupted from outside, so three things are ours:

- :class:`ClockedSocket` gives each single read the time that is left of the whole call, headers included.
- :class:`Line` dials, so that a duplicate of the socket is known before anything is sent; ``shutdown`` on the duplicate
  ends whatever blocks on the original: connect, TLS handshake, headers, body.
- :class:`Flight` holds the right to do so. Whoever takes it out owns the duplicate: an abort either takes it while its
  call is under way, or finds nothing and touches nothing. So an abort never hits the next call, and needs no lock.

Only name resolution cannot be interrupted; it ends by the resolver's own limits.
"""

from __future__ import annotations

import io
import socket
import struct
import time
from collections import deque
from select import POLLIN, poll
from typing import Any

SLACK = 0.01
"""How many seconds later than asked for a read may give up, where that spares two system calls."""
SO_MEMINFO = 55
"""Linux: an option of four-byte words, the first of which counts what was received and not yet read."""


class Flight:
    """One call under way: the one object that another thread touches.

    Written once by its caller (the right to end it), read once by whoever aborts. ``abort`` may run in any thread,
    everything else runs in the caller's.
    """

    __slots__ = ("_right", "aborted", "call", "deadline", "dialled", "received", "sent", "unclean")

    def __init__(self, call: str, deadline: float) -> None:
        self.call = call
        self.deadline = deadline
        self.aborted = False
        self.dialled = False  # on a connection of its own, not a kept one
        self.sent = False
        self.received = False
        self.unclean = False  # bytes were left behind the body
        self._right: deque[socket.socket] = deque(maxlen=1)

    def abort(self) -> None:
        """End the call now, or keep it from starting. In the other thread; it never blocks and never raises."""
        self.aborted = True
        hang_up(self.take())

    def board(self, handle: socket.socket) -> None:
        """Hand out the right to end this call. Raises ``TimeoutError`` when it was aborted before."""
        self._right.append(handle)
        if self.aborted:
            raise TimeoutError("aborted")

    def take(self) -> socket.socket | None:
        """Take the right out; who gets the handle owns it."""
        try:
            return self._right.pop()
        except IndexError:
            return None

    def remaining(self) -> float:
        """Return the seconds that are left. Raises ``TimeoutError`` when there are none, or the call was aborted."""
        left = self.deadline - time.monotonic()
        if left <= 0 or self.aborted:
            raise TimeoutError("timed out")
        return left

    @property
    def stale(self) -> bool:
        """Whether a failure means no more than that the server had closed a kept connection."""
        return not (self.dialled or self.received or self.aborted) and self.deadline > time.monotonic()


def hang_up(handle: socket.socket | None) -> None:
    """End the connection for all who share it, and close this handle."""
    if handle is None:
        return
    try:
        handle.shutdown(socket.SHUT_RDWR)
    except OSError:  # it has ended already
        pass
    finally:
        handle.close()


class KernelTimedSocket(socket.socket):
    """A plain socket whose timeouts the kernel keeps.

    A read or write is then one system call. Python's own timeouts put a ``poll`` before each and an ``ioctl`` before
    each change, and every one of them hands the interpreter to another thread. Not for TLS, which asks Python for its
    timeout.
    """

    _set = 0.0

    def settimeout(self, value: float | None) -> None:
        """Let each read, write or connect fail with ``BlockingIOError`` after *value* seconds, at most SLACK later."""
        if value and value <= self._set <= value + SLACK:
            return
        self._set = value or 0.0
        whole = value or 0.0
        timeval = struct.pack("ll", int(whole), max(int(whole % 1.0 * 1e6), 1) if value else 0)
        self.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeval)
        self.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeval)


def has_unread(sock: socket.socket) -> bool:
    """Tell whether bytes wait that nobody asked for; an end of the stream may go unnoticed, the next use will tell."""
    try:
        return any(sock.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, 4))
    except OSError:  # no Linux: ask in the portable way
        readable = poll()
        readable.register(sock, POLLIN)
        return bool(readable.poll(0))


class ClockedSocket(io.RawIOBase):
    """A socket for reading, each read bounded by what is left of the flight."""

    def __init__(self, sock: socket.socket, flight: Flight) -> None:
        self._sock = sock
        self._own: io.RawIOBase | None = None
        self.flight = flight
        self.over = False

    def hold(self) -> None:
        """Keep the socket open although its connection is about to be closed."""
        self._own = self._sock.makefile("rb", buffering=0)

    def makefile(self, *_: object) -> io.BufferedReader:
        """Return what ``http.client`` reads from; it takes this object for the socket."""
        return _Reader(self)

    def readable(self) -> bool:
        """Say yes: reading is all it does."""
        return True

    def readinto(self, buffer: Any) -> int | None:
        """Read what is there, within the time left; None once the reply is over."""
        if self.over:
            return None
        self._sock.settimeout(self.flight.remaining())
        try:
            got = self._sock.recv_into(buffer)
        except BlockingIOError:
            raise TimeoutError("timed out") from None
        self.flight.received = self.flight.received or bool(got)
        return got

    def close(self) -> None:
        """Let go of the socket, which lives on if its connection is kept."""
        if self._own is not None:
            self._own.close()
        super().close()


class _Reader(io.BufferedReader):
    """Buffers a reply, and notes at its end when bytes are left that belong to nobody."""

    raw: ClockedSocket

    def close(self) -> None:
        if not self.closed:
            self.raw.over = True
            self.raw.flight.unclean = self.raw.flight.unclean or bool(self.peek(1))
        super().close()


class Line:
    """The caller's connection: dials it, lends its handle to the flight, and takes it back. Caller's thread only."""

    def __init__(self, connect_timeout: float) -> None:
        self.connect_timeout = connect_timeout
        self.flight = Flight("", 0.0)
        self.connection: Any = None
        self._handle: socket.socket | None = None

    def dial(self, host: str, port: int, kind: type[socket.socket]) -> socket.socket:
        """Return a connected socket. Raises ``OSError``; all addresses together get ``connect_timeout``."""
        hang_up(self._handle)
        hang_up(self.flight.take())
        self._handle, self.flight.dialled = None, True
        until = time.monotonic() + min(self.connect_timeout, self.flight.remaining())
        failure = OSError(f"no address for {host}")
        for family, _, _, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            try:
                return self._connect(kind(family, socket.SOCK_STREAM), address, until)
            except OSError as error:
                failure = error
        raise failure

    def _connect(self, sock: socket.socket, address: Any, until: float) -> socket.socket:
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.flight.board(sock.dup())
            sock.settimeout(max(until - time.monotonic(), 0.001))
            sock.connect(address)
            sock.settimeout(max(until - time.monotonic(), 0.001))
        except BaseException:
            hang_up(self.flight.take())
            sock.close()
            raise
        return sock

    def board(self, connection: Any) -> None:
        """Begin a request on *connection*; on a kept one the flight gets the handle now."""
        self.connection = connection
        handle, self._handle = self._handle, None
        if handle is not None:
            self.flight.board(handle)

    def land(self, *, clean: bool) -> bool:
        """End the flight; return False when an abort was faster. Only a *clean* exchange keeps the connection."""
        handle = self.flight.take()
        if handle is not None and clean and not self.flight.unclean and self.connection.sock is not None:
            self._handle = handle
            return True
        hang_up(handle)
        if self.connection is not None:
            self.connection.close()
        return handle is not None

    def close(self) -> None:
        """Hang up."""
        hang_up(self._handle)
        self._handle = None
