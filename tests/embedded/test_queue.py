"""What a submission may ask of the queue, and what an operator may do to it: turns by key, most wait, pauses, shares."""

import json

import pytest

from alone import METADATA, Dispatcher, sha256, wait_for


@pytest.fixture(name="d")
def d_fixture(tmp_path):
    dispatcher = Dispatcher(tmp_path)
    dispatcher.register()
    yield dispatcher
    assert dispatcher.stop() == 0, (tmp_path / "log").read_text()


def nothing(d, **more):
    """Nobody is given a run now."""
    a = d.lease(wait_ms=50, **more)
    assert a.status == 200 and a.json["leases"] == [], a.body


def why(d, run):
    return d.run(run)["waiting"]["code"]


def test_runs_of_a_key_take_turns(d):
    one = d.submit(concurrency={"key": "prod"})
    two = d.submit(concurrency={"key": "prod"})
    other = d.submit(concurrency={"key": "test"})["id"]
    assert one["concurrency"] == {"key": "prod", "limit": 1, "mode": "queue"}
    first = d.take(free=1)
    assert first["run"] == one["id"]
    held = [d.held(first)]
    second = d.take(free=1, held=held)
    assert second["run"] == other
    held.append(d.held(second))
    nothing(d, held=held, free=2)
    assert why(d, two["id"]) == "key"
    d.kill()
    d.start()
    d.register()
    wait_for(lambda: d.beat(held).json["lost"] == [])
    nothing(d, held=held, free=2)
    d.report(first)
    assert d.take(held=[d.held(second)])["run"] == two["id"]


def test_a_key_may_have_several_slots(d):
    runs = [d.submit(concurrency={"key": "prod", "limit": 2})["id"] for _ in range(3)]
    leases = d.lease(free=4, wait_ms=200).json["leases"]
    assert [lease["run"] for lease in leases] == runs[:2]
    nothing(d, free=2, held=[d.held(lease) for lease in leases])


def test_where_no_turn_is_free_a_submission_may_fail_or_replace(d):
    one = d.submit(concurrency={"key": "prod"})["id"]
    a = d.call("POST", "/v1/runs", d.submission(d.upload(), concurrency={"key": "prod", "mode": "fail"}))
    assert a.status == 409 and one in a.json["error"]["message"]
    two = d.submit(concurrency={"key": "prod", "mode": "replace"})["id"]
    wait_for(lambda: d.run(one)["state"] == "canceled")
    assert d.take()["run"] == two


def test_a_workflow_s_key_is_a_template(d):
    text = METADATA.replace("name: echo", "name: turns").replace("target: any", 'target: any\nconcurrency_key: "${workflow} ${params.level}/${target}"')
    folder = d.toolbox / "workflows" / "turns"
    folder.mkdir()
    (folder / "metadata.yaml").write_text(text)
    wait_for(lambda: d.call("GET", "/v1/workflow/turns").status == 200)
    target = d.upload()
    a = d.call("POST", "/v1/runs", {**d.submission(target), "workflow": "turns", "params": {"level": "high"}})
    assert a.json["run"]["concurrency"]["key"] == f"turns high/{target['id']}"
    a = d.call("POST", "/v1/runs", {**d.submission(target), "workflow": "turns", "concurrency": {"key": ""}})
    assert a.json["run"]["concurrency"] is None


def test_a_run_gives_up_after_its_most_wait(d):
    run = d.submit(max_wait_ms=1000, not_before="2020-01-01T00:00:00Z")
    assert run["max_wait_ms"] == 1000
    wait_for(lambda: d.run(run["id"])["state"] == "failed")
    gone = d.run(run["id"])
    assert gone["fail_class"] == "timeout" and "maximum wait" in gone["reason"] and gone["attempt"] == 0
    nothing(d)


@pytest.mark.parametrize("kind,name", [("vertical", "python"), ("tenant", "default")])
def test_what_is_paused_waits_also_after_a_restart(d, kind, name):
    held = d.submit()["id"]
    lease = d.take()
    run = d.submit()["id"]
    a = d.call("PUT", f"/v1/pause/{kind}/{name}", {"reason": "maintenance"})
    assert a.status == 200 and a.json["pause"]["reason"] == "maintenance"
    nothing(d, held=[d.held(lease)])
    waiting = d.run(run)["waiting"]
    assert waiting["code"] == "paused" and "maintenance" in waiting["text"]
    assert d.report(lease).status == 200 and d.run(held)["state"] == "completed"
    d.kill()
    d.start()
    d.register()
    nothing(d)
    assert [(p["kind"], p["name"]) for p in d.call("GET", "/v1/pauses").json["pauses"]] == [(kind, name)]
    assert d.call("GET", "/v1/queue").json["paused"] != []
    assert d.call("DELETE", f"/v1/pause/{kind}/{name}").status == 200
    assert d.take()["run"] == run
    assert d.call("DELETE", f"/v1/pause/{kind}/{name}").status == 404
    assert d.call("GET", "/v1/pauses").json["pauses"] == []


@pytest.mark.parametrize("method,path,status", [
    ("PUT", "/v1/pause/vertical/nope", 404), ("PUT", "/v1/pause/workflow/echo", 404), ("PUT", f"/v1/pause/tenant/{'x' * 200}", 400),
    ("DELETE", "/v1/pause/vertical/nope", 404)])
def test_what_cannot_be_paused(d, method, path, status):
    assert d.call(method, path, {} if method == "PUT" else None).status == status


@pytest.mark.parametrize("more", [
    {"concurrency": {"limit": 0}}, {"concurrency": {"limit": 1001}}, {"concurrency": {"mode": "wait"}}, {"concurrency": {"key": "x" * 128}},
    {"concurrency": {"slots": 1}}, {"concurrency": "prod"}, {"max_wait_ms": 10}, {"max_wait_ms": "1h"}])
def test_bad_wishes_are_refused(d, more):
    a = d.call("POST", "/v1/runs", d.submission(d.upload(), **more))
    assert a.status == 400 and (next(iter(more)) in a.json["error"]["message"]), a.body


def test_tenants_share_what_there_is(tmp_path):
    """One tenant's long queue does not keep another's first run waiting."""
    (tmp_path / "data").mkdir(mode=0o700)
    tokens = [{"name": n, "sha256": sha256(n.encode()), "scopes": ["admin"], "tenant": n} for n in ("red", "blue")]
    (tmp_path / "data" / "tokens.json").write_text(json.dumps(tokens))
    (tmp_path / "data" / "tokens.json").chmod(0o600)

    class Red(Dispatcher):
        who = "red"

        def call(self, method, path, body=None, headers=None):
            return super().call(method, path, body, {"Authorization": f"Bearer {self.who}", **(headers or {})})

    d = Red(tmp_path)
    d.register()
    target = d.upload()
    for _ in range(40):
        d.submit(target)
    d.report(d.take())
    d.who = "blue"
    late = d.submit()["id"]
    assert d.take(free=1)["run"] == late
    assert d.stop() == 0


def test_a_worker_that_has_the_target_is_preferred(d):
    """Two runs of equal standing: each goes to the worker whose node holds its target."""
    first, second = d.upload(b"one"), d.upload(b"two")
    cache = {"bytes": 3, "max_bytes": 1000, "entries": 1, "pinned_bytes": 0, "hits": 0, "misses": 0, "evictions": 0,
             "free_bytes": 1000, "workspace_method": "overlay", "holds": [second["sha256"][:16]]}
    d.register("w2", cache=cache)
    one, two = d.submit(first)["id"], d.submit(second)["id"]
    assert d.take(worker="w2")["run"] == two
    assert d.take(worker="w1")["run"] == one
