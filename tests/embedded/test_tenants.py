"""Nobody sees, changes or guesses what belongs to another tenant, and no name leads out of its place."""

import json
import time
import urllib.parse

import pytest

from alone import Dispatcher, put, sha256

TOKENS = (("ann", ["read", "submit"], "red"), ("bob", ["read", "submit"], "blue"), ("eve", ["read"], "blue"),
          ("wal", ["worker"], "red"), ("ops", ["admin"], "ops"))


class As:
    """The dispatcher's calls with somebody's token."""

    def __init__(self, d, name):
        self.d, self.name = d, name

    def call(self, method, path, body=None, headers=None):
        return self.d.call(method, path, body, {"Authorization": f"Bearer {self.name}", **(headers or {})})

    def get(self, path):
        return self.call("GET", path)


class Guarded(Dispatcher):
    """Its own words are said with the operator's token."""

    def call(self, method, path, body=None, headers=None):
        return super().call(method, path, body, {"Authorization": "Bearer ops", **(headers or {})})


@pytest.fixture
def d(tmp_path):
    tokens = [{"name": n, "sha256": sha256(n.encode()), "scopes": s, "tenant": t} for n, s, t in TOKENS]
    (tmp_path / "data").mkdir(mode=0o700)
    file = tmp_path / "data" / "tokens.json"
    file.write_text(json.dumps(tokens))
    file.chmod(0o600)
    dispatcher = Guarded(tmp_path)
    yield dispatcher
    assert dispatcher.stop() == 0, (tmp_path / "log").read_text()


@pytest.fixture
def ann(d):
    return As(d, "ann")


@pytest.fixture
def bob(d):
    return As(d, "bob")


def submit(d, who, **more):
    target = who.call("PUT", "/v1/targets", b"shared bytes").json["target"]
    a = who.call("POST", "/v1/runs", d.submission(target, **more))
    assert a.status in (200, 201), a.body
    return a.json["run"], target


def finish(d, run):
    """Runs it as a worker would, with results and a log."""
    d.register()
    lease = d.take(only=run["id"])
    query = urllib.parse.urlencode({"worker": "w1", "run": run["id"], "fence": lease["fence"], "offset": 0})
    assert d.call("POST", f"/v1/worker/logs?{query}", b"a secret line\n").status == 200
    folder = f"{run['id']}/1"
    files = [{"name": "artifacts/a", "size_bytes": 6, "sha256": sha256(b"secret")}]
    put(d, "results", f"{folder}/results.sarif", b'{"secret": 1}')
    put(d, "results", f"{folder}/artifacts/a", b"secret")
    put(d, "results", f"{folder}/results.json", json.dumps({"files": files}).encode())
    assert d.report(lease).json == {"state": "completed"}


def test_nothing_of_a_run_is_seen_or_changed_by_another_tenant(d, ann, bob):
    run, target = submit(d, ann)
    short = run["id"][:-6]
    reads = [f"/v1/run/{{}}{rest}" for rest in ("", "/logs", "/logs?follow=true", "/findings", "/artifacts", "/artifact/artifacts/a",
                                                "/events", "?index=1&wait=100ms")]
    for finished in (False, True):
        if finished:
            finish(d, run)
        for path in reads:
            for name in (run["id"], short):
                a = bob.get(path.format(name))
                assert a.status == 404, (path, a.body)
                assert b"secret" not in a.body and (name == run["id"] or run["id"].encode() not in a.body)
        for method, path in (("POST", f"/v1/run/{run['id']}/cancel"), ("DELETE", f"/v1/target/{target['id']}"),
                             ("GET", f"/v1/target/{target['id']}"), ("GET", f"/v1/target/{target['id'][:8]}")):
            assert bob.call(method, path).status == 404, path
    for path in reads[:-1]:
        assert ann.get(path.format(run["id"])).status == 200, path
    assert ann.get(f"/v1/target/{target['id']}").status == 200


def test_lists_and_filters_end_at_the_tenant(d, ann, bob):
    run, target = submit(d, ann, labels={"team": "x"})
    for query in ("", "?tenant=red", f"?target={target['id']}", "?label=team%3Dx", "?state=queued", "?workflow=echo", "?limit=1000"):
        assert bob.get(f"/v1/runs{query}").json["runs"] == [], query
    assert bob.get("/v1/targets").json["targets"] == []
    assert bob.get(f"/v1/targets?next_token={'0' * 8}-0000-0000-0000-{'0' * 12}").json["targets"] == []
    assert [r["id"] for r in d.call("GET", "/v1/runs?tenant=red").json["runs"]] == [run["id"]]
    assert d.call("GET", "/v1/runs?tenant=blue").json["runs"] == []


def test_a_prefix_is_unique_among_ones_own(d, ann, bob):
    """Neither a conflict nor its list of matches may tell of others' ids."""
    (hers, _), (his, _) = submit(d, ann), submit(d, bob)
    a = ann.get("/v1/run/echo")
    assert a.status == 200 and a.json["run"]["id"] == hers["id"]
    more, _ = submit(d, ann)
    a = ann.get("/v1/run/echo")
    assert a.status == 409 and his["id"] not in a.body.decode() and more["id"] in a.body.decode()


