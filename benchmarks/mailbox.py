"""What a message, an actor's life and an idle actor cost, beside stock Pykka in the same run.

CPU is that of the whole process, sender and receiver, from before the first send until after the last message was
handled. The contenders take turns, the figure is the median of the rounds. Memory is what the process grows by (RSS) in
a process of its own. Exits with 1 when a bound does not hold.

    python benchmarks/mailbox.py [--rounds N] [--out benchmarks/results/mailbox.json] [--json]
"""

# What an actor does stands at its class; a counter counts whatever comes.
# ruff: noqa: D102, ARG002

from __future__ import annotations

import argparse
import gc
import json
import platform
import statistics
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from queue import SimpleQueue
from resource import getpagesize

import pykka

from actors.base import Actor
from actors.directory import ActorSpec, Directory
from protocol.signals import Stop
from runtime.loop import SharedDispatcher

TIMEOUT = 120
BOUNDS = {
    "hop": 2.0,
    "hop, a timer set": 2.0,
    "tell": 1.0,
    "start and stop": 60.0,
    "idle, 10,000 alive": 4096,
    "idle, 100,000 alive": 4096,
}
"""The most a row may cost, in its unit."""
FASTER = 6.0
"""Times that a hop must be faster than stock Pykka's."""


# --- actors


class Parent(Actor):
    """Supervises the others."""

    def on_receive(self, message):
        """Nothing fails here."""


class Hopper(Actor):
    """Sends what it gets to *other*, and says when the last one has come."""

    def __init__(self, other, done, timer):
        super().__init__()
        self.other, self.done, self.timer = other, done, timer

    def setup(self):
        if self.timer:
            self.after(3600.0, "never", key="timer")

    def on_receive(self, left):
        if left:
            self.tell(self.other, left - 1)
        else:
            self.done.put(None)


class Counter(Actor):
    """Counts down to the end."""

    def __init__(self, left, done):
        super().__init__()
        self.left, self.done = left, done

    def on_receive(self, message):
        self.left -= 1
        if not self.left:
            self.done.put(None)


class StockHopper(pykka.ThreadingActor):
    """As :class:`Hopper`, in stock Pykka."""

    def __init__(self, done):
        super().__init__()
        self.other, self.done = None, done

    def on_receive(self, left):
        if isinstance(left, pykka.ActorRef):
            self.other = left
        elif left:
            self.other.tell(left - 1)
        else:
            self.done.put(None)


class StockCounter(pykka.ThreadingActor):
    """As :class:`Counter`, in stock Pykka."""

    def __init__(self, left, done):
        super().__init__()
        self.left, self.done = left, done

    on_receive = Counter.on_receive


class Idle(Actor):
    """Has handled one message and waits for the next."""

    def on_receive(self, message):
        return message


class StockIdle(pykka.ThreadingActor):
    """As :class:`Idle`, in stock Pykka."""

    on_receive = Idle.on_receive


class House:
    """A shared loop with a parent; closes behind itself."""

    def __enter__(self):
        self.dispatcher = SharedDispatcher()
        self.directory = Directory(self.dispatcher)
        self.dispatcher.start()
        self.directory.spawn(ActorSpec(address="parent", factory=Parent))
        return self

    def __exit__(self, *_):
        self.dispatcher.stop()
        for thread in self.dispatcher.threads():
            thread.join(TIMEOUT)

    def spawn(self, address, factory):
        return self.directory.spawn(ActorSpec(address=address, factory=factory, parent="parent"))


def cpu_us(act, count):
    """Return the CPU microseconds of the process for each of *count* things that *act* does."""
    gc.collect()
    began = time.process_time()
    act()
    return (time.process_time() - began) / count * 1e6


# --- rows: each returns one figure


def hop(count=200_000, *, timer=False):
    done = SimpleQueue()
    with House() as house:
        house.spawn("b", lambda: Hopper("a", done, timer))
        house.spawn("a", lambda: Hopper("b", done, timer)).ask(1, block=False)  # when "b" is there
        done.get(timeout=TIMEOUT)

        def act():
            house.directory.send("a", count)
            done.get(timeout=TIMEOUT)

        return cpu_us(act, count)


def stock_hop(count=20_000):
    done = SimpleQueue()
    first, second = StockHopper.start(done), StockHopper.start(done)
    first.ask(second, timeout=TIMEOUT)
    second.ask(first, timeout=TIMEOUT)

    def act():
        first.tell(count)
        done.get(timeout=TIMEOUT)

    try:
        return cpu_us(act, count)
    finally:
        first.stop()
        second.stop()


def tell(count=200_000):
    done = SimpleQueue()
    with House() as house:
        house.spawn("a", lambda: Counter(count, done))

        def act():
            send = house.directory.send
            for n in range(count):
                send("a", n)
            done.get(timeout=TIMEOUT)

        return cpu_us(act, count)


