"""Why a run waits, runs or has ended, in one answer that a person can act on."""

import json

import pytest

from alone import Dispatcher


@pytest.fixture(name="d")
def d_fixture(tmp_path):
    dispatcher = Dispatcher(tmp_path)
    yield dispatcher
    assert dispatcher.stop() == 0, (tmp_path / "log").read_text()


def explain(d, run):
    a = d.call("GET", f"/v1/run/{run}/explain")
    assert a.status == 200, a.body
    return a.json["explain"]


def test_without_a_worker_it_says_so(d):
    run = d.submit()["id"]
    x = explain(d, run)
    assert x["waiting"]["code"] == "no_worker" and x["workers"] == [] and x["nomad"]["state"] == "off"
    assert x["waiting"]["text"] in x["summary"] and x["lane"]["vertical"] == "python" and x["lane"]["queued"] == 1
    assert x["history"][0]["state"] == "queued"


def test_behind_others_it_tells_its_place_and_who_is_busy(d):
    d.register(slots=1)
    target = d.upload()
    runs = [d.submit(target)["id"] for _ in range(4)]
    d.take()
    x = explain(d, runs[3])
    assert x["waiting"]["position"] == 3 and "place 3" in x["summary"]
    assert [(w["worker"], w["state"], w["leases"], w["slots"]) for w in x["workers"]] == [("w1", "busy", 1, 1)]


def test_an_unfit_worker_says_why(d):
    d.register(health="the store cannot be reached")
    x = explain(d, d.submit()["id"])
    assert x["workers"][0]["state"] == "unfit" and "store" in x["workers"][0]["why"]


def test_a_retry_tells_of_its_attempts(d):
    d.register()
    run = d.submit()["id"]
    lease = d.take()
    x = explain(d, run)
    assert x["summary"].startswith("It runs, attempt 1") and "w1" in x["summary"] and x["waiting"] is None
    d.report(lease, "failed", fail_class="infra", reason="no disk")
    x = explain(d, run)
    assert "1 attempt" in x["summary"] or x["state"] == "running"


def test_what_has_ended_says_how(d):
    d.register()
    run = d.submit()["id"]
    d.report(d.take(), "failed", fail_class="tool", reason="step main: exit code 3")
    x = explain(d, run)
    assert x["state"] == "failed" and "exit code 3" in x["summary"] and "lane" not in x
    done = d.submit()["id"]
    d.report(d.take())
    assert "completed" in explain(d, done)["summary"]
    assert d.call("GET", "/v1/run/echo-0000000000000000/explain").status == 404


def test_pauses_and_keys_are_named(d):
    d.register()
    first = d.submit(concurrency={"key": "prod"})["id"]
    second = d.submit(concurrency={"key": "prod"})["id"]
    d.take()
    x = explain(d, second)
    assert x["waiting"]["code"] == "key" and "prod" in x["waiting"]["text"]
    d.call("PUT", "/v1/pause/tenant/default", {"reason": "audit"})
    x = explain(d, second)
    assert x["waiting"]["code"] == "paused" and "audit" in x["summary"] and x["paused"][0]["kind"] == "tenant"
    assert first != second


def test_who_is_ahead_and_how_long_it_takes(d):
    d.register(slots=1)
    target = d.upload()
    for _ in range(3):
        d.submit(target)
        d.report(d.take())
    runs = [d.submit(target)["id"] for _ in range(3)]
    d.take()
    w = explain(d, runs[2])["waiting"]
    assert (w["ahead_own"], w["ahead_others"], w["position"]) == (1, 0, 2)
    assert w["share"] == 1 and w["estimate_ms"] >= 0 and w["basis"] != "" and w["expires_ms"] is None
    late = d.submit(target, max_wait_ms=3600000)["id"]
    assert 0 < explain(d, late)["waiting"]["expires_ms"] <= 3600000


def test_a_breaker_holds_back_what_would_fail_as_well(d):
    """Runs that fail one after the other for want of a disk: the others wait instead of using up their attempts."""
    d.register(slots=8)
    target = d.upload()
    runs = [d.submit(target)["id"] for _ in range(12)]
    leases = d.lease(free=5).json["leases"]
    assert len(leases) == 5
    for lease in leases:
        d.report(lease, "failed", fail_class="infra", reason="no space left on /var/cache")
    waiting = [r for r in runs if d.run(r)["attempt"] == 0]
    x = explain(d, waiting[0])
    assert x["waiting"]["code"] == "breaker" and "no space left" in x["summary"]
    assert [(b["kind"], b["name"], b["state"]) for b in x["breakers"]] == [("vertical", "python", "open")]
    assert d.call("GET", "/v1/queue").json["breakers"][0]["failures"] >= 5
    assert d.lease(wait_ms=50).json["leases"] == []
    # After a while one of them is tried, and its success lets all go on.
    probe = d.take(wait_ms=20000)
    assert d.lease(wait_ms=50, held=[d.held(probe)]).json["leases"] == []
    d.report(probe)
    assert len(d.lease(free=4, wait_ms=5000).json["leases"]) >= 1
    assert {b["state"] for b in d.call("GET", "/v1/breakers").json["breakers"] if b["kind"] == "vertical"} == {"closed"}


@pytest.mark.parametrize("pad", range(5))
def test_a_text_that_is_cut_within_a_character_is_still_told(d, pad):
    """Reasons are cut to fit: what is left of the last character must not take the answer, or the dispatcher, with it."""
    long = "x" * pad + "\u00e4\u20ac" * 60
    run = d.submit()["id"]
    assert d.call("PUT", "/v1/pause/tenant/default", {"reason": long}).status == 200
    assert "paused" in explain(d, run)["summary"]
    a = d.call("POST", f"/v1/run/{run}/cancel", {"reason": long})
    assert a.status == 200 and long[:60] in a.json["run"]["reason"]
    assert long[:60] in explain(d, run)["summary"]
    assert [m["state"] for m in d.run(run)["history"]] == ["queued", "canceled"]
    stream = d.connect(timeout=20)
    stream.request("GET", f"/v1/run/{run}/events")
    told = [json.loads(line[5:]) for line in stream.getresponse().read().splitlines() if line.startswith(b"data:")]
    assert long[:60] in told[-1]["reason"]
    stream.close()
