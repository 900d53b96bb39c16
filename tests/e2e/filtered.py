# SPDX-License-Identifier: LGPL-2.1-or-later
"""`filtered.py ERRNO COMMAND…`: runs a command whose userfaultfd is refused with that error, as a container's
seccomp profile does it."""
import ctypes
import os
import struct
import sys

from userfaultfd import SYSCALL

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
LOAD, JUMP_EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, ERRNO = 0x7fff0000, 0x00050000


def main(error, command):
    number = SYSCALL[os.uname().machine]
    program = b"".join(struct.pack("HBBI", *row) for row in (
        (LOAD, 0, 0, 0), (JUMP_EQUAL, 0, 1, number), (RETURN, 0, 0, ERRNO | int(error)), (RETURN, 0, 0, ALLOW)))
    buffer = ctypes.create_string_buffer(program)
    fprog = struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, os.strerror(ctypes.get_errno())
    assert libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, fprog) == 0, os.strerror(ctypes.get_errno())
    os.execv(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
