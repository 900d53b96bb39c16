# SPDX-License-Identifier: LGPL-2.1-or-later
"""One host of the rig: a file system, a network and daemons of its own."""
import contextlib
import os
import pathlib
import pwd
import signal
import socket
import subprocess
import uuid

import namespace
import pki
import settings
from recorder import Recorder
from wait import wait_for

SOURCE = pathlib.Path(__file__).resolve().parents[2]

# Where a host finds the trees under test: their own places may be hidden there.
INSIDE_BUILD, INSIDE_SOURCE = "/run/postcopy-build", "/run/postcopy-source"

ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "HOME": "/run/home",
               "PYTHONDONTWRITEBYTECODE": "1"}
# A sanitizer's report must end the process with a status of its own, and be kept.
ENVIRONMENT |= {"ASAN_OPTIONS": "exitcode=99:abort_on_error=0", "UBSAN_OPTIONS": "print_stacktrace=1",
                "G_SLICE": "always-malloc"}

TLS_PORT, TCP_PORT, MIGRATION_PORT = 16514, 16555, 16515
GUEST_LOGS = "/var/log/libvirt/qemu-guest"
DAEMON_CONF = "/etc/libvirt/virtpostcopyd.conf"

DEVICES = ("null", "zero", "full", "random", "urandom", "tty", "net/tun", "userfaultfd")

UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}

LIBVIRTD_CONF = """
host_uuid = "{uuid}"
listen_tls = 0
listen_tcp = 1
auth_tcp = "none"
auth_unix_rw = "none"
auth_unix_ro = "none"
unix_sock_ro_perms = "0777"
unix_sock_rw_perms = "0770"
log_level = 3
log_filters = "1:qemu_migration 1:qemu_monitor"
log_outputs = "1:file:/var/log/libvirt/libvirtd.log"
"""

QEMU_CONF = """
{user}
security_driver = "none"
stdio_handler = "file"
cgroup_controllers = []
namespaces = []
"""


class CommandFailed(AssertionError):
    """A command in a host ended with a status other than 0."""

    def __init__(self, host, done):
        self.status, self.stdout, self.stderr = done.returncode, done.stdout, done.stderr
        command = " ".join(map(str, done.args))
        super().__init__(f"{host}: {command}: status {done.returncode}: "
                         f"{(done.stderr or done.stdout or '').strip()}")


def conf_value(value):
    """A value in libvirt's configuration syntax."""
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(conf_value, value)) + "]"
    return str(int(value)) if isinstance(value, (bool, int)) else f'"{value}"'


def _stat_tree(top):
    """(relative path, mode, uid, gid) of a directory and the directories right below it."""
    top = pathlib.Path(top)
    found = []
    for path in [top, *(top.iterdir() if top.is_dir() else ())]:
        if path.is_dir() and not path.is_symlink():
            st = path.stat()
            found.append((path.relative_to(top), st.st_mode & 0o7777, st.st_uid, st.st_gid))
    return found


