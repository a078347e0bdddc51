"""Logging: structlog over the standard library's logger ``troupe``.

The library only emits; it configures nothing, so an application's own logging set-up decides what is shown. The
command line configures it (:func:`to_stderr`). One event is one line of JSON; keys and bearer tokens are blotted out
last, after exceptions have been formatted; prompts and replies appear at DEBUG only.
"""

from __future__ import annotations

import logging
import re
import sys
from typing import TYPE_CHECKING, Any

import structlog

if TYPE_CHECKING:
    from collections.abc import MutableMapping

_ROOT = logging.getLogger("troupe")
_ROOT.addHandler(logging.NullHandler())

_BEARER = re.compile(r"(?i)(bearer\s+|x-api-key['\"]?\s*[:=]\s*['\"]?)[^\s'\",}]+|\bsk-[A-Za-z0-9_-]{8,}")
_secrets: set[str] = set()


def keep_out(secret: str) -> None:
    """Blot out *secret* in every log line from now on, whatever it looks like."""
    if len(secret) >= 4:
        _secrets.add(secret)


def redact(text: str) -> str:
    """Return *text* without keys and bearer tokens."""
    for secret in _secrets:
        text = text.replace(secret, "[key]")
    return _BEARER.sub("[key]", text)


def _redacted(_logger: Any, _method: str, line: Any) -> str:
    return redact(line)


def _render(logger: Any, method: str, event: MutableMapping[str, Any]) -> str:
    rendered = _json(logger, method, event)
    return rendered if isinstance(rendered, str) else rendered.decode()


_json = structlog.processors.JSONRenderer(default=repr, ensure_ascii=False)


def get_logger(**bound: Any) -> Any:
    """Return the library's logger with *bound* facts on each line."""
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
    ).bind(**bound)


def to_stderr(level: str) -> None:
    """Show log lines of *level* and above on standard error; for the command line only."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    _ROOT.addHandler(handler)
    _ROOT.setLevel(level)
