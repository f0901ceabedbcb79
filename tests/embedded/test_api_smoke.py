"""The dispatcher alone over loopback: this file plays client and worker, and checks every route of docs/API.md."""
import base64
import http.client
import io
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import tarfile
import threading
import time
import urllib.parse

import pytest

from alone import BIN, METADATA, Dispatcher, put, sha256, wait_for


@pytest.fixture
def d(tmp_path):
    dispatcher = Dispatcher(tmp_path)
    yield dispatcher
    if dispatcher.process.poll() is None:
        assert dispatcher.stop() == 0, (tmp_path / "log").read_text()


# --- the whole way of a run ---

def test_a_run_from_submission_to_its_end(d):
    target = d.upload(b"bytes", X_Drover_Filename="a%20b.bin")
    assert target["sha256"] == sha256(b"bytes") and target["filename"] == "a b.bin" and target["size_bytes"] == 5
    run = d.submit(target, params={"level": "high"}, labels={"team": "red"})
    assert run["state"] == "queued" and run["attempt"] == 0
    assert d.run(run["id"][:len(run["id"]) - 4])["waiting"]["code"] != ""

    epoch = d.register().json["epoch"]
    lease = d.take()
    assert lease["run"] == run["id"] and lease["attempt"] == 1 and lease["fence"].startswith(f"{epoch}-")
    assert lease["params"] == {"level": "high"} and lease["target"]["key"] == f"{target['id']}/target"
    assert lease["timeout_ms"] == 600000 and lease["bundle"]["key"].startswith("bundles/")
    shown = d.run(run["id"])
    assert shown["state"] == "running" and shown["worker"] == "w1" and shown["node"] == "n1"

    beat = d.beat([d.held(lease, progress={"step": "say", "percent": 50, "message": "half"}, steps=[])])
    assert beat.json == {"cancel": [], "lost": [], "drain": False}
    assert d.run(run["id"])["progress"]["percent"] == 50
    assert d.call("GET", f"/v1/run/{run['id']}/findings").status == 409

    assert d.report(lease).json == {"state": "completed"}
    assert d.report(lease).json == {"state": "completed"}, "a repeated report is the same"
    shown = d.run(run["id"])
    assert shown["state"] == "completed" and shown["findings"]["error"] == 1 and shown["steps"][0]["name"] == "say"
    assert [h["state"] for h in shown["history"]] == ["queued", "running", "completed"]
    assert d.call("GET", f"/v1/run/{run['id']}/findings").status == 404
    assert d.call("POST", f"/v1/run/{run['id']}/cancel").status == 409


def test_a_stale_fence_is_refused(d):
    d.submit()
    d.register()
    first = d.take()
    assert d.report(first, "handed_back").json == {"state": "queued"}
    second = d.take()
    assert second["attempt"] == 2 and second["fence"] != first["fence"]
    stale = {**second, "fence": second["fence"] + "9"}
    assert d.report(stale).status == 409
    assert d.beat([d.held(first)]).json["lost"] == [first["run"]]
    assert d.report(second).json == {"state": "completed"}
    assert d.report(stale).status == 409


def test_a_lease_whose_answer_got_lost_is_offered_again(d):
    d.submit()
    d.register()
    lease = d.take()
    assert d.take(held=[]) == lease
    assert d.lease(held=[d.held(lease)], wait_ms=10).json["leases"] == []


def test_a_worker_that_is_not_known_registers_again(d):
    assert d.lease(worker="ghost").status == 404
    assert d.beat([], worker="ghost").status == 404


def test_cancel_queued_and_running(d):
    target = d.upload()
    queued = d.submit(target)
    assert d.call("POST", f"/v1/run/{queued['id']}/cancel", {"reason": "no need"}).json["run"]["state"] == "canceled"
    running = d.submit(target)
    d.register()
    lease = d.take()
    beat = []
    waiting = threading.Thread(target=lambda: beat.append(d.beat([d.held(lease)], wait_ms=20000)))
    waiting.start()
    began = time.monotonic()
    assert d.call("POST", f"/v1/run/{running['id']}/cancel").json["run"]["state"] == "canceling"
    waiting.join()
    assert beat[0].json["cancel"] == [running["id"]] and time.monotonic() - began < 10, "not at the end of its wait"
    assert d.report(lease, "canceled").json == {"state": "canceled"}


