"""One POST at a time, over one kept connection, ended by its deadline whatever the server does. Bytes only, no JSON.

The only file that imports ``requests`` and ``urllib3``, and only when the first caller is made. The way of a call is
``HTTPAdapter.send`` with one prepared request that is used again and again; what a ``Session`` adds (environment,
proxies, netrc, cookies, redirects, fresh preparation) is thereby off and costs nothing. ``runtime/connection.py`` is
the one connection, ``runtime/flight.py`` ends calls.
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import time
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from msgspec import Struct

from protocol.chat import CallFailure
from protocol.errors import ErrorKind
from runtime.connection import Recorded, Sole
from runtime.flight import Flight, KernelTimedSocket, Line

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runtime.connection import Reply

MAX_BYTES = 32 * 1024 * 1024
CHUNK = 64 * 1024
REDIRECTS = frozenset({301, 302, 303, 307, 308})
SECRET_NAMES = ("authorization", "key", "token", "secret")
MASK = "****"
UNPRINTABLE = dict.fromkeys((*range(32), *range(127, 160), 0x2028, 0x2029), " ")


class Response(Struct, frozen=True, kw_only=True):
    """What came back: headers in lower case, the decoded body with our keys masked in it, wall seconds of the call."""

    status: int
    headers: dict[str, str]
    body: bytes
    elapsed: float


class _Library(NamedTuple):
    """What is taken from ``requests`` and ``urllib3``."""

    adapter: Any
    request: Any
    timeout: Any
    decoded: Any
    failures: tuple[type[Exception], ...]


@cache
def _library() -> _Library:
    """Import the libraries, once, and fit our line into them by the seams they document for subclasses."""
    import requests.adapters  # noqa: PLC0415 (importing this module must stay cheap)
    import urllib3.connection  # noqa: PLC0415 (as above)

    plain: Any = type(
        "PlainConnection", (Recorded, urllib3.connection.HTTPConnection), {"socket_kind": KernelTimedSocket}
    )
    secure: Any = type(
        "SecureConnection", (Recorded, urllib3.connection.HTTPSConnection), {"socket_kind": socket.socket}
    )

    class Adapter(requests.adapters.HTTPAdapter):
        """One connection to one URL: made and told to verify once, not for each call."""

        def __init__(self, line: Line, request: requests.PreparedRequest, ca_file: str | None) -> None:
            super().__init__(pool_connections=1, pool_maxsize=1, max_retries=0)
            self.path = request.path_url
            pool: Any = super().get_connection_with_tls_context(request, ca_file or True)
            super().cert_verify(pool, request.url, ca_file or True, None)  # type: ignore[no-untyped-call]
            pool.ConnectionCls = partial(secure if pool.scheme == "https" else plain, line=line)
            self.sole = Sole(pool._new_conn())  # noqa: SLF001 (the seam for subclasses; it dials nothing)

        def get_connection_with_tls_context(self, *_: Any, **__: Any) -> Any:
            return self.sole

        def cert_verify(self, *_: Any) -> None:
            """Do nothing: the connection was made to verify."""

        def request_url(self, *_: Any) -> str:
            return self.path

        def build_response(self, _: Any, resp: Any) -> Any:
            return resp

    def decoded(raw: Reply) -> Any:
        return urllib3.HTTPResponse(raw, raw.headers, preload_content=False)

    failures = (OSError, ValueError, http.client.HTTPException, urllib3.exceptions.HTTPError)
    return _Library(Adapter, requests.PreparedRequest, urllib3.Timeout, decoded, failures)


class HttpCaller:
    """Performs one blocking POST after the other to one URL, in one thread; only :meth:`abort` is for other threads."""

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str],
        *,
        connect_timeout: float = 5.0,
        max_bytes: int = MAX_BYTES,
        ca_file: str | None = None,
    ) -> None:
        """Prepare; nothing is sent. Raises ``ValueError`` for a bad URL, header or *ca_file*, quoting no header."""
        library = _library()
        if ca_file is not None and not Path(ca_file).is_file():
            raise ValueError(f"there is no CA file {ca_file}")
        self._host = urlsplit(check_url(url)).netloc
        self._max_bytes = max_bytes
        self._keys = _keys(headers)
        self._timeout = library.timeout(connect=connect_timeout, read=None)
        self._decoded = library.decoded
        self._failures = library.failures
        self._request = library.request()
        self._request.prepare(method="POST", url=url)
        self._request.headers = {"Accept-Encoding": "gzip, deflate", "User-Agent": "troupe", **_checked(headers)}
        self._line = Line(connect_timeout)
        self._adapter = library.adapter(self._line, self._request, ca_file)
        self._doomed = ""

    def post(self, body: bytes, *, timeout: float, call: str) -> Response | CallFailure:
        """Send *body*; return the reply or why there is none, within *timeout* seconds in all.

        Runs in the caller's thread. Any status but a redirect is a reply. A kept connection that the server had closed
        is dialled again, once.
        """
        started = time.monotonic()
        flight = self._line.flight = Flight(call, started + timeout)
        if self._doomed == call:
            flight.aborted = True
        outcome = self._try(flight, body, started)
        if isinstance(outcome, Exception) and flight.stale:
            outcome = self._try(flight, body, started)
        landed = self._line.land(clean=isinstance(outcome, Response))
        if isinstance(outcome, Response) and landed:
            return outcome
        return self._failure(flight, outcome)

    def abort(self, call: str) -> None:
        """End exactly this call, at once: now, or when it begins. Runs in any other thread; never blocks."""
        self._doomed = call
        flight = self._line.flight
        if flight.call == call:
            flight.abort()

    def close(self) -> None:
        """Close the connection. Runs in the caller's thread."""
        self._adapter.sole.close()  # the adapter would leave it to the garbage collector
        self._adapter.close()
        self._line.close()

    def scrub(self, text: str) -> str:
        """Return *text* with every key of this caller masked."""
        for key in self._keys:
            text = text.replace(key, MASK)
        return text

    def _try(self, flight: Flight, body: bytes, started: float) -> Response | CallFailure | Exception:
        try:
            flight.remaining()
            return self._exchange(flight, body, started)
        except self._failures as error:
            return error

    def _exchange(self, flight: Flight, body: bytes, started: float) -> Response | CallFailure:
        self._request.body = body
        self._request.headers["Content-Length"] = str(len(body))
        raw = self._adapter.send(self._request, stream=True, timeout=self._timeout)
        try:
            if raw.status in REDIRECTS:
                return self._redirected(raw)
            content = self._read(raw, flight)
        finally:
            raw.close()
        if content is None:
            message = f"the reply of {self._host} is larger than {self._max_bytes} bytes"
            return CallFailure(kind=ErrorKind.TOO_LARGE, message=message, status=raw.status)
        return Response(status=raw.status, headers=raw.headers, body=content, elapsed=time.monotonic() - started)

    def _read(self, raw: Reply, flight: Flight) -> bytes | None:
        """Return the decoded body with keys masked, None when it is too large."""
        chunks, size = [], 0
        plain = "content-encoding" not in raw.headers
        read = raw.read1 if plain else partial(self._decoded(raw).read1, decode_content=True)
        while chunk := read(CHUNK):
            size += len(chunk)
            if size > self._max_bytes:
                return None
            chunks.append(chunk)
            if plain and raw.length == 0:
                break
            flight.remaining()
        if raw.length:
            raise http.client.IncompleteRead(b"", raw.length)
        body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        for key in self._keys:
            body = body.replace(key.encode(), MASK.encode())
        return body

    def _redirected(self, raw: Any) -> CallFailure:
        try:
            target = urlsplit(raw.headers.get("location", "")).hostname or self._host
        except ValueError:
            target = "a malformed location"
        message = self.scrub(
            f"{self._host} redirects to {target[:100]!a}, which is not followed; set base_url to where the API is"
        )
        return CallFailure(kind=ErrorKind.REDIRECT, message=message, status=raw.status)

    def _failure(self, flight: Flight, outcome: object) -> CallFailure:
        if flight.aborted:
            return CallFailure(
                kind=ErrorKind.TIMEOUT, message=f"the call to {self._host} was ended from outside: deadline or cancel"
            )
        if isinstance(outcome, CallFailure):
            return outcome
        if flight.sent and time.monotonic() >= flight.deadline:
            return CallFailure(kind=ErrorKind.TIMEOUT, message=f"no complete reply from {self._host} in time")
        words = " ".join(self.scrub(_innermost(outcome)).translate(UNPRINTABLE).split())
        where = "the reply of" if flight.sent else "cannot reach"
        return CallFailure(kind=ErrorKind.CONNECTION, message=f"{where} {self._host}: {words[:300]}", sent=flight.sent)


