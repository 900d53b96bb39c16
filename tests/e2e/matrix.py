# SPDX-License-Identifier: LGPL-2.1-or-later
"""What tests/e2e/test_matrix.py tries: at least one case for each row of xml/migrate_table.c.

A case is a flag or a parameter with what it needs beside it, and what must come of it: acceptance (the guest
is on the other host afterwards), or a refusal by code and words. What a row of the table refuses is not
said again here."""
import dataclasses

INVALID_ARG, FAILED, INVALID, UNSUPPORTED, NOT_SUPPORTED = 8, 9, 55, 74, 84

LIVE, P2P, PERSIST, UNDEFINE = 1 << 0, 1 << 1, 1 << 3, 1 << 4
DISKS, OFFLINE, COMPRESSED, AUTO_CONVERGE = 1 << 6, 1 << 10, 1 << 11, 1 << 13
POSTCOPY, PARALLEL = 1 << 15, 1 << 17
BASE = LIVE | POSTCOPY


@dataclasses.dataclass
class Case:
    """row         name in the table, or None: of nothing that it knows
    flags, params  beside BASE and the row's own flag. A value may be a function of (matrix, source, target)
    code, words    of the refusal; 0: it is accepted
    modes          where it makes sense
    since          libvirt's version from which on it knows the parameter
    later          (version, code, words): from that version of libvirt's on it is refused"""
    row: str
    params: dict = dataclasses.field(default_factory=dict)
    flags: int = 0
    code: int = 0
    words: str = ""
    modes: tuple = ("direct", "p2p")
    since: int = 0
    later: tuple = ()


def flag(name, *args, **options):
    return Case("VIR_MIGRATE_" + name, *args, **options)


def comp(*methods, **options):
    """--comp-methods, with the tuning that options name: level_mt=3."""
    tuning = {f"compression.{'.'.join(reversed(k.split('_')))}": options.pop(k)
              for k in list(options) if "_" in k}
    row = next(iter(tuning), "compression")
    return Case(row, {"compression": list(methods), **tuning}, COMPRESSED, **options)


def bad(case, code, words):
    return dataclasses.replace(case, code=code, words=words)


def other_name(_matrix, _source, target):
    return target.name


def xml(*options):
    return lambda matrix, source, _target: source.virsh("dumpxml", *options, matrix.guest.name).stdout


def uri(form):
    return lambda _matrix, _source, target: form.format(host=target.name, ip=target.ip, ip6=target.ip6)


def address(name):
    return lambda _matrix, _source, target: getattr(target, name)


NO_SUCH_PARAMETER = "not supported"

FLAGS = [
    flag("LIVE"),
    flag("PEER2PEER", modes=("p2p",)),
    # a client refuses the flag without --p2p by itself
    flag("TUNNELLED", code=INVALID_ARG, words="peer2peer", modes=("direct",)),
    flag("TUNNELLED", modes=("p2p",)),
    flag("PERSIST_DEST"),
    flag("UNDEFINE_SOURCE", flags=PERSIST),
    flag("PAUSED", code=UNSUPPORTED, words="post-copy"),
    flag("CHANGE_PROTECTION"),
    flag("UNSAFE"),
    flag("OFFLINE", code=INVALID, words="offline"),
    flag("COMPRESSED"),
    flag("ABORT_ON_ERROR"),
    flag("AUTO_CONVERGE"),
    flag("RDMA_PIN_ALL"),
    flag("POSTCOPY"),
    flag("TLS"),
    flag("PARALLEL"),
    flag("NON_SHARED_SYNCHRONOUS_WRITES", code=INVALID_ARG, words="is required by flag"),
    flag("POSTCOPY_RESUME", code=INVALID, words=""),
    flag("ZEROCOPY", flags=PARALLEL),
    flag("ZEROCOPY"),
    flag("NON_SHARED_DISK"),
    flag("NON_SHARED_DISK", {"migrate_disks": ["vda"]}, code=INVALID_ARG, words="vda not found"),
    flag("NON_SHARED_INC"),
]

