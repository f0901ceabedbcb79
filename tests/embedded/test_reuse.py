"""A submission may be answered with a run that does the same, where it asks for that; never with one that does something else."""

import json
import sqlite3

import pytest

from alone import METADATA, Dispatcher, wait_for


@pytest.fixture(name="d")
def d_fixture(tmp_path):
    dispatcher = Dispatcher(tmp_path)
    dispatcher.register()
    yield dispatcher
    assert dispatcher.stop() == 0, (tmp_path / "log").read_text()


def ask(d, target, reuse, **more):
    """(status, id of the run)."""
    a = d.call("POST", "/v1/runs", d.submission(target, reuse=reuse, **more))
    assert a.status in (200, 201), a.body
    assert a.status == 200 or "reused" not in a.json
    return a.status, a.json["run"]["id"]


def end(d, outcome="completed", **more):
    """The next run is taken and ends so; its id."""
    lease = d.take()
    assert d.report(lease, outcome, **more).status == 200
    return lease["run"]


def test_a_live_run_is_joined_until_it_ends(d):
    target = d.upload()
    first = d.submit(target)["id"]
    assert ask(d, target, "live") == (200, first)
    lease = d.take()
    assert ask(d, target, "live", priority=90, labels={"a": "b"}) == (200, first)
    assert d.report(lease).status == 200
    status, second = ask(d, target, "live")
    assert status == 201 and second != first
    assert ask(d, target, "never")[0] == 201


def test_a_completed_run_is_taken_but_no_failed_one(d):
    target = d.upload()
    assert ask(d, target, "completed")[0] == 201
    failed = end(d, "failed", fail_class="tool", reason="broke")
    status, second = ask(d, target, "completed")
    assert status == 201 and second != failed
    assert end(d) == second
    assert ask(d, target, "completed") == (200, second)
    assert ask(d, target, "completed", reuse_max_age_ms=3600000) == (200, second)
    third = d.submit(target)["id"]
    assert ask(d, target, "completed") == (200, third)  # one that is under way is fresher
    d.kill()
    d.start()
    assert ask(d, target, "live") == (200, third)


def test_results_that_go_sooner_than_they_are_wanted_are_of_no_use(d):
    target = d.upload()
    short = d.submit(target, retention_ms=60000)["id"]
    assert end(d) == short
    assert ask(d, target, "completed", retention_ms=60000) == (200, short)
    status, usual = ask(d, target, "completed")  # kept as the settings say: longer
    assert status == 201 and end(d) == usual
    assert ask(d, target, "completed", retention_ms=86400000) == (200, usual)  # a day, of the month that it is kept
    assert ask(d, target, "completed", retention_ms=90 * 86400000)[0] == 201


def test_a_run_whose_results_are_gone_is_of_no_use(d):
    target = d.upload()
    first = d.submit(target)["id"]
    assert end(d) == first
    assert ask(d, target, "completed") == (200, first)
    d.stop()
    with sqlite3.connect(d.data / "ledger.db") as db:
        db.execute("UPDATE runs SET results = 0")
    d.start()
    assert ask(d, target, "completed")[0] == 201


def test_an_old_result_is_not_taken(d):
    target = d.upload()
    first = d.submit(target)["id"]
    assert end(d) == first
    assert ask(d, target, "completed", reuse_max_age_ms=3600000) == (200, first)
    wait_for(lambda: ask(d, target, "completed", reuse_max_age_ms=1000)[0] == 201)


@pytest.mark.parametrize("more", [{"params": {"level": "high"}}, {"target_more": {"kind": "tree"}}, {"target_more": {"name": "other"}}])
def test_another_question_is_another_run(d, more):
    target = d.upload(X_Drover_Filename="some")
    first = d.submit(target)["id"]
    body = d.submission(target, reuse="live", **{k: v for k, v in more.items() if k == "params"})
    body["target"].update(more.get("target_more", {}))
    a = d.call("POST", "/v1/runs", body)
    assert a.status == 201 and a.json["run"]["id"] != first
    # Parameters that are given as their defaults, and the name as the upload's, are the same question.
    body = d.submission(target, reuse="live", params={"level": "low"})
    body["target"]["name"] = "some"
    a = d.call("POST", "/v1/runs", body)
    assert a.status == 200 and a.json["run"]["id"] == first


def test_changed_scripts_are_another_question(d):
    target = d.upload()
    first = d.submit(target)["id"]
    bundle = d.call("GET", "/v1/workflow/echo").json["workflow"]["bundle"]
    (d.toolbox / "workflows" / "echo" / "metadata.yaml").write_text(METADATA.replace("hello", "goodbye"))
    wait_for(lambda: d.call("GET", "/v1/workflow/echo").json["workflow"]["bundle"] != bundle)
    status, second = ask(d, target, "live")
    assert status == 201 and second != first


def test_many_at_once_make_one_run(d):
    target = d.upload()
    connections = [d.connect() for _ in range(48)]
    for c in connections:
        c.connect()
    for i, c in enumerate(connections):  # all are asked before the first can have been committed
        c.request("POST", "/v1/runs", json.dumps(d.submission(target, reuse="live", idempotency_key=f"k{i % 24}")))
    answers = [c.getresponse() for c in connections]
    assert {a.status for a in answers} == {200, 201} and [a.status for a in answers].count(201) == 1
    assert len({json.load(a)["run"]["id"] for a in answers}) == 1
    assert len(d.call("GET", "/v1/runs").json["runs"]) == 1
    for c in connections:
        c.close()


@pytest.mark.parametrize("more", [{"reuse": "always"}, {"reuse": 1}, {"reuse_max_age_ms": 0}, {"reuse_max_age_ms": "1h"}])
def test_bad_wishes_are_refused(d, more):
    a = d.call("POST", "/v1/runs", d.submission(d.upload(), **more))
    assert a.status == 400 and "reuse" in a.json["error"]["message"]
