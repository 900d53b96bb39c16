# SPDX-License-Identifier: LGPL-2.1-or-later
"""Linux namespaces that make a process tree believe it has a machine to itself.

A Namespaces object is held together by one small process, the first of a process
namespace: when it ends, the kernel ends every other process in there, and with
them go the mounts and the network. The holder is told by the kernel to end when
this program does, however it does, so nothing can be left behind.
"""
import contextlib
import ctypes
import os
import pickle
import signal
import subprocess
import traceback

NEWNS, NEWUTS, NEWIPC = 0x00020000, 0x04000000, 0x08000000
NEWPID, NEWNET = 0x20000000, 0x40000000
KINDS = {"mnt": NEWNS, "uts": NEWUTS, "ipc": NEWIPC, "net": NEWNET}

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_BIND, MS_REC, MS_PRIVATE = 1, 2, 4, 4096, 16384, 1 << 18
PR_SET_PDEATHSIG = 1

# As the first process it inherits every orphan and must not leave them as zombies:
# libvirtd takes a zombie for a QEMU that will not die.
HOLDER = """
import signal
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
signal.signal(signal.SIGINT, signal.SIG_IGN)
print("ready", flush=True)
while True:
    signal.pause()
"""

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result, what):
    if result != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")


def unshare(flags):
    _check(_libc.unshare(ctypes.c_int(flags)), "unshare")


def setns(fd, kind):
    _check(_libc.setns(ctypes.c_int(fd), ctypes.c_int(kind)), "setns")


def mount(source, target, fstype=None, flags=0, options=None):
    args = [os.fsencode(x) if x is not None else None for x in (source, target, fstype)]
    _check(_libc.mount(*args, ctypes.c_ulong(flags), os.fsencode(options) if options else None),
           f"mount {source} on {target}")


class _ChildrenIn:
    """While entered, processes this thread starts begin in another process namespace."""

    def __init__(self, fd=None):
        self.fd = fd                    # None: a new one

    def __enter__(self):
        self.own = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        if self.fd is None:
            unshare(NEWPID)
        else:
            setns(self.fd, NEWPID)

    def __exit__(self, *exc):
        setns(self.own, NEWPID)
        os.close(self.own)


class Namespaces:
    """Mounts, network, host name and processes of one host.

    pid is the holder's: /proc/PID/root is the host's file system seen from outside.
    """

    def __init__(self):
        def become_holder():
            unshare(NEWNS | NEWUTS | NEWIPC | NEWNET)
            _check(_libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL), "prctl")

        with _ChildrenIn():
            self.holder = subprocess.Popen(
                ["/usr/bin/python3", "-I", "-c", HOLDER], stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,      # all it could say is that we are gone already
                preexec_fn=become_holder, start_new_session=True, cwd="/")
        self.pid = self.holder.pid
        self.fds = {}
        self.children = []
        try:
            if self.holder.stdout.readline() != b"ready\n":
                raise RuntimeError("the process that holds the namespaces did not start")
            for kind in (*KINDS, "pid"):
                self.fds[kind] = os.open(f"/proc/{self.pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)
            self.inode = os.fstat(self.fds["pid"]).st_ino
        except BaseException:
            self.close()
            raise

    def close(self):
        """Ends every process inside; returns when the last one is gone."""
        for fd in self.fds.values():
            os.close(fd)
        self.fds = {}
        self.holder.kill()
        for child in self.children:     # the kernel keeps the holder until these are reaped
            child.wait()
        self.holder.wait()
        self.holder.stdout.close()

    def _enter(self):
        for kind, flag in KINDS.items():
            setns(self.fds[kind], flag)

    def popen(self, argv, **options):
        """subprocess.Popen inside; the pid is the one seen from outside."""
        options.setdefault("cwd", "/")
        options.setdefault("start_new_session", True)
        with _ChildrenIn(self.fds["pid"]):
            child = subprocess.Popen([str(a) for a in argv], preexec_fn=self._enter, **options)
        self.children = [c for c in self.children if c.returncode is None] + [child]
        return child

    def call(self, function):
        """Runs a function of this program inside and returns what it returns."""
        receiver, sender = os.pipe()
        with _ChildrenIn(self.fds["pid"]):
            child = os.fork()
            if child == 0:
                self._answer(function, sender)
        try:
            os.close(sender)
            with open(receiver, "rb") as pipe:
                data = pipe.read()
        except BaseException:           # interrupted: a child left behind would keep the host alive
            os.kill(child, signal.SIGKILL)
            raise
        finally:
            with contextlib.suppress(ChildProcessError):    # reaped by the kernel, SIGCHLD is ignored
                os.waitpid(child, 0)
        result, error = pickle.loads(data)
        if error:
            raise RuntimeError(f"inside the namespaces: {error}")
        return result

    def _answer(self, function, sender):
        """The child's part of call(); does not return."""
        try:
            self._enter()
            os.chdir("/")
            answer = (function(), None)
        except BaseException:                           # pylint: disable=broad-except
            answer = (None, traceback.format_exc())
        try:
            with open(sender, "wb") as pipe:
                pickle.dump(answer, pipe)
        finally:
            os._exit(0)

    def pids(self):
        """Every process inside but the holder, by the number seen from outside."""
        found = []
        for entry in os.listdir("/proc"):
            if not entry.isdigit() or int(entry) == self.pid:
                continue
            try:
                if os.stat(f"/proc/{entry}/ns/pid").st_ino == self.inode:
                    found.append(int(entry))
            except OSError:
                pass                                    # ended meanwhile
        return found


def supported():
    """None, or why this machine does not let us make namespaces."""
    if os.geteuid() != 0:
        return "needs root"
    try:
        subprocess.run(["/usr/bin/unshare", "-m", "-n", "-u", "-i", "-p", "--fork", "--mount-proc", "true"],
                       check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        detail = getattr(error, "stderr", b"") or str(error).encode()
        return f"namespaces are not allowed here: {detail.decode(errors='replace').strip()}"
    return None