PARAMS = [
    Case("migrate_uri", {"migrate_uri": uri("tcp://{host}")}),
    Case("migrate_uri", {"migrate_uri": uri("tcp:{host}")}),
    Case("migrate_uri", {"migrate_uri": uri("postcopy://[{ip6}]:16515")}),
    Case("migrate_uri", {"migrate_uri": uri("rdma://{host}")}, code=UNSUPPORTED, words="tcp://HOST[:PORT]"),
    Case("migrate_uri", {"migrate_uri": uri("unix:///run/x")}, code=UNSUPPORTED, words="tcp://HOST[:PORT]"),
    Case("migrate_uri", {"migrate_uri": uri("tcp://{host}:1")}, code=FAILED, words="port 1"),
    Case("destination_name", {"destination_name": lambda matrix, _s, _t: matrix.guest.name}),
    Case("destination_xml", {"destination_xml": xml("--migratable")}),
    Case("persistent_xml", {"persistent_xml": xml("--migratable")}, PERSIST),
    Case("bandwidth", {"bandwidth": 2000}),
    Case("bandwidth.postcopy", {"bandwidth.postcopy": 2000}),
    Case("bandwidth.avail.switchover", {"bandwidth.avail.switchover": 1 << 30}, since=11_001_000),
    Case("graphics_uri", {"graphics_uri": uri("vnc://{host}:5900")}),
    Case("listen_address", {"listen_address": address("ip")}),
    Case("listen_address", {"listen_address": address("ip6")}),
    Case("listen_address", {"listen_address": "::"}),
    Case("listen_address", {"listen_address": address("ip"), "migrate_uri": uri("tcp://{host}")}),
    Case("listen_address", {"listen_address": "192.0.2.77"}, code=INVALID_ARG, words="none of the addresses"),
    Case("listen_address", {"listen_address": uri("{host}")}),
    Case("listen_address", {"listen_address": "nobody.test"}, code=INVALID_ARG, words="nobody.test is neither"),
    Case("listen_address", {"listen_address": lambda _m, source, _t: source.name}, code=INVALID_ARG,
         words="none of the addresses"),
    # what it is dialled by is not where it listens
    Case("listen_address", {"listen_address": address("ip6"), "migrate_uri": uri("tcp://{ip}")},
         code=FAILED, words="session"),
    Case("migrate_disks", {"migrate_disks": ["vda"]}, later=(10_009_000, NOT_SUPPORTED, "requires use of")),
    Case("migrate_disks_detect_zeroes", {"migrate_disks_detect_zeroes": ["vda"]}, since=10_009_000,
         code=NOT_SUPPORTED, words="requires use of"),
    Case("disks_port", {"disks_port": 49999}),
    Case("disks_port", {"disks_port": 49999}, DISKS, code=UNSUPPORTED, words="--disks-uri tcp://HOST:PORT"),
    Case("disks_uri", {"disks_uri": uri("tcp://{host}:49999")}),
    comp("zstd"),
    comp("zlib"),
    comp("mt"),
    comp("xbzrle"),
    comp("zstd", "zlib"),
    comp("zlib", "xbzrle"),
    bad(comp("lz77"), INVALID_ARG, "lz77"),
    bad(comp("zlib", "zlib"), INVALID_ARG, "named twice"),
    comp("mt", level_mt=9),
    bad(comp("mt", level_mt=10), INVALID_ARG, "--comp-mt-level"),
    bad(comp("xbzrle", level_mt=1), INVALID_ARG, "multithread"),
    comp("mt", threads_mt=2),
    bad(comp("mt", threads_mt=0), INVALID_ARG, "--comp-mt-threads"),
    comp("mt", dthreads_mt=2),
    bad(comp("mt", dthreads_mt=256), INVALID_ARG, "--comp-mt-dthreads"),
    comp("xbzrle", cache_xbzrle=1 << 24),
    bad(comp("zstd", cache_xbzrle=1 << 24), INVALID_ARG, "xbzrle"),
    comp("zlib", level_zlib=0),
    comp("zlib", level_zlib=9),
    bad(comp("zlib", level_zlib=10), INVALID_ARG, "--comp-zlib-level"),
    comp("zstd", level_zstd=20),
    bad(comp("zstd", level_zstd=-1), INVALID_ARG, "--comp-zstd-level"),
    Case("auto_converge.initial", {"auto_converge.initial": 30}, AUTO_CONVERGE),
    Case("auto_converge.initial", {"auto_converge.initial": 30}, code=INVALID_ARG, words="auto"),
    Case("auto_converge.increment", {"auto_converge.increment": 20}, AUTO_CONVERGE),
    Case("parallel.connections", {"parallel.connections": 4}, PARALLEL),
    Case("parallel.connections", {"parallel.connections": 4}, code=INVALID_ARG, words="parallel"),
    Case("parallel.connections", {"parallel.connections": 255}, PARALLEL),
    bad(Case("parallel.connections", {"parallel.connections": 0}, PARALLEL), INVALID_ARG, "--parallel-connections"),
    Case("tls.destination", {"tls.destination": other_name}),
    Case("tls.destination", {"tls.destination": "nobody.test"}, code=FAILED, words="nobody.test"),
    Case("tls.destination", {"tls.destination": other_name, "migrate_uri": uri("tcp://{ip}")}),
]

# What is of a libvirt that nobody has seen yet is libvirt's to judge.
UNKNOWN = [
    Case(None, flags=1 << 30, code=INVALID_ARG, words="unsupported flags"),
    Case(None, {"nobody.has.this": 1}, code=UNSUPPORTED, words=NO_SUCH_PARAMETER),
]

CASES = FLAGS + PARAMS + UNKNOWN
