"""A worker that is gone without a report: what it had published counts, anything less is done again."""

import contextlib
import json
import sqlite3
import threading

import pytest

from alone import Dispatcher, put, sha256, wait_for


@pytest.fixture
def d(tmp_path):
    dispatcher = Dispatcher(tmp_path, LEASE_TTL="1s")
    yield dispatcher
    if dispatcher.process.poll() is None:
        assert dispatcher.stop() == 0, (tmp_path / "log").read_text()


@contextlib.contextmanager
def alive(d, lease, worker="w1"):
    """The worker lives meanwhile, however long that takes."""
    over = threading.Event()

    def beat():
        while not over.wait(0.1):
            d.beat([d.held(lease)], worker=worker)

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def publish(d, lease, text, name="results.json"):
    with alive(d, lease):
        return put(d, "results", f"{lease['run']}/{lease['attempt']}/{name}", text.encode())


def manifest(lease, **change):
    """What a worker's manifest says; without what is ... here."""
    said = {
        "run": lease["run"], "fence": lease["fence"], "workflow": "echo", "attempt": lease["attempt"], "outcome": "completed",
        "fail_class": "", "reason": "", "partial": False, "findings": {"error": 2, "warning": 0, "note": 1, "total": 3},
        "steps": [{"name": "say", "state": "ok", "exit_code": 0, "took_ms": 7, "message": ""}], "sandbox": None,
        "worker": "w1", "files": [], **change}
    return json.dumps({name: value for name, value in said.items() if value is not ...})


def start(d):
    run = d.submit()
    d.register()
    return run["id"], d.take()


def test_all_was_published_before_the_worker_died(d):
    run, lease = start(d)
    text = manifest(lease)
    publish(d, lease, text)
    wait_for(lambda: d.run(run)["state"] == "completed")
    shown = d.run(run)
    assert shown["attempt"] == 1 and shown["findings"]["total"] == 3 and shown["steps"][0]["took_ms"] == 7
    assert [h["state"] for h in shown["history"]] == ["queued", "running", "completed"]
    d.register()
    assert d.report(lease).json == {"state": "completed"}, "its own report, should it come after all, is a repeated one"
    with sqlite3.connect(f"file:{d.data / 'ledger.db'}?mode=ro", uri=True) as db:
        detail = json.loads(db.execute("SELECT detail FROM runs WHERE id = ?", (run,)).fetchone()[0])
    assert detail["manifest_sha256"] == sha256(text.encode())


def test_a_failure_that_was_published_is_a_failure(d):
    run, lease = start(d)
    publish(d, lease, manifest(lease, outcome="failed", fail_class="tool", reason="bandit broke", partial=True))
    wait_for(lambda: d.run(run)["state"] == "failed")
    shown = d.run(run)
    assert (shown["fail_class"], shown["reason"], shown["partial"], shown["attempt"]) == ("tool", "bandit broke", True, 1)


def test_what_an_older_worker_published_counts_too(d):
    """Its results.json has no list of files: that is in a manifest beside it."""
    run, lease = start(d)
    publish(d, lease, manifest(lease), "manifest.json")
    publish(d, lease, manifest(lease, files=...))
    wait_for(lambda: d.run(run)["state"] == "completed")
    assert d.run(run)["findings"]["total"] == 3


@pytest.mark.parametrize("change", [
    None, {"files": ...}, {"files": 1}, {"fence": "1-999"}, {"run": "echo-0000000000000000"}, {"outcome": "handed_back"}, {"outcome": "canceled"},
    {"outcome": "odd"}, {"fence": 7},
])
def test_anything_else_is_done_again(d, change):
    run, lease = start(d)
    if change is not None:
        publish(d, lease, manifest(lease, **change))
    wait_for(lambda: d.run(run)["state"] == "queued")
    d.register("w2")
    again = d.take(worker="w2")
    assert again["run"] == run and again["attempt"] == 2
    with alive(d, again, "w2"):
        assert d.report(lease).status == 409
        assert d.report(again, worker="w2").json == {"state": "completed"}


def test_a_restarted_dispatcher_finds_it_too(d):
    run, lease = start(d)
    path = publish(d, lease, manifest(lease), "aside")
    d.kill()
    path.rename(path.with_name("results.json"))
    d.start()
    wait_for(lambda: d.run(run)["state"] == "completed")
    assert d.run(run)["findings"]["total"] == 3


def test_a_submission_that_is_refused_holds_nobody_up(d):
    d.submit(d.upload(b"one"))
    gone = d.upload(b"two")
    d.submit(gone)  # its row is known by heart now
    with sqlite3.connect(d.data / "ledger.db", timeout=10) as db:
        db.execute("DELETE FROM targets WHERE id = ?", (gone["id"],))
    d.register()
    refused = d.call("POST", "/v1/runs", d.submission(gone))
    assert refused.status == 404 and "deleted" in refused.json["error"]["message"]
    assert d.call("GET", "/v1/agent/health").json["components"]["ledger"] == "ok"
    d.take()
