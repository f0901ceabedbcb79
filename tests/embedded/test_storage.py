"""The life of what is stored, on a directory, on MinIO (which has rules of its own) and on versitygw (which has none)."""

import base64
import hashlib
import os
import secrets
import shutil
import sqlite3
import subprocess
import threading
import time

import pytest

from alone import BIN, Dispatcher, sha256, wait_for, written_mb
from store_servers import Denying, Minio, ServerStore, Stores, in_folder
from rig.toolbox import REPORT
from stories import look

DAY_S = 24 * 3600
QUICK = {"JANITOR_INTERVAL": "20ms", "ORPHAN_GRACE": "1s"}
NOBODY = "00000000-0000-8000-8000-000000000000"
NO_RUN = "echo-0123456789abcdef"


@pytest.fixture(name="stores", scope="module")
def stores_fixture(tmp_path_factory):
    stores = Stores(tmp_path_factory)
    yield stores
    stores.close()


@pytest.fixture(name="begin")
def begin_fixture(tmp_path, stores):
    """begin(kind, **settings): a dispatcher on a store of that kind; all are stopped at the end."""
    begun = []

    def begin(kind, store=None, **settings):
        folder = tmp_path / f"d{len(begun)}"
        folder.mkdir()
        begun.append(Dispatcher(folder, store or stores.store(kind, folder), **(QUICK | settings)))
        return begun[-1]

    yield begin
    for d in begun:
        if d.process.poll() is None:
            assert d.stop() == 0, (d.root / "log").read_text()


KINDS = pytest.mark.parametrize("kind", ["directory", "minio", "versitygw"])
SERVERS = pytest.mark.parametrize("kind", ["minio", "versitygw"])


def plant(d, bucket, key, data=b"planted"):
    d.store.put(d, bucket, key, data)


def rows(d, sql, *values):
    with sqlite3.connect(f"file:{d.data / 'ledger.db'}?mode=ro", uri=True) as db:
        return db.execute(sql, values).fetchall()


def alter(d, sql, *values):
    with sqlite3.connect(d.data / "ledger.db") as db:
        db.execute(sql, values)


def ms(days):
    return int((time.time() + days * DAY_S) * 1000)


def metric(d, name):
    for line in d.call("GET", "/metrics").body.decode().splitlines():
        if line.startswith(name + " "):
            return int(line.split()[1])
    return None


def drover(d, *words):
    env = {"PATH": os.environ["PATH"], "HOME": str(d.root), "DROVER_ADDR": f"http://{d.host}:{d.port}"}
    return subprocess.run([BIN / "drover", *words], env=env, capture_output=True, text=True, check=False, timeout=60)


def doctor(d, method="GET"):
    a = d.call(method, "/v1/storage/doctor")
    assert a.status == 200, a.body
    return a.json


def found(report, state="finding"):
    return {row["check"] for row in report["checks"] if row["state"] == state}


def finish(d, *runs):
    """Ends these runs, each with one object in its results."""
    d.register()
    for lease in d.lease(free=len(runs)).json["leases"]:
        plant(d, "results", f"{lease['run']}/1/results.json")
        assert d.report(lease).status == 200


# --- what stands for nothing ---


@KINDS
def test_objects_without_a_row_go_and_others_stay(begin, kind):
    d = begin(kind)
    target, run = d.upload(b"kept"), None
    run = d.submit(target)
    finish(d, run)
    kept = {"targets": {f"{target['id']}/target", "notes/of-somebody-else"}, "results": {f"{run['id']}/1/results.json", "notes"}}
    for bucket, key in (("targets", "notes/of-somebody-else"), ("targets", f"{NOBODY}/target"), ("targets", "staging/left"),
                        ("targets", "drover/probe/left"), ("results", "notes"), ("results", f"{NO_RUN}/1/results.json"),
                        ("results", f"{NO_RUN}/2/a/b"), ("toolbox", f"bundles/{'a' * 64}.tar.zst")):
        plant(d, bucket, key)
    for bucket, keys in kept.items():
        wait_for(lambda: d.store.keys(bucket) == keys)
    wait_for(lambda: len(d.store.keys("toolbox")) == 1)
    wait_for(lambda: metric(d, 'drover_store_removed_total{what="orphan"}') == 6)
    wait_for(lambda: metric(d, 'drover_bucket_objects{bucket="results"}') == 3, 30)
    assert b"no row stands for" in (d.root / "log").read_bytes()


@KINDS
def test_within_the_grace_nothing_goes(begin, kind):
    d = begin(kind, ORPHAN_GRACE="1h")
    plant(d, "targets", f"{NOBODY}/target")
    plant(d, "results", f"{NO_RUN}/1/results.json")
    walks = metric(d, "drover_targets_missing")
    d.stop()
    d.start()
    wait_for(lambda: metric(d, 'drover_bucket_objects{bucket="results"}') == 2)
    wait_for(lambda: doctor(d)["findings"] == 0)
    assert d.store.keys("targets") == {f"{NOBODY}/target"} and walks in (None, 0)


