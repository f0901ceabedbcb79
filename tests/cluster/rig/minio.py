"""MinIO with a data directory, announced in Consul as service "minio"."""

import os
import secrets

from . import binaries, s3, wait
from .server import Server

SERVICE = "minio"
REGION = "us-east-1"


class Minio(Server):
    shared = True

    def __init__(self, rig, name="minio"):
        super().__init__(rig, name)
        self.access_key = "drover-rig"
        self.secret_key = secrets.token_hex(16)
        self._take_ports()

    def _take_ports(self):
        self.ports = {port: self.rig.ports.take() for port in ("http", "console")}

    def argv(self):
        return [
            binaries.server("minio"),
            "server",
            os.path.join(self.folder, "data"),
            "--address",
            self.address,
            "--console-address",
            f"127.0.0.1:{self.ports['console']}",
        ]

    def env(self):
        return {
            "MINIO_ROOT_USER": self.access_key,
            "MINIO_ROOT_PASSWORD": self.secret_key,
            "MINIO_BROWSER": "off",
            "MINIO_UPDATE": "off",
            "HOME": self.folder,
        }

    def is_ready(self):
        return self.call("GET", "/minio/health/cluster").status == 200 and self.s3().list_buckets() is not None

    def s3(self):
        """A client with the root account: see rig/s3.py."""
        return s3.Client(self.url, self.access_key, self.secret_key, REGION)

    def announce(self, ready=True):
        """Register the present address in Consul; waits until it is the only healthy one there."""
        self.rig.consul.register("minio-1", SERVICE, self.ports["http"], "/minio/health/live")
        if ready:
            wait.until("minio to be healthy in Consul", lambda: self.rig.consul.passing(SERVICE) == [self.address])

    def move(self):
        """Stop, come up with the same data on another port, and tell Consul. Returns the old address."""
        old = self.address
        self.kill9()
        self._take_ports()
        self.start()
        self.announce()
        return old
