# SPDX-License-Identifier: LGPL-2.1-or-later
"""`virt-postcopy check` seen failing: a case breaks one thing on host a (or b), the check must say so with
a remedy, and after the remedy is done it must say so no more.

    @case("run-dir-access", r'run "(chmod o\\+x .*)"')
    def run_dir_access(rig):
        rig.a.path(RUN_DIR).chmod(0o700)    # breaks it
        remedy = yield                      # what check said, as re.Match of the pattern
        rig.a.run(["sh", "-c", remedy[1]])  # does it
        yield                               # checked again; what follows cleans up

The first yield may give arguments for check ({"args": …}) and a verdict that is not the usual one, the second
other arguments.
"""
import contextlib
import json
import re

from harness import note

CASES = {}


def case(name, remedy):
    """Decorator: how that finding is provoked; remedy is a pattern of what it must advise."""
    def mark(function):
        assert name not in CASES, name
        CASES[name] = (function, remedy)
        return function
    return mark


def check(host, *args, wrapper=()):
    """(exit status, findings) of a run in that host."""
    done = host.run([*wrapper, host.built("virt-postcopy"), "check", "--json", *args], check=False)
    assert done.returncode in (0, 1), f"check could not run: {done.stderr}"
    found = json.loads(done.stdout)
    fails = [f["id"] for f in found["findings"] if f["verdict"] == "fail"]
    assert (done.returncode == 1) == bool(fails) == (found["verdict"] == "fail"), found
    return done.returncode, found["findings"]


def ids(findings):
    return [f["id"] for f in findings if f["verdict"] != "pass"]


def known_ids(host):
    """{id: verdict} of everything that check knows."""
    lines = host.run([host.built("virt-postcopy"), "check", "--list-ids"]).stdout.splitlines()
    return dict(line.split() for line in lines)


def run_case(rig, name):
    function, pattern = CASES[name]
    with contextlib.closing(function(rig)) as steps:
        options = next(steps) or {}
        status, findings = check(options.get("host", rig.a), *options.get("args", ()),
                                 wrapper=options.get("wrapper", ()))
        finding = next((f for f in findings if f["id"] == name), None)
        assert finding, f"{name} was not found, but {ids(findings)}"
        assert finding["verdict"] == options.get("verdict", known_ids(rig.a)[name])
        assert status == 1 or finding["verdict"] == "warn"
        remedy = re.search(pattern, finding["remedy"])
        assert remedy, f"{pattern!r} is not in: {finding['remedy']}"
        options = {**options, **(steps.send(remedy) or {})}
        _, after = check(options.get("host", rig.a), *options.get("args", ()),
                         wrapper=options.get("wrapper", ()))
        assert name not in ids(after), f"the remedy of {name} does not help: {after}"
        note(f"{name}: {finding['detail']}: {finding['remedy']}")


def run_cases(rig, *names):
    for name in names:
        run_case(rig, name)