def test_failure_is_failure(d):
    d.submit()
    d.register()
    lease = d.take()
    d.report(lease, "failed", fail_class="tool", reason="bandit broke", partial=True)
    run = d.run(lease["run"])
    assert (run["state"], run["fail_class"], run["reason"], run["partial"]) == ("failed", "tool", "bandit broke", True)


def test_adopt_a_hand_made_dispatch(d):
    target = d.upload(b"adopted")
    job = "drover-run-python/dispatch-1-a"
    d.register("w9", mode="once", slots=1, job_id=job, alloc_id="a1")
    body = {"worker": "w9", "job_id": job, "workflow": "echo", "target": target["sha256"], "parameters": "{\"level\": \"high\"}"}
    first = d.call("POST", "/v1/worker/adopt", body)
    assert first.status == 200, first.body
    assert first.json == d.call("POST", "/v1/worker/adopt", {**body, "target": target["id"][:8]}).json
    lease = d.take(worker="w9", only=first.json["run"])
    assert lease["run"] == first.json["run"] and lease["params"] == {"level": "high"}
    run = d.run(lease["run"])
    assert run["adopted"] and run["job_id"] == job and run["alloc_id"] == "a1"
    assert d.report(lease, worker="w9", leaving=True).json == {"state": "completed"}
    assert d.call("POST", "/v1/worker/adopt", {**body, "parameters": "{\"level\": 7}", "job_id": "other"}).status == 400


# --- submissions ---

@pytest.mark.parametrize("change, status", [
    ({"workflow": "nothing"}, 404), ({"workflow": 7}, 400), ({"params": {"level": "middle"}}, 400),
    ({"params": {"unknown": 1}}, 400), ({"priority": 101}, 400), ({"timeout_ms": 10 ** 12}, 400), ({"surplus": 1}, 400),
    ({"labels": {"a b": "c"}}, 400), ({"not_before": "tomorrow"}, 400), ({"idempotency_key": ""}, 400),
])
def test_bad_submissions(d, change, status):
    a = d.call("POST", "/v1/runs", {**d.submission(d.upload()), **change})
    assert a.status == status, a.body
    assert a.json["error"]["message"]
    assert d.call("GET", "/v1/runs").json["runs"] == []


def test_bad_bodies(d):
    for body in (b"{", b"[]", b"\xff\xfe", b"{\"a\":1,\"a\":2}", b"[" * 5000):
        assert d.call("POST", "/v1/runs", body).status == 400
    assert d.call("POST", "/v1/runs", b" " * (300 * 1024)).status == 413
    unknown = {"id": "00000000-0000-0000-0000-000000000000", "kind": "file"}
    assert d.call("POST", "/v1/runs", {"workflow": "echo", "target": unknown}).status == 404


def test_an_idempotency_key_makes_one_run(d):
    target = d.upload()
    body = d.submission(target, idempotency_key="k1")
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(d.call("POST", "/v1/runs", body))) for _ in range(12)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert sorted(a.status for a in answers) == [200] * 11 + [201]
    assert len({a.json["run"]["id"] for a in answers}) == 1
    assert d.call("POST", "/v1/runs", {**body, "priority": 7}).status == 409
    assert len(d.call("GET", "/v1/runs").json["runs"]) == 1
    d.kill()
    d.start()
    assert d.call("POST", "/v1/runs", body).status == 200


def test_lists_have_pages_and_filters(d):
    target = d.upload()
    ids = [d.submit(target, labels={"n": str(i)})["id"] for i in range(7)]
    seen, token = [], ""
    while token is not None:
        page = d.call("GET", "/v1/runs?limit=3" + (f"&next_token={token}" if token else "")).json
        seen += [r["id"] for r in page["runs"]]
        token = page.get("next_token")
    assert seen == ids[::-1]
    assert "params" not in page["runs"][0]
    for query, count in (("state=queued", 7), ("state=running,failed", 0), ("workflow=echo", 7), ("workflow=x", 0),
                         ("label=n%3D3", 1), ("label=n%3D9", 0), (f"target={target['id']}", 7), ("vertical=python", 7),
                         ("until=2001-01-01T00:00:00Z", 0), ("since=2001-01-01T00:00:00Z", 7)):
        assert len(d.call("GET", f"/v1/runs?{query}").json["runs"]) == count, query
    for query in ("limit=0", "limit=1001", "state=odd", "next_token=x", "label=x", "since=x", "index=x", "wait=x"):
        assert d.call("GET", f"/v1/runs?{query}").status == 400, query
    assert d.call("GET", "/v1/run/echo-").status == 409
    assert d.call("GET", "/v1/run/ech").status == 400
    assert d.call("GET", "/v1/run/nothing-here").status == 404


