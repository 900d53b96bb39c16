# SPDX-License-Identifier: LGPL-2.1-or-later
"""virt-postcopy, on both hosts of a real migration, on another machine, and with nothing to show."""
import json
import os
import re
import signal
import subprocess
import termios
import time

from prometheus_client.parser import text_string_to_metric_families

from guest import Guest
from harness import deadline, note, own_rig
from migrating import arrived, begin_in_postcopy
from screen import PROGRAM, Screen
from wait import wait_for

RATE = "60mbit"
METRICS = "/run/postcopy.prom"


def tool(host, *args, check=True, uri=None):
    return host.run([PROGRAM, *(["-c", uri] if uri else []), *args], check=check)


def migrations(host, *args, uri=None):
    """What `list --json` says: {domain: migration}."""
    said = json.loads(tool(host, "list", "--json", *args, uri=uri).stdout)
    return {migration["domain"]: migration for migration in said["migrations"]}


def metrics(text):
    """{name: {labels: value}} of what Prometheus' own parser reads; labels are a frozenset of pairs."""
    found = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation and family.type != "unknown", family
        for sample in family.samples:
            found.setdefault(sample.name, {})[frozenset(sample.labels.items())] = sample.value
    return found


def of_domain(samples, domain):
    """The values of one metric that belong to a domain."""
    return [value for labels, value in samples.items() if ("domain", domain) in labels]


def in_postcopy(rig, **guest):
    """A guest on its way on a link so slow that there is time to look at it: (guest, migration)."""
    guest = Guest(rig, 192, **{"rate": 2000, **guest}).start(rig.a)
    migration = begin_in_postcopy(rig, guest, rate=RATE)[0]
    wait_for(lambda: migrations(rig.b).get(guest.name, {}).get("latencies"), "a page the guest waited for", 20)
    return guest, migration


def finish(rig, guest, migration):
    rig.unshape()
    migration.finish()
    return arrived(rig, guest)


@deadline(60)
def test_nothing_running_is_said_and_no_error(rig):
    guest = Guest(rig, 32).start(rig.a)
    for host in rig.hosts:
        assert len(tool(host, "list").stdout.splitlines()) == 1
        assert len(tool(host, "list", "--completed").stdout.splitlines()) == 1
        assert migrations(host) == {}
        assert "No migration is running." in tool(host, "top", "--once").stdout
        assert metrics(tool(host, "export").stdout)["libvirt_domain_postcopy_migrations"] == {frozenset(): 0}
    guest.destroy(rig.a)


@deadline(90)
def test_list_shows_both_sides(rig):
    guest, migration = in_postcopy(rig)
    source, target = (migrations(host)[guest.name] for host in rig.hosts)
    assert (source["side"], target["side"]) == ("source", "destination")
    for side in (source, target):
        assert side["uuid"] == guest.uuid and side["job"] == "running", side
        assert 0 < side["progress"] < 1, side
        assert side["stats"]["postcopy.tls"].startswith("TLS1.3"), side
        assert side["stats"]["postcopy.link"] == "up" and side["stats"]["postcopy.channels"] == 2, side
        assert isinstance(side["stats"]["postcopy.compression_ratio"], float), side
    assert sum(bucket["count"] for bucket in target["latencies"]) > 0 and not source["latencies"]
    assert source["stats"]["postcopy.session"] == target["stats"]["postcopy.session"]
    # most is still to come, on either side: what the source's helper holds is not done
    assert source["stats"]["postcopy.remaining"] > source["stats"]["memory_remaining"], source
    for host, side, peer in ((rig.a, "source", rig.b.name), (rig.b, "destination", rig.a.name)):
        heading, line = tool(host, "list").stdout.splitlines()
        assert re.search(rf"^{guest.name} +{side} +\S+ +\d+% .* up +\d+ .* {peer}$", line), (heading, line)
    note(tool(rig.b, "list").stdout.rstrip())
    finish(rig, guest, migration)


@deadline(120)
def test_recovery_is_told_on_both_sides(rig):
    guest, migration = in_postcopy(rig)
    os.kill(rig.a.helpers()[0], signal.SIGKILL)
    wait_for(lambda: all(migrations(host).get(guest.name, {}).get("stats", {}).get("postcopy.recoveries") == 1
                         for host in rig.hosts), lambda: [migrations(host) for host in rig.hosts], 40)
    text = tool(rig.b, "top", "--once").stdout
    assert "recoveries 1" in text and "lost for " in text, text
    note(text.rstrip())
    rig.unshape()
    migration.finish(check=False)                           # its client has been told of the failure
    wait_for(lambda: guest.name not in rig.a.domains(), "the guest gone from the source", 40)
    arrived(rig, guest)


