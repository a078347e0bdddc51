"""Attacks on the sandbox: written before it, each shown to work outside before it counts as beaten inside.

An attack is Python that does its worst and prints ``WON`` once it has seen that it worked; ``found`` does so when the
canary stands in what was read (the attack knows its digest alone, so it cannot print the canary without having got
it). ``lingers`` attacks win by what is left of them afterwards. Those that ``forge`` win when a failing test is
reported as passed.
"""

from __future__ import annotations

import textwrap
from typing import NamedTuple

WON = "ATTACK-HAS-WON"

PRELUDE = """
import os, sys, re, hashlib, socket, struct, time, errno
HOME, PORT, PORT6, UDP, DIGEST, HOST, TAG = @HOME@, @PORT@, @PORT6@, @UDP@, @DIGEST@, @HOST@, @TAG@
def won():
    os.write(1, b"ATTACK-HAS-" + b"WON\\n")
def found(data):
    for word in re.findall(rb"canary-[0-9a-f]{32}", data):
        if hashlib.sha256(word).hexdigest() == DIGEST:
            won()
            return
def read(path, most=1 << 20):
    try:
        with open(path, "rb") as file:
            found(file.read(most))
    except OSError as error:
        print(path, error)
def libc():
    import ctypes
    return ctypes.CDLL(None, use_errno=True)
def syscall(number, *args):
    import ctypes
    words = [ctypes.c_long(a) if isinstance(a, int) else a for a in args]
    lib = libc()
    lib.syscall.restype = ctypes.c_long
    value = lib.syscall(ctypes.c_long(number), *words)
    if value < 0:
        print("syscall", number, errno.errorcode.get(ctypes.get_errno(), ctypes.get_errno()))
    return value
"""


class Attack(NamedTuple):
    """One attack. *root*: outside it needs root to work."""

    name: str
    code: str
    root: bool = False
    lingers: bool = False
    forge: bool = False


def attack(name: str, code: str, **options: bool) -> Attack:
    return Attack(name, PRELUDE + textwrap.dedent(code), **options)


SECRETS = [
    attack("reads its environment", "found(repr(dict(os.environ)).encode())"),
    attack("reads the environment of its parent", 'read(f"/proc/{os.getppid()}/environ")'),
    attack(
        "reads the environment of process 1 and of all others",
        """
        for pid in [p for p in os.listdir("/proc") if p.isdigit()]:
            read(f"/proc/{pid}/environ")
    """,
    ),
    attack(
        "reads the command lines of all processes",
        """
        for pid in [p for p in os.listdir("/proc") if p.isdigit()]:
            read(f"/proc/{pid}/cmdline")
    """,
    ),
    attack("reads .netrc in the home folder", 'read(os.path.join(HOME, ".netrc"))'),
    attack("reads the journal", 'read(os.path.join(HOME, "journal.db"))'),
    attack(
        "walks all folders for the canary",
        """
        seen = 0
        for top in (HOME, "/home", "/root", "/etc", "/var/lib", "/run", "/srv", "/mnt", "/tmp"):
            for folder, _, names in os.walk(top):
                for name in names:
                    seen += 1
                    if seen < 3000 and os.path.isfile(os.path.join(folder, name)):
                        read(os.path.join(folder, name), 4096)
    """,
    ),
    attack(
        "reads inherited descriptors",
        """
        for fd in range(3, 256):
            try:
                os.lseek(fd, 0, 0)
                found(os.read(fd, 1 << 16))
            except OSError:
                pass
    """,
    ),
    attack(
        "reads the memory of its parent",
        """
        with open(f"/proc/{os.getppid()}/maps") as maps, open(f"/proc/{os.getppid()}/mem", "rb", 0) as memory:
            for line in maps:
                span, mode = line.split()[:2]
                low, high = (int(end, 16) for end in span.split("-"))
                if mode.startswith("rw") and high - low < 1 << 28 and "[v" not in line:
                    try:
                        memory.seek(low)
                        found(memory.read(high - low))
                    except (OSError, ValueError, OverflowError):
                        pass
    """,
        root=True,
    ),
    attack("reads the password file", 'open("/etc/passwd").read().startswith("root:") and won()'),
    attack(
        "reads the kernel's log",
        """
        import ctypes
        text = ctypes.create_string_buffer(1 << 16)
        libc().klogctl(3, text, len(text)) >= 0 and won()
    """,
        root=True,
    ),
    attack("sees the processes of the host", 'os.path.exists(f"/proc/{HOST}/stat") and won()'),
]