def test_the_same_bytes_are_two_targets(d, ann, bob):
    _, hers = submit(d, ann)
    lookup = {"sha256": hers["sha256"], "size_bytes": hers["size_bytes"]}
    assert bob.call("POST", "/v1/targets/lookup", lookup).status == 404
    his = bob.call("PUT", "/v1/targets", b"shared bytes", {"X-Drover-Sha256": hers["sha256"]})
    assert his.status == 201 and his.json["target"]["id"] != hers["id"]
    assert bob.call("POST", "/v1/runs", d.submission(hers)).status == 404
    assert bob.call("POST", "/v1/runs", d.submission({"id": hers["id"][:8]})).status == 404
    assert bob.call("DELETE", f"/v1/target/{his.json['target']['id']}").status == 200
    assert ann.get(f"/v1/target/{hers['id']}").status == 200


def test_idempotency_keys_belong_to_a_tenant(d, ann, bob):
    (hers, _), (his, _) = submit(d, ann, idempotency_key="k"), submit(d, bob, idempotency_key="k")
    assert hers["id"] != his["id"]
    assert submit(d, ann, idempotency_key="k")[0]["id"] == hers["id"]


def test_what_is_done_to_many_ends_at_the_tenant(d, ann, bob):
    hers, target = submit(d, ann)
    for action in ("cancel", "requeue", "purge"):
        a = bob.call("POST", f"/v1/runs/{action}", {"state": "queued,failed,canceled", "tenant": "red"})
        assert a.status == 200 and a.json["matched"] == 0
    assert bob.call("DELETE", f"/v1/run/{hers['id']}").status == 404
    assert bob.call("POST", f"/v1/run/{hers['id']}/requeue", {}).status == 404
    assert As(d, "eve").call("POST", "/v1/runs/cancel", {"state": "queued"}).status == 403
    assert d.run(hers["id"])["state"] == "queued"
    # Another tenant's name means nothing to her; least of all her own runs.
    a = ann.call("POST", "/v1/runs/cancel", {"tenant": "blue"})
    assert a.status == 200 and a.json["matched"] == 0 and d.run(hers["id"])["state"] == "queued"
    assert ann.get("/v1/runs?tenant=blue").json["runs"] == [] and len(ann.get("/v1/runs?tenant=red").json["runs"]) == 1
    a = ann.call("POST", "/v1/runs/cancel", {"target": target["id"]})
    assert a.json["done"] == 1


def test_event_streams_end_at_the_tenant(d, ann, bob):
    c = d.connect(timeout=20)
    c.request("GET", "/v1/events", headers={"Authorization": "Bearer bob"})
    stream = c.getresponse()
    (hers, _), (his, _) = submit(d, ann), submit(d, bob)
    text = b""
    while his["id"].encode() not in text:
        text += stream.readline()
    assert hers["id"].encode() not in text and b'"tenant":"red"' not in text
    c.close()
    c = d.connect(timeout=20)
    c.request("GET", "/v1/events?index=1", headers={"Authorization": "Bearer bob", "Last-Event-ID": "0"})
    stream, text = c.getresponse(), b""
    while his["id"].encode() not in text:
        text += stream.readline()
    assert hers["id"].encode() not in text, "what happened before is filtered as well"
    c.close()


def test_waiting_tells_nothing_of_others(d, ann, bob):
    """An answer that comes when something happens to a run would tell its id, digit by digit."""
    run, _ = submit(d, ann)
    index = ann.get(f"/v1/run/{run['id']}").headers["X-Drover-Index"]
    for name in (run["id"], run["id"][:-3]):
        assert bob.get(f"/v1/run/{name}?index={index}&wait=5m").status == 404
    began = time.monotonic()
    assert ann.get(f"/v1/run/{run['id'][:-3]}?index={index}&wait=200ms").status == 200
    assert time.monotonic() - began >= 0.2


def test_scopes_hold(d, bob):
    cases = {"eve": [("PUT", "/v1/targets"), ("POST", "/v1/runs"), ("POST", "/v1/run/echo-0000/cancel"), ("DELETE", "/v1/target/0000"),
                     ("PUT", "/v1/workflow/echo"), ("POST", "/v1/targets/lookup")],
             "bob": [("PUT", "/v1/workflow/echo")] + [("POST", f"/v1/worker/{w}") for w in
                                                      ("register", "lease", "beat", "report", "leave", "adopt", "logs")],
             "wal": [("GET", "/v1/runs"), ("GET", "/v1/targets"), ("PUT", "/v1/targets"), ("GET", "/v1/events"), ("GET", "/metrics"),
                     ("GET", "/v1/workers"), ("GET", "/v1/queue"), ("GET", "/v1/workflows")]}
    for name, calls in cases.items():
        for method, path in calls:
            assert As(d, name).call(method, path, b"{}" if method != "GET" else None).status == 403, (name, path)


