"""Code taken out of a draft: fenced blocks with or without file names, whole files, several files.

Models name files in many ways: in the fence's info string, on the line above it, in the first line of the code. A block
without a name is a part of ``draft.py``, or of ``test_draft.py`` when it holds tests and others do not. All of it is
linear in the draft's length, and nothing is parsed here: that is done where the code may do no harm.
"""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, NamedTuple

from protocol.facts import SourceFile

if TYPE_CHECKING:
    from collections.abc import Iterator

MAIN = "draft.py"
TESTS = "test_draft.py"

_FENCE = re.compile(r"^([ \t]{0,12})(`{3,}|~{3,})[ \t]*([^\n]*)$")
_NAME = r"(?:[A-Za-z0-9_][\w-]*(?:\.[\w-]+)*/){0,7}[A-Za-z0-9_][\w-]*(?:\.[\w-]+)*\.[A-Za-z]\w{0,7}"
_IN_INFO = re.compile(rf"(?:^|[\s:={{\"'])(?:\./)?({_NAME})(?=$|[\s\"'}}:,])")
_ALONE = re.compile(
    r"^[\s#>*_`\-+(]*(?:[0-9]{1,3}[.)])?[\s*_`]*(?:(?:file|filename|path|datei|dateiname|pfad)\b[\s:*_`]*)?"
    rf"(?:\./)?({_NAME})[\s*_`:)]*$",
    re.IGNORECASE,
)
_MENTIONED = re.compile(rf"(?:`|\*\*)(?:\./)?({_NAME})(?:`|\*\*)")
_COMMENT = re.compile(rf"^#[ \t]*(?:(?:file|filename|path|datei)[ \t]*:[ \t]*)?(?:\./)?({_NAME})[ \t]*$", re.IGNORECASE)
_PYTHON = frozenset({"python", "py", "python3", "py3"})
_LOOKS_LIKE_PYTHON = re.compile(r"^(?:(?:async )?def \w|class \w|import \w|from [\w.]+ import )", re.MULTILINE)
_DEFINES = re.compile(r"^(?:(?:async )?def |class |@)", re.MULTILINE)
_HOLDS_TESTS = re.compile(r"^(?:(?:async )?def test|class Test|class \w+\((?:\w+\.)?TestCase\))", re.MULTILINE)
_FUTURE = re.compile(r"^from __future__ import [^\n]*\n?", re.MULTILINE)
_IMPORTS = re.compile(r"^(?:from|import) +(\w+)", re.MULTILINE)
_BEGINS = re.compile(
    r"#|@|\"\"\"|'''|[A-Za-z_]\w* *(?::[^\n=]*)?= |(?:async )?def \w|class \w|import \w|from [\w.]+ import "
)
_WITH_TESTS = frozenset({"pytest", "hypothesis", "mock"})
LONGEST_NAME = 100
LONGEST_LINE = 200
"""Characters of a line that may name a file."""


class Block(NamedTuple):
    """One fenced block; ``name`` is empty where none is given, ``language`` the info string's first word."""

    name: str
    language: str
    text: str


def take(draft: str) -> tuple[SourceFile, ...]:
    """Return the files that *draft* holds, none when there is no Python in it. Of two of one name the later counts."""
    found = blocks(draft)
    files = {block.name: block.text for block in found if block.name}
    modules = [name[:-3].replace("/", ".") for name in files if name.endswith(".py")]
    loose = _loose(found, named_python=bool(modules))
    if not found and _is_code(draft):
        loose = [draft]
    apart = [text for text in loose if _HOLDS_TESTS.search(text) and (modules or _imports_the_draft(text))]
    if len(apart) == len(loose) and not modules:
        apart = []
    _add(files, MAIN, [text for text in loose if text not in apart])
    _add(files, TESTS, [text if _imports_the_draft(text) else _with_all(modules, text) for text in apart])
    if not any(name.endswith(".py") for name in files):
        return ()
    return tuple(SourceFile(name=name, text=text) for name, text in files.items())