def test_blocking_reads_wait_for_a_change(d):
    run = d.submit()
    index = d.call("GET", f"/v1/run/{run['id']}").headers["X-Drover-Index"]
    began = time.monotonic()
    d.call("GET", f"/v1/runs?index={index}&wait=300ms")
    assert time.monotonic() - began >= 0.3
    answers = []
    waiting = threading.Thread(
        target=lambda: answers.append(d.call("GET", f"/v1/run/{run['id']}?index={index}&wait=20s").json["run"]))
    waiting.start()
    d.call("POST", f"/v1/run/{run['id']}/cancel")
    waiting.join(10)
    assert answers and answers[0]["state"] == "canceled"


# --- targets ---

def test_uploads(d):
    data = os.urandom(3 * 1024 * 1024)
    lookup = {"sha256": sha256(data), "size_bytes": len(data)}
    assert d.call("POST", "/v1/targets/lookup", lookup).status == 404
    first = d.call("PUT", "/v1/targets", data, {"X-Drover-Sha256": sha256(data)})
    assert first.status == 201
    assert d.call("POST", "/v1/targets/lookup", lookup).json["target"]["id"] == first.json["target"]["id"]
    again = d.call("PUT", "/v1/targets", iter([data[:100], data[100:]])) # sent in chunks
    assert again.status == 200 and again.json["target"]["id"] == first.json["target"]["id"]
    assert d.store.keys("targets") == {f"{first.json['target']['id']}/target"}
    assert len(d.call("GET", "/v1/targets").json["targets"]) == 1


def test_bad_uploads_leave_nothing(d):
    assert d.call("PUT", "/v1/targets", b"x", {"X-Drover-Sha256": sha256(b"y")}).status == 400
    assert d.call("PUT", "/v1/targets", b"x", {"X-Drover-Sha256": "short"}).status == 400
    assert d.call("PUT", "/v1/targets", b"", {}).status == 400
    assert d.call("PUT", "/v1/targets", iter([])).status == 400
    assert d.call("PUT", "/v1/targets", b"x", {"X-Drover-Filename": "a%2Fb"}).status == 400
    assert d.call("PUT", "/v1/targets", b"x", {"X-Drover-Filename": "%ff"}).status == 400
    with socket.create_connection((d.host, d.port)) as s: # cut off midway
        s.sendall(b"PUT /v1/targets HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n" + b"z" * 5000)
    assert d.call("GET", "/v1/targets").json["targets"] == []
    wait_for(lambda: d.store.keys("targets") == set())


def test_concurrent_uploads_of_the_same_and_of_other_bytes(d):
    pieces = [bytes([i]) * 2_000_000 for i in range(4)] * 3
    answers = []
    threads = [threading.Thread(target=lambda p=p: answers.append((p, d.upload(p)))) for p in pieces]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(answers) == 12 and all(t["sha256"] == sha256(p) for p, t in answers)
    assert len({t["id"] for _, t in answers}) == 4


def test_a_target_in_use_cannot_be_deleted(d):
    target = d.upload()
    run = d.submit(target)
    assert d.call("DELETE", f"/v1/target/{target['id']}").status == 409
    d.call("POST", f"/v1/run/{run['id']}/cancel")
    assert d.call("DELETE", f"/v1/target/{target['id']}").status == 200
    assert d.call("GET", f"/v1/target/{target['id']}").status == 404
    assert d.call("POST", "/v1/runs", d.submission(target)).status == 404


# --- logs, events, results ---

def logs_path(d, lease, offset):
    return "/v1/worker/logs?" + urllib.parse.urlencode(
        {"worker": "w1", "run": lease["run"], "fence": lease["fence"], "offset": offset})


