"""Input that is wrong or hostile: a clear error, nothing left behind, nothing crashed.

All of it goes to one dispatcher; after each test the same process must serve, hold no more descriptors than before, and
have left nothing in its folders.
"""

import collections
import hashlib
import os
import secrets

import pytest

from rig import Drover, Toolbox, wait
from rig.drover import pack
from rig.toolbox import REPORT
from stories import look
from stories.wire import Wire

ADDRESS = "Host: drover\r\n"


@pytest.fixture(name="server", scope="module")
def server_fixture(embedded_rig):
    toolbox = Toolbox(os.path.join(embedded_rig.folder, f"toolbox-{secrets.token_hex(3)}"))
    toolbox.add("finds", REPORT)
    toolbox.add("takes", REPORT, parameters={"type": "object", "properties": {"any": {}}})
    drover = Drover(embedded_rig, toolbox, {"UPLOAD_MAX": "64MiB", "MIN_BODY_RATE": "1MiB"}).start()
    drover.wait_workflow("finds")
    drover.wait_workflow("takes")
    drover.toolbox = toolbox
    yield drover
    drover.close()


@pytest.fixture(autouse=True)
def unharmed(server):
    """Before and after are the same: process, descriptors, targets, runs, files of the store."""
    server.call("GET", "/v1/agent/health").expect(200)
    pid = server.process.pid
    before = state_of(server)
    yield
    assert server.alive() and server.process.pid == pid, server.process.exit_reason()
    server.call("GET", "/v1/agent/health").expect(200)
    wait.until(f"everything to be as before: {before}", lambda: is_back(state_of(server), before), 60)
    # Memory that a hostile request took is free again, or a small part of what it sent.
    assert look.private_kib(pid) < 120 * 1024 or look.is_sanitized(pid)


def state_of(server):
    return {
        "descriptors": look.descriptors(server.process.pid),
        "store": [name for name in look.files(server.settings["STORE_DIR"])],
        "runs": [run["id"] for run in server.runs()],
        "data": [name for name in look.files(server.data_folder) if not name.endswith(("-wal", "-shm"))],
    }


def is_back(now, before):
    """A descriptor may have been open for a moment as it was looked at before: none may be more than then."""
    more = collections.Counter(now["descriptors"]) - collections.Counter(before["descriptors"])
    return not more and all(now[key] == before[key] for key in before if key != "descriptors")


def refused(answer, *statuses):
    """A refusal of ours: fitting status, code, and words."""
    error = answer.expect(*statuses).json()["error"]
    assert error["code"] and len(error["message"]) >= 8, error
    return error


# JSON ------------------------------------------------------------------------------------------------------------

