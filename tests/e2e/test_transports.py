# SPDX-License-Identifier: LGPL-2.1-or-later
"""The ways to the daemon, and who is let in by them."""
import contextlib
import signal
import socket

import pki
import rpc_client as rpc
from guest import Guest
from harness import note, own_rig
from host import TCP_PORT, TLS_PORT
from rpc_client import RpcClient
from wait import wait_for

NOBODY = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]

# ssh that goes nowhere: `ssh OPTION… -- HOST COMMAND…` gives the words to a shell, as sshd does.
FAKE_SSH = """#!/bin/sh
echo "$@" >> /tmp/fake-ssh.log
while [ "$1" != -- ]; do shift; done
shift 2
exec sh -c "$*"
"""

# A TLS client that shows its certificate, even to a server whose list of authorities lacks the
# issuer: prints the server's byte of welcome, or nothing.
STUBBORN = """
import socket, ssl, sys
host, port, directory = sys.argv[1:]
context = ssl.create_default_context(cafile=f"{directory}/cacert.pem")
context.load_cert_chain(f"{directory}/clientcert.pem", f"{directory}/clientkey.pem")
try:
    with context.wrap_socket(socket.create_connection((host, int(port)), 5), server_hostname=host) as tls:
        print(tls.recv(1).hex())
except OSError as error:
    print(error)
"""

# A client that connects and says nothing until its standard input ends.
SILENT = """
import socket, sys
sock = socket.create_connection((sys.argv[1], int(sys.argv[2])), 5)
print("connected", flush=True)
sys.stdin.read()
"""


def virsh(host, uri, *args, user=(), check=True):
    return host.run([*user, "virsh", "-q", "-c", uri, *args], check=check)


def refused(host, uri, *args, because, user=()):
    """The client is told so and fails."""
    done = virsh(host, uri, *args, user=user, check=False)
    assert done.returncode == 1 and because in done.stderr, f"{because!r} expected: {done}"


def works(host, uri, *args, user=(), server="hosta.test"):
    assert virsh(host, uri, *args, "hostname", user=user).stdout.strip() == server


def daemon_says(host, text, function):
    """The daemon's log has the text after the function was called."""
    seen = len(host.log("virtpostcopyd.out"))
    function()
    wait_for(lambda: text in host.log("virtpostcopyd.out")[seen:],
             lambda: f"{text!r} in the log; it says {host.log('virtpostcopyd.out')[seen:]}", 5)


# -- in the host ----------------------------------------------------------------------


def test_unix_and_ssh_lead_to_the_daemon(rig):
    works(rig.a, "postcopy:///system")
    works(rig.a, "postcopy+unix:///system?socket=/run/libvirt/virtpostcopyd-sock")
    fake = rig.a.path("/tmp/fake-ssh")
    fake.write_text(FAKE_SSH)
    fake.chmod(0o755)
    works(rig.a, "postcopy+ssh://hosta.test/system?command=/tmp/fake-ssh")
    assert "virt-ssh-helper 'postcopy:///system'" in rig.a.path("/tmp/fake-ssh.log").read_text()


def test_other_names_are_refused_as_libvirt_does(rig):
    for name in ("session", "elsewhere", ""):
        refused(rig.a, f"postcopy:///{name}", "list",
                because=f"unexpected postcopy URI path '/{name}', try postcopy:///system")
    for scheme in ("qemu", "xen", "test"):
        refused(rig.a, f"{scheme}+unix:///system?socket=/run/libvirt/virtpostcopyd-sock", "list",
                because=f"no connection driver available for {scheme}:///system")
    # the client stays connected: it may ask for something else
    with RpcClient(rig.a.path("/run/libvirt/virtpostcopyd-sock")) as client:
        for name, code in (("postcopy:///session", (1, 10)), ("test:///default", (5, 0)), (None, (5, 0))):
            try:
                client.open(name)
            except ConnectionError as error:
                assert str(code)[:-1] in str(error), error
            else:
                raise AssertionError(f"{name} was opened")
        client.open()


