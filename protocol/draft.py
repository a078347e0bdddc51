"""The draft of one subtask: its rounds, which of them is the best so far, and how it ends.

Facts come before opinions throughout: a draft that is run and passes is better than one that a reviewer likes, and what
its review could not say for a provider's reasons its facts still say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from protocol.errors import ErrorKind
from protocol.facts import Checked
from protocol.messages import Accepted
from protocol.policies.facts_gate import failures, proven, reached, shorten
from protocol.policies.feedback import Next, Round, alike, best_of
from protocol.policies.progress_guard import ProgressGuard

if TYPE_CHECKING:
    from collections.abc import Iterable

    from protocol.facts import Facts
    from protocol.plan import Review, Verdict
    from protocol.policies.feedback import Judgement


class Draft(Struct, kw_only=True):
    """The best draft of one subtask so far, and how it stands.

    ``history`` are its rounds, ``checked`` what running each of them showed. ``origin`` says where the subtask came
    from, ``note`` what went wrong; ``noise`` is by how much reviews of one draft differ. ``guard`` looks on from the
    first round that has to be mended.
    """

    subtask: str
    noise: float = 0.0
    text: str = ""
    score: int | None = None
    accepted: bool = False
    kept: bool = False
    rounds: int = 0
    origin: str = ""
    note: str = ""
    kind: ErrorKind | None = None
    history: tuple[Round, ...] = ()
    facts: Checked | None = None
    checked: tuple[Checked | None, ...] = ()
    guard: ProgressGuard | None = None

    @property
    def best(self) -> int:
        """The number of the best round."""
        return best_of(self.history, self.noise)

    def begin(self, text: str) -> None:
        """A round has brought *text*; until something is known of it, it is the best only where it is the first."""
        self.text = self.text or text
        self.note = ""

    def known(self, text: str) -> int | None:
        """Return the number of an earlier round with this very draft, if it was run: again would show nothing new."""
        for number, (earlier, found) in enumerate(zip(self.history, self.checked, strict=True)):
            if text == earlier.text and (found is None or found.parsed is not None):
                return number
        return None

    def twin(self, text: str, found: Checked | None) -> int | None:
        """Return the number of an earlier round whose draft is the same but for little, and showed the same when run.

        A single character may make a test pass.
        """
        for number, (earlier, before) in enumerate(zip(self.history, self.checked, strict=True)):
            if found == before and alike(text, earlier.text):
                return number
        return None

    def add(self, round_: Round, found: Checked | None) -> None:
        """Book a round with what running its draft showed, and let the best so far stand for the subtask."""
        self.history += (round_,)
        self.checked += (found,)
        self.rounds = len(self.history) - 1
        self._show(self.best)

    def judged(self, judgement: Judgement) -> None:
        """End the round, and with it perhaps the work on the subtask."""
        self._show(self.rounds if judgement.next is Next.ACCEPT else judgement.best)
        self.accepted = judgement.next is Next.ACCEPT
        self.kept = judgement.next is Next.KEEP
        if self.kept:
            self.note = self.note or f"kept as the best: {judgement.why}"

    def failed(self, error: str, kind: ErrorKind | None, *, kept: bool) -> None:
        """The round could not be ended, and the work is over; *kept* if an earlier draft may stand for the subtask."""
        self.note, self.kind = error, kind
        self.kept = kept and bool(self.history)

    def shown(self) -> Round:
        """Return the round whose draft and issues go back: the last, or the best where the last is worse."""
        last, best = self.history[-1], self.history[self.best]
        return best if last.score is None or (best.score or 0) > last.score else last

    def spent(self) -> float:
        """Return the dollars that its rounds took, as far as they are known."""
        return sum(round_.cost_usd or 0.0 for round_ in self.history)

    def accepted_as(self) -> Accepted:
        """Return what the result says of it; a note says where the subtask came from, and what went wrong."""
        return Accepted(
            subtask=self.subtask,
            accepted=self.accepted,
            score=self.score,
            rounds=self.rounds,
            note="; ".join(filter(None, (self.origin, self.note))),
            facts=self.facts,
        )

    def _show(self, number: int) -> None:
        self.text, self.score = self.history[number].text, self.history[number].score
        self.facts = self.checked[number] or self.facts


def round_of(text: str, facts: Facts | None, review: Review | None) -> Round:
    """Return what was found about a draft: what failed, or where nothing did, the reviewer's opinion."""
    failed = failures(facts)
    return Round(
        text=text,
        score=None if review is None else review.score,
        approved=review is not None and review.approved,
        issues=failed or (() if review is None else review.issues),
        passed=proven(facts),
        reached=reached(facts),
    )


def mark(round_: Round, found: Checked | None) -> str:
    """Return what tells two drafts of one text apart: what running them showed."""
    return "" if found is None else f"{round_.passed} {round_.reached} {found.failures}"


def in_short(facts: Facts | None) -> Checked | None:
    """Return *facts* in short, None where nothing was run."""
    return None if facts is None else shorten(facts)


def by_aspect(review: Verdict | None) -> dict[str, bool]:
    """Return whether each aspect passes: when all of its items do."""
    passes: dict[str, bool] = {}
    for check in () if review is None else review.checks:
        passes[check.aspect] = passes.get(check.aspect, True) and check.passes
    return passes


def total(costs: Iterable[float | None]) -> float | None:
    """Return the sum, None as soon as one is unknown."""
    known = list(costs)
    return None if None in known else sum([cost or 0.0 for cost in known])
