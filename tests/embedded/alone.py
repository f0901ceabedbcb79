"""A dispatcher alone: tests that use it play client and worker over loopback."""
import hashlib
import http.client
import json
import os
import pathlib
import subprocess
import time

BIN = pathlib.Path(os.environ.get("DROVER_BIN", "build/bin")).resolve()

# No measure of anything: only where waiting has no sense any more.
DEADLINE_S = 60

METADATA = """\
name: echo
version: "1.0.0"
vertical: python
description: Says something.
author: Drover
tags: []
resources: {cpu: 100m, memory: 64MiB, timeout: 10m, disk: 64MiB}
parameters:
  type: object
  additionalProperties: false
  properties:
    level: {type: string, enum: [low, high], default: low}
steps:
  - name: say
    run: ["echo", "hello"]
target: any
"""

VERTICAL = """\
name: python
description: For tests.
driver: raw_exec
image: none
slots: 5
window: 4
classes:
  normal: {cpu: 500m, memory: 256MiB}
  large: {cpu: 1000m, memory: 1GiB}
tools: []
"""


class Answer:
    def __init__(self, response):
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    @property
    def json(self):
        return json.loads(self.body)


class Folder:
    """The directory that stands in for S3."""

    def __init__(self, root):
        self.root = root

    def env(self):
        return {"STORE_DIR": str(self.root)}

    def path(self, bucket, key):
        folders = key.split("/")
        return (self.root / bucket).joinpath(*(f + "@" for f in folders[:-1]), folders[-1])

    def all_keys(self, bucket):
        top = self.root / bucket
        # os.walk bears folders that go away meanwhile.
        paths = (pathlib.Path(folder, name).relative_to(top) for folder, _, names in os.walk(top) for name in names)
        return {"/".join(part.removesuffix("@") for part in p.parts) for p in paths if ".tmp" not in p.parts}

    def keys(self, bucket):
        """Without those by which a ledger says that the bucket is its own."""
        return {key for key in self.all_keys(bucket) if not key.startswith("drover/")}

    def remove(self, bucket, key):
        self.path(bucket, key).unlink()

    def put(self, d, bucket, key, data):
        """Uploads the bytes as a target and moves the file to its place: only the store knows how its files are marked. At no moment is
        there a target without its file, which a sweep would take for lost."""
        target = d.upload(data)
        path = self.path(bucket, key)
        path.parent.mkdir(parents=True, exist_ok=True)
        (self.root / "planted").hardlink_to(self.path("targets", f"{target['id']}/target"))
        (self.root / "planted").rename(path)
        assert d.call("DELETE", f"/v1/target/{target['id']}").status == 200
        return path


