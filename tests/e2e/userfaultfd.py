# SPDX-License-Identifier: LGPL-2.1-or-later
"""Why QEMU may not handle page faults here, and how to let it: post-copy needs that on the
destination."""
import ctypes
import errno
import os
import pathlib
import platform

SYSCALL = {"x86_64": 323, "i686": 374, "aarch64": 282, "ppc64le": 364, "s390x": 355, "riscv64": 282}
SETTING = pathlib.Path("/proc/sys/vm/unprivileged_userfaultfd")
CAP_SYS_PTRACE = 19
SECCOMP_FILTER = "2"

# what QEMU answers to migrate-set-capabilities, and libvirt passes on
QEMU_REFUSAL = "Postcopy is not supported"


def try_it():
    """0 if this process may use userfaultfd as QEMU does, else the error's number."""
    number = SYSCALL.get(platform.machine())
    if number is None:
        return 0                        # not known: let QEMU tell
    fd = ctypes.CDLL(None, use_errno=True).syscall(ctypes.c_long(number),
                                                   ctypes.c_int(os.O_CLOEXEC | os.O_NONBLOCK))
    if fd < 0:
        return ctypes.get_errno()
    os.close(fd)
    return 0


def status():
    """What the kernel says of this process."""
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def setting():
    """vm.unprivileged_userfaultfd, None on a kernel without it."""
    try:
        return SETTING.read_text().strip()
    except OSError:
        return None


def explain():
    """(what is missing, [ways to grant it]) as sentences."""
    error, about = try_it(), status()
    if error == 0:
        return ("the system call userfaultfd is allowed, but the kernel lacks what QEMU needs of it; "
                "QEMU's log says what", ["a kernel with CONFIG_USERFAULTFD on a memory type QEMU can use"])
    filtered = about.get("Seccomp") == SECCOMP_FILTER
    traces = int(about.get("CapEff", "0"), 16) >> CAP_SYS_PTRACE & 1
    if not filtered and error == errno.ENOSYS:
        return "this kernel has no userfaultfd", ["a kernel with CONFIG_USERFAULTFD"]
    if filtered and (traces or setting() == "1"):
        return ("a seccomp filter, as containers have one, forbids the system call userfaultfd",
                ["a seccomp profile that allows userfaultfd (docker, podman: --security-opt seccomp=FILE)"])
    ways = ["for every user of this machine: sysctl vm.unprivileged_userfaultfd=1",
            "for this program alone: the capability CAP_SYS_PTRACE, which root has "
            "(docker, podman: --cap-add SYS_PTRACE)",
            "for QEMU 8.0 and newer also: access to /dev/userfaultfd"]
    if filtered:
        ways.append("and in any case, as this process is under a seccomp filter: a profile that allows userfaultfd")
    return (f"the system call userfaultfd ({os.strerror(error)}): this process has no CAP_SYS_PTRACE, and "
            f"vm.unprivileged_userfaultfd is {setting()}", ways)
