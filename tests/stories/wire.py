"""Bytes on a socket, for clients that do not keep to the rules."""

import json
import re
import socket


class Wire:
    """One connection to a server; a context manager."""

    def __init__(self, server, timeout_s=20.0):
        self.socket = socket.create_connection(("127.0.0.1", server.ports["http"]), timeout=timeout_s)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, data):
        """False when the server does not take it any more."""
        try:
            self.socket.sendall(data if isinstance(data, bytes) else data.encode())
            return True
        except (BrokenPipeError, ConnectionResetError):
            return False

    def half_close(self):
        self.socket.shutdown(socket.SHUT_WR)

    def answer(self):
        """(status, body) of the first answer once the server has closed or said all; (0, b"") when it only closed."""
        data = b""
        try:
            while not _complete(data):
                piece = self.socket.recv(65536)
                if not piece:
                    break
                data += piece
        except ConnectionResetError:
            pass
        head, _, body = data.partition(b"\r\n\r\n")
        found = re.match(rb"HTTP/1\.[01] (\d+)", head)
        return (int(found.group(1)) if found else 0), body

    def error(self):
        """(status, the error object); an empty object where the answer is not Drover's JSON."""
        status, body = self.answer()
        try:
            return status, json.loads(body)["error"]
        except (ValueError, KeyError):
            return status, {}


def _complete(data):
    head, gap, body = data.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    return bool(gap and length and len(body) >= int(length.group(1)))
