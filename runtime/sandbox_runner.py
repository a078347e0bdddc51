"""The runner: the first Python inside the sandbox. Lays out a draft, looks at it, imports it, runs its tests.

It is not imported by Troupe but given to the interpreter of the sandbox as text, so it stands alone, and it loads
nothing that it can do without: each import is paid at every run.

What it says goes through a pipe of its own, in this order: ``+`` when it is there; one line with what it sees in the
files before any of their code runs; lines with what it begins, as hints; the secret and its report.

**The secret** comes byte by byte out of standard input *into the making of a bytes object in C*, and the tests run in
the middle of that: while code of the draft runs, no Python object holds the secret, and the descriptor it came from is
closed. So whatever that code writes into the pipe, it cannot write the secret. What it can do all the same stands in
docs/executor.md.
"""

from __future__ import annotations

import os
import resource
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    Entry = tuple[str, str, str, str]

REPORT = int(sys.argv[1])
CPU, MEMORY, PROCESSES, FILE = (int(word) for word in sys.argv[2:6])
HOME = sys.argv[6]
SECRET = 16
ONLY_AST = 0x400
LONGEST = 2000
DESCRIPTORS = 128
MOST_TESTS = 200
MOST_MISSING = 50
FUNCTIONS = ("FunctionDef", "AsyncFunctionDef")


def read_job() -> tuple[list[tuple[str, str]], set[str]]:
    """Return the files and the tests to leave out, read from standard input up to the secret."""
    head = b""
    while not head.endswith(b"\n"):
        head += os.read(0, 1) or sys.exit("no job came")
    count, left = map(int, head.split())
    parts = []
    while left:
        parts.append(os.read(0, left) or sys.exit("half a job came"))
        left -= len(parts[-1])
    words = b"".join(parts).decode("utf-8", "replace").split("\0")
    return list(zip(words[: 2 * count : 2], words[1 : 2 * count : 2])), set(words[2 * count :])


def lay_out(files: list[tuple[str, str]]) -> None:
    """Write the files."""
    for name, text in files:
        path = HOME + "/" + name
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)


def limit() -> None:
    """Bound this process and all that come from it. None of these can be raised again."""
    hard = {
        resource.RLIMIT_CPU: (CPU, CPU + 1),
        resource.RLIMIT_AS: (MEMORY, MEMORY),
        resource.RLIMIT_NPROC: (PROCESSES, PROCESSES),
        resource.RLIMIT_FSIZE: (FILE, FILE),
        resource.RLIMIT_NOFILE: (DESCRIPTORS, DESCRIPTORS),
        resource.RLIMIT_CORE: (0, 0),
        resource.RLIMIT_MEMLOCK: (0, 0),
    }
    for kind, bounds in hard.items():
        resource.setrlimit(kind, bounds)
    os.nice(5)


# --- looking, before anything of the draft runs


class Looked:
    """One parsed file: its module's name, its tests, what it defines and imports."""

    def __init__(self, name: str, text: str, tree: Any) -> None:
        self.name = name
        self.module = name[:-3].replace("/", ".").removesuffix(".__init__")
        self.importable = all(part.isidentifier() for part in self.module.split("."))
        base = name.rpartition("/")[2]
        self.is_test = base.startswith("test_") or base.endswith("_test.py")
        self.has_examples = ">>>" in text
        self.defined: set[str] = set()
        self.imports: dict[str, set[str]] = {}
        self.tests: list[str] = []
        for node in tree.body:
            self.define(node)
        for node in walk(tree):
            self.note_import(node)

    def define(self, node: Any) -> None:
        """Note what one statement of the module defines, and the tests in it."""
        kind = type(node).__name__
        if kind in FUNCTIONS or kind == "ClassDef":
            self.defined.add(node.name)
        if kind in FUNCTIONS and node.name.startswith("test"):
            self.tests.append(node.name)
        elif kind == "ClassDef" and holds_tests(node):
            names = [inner.name for inner in node.body if type(inner).__name__ in FUNCTIONS]
            self.tests += [node.name + "." + name for name in names if name.startswith("test")]
        elif kind in {"Assign", "AnnAssign"}:
            targets = node.targets if kind == "Assign" else [node.target]
            self.defined.update(getattr(target, "id", "") for target in targets)

    def note_import(self, node: Any) -> None:
        """Note the modules that a node imports, and which names of theirs."""
        kind = type(node).__name__
        if kind == "Import":
            for alias in node.names:
                self.imports.setdefault(alias.name.partition(".")[0], set())
        elif kind == "ImportFrom" and not node.level:
            names = self.imports.setdefault(node.module.partition(".")[0], set())
            names.update(alias.name for alias in node.names)


