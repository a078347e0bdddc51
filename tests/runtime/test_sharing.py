"""Several processes on one key: what each may use, so that together they keep what one may."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import ConfigError
from runtime import ActorSystem, Config
from runtime.config import Budget, Limits
from runtime.fake_script import Script
from runtime.fake_server import FakeServer
from runtime.sharing import COUNTS, RATES, share
from tests.runtime.systems import system_for

whole = st.builds(
    Limits,
    **dict.fromkeys(RATES, st.none() | st.floats(1.0, 1e7)),
    **dict.fromkeys(COUNTS, st.integers(8, 10_000)),
)


@given(whole, st.none() | st.floats(0.0, 1e6), st.integers(1, 8))
def test_all_shares_together_are_never_more_than_the_whole(limits, usd, processes):
    config = Config(limits={"main": limits}, budget=Budget(usd=usd))
    part = share(config, processes)
    for name in (*RATES, *COUNTS):
        allowed, each = getattr(limits, name), getattr(part.limits["main"], name)
        assert (each is None) == (allowed is None)
        assert allowed is None or 0 < each * processes <= allowed * (1 + 1e-12)
    assert (part.budget.usd is None) == (usd is None)
    assert usd is None or part.budget.usd * processes <= usd * (1 + 1e-12)


def test_one_process_has_it_all():
    config = Config(limits={"main": Limits(requests_per_minute=60.0)}, budget=Budget(usd=5.0))
    assert share(config, 1) == config


def test_what_is_counted_is_rounded_down():
    part = share(Config(limits={"main": Limits(burst=10, concurrency=64)}), 4)
    assert (part.limits["main"].burst, part.limits["main"].concurrency) == (2, 16)


@pytest.mark.parametrize(
    ("limits", "processes", "said"),
    [
        (Limits(burst=3), 4, r"limits\.main\.burst = 3 cannot be shared by 4 processes"),
        (Limits(concurrency=2), 4, r"limits\.main\.concurrency = 2 cannot be shared"),
        (Limits(), 0, "1 process or more, not 0"),
    ],
)
def test_what_cannot_be_divided_is_refused(limits, processes, said):
    with pytest.raises(ConfigError, match=said):
        share(Config(limits={"main": limits}), processes)


# --- on the server's side

RATE, BURST, RUNS = 20.0, 8, 24


def most_ahead(log) -> float:
    """Return by how many requests the arrivals were ahead of the rate at most."""
    return max(n + 1 - RATE * (arrival.at - log[0].at) for n, arrival in enumerate(log))


def arrivals(processes: int, shares: int):
    """Let *processes* systems make the same number of calls each, with the limits of one of *shares*."""
    with FakeServer(Script(record=True)) as server:
        more = f"[limits.main]\nrequests_per_minute = {RATE * 60}\nburst = {BURST}\nconcurrency = 64"
        systems = [ActorSystem(share(system_for(server, more).config, shares)) for _ in range(processes)]
        handles = [system.start().submit(f"Hi {n}?", to="coder") for n in range(RUNS // 2) for system in systems]
        assert all(handle.result(20).success for handle in handles)
        for system in systems:
            system.stop()
        return server.log()


@pytest.mark.slow
def test_two_shares_keep_the_limit_at_the_server():
    assert most_ahead(arrivals(processes=2, shares=2)) < 1.5 * BURST


@pytest.mark.slow
def test_two_processes_that_do_not_share_break_it():
    assert most_ahead(arrivals(processes=2, shares=1)) > 1.5 * BURST
