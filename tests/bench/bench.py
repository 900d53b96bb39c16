#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Measures post-copy between two hosts on this machine: QEMU's own, and this project's; see
docs/benchmarks.md. The exit status is 0 if every migration completed with the guest whole, and 77
if this machine cannot make hosts."""
import argparse
import dataclasses
import json
import os
import pathlib
import platform
import re
import subprocess
import sys
import time

sys.dont_write_bytecode = True
HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "e2e")]

# pylint: disable=wrong-import-position
import engine                                           # noqa: E402
import interruption                                     # noqa: E402
import native                                           # noqa: E402
import stack                                            # noqa: E402
import table                                            # noqa: E402
import targets                                          # noqa: E402
from guest_view import Disturbed                      # noqa: E402
from measured import Case, RunFailed, load              # noqa: E402
from rig import Rig, find_builddir, requirements        # noqa: E402

KINDS = {
    "native": native.run,
    "native-preempt": lambda rig, case: native.run(rig, case, preempt=True),
    "native-libvirt": lambda rig, case: stack.run(rig, case, with_daemon=False),
    "ours": stack.run,
}
USUAL = ("native", "native-preempt", "ours")
PATTERNS = ("random", "half", "text")
BEFORE_MAX_S = 20                       # to let the guest rest before a migration begins
SKIPPED = 77                            # exit status: this machine cannot do it
CONGESTION = "net.ipv4.tcp_congestion_control"


def rate(text):
    if text != "none" and not re.fullmatch(r"[1-9]\d*(\.\d+)?[kmg]bit", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a rate: say for instance 1gbit, or none")
    return text


def setting(text):
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, int(value) if value.isdigit() else value


def one_of(known):
    def check(text):
        if text not in known:
            raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(known)}")
        return text
    return check


def listed(kind):
    return lambda text: [kind(item) for item in text.split(",")]


def parse_arguments(argv):
    parser = argparse.ArgumentParser(prog="bench", description="Measures post-copy between two hosts on this "
                                     "machine, native and ours one after the other. --engine, as the first option: "
                                     "memory of processes; it has options of its own.")
    parser.add_argument("--builddir", metavar="DIR", help="where the programs were built [$BUILD, or the current "
                        "directory]")
    parser.add_argument("--rates", metavar="RATE,…", type=listed(rate), default=["1gbit", "10gbit", "none"],
                        help="what the link carries; none: no limit [1gbit,10gbit,none]")
    parser.add_argument("--patterns", metavar="NAME,…", type=listed(one_of(PATTERNS)), default=["random", "half"],
                        help="what the memory holds: random; half: every other page is text; text [random,half]")
    parser.add_argument("--rounds", metavar="N", type=int, default=3, help="of all kinds [%(default)s]")
    parser.add_argument("--memory", metavar="MIB", type=int, default=512, help="of the guest [%(default)s]")
    parser.add_argument("--hot", metavar="MIB", type=int, help="of that it changes all the time [half of it]")
    parser.add_argument("--only", metavar="KIND,…", type=listed(one_of(list(KINDS))), default=list(USUAL),
                        help=f"of {', '.join(KINDS)} [{','.join(USUAL)}]")
    parser.add_argument("--congestion", metavar="NAME", help="TCP's congestion control in both hosts [the machine's]")
    parser.add_argument("--set", metavar="NAME=VALUE", type=setting, action="append", default=[],
                        help="a setting of virtpostcopyd.conf, such as migration_stage=67108864; can be repeated")
    parser.add_argument("--json", metavar="FILE", help="write every run there")
    parser.add_argument("--quick", action="store_true", help="one short round, to see that all of it works: 128 MiB, "
                        "no limit and 1gbit, random")
    options = parser.parse_args(argv)
    if options.quick:
        options.rates, options.patterns, options.rounds, options.memory = ["none", "1gbit"], ["random"], 1, 128
    options.set = dict(options.set)
    options.hot = options.hot or options.memory // 2
    if not 64 <= options.memory <= 3072 or not 0 < options.hot <= options.memory or options.rounds < 1:
        parser.error("--memory is 64 to 3072, --hot no more than that, and --rounds at least 1")
    return options


def machine(rig):
    """What the figures depend on, for whoever compares them with others."""
    def said(*argv):
        return subprocess.run(argv, capture_output=True, text=True, check=False).stdout.strip().partition("\n")[0]

    models = re.findall(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    return {"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "kernel": platform.release(),
            "cpu": models[0] if models else platform.machine(), "cpus": os.cpu_count(),
            "qemu": said("qemu-system-x86_64", "--version"), "libvirt": said("libvirtd", "--version"),
            "congestion": rig.a.run(["sysctl", "-n", CONGESTION]).stdout.strip(),
            "tcp_wmem": rig.a.run(["sysctl", "-n", "net.ipv4.tcp_wmem"]).stdout.split()}


def line(run):
    """One run as it is done."""
    stalls, touches = run["stalls"], run["touches_per_s"]
    return (f"  {run['kind']:15} post-copy {run['postcopy_s']:.2f} s, downtime {run['downtime_ms']:.0f} ms, stalls "
            f"p50 {stalls['p50_us'] / 1000:.2f} p90 {stalls['p90_us'] / 1000:.2f} p99 {stalls['p99_us'] / 1000:.2f} "
            f"max {stalls['max_us'] / 1000:.1f} ms, {touches} touches/s; {run['pages']} pages whole; load "
            f"{run['load']}")


def one_run(rig, kind, case):
    try:
        about = {"kind": kind, "rate": case.rate, "pattern": case.pattern, "load": load()}
        return about | KINDS[kind](rig, case)
    except Disturbed as error:
        if case.before_s > BEFORE_MAX_S:
            raise
        print(f"  {kind:15} again: {error}", flush=True)
    except (RunFailed, AssertionError) as error:
        raise RunFailed(f"{kind} at {case.rate}, {case.pattern}: {error}") from error
    return one_run(rig, kind, dataclasses.replace(case, before_s=case.before_s * 2))


def measure(rig, options):
    """Every run there is to do: an iterator of their figures."""
    for link in options.rates:
        if link == "none":
            rig.unshape()
        else:
            rig.shape(link)
        for pattern in options.patterns:
            for turn in range(1, options.rounds + 1):
                print(f"{'no limit' if link == 'none' else link}, {pattern}, round {turn} of {options.rounds}",
                      flush=True)
                for kind in options.only:
                    yield {"round": turn} | one_run(rig, kind, Case(link, pattern, options.memory, options.hot))


def report(about, options, runs):
    """Prints the tables, and writes everything to where it is wanted."""
    groups = table.summarize(runs)
    judged = targets.all_of(options.set.get("migration_stage", targets.STAGE)) \
        if (options.memory, options.hot) == targets.CASE else []
    print(f"\nA guest of {options.memory} MiB, of which it changes {options.hot} MiB at random; {about['qemu']}; "
          f"{about['cpus']} processors, {about['cpu']}; kernel {about['kernel']}, TCP {about['congestion']}")
    for group in groups:
        print("\n" + "\n".join(table.render(group, judged)), flush=True)
        group["verdicts"] = [{"figure": figure, "target": words, "reached": reached}
                             for figure, words, reached in table.verdicts(group, judged)]
    if options.json:
        everything = {"machine": about, "memory": options.memory, "hot": options.hot, "settings": options.set,
                      "medians": groups, "runs": runs}
        pathlib.Path(options.json).write_text(json.dumps(everything, indent=1) + "\n")


def bench_engine(options):
    runs = []
    with Rig(find_builddir(options.builddir), daemon_conf={"log_level": 2}) as rig:
        about = machine(rig)
        try:
            for run in engine.measure(rig, options):
                print(engine.line(run), flush=True)
                runs.append(run)
        finally:
            interruption.ignore()
            if runs:
                engine.report(about, options, runs)


def bench(options):
    runs = []
    with Rig(find_builddir(options.builddir), daemon_conf={"log_level": 2} | options.set) as rig:
        for host in rig.hosts if options.congestion else ():
            host.run(["sysctl", "-q", "-w", f"{CONGESTION}={options.congestion}"])
        about = machine(rig)
        try:
            for run in measure(rig, options):
                print(line(run), flush=True)
                runs.append(run)
        finally:
            interruption.ignore()
            if runs:
                report(about, options, runs)


def main(argv):
    of_engine = argv[:1] == ["--engine"]
    options = engine.parse_arguments(argv[1:]) if of_engine else parse_arguments(argv)
    missing = requirements()
    if missing:
        print(f"bench: {'; '.join(missing)}", file=sys.stderr)
        return SKIPPED
    interruption.catch()
    try:
        (bench_engine if of_engine else bench)(options)
    except interruption.Interrupted as signum:
        print(f"bench: interrupted by {signum}", file=sys.stderr)
        return signum.status
    except (AssertionError, RuntimeError, OSError, RunFailed, subprocess.SubprocessError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