@deadline(90)
def test_what_has_ended_is_listed_on_request(rig):
    """On the source of a persistent guest as well, which stays there as a name."""
    guest = Guest(rig, 64, rate=2000, persistent=True).start(rig.a)
    begin_in_postcopy(rig, guest, rate="200mbit")[0].finish()
    arrived(rig, guest)
    for host, side in ((rig.a, "source"), (rig.b, "destination")):
        assert migrations(host) == {}
        for _ in range(2):                                  # asking takes nothing away
            ended = migrations(host, "--completed")[guest.name]
            assert (ended["side"], ended["job"], ended["progress"]) == (side, "completed", 1), ended
            assert ended["eta_seconds"] is None
        assert " completed " in tool(host, "list", "--completed").stdout
        assert guest.name in tool(host, "export", "--completed").stdout
    rig.a.virsh("undefine", guest.name)


@deadline(90)
def test_another_host_is_asked_over_tls(rig):
    guest, migration = in_postcopy(rig)
    far = rig.b.uri("tls")
    there = migrations(rig.a, uri=far)[guest.name]
    assert there["side"] == "destination" and there["latencies"], there
    assert f"from {rig.a.name}" in tool(rig.a, "top", "--once", uri=far).stdout
    assert tool(rig.a, "export", uri=far).stdout.count("_bucket{") > 10
    finish(rig, guest, migration)


@deadline(90)
def test_metrics_are_prometheus_own(rig):
    guest, migration = in_postcopy(rig)
    source, target = (metrics(tool(host, "export").stdout) for host in rig.hosts)
    for side in (source, target):
        assert of_domain(side["libvirt_domain_job_info_type"], guest.name) == [2]
        assert of_domain(side["libvirt_domain_postcopy_link_up"], guest.name) == [1]
        assert of_domain(side["libvirt_domain_job_info_data_total_bytes"], guest.name)[0] > 192 << 20
        assert len(of_domain(side["libvirt_domain_postcopy_sent_bytes_total"], guest.name)) == 3  # main, preempt, bulk
    latency = "libvirt_domain_postcopy_request_latency_seconds"
    buckets = of_domain(target[f"{latency}_bucket"], guest.name)
    assert buckets == sorted(buckets) and buckets[-1] == of_domain(target[f"{latency}_count"], guest.name)[0] > 0
    assert of_domain(target[f"{latency}_sum"], guest.name)[0] > 0
    assert latency + "_bucket" not in source
    finish(rig, guest, migration)


