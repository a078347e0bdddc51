"""The bench command: four ways to make many calls under a rate limit, judged by the log of a server that enforces it.

Server and contender are processes of their own on this machine. The two limits are the guide's own (100/s, 200 at
once) and one at which a burst helps nobody (50/s, 10 at once). Takes a little over a minute.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self
from urllib.parse import urlsplit

from msgspec import Struct, json, structs

from protocol.errors import TroupeError
from runtime.bench_contenders import Name, Orders
from runtime.bench_judge import Judged, Limit, Ran, ideal, judge
from runtime.fake_desk import Arrival
from runtime.fake_script import RateLimit, Script
from runtime.terminal import print_out, printable, say

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

CALLS = 500
LATENCY = 0.05
LIMITS = (
    Limit(per_second=100.0, burst=200, latency=LATENCY),
    Limit(per_second=50.0, burst=10, latency=LATENCY),
)
PATIENCE = 60.0
"""Seconds after which a contender is given up."""
MOST_ERROR = 300
HEADINGS = ("time/ideal", "429s", "lost", "duplicates", "CPU ms/call", "inversions")


class Entry(NamedTuple):
    """A contender as it stands in a table; *known*: it is told the limit, where it takes one."""

    label: str
    name: Name
    known: bool = True


FIELD = (Entry("sequential", "sequential"), Entry("naive", "naive"), Entry("guide", "guide"), Entry("troupe", "troupe"))
FIELDS = (
    FIELD,
    (*FIELD[:2], Entry("guide", "guide", known=False), Entry("guide, told", "guide"), *FIELD[3:]),
)
"""Who runs under each of the limits. The first is that of the guide's benchmark; its defaults are 60/s, 100 at once."""


class Row(Struct, frozen=True, kw_only=True):
    """One contender under one limit; ``error`` says why it has no figures."""

    contender: str
    figures: Judged | None = None
    error: str | None = None


class Table(Struct, frozen=True, kw_only=True):
    """All contenders under one limit; ``ideal_s`` is the least time that *calls* can take."""

    per_second: float
    burst: int
    latency_s: float
    calls: int
    ideal_s: float
    rows: tuple[Row, ...]


def bench(options: argparse.Namespace) -> int:
    """Measure, print a table or one JSON document, and return the exit code: 1 when a contender has no figures."""
    tables = measure(LIMITS, CALLS)
    if options.json:
        print_out(json.encode({"tables": tables}).decode())
    else:
        print_out("\n".join(line for table in tables for line in lines(table)))
    return 1 if any(row.error for table in tables for row in table.rows) else 0


def measure(limits: tuple[Limit, ...], calls: int, fields: tuple[tuple[Entry, ...], ...] = FIELDS) -> list[Table]:
    """Let each entry of the n-th of *fields* make *calls* calls under the n-th of *limits*.

    One contender at a time, except that the sequential ones, which mostly wait, run beside each other.
    """
    rows: dict[tuple[int, Entry], Row] = {}

    def one(place: int, entry: Entry) -> None:
        limit = limits[place]
        say(f"bench: {entry.label} makes {calls} calls at {limit.per_second:g}/s, {limit.burst} at once")
        orders = Orders(name=entry.name, url="", calls=calls, limit=limit, known=entry.known)
        rows[place, entry] = contend(entry.label, orders)

    order = [(place, entry) for place, field in zip(range(len(limits)), fields, strict=True) for entry in field]
    slow = [each for each in order if each[1].name == "sequential"]
    with ThreadPoolExecutor(len(limits)) as pool:
        list(pool.map(lambda each: one(*each), slow))
    for each in order:
        if each not in slow:
            one(*each)
    return [
        Table(
            per_second=limit.per_second,
            burst=limit.burst,
            latency_s=limit.latency,
            calls=calls,
            ideal_s=round(ideal(limit, calls), 3),
            rows=tuple(rows[place, entry] for entry in fields[place]),
        )
        for place, limit in enumerate(limits)
    ]


# --- one contender


def contend(label: str, orders: Orders) -> Row:
    """Let one contender work against a server of its own."""
    with LimitedServer(orders.limit) as server:
        try:
            ran = child(structs.replace(orders, url=server.url))
        except TroupeError as error:
            return Row(contender=label, error=str(error))
        return Row(contender=label, figures=judge(orders.limit, ran, server.log()))


def child(orders: Orders, patience: float = PATIENCE) -> Ran:
    """Run a contender in a process of its own. Raises ``TroupeError`` with its last words."""
    command = [sys.executable, "-m", "runtime.bench_contenders"]
    try:
        done = subprocess.run(  # noqa: S603 (our own interpreter and module, no shell)
            command, input=json.encode(orders), capture_output=True, timeout=patience, check=False
        )
    except subprocess.TimeoutExpired:
        raise TroupeError(f"did not end within {patience:g} s") from None
    if done.returncode:
        raise TroupeError(printable(done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2], MOST_ERROR))
    return json.decode(done.stdout, type=Ran)


class LimitedServer:
    """The scripted server in a process of its own, with an enforced limit; a context manager."""

    def __init__(self, limit: Limit, *, headers: bool = False, hint: bool = True) -> None:
        self._script = Script(
            latency=limit.latency,
            record=True,
            rate_limit=RateLimit(
                per_second=limit.per_second,
                burst=limit.burst,
                tokens_per_second=limit.tokens_per_second,
                token_burst=limit.token_burst,
                headers=headers,
                hint=hint,
                closed_after=limit.closed_after,
                closed_for=limit.closed_for,
            ),
        )

    def __enter__(self) -> Self:
        with tempfile.NamedTemporaryFile(suffix=".json") as file:
            Path(file.name).write_bytes(json.encode(self._script))
            command = [sys.executable, "-m", "runtime.fake_server", "--script", file.name, "--print-url"]
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE)  # noqa: S603 (as above)
            assert self._process.stdout is not None
            self.url = self._process.stdout.readline().decode().strip()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        with self._process:
            pass

    def log(self) -> list[Arrival]:
        """Return each request with its verdict, in order of arrival."""
        connection = HTTPConnection(urlsplit(self.url).netloc, timeout=PATIENCE)
        with closing(connection):
            connection.request("GET", "/log")
            return json.decode(connection.getresponse().read(), type=list[Arrival])


# --- for people


def lines(table: Table) -> Iterator[str]:
    """Yield *table* as text."""
    yield (
        f"{table.calls} calls of {table.latency_s * 1000:g} ms, server's limit {table.per_second:g}/s and "
        f"{table.burst} at once: {table.ideal_s:.2f} s at best"
    )
    yield f"{'':<12}{'':>2}{''.join(f'{heading:>13}' for heading in HEADINGS)}"
    for row in table.rows:
        if row.figures is None:
            yield f"  {row.contender:<12}failed: {row.error}"
            continue
        of = row.figures
        cells = (
            f"{of.over_ideal:.3f}",
            f"{of.throttled:.1%}",
            str(of.lost),
            str(of.duplicates),
            f"{of.cpu_ms:.2f}",
            f"{of.inversions:.3f}",
        )
        yield f"  {row.contender:<12}{''.join(f'{cell:>13}' for cell in cells)}"
