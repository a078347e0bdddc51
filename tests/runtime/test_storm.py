"""Half a minute of 429s against a whole system in virtual time: few probes, and everything is done in the end."""

from __future__ import annotations

from itertools import pairwise

import pytest

from protocol.wire.openai import decode_response
from runtime.config import Config
from runtime.simulated_provider import TOO_FAST, Said
from runtime.simulation import SimulatedSystem

TEAM = """
[provider.main]
base_url = "http://127.0.0.1:9/v1"
[model.m]
provider = "main"
name = "m"
{limits}
[team]
plan = "always"
max_parallel = 1
[simulation]
latency = 0.5
per_output_token = 0.0
spread = 0.3
subtasks = 3
window = 50
[simulation.limits.main]
requests_per_minute = 3000
burst = 10
"""
LIMITED = "[limits.main]\nrequests_per_minute = 3000\nburst = 10\n"
BEGAN, OVER = 10.0, 40.0
RATE = 50.0


class Stormy:
    """A simulated vendor that answers everything with 429 for a while; its log is what a run is judged by."""

    def __init__(self, vendor, hint):
        self.vendor = vendor
        self.hint = {} if hint is None else {"retry-after": str(hint)}
        self.log = []

    def take(self, request, profile, now, rolls):
        if BEGAN <= now < OVER:
            said = Said(decode_response(429, self.hint, TOO_FAST, now), 0.05, None)
        else:
            said = self.vendor.take(request, profile, now, rolls)
        self.log.append((now, getattr(said.outcome, "status", None) == 429))
        return said


def stormed(limits, hint, workflows=500):
    system = SimulatedSystem(Config.parse(TEAM.format(limits=limits).encode(), "a test"), workflows)
    stormy = system.models.vendors["main"] = Stormy(system.models.vendors["main"], hint)
    while system.work(10_000):
        pass
    return system, stormy.log


@pytest.mark.slow
@pytest.mark.parametrize("hint", [None, 3, 30])
@pytest.mark.parametrize("limits", [LIMITED, ""])
def test_fifty_agents_come_through_thirty_seconds_of_429s_without_losing_a_call(limits, hint):
    system, log = stormed(limits, hint)
    assert (system.sums.succeeded, system.sums.failed.total(), system.failures) == (500, 0, [])
    turned_away = [at for at, refused in log if refused and BEGAN <= at < OVER]
    probes = [at for at in turned_away if at > turned_away[0] + 0.2]
    assert len(turned_away) - len(probes) <= 50
    assert max((sum(at <= other < at + 10.0 for other in probes) for at in probes), default=0) <= 3
    assert all(later - at >= 0.99 for at, later in pairwise(probes))
    served = [at for at, refused in log if not refused]
    back = next(
        start - OVER
        for start in (OVER + number for number in range(100))
        if sum(start <= at < start + 5.0 for at in served) >= 0.9 * RATE * 5.0
    )
    assert back <= 60.0