@KINDS
def test_rows_without_an_object(begin, kind):
    """A row nobody needs goes, so that the content is sent again; one that a run needs stays, is told, and heals."""
    d = begin(kind)
    free, needed = d.upload(b"free"), d.upload(b"needed")
    run = d.submit(needed)
    for target in (free, needed):
        d.store.delete("targets", f"{target['id']}/target")
    wait_for(lambda: d.call("GET", f"/v1/target/{free['id']}").status == 404)
    wait_for(lambda: metric(d, "drover_targets_missing") == 1)
    assert d.call("GET", f"/v1/target/{needed['id']}").status == 200
    report = doctor(d)
    assert not report["healthy"] and "needed" in found(report)
    d.stop()
    soon = ms(0.5)
    alter(d, "UPDATE targets SET expires = ? WHERE id = ?", soon, needed["id"])
    d.start()
    wait_for(lambda: rows(d, "SELECT expires FROM targets WHERE id = ?", needed["id"]) != [(soon,)])  # the janitor has looked for it
    lookup = {"sha256": needed["sha256"], "size_bytes": needed["size_bytes"]}
    wait_for(lambda: d.call("POST", "/v1/targets/lookup", lookup).status == 404)
    assert d.call("PUT", "/v1/targets", b"needed", {"X-Drover-Sha256": needed["sha256"]}).status == 201
    wait_for(lambda: metric(d, "drover_targets_missing") == 0, 30)
    assert "needed" not in found(doctor(d)) and d.run(run["id"])["state"] == "queued"


@SERVERS
def test_another_ledger_in_the_same_buckets(begin, stores, kind, tmp_path):
    """Its objects have no row here: nothing is removed for want of one, and it is told."""
    store = stores.store(kind, tmp_path)
    first = begin(kind, store)
    target = first.upload(b"of the first")
    second = begin(kind, store)
    mine = second.upload(b"of the second")
    plant(first, "targets", f"{NOBODY}/target")
    for d in (first, second):
        wait_for(lambda: "owner" in found(doctor(d)))
        wait_for(lambda: metric(d, 'drover_bucket_objects{bucket="targets"}') == 5, 30)
    assert {f"{target['id']}/target", f"{mine['id']}/target", f"{NOBODY}/target"} <= store.keys("targets")
    wait_for(lambda: "orphans" in found(doctor(first)))
    assert found(doctor(first, "POST")) == {"owner", "orphans"}, "not by a repair either"
    assert {f"{target['id']}/target", f"{mine['id']}/target", f"{NOBODY}/target"} <= store.keys("targets")


def test_an_empty_bucket_in_the_place_of_the_right_one(begin, stores, tmp_path):
    """Rows are not forgotten because of a wrong setting: the bucket is new to this ledger."""
    d = begin("minio", ORPHAN_GRACE="1h")
    target = d.upload(b"in the right one")
    d.stop()
    alter(d, "UPDATE targets SET dated = 1")
    right, d.store = d.store, stores.store("minio", tmp_path)
    d.start()
    wait_for(lambda: metric(d, 'drover_bucket_objects{bucket="toolbox"}') is not None)
    assert d.call("GET", f"/v1/target/{target['id']}").status == 200
    assert "rows" in found(doctor(d))
    d.stop()
    d.store = right
    d.start()
    wait_for(lambda: "rows" not in found(doctor(d)))


def test_who_does_not_lead_removes_nothing(begin):
    """Another process took the leadership just as a run's results became due."""
    d = begin("directory", JANITOR_INTERVAL="300ms")
    run = d.submit()
    finish(d, run)
    with sqlite3.connect(d.data / "ledger.db") as db:
        db.execute("UPDATE runs SET finished = ?", (ms(-31),))
        db.execute("UPDATE meta SET epoch = epoch + 1")
    assert d.process.wait(60) != 0, "it is told that it was deposed"
    assert d.store.keys("results") == {f"{run['id']}/1/results.json"}


# --- results ---


