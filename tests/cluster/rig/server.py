"""What all servers, real ones and Drover's, have in common: start, crash, start again with the same ports and data."""

import os

from . import http, sweep, wait
from .process import PART_MARKER, Process, environment

READY_S = 90.0


class Server:
    """Subclasses answer argv(), env() and is_ready(), and set self.ports before they start."""

    # Whether killing it is for Rig.heal() to mend.
    shared = False

    def __init__(self, rig, name):
        self.rig = rig
        self.name = name
        self.folder = os.path.join(rig.folder, name)
        os.makedirs(self.folder, exist_ok=True)
        self.ports = {}
        self.process = None
        self.part = f"{rig.id}-{name}"

    def claim(self):
        """What belongs to this server alone, what it started included."""
        return sweep.Claim(f"{PART_MARKER}={self.part}", self.folder, f"drover-rig-{self.part}")

    def argv(self):
        raise NotImplementedError

    def env(self):
        return {}

    def is_ready(self):
        raise NotImplementedError

    @property
    def address(self):
        """host:port of the server's HTTP side."""
        return f"127.0.0.1:{self.ports['http']}"

    @property
    def url(self):
        return f"http://{self.address}"

    def call(self, method, path, **options):
        """One HTTP exchange with the server; options as in http.call."""
        return http.call(method, self.url + path, **options)

    def get(self, path, **query):
        """The JSON of a GET that must succeed."""
        return self.call("GET", http.with_query(path, **query)).expect(200).json()

    def start(self, ready=True):
        self.process = Process(
            self.name,
            self.argv(),
            environment(self.rig, {**self.env(), PART_MARKER: self.part}),
            os.path.join(self.rig.logs, f"{self.name}.log"),
            self.folder,
        )
        self.process.start()
        if ready:
            self.wait_ready()
        return self

    def wait_ready(self, timeout_s=READY_S):
        wait.until(f"{self.name} to be ready", self.is_ready, timeout_s, self.process.exit_reason)

    def alive(self):
        return self.process is not None and self.process.alive()

    def kill9(self):
        """A crash: SIGKILL to the server alone. start() brings it back on the same ports and data."""
        self.rig.disturbed |= self.shared
        self.process.kill9()

    def stop(self):
        """SIGTERM, as an operator would stop it."""
        self.rig.disturbed |= self.shared
        if self.process:
            self.process.stop()

    def restart(self, ready=True):
        """kill -9 and start again."""
        self.kill9()
        return self.start(ready)