def test_logs_are_followed(d):
    d.submit()
    d.register()
    lease = d.take()
    assert d.call("POST", logs_path(d, lease, 0), b"hello ").json == {"next": 6}
    assert d.call("POST", logs_path(d, lease, 3), b"lo world\n").json == {"next": 12}
    assert d.call("POST", logs_path(d, lease, 0), b"hello ").json == {"next": 12}
    assert d.call("GET", f"/v1/run/{lease['run']}/logs").body == b"hello world\n"
    assert d.call("GET", f"/v1/run/{lease['run']}/logs?offset=6").body == b"world\n"
    text = []
    follower = threading.Thread(target=lambda: text.append(d.call("GET", f"/v1/run/{lease['run']}/logs?follow=true").body))
    follower.start()
    d.call("POST", logs_path(d, lease, 12), b"the end\n")
    d.report(lease)
    follower.join(10)
    assert text == [b"hello world\nthe end\n"]
    assert d.call("POST", logs_path(d, lease, 20), b"late").status == 409


def test_event_streams(d):
    run = d.submit()
    c = d.connect()
    c.request("GET", f"/v1/run/{run['id']}/events")
    stream = c.getresponse()
    d.register()
    d.report(d.take())
    text = stream.read().decode() # ends by itself after the final event
    states = [json.loads(l[6:])["state"] for l in text.splitlines() if l.startswith("data: ")]
    assert states == ["queued", "running", "completed"]
    ids = [int(l[4:]) for l in text.splitlines() if l.startswith("id: ")]
    c.request("GET", f"/v1/run/{run['id']}/events", headers={"Last-Event-ID": str(ids[0])})
    again = c.getresponse().read().decode()
    assert [json.loads(l[6:])["state"] for l in again.splitlines() if l.startswith("data: ")] == ["running", "completed"]
    c.close()


@pytest.mark.parametrize("older", [False, True], ids=["", "of-an-older-worker"])
def test_findings_and_artifacts(d, older):
    run = d.submit()
    d.register()
    lease = d.take()
    folder = f"{lease['run']}/{lease['attempt']}"
    sarif = json.dumps({"version": "2.1.0", "runs": [], "pad": "x" * 700_000}).encode()
    big = os.urandom(2_000_000)
    put(d, "results", f"{folder}/results.sarif", sarif)
    put(d, "results", f"{folder}/artifacts/crash-1.bin", big)
    files = [{"name": "artifacts/crash-1.bin", "size_bytes": len(big), "sha256": sha256(big)}]
    manifest = json.dumps({"files": files}).encode()
    if older:  # its results.json names no files
        put(d, "results", f"{folder}/results.json", b'{"outcome": "completed"}')
        put(d, "results", f"{folder}/manifest.json", manifest)
    else:
        put(d, "results", f"{folder}/results.json", manifest)
        files.append({"name": "results.json", "size_bytes": len(manifest), "sha256": sha256(manifest)})
    d.report(lease)
    a = d.call("GET", f"/v1/run/{run['id']}/findings")
    assert a.body == sarif and a.headers["Content-Type"] == "application/sarif+json"
    assert d.call("GET", f"/v1/run/{run['id']}/artifacts").json == {"artifacts": files}
    assert d.call("GET", f"/v1/run/{run['id']}/artifact/artifacts/crash-1.bin").body == big
    assert older or d.call("GET", f"/v1/run/{run['id']}/artifact/results.json").body == manifest
    assert d.call("GET", f"/v1/run/{run['id']}/artifact/other").status == 404
    assert d.call("GET", f"/v1/run/{run['id']}/artifact/..%2f..%2fx").status == 400


def test_clients_that_take_no_bytes_hold_up_nobody(d):
    """As many as there are threads for the store's small calls."""
    run = d.submit()
    d.register()
    d.report(d.take())
    put(d, "results", f"{run['id']}/1/results.sarif", bytes(32 << 20))  # more than all buffers on the way
    put(d, "results", f"{run['id']}/1/results.json", b'{"files": []}')
    clients = []
    for _ in range(4):
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        s.connect((d.host, d.port))
        s.sendall(f"GET /v1/run/{run['id']}/findings HTTP/1.1\r\nHost: d\r\n\r\n".encode())
        assert s.recv(1) == b"H"
        clients.append(s)
    assert d.call("GET", f"/v1/run/{run['id']}/artifacts").status == 200
    assert d.call("DELETE", f"/v1/target/{d.upload(b'of nobody')['id']}").json == {"object": "removed"}
    for s in clients:
        s.close()