def given_tests(text: str) -> str:
    """Return the tests that *text*, a task or a subtask, gives in fenced blocks; empty when it gives none."""
    given = [block.text for block in blocks(text) if block.language in _PYTHON and _HOLDS_TESTS.search(block.text)]
    return _joined(given)


def blocks(text: str) -> list[Block]:
    """Return the fenced blocks of *text*. One that is never closed goes to the end."""
    found: list[Block] = []
    if "```" not in text and "~~~" not in text:
        return found
    above = ""
    lines = iter(text.replace("\r\n", "\n").split("\n"))
    for line in lines:
        fence = _FENCE.match(line)
        if fence is None or (fence[2][0] == "`" and "`" in fence[3]):
            above = line if line.strip() else above
            continue
        found.append(_block(fence[3], above, _body(lines, fence)))
        above = ""
    return found


def _body(lines: Iterator[str], fence: re.Match[str]) -> list[str]:
    indent, mark = len(fence[1].expandtabs(4)), fence[2]
    body: list[str] = []
    for line in lines:
        bare = line.strip()
        if len(bare) >= len(mark) and set(bare) == {mark[0]}:
            break
        body.append(_dedented(line, indent))
    return body


def _dedented(line: str, indent: int) -> str:
    """Return *line* without the blanks that its fence was set in by."""
    blanks = len(line) - len(line.lstrip(" "))
    return line[min(indent, blanks) :]


def _block(info: str, above: str, body: list[str]) -> Block:
    language = re.split(r"[\s:{}=,]", info.strip().lstrip("{."), maxsplit=1)[0].lower()
    first = body[0] if body else ""
    named = _IN_INFO.search(info[:LONGEST_LINE])
    if named is None and len(above) <= LONGEST_LINE:
        named = _ALONE.match(above) or _mentioned(above)
    if named is None and len(first) <= LONGEST_LINE:
        named = _COMMENT.match(first)
    name = named[1] if named is not None and len(named[1]) <= LONGEST_NAME else ""
    return Block(name, language, "\n".join(body) + "\n")


def _mentioned(line: str) -> re.Match[str] | None:
    """Return the one file that *line* introduces: ``Here is `client.py`:``."""
    found = list(_MENTIONED.finditer(line)) if line.rstrip().endswith(":") else []
    return found[0] if len(found) == 1 else None


def _loose(found: list[Block], *, named_python: bool) -> list[str]:
    """Return the blocks without a name that are Python: those that define something, if any do."""
    nameless = [block for block in found if not block.name and block.text.strip()]
    python = [block.text for block in nameless if block.language in _PYTHON]
    if not python and not named_python:
        python = [b.text for b in nameless if not b.language and _LOOKS_LIKE_PYTHON.search(b.text)]
    defining = [text for text in python if _DEFINES.search(text)]
    if defining or named_python:
        return defining
    return python


def _is_code(draft: str) -> bool:
    """Tell whether a draft without a fence is a whole file: it begins as one, and something of Python is in it."""
    return _BEGINS.match(draft.lstrip()) is not None and _LOOKS_LIKE_PYTHON.search(draft) is not None


def _imports_the_draft(text: str) -> bool:
    """Tell whether tests import something that neither Python nor a test library brings: it can only be the draft."""
    known = sys.stdlib_module_names | _WITH_TESTS
    return any(module not in known for module in _IMPORTS.findall(text))


def _with_all(modules: list[str], text: str) -> str:
    """Return tests that import nothing of the draft with everything that it defines."""
    return _joined(["".join(f"from {module} import *\n" for module in modules), text])


def _add(files: dict[str, str], name: str, texts: list[str]) -> None:
    """Put *texts* into the file *name*, behind what a block of that name holds already."""
    if texts:
        files[name] = _joined([files[name], *texts] if name in files else texts)


def _joined(texts: list[str]) -> str:
    """Return *texts* as one module: what they import from the future must stand at its head."""
    if len(texts) < 2:
        return "".join(texts)
    future = dict.fromkeys(line.strip() for text in texts for line in _FUTURE.findall(text))
    rest = "\n\n".join(_FUTURE.sub("", text) for text in texts)
    return "".join(f"{line}\n" for line in future) + rest
