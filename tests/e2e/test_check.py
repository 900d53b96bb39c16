# SPDX-License-Identifier: LGPL-2.1-or-later
"""virt-postcopy check, by breaking each thing it looks at, and doing what it says (checking.py)."""
import errno
import os
import re
import signal
import subprocess
import uuid

import pki
import settings
import test_check_machine                           # its cases belong to the table
from checking import CASES, case, check, ids, known_ids, run_cases
from guest import HUGEPAGES, Guest
from harness import deadline, note, own_rig
from host import DAEMON_CONF, INSIDE_BUILD, MIGRATION_PORT, SOURCE, TLS_PORT
from migrating import POSTCOPY, RUN_DIR, stayed
from wait import wait_for

PKI = "/etc/pki"
SERVER_CERT, SERVER_KEY, CLIENT_CERT = (f"{PKI}/{name}" for name in
                                        (pki.SERVER_CERT, pki.SERVER_KEY, pki.CLIENT_CERT))
CRL = f"{PKI}/CA/cacrl.pem"

# What no machine has at hand: other versions, kernels, clocks and security modules. The verdicts are tested
# from facts: {id: (file, test)}.
UNIT = "tests/unit/test-preflight.c"
MEMORY = "tests/unit/test-preflight-memory.c"
FROM_FACTS = {
    "libvirt-old": (UNIT, "test_versions"),
    "libvirt-resume-crash": (UNIT, "test_versions"),
    "qemu-untried": (UNIT, "test_versions"),
    "userfaultfd-features": (UNIT, "test_userfaultfd_may_be_filtered_or_missing"),
    "userfaultfd-root": (UNIT, "test_userfaultfd_of_root_without_capabilities"),
    "apparmor-rule": (UNIT, "test_apparmor_remedy_helps"),
    "selinux-enforcing": (UNIT, "test_selinux_enforcing_is_a_warning"),
    "peer-hugepage-sizes": (MEMORY, "test_sizes_of_huge_pages_on_both_hosts"),
    "domain-hugepages-size": (MEMORY, "test_pages_of_no_size_may_be_others"),
    "peer-clock-differs": (MEMORY, "test_the_other_migration_port"),
}


def test_every_finding_has_a_case(rig):
    assert test_check_machine.ALONE
    known = known_ids(rig.a)
    assert set(CASES) | set(FROM_FACTS) == set(known), set(known) ^ (set(CASES) | set(FROM_FACTS))
    assert not set(CASES) & set(FROM_FACTS)
    for name, (file, function) in FROM_FACTS.items():
        text = (SOURCE / file).read_text()
        constant = "PROBLEM_" + name.upper().replace("-", "_").removesuffix("_DIFFERS")
        assert f"cmocka_unit_test({function})" in text or f"({function}, setup" in text, function
        assert constant in text, constant
    note(f"{len(CASES)} seen on hosts, {len(FROM_FACTS)} from facts")


def test_a_good_host_passes(rig):
    """Both, in both directions, with a guest; nothing but the rig's own short certificates is remarked on."""
    guest = Guest(rig, 64, hot=2, rate=500).start(rig.a)
    for host, other in ((rig.a, rig.b), (rig.b, rig.a)):
        domain = ("--domain", guest.name) if host is rig.a else ()
        status, findings = check(host, "--to", other.uri("tls"), *domain)
        assert status == 0, findings
        assert set(ids(findings)) <= {"certificate-expires-soon", "memlock-limit", "userfaultfd-root"}, findings
        passed = {f["id"]: f["detail"] for f in findings}
        assert passed["peer-port"].startswith(f"{other.name} port {MIGRATION_PORT}, virtpostcopyd "), passed
        assert {"libvirt", "qemu", "userfaultfd", "run-dir", "peer-uuid", "peer-clock"} <= set(passed)
    text = rig.a.run([rig.a.built("virt-postcopy"), "check"]).stdout
    assert re.search(r"^userfaultfd for QEMU's user +: PASS", text, re.M), text
    note(text.rstrip())