def _innermost(error: object) -> str:
    """Return the words of the exception that the libraries wrapped, without their own."""
    for _ in range(10):
        inner = getattr(error, "reason", None)
        if not isinstance(inner, BaseException):
            inner = next((arg for arg in getattr(error, "args", ()) if isinstance(arg, BaseException)), None)
        if inner is None:
            break
        error = inner
    return str(error) or type(error).__name__


def _keys(headers: Mapping[str, str]) -> tuple[str, ...]:
    """Return what must not be shown: the values of headers that carry a key, without the scheme before it."""
    named = [
        value.rpartition(" ")[2] for name, value in headers.items() if any(w in name.lower() for w in SECRET_NAMES)
    ]
    return tuple(value for value in named if len(value) >= 8)


def _checked(headers: Mapping[str, str]) -> dict[str, str]:
    for name, value in headers.items():
        if not name.isascii() or not value.isascii() or not (name + value).isprintable():
            raise ValueError(f"the header {name!a} holds something other than printable ASCII")
    return dict(headers)


def check_key(text: str) -> str:
    """Return *text* if it can be sent as a key: printable ASCII, no spaces. A ``ValueError`` does not tell it."""
    if text and all("!" <= letter <= "~" for letter in text):
        return text
    if not text:
        raise ValueError("the API key is empty")
    ending = f" ending in {text[-4:]!a}" if len(text) >= 12 else ""
    raise ValueError(
        f"the API key of {len(text)} characters{ending} holds a space, a line break or other than printable ASCII"
    )


