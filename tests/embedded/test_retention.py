"""What must go one day, where the store has no rules of its own: rows and files are made old while the dispatcher is down."""

import os
import sqlite3
import time

import pytest

from alone import METADATA, Dispatcher, object_path, put, sha256, wait_for

DAY_S = 24 * 3600


@pytest.fixture
def d(tmp_path):
    dispatcher = Dispatcher(tmp_path, JANITOR_INTERVAL="50ms", TARGET_RETENTION="7d", RESULT_RETENTION="2d", RUN_RETENTION="3d",
                            ORPHAN_GRACE="1s", WORKFLOW_RETENTION="echo-short=1h,other=9d")
    yield dispatcher
    if dispatcher.process.poll() is None:
        assert dispatcher.stop() == 0, (tmp_path / "log").read_text()


def files(d, bucket):
    return d.store.keys(bucket)


def age(d, bucket, key, days):
    path = object_path(d, bucket, key)
    then = time.time() - days * DAY_S
    os.utime(path, (then, then))
    return path


def alter(d, sql, *values):
    with sqlite3.connect(d.data / "ledger.db") as db:
        db.execute(sql, values)


def rows(d, sql):
    with sqlite3.connect(f"file:{d.data / 'ledger.db'}?mode=ro", uri=True) as db:
        return db.execute(sql).fetchall()


def ms(days):
    return int((time.time() + days * DAY_S) * 1000)


def test_targets_expire_unless_a_run_needs_them(d):
    needed, free, fresh = (d.upload(name) for name in (b"needed", b"free", b"fresh"))
    run = d.submit(needed)
    d.stop()
    for target in (needed, free):
        alter(d, "UPDATE targets SET expires = ? WHERE id = ?", ms(-0.1), target["id"])
        age(d, "targets", f"{target['id']}/target", 7.1)
    d.start()
    wait_for(lambda: d.call("GET", f"/v1/target/{free['id']}").status == 404)
    wait_for(lambda: files(d, "targets") == {f"{t['id']}/target" for t in (needed, fresh)})
    wait_for(lambda: rows(d, f"SELECT expires FROM targets WHERE id = '{needed['id']}'")[0][0] > ms(6))
    path = age(d, "targets", f"{fresh['id']}/target", 0)
    assert abs(os.stat(path.parent.parent / (needed["id"] + "@") / "target").st_mtime - time.time()) < 60, "dated anew"
    d.register()
    assert d.report(d.take()).json == {"state": "completed"}
    assert d.run(run["id"])["state"] == "completed"


def test_what_no_row_stands_for_is_swept(d):
    target = d.upload(b"with a row")
    put(d, "targets", "staging/left-by-a-crash")
    put(d, "targets", "00000000-0000-8000-8000-000000000000/target")
    put(d, "targets", "staging/of-today")
    d.stop()
    for key in ("staging/left-by-a-crash", "00000000-0000-8000-8000-000000000000/target", f"{target['id']}/target"):
        age(d, "targets", key, 8.1)
    now = time.time() + 3600
    os.utime(object_path(d, "targets", "staging/of-today"), (now, now))
    d.start()
    wait_for(lambda: files(d, "targets") == {f"{target['id']}/target", "staging/of-today"})


def test_results_expire_unless_their_run_goes_on(d):
    over, fresh, live = d.submit(), d.submit(), d.submit()
    d.register()
    for lease in d.lease(free=3).json["leases"]:
        put(d, "results", f"{lease['run']}/1/results.json")
        if lease["run"] != live["id"]:
            d.report(lease)
    put(d, "results", f"{over['id']}/2/results.json")
    d.stop()
    alter(d, "UPDATE runs SET finished = ? WHERE id = ?", ms(-2.1), over["id"])
    for run in (fresh, live):
        age(d, "results", f"{run['id']}/1/results.json", 100)
    d.start()
    wait_for(lambda: files(d, "results") == {f"{fresh['id']}/1/results.json", f"{live['id']}/1/results.json"})
    wait_for(lambda: d.run(over["id"])["results_until"] is None)
    assert d.run(over["id"])["state"] == "completed" and d.run(fresh["id"])["results_until"] is not None
    error = d.call("GET", f"/v1/run/{over['id']}/artifacts").json["error"]
    assert error["code"] == "not_found" and "removed" in error["message"] and "2d" in error["message"]


def test_finished_runs_go_with_their_results(d):
    old, young, live = d.submit(), d.submit(), d.submit()
    d.register()
    for lease in d.lease(free=2).json["leases"]:
        put(d, "results", f"{lease['run']}/1/artifacts/a")
        d.report(lease)
    d.stop()
    alter(d, "UPDATE runs SET finished = ? WHERE id = ?", ms(-3.1), old["id"])
    alter(d, "INSERT INTO requests VALUES (900, 'python', 0, 4, 'c', 1, 0, ?), (901, 'python', 0, 4, 'c', 1, 0, ?)", ms(-3.1), ms(0))
    d.start()
    wait_for(lambda: d.call("GET", f"/v1/run/{old['id']}").status == 404)
    assert files(d, "results") == {f"{young['id']}/1/artifacts/a"}
    wait_for(lambda: rows(d, "SELECT seq FROM requests") == [(901,)])
    assert d.run(young["id"])["state"] == "completed" and d.run(live["id"])["state"] == "queued"


def test_bundles_without_references_go(d):
    run = d.submit()
    used = run["bundle"]

    def load(version):
        (d.toolbox / "workflows" / "echo" / "metadata.yaml").write_text(METADATA.replace("1.0.0", version))
        wait_for(lambda: d.call("GET", "/v1/workflow/echo").json["workflow"]["version"] == version)
        return d.call("GET", "/v1/workflow/echo").json["workflow"]["bundle"]

    unused, current = load("1.0.1"), load("1.0.2")
    wait_for(lambda: len(rows(d, "SELECT * FROM bundles")) == 3)
    d.stop()
    alter(d, "UPDATE bundles SET created = ?", ms(-0.1))
    for sha in (used, unused, current):
        age(d, "toolbox", f"bundles/{next(f for f in files(d, 'toolbox') if sha in f).split('/', 1)[1]}", 0.1)
    d.start()
    wait_for(lambda: len(rows(d, "SELECT * FROM bundles")) == 2)
    wait_for(lambda: len(files(d, "toolbox")) == 2)
    assert {r[0] for r in rows(d, "SELECT sha256 FROM bundles")} == {used, current}
    assert not any(unused in f for f in files(d, "toolbox"))


def test_a_target_that_is_known_keeps_its_time(d):
    """Its object is not stored again, so its row must not promise more days than the bucket's rule will give it."""
    target = d.upload(b"twice")
    d.stop()
    alter(d, "UPDATE targets SET expires = ? WHERE id = ?", ms(4), target["id"])
    d.start()
    again = d.call("PUT", "/v1/targets", b"twice", {"X-Drover-Sha256": sha256(b"twice")})
    assert again.status == 200
    assert rows(d, "SELECT expires FROM targets")[0][0] <= ms(4)
    d.stop()
    alter(d, "UPDATE targets SET expires = ? WHERE id = ?", ms(3), target["id"])
    d.start()
    assert d.call("PUT", "/v1/targets", b"twice").status == 201, "stored again when less than half of its time is left"
    assert rows(d, "SELECT expires FROM targets")[0][0] > ms(6)