def test_what_cannot_be_checked_is_neither_good_nor_bad(rig):
    """Exit status 2: wrong usage, no root, no such domain, no such file."""
    program = rig.a.built("virt-postcopy")
    nobody = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
    for argv, words in (([program, "check", "--domain", "nobody"], "nobody"),
                        ([program, "check", "--config", "/nowhere.conf"], "/nowhere.conf"),
                        ([program, "check", "--to", rig.b.uri("tls"), "--migrateuri", "unix:/x"], "unix"),
                        ([program, "-c", "postcopy:///system", "check"], "--to"),
                        ([program, "check", "more"], "more"),
                        ([program, "check", "--as", "both"], "--as"),
                        ([program, "check", "--as", "destination", "--to", rig.b.uri("tls")], "--to"),
                        ([*nobody, program, "check"], "root")):
        done = rig.a.run(argv, check=False)
        assert done.returncode == 2 and words in done.stderr, (argv, done)


@own_rig
def test_a_host_needs_what_its_role_takes(rig):
    """One that only sends, with no certificate of a server, and one that only receives."""
    def verdicts(*args):
        return {f["id"]: f["verdict"] for f in check(rig.a, *args)[1]}

    cert = rig.a.path(SERVER_CERT)
    before = cert.read_bytes()
    cert.unlink()
    try:
        assert verdicts()["credential-file"] == "fail"
        assert verdicts("--as", "destination")["credential-file"] == "fail"
        source = verdicts("--as", "source")
        assert "fail" not in source.values(), source
        assert "userfaultfd" not in source and "credential-file" not in source, source
        sending = verdicts("--to", rig.b.uri("tls"))
        assert sending["credential-file"] == "warn" and "fail" not in sending.values(), sending
    finally:
        cert.write_bytes(before)
    cert = rig.a.path(CLIENT_CERT)
    before = cert.read_bytes()
    cert.unlink()
    try:
        assert verdicts()["credential-file"] == "fail"
        assert "fail" not in verdicts("--as", "destination").values()
        assert verdicts("--as", "source")["credential-file"] == "fail"
    finally:
        cert.write_bytes(before)


# -- libvirt and the machine --------------------------------------------------------------

@case("libvirt-unreachable", r'run "systemctl start libvirtd"')
def libvirt_unreachable(rig):
    rig.a.stop_libvirtd()
    yield
    rig.a.start_libvirtd()
    yield


@case("qemu-missing", r"install QEMU .* and restart libvirtd")
def qemu_missing(rig):
    """The program is there, but nothing that could be run."""
    program = "/usr/bin/qemu-system-x86_64"
    rig.a.run(["mount", "--bind", "/dev/null", program])
    try:
        rig.a.stop_libvirtd()
        rig.a.start_libvirtd()
        yield
    finally:
        rig.a.run(["umount", program])
        rig.a.stop_libvirtd()
        rig.a.start_libvirtd()
    yield


def add_to_qemu_conf(rig, line):
    conf = rig.a.path("/etc/libvirt/qemu.conf")
    before = conf.read_text()
    conf.write_text(f"{before}{line}\n")
    return conf, before


@case("qemu-tls-force", r"set (migrate_tls_force = 0) in (/etc/libvirt/qemu.conf)")
def qemu_tls_force(rig):
    conf, before = add_to_qemu_conf(rig, "migrate_tls_force = 1")
    try:
        remedy = yield
        rig.a.path(remedy[2]).write_text(f"{before}{remedy[1]}\n")
        yield
    finally:
        conf.write_text(before)


@case("qemu-conf-unreadable", r"correct /etc/libvirt/qemu.conf")
def qemu_conf_unreadable(rig):
    conf, before = add_to_qemu_conf(rig, "user = = nobody")
    try:
        yield
    finally:
        conf.write_text(before)
    yield


def filtered(rig, error):
    wrapper = ["/usr/bin/python3", rig.a.script("filtered.py"), str(error)]
    yield {"wrapper": wrapper}
    yield {"wrapper": []}


