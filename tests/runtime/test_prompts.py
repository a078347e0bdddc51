"""What calls of a role have in common stands first in their bytes, so that providers' prompt caches hit."""

from __future__ import annotations

import json
from itertools import combinations, takewhile

import pytest

from actors import Coder, Orchestrator, Reviewer, TeamWorkflow
from actors.reviewer import ITEMS
from actors.team import TeamRules
from actors.testing import ActorTestKit
from protocol.plan import Plan, Review
from protocol.wire.openai import encode_request
from protocol.wire.profiles import EMBEDDED, profile_for
from runtime.assembly import settings
from runtime.config import Config

TASK = "Build a bank with accounts, transfers and statements, and test it"
PARTS = ("write the accounts", "write the transfers", "write the statements")
PROFILES = {"json schema": profile_for("https://api.openai.com/v1"), "schema in the prompt": EMBEDDED}
BAD = Review(issues=("too short",), score=1, approved=False)


@pytest.fixture(scope="module")
def calls():
    """The requests of each role in a run with three subtasks, each drafted and reviewed twice."""
    config = Config()
    script = {"orchestrator": Plan(subtasks=PARTS), "coder": lambda call: f"code for {call.attempt}", "reviewer": BAD}
    kit = ActorTestKit(script)
    for agent in (Orchestrator, Coder, Reviewer):
        kit.register(agent, settings=settings(config, agent.role))
    kit.run(lambda start: TeamWorkflow(start, TeamRules(progress_guard="off", max_rounds=1, judge_noise=0.0)), TASK)
    roles = {call.role for call in kit.model.calls}
    return {role: [call.request for call in kit.model.calls if call.role == role] for role in roles}


def bodies(requests, profile) -> list[str]:
    return [encode_request(request, PROFILES[profile]).decode() for request in requests]


def common(texts: list[str]) -> str:
    """Return what all of *texts* begin with."""
    return "".join(chars[0] for chars in takewhile(lambda chars: len(set(chars)) == 1, zip(*texts, strict=False)))


def in_json(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]


def part_of(body: str) -> str:
    return next(part for part in PARTS if part in body.replace(TASK, ""))


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("role", ["coder", "reviewer"])
def test_siblings_share_all_that_stands_before_their_subtasks(calls, role, profile):
    siblings = {part_of(body): body for body in bodies(calls[role], profile)}
    assert len(siblings) == 3
    for (part, body), (other, its) in combinations(siblings.items(), 2):
        shared = common([body, its])
        assert len(shared) >= body.index(part)
        assert in_json(settings(Config(), role).system_prompt) in shared
        assert other not in shared


@pytest.mark.parametrize("profile", PROFILES)
def test_reviews_share_the_fixed_instructions_and_the_whole_task(calls, profile):
    shared = common(bodies(calls["reviewer"], profile))
    assert [words in shared for words in (in_json(ITEMS), "Review: ", in_json(TASK))] == [True] * 3


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("role", ["coder", "reviewer"])
def test_the_next_round_of_a_subtask_shares_the_subtask_too(calls, role, profile):
    of = [body for body in bodies(calls[role], profile) if part_of(body) == PARTS[0]]
    assert len(of) == 2
    assert PARTS[0] in common(of)
