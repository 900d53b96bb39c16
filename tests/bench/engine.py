# SPDX-License-Identifier: LGPL-2.1-or-later
"""bench --engine: memory of a process to a process on the other host, over the session with TLS, beside QEMU's own
migration of as much memory, and beside what this kernel can do at best: placing pages. See docs/benchmarks.md."""
import argparse
import json
import pathlib
import subprocess
import time

import engine_table
import native
from guest import Guest
from host import INSIDE_BUILD
from measured import RunFailed, Timeline, load, only
from processes import Watch
from wait import wait_for
from workload import Move

MIB = 1 << 20
TIMEOUT = 300
# Before each run: memory that was freed a moment ago is at hand, and a machine that is itself a guest gives it back
# soon after, so that what comes next would be as fast as what came before lets it.
REST_S = 6
TOUCHES = 1000                          # a second, of every guest: they are there, but not what is measured
QEMU_TLS = "/run/qemu-tls"
CREDENTIALS = "migration"
FAULTS = {"memory": 256, "background": 20 * MIB, "touches": 500}


def parse_arguments(argv):
    parser = argparse.ArgumentParser(prog="bench --engine", description="Measures the engine on memory of processes, "
                                     "beside native QEMU and the kernel's own limit.")
    parser.add_argument("--builddir", metavar="DIR", help="where the programs were built [$BUILD, or the current "
                        "directory]")
    parser.add_argument("--rounds", metavar="N", type=int, default=3, help="of all kinds [%(default)s]")
    parser.add_argument("--memory", metavar="MIB", type=int, default=2048, help="[%(default)s]")
    parser.add_argument("--zero-heavy", metavar="MIB", type=int, default=8192, help="with 90 %% zeros; 0: leave out "
                        "[%(default)s]")
    parser.add_argument("--sizes", metavar="MIB,…", default="512,1024,2048,4096,8192", help="to see that time is "
                        "linear; empty: leave out [%(default)s]")
    parser.add_argument("--rest", metavar="S", type=float, default=REST_S, help="before each run: memory that was just "
                        "freed is faster than other memory [%(default)s]")
    parser.add_argument("--bulk", metavar="N", type=int, default=0, help="channels for the background [%(default)s]")
    parser.add_argument("--only", metavar="KIND,…", help="of " + ", ".join(KINDS))
    parser.add_argument("--json", metavar="FILE", help="write every run there")
    parser.add_argument("--quick", action="store_true", help="one short round, to see that all of it works")
    options = parser.parse_args(argv)
    if options.quick:
        options.rounds, options.memory, options.zero_heavy, options.sizes = 1, 256, 512, "128,256"
        options.rest = 0
    options.sizes = [int(size) for size in options.sizes.split(",") if size]
    options.only = options.only.split(",") if options.only else list(KINDS)
    if set(options.only) - set(KINDS) or options.rounds < 1 or options.memory < 64:
        parser.error("--only is of the kinds, --rounds at least 1, --memory at least 64")
    return options


# -- the kernel alone ------------------------------------------------------------------------


def limit(rig, case):
    """What placing pages takes if nothing else is to be done, on the destination, while the host has as little memory at
    hand as in the other runs."""
    memory = str(case["memory"])
    done = rig.b.run([f"{INSIDE_BUILD}/tests/workload/place-limit", memory, "64", memory], timeout=TIMEOUT)
    return {"postcopy_s": json.loads(done.stdout)["seconds"]}


# -- QEMU alone ------------------------------------------------------------------------------


def _qemu_tls(rig, endpoint, host):
    """Arguments for QEMU, with certificates where it wants them."""
    directory = host.path(QEMU_TLS)
    directory.mkdir(exist_ok=True)
    cert = rig.ca.issue(host.name, [host.ip], "both", names=[host.name])
    for source, name in ((rig.ca.own.cert, "ca-cert.pem"), (cert.cert, f"{endpoint}-cert.pem"),
                         (cert.key, f"{endpoint}-key.pem")):
        (directory / name).write_bytes(pathlib.Path(source).read_bytes())
    return ["-object", f"tls-creds-x509,id={CREDENTIALS},dir={QEMU_TLS},endpoint={endpoint},verify-peer=on"]


def _guest(rig, case):
    """With data in all of its memory, or in a tenth of it."""
    ram = case["memory"] // 10 if case["zero"] else None
    guest = Guest(rig, case["memory"], rate=TOUCHES, sweep=0, ram=ram)
    guest.cmdline += f" report=200 rest={TIMEOUT // 5}"
    return guest


def _native(rig, case, tls):
    guest, qemus = _guest(rig, case), []
    argv = native.arguments(rig, guest)
    ends = [_qemu_tls(rig, endpoint, host) if tls else []
            for endpoint, host in (("client", rig.a), ("server", rig.b))]
    try:
        qemus.append(native.HostQemu(rig.a, [*argv, *ends[0]]))
        wait_for(lambda: guest.reports(rig.a), f"{guest.name} running", 60 + case["memory"] / 10)
        qemus.append(native.HostQemu(rig.b, [*argv, *ends[1], "-incoming", "defer"]))
        source, target = qemus
        native.migrate(source, target, f"tcp:{rig.b.ip}:{native.PORT}", f"tcp:{rig.b.ip}:{native.PORT}",
                       tls=(CREDENTIALS, rig.b.name) if tls else None)
        times = Timeline(source.times, target.times).result()
        guest.next_report(rig.b)
        guest.check_clean()
        return {"postcopy_s": times["postcopy_s"], "downtime_ms": times["downtime_ms"],
                "sent_mib": source.qmp.execute("query-migrate")["ram"]["transferred"] / MIB}
    finally:
        for qemu in qemus:
            qemu.close()