@case("userfaultfd-filtered", r"seccomp profile must allow the system call userfaultfd")
def userfaultfd_filtered(rig):
    yield from filtered(rig, errno.EPERM)


@case("userfaultfd-kernel", r"CONFIG_USERFAULTFD=y")
def userfaultfd_kernel(rig):
    """What a kernel without it answers."""
    yield from filtered(rig, errno.ENOSYS)


def start_libvirtd_with(rig, *prefix):
    rig.a.stop_libvirtd()
    rig.a.libvirtd = rig.a._start("libvirtd", [*prefix, "libvirtd", "-l"], "libvirt-sock")


def limited(kib):
    """May lock so much, and may not raise that."""
    return (f"prlimit --memlock={kib << 10} setpriv --bounding-set=-sys_resource "
            f"--inh-caps=-sys_resource").split()


LOCKED = "<memoryBacking><locked/></memoryBacking>"


def restart_plain(rig):
    rig.a.stop_libvirtd()
    rig.a.start_libvirtd()


@case("domain-memlock-limit", r"LimitMEMLOCK=infinity")
def domain_memlock_limit(rig):
    """The limit is lifted as far as this machine lets it be, which is far enough for the guest."""
    guest = Guest(rig, 4, memory_backing=LOCKED)
    file = f"/tmp/{guest.name}.xml"
    rig.a.path(file).write_text(guest.xml())
    try:
        start_libvirtd_with(rig, *limited(2048))
        rig.a.virsh("define", file)
        yield {"args": ["--domain", guest.name]}
        start_libvirtd_with(rig, *limited(8192))
        yield
    finally:
        restart_plain(rig)
        rig.a.virsh("undefine", guest.name)


@case("memlock-limit", r"LimitMEMLOCK=infinity in its unit, or with CAP_SYS_RESOURCE")
def memlock_limit(rig):
    start_libvirtd_with(rig, *limited(2048))
    yield
    if may_lift_limits():
        start_libvirtd_with(rig, "prlimit", "--memlock=unlimited")
        yield
    else:
        note("memlock-limit: this machine itself may lock no more, so its remedy was not done")
        yield {"host": NoFinding(rig.a)}
    restart_plain(rig)


def may_lift_limits():
    return subprocess.run(["prlimit", "--memlock=unlimited", "true"], capture_output=True,
                          check=False).returncode == 0


class NoFinding:
    """A host that is not asked any more."""

    def __init__(self, host):
        self.built = host.built

    @staticmethod
    def run(argv, check=True):
        return subprocess.CompletedProcess(argv, 0, '{"verdict": "pass", "findings": []}', "")


@deadline(400)
@own_rig
def test_libvirt_and_the_machine(rig):
    run_cases(rig, "libvirt-unreachable", "qemu-missing", "qemu-tls-force", "qemu-conf-unreadable",
              "userfaultfd-filtered", "userfaultfd-kernel", "domain-memlock-limit", "memlock-limit")


# -- certificates and keys ----------------------------------------------------------------

def restore(rig):
    pki.install(rig.a.path(PKI), rig.ca, server=rig.a.certificate, client=rig.a.certificate)
    rig.a.path(CRL).unlink(missing_ok=True)


def replaced(rig, authority=None, **roles):
    """Other files are installed; the remedy is to have them made anew."""
    pki.install(rig.a.path(PKI), authority or rig.ca, **roles)
    try:
        yield
        fresh = rig.ca.issue(rig.a.name, [rig.a.ip], "both")
        pki.install(rig.a.path(PKI), rig.ca, server=fresh, client=fresh)
        yield
    finally:
        restore(rig)


@case("credential-file", rf"put it at ({SERVER_CERT})")
def credential_file(rig):
    cert = rig.a.path(SERVER_CERT)
    cert.unlink()
    try:
        remedy = yield
        pki.put(rig.a.certificate.cert, rig.a.path(remedy[1]))
        yield
    finally:
        restore(rig)