DEEP = "[" * 100_000
BODIES = {
    "not JSON": ("{", 400),
    "nothing": ("", 400),
    "array": ("[]", 400),
    "number": ("17", 400),
    "null": ("null", 400),
    "cut off": ('{"workflow":"fin', 400),
    "more behind": ('{"workflow":"finds"} {}', 400),
    "deep array": (DEEP, (400, 413)),
    "deep object": ('{"a":' * 50_000, (400, 413)),
    "duplicate key": ('{"workflow":"finds","target":{"id":"%s","kind":"tree"},"workflow":"finds"}', 400),
    "duplicate key inside": ('{"workflow":"finds","target":{"id":"%s","kind":"tree","kind":"tree"}}', 400),
    "unknown key": ('{"workflow":"finds","target":{"id":"%s","kind":"tree"},"colour":"red"}', 400),
    "unknown key in target": ('{"workflow":"finds","target":{"id":"%s","kind":"tree","colour":"red"}}', 400),
    "no target": ('{"workflow":"finds"}', 400),
    "target is text": ('{"workflow":"finds","target":"%s"}', 400),
    "no kind": ('{"workflow":"finds","target":{"id":"%s"}}', 400),
    "odd kind": ('{"workflow":"finds","target":{"id":"%s","kind":"wood"}}', 400),
    "workflow is a path": ('{"workflow":"../../etc","target":{"id":"%s","kind":"tree"}}', (400, 404)),
    "target is a path": ('{"workflow":"finds","target":{"id":"../../../etc/passwd","kind":"tree"}}', (400, 404)),
    "NUL in a text": ('{"workflow":"finds\\u0000x","target":{"id":"%s","kind":"tree"}}', 400),
    "half a surrogate": ('{"workflow":"finds","target":{"id":"%s","kind":"tree","name":"\\ud800"}}', 400),
    "name is a path": ('{"workflow":"finds","target":{"id":"%s","kind":"tree","name":"../../etc/passwd"}}', 400),
    "name with a newline": ('{"workflow":"finds","target":{"id":"%s","kind":"file","name":"a\\nb"}}', 400),
    "priority too large": ('{"workflow":"finds","target":{"id":"%s","kind":"tree"},"priority":101}', 400),
    "priority is no integer": ('{"workflow":"finds","target":{"id":"%s","kind":"tree"},"priority":1.5}', 400),
    "huge number": ('{"workflow":"finds","target":{"id":"%s","kind":"tree"},"priority":99999999999999999999999}', 400),
    "negative time": ('{"workflow":"finds","target":{"id":"%s","kind":"tree"},"timeout_ms":-1}', 400),
    "time out of bounds": ('{"workflow":"finds","target":{"id":"%s","kind":"tree"},"timeout_ms":9007199254740993}', 400),
    "bad date": ('{"workflow":"finds","target":{"id":"%s","kind":"tree"},"not_before":"2026-02-30T00:00:00Z"}', 400),
    "params is a list": ('{"workflow":"finds","target":{"id":"%s","kind":"tree"},"params":[]}', 400),
    "nested too deep": ('{"workflow":"takes","target":{"id":"%s","kind":"tree"},"params":{"any":' + "[" * 900 + "]" * 900 + "}}", 400),
    "key too long": ('{"workflow":"finds","target":{"id":"%s","kind":"tree"},"idempotency_key":"' + "k" * 129 + '"}', 400),
    "key not printable": ('{"workflow":"finds","target":{"id":"%s","kind":"tree"},"idempotency_key":"a\\nb"}', 400),
    "odd label": ('{"workflow":"finds","target":{"id":"%s","kind":"tree"},"labels":{"a b":"c"}}', 400),
    "label is a number": ('{"workflow":"finds","target":{"id":"%s","kind":"tree"},"labels":{"a":1}}', 400),
    "too many labels": ('{"workflow":"finds","target":{"id":"%s","kind":"tree"},"labels":{'
                        + ",".join(f'"k{i}":"v"' for i in range(17)) + "}}", 400),
    "too large": ('{"workflow":"' + "x" * 2_000_000 + '"}', 413),
}


@pytest.fixture(name="target", scope="module")
def target_fixture(server):
    return server.upload({"a.txt": "planted\n"})


@pytest.mark.parametrize("name", BODIES)
def test_bad_submission(server, target, name):
    body, status = BODIES[name]
    body = body.replace("%s", target["id"]).encode()
    answer = server.call("POST", "/v1/runs", body=body, headers={"Content-Type": "application/json"})
    refused(answer, *(status if isinstance(status, tuple) else (status,)))


def test_a_dry_run_is_judged_and_leaves_nothing(server):
    body = {"workflow": "finds", "target": {"name": "app.tar.zst", "kind": "tree"}, "dry_run": True}
    assert server.call("POST", "/v1/runs", json=body).expect(200).json() == {"dry_run": True}
    for wrong in ({"params": {"nope": 1}}, {"priority": 101}, {"labels": {"a b": "c"}}, {"target": {"name": "a/b", "kind": "tree"}},
                  {"target": {"name": "a", "kind": "zip"}}, {"target": {"name": "a"}}, {"dry_run": 1}):
        refused(server.call("POST", "/v1/runs", json=body | wrong), 400)
    refused(server.call("POST", "/v1/runs", json=body | {"workflow": "nothing"}), 404)
    refused(server.call("POST", "/v1/runs", json=body | {"dry_run": False}), 400)  # then the target has an id


def test_invalid_utf8_in_a_submission(server):
    refused(server.call("POST", "/v1/runs", body=b'{"workflow":"\xff\xfe"}'), 400)