def holds_tests(node: Any) -> bool:
    """Tell whether a class holds tests, by its name or its base."""
    bases = [getattr(base, "attr", getattr(base, "id", "")) for base in node.bases]
    return node.name.startswith("Test") or any(base.endswith("TestCase") for base in bases)


def walk(tree: Any) -> Iterator[Any]:
    """Yield every node; without recursion, since the draft says how deep it is."""
    todo = [tree]
    while todo:
        node = todo.pop()
        yield node
        for field in node._fields:
            value = getattr(node, field, None)
            todo.extend(v for v in (value if isinstance(value, list) else [value]) if hasattr(v, "_fields"))


def look(files: list[tuple[str, str]]) -> tuple[list[Entry], list[Looked]]:
    """Return what is seen as entries, and the files that parsed."""
    entries: list[Entry] = [("python", sys.version.split()[0], "", "")]
    looked = []
    for name, text in files:
        if not name.endswith(".py"):
            continue
        try:
            looked.append(Looked(name, text, compile(text, name, "exec", ONLY_AST, dont_inherit=True)))
        except SyntaxError as error:
            entries.append(("problem", name, str(error.lineno or 0), type(error).__name__ + ": " + str(error.msg)))
        except BaseException as error:
            entries.append(("problem", name, "0", type(error).__name__ + ": it cannot be parsed"))
    return entries, looked


def strangers(looked: list[Looked]) -> tuple[dict[str, str], list[Entry]]:
    """Return aliases for modules that tests import by a made-up name, and entries for what the sandbox lacks."""
    own = {each.module.partition(".")[0] for each in looked}
    aliases: dict[str, str] = {}
    entries: list[Entry] = []
    for each in looked:
        for module, names in each.imports.items():
            if module in own or module in aliases or is_there(module):
                continue
            home = next((o for o in looked if not o.is_test and o.importable and names <= o.defined), None)
            if each.is_test and home is not None:
                aliases[module] = home.module
            else:
                entries.append(("missing", module, each.name, ""))
    return aliases, entries


def is_there(module: str) -> bool:
    """Tell whether the interpreter has *module*, without loading it."""
    if module in sys.builtin_module_names or module in sys.modules:
        return True
    return any(finder.find_spec(module, None) is not None for finder in sys.meta_path)


# --- running


class Run:
    """Imports and tests, in order. From here on code of the draft runs in this interpreter."""

    def __init__(self, looked: list[Looked], aliases: dict[str, str], skip: set[str]) -> None:
        self.looked, self.aliases, self.skip = looked, aliases, skip
        self.entries: list[Entry] = []
        self.modules: dict[str, Any] = {}

    def all(self) -> None:
        """Import every file, the tests last, and run what tests there are; without any, the examples in docstrings."""
        for each in sorted(self.looked, key=lambda one: one.is_test):
            if each.importable and self.load(each):
                for test in each.tests[:MOST_TESTS]:
                    if each.name + "::" + test not in self.skip:
                        self.test(each, test)
        if not any(each.tests for each in self.looked):
            for each in self.looked:
                if each.has_examples and each.name in self.modules:
                    self.examples(each)

    def load(self, each: Looked) -> bool:
        """Import one file; tell whether that went well."""
        begin("import " + each.name)
        try:
            for alias, module in self.aliases.items():
                if alias in each.imports:
                    sys.modules[alias] = __import__(module, fromlist=["x"])
            self.modules[each.name] = __import__(each.module, fromlist=["x"])
        except ModuleNotFoundError as error:
            self.entries.append(("absent", each.name, str(error.name or "").partition(".")[0], told(error)))
        except BaseException as error:
            self.entries.append(("broken", each.name, "", told(error)))
        else:
            self.entries.append(("imported", each.name, "", ""))
        return each.name in self.modules

    def test(self, each: Looked, test: str) -> None:
        """Run one test."""
        name = each.name + "::" + test
        begin(name)
        try:
            why = play(self.modules[each.name], test)
        except BaseException as error:
            self.entries.append(("failed", name, "", told(error)))
        else:
            self.entries.append(("passed" if why is None else "skipped", name, "", why or ""))

    def examples(self, each: Looked) -> None:
        """Run the examples in the docstrings of one file, one test for each docstring."""
        import doctest

        for example in doctest.DocTestFinder().find(self.modules[each.name]):
            if not example.examples:
                continue
            name = each.name + "::" + example.name + " (doctest)"
            if name in self.skip:
                continue
            begin(name)
            said: list[str] = []
            try:
                failed = doctest.DocTestRunner(verbose=False).run(example, out=said.append).failed
            except BaseException as error:
                failed, said = 1, [told(error)]
            self.entries.append(("failed" if failed else "passed", name, "", "".join(said) if failed else ""))