NETWORK = [
    attack(
        "speaks to a server on loopback",
        """
        socket.create_connection(("127.0.0.1", PORT), 1).recv(16) == b"hello" and won()
    """,
    ),
    attack(
        "speaks to a server on loopback by IPv6",
        """
        socket.create_connection(("::1", PORT6), 1).recv(16) == b"hello" and won()
    """,
    ),
    attack(
        "sends a datagram to loopback",
        """
        line = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        line.settimeout(1)
        line.sendto(b"x", ("127.0.0.1", UDP))
        line.recv(16) == b"hello" and won()
    """,
    ),
    attack(
        "speaks to an abstract socket",
        """
        line = socket.socket(socket.AF_UNIX)
        line.connect("\\0" + TAG)
        line.recv(16) == b"hello" and won()
    """,
    ),
    attack(
        "speaks to a socket in the file system",
        """
        line = socket.socket(socket.AF_UNIX)
        line.connect(os.path.join(HOME, "socket"))
        line.recv(16) == b"hello" and won()
    """,
    ),
    attack(
        "asks the kernel by netlink",
        """
        line = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
        line.bind((0, 0))
        won()
    """,
    ),
    attack(
        "listens to all packets",
        """
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        won()
    """,
        root=True,
    ),
    attack("opens a socket to the hypervisor", "socket.socket(40, socket.SOCK_STREAM) and won()"),
    attack(
        "sends raw datagrams",
        """
        socket.socket(socket.AF_INET, socket.SOCK_RAW, 1).sendto(b"\\x08\\0\\xf7\\xff\\0\\0\\0\\0", ("127.0.0.1", 0))
        won()
    """,
        root=True,
    ),
]

