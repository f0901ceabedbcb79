"""Free TCP ports that stay ours, also while the server that uses them is down.

They come from below the kernel's ephemeral range and Nomad's dynamic ports: no outgoing connection of anybody can
take the port of a server that was killed and is about to start again. A lock file per port keeps parallel rigs apart.
"""

import fcntl
import os
import random
import socket
import tempfile

FIRST_PORT = 10000
LAST_PORT = 19999


class Ports:
    def __init__(self):
        self._folder = os.path.join(tempfile.gettempdir(), f"drover-ports-{os.getuid()}")
        os.makedirs(self._folder, mode=0o700, exist_ok=True)
        self._locks = {}

    def take(self):
        """A port on which both TCP and UDP of 127.0.0.1 are free, ours until release()."""
        for port in random.sample(range(FIRST_PORT, LAST_PORT + 1), 500):
            fd = os.open(os.path.join(self._folder, str(port)), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(fd)
                continue
            if is_free(port):
                self._locks[port] = fd
                return port
            os.close(fd)
        raise RuntimeError(f"no free port between {FIRST_PORT} and {LAST_PORT}")

    def release(self):
        """Give all of them back."""
        for fd in self._locks.values():
            os.close(fd)
        self._locks.clear()


def is_free(port):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as probe:
            if kind == socket.SOCK_STREAM:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                return False
    return True
