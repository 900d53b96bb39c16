#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""A newer libvirt and QEMU than the machine has, for hosts of the rig: from Debian's backports.

    newer.py DIR        fetches them into DIR, if they are not there yet, and says which they are

Nothing is installed. The packages are unpacked, and a host that is to be newer has their /usr
laid over the machine's own, in its own mount namespace. apt's lists are kept in DIR as well.
"""
import os
import pathlib
import re
import subprocess
import sys

import namespace

MIRROR = "http://deb.debian.org/debian"
KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"
PACKAGES = ("qemu-system-x86", "libvirt-daemon", "libvirt-daemon-system", "libvirt-daemon-driver-qemu",
            "libvirt-clients")

# Modules and firmware that only fit the program they came with: the older ones are hidden.
OWN_DIRECTORIES = ("lib/*/libvirt", "lib/*/qemu", "lib/libvirt", "share/qemu")

CONFIGURATION = """
Dir::Etc::sourcelist "{top}/sources.list";
Dir::State::lists "{top}/lists";
Dir::Cache "{top}/cache";
APT::Sandbox::User "root";
"""


class Newer:
    """The packages in a directory. describe() says what they are."""

    def __init__(self, top):
        self.top = pathlib.Path(top).resolve()
        self.debs, self.root, self.complete = (self.top / name for name in ("debs", "root", "complete"))

    def describe(self):
        return self.complete.read_text().strip()

    def fetch(self):
        """Does nothing if it was done before."""
        if self.complete.exists():
            return
        release = pathlib.Path("/etc/os-release").read_text()
        suite = re.search(r"^VERSION_CODENAME=(\w+)", release, re.M).group(1) + "-backports"
        for directory in ("lists/partial", "cache/archives/partial", "debs", "root"):
            (self.top / directory).mkdir(parents=True, exist_ok=True)
        self._configure(suite)
        self._apt("update")
        names = re.findall(r"^Inst (\S+)", self._apt("install", "--simulate", "--no-install-recommends",
                                                     "--target-release", suite, *PACKAGES), re.M)
        self._apt("download", "--target-release", suite, *names)
        for deb in self.debs.glob("*.deb"):
            subprocess.run(["dpkg", "-x", deb, self.root], check=True)
        for pattern in OWN_DIRECTORIES:
            for directory in (self.root / "usr").glob(pattern):
                os.setxattr(directory, "trusted.overlay.opaque", b"y")
        self.complete.write_text("\n".join(deb.stem for deb in sorted(self.debs.glob("*.deb"))
                                           if deb.name.startswith(("qemu-system-x86_", "libvirt-daemon_"))) + "\n")

    def _configure(self, suite):
        own = pathlib.Path("/etc/apt/sources.list")
        lines = own.read_text() if own.exists() else ""     # what is in sources.list.d is read anyhow
        (self.top / "sources.list").write_text(f"{lines}\ndeb [signed-by={KEYS}] {MIRROR} {suite} main\n")
        (self.top / "apt.conf").write_text(CONFIGURATION.format(top=self.top))

    def _apt(self, *words):
        done = subprocess.run(["apt-get", "--quiet", *words], cwd=self.debs, capture_output=True, text=True,
                              env={**os.environ, "APT_CONFIG": str(self.top / "apt.conf"), "LC_ALL": "C"}, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"apt-get {words[0]}: {done.stderr.strip()}")
        return done.stdout

    def lay_over(self):
        """For a process in a mount namespace of its own: from now on its /usr is the newer one."""
        namespace.mount("overlay", "/usr", "overlay", namespace.MS_RDONLY, f"lowerdir={self.root}/usr:/usr")

    def command(self, argv):
        """The command that runs argv with the newer /usr."""
        return ["unshare", "--mount", "sh", "-c", f"mount -t overlay -o ro,lowerdir={self.root}/usr:/usr overlay /usr "
                "&& exec \"$@\"", "sh", *argv]


def main(argv):
    if len(argv) != 2:
        print("usage: newer.py DIR", file=sys.stderr)
        return 2
    newer = Newer(argv[1])
    newer.fetch()
    print(newer.describe())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