WORKER_BODIES = {
    "register": ['{"worker":"../w"}', '{"worker":"w","slots":-1}', '{"worker":1}', "[]"],
    "lease": ['{"worker":"nobody","free":1}', '{"worker":"w","free":-5}', '{"worker":"w","held":[{"run":"../x","fence":"1-1"}]}'],
    "beat": ['{"worker":"w","held":{}}', '{"worker":"w","held":[{"run":"finds-0123456789abcdef","fence":"x"}]}'],
    "report": ['{"worker":"w","run":"finds-0123456789abcdef","fence":"1-1","outcome":"perfect"}', "{}",
               '{"worker":"w","run":"finds-0123456789abcdef","fence":"1-1","outcome":"completed","manifest_sha256":"../../x"}'],
    "leave": ['{"worker":""}', "{}"],
    "adopt": ['{"worker":"w","job_id":"x","workflow":"finds","target":"%","parameters":"{"}', "{}"],
}


@pytest.mark.parametrize("route", WORKER_BODIES)
def test_bad_words_of_a_worker(server, route):
    for body in WORKER_BODIES[route]:
        answer = server.call("POST", f"/v1/worker/{route}", body=body.encode())
        refused(answer, 400, 404, 409)


@pytest.mark.parametrize("query", ["", "worker=w", "worker=w&run=../../x&fence=1-1&offset=0", "worker=w&run=finds-0123456789abcdef&fence=1-1&offset=-1",
                                   "worker=w&run=finds-0123456789abcdef&fence=1-1&offset=0"])
def test_bad_log_chunk(server, query):
    refused(server.call("POST", f"/v1/worker/logs?{query}", body=b"text"), 400, 404, 409)


# Paths, methods, queries -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    ["/v1/run/../../etc/passwd", "/v1/run/%2e%2e%2f%2e%2e%2fetc%2fpasswd", "/v1/run/a", "/v1/run/aaaa%00bbbb", "/v1/run/%ff%fe%fd%fc",
     "/v1/run/" + "x" * 5000, "/v1/run/%zz%zz", "/v1/target/..%2f..%2fetc", "/v1/workflow/..%2f..%2fetc", "/v1/run/finds-0000000000000000",
     "/v1/run/finds-0000000000000000/artifact/../../../etc/passwd", "/v1/run/finds-0000000000000000/logs?offset=-1", "/v1/run/finds%27%20OR%201=1--",
     "/", "//v1/runs", "/v2/runs", "/v1/nothing"],
)
def test_bad_path(server, path):
    refused(server.call("GET", path), 400, 404, 414)


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "limit=-1", "state=sleeping", "since=yesterday", "label=novalue", "next_token=%ff",
                                   "next_token=../..", "index=-1", "index=x", "wait=forever&index=1"])
def test_bad_query(server, query):
    refused(server.call("GET", f"/v1/runs?{query}"), 400)


@pytest.mark.parametrize("method,path", [("POST", "/v1/agent/health"), ("DELETE", "/v1/runs"), ("PUT", "/v1/runs"), ("PATCH", "/v1/runs"),
                                         ("GET", "/v1/worker/lease"), ("POST", "/v1/targets"), ("BREW", "/v1/runs")])
def test_wrong_method(server, method, path):
    refused(server.call(method, path), 404, 405)


def test_body_where_none_belongs(server):
    refused(server.call("GET", "/v1/runs", body=b"x" * 100_000), 400, 413)


