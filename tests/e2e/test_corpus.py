# SPDX-License-Identifier: LGPL-2.1-or-later
"""The domains of tests/corpus/domain are real ones: libvirt defines each, and the memory that is expected
of it is what libvirt asks QEMU for."""
import json
import re

from harness import deadline, note, own_rig
from host import INSIDE_SOURCE, SOURCE

CORPUS = SOURCE / "tests/corpus/domain"
PREFIX = "corpus-"

BACKEND = re.compile(r"-object '(\{\"qom-type\":\"memory-backend-[^']*\})'")
HUGE_1G = "/run/hugepages-1g"
BACKING_DIR = "/var/lib/libvirt/qemu/ram"

# Memory that libvirt makes for something else than the guest's own.
NOT_RAM = re.compile(r"shmmem-")


def expected():
    """{name: (verdict and ids, blocks)}"""
    rows = {}
    for line in (CORPUS / "EXPECTED").read_text().splitlines():
        if line and not line.startswith("#"):
            name, verdict, ids, *blocks = line.split()
            rows[name] = f"{verdict} {ids}", blocks
    return rows


def mebibytes(size):
    """A size as libvirt gives it to QEMU: in whole MiB."""
    return -(-size // (1 << 20))


def block_of(backend, mounts):
    """What libvirt asks QEMU for, as EXPECTED says it; mounts: {directory: KiB of a huge page}."""
    words = [f"{mebibytes(backend['size'])}M"]
    path, page = backend.get("mem-path", ""), None
    kind = backend["qom-type"].removeprefix("memory-backend-")
    shared = backend.get("share", kind == "memfd")          # QEMU's default
    if kind == "ram":
        words.append("anonymous")
    elif kind == "memfd":
        words.append("memfd")
        page = backend.get("hugetlbsize", 0) // 1024
    elif path.startswith(BACKING_DIR):
        words.append("file")
    else:
        page = next((kib for top, kib in mounts.items() if path.startswith(top)), None)
        words.append("hugetlbfs" if page else "path")
    if shared:
        words.append("shared")
    if page:
        words.append(f"{page}K")
    return ":".join(words)


def normal(block, default_page):
    """One of EXPECTED in the same words."""
    size, *rest = block.split(":")
    if size.endswith("B"):
        size = f"{mebibytes(int(size[:-1]))}M"
    return ":".join([size, *(f"{default_page}K" if word == "huge" else word for word in rest)])


def huge_mounts(host):
    """{directory: KiB of a page} of the mounts that libvirt may use."""
    mounts = {}
    for line in host.run(["cat", "/proc/self/mounts"]).stdout.splitlines():
        _, top, kind, options, *_ = line.split()
        size = re.search(r"pagesize=(\d+)([MG])", options)
        if kind == "hugetlbfs" and size:
            mounts[top] = int(size.group(1)) << (10 if size.group(2) == "M" else 20)
    return mounts


def mount_large_pages(host):
    """libvirt looks where they are mounted when it starts. FALSE: this machine has none."""
    host.path(HUGE_1G).mkdir()
    done = host.run(["mount", "-t", "hugetlbfs", "-o", "pagesize=1G", "none", HUGE_1G], check=False)
    host.stop_libvirtd()
    host.start_libvirtd()
    return done.returncode == 0


def asked_for(host, name):
    """The backends on the command line that libvirt makes for that domain."""
    line = host.virsh("domxml-to-native", "qemu-argv", "--domain", PREFIX + name).stdout
    backends = [json.loads(text) for text in BACKEND.findall(line)]
    return [b for b in backends if not NOT_RAM.match(b["id"])]


def has_other_memory(blocks):
    """Plain memory needs no comparing, and libvirtd dies of some of the devices there, which it looks
    for on the host."""
    return [b for b in blocks if not b.endswith(":anonymous")] or len(blocks) > 1


@own_rig
@deadline(240)
def test_every_document_is_a_domain_and_has_the_memory_expected(rig):
    host, rows = rig.a, expected()
    files = {p.stem for p in CORPUS.glob("*.xml")}
    assert files == set(rows), files ^ set(rows)
    assert len(rows) >= 40
    large = mount_large_pages(host)
    mounts = huge_mounts(host)
    default = 2048
    compared = 0
    for name, (judgement, blocks) in rows.items():
        host.virsh("define", f"{INSIDE_SOURCE}/tests/corpus/domain/{name}.xml")
        # what libvirt has made of it is judged in the same way
        host.path("/tmp/defined.xml").write_text(host.virsh("dumpxml", PREFIX + name).stdout)
        said = host.run([host.built("tests/support/corpus-judge"), "/tmp/defined.xml"]).stdout.split()
        assert " ".join(said[:2]) == judgement, (name, said, judgement)
        assert [normal(b, default) for b in said[2:]] == [normal(b, default) for b in blocks], (name, said, blocks)
        needs_large = any("1048576K" in b for b in blocks)
        if has_other_memory(blocks) and name not in NO_COMMAND_LINE and (large or not needs_large):
            real = [block_of(b, mounts) for b in asked_for(host, name)]
            assert real == [normal(b, default) for b in blocks], (name, real, blocks)
            compared += 1
        host.virsh("undefine", PREFIX + name, "--keep-nvram")
    note(f"{len(rows)} domains defined, the memory of {compared} compared with QEMU's command line")
    assert compared >= 30


# libvirt looks for a program of its own that it does not find.
NO_COMMAND_LINE = {"video-vhost-user"}
