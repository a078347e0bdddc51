"""Reading TOML into frozen structs, so that whatever is wrong is named by its whole key.

``msgspec`` checks each value; the walk over the tables is done here, since the paths in msgspec's own errors leave out
the keys of dicts (``$.limits[...]``). No message shows a text, which could be a secret; numbers are shown.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import msgspec
from msgspec import NODEFAULT, Meta, Struct, structs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

T = TypeVar("T", bound=Struct)

LARGEST_FILE = 1_000_000
"""Bytes that a configuration may have."""
LONGEST_NAME = 60
WORDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    dict: "a table",
    list: "a list",
}
MOST_NAMES = 12
NEARLY = 0.08
"""How much less like a name another may be that is named beside it."""


class Wrong(ValueError):  # noqa: N818 (never leaves the configuration: it becomes a ConfigError with the file in front)
    """The value of one key is wrong: the dotted key, and what was expected."""

    def __init__(self, key: str, text: str, *, page: str = "configuration") -> None:
        super().__init__(f"{key}: {text}" if key else text)
        self.key, self.text, self.page = key, text, page


def parsed(text: bytes) -> dict[str, Any]:
    """Return the tables that *text* holds as TOML. Raises :class:`Wrong`, whatever the bytes are."""
    if len(text) > LARGEST_FILE:
        raise Wrong("", f"is larger than {LARGEST_FILE} bytes; a configuration is a short text")
    try:
        return tomllib.loads(text.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = text.count(b"\n", 0, error.start) + 1
        raise Wrong("", f"is not UTF-8 (line {line}, byte {error.start})") from None
    except RecursionError:
        raise Wrong("", "is nested too deeply") from None
    except ValueError as error:
        raise Wrong("", f"is not TOML: {_fault(str(error), text)}") from None


def _fault(message: str, text: bytes) -> str:
    """Return tomllib's words, with a line also where it only says that the document has ended."""
    if "integer string conversion" in message:
        return "it holds a number of more than 4000 digits"
    return re.sub("at end of document", f"at the end, line {text.count(10) + 1}", message)


def read(kind: type[T], table: object, key: str = "") -> T:
    """Return *table*, which stands at *key*, as a *kind*. Raises :class:`Wrong` for the first thing that is wrong."""
    for wrong in faults(kind, table, key):
        raise wrong
    return msgspec.convert(table, kind)


def faults(kind: type[Struct], table: object, key: str = "") -> Iterator[Wrong]:
    """Yield everything that keeps *table*, which stands at *key*, from being a *kind*."""
    if not isinstance(table, dict):
        yield Wrong(key, f"expected a table, got {described(table)}")
        return
    fields = {field.name: field for field in structs.fields(kind)}
    for name in table:
        if name not in fields:
            yield Wrong(joined(key, name), f"unknown key{did_you_mean(name, fields)}")
    for name, field in fields.items():
        if name not in table and field.default is NODEFAULT and field.default_factory is NODEFAULT:
            yield Wrong(joined(key, name), f"is missing; expected {expected(field.type)}")
    for name, value in table.items():
        if name in fields:
            yield from _member_faults(fields[name].type, value, joined(key, name))


def _member_faults(type_: Any, value: object, key: str) -> Iterator[Wrong]:
    """Yield what is wrong with *value* as *type_*: a table of its own, a table of named tables, or one value."""
    if get_origin(type_) is dict:
        if not isinstance(value, dict):
            yield Wrong(key, f"expected tables [{key}.<name>], got {described(value)}")
            return
        for name, entry in value.items():
            yield from faults(get_args(type_)[1], entry, joined(key, name))
        return
    struct = _struct_in(type_)
    if struct is not None and value is not None:
        yield from faults(struct, value, key)
        return
    try:
        msgspec.convert(value, type_)
    except msgspec.ValidationError:
        yield Wrong(key, f"expected {expected(type_)}, got {described(value)}{_meant(type_, value)}")


