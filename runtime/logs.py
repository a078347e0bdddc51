"""Logging: structlog over the standard library's logger ``troupe``.

The library only emits; it configures nothing, so an application's own logging set-up decides what is shown. The
command line configures it (:func:`to_stderr`). One event is one line of JSON; keys and bearer tokens are blotted out
last, after exceptions have been formatted; prompts and replies appear at DEBUG only.
"""

from __future__ import annotations

import json
import logging
import re
import traceback
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping

_ROOT = logging.getLogger("troupe")
_ROOT.addHandler(logging.NullHandler())

_BEARER = re.compile(r"(?i)(bearer\s+|x-api-key['\"]?\s*[:=]\s*['\"]?)[^\s'\",}]+|\bsk-[A-Za-z0-9_-]{8,}")
_NOT_IN_A_LINE = re.compile("[\x7f-\x9f\u2028\u2029]")
_secrets: tuple[str, ...] = ()
"""What is blotted out, the longest first; replaced as a whole, for other threads read it."""


def keep_out(secret: str) -> None:
    """Blot out *secret* in every log line from now on, whatever it looks like, also as it stands in a JSON text."""
    global _secrets  # noqa: PLW0603 (a key belongs to the process, as its loggers do)
    if len(secret) >= 4:
        known = {*_secrets, secret, json.dumps(secret)[1:-1]}
        _secrets = tuple(sorted(known, key=lambda text: (-len(text), text)))


def redact(text: str) -> str:
    """Return *text* without keys and bearer tokens."""
    for secret in _secrets:
        text = text.replace(secret, "[key]")
    return _BEARER.sub("[key]", text)


def _redacted(_logger: Any, _method: str, line: Any) -> str:
    return redact(line)


def _render(logger: Any, method: str, event: MutableMapping[str, Any]) -> str:
    rendered = _json()(logger, method, event)
    line = rendered if isinstance(rendered, str) else rendered.decode()
    return _NOT_IN_A_LINE.sub(lambda found: f"\\u{ord(found[0]):04x}", line)


def _shown(value: object) -> str:
    """Return how *value* looks; one that cannot be shown must not stop the actor that logs it."""
    try:
        return repr(value)
    except Exception as error:  # noqa: BLE001 (a foreign __repr__ may raise anything)
        return f"<a {type(value).__name__} that cannot be shown: {type(error).__name__}>"


def get_logger(**bound: Any) -> Log:
    """Return the library's logger with *bound* facts on each line."""
    return Log(bound)


class Log:
    """The library's logger. A line that nobody hears is never made, and structlog is loaded for the first that is."""

    def __init__(self, bound: dict[str, Any]) -> None:
        self._bound = bound

    def debug(self, event: str, **facts: Any) -> None:
        """Say what matters only to who looks for a fault; prompts and replies stand here alone."""
        self._say(logging.DEBUG, event, facts)

    def info(self, event: str, **facts: Any) -> None:
        """Say what went otherwise than planned and was dealt with."""
        self._say(logging.INFO, event, facts)

    def warning(self, event: str, **facts: Any) -> None:
        """Say what somebody should look at."""
        self._say(logging.WARNING, event, facts)

    def error(self, event: str, **facts: Any) -> None:
        """Say that something of ours failed."""
        self._say(logging.ERROR, event, facts)

    def critical(self, event: str, **facts: Any) -> None:
        """Say that the system cannot go on."""
        self._say(logging.CRITICAL, event, facts)

    def _say(self, level: int, event: str, facts: dict[str, Any]) -> None:
        if _heard(level):
            _structured().log(level, event, **self._bound | facts)


def _heard(level: int) -> bool:
    """Tell whether a line of *level* would reach any handler but the one that says nothing."""
    if not _ROOT.isEnabledFor(level):
        return False
    logger: logging.Logger | None = _ROOT
    while logger is not None:
        if any(not isinstance(handler, logging.NullHandler) for handler in logger.handlers):
            return True
        logger = logger.parent if logger.propagate else None
    return False


@cache
def _json() -> Any:
    import structlog  # noqa: PLC0415 (7 MB and 40 ms that a program without logging does not pay)

    return structlog.processors.JSONRenderer(default=_shown, ensure_ascii=False, skipkeys=True)


@cache
def _structured() -> Any:
    import structlog  # noqa: PLC0415 (as above)

    return structlog.wrap_logger(
        _ROOT,
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.ExceptionRenderer(
                structlog.tracebacks.ExceptionDictTransformer(show_locals=False, max_frames=20)
            ),
            _render,
            _redacted,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    ).bind()


def where_raised(error: BaseException) -> str:
    """Return the frames that *error* came through, after those of what caused it, each with its words.

    It is one field of one event; the heading that a traceback has would look like a crash of the program.
    """
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    before = where_raised(cause) if cause is not None else ""
    return f"{before}{''.join(traceback.format_tb(error.__traceback__))}{type(error).__name__}: {error}\n"


class _Lines(logging.Handler):
    """Hands each line to *write*, which never waits: most are logged on the loop that runs every actor."""

    def __init__(self, write: Callable[[str], object]) -> None:
        super().__init__()
        self._write = write

    def emit(self, record: logging.LogRecord) -> None:
        self._write(self.format(record))


def to_stderr(level: str) -> None:
    """Show log lines of *level* and above on standard error; for the command line only.

    A reader that is slow or stuck holds nobody up: lines wait in a bounded queue, and are dropped when it is full.
    """
    from runtime.terminal import say  # noqa: PLC0415 (a program that embeds us never needs it)

    _ROOT.addHandler(_Lines(say))
    _ROOT.setLevel(level)