@case("credential-malformed", rf"put the key at ({SERVER_KEY}) again, in PEM form")
def credential_malformed(rig):
    rig.a.path(SERVER_KEY).write_text("-----BEGIN RSA PRIVATE KEY-----\nnone\n")
    try:
        remedy = yield
        pki.put(rig.a.certificate.key, rig.a.path(remedy[1]), 0o600)
        yield
    finally:
        restore(rig)


@case("ca-invalid", rf"put the certificate of the authority at ({PKI}/CA/cacert.pem)")
def ca_invalid(rig):
    pki.put(rig.a.certificate.cert, rig.a.path(f"{PKI}/{pki.CA_CERT}"))
    try:
        remedy = yield
        pki.put(rig.ca.own.cert, rig.a.path(remedy[1]))
        yield
    finally:
        restore(rig)


@case("ca-expired", rf"make the authority's certificate anew, and put it at ({PKI}/CA/cacert.pem)")
def ca_expired(rig):
    now = rig.ca._now()
    old = rig.authority("Old CA", begins=now - 9 * pki.DAY, ends=now - pki.DAY)
    cert = old.issue(rig.a.name, [rig.a.ip], "both")
    pki.install(rig.a.path(PKI), old, server=cert, client=cert)
    try:
        remedy = yield
        old.renew()
        pki.put(old.own.cert, rig.a.path(remedy[1]))
        yield
    finally:
        restore(rig)


@case("certificate-expired", rf'issue {CLIENT_CERT} anew, with "tls_www_client"')
def certificate_expired(rig):
    yield from replaced(rig, client=rig.ca.expired(rig.a.name, purpose="client"))


@case("certificate-early", r'timedatectl set-ntp true"\); if that is right, wait')
def certificate_early(rig):
    begins = rig.ca._now() + pki.DAY / 24 / 60 / 4      # 15 s
    pki.install(rig.a.path(PKI), rig.ca, server=rig.ca.issue(rig.a.name, [rig.a.ip], begins=begins))
    try:
        yield
        wait_for(lambda: rig.ca._now() > begins, "the certificate's day", 60)
        yield
    finally:
        restore(rig)


@case("certificate-expires-soon", r'issue \S+ anew, with "tls_www_(server|client)"')
def certificate_expires_soon(rig):
    """All that the rig makes do."""
    try:
        yield
        fresh = rig.ca.issue(rig.a.name, [rig.a.ip], "both", ends=rig.ca._now() + 300 * pki.DAY)
        pki.install(rig.a.path(PKI), rig.ca, server=fresh, client=fresh)
        yield
    finally:
        restore(rig)


@case("certificate-purpose", rf'issue {SERVER_CERT} anew, with "tls_www_server" and "signing_key"')
def certificate_purpose(rig):
    yield from replaced(rig, server=rig.ca.issue(rig.a.name, [rig.a.ip], "client"))


@case("certificate-untrusted", rf"have {SERVER_CERT} issued by the one that is there")
def certificate_untrusted(rig):
    yield from replaced(rig, server=rig.authority("Other CA").issue(rig.a.name, [rig.a.ip]))


@case("certificate-revoked", r"issue \S+ anew")
def certificate_revoked(rig):
    pki.put(rig.ca.revocation_list(rig.a.certificate), rig.a.path(CRL))
    yield from replaced(rig)


@case("certificate-name", r"set host_name in virtpostcopyd.conf to a name in the certificate")
def certificate_name(rig):
    pki.install(rig.a.path(PKI), rig.ca, server=rig.ca.wrong_name())
    try:
        yield
        rig.a.write_daemon_conf(host_name="elsewhere.test")
        yield
    finally:
        rig.a.write_daemon_conf()
        restore(rig)


@case("crl-invalid", rf"or remove ({CRL})")
def crl_invalid(rig):
    pki.put(rig.authority("Other CA").revocation_list(), rig.a.path(CRL))
    try:
        remedy = yield
        rig.a.path(remedy[1]).unlink()
        yield
    finally:
        restore(rig)


@case("crl-outdated", rf"put it at ({CRL})")
def crl_outdated(rig):
    pki.put(rig.ca.revocation_list(next_update=-pki.DAY), rig.a.path(CRL))
    try:
        remedy = yield
        pki.put(rig.ca.revocation_list(), rig.a.path(remedy[1]))
        yield
    finally:
        restore(rig)