# The wire --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "head,statuses",
    [
        ("GET /v1/runs HTTP/1.1\r\n" + ADDRESS + "X-Long: " + "a" * 100_000 + "\r\n\r\n", (431, 413, 400)),
        ("GET /v1/runs HTTP/1.1\r\n" + ADDRESS + "".join(f"X-{i}: {i}\r\n" for i in range(20_000)) + "\r\n", (431, 413, 400)),
        ("GET /" + "a" * 100_000 + " HTTP/1.1\r\n" + ADDRESS + "\r\n", (414, 431, 400, 404)),
        ("BOGUS\r\n\r\n", (400, 0)),
        ("GET /v1/runs HTTP/9.9\r\n" + ADDRESS + "\r\n", (400, 505)),
        ("POST /v1/runs HTTP/1.1\r\n" + ADDRESS + "Content-Length: -5\r\n\r\n", (400,)),
        ("POST /v1/runs HTTP/1.1\r\n" + ADDRESS + "Content-Length: 99999999999999999999999\r\n\r\n", (400, 413)),
        ("POST /v1/runs HTTP/1.1\r\n" + ADDRESS + "Transfer-Encoding: chunked\r\n\r\nZZZ\r\n", (400,)),
        ("PUT /v1/targets HTTP/1.1\r\n" + ADDRESS + f"Content-Length: {10 ** 15}\r\n\r\n", (413,)),
    ],
    ids=["long header", "many headers", "long path", "no HTTP", "future HTTP", "negative length", "huge length", "bad chunk", "petabyte"],
)
def test_broken_request(server, head, statuses):
    with Wire(server) as wire:
        wire.send(head.encode("latin-1"))
        if head.startswith("BOGUS"):  # what is no request need not be answered, only not waited for
            wire.half_close()
        status, _ = wire.answer()
    assert status in statuses


def test_client_that_speaks_tls_and_leaves(server):
    with Wire(server) as wire:
        wire.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")


def test_half_closed_upload(server):
    with Wire(server) as wire:
        wire.send("PUT /v1/targets HTTP/1.1\r\n" + ADDRESS + "Content-Length: 1000000\r\n\r\n" + "x" * 500_000)
        wire.half_close()
        status, _ = wire.answer()
    assert status in (0, 400, 408)


def test_upload_that_is_cut_off(server):
    for size in (0, 1, 300_000, 6_000_000):
        with Wire(server) as wire:
            wire.send(b"PUT /v1/targets HTTP/1.1\r\n" + ADDRESS.encode() + b"Content-Length: 20000000\r\n\r\n" + b"y" * size)


def test_many_uploads_that_are_cut_off_at_once(server):
    wires = [Wire(server) for _ in range(64)]
    for wire in wires:
        wire.send(b"PUT /v1/targets HTTP/1.1\r\n" + ADDRESS.encode() + b"Content-Length: 20000000\r\n\r\n" + b"y" * 1000)
    for wire in wires:
        wire.socket.close()


def test_slow_upload_is_cut(server):
    with Wire(server, timeout_s=60) as wire:
        wire.send("PUT /v1/targets HTTP/1.1\r\n" + ADDRESS + "Content-Length: 1000000\r\n\r\nx")
        status, error = wire.error()
    assert status == 408 and error.get("code") == "timeout", (status, error)


def test_slow_clients_do_not_hold_others_up(server):
    wires = [Wire(server) for _ in range(200)]
    try:
        for wire in wires:
            wire.send("GET /v1/runs HTTP/1.1\r\nHost: dro")
        assert server.call("GET", "/v1/runs", timeout_s=5).status == 200
    finally:
        for wire in wires:
            wire.socket.close()


def test_reader_that_does_not_read(server):
    wires = [Wire(server) for _ in range(20)]
    try:
        for wire in wires:
            wire.send(("GET /v1/workflows HTTP/1.1\r\n" + ADDRESS + "\r\n") * 200)
        assert server.call("GET", "/v1/runs").status == 200
    finally:
        for wire in wires:
            wire.socket.close()


def test_two_lengths_are_refused(server):
    """What two parsers would read differently is no request."""
    with Wire(server) as wire:
        wire.send("POST /v1/runs HTTP/1.1\r\n" + ADDRESS + "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /v1/runs HTTP/1.1\r\n"
                  + ADDRESS + "\r\n")
        status, _ = wire.answer()
    assert status == 400


# Uploads ---------------------------------------------------------------------------------------------------------


def test_empty_upload(server):
    refused(server.call("PUT", "/v1/targets", body=b""), 400)
    refused(server.call("PUT", "/v1/targets", body=iter(())), 400)


