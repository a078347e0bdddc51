"""A system does not survive a fork, and says so; the child starts its own. Run it with ``python after_fork.py``."""

from __future__ import annotations

import os

from protocol import TroupeError
from runtime import ActorSystem, Config
from runtime.fake_server import FakeServer

with FakeServer() as server, ActorSystem(Config.for_endpoint(server.url, "scripted")) as system:
    handle = system.submit("What is an actor?")
    pid = os.fork()
    if pid == 0:
        try:
            system.submit("What is an actor?")
        except TroupeError as error:
            print("child:", error, flush=True)
        with ActorSystem(system.config) as own:
            print("child:", own.submit("What is an actor?").result(timeout=30).success, flush=True)
        os._exit(0)
    os.waitpid(pid, 0)  # and no os.wait(): that takes any child, the sandbox's too
    print("parent:", handle.result(timeout=30).success)
