"""A system nobody stops does not keep the interpreter from ending. Run it with ``python forgotten_stop.py``."""

from __future__ import annotations

from runtime import ActorSystem, Config
from runtime.fake_script import Script
from runtime.fake_server import FakeServer

server = FakeServer(Script(latency=60.0)).start()  # it would answer in a minute
system = ActorSystem(Config.for_endpoint(server.url, "scripted")).start()
handle = system.submit("Implement an async HTTP client with retries")
print(handle)  # <Handle run-... running>: nobody waits for it, so it ends with the program