class Host:
    """name is what the other host reaches it by; ip and ip6 its addresses there.

    Paths are those inside the host unless path() made them. Processes are given as
    seen from outside, so os.kill() and Popen work on them.
    """

    def __init__(self, letter, number, builddir, qemu_user, newer=None):
        self.letter = letter
        self.name = f"host{letter}.test"
        self.name6 = f"host{letter}-v6.test"
        self.ip, self.ip6 = f"192.0.2.{number}", f"2001:db8::{number}"
        self.builddir = pathlib.Path(builddir).resolve()
        self.qemu_user = qemu_user
        self.newer = newer              # a Newer, or None for the machine's own programs
        self.libvirtd = self.daemon = None
        self.daemon_command = None      # given by the rig
        self._numbers = 0
        self.ns = namespace.Namespaces()
        try:
            self.ns.call(self._lay_out)
        except BaseException:
            self.ns.close()
            raise

    def close(self):
        self.ns.close()

    # -- the file system --------------------------------------------------------------

    def path(self, inside):
        """The path outside of something inside."""
        return pathlib.Path(f"/proc/{self.ns.pid}/root") / str(inside).lstrip("/")

    @staticmethod
    def script(name):
        """The path inside of a file beside this one."""
        return f"{INSIDE_SOURCE}/tests/e2e/{name}"

    @staticmethod
    def built(name):
        """The path inside of something that was built."""
        return f"{INSIDE_BUILD}/{name}"

    def next_number(self):
        self._numbers += 1
        return self._numbers

    def _lay_out(self):
        """Runs inside: everything a host writes to becomes its own."""
        namespace.mount("none", "/", None, namespace.MS_REC | namespace.MS_PRIVATE)
        if self.newer:
            self.newer.lay_over()
        namespace.mount("proc", "/proc", "proc")
        namespace.mount("sysfs", "/sys", "sysfs")       # the network cards of this host alone
        trees = [(os.open(self.builddir, os.O_PATH), INSIDE_BUILD), (os.open(SOURCE, os.O_PATH), INSIDE_SOURCE)]
        libvirt = {top: _stat_tree(top) for top in
                   ("/var/lib/libvirt", "/var/log/libvirt", "/var/cache/libvirt")}
        for where, mode in (("/run", "755"), ("/tmp", "1777")):
            namespace.mount("tmpfs", where, "tmpfs", namespace.MS_NOSUID, f"mode={mode}")
        self._make_dev()
        for fd, target in trees:
            os.mkdir(target)
            namespace.mount(f"/proc/self/fd/{fd}", target, None, namespace.MS_BIND)
        for directory in ("/run/lock", "/run/libvirt", "/run/home"):
            os.mkdir(directory)
        for top, entries in libvirt.items():
            self._empty_copy(top, entries)
        self._copy_etc()
        socket.sethostname(self.name)
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        # or IPv6 addresses would go when the link does
        pathlib.Path("/proc/sys/net/ipv6/conf/all/keep_addr_on_down").write_text("1")

    @staticmethod
    def _make_dev():
        """A /dev without /dev/kvm: the guests are emulated anyhow, and libvirt would probe QEMU
        anew for each of them where root may use KVM and QEMU's user may not."""
        os.mkdir("/run/dev")
        namespace.mount("tmpfs", "/run/dev", "tmpfs", namespace.MS_NOSUID, "mode=755")
        for name in DEVICES:
            if os.path.exists(f"/dev/{name}"):
                target = pathlib.Path("/run/dev") / name
                target.parent.mkdir(exist_ok=True)
                target.touch()
                namespace.mount(f"/dev/{name}", target, None, namespace.MS_BIND)
        for name, kind, options in (("shm", "tmpfs", "mode=1777"),
                                    ("pts", "devpts", "newinstance,ptmxmode=0666,mode=620,gid=5")):
            os.mkdir(f"/run/dev/{name}")
            namespace.mount(kind, f"/run/dev/{name}", kind, namespace.MS_NOSUID, options)
        if settings.HUGEPAGE_POOL.exists():
            os.mkdir("/run/dev/hugepages")
            namespace.mount("hugetlbfs", "/run/dev/hugepages", "hugetlbfs", 0,
                            f"mode=755,pagesize={settings.HUGEPAGE_BYTES}")
        for name, target in (("ptmx", "pts/ptmx"), ("fd", "/proc/self/fd"), ("stdin", "/proc/self/fd/0"),
                             ("stdout", "/proc/self/fd/1"), ("stderr", "/proc/self/fd/2")):
            os.symlink(target, f"/run/dev/{name}")
        namespace.mount("/run/dev", "/dev", None, namespace.MS_BIND | namespace.MS_REC)
        subprocess.run(["umount", "--recursive", "/run/dev"], check=True)
        os.rmdir("/run/dev")

    @staticmethod
    def _empty_copy(top, entries):
        namespace.mount("tmpfs", top, "tmpfs", 0, "mode=755")
        for relative, mode, uid, gid in entries:
            path = pathlib.Path(top) / relative
            path.mkdir(exist_ok=True)
            os.chown(path, uid, gid)
            path.chmod(mode)

    def _copy_etc(self):
        os.mkdir("/run/etc")
        namespace.mount("tmpfs", "/run/etc", "tmpfs", 0, "mode=755")
        subprocess.run(["cp", "-a", "/etc/.", "/run/etc"], check=True)
        namespace.mount("/run/etc", "/etc", None, namespace.MS_BIND)
        subprocess.run(["umount", "/run/etc"], check=True)
        os.rmdir("/run/etc")
        # the default network would start dnsmasq and filter rules
        subprocess.run(["rm", "-rf", "/etc/libvirt/qemu/networks", "/etc/pki"], check=True)

    def configure(self, hosts, daemon_conf):
        """Writes what the daemons read. hosts: all of the rig, for /etc/hosts."""
        lines = ["127.0.0.1 localhost", "::1 localhost"]
        for host in hosts:
            lines += [f"{host.ip} {host.name}", f"{host.ip6} {host.name6}"]
        self.path("/etc/hosts").write_text("\n".join(lines) + "\n")
        self.path("/etc/libvirt/libvirtd.conf").write_text(LIBVIRTD_CONF.format(uuid=uuid.uuid4()))
        user = "" if self.qemu_user is None else \
            f'user = "{self.qemu_user}"\ngroup = "{self.qemu_user}"'
        self.path("/etc/libvirt/qemu.conf").write_text(QEMU_CONF.format(user=user))
        logs = self.path(GUEST_LOGS)
        logs.mkdir()
        with contextlib.suppress(KeyError):             # as root QEMU may write anywhere
            entry = pwd.getpwnam(self.qemu_user or "libvirt-qemu")
            os.chown(logs, entry.pw_uid, entry.pw_gid)
        self.write_daemon_conf(**daemon_conf)

    def install_certificates(self, authority):
        """Good certificates for both ends of both kinds of connection."""
        cert = authority.issue(self.name, [self.ip, self.ip6], "both", names=[self.name, self.name6])
        pki.install(self.path("/etc/pki"), authority, server=cert, client=cert)
        return cert

    def write_daemon_conf(self, **changes):
        """virtpostcopyd.conf as tests need it; a value None leaves the setting out.
        The daemon reads it when it starts."""
        conf = {
            "listen_tls": 1, "listen_tcp": 1, "tls_port": str(TLS_PORT), "tcp_port": str(TCP_PORT),
            "host_name": self.name, "helper_user": "nobody",
            "helper_path": self.built("virt-postcopy-helper"),
            "migration_port": MIGRATION_PORT, "connect_timeout": 5,
            "keepalive_interval": 1, "keepalive_count": 3, "log_level": 1,
            **changes,
        }
        self.path(DAEMON_CONF).write_text("".join(
            f"{key} = {conf_value(value)}\n" for key, value in conf.items() if value is not None))

    # -- commands and processes -------------------------------------------------------

    def popen(self, argv, env=None, **options):
        return self.ns.popen(argv, env={**ENVIRONMENT, **(env or {})}, **options)

    def run(self, argv, check=True, timeout=60, input=None, text=True, env=None):
        """Runs a command to its end; returns subprocess.CompletedProcess with stdout, stderr.

        A command that takes longer than timeout is killed (subprocess.TimeoutExpired)."""
        process = self.popen(argv, env=env, text=text, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                             stdin=subprocess.DEVNULL if input is None else subprocess.PIPE)
        try:
            out, err = process.communicate(input, timeout)
        except BaseException:
            process.kill()
            process.communicate()
            raise
        done = subprocess.CompletedProcess(argv, process.returncode, out, err)
        if check and done.returncode != 0:
            raise CommandFailed(self.name, done)
        return done

    def virsh(self, *args, uri="qemu:///system", check=True, timeout=60):
        """Stock virsh in this host; returns the CompletedProcess."""
        return self.run(["virsh", "-q", "-c", uri, *args], check=check, timeout=timeout)

    def pids(self, program):
        """Processes in this host whose executable (or script) has that name."""
        found = []
        for pid in self.ns.pids():
            with contextlib.suppress(OSError):
                argv = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                if any(os.path.basename(a) == program.encode() for a in argv[:2]):
                    found.append(pid)
        return found

    def helpers(self):
        return self.pids("virt-postcopy-helper")

    def _start(self, name, argv, sock):
        if argv[0].startswith("/") and not self.path(argv[0]).exists():
            raise RuntimeError(f"{self.builddir / os.path.basename(argv[0])} is missing: run make")
        with open(self.path(f"/var/log/libvirt/{name}.out"), "ab") as log:
            process = self.popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

        def answers():
            if process.poll() is not None:
                raise RuntimeError(f"{self.name}: {name} ended with status {process.returncode}: "
                                   f"{self.log_tail(name + '.out', 5)}")
            with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
                probe.connect(str(self.path(f"/run/libvirt/{sock}")))
                return True
            return False

        wait_for(answers, f"{name} of {self.name} listening on {sock}", 30)
        return process

    @staticmethod
    def _end(process, signum, timeout):
        if process is None:
            return None
        if process.poll() is None:
            process.send_signal(signum)
            try:
                process.wait(timeout)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise
        return process.returncode

    def start_libvirtd(self):
        self.libvirtd = self._start("libvirtd", ["libvirtd", "-l"], "libvirt-sock")

    def stop_libvirtd(self, signum=signal.SIGTERM):
        """Ends libvirtd; guests run on. Returns its exit status (negative: signal)."""
        process, self.libvirtd = self.libvirtd, None
        return self._end(process, signum, 20)

    def start_daemon(self, *options):
        self.daemon = self._start("virtpostcopyd", [*self.daemon_command, *options], "virtpostcopyd-sock")

    def stop_daemon(self):
        """Asks virtpostcopyd to end; returns its exit status."""
        process, self.daemon = self.daemon, None
        return self._end(process, signal.SIGTERM, 20)

    def kill_daemon(self):
        """Ends virtpostcopyd with SIGKILL, and no helper with it."""
        process, self.daemon = self.daemon, None
        return self._end(process, signal.SIGKILL, 5)

    def restart_daemon(self, *options, **changes):
        """Starts virtpostcopyd anew, with other settings if any are given."""
        self.stop_daemon()
        if changes:
            self.write_daemon_conf(**changes)
        self.start_daemon(*options)

    def crashed(self):
        """What ended although nobody asked it to: a list of sentences."""
        return [f"{self.name}: {name} ended by itself with status {process.returncode}"
                for name, process in (("libvirtd", self.libvirtd), ("virtpostcopyd", self.daemon))
                if process is not None and process.poll() is not None]

    # -- what tests ask of it ---------------------------------------------------------

    def uri(self, transport=None, scheme="postcopy", v6=False):
        """A connection URI of this host: for use in it (no transport) or from the other host.

        scheme "qemu" is libvirtd itself (transport tcp only)."""
        if transport is None:
            return f"{scheme}:///system"
        port = f":{TCP_PORT}" if transport == "tcp" and scheme == "postcopy" else ""
        return f"{scheme}+{transport}://{self.name6 if v6 else self.name}{port}/system"

    def events(self, uri="qemu:///system"):
        """Starts a recorder of libvirt's events in this host."""
        return Recorder(self, uri)

    def domains(self):
        """Names of the running domains."""
        return self.virsh("list", "--name").stdout.split()

    def state(self, domain):
        """"running (migrated)" and the like, as virsh says it."""
        return self.virsh("domstate", "--reason", domain).stdout.strip()

    def job(self, domain):
        """What `virsh domjobinfo` says, sizes in bytes: {"Memory processed": 1234, …}."""
        job = {}
        for line in self.virsh("domjobinfo", domain).stdout.splitlines():
            key, _, value = line.partition(":")
            words = value.split()
            if len(words) == 2 and words[1] in UNITS:
                job[key] = int(float(words[0]) * UNITS[words[1]])
            elif words:
                job[key] = value.strip()
        return job

    def log(self, name):
        """The whole text of a file in /var/log/libvirt, "" if there is none."""
        try:
            return self.path(f"/var/log/libvirt/{name}").read_text(errors="replace")
        except OSError:
            return ""

    def log_tail(self, name, lines=20):
        return "\n".join(self.log(name).splitlines()[-lines:])

    def logs(self):
        """Names of the log files, relative to /var/log/libvirt."""
        top = self.path("/var/log/libvirt")
        return sorted(str(p.relative_to(top)) for p in top.rglob("*") if p.is_file())

    def wire_bytes(self):
        """(received, sent) bytes of the link between the hosts so far."""
        for line in pathlib.Path(f"/proc/{self.ns.pid}/net/dev").read_text().splitlines():
            name, _, numbers = line.partition(":")
            if name.strip() == "eth0":
                fields = numbers.split()
                return int(fields[0]), int(fields[8])
        raise RuntimeError(f"{self.name} has no eth0")
