"""The live view as rich renderables: lines that fit the terminal, whatever stands in them.

What a model wrote comes last in its line, behind columns of fixed width, and no border follows it: a character that is
wider than the terminal's fonts say can shift nothing.
"""

from __future__ import annotations

import re
from collections import Counter
from io import StringIO
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.console import Console
from rich.progress_bar import ProgressBar
from rich.text import Text

from runtime.screen import Frame
from runtime.terminal import printable
from runtime.view_state import (
    DONE,
    FAILED,
    KEPT,
    RETRYING,
    REVIEWED,
    REVISED,
    RUNNING,
    SETTLED,
    STOPPED,
    WAITING,
    WRITING,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from runtime.view_state import DomainState, Leaf, RunState, ViewState

GLYPHS = {
    WAITING: ("·", "dim"),
    WRITING: ("●", "cyan"),
    RUNNING: ("▶", "magenta"),
    REVIEWED: ("◐", "yellow"),
    RETRYING: ("↻", "red"),
    DONE: ("✓", "green"),
    REVISED: ("✓", "green"),
    KEPT: ("≈", "yellow"),
    FAILED: ("✗", "bold red"),
    STOPPED: ("-", "dim"),
}
HEADS = {
    "at work": ("●", "cyan"),
    "planning": ("●", "magenta"),
}
PLAIN = str.maketrans("·●▶◐↻✓≈✗├└│─…━╸╺", ".*>~@+=x|`|-.---")
"""What stands for the glyphs where the terminal's encoding has none."""
JOINERS = str.maketrans("", "", "\u200d\ufe0e\ufe0f")
"""Characters without a width that change that of others; terminals disagree on how."""
MOST_TITLE = 400
ROLES = ("running", "waiting", "done", "failed", "retries")
SHORT = ("run", "wait", "done", "fail", "try")
NARROW = 60
"""Below so many columns headings are short and scores left out."""
STYLE = re.compile("\x1b\\[[0-9;]*m")
MOST_GLYPHS = 12
"""Leaves of a run that are shown as a glyph each where there is no room for a tree."""
WORDS = 50
"""Columns that the words beside the bar take at most, but for the numbers of runs."""
LEAST_TREE = 3
"""Lines of the tree that are shown before anything below it is."""
RESOURCES = {
    "requests_per_minute": "requests",
    "tokens_per_minute": "tokens",
    "input_tokens_per_minute": "input tokens",
    "output_tokens_per_minute": "output tokens",
}


def console(width: int, *, record: bool = False) -> Console:
    """Return a console that turns renderables into what a terminal shows; ``NO_COLOR`` and ``TERM`` are respected."""
    return Console(
        file=StringIO(),
        force_terminal=True,
        width=width,
        record=record,
        legacy_windows=False,
        highlight=False,
        emoji=False,
        markup=False,
    )


def draw(state: ViewState, now: float, columns: int, rows: int, *, utf8: bool = True, stays: bool = False) -> Frame:
    """Return the frame of *state* for a terminal of *columns* and *rows*."""
    width = max(8, columns - 1)  # the last column is left free: some terminals break the line behind it
    paper = console(width)
    for line in page(state, now, width, max(2, rows - 1)):
        paper.print(line, no_wrap=True, overflow="ellipsis", crop=True)
    text: str = paper.file.getvalue()  # type: ignore[attr-defined]
    if not utf8:
        text = text.translate(PLAIN)
    lines = text.removesuffix("\n").split("\n")
    widths = tuple(min(width, cell_len(STYLE.sub("", line))) for line in lines)
    encoded = tuple(line.encode("utf-8", "replace") for line in lines)
    return Frame(lines=encoded, widths=widths, columns=columns, stays=stays)


def page(state: ViewState, now: float, width: int, rows: int) -> Sequence[Text]:
    """Return the lines of the view, at most *rows*: the tree gives way first, then what stands below it."""
    head = list(_bar(state, now, width)) if state.total > 1 else []
    limits = [] if state.ended >= state.total else _limits(state, now, width)  # of the last minute: no record
    below = [*_roles(state, width), *limits, *_sums(state, width)]
    room = rows - len(head) - len(below)
    if room < LEAST_TREE:
        below = below[: max(0, len(below) - (LEAST_TREE - room))]
        room = rows - len(head) - len(below)
    return [*head, *_runs(state, now, width, max(1, room)), *below][:rows]


# --- runs and their trees


def _runs(state: ViewState, now: float, width: int, room: int) -> list[Text]:
    runs = list(state.runs.values())
    if state.total == 1:
        return [line for run in runs for line in _run(run, now, width, room)]
    open_ = [run for run in runs if run.ended is None]
    runs = open_ or (runs if len(runs) == state.total else [run for run in runs if run.result != DONE])
    if open_ and sum(1 + len(run.leaves) for run in runs) <= room:
        return [line for run in runs for line in _run(run, now, width, room)]
    shown = runs if len(runs) <= room else runs[: room - 1]
    glyphs = min(MOST_GLYPHS, max((len(run.leaves) for run in shown), default=0))
    lines = [_heading(run, now, width, glyphs=glyphs) for run in shown]
    if len(runs) > len(shown):
        lines.append(Text(f"… {len(runs) - len(shown)} more", "dim"))
    return lines


def _run(run: RunState, now: float, width: int, room: int) -> Iterator[Text]:
    yield _heading(run, now, width)
    if _alone(run) is not None:
        return
    whole = [(run.groups.get(leaf.title), leaf) for leaf in run.leaves.values()]
    lines = list(_tree(whole, width))
    if len(lines) < room:
        yield from lines
        return
    count, kept = room - 2, list(run.leaves.values())
    while len(lines) > max(0, room - 2):  # as many as fit, with the lines of what they are parts of
        kept = _fitting(kept, count)
        lines = list(_tree([pair for pair in whole if pair[1] in kept], width, closed=False))
        count -= 1
    yield from lines
    hidden = _in_words(run.counts() - Counter(leaf.state for leaf in kept))
    yield _cut(Text.assemble(("└─ ", "dim"), (f"… {hidden}", "dim")), width)


def _fitting(leaves: list[Leaf], room: int) -> list[Leaf]:
    """Return the leaves that are shown where there is no room for all: at work first, then failed, waiting, settled."""
    order = {FAILED: 1, WAITING: 2} | dict.fromkeys(SETTLED - {FAILED}, 3)
    chosen = sorted(leaves, key=lambda leaf: order.get(leaf.state, 0))[: max(0, room)]
    return [leaf for leaf in leaves if leaf in chosen]


def _tree(leaves: list[tuple[str | None, Leaf]], width: int, *, closed: bool = True) -> Iterator[Text]:
    """Yield a line a leaf; parts of what was too large stand under it."""
    before: str | None = None
    for n, (group, leaf) in enumerate(leaves):
        if group is not None and group != before:
            yield _cut(Text.assemble(("├─ ", "dim"), _safe(group)), width)
        before = group
        last = closed and n == len(leaves) - 1
        yield _leaf(("│  " if group else "") + ("└─ " if last else "├─ "), leaf, width)


def _leaf(guide: str, leaf: Leaf, width: int) -> Text:
    glyph, style = GLYPHS[leaf.state]
    detail = ""
    if width >= NARROW:
        again = f"round {leaf.round + 1}" if leaf.round and leaf.state not in SETTLED else ""
        score = f"{leaf.score}/10" if leaf.score is not None and leaf.state in SETTLED else ""
        detail = f"{again or score:<8}"
    quiet = "dim" if leaf.state in {WAITING, STOPPED} else ""
    quiet = "dim" if leaf.state in {WAITING, STOPPED} else ""
    state = f"{glyph} {leaf.state:<10}"
    return _cut(Text.assemble((guide, "dim"), (state, style), (detail, "dim"), (_safe(leaf.title), quiet)), width)


def _heading(run: RunState, now: float, width: int, *, glyphs: int = 0) -> Text:
    """Return the line of a run: how it stands, for how long, its leaves as so many *glyphs*, what it is about."""
    state = _standing(run)
    glyph, style = HEADS.get(state) or GLYPHS[state]
    line = Text.assemble((f"{glyph} {state:<9}", style), (f"{(run.ended or now) - run.began:6.1f} s ", "dim"))
    if glyphs and _alone(run) is None:
        for leaf in list(run.leaves.values())[:glyphs]:
            line.append(*GLYPHS[leaf.state])
        line.append(" " * (glyphs + 1 - min(glyphs, len(run.leaves))))
    if state == FAILED:
        line.append(f"{_safe(run.result or '')}: ")
    return _cut(line.append(_safe(run.title), "bold"), width)


def _alone(run: RunState) -> Leaf | None:
    """Return the leaf of a run that has no other, and needs no tree."""
    first = next(iter(run.leaves.values()), None)
    return first if len(run.leaves) == 1 and first is not None and first.title == run.title else None


def _standing(run: RunState) -> str:
    if run.ended is not None and run.result != DONE:
        return FAILED
    if (leaf := _alone(run)) is not None:
        return leaf.state
    if run.ended is not None:
        return DONE
    if run.planning:
        return "planning"
    return WAITING if run.leaves and set(run.counts()) <= SETTLED | {WAITING} else "at work"


def _in_words(counts: Counter[str]) -> str:
    return ", ".join(f"{counts[state]} {state}" for state in GLYPHS if counts[state] > 0)


# --- all runs


def _bar(state: ViewState, now: float, width: int) -> Iterator[Text]:
    """Yield how far all runs are, and how long it may still take."""
    done, left = state.progress(), state.time_left(now)
    rest = ", time left unknown" if left is None else f", about {_time(left)} left"
    took = _time(now - state.began) + ("" if state.ended >= state.total else rest)
    text = f" {done * 100:3.0f} %  {state.ended} of {state.total} runs, {took}"
    bar = max(5, min(40, width - WORDS - 2 * len(str(state.total))))  # always the same, whatever the text
    drawn = console(bar).render(ProgressBar(total=1.0, completed=done, width=bar))
    pieces = [(piece.text, piece.style or "") for piece in drawn if piece.text != "\n"]
    yield _cut(Text.assemble(*pieces, text), width)
    failed = "1 run failed" if state.failed == 1 else f"{state.failed} runs failed"
    parts = f"; parts: {_in_words(state.outcomes)}" if state.outcomes.total() else ""
    yield _cut(Text.assemble((failed, "bold red" if state.failed else "dim"), (parts, "dim")), width)


def _roles(state: ViewState, width: int) -> list[Text]:
    """Return a line a role: its tasks that run, wait, are done and failed, and its calls that were tried again."""
    if not state.roles:
        return []
    words, cell = (ROLES, 9) if width >= NARROW else (SHORT, 5)
    name = min(20, max(12, *(cell_len(role) for role in state.roles)))
    lines: list[Text] = [_cut(Text(" " * name + "".join(f"{word:>{cell}}" for word in words), "dim"), width)]
    for role, seen in state.roles.items():
        line = Text(f"{role[:name]:<{name}}")
        for number, style in zip(
            (seen.running, seen.waiting, seen.done, seen.failed, seen.retries),
            ("cyan", "yellow", "green", "bold red", "red"),
            strict=True,
        ):
            line.append(f"{number:>{cell}}", style if number else "dim")
        lines.append(_cut(line, width))
    return lines


def _limits(state: ViewState, now: float, width: int) -> list[Text]:
    """Return what is used of what is allowed, a line or two for each of the first domains that are in use."""
    lines: list[Text] = []
    for name, domain in list(state.domains.items())[:4]:
        parts = list(_domain(domain, now))
        if parts:
            lines += _packed(printable(name, 24), parts, width)
    return lines


def _domain(domain: DomainState, now: float) -> Iterator[tuple[str, str]]:
    requests, tokens = domain.requests.sum(now), domain.tokens.sum(now)
    waiting, why = domain.waiting(now)
    if not (requests or domain.in_flight or waiting):
        return
    most = "" if domain.concurrency is None else f" of {domain.concurrency}"
    yield f"{domain.in_flight}{most} in flight", ""
    allowed = domain.allowed
    yield _used(requests, allowed.get("requests_per_minute"), "requests"), ""
    named = [(resource, words) for resource, words in RESOURCES.items() if resource in allowed and words != "requests"]
    for resource, words in named[:1] or [("", "tokens")]:
        yield _used(tokens, allowed.get(resource), words), ""
    if waiting:
        what = "behind a 429" if why == "blocked" else f"for {RESOURCES.get(why, why.replace('_', ' '))}"
        yield f"{waiting} in line {what}", "yellow"
    if domain.blocked_until > now:
        yield f"blocked for {domain.blocked_until - now:.0f} s", "bold red"


def _used(used: int, allowed: float | None, what: str) -> str:
    return f"{_short(used)}{'' if allowed is None else f' of {_short(allowed)}'} {what}/min"


def _sums(state: ViewState, width: int) -> list[Text]:
    cost = "unknown" if state.cost is None else f"${state.cost:.4f}"
    budget = "" if state.budget is None else f" of ${state.budget:.2f}"
    parts = (f"{_short(state.input_tokens)} in", f"{_short(state.output_tokens)} out", f"cost {cost}{budget}")
    return _packed("tokens", [(words, "") for words in parts], width)


# --- small things


def _packed(name: str, parts: Iterable[tuple[str, str]], width: int) -> list[Text]:
    """Return *parts* behind *name* on as few lines as they fit."""
    lines, line = [], Text.assemble((f"{name} ", "bold"))
    indent = cell_len(name) + 1
    for n, (words, style) in enumerate(parts):
        if n and line.cell_len + len(words) + 2 > width:
            lines.append(_cut(line, width))
            line = Text(" " * indent)
        elif n:
            line.append("  ")
        line.append(words, style)
    return [*lines, _cut(line, width)]


def _cut(text: Text, width: int) -> Text:
    text.truncate(width, overflow="ellipsis")
    return text


def _safe(text: str) -> str:
    """Return *text* on one line and without what could steer a terminal."""
    return printable(text.translate(JOINERS), MOST_TITLE)


def _short(number: float) -> str:
    for unit, size in (("M", 1_000_000), ("k", 1_000)):
        if number >= 10 * size or (unit == "M" and number >= size):
            return f"{number / size:.1f}{unit}" if number < 100 * size else f"{number / size:.0f}{unit}"
    return f"{number:.0f}"


def _time(seconds: float) -> str:
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"
