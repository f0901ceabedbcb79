"""The stores that a dispatcher may have, each in a private folder, with a look past the dispatcher at what is in them."""

import os
import subprocess

from alone import Folder, wait_for
from rig import binaries
from test_on_minio import Buckets, Minio

__all__ = ["Minio", "ServerStore", "Stores", "Versity", "in_folder"]


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