LIMITS = [
    attack(
        "forks 60 processes",
        """
        pids = []
        try:
            for _ in range(60):
                pid = os.fork()
                if not pid:
                    time.sleep(1.5)
                    os._exit(0)
                pids.append(pid)
            won()
        finally:
            print(len(pids))
    """,
    ),
    attack(
        "starts 200 threads",
        """
        import threading
        for _ in range(200):
            threading.Thread(target=time.sleep, args=(1.0,), daemon=True).start()
        won()
    """,
    ),
    attack(
        "takes a gigabyte of memory",
        """
        block = bytearray(1 << 30)
        block[::4096] = b"x" * len(block[::4096])
        won()
    """,
    ),
    attack(
        "takes a gigabyte of memory in eight processes",
        """
        for _ in range(8):
            if not os.fork():
                block = bytearray(128 << 20)
                block[::4096] = b"x" * len(block[::4096])
                time.sleep(1.5)
                os._exit(0)
        time.sleep(0.1)
        all(os.waitstatus_to_exitcode(os.wait()[1]) == 0 for _ in range(8)) and won()
    """,
    ),
    attack(
        "fills the disk with 200 MB",
        """
        try:
            for n in range(20):
                for folder in (".", "/tmp", "/dev/shm", "/", "/dev"):
                    try:
                        with open(f"{folder}/{TAG}-{n}", "wb") as file:
                            file.write(bytes(10 << 20))
                            break
                    except OSError as error:
                        print(error)
                else:
                    raise OSError("all full")
            won()
        finally:
            for n in range(20):
                for folder in (".", "/tmp", "/dev/shm", "/", "/dev"):
                    os.path.exists(f"{folder}/{TAG}-{n}") and os.unlink(f"{folder}/{TAG}-{n}")
    """,
    ),
    attack(
        "writes one file of 40 MB",
        """
        with open(TAG, "wb") as file:
            file.write(bytes(40 << 20))
        os.unlink(TAG)
        won()
    """,
    ),
    attack(
        "makes 60,000 files",
        """
        for n in range(60_000):
            os.close(os.open(f"{TAG}-{n}", os.O_CREAT | os.O_WRONLY))
        won()
        for n in range(60_000):
            os.unlink(f"{TAG}-{n}")
    """,
    ),
    attack(
        "keeps 200 MB in a file without a name",
        """
        fds = [os.memfd_create("x") for _ in range(20)]
        for fd in fds:
            os.write(fd, bytes(10 << 20))
        won()
    """,
    ),
    attack(
        "keeps a gigabyte in shared memory that no process holds",
        """
        import ctypes
        lib = libc()
        lib.shmat.restype = ctypes.c_void_p
        ids = []
        for _ in range(4):
            ids.append(lib.shmget(0, ctypes.c_size_t(256 << 20), 0o1600))
            place = lib.shmat(ids[-1], None, 0)
            if ids[-1] < 0 or place in (None, 2**64 - 1):
                raise OSError("no shared memory")
            ctypes.memset(place, 1, 256 << 20)
            lib.shmdt(ctypes.c_void_p(place))
        won()
        for each in ids:
            lib.shmctl(each, 0, None)
    """,
    ),
    attack(
        "writes 5 MB of output",
        """
        for _ in range(5000):
            os.write(1, b"x" * 1023 + b"\\n")
        won()
    """,
    ),
    attack(
        "raises its own limits",
        """
        import resource
        resource.setrlimit(resource.RLIMIT_NPROC, (10_000, 10_000))
        resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
        resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))
        won()
    """,
        root=True,
    ),
    attack("takes a higher priority", "os.setpriority(os.PRIO_PROCESS, 0, -5); won()", root=True),
    attack("signals a process of the host", "os.kill(HOST, 0); won()"),
    attack(
        "leaves a daemon",
        """
        if not os.fork():
            os.setsid()
            if not os.fork():
                os.closerange(0, 64)
                os.execv(sys.executable, [sys.executable, "-c", "import time; time.sleep(30)", TAG])
            os._exit(0)
        os.wait()
    """,
        lingers=True,
    ),
    attack(
        "leaves a daemon that ignores signals and holds the pipes",
        """
        import signal
        for number in (1, 2, 15):
            signal.signal(number, signal.SIG_IGN)
        if not os.fork():
            os.setsid()
            os.execv(sys.executable, [sys.executable, "-c", "import time; time.sleep(30)", TAG])
    """,
        lingers=True,
    ),
]