def test_wrong_digest(server):
    wrong = hashlib.sha256(b"something else").hexdigest()
    error = refused(server.call("PUT", "/v1/targets", body=b"some bytes", headers={"X-Drover-Sha256": wrong}), 400)
    assert hashlib.sha256(b"some bytes").hexdigest()[:8] in error["message"] + error.get("hint", "") or "digest" in error["message"]


@pytest.mark.parametrize("digest", ["", "xyz", "A" * 64, "0" * 63, "../" * 21 + "x"])
def test_digest_that_is_none(server, digest):
    if digest:
        refused(server.call("PUT", "/v1/targets", body=b"b", headers={"X-Drover-Sha256": digest}), 400)
    refused(server.call("POST", "/v1/targets/lookup", json={"sha256": digest, "size_bytes": 1}), 400)


@pytest.mark.parametrize("name", ["%2e%2e%2fetc%2fpasswd", "a%00b", "%ff%fe", "a%2fb", "x" * 3000, "%0d%0aX: y", "%zz"])
def test_bad_filename(server, name):
    refused(server.call("PUT", "/v1/targets", body=b"bytes of a bad name", headers={"X-Drover-Filename": name}), 400)


def test_upload_over_the_limit(server):
    def pieces():
        for _ in range(65):
            yield b"z" * (1 << 20)

    try:
        answer = server.call("PUT", "/v1/targets", body=pieces(), timeout_s=60)
    except (BrokenPipeError, ConnectionResetError):
        return  # it may close on a client that does not stop
    refused(answer, 413)


# Workflows -------------------------------------------------------------------------------------------------------

BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(12)
)
METADATA = {
    "empty": "",
    "not YAML": "name: [",
    "YAML bomb": BOMB,
    "deep": "[" * 10_000,
    "tag": "name: !!python/object/apply:os.system ['true']\n",
    "duplicate key": "name: pushed\nname: pushed\n",
    "unknown key": "name: pushed\nvertical: story\ncolour: red\nsteps: [{name: main, run: [sh]}]\n",
    "no steps": "name: pushed\nvertical: story\n",
    "other name": "name: other\nvertical: story\nsteps: [{name: main, run: [sh]}]\n",
    "two documents": "name: pushed\n---\nname: pushed\n",
    "huge": "description: " + "x" * 300_000,
    "invalid UTF-8": b"name: \xff\xfe\n",
    "NUL": b"name: pushed\0\n",
}


@pytest.mark.parametrize("name", METADATA)
def test_bad_metadata_is_refused_with_file_and_line(server, name):
    error = refused(server.call("PUT", "/v1/workflow/pushed", body=pack({"metadata.yaml": METADATA[name]})), 400)
    assert "metadata.yaml" in error["message"], error
    server.call("GET", "/v1/workflow/pushed").expect(404)


def test_bad_bundle_is_refused(server):
    for body in (b"", b"not a tar", b"\x1f\x8b" + b"x" * 100, pack({"other.txt": "no metadata"}), pack({"../metadata.yaml": "name: pushed"})):
        refused(server.call("PUT", "/v1/workflow/pushed", body=body), 400)
    refused(server.call("PUT", "/v1/workflow/pushed", body=b"x" * (17 << 20)), 413)
    refused(server.call("PUT", "/v1/workflow/..%2fpushed", body=pack({"metadata.yaml": "name: x"})), 400, 404)


def test_broken_folder_harms_no_other(server):
    folder = os.path.join(server.toolbox.folder, "workflows", "broken")
    os.makedirs(folder)
    path = os.path.join(folder, "metadata.yaml")
    with open(path, "w", encoding="utf-8") as file:
        file.write("name: broken\nvertical: story\ncolour: red\nsteps:\n  - {name: main, run: [sh]}\n")

    def listed():
        return [row for row in server.get("/v1/workflows")["broken"] if row["name"] == "broken"]

    row = wait.until("the broken workflow to be told", listed)[0]
    assert row["line"] == 3 and row["file"].endswith("metadata.yaml") and "colour" in row["reason"]
    assert sorted(w["name"] for w in server.get("/v1/workflows")["workflows"]) == ["finds", "takes"]
    os.remove(path)
    os.rmdir(folder)
    wait.until("the broken workflow to be forgotten", lambda: not listed())