@case("key-mismatch", rf"put the key that the certificate was made with at ({SERVER_KEY})")
def key_mismatch(rig):
    pki.put(rig.b.certificate.key, rig.a.path(SERVER_KEY), 0o600)
    try:
        remedy = yield
        pki.put(rig.a.certificate.key, rig.a.path(remedy[1]), 0o600)
        yield
    finally:
        restore(rig)


def do(rig, remedy):
    """The command that it says in quotes."""
    rig.a.run(["sh", "-c", remedy[1]])


@case("key-permissions", rf'run "(chmod 600 {SERVER_KEY})"')
def key_permissions(rig):
    rig.a.path(SERVER_KEY).chmod(0o644)
    do(rig, (yield))
    yield


@case("psk-identity", r'run "(psktool -u me -p /etc/libvirt/postcopy.psk)"')
def psk_identity(rig):
    path = "/etc/libvirt/postcopy.psk"
    pki.make_psk(rig.a.path(path), {"another": os.urandom(32)})
    rig.a.write_daemon_conf(migration_auth="psk", migration_psk_file=path, migration_psk_identity="me")
    try:
        do(rig, (yield))
        yield
    finally:
        rig.a.write_daemon_conf()


@deadline(400)
def test_certificates_and_keys(rig):
    run_cases(rig, "credential-file", "credential-malformed", "ca-invalid", "ca-expired", "certificate-expired",
              "certificate-early", "certificate-expires-soon", "certificate-purpose", "certificate-untrusted",
              "certificate-revoked", "certificate-name", "crl-invalid", "crl-outdated", "key-mismatch",
              "key-permissions", "psk-identity")


# -- the daemon and what it needs ---------------------------------------------------------

@case("daemon-down", r'run "systemctl enable --now virtpostcopyd.socket')
def daemon_down(rig):
    rig.a.stop_daemon()
    yield
    rig.a.start_daemon()
    yield


LISTENER = "import socket, sys; s = socket.create_server(('', int(sys.argv[1]))); print(flush=True); " \
           "[s.accept()[0].close() for _ in iter(int, 1)]"


@case("migration-port-taken", rf'stop it \("(ss -tlnp sport = {MIGRATION_PORT})" says what it is\)')
def migration_port_taken(rig):
    rig.a.stop_daemon()
    other = rig.a.popen(["/usr/bin/python3", "-c", LISTENER, str(MIGRATION_PORT)], stdout=subprocess.PIPE)
    try:
        other.stdout.readline()
        remedy = yield
        assert "python3" in rig.a.run(["sh", "-c", remedy[1]]).stdout
    finally:
        other.send_signal(signal.SIGKILL)
        other.communicate()
        rig.a.start_daemon()
    yield


def changed_conf(rig, **changes):
    """The file says something else than the daemon that runs knows."""
    rig.a.write_daemon_conf(**changes)
    try:
        yield
        rig.a.restart_daemon()
        yield
    finally:
        rig.a.write_daemon_conf()
        rig.a.restart_daemon()


@case("migration-port-silent", r'run "systemctl restart virtpostcopyd"')
def migration_port_silent(rig):
    yield from changed_conf(rig, migration_port=16999)


@case("migration-address", r'set migration_address .* to "(::)" for all of them, and restart')
def migration_address(rig):
    rig.a.write_daemon_conf(migration_address="192.0.2.77")
    remedy = yield
    rig.a.restart_daemon(migration_address=remedy[1])
    yield
    rig.a.restart_daemon(migration_address=None)


@case("tls-port-closed", r"or set listen_tls = 1 in virtpostcopyd.conf and restart")
def tls_port_closed(rig):
    rig.a.restart_daemon(listen_tls=0)
    yield
    rig.a.restart_daemon(listen_tls=1)
    yield