def play(module: Any, test: str) -> str | None:
    """Run one test; return None, or why it was skipped. Raises what the test raises."""
    cls, _, name = test.rpartition(".")
    if not cls:
        return call(getattr(module, name))
    kind = getattr(module, cls)
    unittest: Any = sys.modules.get("unittest")
    if unittest is not None and issubclass(kind, unittest.TestCase):
        return play_case(unittest, kind, name)
    instance = kind()
    around(instance, "setup_method")
    try:
        return call(getattr(instance, name))
    finally:
        around(instance, "teardown_method")


def play_case(unittest: Any, kind: Any, name: str) -> str | None:
    """Run one test of a TestCase with all its fixtures."""
    result = unittest.TestResult()
    unittest.TestSuite([kind(name)]).run(result)
    bad = result.errors + result.failures
    if bad:
        raise CaseFailed(bad[0][1])
    if result.unexpectedSuccesses:
        raise CaseFailed("it passed, and was expected to fail")
    return result.skipped[0][1] if result.skipped else None


class CaseFailed(Exception):
    """A test of a TestCase failed; the text is its traceback."""


def call(function: Any) -> str | None:
    """Call a test without arguments; one that wants some would need fixtures."""
    if wanted(function) > 0:
        return "it takes arguments, and there are no fixtures here"
    value = function()
    if type(value).__name__ == "coroutine":
        import asyncio

        asyncio.run(value)
    return None


def around(instance: Any, name: str) -> None:
    """Call a method that stands around a test, where there is one."""
    method = getattr(instance, name, None)
    if method is not None:
        method(*[None] * wanted(method))


def wanted(function: Any) -> int:
    """Return how many arguments *function* must be given."""
    code = getattr(function, "__code__", None)
    bound = 1 if hasattr(function, "__self__") else 0
    return 0 if code is None else code.co_argcount - bound - len(function.__defaults__ or ())


def told(error: BaseException) -> str:
    """Return what an exception says, and after NULs the draft's file and line that it came from."""
    if isinstance(error, CaseFailed):
        return str(error)[-LONGEST:]
    try:
        text = str(error)[:LONGEST].replace("\0", " ")
    except BaseException:
        text = "(it cannot be shown)"
    places = [(error.filename, error.lineno or 0)] if isinstance(error, SyntaxError) else []
    trace = error.__traceback__
    while trace is not None:
        places.insert(0, (trace.tb_frame.f_code.co_filename, trace.tb_lineno))
        trace = trace.tb_next
    mine = [(str(file)[len(HOME) + 1 :], line) for file, line in places if str(file).startswith(HOME + "/")]
    where = "\0%s\0%d" % mine[0] if mine else ""
    return type(error).__name__ + ": " + text + where


# --- telling


def as_bytes(entries: list[Entry]) -> bytes:
    """Return *entries* as they go through the pipe."""
    return b"\x1e".join(b"\x1f".join(clean(word) for word in entry) for entry in entries)


def clean(word: str) -> bytes:
    """Return *word* without what separates words."""
    return word.replace("\x1e", " ").replace("\x1f", " ").encode("utf-8", "replace")


def begin(what: str) -> None:
    """Say what begins, for whoever must guess where the interpreter ended."""
    os.write(REPORT, b"\nbegin " + clean(what.replace("\n", " "))[:300] + b"\n")


def testimony(looked: list[Looked], aliases: dict[str, str], skip: set[str]) -> Iterator[int]:
    """Yield the bytes of the report: the secret first, out of the pipe, and what the tests gave last."""
    for _ in range(SECRET):
        yield os.read(0, 1)[0]
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    run = Run(looked, aliases, skip)
    run.all()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BaseException:
            run.entries.append(("noted", "", "", "its output could not be written"))
    report = as_bytes(run.entries)
    yield from b"%08x" % len(report)
    yield from report


def main() -> None:
    """Serve one job."""
    sys.modules["__main__"] = type(sys)("__main__")  # the draft's own; ours shall not be patched through it
    os.write(REPORT, b"+")
    files, skip = read_job()
    lay_out(files)
    limit()
    entries, looked = look(files)
    sys.path.insert(0, HOME)
    aliases, missing = strangers(looked)
    tests = [("test", each.name + "::" + test, "", "") for each in looked for test in each.tests[:MOST_TESTS]]
    os.write(REPORT, as_bytes(entries + missing[:MOST_MISSING] + tests).replace(b"\n", b" ") + b"\n")
    if len(entries) > 1:
        os._exit(1)
    os.write(REPORT, bytes(testimony(looked, aliases, skip)))
    os._exit(0)


main()