class Dispatcher:
    """One dispatcher process in a private folder; restart() keeps the folder."""

    def __init__(self, root, store=None, ready=True, **env):
        self.root = root
        self.store = store or Folder(root / "store")
        self.env = env
        self.data = root / "data"
        self.toolbox = root / "toolbox"
        (self.toolbox / "workflows" / "echo").mkdir(parents=True)
        (self.toolbox / "workflows" / "echo" / "metadata.yaml").write_text(METADATA)
        (self.toolbox / "verticals" / "python").mkdir(parents=True)
        (self.toolbox / "verticals" / "python" / "vertical.yaml").write_text(VERTICAL)
        self.start(ready)

    def launch(self):
        """The process alone: for one that ends by itself."""
        (self.data / "address").unlink(missing_ok=True)
        env = {"PATH": os.environ["PATH"], "DROVER_LISTEN": "127.0.0.1:0", "DROVER_DATA_DIR": str(self.data),
               "DROVER_TOOLBOX": str(self.toolbox), "BACKOFF_BASE": "1ms",
               "BACKOFF_CAP": "1ms", **self.store.env(), **self.env}
        self.log = open(self.root / "log", "ab")
        self.process = subprocess.Popen([BIN / "drover-dispatcher"], env=env, stderr=self.log)

    def start(self, ready=True):
        self.launch()
        wait_for(lambda: (self.data / "address").exists() or self.process.poll() is not None)
        assert self.process.poll() is None, (self.root / "log").read_text()
        self.host, port = (self.data / "address").read_text().rsplit(":", 1)
        self.port = int(port)
        if ready:
            wait_for(lambda: self.call("GET", "/v1/agent/health").json["components"]["toolbox"] == "ok")

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        self.process.terminate()
        return self.process.wait(timeout=DEADLINE_S)

    def connect(self, timeout=30):
        return http.client.HTTPConnection(self.host, self.port, timeout=timeout)

    def call(self, method, path, body=None, headers=None):
        c = self.connect()
        try:
            if isinstance(body, (dict, list)):
                body = json.dumps(body).encode()
            c.request(method, path, body=body, headers=headers or {})
            return Answer(c.getresponse())
        finally:
            c.close()

    # --- the client's words ---

    def upload(self, data=b"some bytes", **headers):
        a = self.call("PUT", "/v1/targets", data, {k.replace("_", "-"): v for k, v in headers.items()})
        assert a.status in (200, 201), a.body
        return a.json["target"]

    def submission(self, target, **more):
        return {"workflow": "echo", "target": {"id": target["id"], "kind": "file"}, **more}

    def submit(self, target=None, **more):
        a = self.call("POST", "/v1/runs", self.submission(target or self.upload(), **more))
        assert a.status == 201, a.body
        return a.json["run"]

    def run(self, run_id):
        a = self.call("GET", f"/v1/run/{run_id}")
        assert a.status == 200, a.body
        return a.json["run"]

    # --- the worker's words ---

    def register(self, worker="w1", **more):
        return self.call("POST", "/v1/worker/register", {
            "worker": worker, "vertical": "python", "class": "normal", "mode": "loop", "request": "", "slots": 4,
            "job_id": "", "alloc_id": "", "alloc_index": 0, "node": "n1", "node_id": "", "version": "1",
            "tools": {"bandit": "1"}, "missing": [], "sandbox": {"rung": 1, "features": []}, **more})

    def lease(self, worker="w1", free=1, wait_ms=5000, held=(), only=""):
        return self.call("POST", "/v1/worker/lease", {"worker": worker, "free": free, "only": only, "wait_ms": wait_ms,
                                                      "held": list(held)})

    def beat(self, held, worker="w1", wait_ms=0):
        return self.call("POST", "/v1/worker/beat", {"worker": worker, "wait_ms": wait_ms, "held": held})

    def report(self, lease, outcome="completed", worker="w1", **more):
        return self.call("POST", "/v1/worker/report", {
            "worker": worker, "run": lease["run"], "fence": lease["fence"], "outcome": outcome, "fail_class": "", "reason": "",
            "leaving": False, "findings": {"error": 1, "warning": 0, "note": 0, "total": 1}, "partial": False,
            "steps": [{"name": "say", "state": "ok", "exit_code": 0, "took_ms": 1, "message": ""}], "manifest_sha256": "",
            "sandbox": {"rung": 1, "features": []}, **more})

    def held(self, lease, **more):
        return {"run": lease["run"], "fence": lease["fence"], **more}

    def take(self, **more):
        a = self.lease(**more)
        assert a.status == 200 and len(a.json["leases"]) == 1, a.body
        return a.json["leases"][0]


def wait_for(condition, seconds=DEADLINE_S):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)


def written_mb(d):
    """Private memory that it has written to. Pages of programs and libraries do not count: they are private or shared
    by who else runs just then, some 8 MiB, which would pass for growth."""
    with open(f"/proc/{d.process.pid}/smaps_rollup", encoding="ascii") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("Private_Dirty:")) / 1024


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def object_path(d, bucket, key):
    """Where the directory store keeps an object."""
    return d.store.path(bucket, key)


def put(d, bucket, key, data=None):
    """Plays whoever else stores objects: stores the bytes (the key, without any) there."""
    return d.store.put(d, bucket, key, key.encode() if data is None else data)
