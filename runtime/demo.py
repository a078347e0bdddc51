"""The demo: the guide's task, done by the whole team on the embedded model.

Where that is not installed, the same team works over HTTP against the scripted server, and the first line says so.
"""

from __future__ import annotations

import os
from contextlib import ExitStack, nullcontext
from typing import TYPE_CHECKING, Any

from runtime.config import Config
from runtime.logs import to_stderr
from runtime.outlet import Outlet
from runtime.run import Batch
from runtime.tasks import TaskLine, checked
from runtime.terminal import say

if TYPE_CHECKING:
    import argparse
    from contextlib import AbstractContextManager

TASK = "Implement an async HTTP client with retry logic"
TASK_VARIABLE = "TROUPE_TASK"
EMBEDDED = """
[provider.local]
kind = "embedded"

[model.small]
provider = "local"
name = "embedded"
tier = 1

[limits.local]
concurrency = 4

[roles.orchestrator]
system_prompt = "You split a programming task into parts."
prompt = '''Analyze and break down: {task}
Name the parts of the program in short English sentences.'''
max_tokens = 256
temperature = 0.0

[roles.coder]
system_prompt = "You write Python. Answer with one short Python code block."
prompt = '''Implement: {subtask}
It is a part of: {task}'''
max_tokens = 256
temperature = 0.0
timeout = 90.0

[roles.reviewer]
system_prompt = '''You review code.
Example: {"issues": ["The function does not handle a missing file"], "score": 6, "approved": false}'''
max_tokens = 256
timeout = 90.0

[team]
max_subtasks = 3
max_rounds = 1
"""


def demo(options: argparse.Namespace) -> int:
    """Run the demo and return its exit code."""
    to_stderr("WARNING")
    options.json, options.quiet, options.events, options.out = False, False, None, None
    task = os.environ.get(TASK_VARIABLE) or TASK
    config, server = team()
    with server, ExitStack() as stack:
        batch = Batch(config(), Outlet(options, stack, several=False))
        return batch.run([checked(TaskLine(task=task, id="task_001"), TASK_VARIABLE)])


def team() -> tuple[Any, AbstractContextManager[Any]]:
    """Return how to make the configuration, and the server it needs; says first which model is at work."""
    from runtime.embedded import available  # noqa: PLC0415 (only the demo needs it)

    missing = available()
    if missing is None:
        say(
            "Troupe demo: a 135M model runs on this machine.\n"
            "The format of its answers is right, their content is poor."
        )
        return lambda: Config.parse(EMBEDDED.encode(), "the demo"), nullcontext()
    from runtime.fake_script import Script  # noqa: PLC0415
    from runtime.fake_server import FakeServer  # noqa: PLC0415

    say(f"Troupe demo: no model at work, a scripted server answers over HTTP ({missing})")
    server = FakeServer(Script(latency=(0.2, 0.8)))
    return lambda: Config.for_endpoint(server.url, "scripted"), server