@KINDS
def test_results_are_kept_as_long_as_their_run_asks(begin, kind):
    d = begin(kind, WORKFLOW_RETENTION="other=1h", RUN_RETENTION="30d")
    runs = {name: d.submit(**more) for name, more in {"long": {"retention_ms": 90 * DAY_S * 1000}, "short": {"retention_ms": 3600_000},
                                                      "default": {}}.items()}
    finish(d, *runs.values())

    def end(name, days_ago):
        d.stop()
        alter(d, "UPDATE runs SET finished = ? WHERE id = ?", ms(-days_ago), runs[name]["id"])
        d.start()

    def there(name):
        return f"{runs[name]['id']}/1/results.json" in d.store.keys("results")

    assert d.run(runs["long"]["id"])["retention_ms"] == 90 * DAY_S * 1000
    end("short", 0.05)
    wait_for(lambda: not there("short"))
    end("default", 29.9)
    end("long", 89.9)
    wait_for(lambda: metric(d, 'drover_bucket_objects{bucket="results"}') is not None)
    assert there("default") and there("long") and d.run(runs["long"]["id"])["results_until"] is not None
    end("default", 30.1)
    wait_for(lambda: not there("default"))
    wait_for(lambda: d.call("GET", f"/v1/run/{runs['default']['id']}").status == 404)
    assert there("long") and d.run(runs["long"]["id"])["state"] == "completed", "its row lives as long as its results"
    end("long", 90.1)
    wait_for(lambda: not there("long"))
    wait_for(lambda: d.call("GET", f"/v1/run/{runs['long']['id']}").status == 404)
    wait_for(lambda: metric(d, 'drover_store_removed_total{what="results"}') == 1)
    assert metric(d, 'drover_store_removed_total{what="orphan"}') is None, "not left to the sweep"


def test_retention_is_bounded(begin):
    d = begin("directory", RETENTION_MAX="100d", WORKFLOW_RETENTION="echo=60d")
    target = d.upload()
    for wrong in (59_999, 100 * DAY_S * 1000 + 1, "90d", -1):
        assert d.call("POST", "/v1/runs", d.submission(target, retention_ms=wrong)).status == 400, wrong
    assert d.submit(target)["retention_ms"] == 60 * DAY_S * 1000
    assert d.submit(target, retention_ms=60_000)["retention_ms"] == 60_000
    for wrong in ("echo", "echo=1s", "echo=101d", "ec ho=1d", "echo=1d,,"):
        env = {"PATH": os.environ["PATH"], "DROVER_DATA_DIR": str(d.root / "x"), "STORE_DIR": str(d.root / "y"),
               "RETENTION_MAX": "100d", "WORKFLOW_RETENTION": wrong, "DROVER_LISTEN": "127.0.0.1:0"}
        bad = subprocess.run([BIN / "drover-dispatcher"], env=env, capture_output=True, text=True, timeout=60, check=False)
        assert bad.returncode != 0 and "WORKFLOW_RETENTION" in bad.stderr, wrong


# --- rules ---


def rule_days(d, bucket):
    text = d.store.minio.client().lifecycle(d.store.name(bucket)) or ""
    ours = next((rule for rule in text.split("<Rule>") if f"<ID>drover-{bucket}<" in rule), "")
    return int(ours.split("<Days>")[1].split("<")[0]) if ours else None


def put_rules(d, bucket, *rules):
    body = ("<LifecycleConfiguration>" + "".join(
        f"<Rule><ID>{name}</ID><Filter><Prefix>{prefix}</Prefix></Filter><Status>Enabled</Status><Expiration><Days>{days}</Days>"
        "</Expiration></Rule>" for name, prefix, days in rules) + "</LifecycleConfiguration>").encode()
    md5 = base64.b64encode(hashlib.md5(body).digest()).decode()
    d.store.request("PUT", bucket, {"lifecycle": ""}, body, headers={"Content-MD5": md5}).expect(200)


def test_the_rule_is_never_shorter_than_a_promise(begin):
    d = begin("minio")
    wait_for(lambda: (rule_days(d, "targets"), rule_days(d, "results")) == (8, 31))
    run = d.submit(retention_ms=90 * DAY_S * 1000)
    wait_for(lambda: rule_days(d, "results") == 91)
    d.stop()
    d.env |= {"TARGET_RETENTION": "2d"}
    d.start()
    wait_for(lambda: metric(d, 'drover_bucket_objects{bucket="toolbox"}') is not None)
    assert rule_days(d, "targets") == 8, "there is a target that was promised seven days"
    d.call("POST", f"/v1/run/{run['id']}/cancel")
    assert d.call("DELETE", f"/v1/target/{run['target']['id']}").status == 200
    wait_for(lambda: rule_days(d, "targets") == 3)
    d.stop()
    alter(d, "UPDATE runs SET finished = ?", ms(-91))
    d.start()
    wait_for(lambda: rule_days(d, "results") == 31)