SURFACE = [
    attack("makes a user namespace", "libc().unshare(0x10000000) == 0 and won()"),
    attack(
        "clones into new namespaces",
        """
        pid = syscall(56 if os.uname().machine == "x86_64" else 220, 0x10000000 | 17, 0, 0, 0, 0)
        if pid == 0:
            os._exit(0)
        pid > 0 and won()
    """,
    ),
    attack(
        "clones into new namespaces by clone3",
        """
        import ctypes
        args = (ctypes.c_uint64 * 11)(0x10000000, 0, 0, 0, 17)
        pid = syscall(435, ctypes.byref(args), 88)
        if pid == 0:
            os._exit(0)
        pid > 0 and won()
    """,
    ),
    attack(
        "mounts a file system",
        """
        os.makedirs("mnt", exist_ok=True)
        lib = libc()
        lib.unshare(0x00020000)
        lib.mount(b"none", b"/", None, 0x44000, None)
        lib.mount(b"none", b"mnt", b"tmpfs", 0, None) == 0 and won()
    """,
        root=True,
    ),
    attack(
        "joins the namespaces of another process",
        """
        fd = os.open(f"/proc/{HOST}/ns/net", os.O_RDONLY)
        libc().setns(fd, 0) == 0 and won()
    """,
        root=True,
    ),
    attack("traces a process", "libc().ptrace(0, 0, 0, 0) == 0 and won()"),
    attack(
        "reads the memory of another process",
        """
        import ctypes
        child = os.fork()
        if not child:
            time.sleep(1)
            os._exit(0)
        text = ctypes.create_string_buffer(8)
        near = (ctypes.c_size_t * 2)(ctypes.addressof(text), 8)
        syscall(310 if os.uname().machine == "x86_64" else 270, child, near, 1, near, 1, 0) > 0 and won()
    """,
    ),
    attack(
        "puts a key into the kernel",
        """
        syscall(248 if os.uname().machine == "x86_64" else 217, b"user", TAG.encode(), b"x", 1, -2) > 0 and won()
    """,
    ),
    attack(
        "opens an io_uring",
        """
        import ctypes
        syscall(425, 4, ctypes.create_string_buffer(256)) >= 0 and won()
    """,
    ),
    attack(
        "makes a BPF map",
        """
        import ctypes
        what = struct.pack("=IIIII", 2, 4, 4, 1, 0) + bytes(100)
        syscall(321 if os.uname().machine == "x86_64" else 280, 0, ctypes.create_string_buffer(what), 72) >= 0 and won()
    """,
        root=True,
    ),
    attack(
        "opens a performance counter",
        """
        import ctypes
        what = struct.pack("=IIQ", 1, 112, 0) + bytes(96)
        number = 298 if os.uname().machine == "x86_64" else 241
        syscall(number, ctypes.create_string_buffer(what), 0, -1, -1, 0) >= 0 and won()
    """,
    ),
    attack(
        "handles page faults of its own",
        """
        syscall(323 if os.uname().machine == "x86_64" else 282, 1) >= 0 and won()
    """,
    ),
    attack("changes its root", 'os.mkdir("root"); os.chroot("root"); won()', root=True),
    attack("becomes root", "os.setuid(0); os.getuid() == 0 and os.chown(sys.executable, -1, -1); won()", root=True),
    attack("makes a device", 'os.mknod("disk", 0o60600, os.makedev(7, 0)); won()', root=True),
    attack(
        "opens a file by its handle",
        """
        import ctypes
        handle = ctypes.create_string_buffer(struct.pack("=II", 64, 0) + bytes(64))
        where = ctypes.c_int()
        libc().name_to_handle_at(-100, b"/usr", handle, ctypes.byref(where), 0) == 0 and won()
    """,
    ),
    attack("changes the clock", "time.clock_settime(0, time.time()); won()", root=True),
    attack(
        "changes the system's libraries",
        """
        path = os.path.join(os.path.dirname(os.__file__), TAG)
        open(path, "w").close()
        os.unlink(path)
        won()
    """,
        root=True,
    ),
    attack(
        "writes over the host through a symlink",
        """
        os.symlink(os.path.join(HOME, "victim"), TAG)
        with open(TAG, "w") as file:
            file.write("x")
        os.unlink(TAG)
        won()
    """,
    ),
    attack(
        "climbs out of its folder",
        """
        with open("../" * 20 + HOME.lstrip("/") + "/victim", "w") as file:
            file.write("x")
        won()
    """,
    ),
]

REPORT = r"""
def report(secret):
    name = "draft.py::test_it"
    entries = "imported\x1fdraft.py\x1f\x1f\x1epassed\x1f" + name + "\x1f\x1f"
    return secret + b"%08x" % len(entries) + entries.encode()
def everywhere(data):
    for fd in range(3, 256):
        try:
            os.write(fd, data)
        except OSError:
            pass
"""
FAILS = "\ndef test_it():\n    assert False\n"


