# SPDX-License-Identifier: LGPL-2.1-or-later
"""Certificates made at run time, good ones and bad ones, in libvirt's file layout."""
import datetime
import pathlib
import shutil
import subprocess

CA_CERT = "CA/cacert.pem"
SERVER_CERT, SERVER_KEY = "libvirt/servercert.pem", "libvirt/private/serverkey.pem"
CLIENT_CERT, CLIENT_KEY = "libvirt/clientcert.pem", "libvirt/private/clientkey.pem"

DAY = datetime.timedelta(days=1)


def _certtool(*args):
    done = subprocess.run(["certtool", *map(str, args)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"certtool {' '.join(map(str, args))}: {done.stderr.strip()}")


class Certificate:
    """A certificate and its key, as files. dn is what libvirt's allow-lists compare."""

    def __init__(self, stem, dn):
        self.cert = pathlib.Path(f"{stem}-cert.pem")
        self.key = pathlib.Path(f"{stem}-key.pem")
        self.dn = dn


class Authority:
    """A certificate authority that works in the given directory."""

    def __init__(self, directory, name="Test CA", begins=None, ends=None):
        self.name = name
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(mode=0o700, parents=True)
        self.count = 0
        self.own = None
        self.renew(begins, ends)

    def renew(self, begins=None, ends=None):
        """A new certificate of its own, for the key that it has."""
        self.own = self._make(f"CN={self.name}", ["ca", "cert_signing_key", "crl_signing_key"],
                              begins or self._now() - DAY, ends or self._now() + 30 * DAY, issuer=None,
                              key=self.own and self.own.key)

    @staticmethod
    def _now():
        return datetime.datetime.now(datetime.timezone.utc)

    def _make(self, dn, lines, begins, ends, issuer, key=None):
        self.count += 1
        made = Certificate(self.directory / f"{self.count:03}", dn)
        template = self.directory / f"{self.count:03}.template"
        organisation = "Post-copy tests"
        made.dn = f"O={organisation},{dn}"
        template.write_text("\n".join([
            f'organization = "{organisation}"', f'cn = "{dn.removeprefix("CN=")}"',
            f"serial = {self.count}",
            f'activation_date = "{begins:%Y-%m-%d %H:%M:%S} UTC"',
            f'expiration_date = "{ends:%Y-%m-%d %H:%M:%S} UTC"', *lines, ""]))
        if key:
            shutil.copyfile(key, made.key)
        else:
            _certtool("--generate-privkey", "--key-type=rsa", "--bits=2048", "--outfile", made.key)
        common = ["--load-privkey", made.key, "--template", template, "--outfile", made.cert]
        if issuer:
            _certtool("--generate-certificate", "--load-ca-certificate", issuer.cert,
                      "--load-ca-privkey", issuer.key, *common)
        else:
            _certtool("--generate-self-signed", *common)
        return made

    def issue(self, name, ips=(), purpose="server", begins=None, ends=None, names=None):
        """A certificate for a host (purpose "server"), a client, or "both".

        names are the DNS names it carries beside CN=name; default: that name.
        """
        lines = ["signing_key", "encryption_key"]
        lines += [f'dns_name = "{n}"' for n in ((name,) if names is None else names)]
        lines += [f'ip_address = "{ip}"' for ip in ips]
        if purpose in ("server", "both"):
            lines.append("tls_www_server")
        if purpose in ("client", "both"):
            lines.append("tls_www_client")
        return self._make(f"CN={name}", lines, begins or self._now() - DAY,
                          ends or self._now() + 7 * DAY, issuer=self.own)

    def expired(self, name, ips=(), purpose="server"):
        return self.issue(name, ips, purpose, self._now() - 3 * DAY, self._now() - DAY)

    def not_yet_valid(self, name, ips=(), purpose="server"):
        return self.issue(name, ips, purpose, self._now() + DAY, self._now() + 3 * DAY)

    def wrong_name(self, purpose="server"):
        return self.issue("elsewhere.test", ["192.0.2.99"], purpose)

    def revocation_list(self, *certificates, next_update=30 * DAY):
        """A CRL that names these certificates, the next one due so long from now; returns its file."""
        self.count += 1
        out = self.directory / f"{self.count:03}-crl.pem"
        template = self.directory / f"{self.count:03}.template"
        now = self._now()
        template.write_text(f'crl_this_update_date = "{now - 9 * DAY:%Y-%m-%d %H:%M:%S} UTC"\n'
                            f'crl_next_update_date = "{now + next_update:%Y-%m-%d %H:%M:%S} UTC"\n'
                            f"crl_number = {self.count}\n")
        revoked = self.directory / f"{self.count:03}-revoked.pem"
        revoked.write_text("".join(c.cert.read_text() for c in certificates))
        load = ["--load-certificate", revoked] if certificates else []
        _certtool("--generate-crl", "--load-ca-certificate", self.own.cert, "--load-ca-privkey",
                  self.own.key, *load, "--template", template, "--outfile", out)
        return out


def put(source, target, mode=0o644):
    """Copies one file into place, making its directories."""
    target = pathlib.Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(mode)


def install(directory, authority, server=None, client=None):
    """Lays certificates out below a host's /etc/pki. Called again, it replaces what is given:
    install(dir, other_authority) alone exchanges the CA certificate and nothing else."""
    directory = pathlib.Path(directory)
    put(authority.own.cert, directory / CA_CERT)
    if server:
        put(server.cert, directory / SERVER_CERT)
        put(server.key, directory / SERVER_KEY, 0o600)
    if client:
        put(client.cert, directory / CLIENT_CERT)
        put(client.key, directory / CLIENT_KEY, 0o600)


def make_psk(path, identities):
    """A PSK file as gnutls reads it: one "identity:hex key" a line, for {identity: bytes}."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text("".join(f"{name}:{key.hex()}\n" for name, key in identities.items()))