def test_what_a_fleet_does_for_others_is_not_told(d, ann, bob):
    """Queue and workers are common; they name no run, target or tenant of others."""
    run, target = submit(d, ann)
    d.register()
    d.take()
    for path in ("/v1/queue", "/v1/workers", "/metrics"):
        text = bob.get(path).body.decode()
        assert not any(word in text for word in (run["id"], target["id"], '"red"')), path


def test_of_pauses_one_sees_those_of_verticals_and_ones_own(d, ann, bob):
    run, _ = submit(d, ann)
    submit(d, bob)
    for path in ("/v1/pause/tenant/red", "/v1/pause/vertical/python"):
        assert bob.call("PUT", path, {}).status == 403 and bob.call("DELETE", path).status == 403
        assert d.call("PUT", path, {"reason": "they did not pay"}).status == 200

    def seen(who, path, key):
        a = who.get(path).json
        return sorted(p["name"] for p in (a.get("explain") or a)[key])

    his = bob.get("/v1/runs").json["runs"][0]["id"]
    for path, key in (("/v1/pauses", "pauses"), ("/v1/queue", "paused")):
        assert seen(bob, path, key) == ["python"] and seen(ann, path, key) == ["python", "red"] == seen(As(d, "ops"), path, key)
    assert seen(bob, f"/v1/run/{his}/explain", "paused") == ["python"]
    assert seen(ann, f"/v1/run/{run['id']}/explain", "paused") == ["python", "red"]


def test_why_runs_of_a_vertical_fail_is_told_to_those_whose_run_it_was(d, ann, bob):
    for _ in range(5):
        submit(d, ann)
    d.register(slots=5)
    for lease in d.lease(free=5).json["leases"]:
        d.report(lease, "failed", fail_class="infra", reason="no room for customer-list.zip")
    mine, _ = submit(d, ann)
    his, _ = submit(d, bob)
    for who, run, told in ((bob, his, False), (ann, mine, True), (As(d, "ops"), his, True)):
        for path in ("/v1/queue", "/v1/breakers", f"/v1/run/{run['id']}/explain"):
            answer = who.get(path)
            assert "python" in json.dumps([b for b in (answer.json.get("explain") or answer.json)["breakers"] if b["state"] == "open"])
            assert ("customer-list" in answer.body.decode()) == told, (who, path)
    assert "of another tenant" in bob.get(f"/v1/run/{his['id']}/explain").json["explain"]["summary"]


@pytest.mark.parametrize("name", [
    "..%2f..%2f..%2fdata%2ftokens.json", "%2e%2e/%2e%2e/targets", "artifacts/..%2f..%2f2/artifacts/a", "/etc/passwd", "%2fetc%2fpasswd",
    "artifacts%00", "artifacts/a%00", "artifacts//a", ".", "..", "artifacts/./a", "artifacts/a/", "%ff%fe", "a" * 600, "manifest.json",
    "artifacts/a%0d%0aX-Injected:%201", "artifacts%5c..%5ca",
])
def test_artifact_names_stay_in_their_run(d, ann, name):
    run, _ = submit(d, ann)
    finish(d, run)
    a = ann.get(f"/v1/run/{run['id']}/artifact/{name}")
    assert a.status in (400, 404), (name, a.body)
    assert "X-Injected" not in a.headers and json.loads(a.body)["error"]["message"]


def test_no_text_of_a_client_becomes_a_header(d, ann):
    run, _ = submit(d, ann)
    evil = "%0d%0aX-Injected:%201%0d%0a%0d%0abody"
    for path in (f"/v1/run/{run['id']}{evil}", f"/v1/workflow/{evil}", f"/v1/runs?state={evil}", f"/v1/run/{run['id']}/logs?offset={evil}",
                 f"/v1/{evil}", f"/v1/runs?label={evil}", f"/v1/target/{evil}"):
        a = ann.get(path)
        assert a.status in (400, 404) and "X-Injected" not in a.headers, path
        assert json.loads(a.body)["error"]["message"], path
    a = ann.call("PUT", "/v1/targets", b"x", {"X-Drover-Filename": "a%0d%0aX-Injected:%201"})
    assert a.status == 400 and "X-Injected" not in a.headers


def test_workers_say_nothing_about_runs_they_do_not_hold(d, ann):
    run, _ = submit(d, ann)
    d.register()
    lease = d.take()
    d.register("w2")
    progress = {"step": "forged", "percent": 99, "message": "not mine"}
    assert d.beat([d.held(lease, progress=progress, steps=[])], worker="w2").status == 200
    assert ann.get(f"/v1/run/{run['id']}").json["run"]["progress"] is None
    query = urllib.parse.urlencode({"worker": "w2", "run": run["id"], "fence": lease["fence"], "offset": 0})
    assert d.call("POST", f"/v1/worker/logs?{query}", b"forged").status == 409
    assert d.report({**lease, "fence": "1-77"}, worker="w2").status == 409
    assert ann.get(f"/v1/run/{run['id']}").json["run"]["state"] == "running"