def stock_tell(count=50_000):
    done = SimpleQueue()
    ref = StockCounter.start(count, done)

    def act():
        for n in range(count):
            ref.tell(n)
        done.get(timeout=TIMEOUT)

    try:
        return cpu_us(act, count)
    finally:
        ref.stop()


def start_and_stop(count=5_000):
    with House() as house:

        def act():
            for n in range(count):
                house.spawn(f"a/{n}", Idle)
                house.directory.send(f"a/{n}", Stop())
            house.directory.mailboxes["parent"].actor.actor_ref.ask("all done?", timeout=TIMEOUT)

        figure = cpu_us(act, count)
        assert list(house.directory.mailboxes) == ["parent"], "an actor did not stop"
        return figure


def stock_start_and_stop(count=1_000):
    def act():
        for _ in range(count):
            StockIdle.start().stop()

    return cpu_us(act, count)


def idle(kind, count):
    """Return the bytes of one of *count* actors that have handled a message each; runs in a process of its own."""
    if kind == "stock":
        before = rss()
        refs = [StockIdle.start() for _ in range(count)]
        for ref in refs:
            ref.ask(1, timeout=TIMEOUT)
        figure = (rss() - before) / count
        pykka.ActorRegistry.stop_all()
        return figure
    with House() as house:
        before = rss()
        for n in range(count):
            house.spawn(f"a/{n}", Idle)
            house.directory.send(f"a/{n}", n)
        house.directory.mailboxes["parent"].actor.actor_ref.ask("all done?", timeout=TIMEOUT)
        return (rss() - before) / count


def rss():
    gc.collect()
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * getpagesize()


# --- all of them


ROWS = {
    "hop": (hop, stock_hop),
    "hop, a timer set": (lambda: hop(timer=True), None),
    "tell": (tell, stock_tell),
    "start and stop": (start_and_stop, stock_start_and_stop),
}
IDLE = {"idle, 10,000 alive": 10_000, "idle, 100,000 alive": 100_000}
STOCK_IDLE = 500
"""Threads that any machine gives; the bytes of one do not depend on it."""


def measure(rounds):
    figures = {(name, side): [] for name, sides in ROWS.items() for side in (0, 1) if sides[side]}
    for _ in range(rounds):
        for (name, side), measured in figures.items():
            measured.append(ROWS[name][side]())
    rows = [row(name, "us CPU", figures[name, 0], figures.get((name, 1))) for name in ROWS]
    stock = [in_a_process("stock", STOCK_IDLE) for _ in range(3)]
    rows += [row(name, "bytes", [in_a_process("ours", n) for _ in range(3)], stock) for name, n in IDLE.items()]
    from provenance import commit

    return {
        "commit": commit(),
        "python": platform.python_version(),
        "pykka": version("pykka"),
        "rounds": rounds,
        "rows": rows,
    }


def row(name, unit, ours, stock):
    digits = 3 if unit == "us CPU" else 0
    figure = statistics.median(ours)
    theirs = statistics.median(stock) if stock else None
    return {
        "what": name,
        "unit": unit,
        "troupe": round(figure, digits),
        "lowest": round(min(ours), digits),
        "highest": round(max(ours), digits),
        "pykka": None if theirs is None else round(theirs, digits),
        "ratio": None if theirs is None else round(theirs / figure, 1),
        "bound": BOUNDS[name],
    }


def in_a_process(kind, count):
    command = [sys.executable, __file__, "--idle", kind, str(count)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def broken(result):
    """Return the bounds that do not hold, in words."""
    wrong = [
        f"{r['what']}: {r['troupe']} {r['unit']}, at most {r['bound']}"
        for r in result["rows"]
        if r["troupe"] > r["bound"]
    ]
    first = result["rows"][0]
    if first["ratio"] < FASTER:
        wrong.append(f"hop: {first['ratio']} times stock Pykka, at least {FASTER}")
    return wrong


def table(result):
    lines = [f"{'':<22}{'Troupe':>10}{'(lowest':>10}{'highest)':>10}{'Pykka':>10}{'ratio':>8}{'bound':>8}"]
    for r in result["rows"]:
        stock = ("", "") if r["pykka"] is None else (r["pykka"], r["ratio"])
        lines.append(
            f"{r['what']:<22}{r['troupe']:>10}{r['lowest']:>10}{r['highest']:>10}{stock[0]:>10}{stock[1]:>8}"
            f"{r['bound']:>8} {r['unit']}"
        )
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--idle", nargs=2, metavar=("KIND", "COUNT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.idle:
        print(idle(options.idle[0], int(options.idle[1])))
        return 0
    result = measure(options.rounds)
    text = json.dumps(result, indent=1)
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")
    print(text if options.json else table(result))
    for complaint in broken(result):
        print(f"bound broken: {complaint}", file=sys.stderr)
    return 1 if broken(result) else 0


if __name__ == "__main__":
    sys.exit(main())