@case("run-dir-missing", r'run "systemctl restart virtpostcopyd", which makes it')
def run_dir_missing(rig):
    yield from changed_conf(rig, run_dir="/run/elsewhere")


@case("run-dir-access", rf'run "(chmod o\+x {RUN_DIR})"')
def run_dir_access(rig):
    rig.a.virsh("list", uri=rig.a.uri())        # served, so the daemon has made its directory
    rig.a.path(RUN_DIR).chmod(0o700)
    do(rig, (yield))
    yield
    rig.a.path(RUN_DIR).chmod(0o711)


@case("helper-missing", r"or set helper_path in virtpostcopyd.conf")
def helper_missing(rig):
    rig.a.write_daemon_conf(helper_path="/usr/local/no/virt-postcopy-helper")
    yield
    rig.a.write_daemon_conf()
    yield


@case("helper-mode", r'run "(chmod 755 /tmp/helper)"')
def helper_mode(rig):
    rig.a.run(["install", "-m", "644", rig.a.built("virt-postcopy-helper"), "/tmp/helper"])
    rig.a.write_daemon_conf(helper_path="/tmp/helper")
    do(rig, (yield))
    yield
    rig.a.write_daemon_conf()


@case("helper-user-missing", r'or "(useradd --system .* nobody-yet)"')
def helper_user_missing(rig):
    rig.a.write_daemon_conf(helper_user="nobody-yet")
    do(rig, (yield))
    yield
    rig.a.write_daemon_conf()


@deadline(400)
@own_rig
def test_daemon_and_what_it_needs(rig):
    run_cases(rig, "daemon-down", "migration-port-taken", "migration-port-silent", "migration-address",
              "tls-port-closed", "run-dir-missing", "run-dir-access", "helper-missing", "helper-mode",
              "helper-user-missing")


# -- the other host -----------------------------------------------------------------------

def to(uri, *more):
    return {"args": ["--to", uri, *more]}


@case("peer-uri", r"such as (postcopy\+tls)://HOST/system")
def peer_uri(rig):
    remedy = yield to(rig.b.uri("tls", "qemu"))
    yield to(f"{remedy[1]}://{rig.b.name}/system")


@case("peer-name", r"add (\S+) to the DNS or to (/etc/hosts) of this host")
def peer_name(rig):
    hosts = rig.a.path("/etc/hosts")
    before = hosts.read_text()
    hosts.write_text("".join(line for line in before.splitlines(True) if rig.b.name6 not in line))
    try:
        remedy = yield to(rig.b.uri("tls", v6=True))
        with rig.a.path(remedy[2]).open("a") as file:
            file.write(f"{rig.b.ip6} {remedy[1]}\n")
        yield
    finally:
        hosts.write_text(before)


def firewall(rig, port):
    rule = ["INPUT", "-p", "tcp", "--dport", str(port), "-j", "REJECT"]
    rig.b.run(["iptables", "-A", *rule])
    try:
        remedy = yield to(rig.b.uri("tls"))
        assert remedy[1] == str(port)
    finally:
        rig.b.run(["iptables", "-D", *rule])
    yield


@case("peer-rpc-port", r"open port (\d+) in the firewalls")
def peer_rpc_port(rig):
    yield from firewall(rig, TLS_PORT)


@case("peer-port-closed", r"open port (\d+) of hostb.test in the firewalls")
def peer_port_closed(rig):
    yield from firewall(rig, MIGRATION_PORT)


@case("peer-rpc-tls", r'run "virt-postcopy check" on hostb.test, .* of one authority')
def peer_rpc_tls(rig):
    other = rig.authority("Other CA")
    pki.install(rig.b.path(PKI), other, server=other.issue(rig.b.name, [rig.b.ip]))
    rig.b.restart_daemon()
    try:
        yield to(rig.b.uri("tls"))
    finally:
        pki.install(rig.b.path(PKI), rig.ca, server=rig.b.certificate)
        rig.b.restart_daemon()
    yield


FAKE_SSH = '#!/bin/sh\nwhile [ "$1" != -- ]; do shift; done\nshift 2\n'