def test_readonly_client_may_look_and_not_touch(rig):
    guest = Guest(rig, 32).start(rig.a, ready=False)
    assert guest.name in virsh(rig.a, rig.a.uri(), "-r", "list").stdout
    for user in ((), NOBODY):
        for uri in (rig.a.uri(), rig.a.uri(scheme="qemu")):
            refused(rig.a, uri, "-r", "destroy", guest.name, user=user,
                    because="operation forbidden: read only access prevents virDomainDestroy")
    refused(rig.b, rig.a.uri("tls"), "-r", "destroy", guest.name, because="read only access prevents")
    # libvirt's client refuses some by itself; what reaches the server is refused there
    with RpcClient(rig.a.path("/run/libvirt/virtpostcopyd-sock-ro")) as client:
        client.open()                   # without the read-only flag, which the socket implies
        code, _, message = client.call(rpc.DOMAIN_DESTROY, rpc.xdr_domain(guest.name, guest.uuid)).error
        assert code == 29 and "read only access" in message, message
    assert guest.name in rig.a.domains()


def test_permissions_of_the_sockets(rig):
    refused(rig.a, rig.a.uri(), "list", user=NOBODY,
            because="Failed to connect socket to '/var/run/libvirt/virtpostcopyd-sock': Permission denied")
    works(rig.a, rig.a.uri(), "-r", user=NOBODY)
    modes = [oct(rig.a.path(f"/run/libvirt/virtpostcopyd-sock{suffix}").stat().st_mode)
             for suffix in ("", "-ro")]
    assert modes == ["0o140700", "0o140777"], modes


@own_rig
def test_permissions_of_the_sockets_can_be_set(rig):
    rig.a.restart_daemon(unix_sock_group="nogroup", unix_sock_rw_perms="0770", unix_sock_ro_perms="0700")
    works(rig.a, rig.a.uri(), user=NOBODY)          # the daemon tells libvirtd who it is
    assert "uid 65534" in rig.a.log("virtpostcopyd.out")
    refused(rig.a, rig.a.uri(), "-r", "list", user=NOBODY, because="Permission denied")
    rig.a.restart_daemon(unix_sock_rw_perms="0777")
    assert "unix_sock_rw_perms is 0777" in rig.a.log("virtpostcopyd.out")
    works(rig.a, rig.a.uri(), user=NOBODY)


# -- from the other host --------------------------------------------------------------


def test_tcp(rig):
    works(rig.b, rig.a.uri("tcp"))
    works(rig.b, rig.a.uri("tcp", v6=True))
    refused(rig.b, f"postcopy+tcp://{rig.a.name}:{TCP_PORT}/session", "list",
            because="unexpected postcopy URI path")


def client_uri(rig, certificate, authority):
    """Connects with this certificate from b to a, without libvirt's own check of it."""
    directory = f"/tmp/pki-{rig.b.next_number()}"
    rig.b.path(directory).mkdir()
    pki.put(authority.own.cert, rig.b.path(f"{directory}/cacert.pem"))
    if certificate:
        pki.put(certificate.cert, rig.b.path(f"{directory}/clientcert.pem"))
        pki.put(certificate.key, rig.b.path(f"{directory}/clientkey.pem"))
    return f"{rig.a.uri('tls')}?no_sanity=1&pkipath={directory}"


def test_tls(rig):
    works(rig.b, rig.a.uri("tls"))
    works(rig.b, rig.a.uri("tls", v6=True))
    works(rig.b, f"postcopy://{rig.a.name}/system")         # TLS is what libvirt takes by itself
    works(rig.b, f"postcopy+tls://{rig.a.ip}/system")
    works(rig.b, client_uri(rig, rig.ca.issue("somebody.test", purpose="client"), rig.ca))


def test_tls_client_without_a_good_certificate_is_refused(rig):
    for certificate, text in (
            (None, "the peer presented no certificate"),
            (rig.ca.expired("late.test", purpose="client"), "(O=Post-copy tests,CN=late.test) expired on"),
            (rig.ca.not_yet_valid("early.test", purpose="client"), "CN=early.test) is not valid before"),
            (rig.ca.issue("server.test", purpose="server"), "CN=server.test) is not for a TLS client")):
        uri = client_uri(rig, certificate, rig.ca)
        daemon_says(rig.a, text, lambda u=uri: refused(rig.b, u, "list", because="Unable to read TLS confirmation"))
    works(rig.b, rig.a.uri("tls"))


