"""The dispatcher alone on a real MinIO: everything of test_api_smoke.py again, and what only a server can do to it."""

import os
import secrets
import socket
import subprocess
import threading
import time

import pytest

from alone import Dispatcher, sha256, wait_for, written_mb
from rig import Drover, binaries, s3
from rig.ports import Ports
from rig.toolbox import REPORT
from stories import look
from test_api_smoke import *  # noqa: F401,F403 - collected here once more, with the fixture below


PORTS = Ports()  # of no outgoing connection, which might take that of a server that is down


class Minio:
    """One server in a private folder, on a free port that it keeps."""

    def __init__(self, folder):
        self.folder = folder
        self.access_key, self.secret_key = "drover-alone", secrets.token_hex(16)
        self.port = PORTS.take()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process = None

    def start(self, ready=True):
        env = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "MINIO_ROOT_USER": self.access_key,
               "MINIO_ROOT_PASSWORD": self.secret_key, "MINIO_BROWSER": "off", "MINIO_UPDATE": "off"}
        self.process = subprocess.Popen([binaries.server("minio"), "server", str(self.folder / "data"), "--address",
                                         f"127.0.0.1:{self.port}"], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if ready:
            wait_for(self.answers, 60)
        return self

    def answers(self):
        try:
            return self.client().list_buckets() is not None
        except (OSError, AssertionError):  # nobody listens; not initialised yet
            return False

    def kill(self):
        self.process.kill()
        self.process.wait()

    def client(self):
        return s3.Client(self.url, self.access_key, self.secret_key, "us-east-1")


class Buckets:
    """Three buckets of one test."""

    def __init__(self, minio):
        self.minio = minio
        self.suffix = secrets.token_hex(4)

    def env(self):
        return {"S3_ENDPOINT": self.minio.url, "S3_ACCESS_KEY": self.minio.access_key, "S3_SECRET_KEY": self.minio.secret_key,
                "S3_BUCKET": self.name("targets"), "S3_RESULTS_BUCKET": self.name("results"),
                "S3_TOOLBOX_BUCKET": self.name("toolbox")}

    def name(self, bucket):
        return f"{bucket}-{self.suffix}"

    def keys(self, bucket):
        """Without those by which a ledger says that the bucket is its own."""
        return {key for key in self.minio.client().list(self.name(bucket)) if not key.startswith("drover/")}

    def remove(self, bucket, key):
        self.minio.client().delete(self.name(bucket), key)

    def put(self, _d, bucket, key, data):
        self.minio.client().put(self.name(bucket), key, data)


@pytest.fixture(scope="module")
def minio(tmp_path_factory):
    server = Minio(tmp_path_factory.mktemp("minio")).start()
    yield server
    server.kill()


@pytest.fixture
def d(tmp_path, minio):
    dispatcher = Dispatcher(tmp_path, Buckets(minio))
    yield dispatcher
    if dispatcher.process.poll() is None:
        assert dispatcher.stop() == 0, (tmp_path / "log").read_text()


@pytest.fixture
def own_minio(tmp_path):
    server = Minio(tmp_path)
    yield server
    if server.process is not None and server.process.poll() is None:
        server.kill()


def unfinished(d):
    """Multipart uploads that were begun and neither completed nor aborted."""
    return b"<Upload>" in d.store.minio.client().request("GET", f"/{d.store.name('targets')}", {"uploads": ""}).body


@pytest.mark.parametrize("announced, chunked", [(True, False), (False, False), (False, True), (True, True)])
def test_uploads_in_parts(d, announced, chunked):
    data = os.urandom(23 * 1024 * 1024 + 7)
    headers = {"X-Drover-Sha256": sha256(data)} if announced else {}
    body = iter([data[i:i + 100_000] for i in range(0, len(data), 100_000)]) if chunked else data
    a = d.call("PUT", "/v1/targets", body, headers)
    assert a.status == 201 and a.json["target"]["sha256"] == sha256(data), a.body
    key = f"{a.json['target']['id']}/target"
    assert d.store.keys("targets") == {key} and not unfinished(d)
    stored = d.store.minio.client().get(d.store.name("targets"), key)
    assert sha256(stored) == sha256(data)
    assert d.call("PUT", "/v1/targets", data, headers).status == 200


def test_a_digest_that_does_not_fit_leaves_no_object(d):
    for size in (10, 11 * 1024 * 1024):
        data = os.urandom(size)
        a = d.call("PUT", "/v1/targets", data, {"X-Drover-Sha256": sha256(b"other")})
        assert a.status == 400 and sha256(data) in a.json["error"]["message"]
    assert d.store.keys("targets") == set() and not unfinished(d)
    assert d.call("GET", "/v1/targets").json["targets"] == []


@pytest.mark.parametrize("sent", [0, 1000, 6 * 1024 * 1024, 18 * 1024 * 1024])
def test_a_client_that_goes_away_leaves_nothing(d, sent):
    for announced in (b"", b"X-Drover-Sha256: " + b"a" * 64 + b"\r\n"):
        with socket.create_connection((d.host, d.port)) as s:
            s.sendall(b"PUT /v1/targets HTTP/1.1\r\nHost: x\r\nContent-Length: 20000000\r\n" + announced + b"\r\n" + b"z" * sent)
    wait_for(lambda: d.call("GET", "/metrics").body.count(b"drover_uploads_total") > 0 and not unfinished(d))
    assert d.store.keys("targets") == set()
    assert d.upload(b"the next one")["size_bytes"] == 12


def test_a_slow_client_starves_nobody(d):
    slow = [socket.create_connection((d.host, d.port)) for _ in range(8)]
    for n, s in enumerate(slow):
        s.sendall(b"PUT /v1/targets HTTP/1.1\r\nHost: x\r\nContent-Length: 20000000\r\n\r\n" + b"z" * (1_000_000 if n == 0 else 1000))
    d.upload(os.urandom(6 * 1024 * 1024))
    for s in slow:
        s.setblocking(False)
        with pytest.raises(BlockingIOError):  # not cut off yet: the other did not wait for that
            s.recv(1)
        s.close()


class Peak:
    """The most memory that it has written to while it is entered."""

    def __init__(self, d):
        self.d, self.mb, self.over = d, 0, threading.Event()

    def __enter__(self):
        self.thread = threading.Thread(target=self.look)
        self.thread.start()
        return self

    def look(self):
        while not self.over.wait(0.02):
            self.mb = max(self.mb, written_mb(self.d))

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()


def test_uploads_share_their_memory(d):
    if look.is_sanitized(d.process.pid):
        pytest.skip("a sanitizer's memory tells nothing")
    piece = os.urandom(1024 * 1024)
    d.upload(b"first")  # what a dispatcher takes once, for its first upload, is not what is shared
    wait_for(lambda: health(d)["status"] == "ok")
    before = written_mb(d)
    with Peak(d) as peak:
        assert d.call("PUT", "/v1/targets", iter([piece] * 300)).status == 201
    assert peak.mb - before <= 32
    with Peak(d) as peak:
        threads = [threading.Thread(target=lambda n=n: d.upload(bytes([n]) + piece * 20)) for n in range(8)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    assert peak.mb - before <= 44, "UPLOAD_MEMORY is 40 MiB"
    assert len(d.call("GET", "/v1/targets").json["targets"]) == 10


def test_the_first_upload_makes_the_buckets(tmp_path, minio):
    for n in range(5):
        folder = tmp_path / str(n)
        folder.mkdir()
        d = Dispatcher(folder, Buckets(minio))
        d.kill()
        d.store = Buckets(minio) # buckets that are not there yet
        (d.data / "address").unlink(missing_ok=True)
        d.start(ready=False)
        assert d.call("PUT", "/v1/targets", b"early").status == 201
        assert d.stop() == 0


def health(d):
    return d.call("GET", "/v1/agent/health").json


def test_the_store_is_away_at_first(tmp_path, own_minio):
    d = Dispatcher(tmp_path, Buckets(own_minio), ready=False)
    wait_for(lambda: health(d)["components"]["store"] not in ("ok", "not checked yet"), 60)
    assert health(d)["status"] == "degraded"
    began = time.monotonic()
    a = d.call("PUT", "/v1/targets", b"x" * 100)
    assert a.status == 503 and a.headers["Retry-After"] and a.json["error"]["hint"] and time.monotonic() - began < 5
    own_minio.start()
    wait_for(lambda: d.call("PUT", "/v1/targets", b"x" * 100).status == 201, 60)
    wait_for(lambda: health(d)["status"] == "ok", 60)
    assert d.submit()["state"] == "queued"
    assert d.stop() == 0


def test_the_store_goes_and_comes(tmp_path, own_minio):
    own_minio.start()
    d = Dispatcher(tmp_path, Buckets(own_minio))
    target = d.upload(b"before")
    own_minio.kill()
    wait_for(lambda: health(d)["components"]["store"] != "ok", 60)
    assert d.call("PUT", "/v1/targets", b"meanwhile").status == 503
    assert d.submit(target)["state"] == "queued", "what is stored can be submitted all the same"
    own_minio.start()
    wait_for(lambda: d.call("PUT", "/v1/targets", b"meanwhile").status == 201, 60)
    own_minio.kill()
    began = time.monotonic()
    assert d.stop() == 0 and time.monotonic() - began < 15, "a store that is away keeps nobody from ending"


def test_an_artifact_whose_name_the_server_refuses_is_left_out(minio, embedded_rig, toolbox):
    """Names are a tool's, or its target's: they must not cost the run its results."""
    toolbox.add("finds", r"""echo bad > "$OUT/a\..\b"; echo good > "$OUT/z.txt"; """ + REPORT, artifacts=["*"])
    store = {**Buckets(minio).env(), "STORE_DIR": ""}
    drover = Drover(embedded_rig, toolbox, store).start()
    try:
        drover.add_worker("story", **store)
        run = drover.submit("finds")
        ended = drover.wait_run(run["id"], "completed", timeout_s=60)
        assert ended["attempt"] == 1 and ended["findings"]["total"] == 1
        names = {a["name"] for a in drover.get(f"/v1/run/{run['id']}/artifacts")["artifacts"]}
        assert "artifacts/z.txt" in names and not any("\\" in name for name in names), names
        assert "1 artifacts were left out" in drover.artifact(run["id"], "run.log").decode()
    finally:
        drover.close()