@case("peer-rpc-auth", r"let this user or host in on \S+ \(ssh keys")
def peer_rpc_auth(rig):
    """An ssh that knows no key, then one that leads to this host."""
    ssh = rig.a.path("/tmp/ssh")
    ssh.write_text('#!/bin/sh\necho "Permission denied (publickey)." >&2\nexit 255\n')
    ssh.chmod(0o755)
    yield to(f"postcopy+ssh://{rig.b.name}/system?command=/tmp/ssh")
    ssh.write_text(f'{FAKE_SSH}exec sh -c "$*"\n')
    yield


@case("peer-rpc-driver", r"give virtpostcopyd another \(tls_port\) and name it in the URI")
def peer_rpc_driver(rig):
    """libvirtd's own port."""
    yield to(f"postcopy+tcp://{rig.b.name}:16509/system")
    yield to(rig.b.uri("tcp"))


@case("peer-rpc-failed", r'see the log of virtpostcopyd on hostb.test')
def peer_rpc_failed(rig):
    rig.b.stop_libvirtd()
    yield to(rig.b.uri("tls"))
    assert "cannot connect to libvirtd" in rig.b.log("virtpostcopyd.out")
    rig.b.start_libvirtd()
    yield


@case("peer-port-tls", r'run "(virt-postcopy check)" on hostb.test as well')
def peer_port_tls(rig):
    """A certificate that has expired since the daemon read it: only sessions read it again."""
    pki.install(rig.b.path(PKI), rig.ca, server=rig.ca.expired(rig.b.name, [rig.b.ip]))
    try:
        yield to(rig.b.uri("tls"))
        assert "certificate-expired" in ids(check(rig.b)[1])
    finally:
        pki.install(rig.b.path(PKI), rig.ca, server=rig.b.certificate)
    yield


@case("peer-uuid-equal", r'set host_uuid in the libvirtd.conf .* to what "(uuidgen)" prints')
def peer_uuid_equal(rig):
    conf = rig.b.path("/etc/libvirt/libvirtd.conf")
    before = conf.read_text()
    ours = re.search(r'host_uuid = "(.*)"', rig.a.path("/etc/libvirt/libvirtd.conf").read_text())[1]

    def set_uuid(text):
        conf.write_text(re.sub(r'host_uuid = ".*"', f'host_uuid = "{text}"', before))
        rig.b.stop_libvirtd()
        rig.b.start_libvirtd()

    set_uuid(ours)
    yield to(rig.b.uri("tls"))
    set_uuid(uuid.uuid4())
    yield


@deadline(400)
@own_rig
def test_the_other_host(rig):
    run_cases(rig, "peer-uri", "peer-name", "peer-rpc-port", "peer-port-closed", "peer-rpc-tls", "peer-rpc-auth",
              "peer-rpc-driver", "peer-rpc-failed", "peer-port-tls", "peer-uuid-equal")


@own_rig
def test_the_name_that_migrations_are_given_is_the_one_that_is_tried(rig):
    """Not the name that libvirt has for the other host."""
    rig.b.restart_daemon(host_name="elsewhere.test")
    try:
        status, findings = check(rig.a, "--to", rig.b.uri("tls"))
        assert status == 1, findings
        closed = next(f for f in findings if f["id"] == "peer-port-closed")
        assert "elsewhere.test" in closed["detail"], closed
        assert check(rig.a, "--to", rig.b.uri("tls"), "--migrateuri", f"tcp://{rig.b.name}")[0] == 0
        note(closed["detail"])
    finally:
        rig.b.restart_daemon(host_name=None)
    assert check(rig.a, "--to", rig.b.uri("tls"))[0] == 0


# -- domains ------------------------------------------------------------------------------

