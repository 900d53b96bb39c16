#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs in a host in front of another host's migration port: the first connection is passed on,
and then there is no more. Prints a line when it listens, and one when it refuses something.

    one_connection.py PORT HOST closed    nobody listens any more
    one_connection.py PORT HOST cut       a connection is accepted and cut
    one_connection.py PORT HOST mute      the routing step is done, and then nothing is said
"""
import socket
import sys
import threading

PREAMBLE_LEN, GO = 32, b"\1"


def pump(source, target):
    try:
        while data := source.recv(1 << 20):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        source.close()
        target.close()


def refuse(client, how):
    print("refused", flush=True)
    if how == "mute":
        client.recv(PREAMBLE_LEN, socket.MSG_WAITALL)
        client.sendall(GO)
        client.recv(1 << 16)                            # a ClientHello
        client.recv(1)                                  # until the other side gives up
    client.close()


def main(port, host, how):
    with socket.create_server(("0.0.0.0", int(port))) as server:
        print("listening", flush=True)
        client, _ = server.accept()
        if how == "closed":
            server.close()
        peer = socket.create_connection((host, int(port)))
        pumps = [threading.Thread(target=pump, args=args) for args in ((client, peer), (peer, client))]
        for thread in pumps:
            thread.start()
        while how != "closed":
            refuse(server.accept()[0], how)
    for thread in pumps:
        thread.join()


if __name__ == "__main__":
    main(*sys.argv[1:])