def check_url(url: str) -> str:
    """Return the base URL without a slash at its end. Raises ``ValueError``, in one line.

    ``https`` may go anywhere, ``http`` to this machine only. Paths are joined to it as strings.
    """
    if not url or not all("!" <= letter <= "~" and letter not in '\\"<>^`{|}' for letter in url):
        raise ValueError("the base URL is empty, or holds a space, a control character or other than plain ASCII")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"the base URL is malformed: {error}") from None
    if parts.scheme not in {"http", "https"}:
        raise ValueError(
            f"the base URL begins with {parts.scheme + ':' if parts.scheme else 'no scheme'!r}; only https: may be"
        )
    if "@" in parts.netloc:
        raise ValueError("the base URL holds a user or password; name the variable with the key in api_key_env instead")
    if not host or port == 0:
        raise ValueError("the base URL names no host and port to go to, as in https://api.example.com/v1")
    if parts.query or parts.fragment:
        raise ValueError("the base URL ends in a query or fragment; paths are put behind it")
    if parts.scheme == "http" and not is_loopback(host):
        raise ValueError(f"the base URL sends the key in the clear to {host}; http is for this machine only, use https")
    return f"{parts.scheme}://{parts.netloc.lower()}{parts.path.rstrip('/')}"


def is_loopback(host: str) -> bool:
    """Tell whether *host*, a name or an address, is this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