@deadline(90)
def test_textfile_is_whole_whenever_it_is_read(rig):
    """And says when the host does not answer."""
    process = rig.a.popen([PROGRAM, "export", "--textfile", METRICS, "--interval", "1"],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    file = rig.a.path(METRICS)

    def up(value):
        return lambda: file.exists() and metrics(file.read_text())["libvirt_up"] == {frozenset(): value}

    wait_for(up(1), "the first text", 20)
    guest = Guest(rig, 64, rate=2000).start(rig.a)
    migration = begin_in_postcopy(rig, guest, rate=RATE)[0]
    wait_for(lambda: guest.name in file.read_text(), "the migration in it", 20)
    assert file.stat().st_mode & 0o777 == 0o644
    finish(rig, guest, migration)
    rig.a.stop_daemon()
    wait_for(up(0), "libvirt_up 0", 30)
    rig.a.start_daemon()
    wait_for(up(1), "libvirt_up 1 again", 30)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 0 and "virt-postcopy: " in err, (process.returncode, err)
    assert [p.name for p in file.parent.glob("postcopy.prom*")] == ["postcopy.prom"]


@deadline(90)
def test_top_follows_a_migration_to_its_end(rig):
    guest = Guest(rig, 96, rate=2000).start(rig.a)
    watching = [host.popen([PROGRAM, "top", "--batch", "-d", "0.5"], stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE, text=True, env={"COLUMNS": "100"}) for host in rig.hosts]
    migration = begin_in_postcopy(rig, guest, rate=RATE)[0]
    migration.finish()
    arrived(rig, guest)
    time.sleep(2)                                           # two more questions
    for process, side in zip(watching, ("source", "destination")):
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
        assert process.returncode == 0 and not err, (process.returncode, err)
        frames = out.split("\n\n")
        assert all(len(line) <= 100 for line in out.splitlines())
        progress = [(phase, int(p)) for phase, p in re.findall(r"^  (\S+) +\[[#.]+\] +(\d+)%", out, re.M)]
        # before the switch-over pages may have to go again; and the helper counts once a second
        percents = [p for phase, p in progress if phase in ("postcopy-active", "running", "completed")][2:]
        assert len(percents) > 3 and percents == sorted(percents) and percents[-1] == 100, progress
        assert re.search(rf"^{guest.name}   {side}   ", out, re.M) and "  completed   [###" in out
        note(f"{side}: {len(frames)} texts, progress {progress}")


@deadline(60)
def test_a_batch_ends_by_itself_and_tells_whether_there_was_an_answer(rig):
    done = tool(rig.a, "top", "--batch", "-n", "3", "-d", "0.1")
    assert done.stdout.count("No migration is running.") == 3, done.stdout
    done = tool(rig.a, "top", "--once", check=False, uri="postcopy+tls://nowhere.test/system")
    assert done.returncode == 1 and "cannot connect to postcopy+tls://nowhere.test/system" in done.stderr, done


@deadline(90)
def test_terminal_is_as_it_was_however_top_ends(rig):
    for end, status in ((b"q", 0), (b"\x03", 0), (signal.SIGINT, 0), (signal.SIGTERM, 0), (signal.SIGHUP, 0),
                        (signal.SIGQUIT, -signal.SIGQUIT), (signal.SIGABRT, -signal.SIGABRT)):
        screen = Screen(rig.a, "-d", "0.3")
        screen.wait("No migration is running.")
        assert "\033[?1049h\033[?25l" in screen.seen
        if isinstance(end, bytes):
            screen.press(end)
        else:
            screen.process.send_signal(end)
        assert screen.ended() == status, (end, screen.process.returncode)
        screen.close()


@deadline(60)
def test_terminal_that_takes_nothing_does_not_hold_top(rig):
    for end in (b"q", signal.SIGTERM, signal.SIGQUIT):
        screen = Screen(rig.a, "-d", "0.1")
        screen.wait("No migration is running.")
        termios.tcflow(screen.slave, termios.TCOOFF)
        screen.text()
        time.sleep(1)                                       # ten times as long as until the next frame
        assert screen.process.poll() is None
        if isinstance(end, bytes):
            screen.press(end)
        else:
            screen.process.send_signal(end)
        screen.process.wait(20)
        assert screen.settings() == screen.before
        termios.tcflow(screen.slave, termios.TCOON)
        screen.close()


@deadline(60)
def test_screen_follows_its_size(rig):
    screen = Screen(rig.a, "-d", "0.3")
    screen.wait(f"{rig.a.name}   postcopy:///system")
    screen.resize(20, 30)
    screen.process.send_signal(signal.SIGWINCH)         # which the kernel sends to who has it as a terminal
    screen.seen = ""
    screen.wait("postcopy:///system\033[m")             # alone on its line
    screen.press(b"q")
    assert screen.ended() == 0
    screen.close()


@own_rig
@deadline(90)
def test_lost_connection_is_said_and_opened_again(rig):
    screen = Screen(rig.a, "-d", "0.3")
    screen.wait("No migration is running.")
    rig.a.stop_daemon()
    screen.wait("The connection is lost, trying again: ")
    rig.a.start_daemon()
    screen.seen = ""
    screen.wait("No migration is running.")
    wait_for(lambda: "The connection" not in "".join(screen.frame()), "no complaint any more", 20)
    rig.a.daemon.send_signal(signal.SIGSTOP)            # it is there, and does not answer
    try:
        screen.wait("No answer for ")
        screen.press(b"q")
        assert screen.ended() == 0
    finally:
        rig.a.daemon.send_signal(signal.SIGCONT)
    screen.close()


@deadline(60)
def test_where_top_cannot_draw_it_says_what_to_do(rig):
    done = tool(rig.a, "top", check=False)
    assert done.returncode == 1 and "--batch" in done.stderr and not done.stdout, done


@deadline(60)
def test_wrong_words_are_usage_errors(rig):
    for words in (["lsit"], [], ["list", "--nope"], ["list", "vm"], ["top", "-d", "0"], ["top", "-n", "2"],
                  ["export", "--interval", "5"], ["export", "--interval", "-1", "--textfile", METRICS]):
        done = tool(rig.a, *words, check=False)
        assert done.returncode == 2 and "--help" in done.stderr and not done.stdout, (words, done)
    for words in (["--help"], ["list", "--help"], ["top", "--help"], ["--version"], ["export", "--version"]):
        assert tool(rig.a, *words).stdout, words


@own_rig
@deadline(60)
def test_who_may_only_look_may_look(rig):
    """The read-only socket is enough, and nothing more is asked for."""
    guest, migration = in_postcopy(rig)
    command = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", PROGRAM, "list", "--json"]
    said = json.loads(rig.b.run(command).stdout)
    assert [m["domain"] for m in said["migrations"]] == [guest.name], said
    finish(rig, guest, migration)