def test_rules_that_others_change(begin):
    d = begin("minio")
    wait_for(lambda: rule_days(d, "results") == 31)
    put_rules(d, "results", ("theirs", "logs/", 5))
    wait_for(lambda: rule_days(d, "results") == 31)
    assert "<ID>theirs<" in d.store.minio.client().lifecycle(d.store.name("results")), "it is merged, not replaced"
    wait_for(lambda: "theirs" in d.call("GET", "/v1/agent/health").json["components"]["lifecycle"])
    assert d.call("GET", "/v1/agent/health").json["status"] == "degraded"
    # A rule below our prefix takes our objects.
    wait_for(lambda: metric(d, 'drover_lifecycle_ok{bucket="results"}') == 0)
    report = doctor(d)
    assert "rule" in found(report) and not report["healthy"]
    put_rules(d, "results", ("theirs", "logs/", 500))
    wait_for(lambda: metric(d, 'drover_lifecycle_ok{bucket="results"}') == 1)
    wait_for(lambda: d.call("GET", "/v1/agent/health").json["components"]["lifecycle"] == "ok")
    assert "<ID>theirs<" in d.store.minio.client().lifecycle(d.store.name("results"))


# --- what live runs need ---


@KINDS
def test_a_waiting_run_keeps_its_target(begin, kind):
    """Many days pass, in which the run waits: each time its target is dated anew before it is due."""
    d = begin(kind)
    target = d.upload(b"needed for long")
    run = d.submit(target)
    for _ in range(3):
        before = rows(d, "SELECT dated FROM targets")[0][0]
        d.stop()
        alter(d, "UPDATE targets SET expires = ?, dated = ?", ms(0.9), ms(-6.1))
        d.start()
        wait_for(lambda: rows(d, "SELECT expires > ?, dated >= ? FROM targets", ms(6.9), before) == [(1, 1)])
    assert d.store.keys("targets") == {f"{target['id']}/target"}
    d.register()
    assert d.report(d.take()).json == {"state": "completed"} and d.run(run["id"])["state"] == "completed"


def test_minio_takes_a_copy_onto_itself_for_a_new_date(begin):
    d = begin("minio")
    target = d.upload(b"x")
    d.submit(target)

    def date():
        return d.store.minio.client().head(d.store.name("targets"), f"{target['id']}/target")["last-modified"]

    first = date()
    d.stop()
    alter(d, "UPDATE targets SET expires = ?", ms(0.5))
    wait_for(lambda: time.time() > os.stat(d.root / "log").st_mtime + 1.1)  # dates have whole seconds
    d.start()
    wait_for(lambda: date() != first)
    assert d.store.minio.client().head(d.store.name("targets"), f"{target['id']}/target")["x-amz-meta-sha256"] == target["sha256"]


def test_versitygw_does_not_and_is_given_parts(begin):
    d = begin("versitygw")
    target = d.upload(b"x")
    d.submit(target)
    path = in_folder(d.store.minio, d.store.name("targets"), f"{target['id']}/target")
    d.stop()
    then = time.time() - 6.5 * DAY_S
    os.utime(path, (then, then))
    alter(d, "UPDATE targets SET expires = ?", ms(0.5))
    d.start()
    wait_for(lambda: os.stat(path).st_mtime > time.time() - 60)
    assert sha256(path.read_bytes()) == target["sha256"]


def test_a_run_whose_target_is_gone_says_so(system, toolbox):
    toolbox.add("finds", REPORT)
    drover_ = system.drover
    target = drover_.upload(b"soon gone", filename="a.bin")
    store = drover_.settings["STORE_DIR"]
    os.unlink(next(os.path.join(store, path) for path in look.files(store) if target["id"] in path))
    run = drover_.wait_run(drover_.submit("finds", target=target, kind="file")["id"], "failed")
    assert run["fail_class"] == "invalid" and "not in the store any more" in run["reason"] and "expired" in run["reason"]
    assert run["attempt"] == 1, "another attempt would not find it either"


# --- uploads that nobody finishes ---


@SERVERS
def test_stale_uploads_are_dropped_and_those_in_flight_are_not(begin, kind):
    d = begin(kind, STALE_UPLOADS="4s")
    for bucket in ("targets", "results"):
        wait_for(lambda: d.store.request("GET", bucket, {"list-type": "2"}).status == 200)

    def begin_upload(bucket, key):
        answer = d.store.request("POST", bucket, {"uploads": ""}, key=key).expect(200)
        return answer.text.split("<UploadId>")[1].split("<")[0]

    def open_uploads(bucket):
        text = d.store.request("GET", bucket, {"uploads": ""}).expect(200).text
        return {part.split("<")[0] for part in text.split("<UploadId>")[1:]}

    foreign = begin_upload("targets", "notes/of-somebody-else")
    stale = begin_upload("targets", f"{NOBODY}/target")
    flying = begin_upload("results", f"{NO_RUN}/1/artifacts/core")
    stop = threading.Event()

    def fly():
        while not stop.wait(0.05):
            d.store.request("PUT", "results", {"uploadId": flying, "partNumber": "1"}, b"x" * 100, f"{NO_RUN}/1/artifacts/core").expect(200)

    thread = threading.Thread(target=fly)
    thread.start()
    try:
        wait_for(lambda: stale not in open_uploads("targets"))
        assert open_uploads("targets") == {foreign}
        d.stop()
        d.start()
        wait_for(lambda: metric(d, 'drover_bucket_objects{bucket="toolbox"}') is not None)
        assert open_uploads("results") == {flying}
    finally:
        stop.set()
        thread.join()
    wait_for(lambda: open_uploads("results") == set(), 30)
    assert d.upload(os.urandom(12 * 1024 * 1024))["size_bytes"] == 12 * 1024 * 1024


