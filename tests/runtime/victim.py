"""A process with secrets that runs attacks: bare, as a careless executor would, or in the sandbox.

``python victim.py bare|boxed`` reads ``{attack name: source}`` from standard input and writes ``{attack name: [won,
words]}``. It holds the canary in its environment, in its memory, in an inherited descriptor, in its home folder, on the
command line of a helper; it serves on loopback, on an abstract socket and on one in the file system.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from protocol.facts import Job, Ran, SourceFile
from runtime.bubblewrap import Limits
from runtime.sandbox import Sandbox
from tests.runtime.attacks import ATTACKS, SABOTAGE, WON, Attack

CANARY = os.environ["CANARY"]
LIMITS = Limits(wall=4.0)
NAIVE = """
import sys, os
sys.path.insert(0, os.getcwd())
def play(module, name):
    getattr(module, name)()
import draft
try:
    play(draft, "test_it")
except BaseException as error:
    print(type(error).__name__)
    sys.exit(1)
print("draft.py::test_it PASSED")
"""
HOLD = "import time; time.sleep(600)"


def serve(line: socket.socket) -> None:
    """Say hello to whoever comes."""
    while True:
        with contextlib.suppress(OSError):
            if line.type == socket.SOCK_DGRAM:
                line.sendto(b"hello", line.recvfrom(16)[1])
            else:
                line.accept()[0].sendall(b"hello")


class Host:
    """What there is to steal."""

    def __init__(self, home: str) -> None:
        self.home = home
        self.tag = f"troupe-{secrets.token_hex(6)}"
        for name in (".netrc", "journal.db", "victim"):
            Path(home, name).write_text(f"machine x password {CANARY}\n", encoding="utf-8")
        self.open = os.open(Path(home, ".netrc"), os.O_RDONLY)
        os.set_inheritable(self.open, True)
        self.helper = subprocess.Popen([sys.executable, "-c", HOLD, CANARY])
        lines = {
            "tcp": (socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0)),
            "tcp6": (socket.AF_INET6, socket.SOCK_STREAM, ("::1", 0)),
            "udp": (socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0)),
            "abstract": (socket.AF_UNIX, socket.SOCK_STREAM, "\0" + self.tag),
            "unix": (socket.AF_UNIX, socket.SOCK_STREAM, f"{home}/socket"),
        }
        self.ports = {}
        for name, (family, kind, address) in lines.items():
            line = socket.socket(family, kind)
            line.bind(address)
            if kind == socket.SOCK_STREAM:
                line.listen(8)
            self.ports[name] = line.getsockname()[1] if name not in {"abstract", "unix"} else 0
            threading.Thread(target=serve, args=(line,), daemon=True).start()

    def fill(self, code: str) -> str:
        """Tell an attack where things are; of the canary it learns the digest."""
        values = {
            "HOME": self.home,
            "PORT": self.ports["tcp"],
            "PORT6": self.ports["tcp6"],
            "UDP": self.ports["udp"],
            "DIGEST": hashlib.sha256(CANARY.encode()).hexdigest(),
            "HOST": self.helper.pid,
            "TAG": self.tag,
        }
        for name, value in values.items():
            code = code.replace(f"@{name}@", repr(value))
        return code

    def lingering(self) -> list[int]:
        """Return who was left behind: processes with the tag on their command line."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                if self.tag.encode() in path.read_bytes().split(b"\0"):
                    found.append(int(path.parent.name))
        return found

    def clear(self) -> None:
        for pid in self.lingering():
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)


def bare(host: Host, attack: Attack) -> tuple[bool, str]:
    """Run the attack in a child process, as a careless executor does, and believe what it prints."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "draft.py").write_text(host.fill(attack.code), encoding="utf-8")
        what = ["-c", NAIVE] if attack.forge else ["draft.py"]
        patience = 2 if attack.lingers else 30
        try:
            done = subprocess.run(
                [sys.executable, *what], check=False, cwd=folder, pass_fds=(host.open,), timeout=patience,
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )  # fmt: skip
            output, status = done.stdout, done.returncode
        except subprocess.TimeoutExpired as late:
            output, status = late.stdout or b"", -1
    words = output[-2000:].decode(errors="replace")
    if attack.lingers:
        return _appears(host), words
    if attack.forge:
        return status == 0 and b"test_it PASSED" in output, words
    return WON.encode() in output, words


def _appears(host: Host) -> bool:
    """Tell whether something lingers, within a second: a process that has just been forked has no name yet."""
    for _ in range(20):
        if host.lingering():
            return True
        time.sleep(0.05)
    return False


def boxed(host: Host, attack: Attack, sandbox: Sandbox) -> tuple[bool, str, Ran]:
    """Run the attack in the sandbox."""
    ran = sandbox.run(Job(id=attack.name, files=(SourceFile(name="draft.py", text=host.fill(attack.code)),)))
    if attack.lingers:
        won = bool(host.lingering())
    elif attack.forge:
        won = any(entry[0] == "passed" for entry in ran.proof or ())
    else:
        won = WON in ran.output or CANARY in ran.output
    return won, f"{ran.ending} {ran.status} {ran.reason} {ran.proof} {ran.output[-1500:]}", ran


def main() -> None:
    mode, names = sys.argv[1], json.load(sys.stdin)
    chosen = [attack for attack in [*ATTACKS, SABOTAGE] if attack.name in names]
    with tempfile.TemporaryDirectory(prefix="troupe-victim-") as home:
        Path(home).chmod(0o755)
        host = Host(home)
        results = {}
        sandbox = Sandbox(LIMITS)
        try:
            for attack in chosen:
                won, words, *_ = bare(host, attack) if mode == "bare" else boxed(host, attack, sandbox)
                results[attack.name] = (won, words)
                host.clear()
        finally:
            host.helper.kill()
            host.helper.wait()
    print(json.dumps(results))


if __name__ == "__main__":
    main()
