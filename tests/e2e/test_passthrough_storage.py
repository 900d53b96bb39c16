# SPDX-License-Identifier: LGPL-2.1-or-later
"""Volumes through the daemon: streams in both directions, with their holes."""
import errno
import hashlib
import os
import random

from harness import deadline, note
from usage import no_descriptor_left

MIB = 1 << 20
POOL = "/tmp/pool"
# (offset, length) of what is data in a volume: at the edges, odd sizes, one long piece
SIZE = 32 * MIB
PIECES = ((0, 4096), (3 * MIB, 5 * MIB), (12 * MIB + 8192, 4096), (20 * MIB, 256 * 1024), (SIZE - 4096, 4096))


def digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def extents(path):
    """[(offset, end)] of the data in a file."""
    found = []
    with open(path, "rb") as file:
        end = 0
        while True:
            try:
                begin = os.lseek(file.fileno(), end, os.SEEK_DATA)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
                return found
            end = os.lseek(file.fileno(), begin, os.SEEK_HOLE)
            found.append((begin, end))


def write_pieces(path, size, pieces):
    source = random.Random(7)
    with open(path, "wb") as file:
        file.truncate(size)
        for offset, length in pieces:
            file.seek(offset)
            file.write(source.randbytes(length))


class Volume:
    """A volume of a directory pool in host a; `client` is whose virsh is used."""

    def __init__(self, rig, client, uri):
        self.client, self.uri = client, uri
        self.host = rig.a
        if "pool" not in rig.a.virsh("pool-list", "--all", "--name").stdout.split():
            rig.a.path(POOL).mkdir(exist_ok=True)
            rig.a.virsh("pool-create-as", "pool", "dir", "--target", POOL)
        self.name = f"volume-{rig.a.next_number()}"
        self.file = rig.a.path(f"{POOL}/{self.name}")
        client.virsh("vol-create-as", "pool", self.name, str(SIZE), "--format", "raw", uri=uri)

    def upload(self, source, *options):
        self.client.virsh("vol-upload", self.name, source, "--pool", "pool", *options, uri=self.uri)

    def download(self, target, *options):
        self.client.virsh("vol-download", self.name, target, "--pool", "pool", *options, uri=self.uri)

    def delete(self):
        self.client.virsh("vol-delete", self.name, "--pool", "pool", uri=self.uri)


def there_and_back(rig, client, uri, pieces, *options):
    """Up and down again: the three files are equal. Returns them."""
    volume = Volume(rig, client, uri)
    source, target = client.path("/tmp/source"), client.path("/tmp/target")
    write_pieces(source, SIZE, pieces)
    target.unlink(missing_ok=True)
    volume.upload("/tmp/source", *options)
    volume.download("/tmp/target", *options)
    assert digest(volume.file) == digest(source), "the upload differs"
    assert digest(target) == digest(source), "the download differs"
    layouts = [extents(path) for path in (source, volume.file, target)]
    volume.delete()
    assert not volume.file.exists()
    return layouts


def test_sparse_volume_keeps_its_holes(rig):
    for client, uri in ((rig.a, rig.a.uri()), (rig.b, rig.a.uri("tls")), (rig.b, rig.a.uri("tcp"))):
        source, volume, target = there_and_back(rig, client, uri, PIECES, "--sparse")
        assert len(source) == len(PIECES), source
        assert volume == source and target == source, f"{uri}: {source} became {volume} and {target}"


def test_volume_of_one_hole(rig):
    source, volume, target = there_and_back(rig, rig.a, rig.a.uri(), (), "--sparse")
    assert source == volume == target == []


@deadline(60)
def test_full_volume(rig):
    for client, uri in ((rig.a, rig.a.uri()), (rig.b, rig.a.uri("tls"))):
        _, volume, _ = there_and_back(rig, client, uri, ((0, SIZE),))
        assert volume == [(0, SIZE)]


def test_part_of_a_volume(rig):
    volume = Volume(rig, rig.a, rig.a.uri())
    part = random.Random(8).randbytes(1000003)
    rig.a.path("/tmp/source").write_bytes(part)
    where = ("--offset", str(MIB + 5), "--length", str(len(part)))
    volume.upload("/tmp/source", *where)
    with open(volume.file, "rb") as file:
        file.seek(MIB + 5)
        assert file.read(len(part) + 1) == part + b"\0"
    volume.download("/tmp/target", *where)
    assert rig.a.path("/tmp/target").read_bytes() == part
    volume.delete()


def test_failed_stream_says_why(rig):
    """A stream that breaks off in the middle ends with the same words as without the daemon; in
    which of its calls virsh hears them is a matter of time."""
    rig.a.path("/tmp/source").write_bytes(bytes(2 * MIB))
    errors = []
    for uri in (rig.a.uri(), rig.a.uri(scheme="qemu")):
        volume = Volume(rig, rig.a, uri)
        done = rig.a.virsh("vol-upload", volume.name, "/tmp/source", "--pool", "pool", "--length", str(MIB),
                           uri=uri, check=False)
        errors.append((done.returncode, done.stderr.splitlines()[-1]))
        volume.delete()
    note(errors[0][1])
    assert errors[0] == errors[1] and errors[0][0] == 1, errors
    assert "No space left on device" in errors[0][1], errors


def test_download_can_be_left(rig):
    """A client killed in the middle of a stream leaves nothing open."""
    volume = Volume(rig, rig.a, rig.a.uri())
    write_pieces(volume.file, SIZE, ((0, SIZE),))
    os.mkfifo(rig.a.path("/tmp/fifo"))
    with no_descriptor_left(rig.a.daemon.pid, rig.a.libvirtd.pid):
        process = rig.a.popen(["virsh", "-q", "-c", rig.a.uri(), "vol-download", volume.name, "/tmp/fifo",
                               "--pool", "pool"])
        with open(rig.a.path("/tmp/fifo"), "rb") as fifo:
            fifo.read(MIB)
            process.kill()
            process.wait()
    rig.a.path("/tmp/fifo").unlink()
    volume.delete()