# --- versions ---


@SERVERS
def test_in_a_versioned_bucket_old_versions_go_too(begin, kind):
    d = begin(kind, ORPHAN_GRACE="1h")  # the object of one target is away for a moment
    versioning = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
    for bucket in ("targets", "results"):
        wait_for(lambda: d.store.request("GET", bucket, {"list-type": "2"}).status == 200)
        d.store.request("PUT", bucket, {"versioning": ""}, versioning).expect(200)
    target, other = d.upload(b"once"), d.upload(b"other")
    run = d.submit(other, retention_ms=60_000)
    finish(d, run)
    d.store.delete("targets", f"{target['id']}/target")
    plant(d, "targets", f"{target['id']}/target", b"once")
    wait_for(lambda: doctor(d)["server"]["features"]["versioning"])

    def versions(bucket, prefix):
        text = d.store.request("GET", bucket, {"versions": "", "prefix": prefix}).expect(200).text
        return text.count("<VersionId>")

    assert versions("targets", target["id"]) == 3 and versions("results", run["id"]) >= 1
    wait_for(lambda: metric(d, 'drover_bucket_objects{bucket="toolbox"}') is not None)
    assert d.call("DELETE", f"/v1/target/{target['id']}").json == {"object": "removed"}
    assert versions("targets", target["id"]) == 0
    d.stop()
    alter(d, "UPDATE runs SET finished = ?", ms(-1))
    d.start()
    wait_for(lambda: versions("results", run["id"]) == 0)
    assert versions("targets", other["id"]) == 1
    wait_for(lambda: versions("targets", "drover/probe/") == 0)


# --- accidents ---


@pytest.mark.parametrize("fault", ["sweep.remove:3", "buckets.remove:4", "janitor.results:2", "janitor.redate:1"])
def test_killed_in_the_middle_of_a_sweep(begin, fault):
    d = begin("minio", ORPHAN_GRACE="1s", JANITOR_INTERVAL="1h")
    kept = d.upload(b"needed")
    live = d.submit(kept)
    over = [d.submit(kept, labels={"n": str(n)}) for n in range(3)]
    d.register()
    for lease in d.lease(free=4).json["leases"]:
        plant(d, "results", f"{lease['run']}/1/results.json")
        if lease["run"] != live["id"]:
            assert d.report(lease).status == 200
    for n in range(5):
        plant(d, "targets", f"{NOBODY[:-1]}{n}/target")
    d.stop()
    alter(d, "UPDATE runs SET finished = ? WHERE finished > 0", ms(-31))
    alter(d, "UPDATE targets SET expires = ?", ms(-0.1))
    wait_for(lambda: time.time() * 1000 - rows(d, "SELECT min(created) FROM runs")[0][0] > 1500)
    d.env |= {"DROVER_FAULT": fault, "JANITOR_INTERVAL": "20ms"}
    d.launch()
    assert d.process.wait(60) == -9, "the fault was not reached"
    del d.env["DROVER_FAULT"]
    d.start()
    wait_for(lambda: d.store.keys("targets") == {f"{kept['id']}/target"})
    wait_for(lambda: d.store.keys("results") == {f"{live['id']}/1/results.json"})
    wait_for(lambda: [d.call("GET", f"/v1/run/{run['id']}").status for run in over] == [404] * 3)
    assert d.run(live["id"])["state"] == "running" and found(doctor(d)) == set()


def test_the_store_goes_away_in_the_middle_of_a_sweep(begin, tmp_path):
    (tmp_path / "own").mkdir()
    server = Minio(tmp_path / "own").start()
    try:
        d = begin("minio", ServerStore(server))
        for n in range(300):
            plant(d, "targets", f"{NOBODY[:-3]}{n:03}/target")
        wait_for(lambda: (metric(d, 'drover_store_removed_total{what="orphan"}') or 0) > 0)
        server.kill()
        wait_for(lambda: d.call("GET", "/v1/agent/health").json["components"]["store"] != "ok", 30)
        report = doctor(d)
        assert not report["healthy"] and found(report) == {"store"}
        assert drover(d, "storage", "doctor").returncode == 1
        server.start()
        wait_for(lambda: d.store.keys("targets") == set(), 60)
        wait_for(lambda: d.call("PUT", "/v1/targets", b"and on").status == 201, 30)
    finally:
        if server.process.poll() is None:
            server.kill()