@case("domain-hugepages-missing", r"set at least (\d+) more of them aside on hostb.test")
def domain_hugepages_missing(rig):
    """Others on this machine may have set some aside: the guest takes more than those."""
    free = int(settings.HUGEPAGE_POOL.with_name("free_hugepages").read_text())
    sized = HUGEPAGES.replace("<hugepages/>", "<hugepages><page size='2048'/></hugepages>")
    guest = Guest(rig, 2 * free + 64, memory_backing=sized, machine="pc")
    file = f"/tmp/{guest.name}.xml"
    rig.a.path(file).write_text(guest.xml())
    rig.a.virsh("define", file)
    try:
        remedy = yield {"args": ["--to", rig.b.uri("tls"), "--domain", guest.name], "verdict": "warn"}
        with rig.hugepages(2 * int(remedy[1])):
            yield
    finally:
        rig.a.virsh("undefine", guest.name)


@deadline(200)
def test_huge_pages_for_a_domain(rig):
    run_cases(rig, "domain-hugepages-missing")


def test_domain_that_a_destination_may_refuse(rig):
    """Memory on a file on a disk: of a defined domain it can be told before it runs."""
    conf = rig.a.path("/etc/libvirt/qemu.conf")
    before = conf.read_text()
    conf.write_text(f'{before}memory_backing_dir = "{INSIDE_BUILD}"\n')
    guest = Guest(rig, 64, memory_backing="<memoryBacking><source type='file'/></memoryBacking>")
    file = f"/tmp/{guest.name}.xml"
    rig.a.path(file).write_text(guest.xml())
    rig.a.virsh("define", file)
    try:
        status, findings = check(rig.a, "--domain", guest.name)
        said = [f for f in findings if f["id"] == "memory-file-backed"]
        assert status == 0 and len(said) == 1 and said[0]["verdict"] == "warn" and said[0]["remedy"], findings
        note(f"{said[0]['id']}: {said[0]['detail']}: {said[0]['remedy']}")
        rig.a.path(file).write_text(guest.xml().replace("<source type='file'/>", "<source type='memfd'/>"))
        rig.a.virsh("define", file)
        status, findings = check(rig.a, "--domain", guest.name)
        assert status == 0 and "memory-file-backed" not in ids(findings), findings
    finally:
        conf.write_text(before)
        rig.a.virsh("undefine", guest.name)


# -- the same before a migration ----------------------------------------------------------

@deadline(200)
@own_rig
def test_a_migration_is_refused_in_the_words_of_the_check(rig):
    """On the host it is about, before the guest is touched; and it goes when the remedy is done."""
    guest = Guest(rig, 64, hot=2, rate=500).start(rig.a)

    def refused(host, name, *options):
        finding = next(f for f in check(host)[1] if f["id"] == name)
        migration = guest.migrate(rig.a, rig.b, *POSTCOPY, "--postcopy-after-precopy", *options, check=False)
        words = f"{host.name}: {finding['detail']}: {finding['remedy']}"
        assert migration.status != 0 and words in migration.stderr, (words, migration.stderr)
        note(migration.stderr.strip())
        stayed(rig, guest)

    for options in ((), ("--p2p",)):
        rig.b.path(RUN_DIR).chmod(0o700)
        refused(rig.b, "run-dir-access", *options)
        rig.b.path(RUN_DIR).chmod(0o711)
        pki.install(rig.a.path(PKI), rig.ca, client=rig.ca.expired(rig.a.name, purpose="client"))
        refused_by_source(rig, guest, "certificate-expired", *options)
        pki.install(rig.a.path(PKI), rig.ca, client=rig.a.certificate)
    rig.a.write_daemon_conf()
    guest.migrate(rig.a, rig.b)
    guest.verdict(rig.b)
    assert "certificate-expires-soon: certificate" in rig.b.log("virtpostcopyd.out")
    assert rig.a.path(DAEMON_CONF).exists()


def refused_by_source(rig, guest, name, *options):
    """By TCP: a client that uses the same certificate does not get as far over TLS."""
    finding = next(f for f in check(rig.a)[1] if f["id"] == name)
    migration = guest.migrate(rig.a, rig.b, *POSTCOPY, *options, check=False, transport="tcp")
    words = f"{rig.a.name}: {finding['detail']}: {finding['remedy']}"
    assert migration.status != 0 and words in migration.stderr, (words, migration.stderr)
    stayed(rig, guest)
