"""Several reports of a worker and its next poll in one request."""
import time

import pytest

from alone import Dispatcher


@pytest.fixture
def d(tmp_path):
    dispatcher = Dispatcher(tmp_path, LEASE_TTL="60s")
    yield dispatcher
    if dispatcher.process.poll() is None:
        assert dispatcher.stop() == 0, (tmp_path / "log").read_text()


def report(lease, outcome="completed", **more):
    return {"run": lease["run"], "fence": lease["fence"], "outcome": outcome, **more}


def exchange(d, reports, free=None, held=(), status=200, **lease):
    body = {"worker": "w1", "reports": reports}
    if free is not None:
        body["lease"] = {"free": free, "held": [{"run": one["run"], "fence": one["fence"]} for one in held], **lease}
    answer = d.call("POST", "/v1/worker/exchange", body)
    assert answer.status == status, answer
    return answer.json


def test_reports_and_the_next_leases_in_one_request(d):
    runs = {d.submit()["id"] for _ in range(6)}
    d.register(slots=3)
    first = exchange(d, [], free=3, wait_ms=5000)["leases"]
    assert len(first) == 3
    answer = exchange(d, [report(first[0]), report(first[1], "failed", fail_class="tool")], free=2, held=first[2:])
    assert [(one["run"], one["result"], one["state"]) for one in answer["reports"]] == [
        (first[0]["run"], "ok", "completed"), (first[1]["run"], "ok", "failed")]
    second = answer["leases"]
    assert len(second) == 2 and {one["run"] for one in first + second} <= runs
    assert d.run(first[0]["run"])["state"] == "completed" and d.run(first[1]["run"])["fail_class"] == "tool"
    assert first[2]["run"] not in {one["run"] for one in second}, "it was said to be held"


def test_each_report_has_an_answer_of_its_own(d):
    for _ in range(2):
        d.submit()
    d.register(slots=2)
    one, two = exchange(d, [], free=2, wait_ms=5000)["leases"]
    stale = {**two, "fence": "1-999999"}
    answer = exchange(d, [report(one), report(stale), {"run": "no run", "fence": "x", "outcome": "completed"}, report(two, "nonsense")])
    results = {entry["run"]: entry["result"] for entry in answer["reports"] if entry["result"] != "invalid"}
    assert results[one["run"]] == "ok" and results[two["run"]] == "conflict"
    assert sum(entry["result"] == "invalid" and entry["message"] != "" for entry in answer["reports"]) == 2
    assert answer["leases"] == [] and d.run(two["run"])["state"] == "running"
    assert exchange(d, [report(one)])["reports"][0]["result"] == "ok", "repeated"


def test_the_answer_to_reports_does_not_wait_for_work(d):
    d.submit()
    d.register()
    lease = d.take()
    answer = exchange(d, [report(lease)], free=1, wait_ms=60000)
    assert answer["reports"][0]["state"] == "completed" and answer["leases"] == [] and answer["refused"] == ""


def test_reports_need_no_other_event_to_be_answered(d):
    """The dispatcher has nothing else to do, and its own next timer is seconds away."""
    for _ in range(4):
        d.submit()
        d.register()
        lease = d.take()
        began = time.monotonic()
        assert exchange(d, [report(lease)])["reports"][0]["state"] == "completed"
        assert time.monotonic() - began < 2


def test_reports_count_though_the_worker_is_unknown(d):
    """After a restart: the report is taken, and the worker is told to register before it gets more."""
    run = d.submit()
    d.register()
    lease = d.take()
    d.kill()
    d.start()
    answer = exchange(d, [report(lease)], free=1)
    assert answer["reports"][0]["result"] == "ok" and answer["refused"] == "register"
    assert d.run(run["id"])["state"] == "completed"


@pytest.mark.parametrize("body", [{"worker": "w1", "reports": [3]}, {"worker": "w1", "reports": {}}, {"reports": []},
                                  {"worker": "w1", "lease": {"free": 99}}, {"worker": "w1", "lease": {"held": []}},
                                  {"worker": "w1", "more": 1}, {"worker": "w1", "reports": [{}] * 33}])
def test_bad_exchanges_are_refused_whole(d, body):
    d.register()
    answer = d.call("POST", "/v1/worker/exchange", body)
    assert answer.status == 400 and answer.json["error"]["code"] == "invalid", answer
