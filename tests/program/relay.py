#!/usr/bin/python3
"""Carries one TCP connection from here into a network namespace.

    relay.py LISTEN_ADDRESS LISTEN_PORT NAMESPACE TARGET_ADDRESS TARGET_PORT

A socket belongs to the namespace in which it was made: this one is made here and inherited by the part that runs inside.
"""

import os
import select
import socket
import sys
import time


def outside(address, port, namespace, *target):
    listener = socket.create_server((address, int(port)))
    listener.set_inheritable(True)
    os.execvp("ip", ["ip", "netns", "exec", namespace, sys.executable, __file__,
                     "inside", str(listener.fileno()), *target])


def inside(descriptor, address, port):
    here, _ = socket.socket(fileno=int(descriptor)).accept()
    there = connect(address, int(port))
    other = {here: there, there: here}
    while True:
        for ready in select.select([here, there], [], [])[0]:
            data = ready.recv(65536)
            if not data:
                return
            other[ready].sendall(data)


def connect(address, port):
    end = time.monotonic() + 10
    while True:
        try:
            return socket.create_connection((address, port))
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


if __name__ == "__main__":
    if sys.argv[1] == "inside":
        inside(*sys.argv[2:])
    else:
        outside(*sys.argv[1:])
