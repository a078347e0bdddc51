"""Every attack works outside the sandbox, and none inside; what is not promised is shown too."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.runtime.attacks import ATTACKS, SABOTAGE, Attack
from tests.runtime.box import needs_sandbox

ROOT = Path(__file__).parent.parent.parent
EVERY = [*ATTACKS, SABOTAGE]
pytestmark = [pytest.mark.slow, needs_sandbox]


@cache
def wage(mode: str) -> dict[str, tuple[bool, str]]:
    """Run every attack from a process full of secrets; say which won, and the words that came out."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.runtime.victim", mode],
        input=json.dumps([attack.name for attack in EVERY]),
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "CANARY": f"canary-{secrets.token_hex(16)}"},
        cwd=ROOT,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        timeout=300,
    )
    return json.loads(done.stdout)


def by_name(attack: Attack) -> str:
    return attack.name


def test_there_are_forty_attacks_and_more():
    assert len({attack.name for attack in ATTACKS}) >= 40


@pytest.mark.parametrize("attack", EVERY, ids=by_name)
def test_outside_the_attack_works(attack):
    if attack.root and os.geteuid():
        pytest.skip("outside, this attack needs root")
    won, words = wage("bare")[attack.name]
    assert won, words


@pytest.mark.parametrize("attack", ATTACKS, ids=by_name)
def test_inside_the_attack_fails(attack):
    won, words = wage("boxed")[attack.name]
    assert not won, words


def test_what_is_not_promised_is_true_code_can_sabotage_the_tests_that_run_beside_it():
    won, words = wage("boxed")[SABOTAGE.name]
    assert won, words
