"""The rig: Consul, MinIO and Nomad in one private folder, and nothing left of them at the end."""

import os
import secrets
import shutil
import sys
import tempfile

from . import docker, reaper, sweep
from .consul import Consul
from .minio import SERVICE, Minio
from .nomad import Nomad
from .ports import Ports

# Sockets of tasks lie six folders below Nomad's data directory, and their paths may have 107 bytes.
LONGEST_FOLDER = 32


class Rig:
    """
    with Rig() as rig:            # an empty one: folder, ports, processes marked with rig.id
        rig.start_servers()       # Consul, MinIO (announced), Nomad server and client with raw_exec and, where an engine is, docker
        rig.env()                 # the environment by which Drover's programs find them

    keep: leave folder and logs behind. The folder is short because of the length limit of socket paths.
    """

    # What the servers are made of.
    make_consul, make_nomad = Consul, Nomad

    def __init__(self, keep=False):
        self.id = secrets.token_hex(4)
        base = tempfile.gettempdir()
        self.folder = os.path.join(base if len(base) <= 16 else "/tmp", f"dr-{self.id}")
        assert len(self.folder) <= LONGEST_FOLDER
        os.mkdir(self.folder, mode=0o755)
        self.logs = os.path.join(self.folder, "logs")
        os.mkdir(self.logs)
        self.temp = os.path.join(self.folder, "t")
        os.mkdir(self.temp)
        os.chmod(self.temp, 0o1777)
        self.claim = sweep.rig_claim(self.id, self.folder)
        self.ports = Ports()
        self.keep = keep
        self.docker = None
        self.no_docker = "not looked for yet"
        self.consul = None
        self.minio = None
        self.nomad = None
        self.clients = []
        self.disturbed = False  # a server was killed or stopped since heal()
        self._endings = []
        self._reaper = reaper.watch(self.id, self.folder)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.teardown()

    def on_teardown(self, action):
        """Call action() at the end, last come first served, before anything is killed."""
        self._endings.append(action)

    def start_docker(self):
        """Find or start an engine: self.docker, or None and the reason in self.no_docker."""
        if self.docker is None and self.no_docker == "not looked for yet":
            self.docker, self.no_docker = docker.find(self)
        return self.docker

    def start_servers(self, with_docker=True):
        """Start all three side by side and wait until each is ready for use."""
        if with_docker:
            self.start_docker()
        self.consul = self.make_consul(self).start(ready=False)
        self.minio = Minio(self).start(ready=False)
        self.nomad = self.make_nomad(self).start(ready=False)
        self.consul.wait_ready()
        self.minio.wait_ready()
        self.nomad.wait_ready()
        self.add_client()
        self.minio.announce()
        return self

    @property
    def client(self):
        """The Nomad client on which tasks run."""
        return self.clients[0]

    def add_client(self):
        """One more Nomad client on this host, ready. remove_client() takes it away."""
        client = self.make_nomad(self, f"client{len(self.clients) + 1}", server=self.nomad)
        self.clients.append(client)
        return client.start()

    def remove_client(self, client):
        """Kill the client and what runs on it, and have the server forget the node."""
        node_id = client.node()["ID"]
        client.kill9()
        sweep.kill_processes(client.claim())
        self.clients.remove(client)
        self.nomad.call("POST", f"/v1/node/{node_id}/purge").expect(200)

    def servers(self):
        return [server for server in (self.consul, self.minio, self.nomad, *self.clients) if server]

    def env(self):
        """Settings by which Drover's programs find this rig's servers."""
        return {
            "NOMAD_ADDR": self.nomad.url,
            "CONSUL_HTTP_ADDR": self.consul.url,
            "S3_ENDPOINT": f"consul://{SERVICE}",
            "S3_ACCESS_KEY": self.minio.access_key,
            "S3_SECRET_KEY": self.minio.secret_key,
        }

    def heal(self):
        """Bring back whatever a test killed, so that the next one finds all servers ready and a node that works."""
        if not self.disturbed and all(server.alive() for server in self.servers()):
            return
        for server in self.servers():
            if not server.alive():
                server.start()
        for server in self.servers():
            server.wait_ready()
        if self.minio:
            self.minio.announce()
        for client in self.clients:
            client.prove()
        self.disturbed = False

    def log_tails(self, lines=25):
        """The last lines of every log, for a failure report."""
        parts = []
        for name in sorted(os.listdir(self.logs)):
            with open(os.path.join(self.logs, name), "rb") as file:
                text = file.read().decode("utf-8", "replace").splitlines()[-lines:]
            parts.append(f"----- {name}\n" + "\n".join(text))
        return "\n".join(parts)

    def save_logs(self, folder):
        """Copy all logs to a folder that outlives the rig."""
        shutil.copytree(self.logs, folder, dirs_exist_ok=True)

    def leftovers(self):
        return sweep.leftovers(self.claim, self.docker)

    def teardown(self):
        """Stop everything and prove that it is gone; AssertionError with a list when it is not."""
        if self._reaper is None:
            return
        engine = self.docker
        private_engine = engine and engine.host.startswith(f"unix://{self.folder}/")
        groups = self.claim.cgroup_names()
        try:
            if engine:
                ids = sweep.containers(engine, self.folder)
                if ids:
                    engine("rm", "-f", *ids, check=False)
            while self._endings:
                self._endings.pop()()
        finally:
            sweep.everything(self.claim, keep_files=self.keep)
            self.ports.release()
            reaper.dismiss(self._reaper)
            self._reaper = None
        left = sweep.leftovers(self.claim, None if private_engine else engine, groups)
        if self.keep:
            left = [line for line in left if line != f"folder {self.folder}"]
            print(f"rig kept in {self.folder}", file=sys.stderr)
        assert not left, "left behind by the rig:\n" + "\n".join(left)