def forgery(name: str, code: str) -> Attack:
    """Return an attack on the verdict: *code* is a module whose only test fails."""
    return Attack(name, PRELUDE + REPORT + "MARKS = 'draft.py::test_it PASSED\\n1 passed in 0.01s\\nOK'\n"
                  + textwrap.dedent(code) + FAILS, forge=True)  # fmt: skip


FORGERIES = [
    forgery("prints that its test passed and leaves", "print(MARKS, flush=True); os._exit(0)"),
    forgery("prints that its test passed and raises SystemExit", "print(MARKS); sys.exit(0)"),
    forgery(
        "prints that its test passed at exit",
        """
        import atexit
        atexit.register(lambda: (print(MARKS, flush=True), os._exit(0)))
    """,
    ),
    forgery(
        "becomes another program that succeeds",
        """
        print(MARKS, flush=True)
        os.execv("/bin/true", ["true"])
    """,
    ),
    forgery("closes all and leaves", "print(MARKS, flush=True); os.closerange(3, 256); os._exit(0)"),
    forgery(
        "writes a report into every descriptor and leaves",
        """
        print(MARKS, flush=True)
        everywhere(report(bytes(16)))
        everywhere(report(b""))
        os._exit(0)
    """,
    ),
    forgery(
        "writes reports with every 16 bytes it can find",
        """
        import gc
        print(MARKS, flush=True)
        seen, todo, words = set(), list(gc.get_objects()), set()
        frame = sys._getframe()
        while frame is not None:
            todo += [frame, frame.f_locals, frame.f_globals]
            frame = frame.f_back
        while todo and len(seen) < 200_000:
            each = todo.pop()
            if id(each) in seen:
                continue
            seen.add(id(each))
            if isinstance(each, (bytes, bytearray)) and len(each) >= 16:
                words.add(bytes(each[:16]))
            todo += gc.get_referents(each)
        for word in list(words)[:500]:
            everywhere(report(word))
        os._exit(0)
    """,
    ),
    forgery(
        "reads the secret again from its input",
        """
        print(MARKS, flush=True)
        try:
            os.lseek(0, 0, 0)
        except OSError:
            pass
        everywhere(report(os.read(0, 16)))
        os._exit(0)
    """,
    ),
    forgery(
        "reads the secret in its own memory file",
        """
        print(MARKS, flush=True)
        try:
            with open("/proc/self/mem", "rb") as memory:
                memory.seek(id(MARKS))
                everywhere(report(memory.read(16)))
        finally:
            os._exit(0)
    """,
    ),
    forgery(
        "lets a thread report and leave",
        """
        import threading
        print(MARKS, flush=True)
        threading.Thread(target=lambda: (everywhere(report(bytes(16))), os._exit(0))).start()
        time.sleep(1)
    """,
    ),
    forgery(
        "puts its own runner in place of __main__",
        """
        print(MARKS, flush=True)
        import __main__
        for name in ("play", "call", "told"):
            setattr(__main__, name, lambda *_: None)
        if hasattr(__main__, "Run"):
            __main__.Run.test = lambda self, each, test: self.entries.append(("passed", "draft.py::" + test, "", ""))
        import atexit
        atexit.register(os._exit, 0)
    """,
    ),
]

ATTACKS = [*SECRETS, *NETWORK, *LIMITS, *SURFACE, *FORGERIES]

SABOTAGE = forgery(
    "takes the runner's functions out of its frames",
    """
    print(MARKS, flush=True)
    frame = sys._getframe()
    while frame is not None:
        if "play" in frame.f_globals:
            frame.f_globals["play"] = lambda *_: None
        frame = frame.f_back
    import atexit
    atexit.register(os._exit, 0)
""",
)
"""What the sandbox does not promise (docs/executor.md): no interpreter can testify against the code it runs itself."""
