"""What the estimate of a prompt's tokens is worth, learned per model from what the provider counted.

For each model the mean of ``real / estimated`` and the mean deviation from it are kept, exponentially weighted
(``RATE``); the first few observations are averaged plainly, so that one odd first call does not stand for long. What
is reserved is ``estimate * (mean + 1.5 * deviation)``, never less than half of the estimate nor more than four times
it; for a model that is not tried yet it is the estimate itself. This absorbs what no estimate can know: a hidden
system prompt, another tokeniser, another language.

One absurd count moves nothing far: a ratio counts as at most ``OUTLIER`` deviations away from the mean (a deviation
being at least ``LEAST_DEVIATION``), and no ratio as less than an eighth or more than eight. Prompts below ``LEAST``
tokens teach nothing, as what frames a message outweighs them. At most ``most`` models are remembered; the one not
used for longest is forgotten.

Source: wire.md 4.3 (self-calibration); winsorising as in P. Huber, *Robust Statistics*.

How it is called: where a call is weighed, ``reserved = calibration.reserve(model, estimate(messages))``; where a
lease is settled with usage that the provider counted (never with an estimated one),
``calibration.learn(model, estimate(messages), usage.input_tokens)``. *model* names endpoint and model.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import NamedTuple

RATE = 0.1
"""The weight of the newest observation, once there are ten."""
DEVIATIONS = 1.5
"""How many mean deviations above the mean are reserved."""
LOWEST = 0.5
HIGHEST = 4.0
"""The factor stays between these."""
LEAST = 16
"""Estimates below this many tokens teach nothing."""
OUTLIER = 4.0
LEAST_DEVIATION = 0.1
WIDEST = 8.0


class Calibration(NamedTuple):
    """What ``seen`` calls taught of a model: the ``mean`` of real over estimated tokens, the ``deviation`` from it."""

    mean: float = 1.0
    deviation: float = 0.25
    seen: int = 0

    @property
    def factor(self) -> float:
        """What an estimate is multiplied with before it is reserved."""
        if not self.seen:
            return 1.0
        return min(HIGHEST, max(LOWEST, self.mean + DEVIATIONS * self.deviation))

    def after(self, ratio: float) -> Calibration:
        """Return what is known after one more call with this *ratio* of real to estimated tokens."""
        weight = max(RATE, 1.0 / (self.seen + 2))  # what was taken for granted counts as one observation
        reach = OUTLIER * max(self.deviation, LEAST_DEVIATION)
        off = min(WIDEST, max(1.0 / WIDEST, ratio)) - self.mean
        off = min(reach, max(-reach, off))
        deviation = self.deviation + weight * (abs(off) - self.deviation)
        return Calibration(self.mean + weight * off, deviation, self.seen + 1)


class EstimateCalibration:
    """The calibrations of the models used last."""

    __slots__ = ("_known", "_most")

    def __init__(self, most: int = 256) -> None:
        self._most = most
        self._known: OrderedDict[str, Calibration] = OrderedDict()

    def reserve(self, model: str, estimate: int) -> int:
        """Return the input tokens to reserve for a prompt of *estimate* tokens; 0 only for 0."""
        return math.ceil(estimate * self.of(model).factor)

    def learn(self, model: str, estimate: int, real: int) -> None:
        """Learn from one call: *estimate* was made of its prompt, *real* is what the provider counted.

        What cannot be a count, and prompts too small to teach, are passed over.
        """
        if estimate < LEAST or real <= 0:
            return
        self._known[model] = self.of(model).after(real / estimate if real < WIDEST * estimate else WIDEST)
        self._known.move_to_end(model)
        if len(self._known) > self._most:
            self._known.popitem(last=False)

    def of(self, model: str) -> Calibration:
        """Return what is known of *model*."""
        return self._known.get(model, UNTRIED)


UNTRIED = Calibration()
