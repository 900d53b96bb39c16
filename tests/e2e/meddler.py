#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs in a host between virsh and that host's virtpostcopyd, on plain TCP: prints its port, then
every migration URI that passes, and changes the one that goes to the daemon.

    meddler.py PORT flip            another token
    meddler.py PORT session         another session id
    meddler.py PORT replace QUERY   another query, of the same length
"""
import re
import socket
import sys
import threading

URI = re.compile(rb"postcopy:///\?(peer=[^&]*&session=([0-9a-f]{32})&token=([0-9a-f]{64}))")


def flipped(digits):
    return bytes(digits[:-1]) + (b"1" if digits[-1:] == b"0" else b"0")


def changed(query, how, argument):
    session, token = query.group(2), query.group(3)
    if how == "replace":
        return b"postcopy:///?" + argument.encode()
    victim = session if how == "session" else token
    return query.group(0).replace(victim, flipped(victim))


def pump(source, target, change):
    # virsh writes a call at once, so a URI is not torn between two reads of this size
    while data := source.recv(1 << 20):
        target.sendall(change(data))
    target.shutdown(socket.SHUT_WR)


def main(port, how, argument=None):
    def meddle(data):
        for query in URI.finditer(data):
            print(query.group(1).decode(), flush=True)
        return URI.sub(lambda q: changed(q, how, argument), data)

    with socket.create_server(("127.0.0.1", 0)) as server:
        print(server.getsockname()[1], flush=True)
        while True:
            client, _ = server.accept()
            daemon = socket.create_connection(("127.0.0.1", int(port)))
            for args in ((client, daemon, meddle), (daemon, client, bytes)):
                threading.Thread(target=pump, args=args, daemon=True).start()


if __name__ == "__main__":
    main(*sys.argv[1:])