def test_a_connection_that_ends_makes_room_for_another_one(tmp_path):
    """At the most that may be open none is taken; the next one must not wait until something else happens."""
    d = Dispatcher(tmp_path, CONNECTIONS_MAX="16")
    clients = [d.connect() for _ in range(16)]
    for c in clients:
        c.request("GET", "/v1/agent/health")
        assert c.getresponse().read()
    clients[0].close()
    assert d.call("GET", "/v1/agent/health").status == 200
    for c in clients:
        c.close()
    assert d.stop() == 0


def test_a_low_limit_of_descriptors_is_raised(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, hard), hard))
    try:
        d = Dispatcher(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert resource.prlimit(d.process.pid, resource.RLIMIT_NOFILE) == (hard, hard)
    assert d.stop() == 0


# --- toolbox ---

def tar_of(files):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as t:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            t.addfile(info, io.BytesIO(data))
    return out.getvalue()


def test_a_workflow_that_may_still_come_is_not_called_unknown(tmp_path):
    """The dispatcher has just started, or cannot store the bundles: it is asked again."""
    class Away:
        def env(self):
            with socket.socket() as s:
                s.bind(("127.0.0.1", 0))
                return {"S3_ENDPOINT": f"http://127.0.0.1:{s.getsockname()[1]}", "S3_ACCESS_KEY": "key", "S3_SECRET_KEY": "secret"}

    d = Dispatcher(tmp_path, store=Away(), ready=False)
    target = {"id": "0" * 8 + "-0000-0000-0000-" + "0" * 12}
    for a in (d.call("POST", "/v1/runs", d.submission(target)), d.call("GET", "/v1/workflow/echo")):
        assert a.status == 503 and a.headers["Retry-After"] and "not known yet" in a.json["error"]["message"]
    assert d.stop() == 0


def test_the_toolbox_is_watched(d):
    names = lambda: {w["name"]: w["version"] for w in d.call("GET", "/v1/workflows").json["workflows"]}
    assert names() == {"echo": "1.0.0"}
    new = d.toolbox / "workflows" / "other"
    new.mkdir()
    (new / "metadata.yaml").write_text(METADATA.replace("name: echo", "name: other"))
    wait_for(lambda: "other" in names())
    (d.toolbox / "workflows" / "echo" / "metadata.yaml").write_text(METADATA.replace("1.0.0", "1.0.1"))
    wait_for(lambda: names()["echo"] == "1.0.1")
    (new / "metadata.yaml").write_text("name: other\nnonsense: 1\n")
    wait_for(lambda: "other" not in names())
    broken = d.call("GET", "/v1/workflows").json["broken"]
    assert broken[0]["name"] == "other" and broken[0]["file"] == "metadata.yaml" and broken[0]["line"] > 0
    assert names()["echo"] == "1.0.1"


def test_another_folder_in_the_place_of_the_toolbox_is_read(d):
    def place(version):
        new = d.root / f"toolbox-{version}"
        shutil.copytree(d.root / "first", new)
        (new / "workflows" / "echo" / "metadata.yaml").write_text(METADATA.replace("1.0.0", version))
        new.rename(d.toolbox)

    def versions():
        return [w["version"] for w in d.call("GET", "/v1/workflows").json["workflows"]]

    shutil.copytree(d.toolbox, d.root / "first")
    d.toolbox.rename(d.root / "away")
    place("2.0.0")
    wait_for(lambda: versions() == ["2.0.0"])
    shutil.rmtree(d.toolbox)
    wait_for(lambda: versions() == [])
    place("3.0.0")
    wait_for(lambda: versions() == ["3.0.0"])


def test_what_cannot_be_read_is_not_taken_for_gone(d):
    workflows, aside = d.toolbox / "workflows", d.toolbox / "aside"
    workflows.rename(aside)
    workflows.write_text("no folder")
    wait_for(lambda: d.call("GET", "/v1/workflow/echo").status == 503)
    assert "Not a directory" in d.call("GET", "/v1/agent/health").json["components"]["toolbox"]
    workflows.unlink()
    aside.rename(workflows)
    wait_for(lambda: d.call("GET", "/v1/workflow/echo").status == 200)
    wait_for(lambda: d.call("GET", "/v1/agent/health").json["components"]["toolbox"] == "ok")


def test_a_workflow_that_comes_back_is_stored_again(d):
    """Its bundle may be gone by then: what no run refers to is removed."""
    file = d.toolbox / "workflows" / "echo" / "metadata.yaml"

    def change(version):
        file.write_text(METADATA.replace("1.0.0", version))
        wait_for(lambda: d.call("GET", "/v1/workflow/echo").json["workflow"]["version"] == version)
        return "bundles/" + d.call("GET", "/v1/workflow/echo").json["workflow"]["bundle"]

    first = next(key for key in d.store.keys("toolbox"))
    assert change("1.0.1") != first
    d.store.remove("toolbox", first)
    assert first.startswith(change("1.0.0")) and first in d.store.keys("toolbox")


def test_a_workflow_is_pushed_and_survives(d):
    tar = tar_of({"metadata.yaml": METADATA.replace("1.0.0", "2.0.0").encode(), "step.py": b"print(1)\n"})
    a = d.call("PUT", "/v1/workflow/echo", tar)
    assert a.status == 201 and a.json["workflow"]["source"] == "push", a.body
    run = d.submit()
    assert run["workflow_version"] == "2.0.0" and run["bundle"] == a.json["workflow"]["bundle"]
    d.kill()
    d.start()
    assert d.call("GET", "/v1/workflow/echo").json["workflow"]["version"] == "2.0.0"
    assert d.call("PUT", "/v1/workflow/echo", tar_of({"metadata.yaml": b"name: echo\nbad: 1\n"})).status == 400
    assert d.call("PUT", "/v1/workflow/echo", b"no tar").status == 400
    assert d.call("PUT", "/v1/workflow/echo", tar_of({"../metadata.yaml": b"x"})).status == 400
    assert d.call("GET", "/v1/workflow/missing").status == 404


# --- tokens ---

def test_tokens_scopes_and_tenants(tmp_path):
    tokens = [{"name": n, "sha256": sha256(n.encode()), "scopes": s, "tenant": t, "created_at": "2026-01-01T00:00:00Z"}
              for n, s, t in (("ann", ["read", "submit"], "red"), ("bob", ["read", "submit"], "blue"),
                              ("eve", ["read"], "red"), ("ops", ["admin"], "ops"))]
    (tmp_path / "data").mkdir(mode=0o700)
    file = tmp_path / "data" / "tokens.json"
    file.write_text(json.dumps(tokens))
    file.chmod(0o600)
    d = Dispatcher(tmp_path)
    bearer = lambda n: {"Authorization": f"Bearer {n}"}
    assert d.call("GET", "/v1/runs").status == 401
    assert d.call("GET", "/v1/runs", headers=bearer("wrong")).status == 401
    assert d.call("GET", "/v1/runs", headers={"X-Drover-Token": "ann"}).status == 200
    basic = base64.b64encode(b"anything:ann").decode()
    assert d.call("GET", "/v1/runs", headers={"Authorization": f"Basic {basic}"}).status == 200
    assert d.call("PUT", "/v1/targets", b"x", bearer("eve")).status == 403
    assert d.call("POST", "/v1/worker/leave", {"worker": "w"}, bearer("ann")).status == 403
    mine = d.call("PUT", "/v1/targets", b"x", bearer("ann")).json["target"]
    theirs = d.call("PUT", "/v1/targets", b"x", bearer("bob")).json["target"]
    assert mine["id"] != theirs["id"]
    run = d.call("POST", "/v1/runs", d.submission(mine), bearer("ann")).json["run"]
    assert d.call("POST", "/v1/runs", d.submission(mine), bearer("bob")).status == 404
    for path in (f"/v1/run/{run['id']}", f"/v1/run/{run['id']}/logs", f"/v1/run/{run['id']}/events",
                 f"/v1/target/{mine['id']}"):
        assert d.call("GET", path, headers=bearer("bob")).status == 404, path
    assert d.call("GET", "/v1/runs", headers=bearer("bob")).json["runs"] == []
    assert len(d.call("GET", "/v1/runs", headers=bearer("ops")).json["runs"]) == 1
    assert d.call("POST", f"/v1/run/{run['id']}/cancel", None, bearer("bob")).status == 404
    assert d.stop() == 0


def test_without_tokens_only_loopback_is_served(tmp_path):
    env = {"PATH": os.environ["PATH"], "DROVER_LISTEN": "0.0.0.0:0", "DROVER_DATA_DIR": str(tmp_path / "data"),
           "STORE_DIR": str(tmp_path / "store")}
    p = subprocess.run([BIN / "drover-dispatcher"], env=env, capture_output=True, timeout=60)
    assert p.returncode == 1 and b"drover init" in p.stderr


# --- the process ---

def test_acknowledged_runs_survive_a_kill(d):
    target = d.upload()
    acknowledged, stop = [], threading.Event()

    def client():
        while not stop.is_set():
            try:
                a = d.call("POST", "/v1/runs", d.submission(target))
                if a.status == 201:
                    acknowledged.append(a.json["run"]["id"])
            except (OSError, http.client.HTTPException):
                return

    threads = [threading.Thread(target=client) for _ in range(8)]
    for t in threads:
        t.start()
    wait_for(lambda: len(acknowledged) > 100)
    d.kill()
    stop.set()
    for t in threads:
        t.join()
    d.start()
    known, token = set(), ""
    while token is not None:
        page = d.call("GET", "/v1/runs?limit=1000" + (f"&next_token={token}" if token else "")).json
        known |= {r["id"] for r in page["runs"]}
        token = page.get("next_token")
    assert set(acknowledged) <= known


def test_a_lease_survives_a_restart(d):
    d.submit()
    d.register()
    lease = d.take()
    d.kill()
    d.start()
    assert d.beat([d.held(lease)]).status == 404, "register first"
    d.register()
    assert d.beat([d.held(lease)]).json["lost"] == []
    assert d.report(lease).json == {"state": "completed"}


def test_stopping_answers_long_polls(d):
    d.register()
    answers = []
    waiting = threading.Thread(target=lambda: answers.append(d.lease(wait_ms=30000)))
    waiting.start()
    # One of its four slots is offered: its poll is there.
    wait_for(lambda: d.call("GET", "/v1/queue").json["verticals"][0]["slots_free"] == 1)
    began = time.monotonic()
    assert d.stop() == 0 and time.monotonic() - began < 15
    waiting.join()
    assert answers and answers[0].status in (200, 503)
    assert not (d.data / "address").exists()


def test_one_dispatcher_per_ledger(d):
    env = {"PATH": os.environ["PATH"], "DROVER_LISTEN": "127.0.0.1:0", "DROVER_DATA_DIR": str(d.data),
           **d.store.env()}
    p = subprocess.run([BIN / "drover-dispatcher"], env=env, capture_output=True, timeout=60)
    assert p.returncode == 1 and b"another dispatcher" in p.stderr


def test_health_metrics_workers_queue(d):
    health = d.call("GET", "/v1/agent/health").json
    assert health["components"]["ledger"] == "ok" and health["components"]["nomad"] == "off"
    d.register()
    d.submit()
    worker = d.call("GET", "/v1/workers").json["workers"][0]
    assert worker["id"] == "w1" and worker["tools"] == {"bandit": "1"} and worker["node"] == "n1"
    queue = d.call("GET", "/v1/queue").json
    assert queue["verticals"][0]["queued"] == 1 and queue["nomad"]["state"] == "off"
    text = d.call("GET", "/metrics").body.decode()
    assert 'drover_queue_depth{vertical="python"} 1' in text and "drover_ledger_writable 1" in text
    assert d.call("POST", "/v1/worker/leave", {"worker": "w1"}).json == {}
    wait_for(lambda: d.call("GET", "/v1/workers").json["workers"] == [])
    assert d.call("GET", "/v1/nothing").status == 404


def test_hang_up_reads_tokens_again(d):
    file = d.data / "tokens.json"
    temporary = d.data / "tokens.new"
    temporary.write_text(json.dumps([{"name": "a", "sha256": sha256(b"a"), "scopes": ["read"], "tenant": "t"}]))
    temporary.chmod(0o600)
    temporary.rename(file)
    d.process.send_signal(signal.SIGHUP)
    wait_for(lambda: d.call("GET", "/v1/runs").status == 401)
    assert d.call("GET", "/v1/runs", headers={"Authorization": "Bearer a"}).status == 200