# -- the engine ------------------------------------------------------------------------------


def _finish(move, watch):
    for workload in (move.source, move.destination):
        workload.ended("completed", timeout=TIMEOUT)
    helpers = watch.summary()["processes"]
    verdict = move.destination.verify(timeout=TIMEOUT)
    stats = move.destination.stats()
    counted = {name: int(value) for name, value in move.counted()["destination"].items() if value.isdecimal()}
    return {"postcopy_s": move.postcopy_s, "downtime_ms": move.downtime_s * 1000, "pages": verdict["pages"],
            "stall_p50_us": stats["stall-p50-ns"] / 1000, "stall_p99_us": stats["stall-p99-ns"] / 1000,
            "stalls": stats["stalls"],
            "local_p50_us": counted["request-latency-p50-us"],
            "local_mean_us": counted["request-latency-sum-us"] / max(counted["request-latency-count"], 1),
            **{f"{side}_helper_mib": helpers[label]["peak_bytes"] / MIB for side, label in
               (("source", "helper-source"), ("destination", "helper-destination")) if label in helpers},
            **{f"{side}_helper_cpu_s": helpers[label]["cpu_s"] for side, label in
               (("source", "helper-source"), ("destination", "helper-destination")) if label in helpers}}


def _mapped(rig, case, **options):
    settings = ["max-bandwidth=1048576", *case.get("settings", ())]
    if case.get("bulk"):
        settings.append(f"bulk-channels={case['bulk']}")
    workload = {"pattern": "zero" if case["zero"] else "random", "threads": 1, "rate": TOUCHES, **options}
    # Transparent huge pages as for a QEMU's guest; but where a page in ten has data, none would be zero any more that
    # is not to be looked at.
    flags = "" if case["zero"] else ":thp"
    with Move(rig, f"ram:anon:{case['memory']}{flags}", settings=settings, **workload) as move:
        with Watch({}, {"helper-source": lambda: only(rig.a.helpers()),
                        "helper-destination": lambda: only(rig.b.helpers())}) as watch:
            move.connect()
            move.source.do("start-postcopy")
            for workload in (move.source, move.destination):
                workload.wait("ended", timeout=TIMEOUT)
        result = _finish(move, watch)
    for host in rig.hosts:
        wait_for(lambda h=host: not h.helpers(), f"no helper left in {host.name}", 20)
    return result


def _faults(rig, case):
    """One thread, a slow background, a link at rest: what a fault alone takes."""
    few = {**case, "memory": FAULTS["memory"], "settings": [f"max-postcopy-bandwidth={FAULTS['background']}"]}
    return _mapped(rig, few, rate=FAULTS["touches"])


KINDS = {
    "limit": limit,
    "native": lambda rig, case: _native(rig, case, tls=False),
    "native-tls": lambda rig, case: _native(rig, case, tls=True),
    "engine": _mapped,
    "faults": _faults,
}
# of the cases: which kinds they have
MAIN, ZERO, SIZE = ("limit", "native", "native-tls", "engine", "faults"), ("native", "engine"), ("limit", "engine")


def cases(options):
    """[(name, case, kinds)]"""
    def case(memory, zero=False):
        return {"memory": memory, "zero": zero, "bulk": options.bulk}

    found = [("main", case(options.memory), MAIN)]
    if options.zero_heavy:
        found.append(("zero-heavy", case(options.zero_heavy, True), ZERO))
    return found + [(f"size-{size}", case(size), SIZE) for size in options.sizes]


def measure(rig, options):
    for turn in range(1, options.rounds + 1):
        for name, case, kinds in cases(options):
            for kind in kinds:
                if kind not in options.only:
                    continue
                about = {"case": name, "kind": kind, "round": turn, "memory": case["memory"], "load": load()}
                time.sleep(options.rest)
                try:
                    yield about | KINDS[kind](rig, case)
                except (AssertionError, RuntimeError, KeyError, subprocess.SubprocessError) as error:
                    raise RunFailed(f"{name}, {kind}: {error}") from error


def line(run):
    speed = run["memory"] / run["postcopy_s"] if run["kind"] != "faults" else 0
    words = [f"  {run['case']:12} {run['kind']:10} {run['postcopy_s']:.2f} s"]
    words += [f"{speed:.0f} MiB/s"] if speed else []
    words += [f"downtime {run['downtime_ms']:.0f} ms"] if "downtime_ms" in run else []
    words += [f"stall p50 {run['stall_p50_us']:.0f} p99 {run['stall_p99_us']:.0f} µs, read to placed "
              f"p50 {run['local_p50_us']:.0f} mean {run['local_mean_us']:.0f} µs"] if "stall_p50_us" in run else []
    words += [f"helpers {run.get('source_helper_mib', 0):.0f} and {run.get('destination_helper_mib', 0):.0f} MiB"] \
        if "pages" in run else []
    return ", ".join([*words, f"load {run['load']}"])


def report(about, options, runs):
    lines, figures = engine_table.render(runs)
    print(f"\n{about['cpus']} processors, {about['cpu']}; kernel {about['kernel']}; {about['qemu']}\n")
    print("\n".join(lines), flush=True)
    if options.json:
        everything = {"machine": about, "figures": figures, "runs": runs}
        pathlib.Path(options.json).write_text(json.dumps(everything, indent=1) + "\n")