@KINDS
def test_the_same_content_stored_and_removed_at_the_same_time(begin, kind):
    """Whatever the order: in the end a row has its object, and an object its row."""
    d = begin(kind)
    contents = [secrets.token_bytes(2000) for _ in range(3)]
    end = time.monotonic() + 4
    wrong = []

    def hammer(n):
        while time.monotonic() < end and not wrong:
            data = contents[n % len(contents)]
            headers = {"X-Drover-Sha256": sha256(data)} if n % 2 else {}
            a = d.call("PUT", "/v1/targets", data, headers)
            if a.status not in (200, 201):
                wrong.append(a.body)
            elif n % 3:
                d.call("DELETE", f"/v1/target/{a.json['target']['id']}")

    threads = [threading.Thread(target=hammer, args=(n,)) for n in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong
    assert {f"{t['id']}/target" for t in d.call("GET", "/v1/targets").json["targets"]} == d.store.keys("targets")


def test_what_is_being_stored_is_no_orphan(begin, gate):
    """Its object is there, its row not yet, and the grace is over: a sweep must not take it."""
    stored, go_on = threading.Event(), threading.Event()

    def before_answer(method, path):
        if method == "PUT" and path.endswith("/target") and not go_on.is_set():
            stored.set()
            go_on.wait(10)

    d = begin("minio", gate(before_answer=before_answer))
    answers = []
    client = threading.Thread(target=lambda: answers.append(d.upload(b"slowly", X_Drover_Sha256=sha256(b"slowly"))))
    client.start()
    assert stored.wait(10)
    plant(d, "targets", "staging/as-old")
    wait_for(lambda: "staging/as-old" not in d.store.keys("targets"))
    go_on.set()
    client.join()
    assert d.store.keys("targets") == {f"{answers[0]['id']}/target"}
    assert d.call("GET", f"/v1/target/{answers[0]['id']}").status == 200


def test_what_is_stored_again_is_not_removed_after_all(begin, gate):
    """A target's row is removed, its object not yet, because the threads for it are busy; meanwhile the same content comes."""
    reading, go_on = threading.Semaphore(0), threading.Event()

    def denies(method, path, _query):
        if method == "GET" and path.endswith("results.sarif"):
            reading.release()
            go_on.wait(12)
        return False

    d = begin("minio", gate(denies))
    target, other = d.upload(b"again and again"), d.upload(b"other")
    run = d.submit(other)
    d.register()
    lease = d.take()
    plant(d, "results", f"{lease['run']}/1/results.sarif", b"{}")
    d.report(lease)
    busy = [threading.Thread(target=lambda: d.call("GET", f"/v1/run/{run['id']}/findings")) for _ in range(4)]
    for t in busy:
        t.start()
    for _ in busy:
        assert reading.acquire(timeout=10)
    answers = []
    client = threading.Thread(target=lambda: answers.append(d.call("DELETE", f"/v1/target/{target['id']}")))
    client.start()
    wait_for(lambda: rows(d, "SELECT 1 FROM targets WHERE id = ?", target["id"]) == [])
    assert d.call("PUT", "/v1/targets", b"again and again").status == 201
    go_on.set()
    for t in (client, *busy):
        t.join()
    assert answers[0].status == 200
    assert d.store.keys("targets") == {f"{t['id']}/target" for t in (target, other)}


def test_what_comes_back_while_it_is_missed_keeps_its_row(begin, gate):
    """The sweep has just heard that an object is gone; before it forgets the row, the same content is stored again."""
    armed, missed, go_on = threading.Event(), threading.Event(), threading.Event()

    def before_answer(method, path):
        if method == "HEAD" and path.endswith("/target") and armed.is_set() and not missed.is_set():
            missed.set()
            in_time.append(go_on.wait(0.8))  # the dispatcher takes a longer silence for a failure

    in_time = []
    for tries in range(1, 11):
        for event in (armed, missed, go_on):
            event.clear()
        d = begin("minio", gate(before_answer=before_answer), JANITOR_INTERVAL="1h")
        target = d.upload(b"comes back")
        d.stop()
        d.store.delete("targets", f"{target['id']}/target")
        wait_for(lambda: time.time() * 1000 - rows(d, "SELECT dated FROM targets")[0][0] > 2500)
        d.env |= {"JANITOR_INTERVAL": "100ms"}
        armed.set()
        d.start(ready=False)
        assert missed.wait(60)
        assert d.call("PUT", "/v1/targets", b"comes back", {"X-Drover-Sha256": target["sha256"]}).status == 201
        go_on.set()
        wait_for(lambda: len(in_time) == tries)
        if in_time[-1]:
            break  # else it was stored too late to tell anything
    assert in_time[-1]
    wait_for(lambda: metric(d, 'drover_bucket_objects{bucket="toolbox"}') is not None)
    assert d.call("GET", f"/v1/target/{target['id']}").status == 200
    assert d.store.keys("targets") == {f"{target['id']}/target"}


def test_a_hundred_thousand_objects_in_bounded_memory(begin):
    d = begin("versitygw")
    bucket = d.store.minio.folder / "data" / d.store.name("results")
    run = d.submit()
    finish(d, run)
    wait_for((bucket / "drover" / "ledger").exists)
    d.stop()
    live = bucket / run["id"] / "1" / "artifacts"
    live.mkdir(parents=True)
    for n in range(100):
        (bucket / f"{NO_RUN[:-2]}{n:02}" / "1").mkdir(parents=True)
    for n in range(99_000):
        folder = live / f"crashes-{n // 1000}"
        if n % 1000 == 0:
            folder.mkdir()
        (folder / f"crash-{n}").touch()
    for n in range(1000):
        path = bucket / f"{NO_RUN[:-2]}{n % 100:02}" / "1" / f"f{n}"
        path.touch()
        os.utime(path, (1, 1))
    d.env |= {"JANITOR_INTERVAL": "100ms"}
    d.start()
    before = written_mb(d)
    peak = [before]
    wait_for(lambda: peak.append(written_mb(d)) or (metric(d, 'drover_bucket_objects{bucket="results"}') or 0) >= 99_001, 240)
    assert metric(d, 'drover_store_removed_total{what="orphan"}') == 1000
    assert look.is_sanitized(d.process.pid) or max(peak) - before < 12, (before, max(peak))


# --- the doctor and the command line ---


@KINDS
def test_the_doctor_makes_a_bucket_that_is_gone(begin, kind):
    d = begin(kind, JANITOR_INTERVAL="1h")
    assert drover(d, "storage", "doctor").returncode == 0
    if kind == "directory":
        shutil.rmtree(d.store.root / "results")
    else:
        d.store.request("DELETE", "results")
    for _ in range(2):
        assert "bucket" in found(doctor(d)), "to look is not to touch"
    assert "bucket" in found(doctor(d, "POST"), "repaired")
    assert drover(d, "storage", "doctor").returncode == 0


@KINDS
def test_the_doctor_finds_and_repairs(begin, kind):
    d = begin(kind, JANITOR_INTERVAL="1h")
    needed, gone = d.upload(b"needed"), d.upload(b"gone")
    d.submit(needed)
    assert drover(d, "storage", "doctor", "-verify", "3").returncode == 0
    plant(d, "targets", f"{NOBODY}/target")
    d.store.delete("targets", f"{gone['id']}/target")
    # A bucket that is new to the ledger is looked at, and nothing is removed from it yet.
    wait_for(lambda: {"orphans", "rows"} <= found(report := doctor(d)) and "owner" not in found(report, "ok"))
    shown = drover(d, "storage", "doctor")
    assert shown.returncode == 1 and "finding" in shown.stdout and "-repair" in shown.stderr
    assert f"{NOBODY}/target" in d.store.keys("targets"), "to look is not to touch"
    report = doctor(d, "POST")
    assert report["healthy"], [row for row in report["checks"] if row["state"] == "finding"]
    assert {"orphans", "rows"} <= found(report, "repaired")
    wait_for(lambda: d.call("GET", f"/v1/target/{gone['id']}").status == 404)
    assert d.store.keys("targets") == {f"{needed['id']}/target"}
    assert drover(d, "storage", "doctor").returncode == 0
    has = doctor(d)["server"]["features"]
    assert has["lifecycle"] == (kind == "minio") and has["conditional_put"] and not has["versioning"]
    plant(d, "targets", f"{needed['id']}/target", b"other!")
    shown = drover(d, "storage", "doctor", "-verify", "20")
    assert shown.returncode == 1 and "other bytes" in shown.stdout


@pytest.fixture(name="gate")
def gate_fixture(stores):
    """gate(denies): a store on MinIO whose credentials lack what denies(method, path, query) names; see Denying for more."""
    made = []

    def gate(*how, **more):
        made.append(Denying(stores.server("minio"), *how, **more))
        return ServerStore(made[-1])

    yield gate
    for one in made:
        one.close()


def test_without_the_right_to_rules_the_janitor_does_it_alone(begin, gate):
    d = begin("minio", gate(lambda method, path, query: "lifecycle" in query))
    wait_for(lambda: metric(d, 'drover_lifecycle_ok{bucket="targets"}') == 0)
    health = d.call("GET", "/v1/agent/health").json
    assert health["status"] == "degraded" and "AccessDenied" in health["components"]["lifecycle"]
    plant(d, "targets", f"{NOBODY}/target")
    wait_for(lambda: d.store.keys("targets") == set())
    assert {"rule", "rights"} <= found(doctor(d))


@pytest.mark.parametrize("method, right", [("PUT", "write"), ("DELETE", "delete"), ("GET", "read")])
def test_the_doctor_names_the_right_that_is_missing(begin, gate, method, right):
    d = begin("minio", gate(lambda m, path, query: m == method and "/drover/probe/" in path))
    report = doctor(d)
    # What it could not remove lies there as an orphan from now on.
    assert found(report) - {"orphans"} == {"rights"}
    assert {row["text"].split(":")[0] for row in report["checks"] if row["check"] == "rights" and row["state"] != "ok"
            } == {f"cannot {right}"}


def test_versions_that_may_not_be_removed_are_told(begin, gate):
    d = begin("minio", gate(lambda method, path, query: method == "DELETE" and "versionId" in query))
    target = d.upload(b"stays as an old version")
    versioning = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
    d.store.request("PUT", "targets", {"versioning": ""}, versioning).expect(200)
    wait_for(lambda: doctor(d)["server"]["features"]["versioning"])
    walked = metric(d, 'drover_bucket_objects{bucket="toolbox"}')
    wait_for(lambda: metric(d, 'drover_bucket_objects{bucket="toolbox"}') not in (None, walked) or walked is not None)
    assert d.call("DELETE", f"/v1/target/{target['id']}").json == {"object": "removed"}
    assert d.store.keys("targets") == set() and b"old versions of removed objects stay" in (d.root / "log").read_bytes()


def test_the_doctor_says_when_the_keys_are_wrong(begin):
    d = begin("minio")
    wait_for(lambda: metric(d, 'drover_bucket_objects{bucket="toolbox"}') is not None)
    d.stop()
    good = d.store.env()
    d.env |= {"S3_SECRET_KEY": "wrong-wrong-wrong", "S3_ACCESS_KEY": good["S3_ACCESS_KEY"]}
    d.start(ready=False)
    report = doctor(d)
    assert found(report) == {"store"} and any("key" in row["hint"] for row in report["checks"])


def test_the_doctor_keeps_to_its_time(begin):
    d = begin("directory", JANITOR_INTERVAL="1h")
    d.upload(os.urandom(1_000_000))
    shown = drover(d, "storage", "doctor", "-limit", "100ms", "-verify", "10000", "-json")
    assert shown.returncode == 1 and '"complete": false' in shown.stdout
    assert drover(d, "storage", "doctor", "-limit", "1h").returncode == 2


@KINDS
def test_what_is_stored_is_counted(begin, kind):
    d = begin(kind)
    target = d.upload(b"x" * 1000)
    run = d.submit(target)
    finish(d, run)
    plant(d, "results", "notes")
    stat = d.call("GET", "/v1/storage").json
    sizes = {b["role"]: b for b in stat["buckets"]}
    assert stat["complete"] and sizes["results"]["foreign"] == 1 and sizes["targets"]["bytes"] >= 1000
    assert stat["tenants"] == [{"tenant": "default", "targets": 1, "target_bytes": 1000, "runs_with_results": 1}]
    shown = drover(d, "storage", "stat")
    assert shown.returncode == 0 and "default" in shown.stdout and "NOT OURS" in shown.stdout


def test_removing_targets_by_hand(begin):
    d = begin("directory")
    needed, free = d.upload(b"needed"), d.upload(b"free")
    run = d.submit(needed)
    refused = drover(d, "targets", "rm", needed["id"])
    assert refused.returncode == 2 and run["id"] in refused.stderr and "queued" in refused.stderr
    assert drover(d, "targets", "rm", free["id"][:8]).returncode == 0
    again = drover(d, "targets", "rm", free["id"])
    assert again.returncode == 0 and "not there" in again.stderr, "twice is as good as once"
    assert drover(d, "targets", "rm", "abcd0123").returncode == 2, "a beginning may be a mistake"
    assert needed["id"] in drover(d, "targets", "ls").stdout
    assert d.store.keys("targets") == {f"{needed['id']}/target"}


def test_retention_from_the_command_line(begin):
    d = begin("directory")
    (d.root / "project").mkdir()
    (d.root / "project" / "a.txt").write_text("a")
    run = drover(d, "run", "echo", str(d.root / "project"), "-retention", "90d", "-detach")
    assert run.returncode == 0, run.stderr
    assert d.run(run.stdout.strip())["retention_ms"] == 90 * DAY_S * 1000
    too_long = drover(d, "run", "echo", str(d.root / "project"), "-retention", "400d", "-detach")
    assert too_long.returncode == 2 and "RETENTION_MAX" in too_long.stderr
