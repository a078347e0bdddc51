"""The pytest plugin of Troupe: the fixtures ``actor_kit``, ``scripted_model`` and ``actor_probe``.

It is loaded by every pytest run where Troupe is installed, so it imports nothing of Troupe until a fixture is used.
``@pytest.mark.actor_kit(seed=3, limits=...)`` sets the options of the kit; ``threads=True`` is the kit on real threads.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from actors.testing import ActorTestKit, ScriptedModel, TestProbe

RAISED_SHOWN = 3
"""How many tracebacks of handlers a failed test shows, the last ones."""
MARKER = "actor_kit(**options): options of the ActorTestKit behind the fixture; threads=True: on real threads"


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", MARKER)


@pytest.fixture
def scripted_model() -> ScriptedModel:
    """The provider of ``actor_kit``: ``scripted_model.on("translator", "Hallo")`` tells it what to say."""
    from actors.testing import ScriptedModel  # noqa: PLC0415 (only where it is used)

    return ScriptedModel()


@pytest.fixture
def actor_kit(request: pytest.FixtureRequest, scripted_model: ScriptedModel) -> Iterator[ActorTestKit]:
    """A system of real actors in virtual time, with ``scripted_model`` as its provider; closed after the test."""
    options: dict[str, Any] = {}
    for mark in reversed(list(request.node.iter_markers("actor_kit"))):  # the closest wins
        options |= mark.kwargs
    with _kit(scripted_model, **options) as kit:
        yield kit


@pytest.fixture
def actor_probe(actor_kit: ActorTestKit) -> TestProbe:
    """A probe at the address ``probe`` of ``actor_kit``; ``actor_kit.probe(...)`` makes more."""
    return actor_kit.probe()


def _kit(model: ScriptedModel, *, threads: bool = False, **options: Any) -> ActorTestKit:
    if threads:
        from runtime.testing import ThreadedTestKit  # noqa: PLC0415 (only where it is used)

        return ThreadedTestKit(model, **options)
    from actors.testing import ActorTestKit  # noqa: PLC0415 (only where it is used)

    return ActorTestKit(model, **options)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Show what handlers raised in a test that failed, and the last messages of every kit among its fixtures."""
    outcome: Any = yield
    report = outcome.get_result()
    home = sys.modules.get("actors.kit")
    if home is None or call.excinfo is None or report.when != "call" or not report.failed:
        return
    said = str(call.excinfo.value)
    for value in getattr(item, "funcargs", {}).values():
        if not isinstance(value, home.ActorTestKit):
            continue
        if (told := value.sequence()) not in said:
            report.sections.append(("actor_kit", told))
        report.sections += [("actor_kit: what a handler raised", trace) for trace in value.rig.raised[-RAISED_SHOWN:]]