def test_tls_client_of_an_unknown_authority_is_refused(rig):
    stranger = rig.authority("Other CA").issue("stranger.test", purpose="client")
    uri = client_uri(rig, stranger, rig.ca)
    directory = uri.partition("pkipath=")[2]

    def knock():
        return rig.b.run(["/usr/bin/python3", "-c", STUBBORN, rig.a.name, TLS_PORT, directory]).stdout.strip()

    daemon_says(rig.a, "CN=stranger.test", lambda: note(f"it heard: {knock()}"))
    assert knock() != "01"
    refused(rig.b, uri, "list", because="Unable to read TLS confirmation")
    directory = client_uri(rig, rig.b.certificate, rig.ca).partition("pkipath=")[2]
    assert knock() == "01"


@own_rig
def test_tls_client_not_on_the_list_is_refused(rig):
    listed, other = (rig.ca.issue(name, purpose="client") for name in ("listed.test", "other.test"))
    rig.a.restart_daemon(tls_allowed_dn_list=["CN=nobody", listed.dn])
    works(rig.b, client_uri(rig, listed, rig.ca))
    uri = client_uri(rig, other, rig.ca)
    daemon_says(rig.a, other.dn,
                lambda: refused(rig.b, uri, "list", because="Unable to read TLS confirmation"))


@own_rig
def test_sighup_reads_certificates_again(rig):
    """New clients meet the new certificate; those that are connected stay. A broken file leaves
    the old ones in force."""
    other = rig.authority("Other CA")
    certificate = other.issue(rig.a.name, [rig.a.ip], "both")
    with_old, with_new = client_uri(rig, rig.b.certificate, rig.ca), client_uri(rig, certificate, other)
    with open(rig.b.path("/tmp/connected"), "wb") as out:
        connected = rig.b.popen(["stdbuf", "-oL", "virsh", "-c", with_old], stdin=-1, stdout=out, text=True)
    connected.stdin.write("hostname\n")
    connected.stdin.flush()
    wait_for(lambda: rig.b.path("/tmp/connected").read_text().count("hosta.test") == 1, "a connected client")

    pki.install(rig.a.path("/etc/pki"), other, server=certificate)
    refused(rig.b, with_new, "list", because="Failed to verify peer's certificate")
    daemon_says(rig.a, "TLS credentials were read again", lambda: rig.a.daemon.send_signal(signal.SIGHUP))
    works(rig.b, with_new)
    refused(rig.b, with_old, "list", because="Failed to verify peer's certificate")

    rig.a.path("/etc/pki/libvirt/servercert.pem").write_text("not a certificate\n")
    daemon_says(rig.a, "/etc/pki/libvirt/servercert.pem", lambda: rig.a.daemon.send_signal(signal.SIGHUP))
    works(rig.b, with_new)

    out, _ = connected.communicate("hostname\nquit\n", timeout=10)
    assert connected.returncode == 0
    assert rig.b.path("/tmp/connected").read_text().count("hosta.test") == 2


def test_tls_port_takes_no_other_protocol(rig):
    """What does not speak TLS is closed, what says nothing waits for nobody's harm."""
    def garbage():
        with socket.create_connection((rig.a.ip, TLS_PORT), 5) as sock:
            sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
            with contextlib.suppress(ConnectionResetError):
                while sock.recv(4096):
                    pass

    with_silence = [rig.b.popen(["/usr/bin/python3", "-c", SILENT, rig.a.ip, port], stdin=-1, stdout=-1)
                    for port in (TLS_PORT, TCP_PORT)]
    try:
        for client in with_silence:
            assert client.stdout.readline() == b"connected\n"
        daemon_says(rig.a, "client sent away (192.0.2.2", lambda: rig.b.ns.call(garbage))
        works(rig.b, rig.a.uri("tls"))
        works(rig.b, rig.a.uri("tcp"))
    finally:
        for client in with_silence:
            client.communicate()