def mended(kind: type[Struct], table: object) -> dict[str, Any]:
    """Return what is sound in *table* as one that can be read, so that what else is wrong is found in the same pass.

    What is wrong is left out; in the place of what is missing stands ``?`` or 0.
    """
    sound: dict[str, Any] = {}
    given = table if isinstance(table, dict) else {}
    for field in structs.fields(kind):
        value, struct = given.get(field.name), _struct_in(field.type)
        if field.name in given and get_origin(field.type) is dict:
            named = value if isinstance(value, dict) else {}
            sound[field.name] = {name: mended(get_args(field.type)[1], entry) for name, entry in named.items()}
        elif field.name in given and struct is not None and isinstance(value, dict):
            sound[field.name] = mended(struct, value)
        elif field.name in given and not any(_member_faults(field.type, value, "")):
            sound[field.name] = value
        elif field.default is NODEFAULT and field.default_factory is NODEFAULT:
            sound[field.name] = "?" if "text" in expected(field.type) else 0
    return sound


def _struct_in(type_: Any) -> type[Struct] | None:
    """Return the struct that *type_* is, or is when it is not None."""
    for part in (type_, *get_args(type_)):
        if isinstance(part, type) and issubclass(part, Struct):
            return part
    return None


# --- words


def joined(key: str, name: object) -> str:
    """Return the dotted key of *name* below *key*, quoted as in TOML where it must be, cut where it is long."""
    text = str(name)
    text = text if len(text) <= LONGEST_NAME else text[:LONGEST_NAME] + "..."
    bare = text.isascii() and text.replace("_", "a").replace("-", "a").isalnum()
    text = text if bare else f'"{text}"'
    return f"{key}.{text}" if key else text


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """Return the end of a sentence: the known name (or two) that *name* is most like, or else all of them."""
    names, text = list(known), str(name)[:LONGEST_NAME]
    close = difflib.get_close_matches(text, names, n=2, cutoff=0.5)
    if close:
        best, *second = (difflib.SequenceMatcher(None, one, text).ratio() for one in close)
        as_close = [one for one, ratio in zip(close[1:], second, strict=True) if ratio > best - NEARLY]
        return f"; did you mean {' or '.join(map(repr, [close[0], *as_close]))}?"
    shown = [*(name[:LONGEST_NAME] for name in names[:MOST_NAMES]), *(["..."] if len(names) > MOST_NAMES else [])]
    return f"; there are: {', '.join(shown)}" if names else "; there are none"


def described(value: object) -> str:
    """Return *value* in words; a text is not shown, since it could be a secret."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) and abs(value) >= 10**15:
        return f"a number of {value.bit_length()} bits"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        return "a text" if value else "an empty text"
    return next((word for type_, word in WORDS.items() if isinstance(value, type_)), f"a {type(value).__name__}")


def expected(type_: Any) -> str:
    """Return in words what *type_* takes, with its bounds."""
    origin = get_origin(type_)
    if origin is Annotated:
        base, *metas = get_args(type_)
        return expected(base) + "".join(_bounds(meta) for meta in metas)
    if origin is Literal:
        return _or([repr(choice) for choice in get_args(type_)])
    if origin in {Union, UnionType}:
        return _or([expected(part) for part in get_args(type_) if part is not type(None)])
    struct = _struct_in(type_)
    return "a table" if struct is not None else WORDS.get(type_, "another type")


def _bounds(meta: Meta) -> str:
    if meta.min_length:
        return " that is not empty"
    low = f"from {_plain(meta.ge)} to" if meta.ge is not None else f"above {_plain(meta.gt)} and at most"
    return f" {low} {_plain(meta.le)}"


def _plain(number: float | None) -> str:
    return f"{number:.12g}"


def _or(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _meant(type_: Any, value: object) -> str:
    """Return a hint when *value* is almost one of the words that *type_* takes."""
    choices = [choice for part in (type_, *get_args(type_)) for choice in get_args(part) if isinstance(choice, str)]
    close = difflib.get_close_matches(value, choices, n=1, cutoff=0.6) if isinstance(value, str) else []
    return f"; did you mean {close[0]!r}?" if close else ""


def one_line(text: str) -> str:
    """Return *text* with everything that is no printable character written as an escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)
