"""The stores that a dispatcher may have, each in a private folder, with a look past the dispatcher at what is in them."""

import http.client
import http.server
import os
import subprocess
import threading
import urllib.parse

from alone import Folder, wait_for
from rig import binaries
from test_on_minio import Buckets, Minio

__all__ = ["Denying", "Minio", "ServerStore", "Stores", "Versity", "in_folder"]


class Versity(Minio):
    """versitygw on a folder: it has no lifecycle rules, and its objects are plain files."""

    def start(self, ready=True):
        for name in ("data", "versions"):
            (self.folder / name).mkdir(exist_ok=True)
        env = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "ROOT_ACCESS_KEY": self.access_key,
               "ROOT_SECRET_KEY": self.secret_key}
        self.process = subprocess.Popen(
            [binaries.server("versitygw"), "--quiet", "--keep-alive", "--port", f"127.0.0.1:{self.port}", "posix", "--versioning-dir",
             str(self.folder / "versions"), str(self.folder / "data")], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if ready:
            wait_for(self.answers, 60)
        return self


class FolderStore(Folder):
    def delete(self, bucket, key):
        self.path(bucket, key).unlink()


class ServerStore(Buckets):
    def delete(self, bucket, key):
        self.minio.client().delete(self.name(bucket), key)

    def request(self, method, bucket, query=None, body=b"", key="", headers=None):
        return self.minio.client().request(method, f"/{self.name(bucket)}" + (f"/{key}" if key else ""), query, body, headers)


class Stores:
    """One server of each kind for a module; a store of one's own for each test."""

    def __init__(self, tmp_path_factory):
        self.factory = tmp_path_factory
        self.servers = {}

    def server(self, kind):
        if kind not in self.servers:
            self.servers[kind] = {"minio": Minio, "versitygw": Versity}[kind](self.factory.mktemp(kind)).start()
        return self.servers[kind]

    def store(self, kind, folder):
        return FolderStore(folder / "store") if kind == "directory" else ServerStore(self.server(kind))

    def close(self):
        for server in self.servers.values():
            if server.process.poll() is None:
                server.kill()


def in_folder(server, bucket, key):
    """The file of an object of versitygw."""
    return server.folder.joinpath("data", bucket, *key.split("/"))


class Denying:
    """A gate in front of a server: what `denies(method, path, query)` names is answered 403, everything else is passed on as it is;
    `before_answer(method, path)` is called when the server has answered and the client does not know yet."""

    def __init__(self, server, denies=lambda *_: False, before_answer=lambda *_: None):
        self.server, self.denies, self.before_answer = server, denies, before_answer
        self.access_key, self.secret_key, self.folder = server.access_key, server.secret_key, server.folder
        gate = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self):
                self.raw_requestline = self.rfile.readline(65537)
                if not self.raw_requestline or not self.parse_request():
                    self.close_connection = True
                    return
                gate.serve(self)

            def log_message(self, *_):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def serve(self, request):
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        at = urllib.parse.urlsplit(request.path)
        if self.denies(request.command, at.path, urllib.parse.parse_qs(at.query, keep_blank_values=True)):
            status, headers, data = 403, {}, b"<Error><Code>AccessDenied</Code><Message>not with this key</Message></Error>"
        else:
            behind = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=60)
            behind.putrequest(request.command, request.path, skip_host=True, skip_accept_encoding=True)
            for name, value in request.headers.items():
                behind.putheader(name, value)
            behind.endheaders(body)
            answer = behind.getresponse()
            status, headers, data = answer.status, dict(answer.getheaders()), answer.read()
            behind.close()
            self.before_answer(request.command, at.path)
        request.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in ("transfer-encoding", "connection"):
                request.send_header(name, value)
        if "Content-Length" not in headers:
            request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        request.wfile.write(data)

    def client(self):
        return self.server.client()

    def close(self):
        self.http.shutdown()
        self.http.server_close()
