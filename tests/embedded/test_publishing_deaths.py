"""kill -9 of a worker at each step of publishing, and a store that answers no more: the run has one outcome, its own findings, and they
are whole."""

import hashlib
import json
import threading

import pytest
from rig import wait
from rig.drover import FINAL, Drover
from rig.toolbox import REPORT
from store_servers import Denying, Minio
from test_on_minio import Buckets

QUICK = {"LEASE_TTL": "2s", "BACKOFF_BASE": "10ms", "BACKOFF_CAP": "100ms"}


@pytest.mark.parametrize("step", ["worker.publish", "worker.before_manifest", "worker.before_report", "worker.after_report"])
def test_worker_dies_while_it_publishes(embedded_rig, toolbox, step):
    toolbox.add("finds", 'echo kept > "$OUT/kept.txt"; ' + REPORT, artifacts=["kept.txt"])
    drover = Drover(embedded_rig, toolbox, QUICK).start()
    try:
        first = drover.add_worker("story", DROVER_FAULT=step)
        run = drover.submit("finds")
        wait.until(f"the worker to die at {step}", lambda: not first.alive(), 30)
        assert first.process.wait() == -9
        drover.add_worker("story")
        ended = drover.wait_run(run["id"], "completed", timeout_s=60)
        assert [m["state"] for m in drover.run(run["id"])["history"] if m["state"] in FINAL] == ["completed"]
        # What was whole before the death is taken; what was not is made again by another attempt.
        assert ended["attempt"] == (2 if step in ("worker.publish", "worker.before_manifest") else 1)
        assert drover.findings(run["id"])["runs"][0]["results"][0]["ruleId"] == "planted"
        assert drover.artifact(run["id"], "artifacts/kept.txt") == b"kept\n"
        listed = {a["name"]: a["sha256"] for a in drover.get(f"/v1/run/{run['id']}/artifacts")["artifacts"]}
        assert sorted(listed) == ["artifacts/kept.txt", "results.json", "results.sarif", "run.log"]
        for name, digest in listed.items():
            assert hashlib.sha256(drover.artifact(run["id"], name)).hexdigest() == digest
        results = json.loads(drover.artifact(run["id"], "results.json"))
        assert (results["outcome"], results["attempt"], results["findings"]["total"]) == ("completed", ended["attempt"], 1)
    finally:
        drover.close()


@pytest.mark.parametrize("name", ["results.sarif", "run.log", "results.json"])
def test_a_canceled_run_does_not_wait_for_the_store(embedded_rig, toolbox, tmp_path, name):
    """Nor does one that is handed back, which has eight seconds for it."""
    asked, go_on = threading.Event(), threading.Event()

    def before_answer(method, path):
        if method == "PUT" and path.endswith(name):
            asked.set()
            go_on.wait(300)

    toolbox.add("finds", REPORT)
    server = Minio(tmp_path).start()
    gate = Denying(server, before_answer=before_answer)
    store = {**Buckets(server).env(), "STORE_DIR": ""}
    drover = Drover(embedded_rig, toolbox, {**QUICK, **store}).start()
    try:
        drover.add_worker("story", **{**store, "S3_ENDPOINT": gate.url, "S3_STALL_TIMEOUT": "5m", "S3_RETRY_BUDGET": "10m"})
        run = drover.submit("finds")
        assert asked.wait(60)
        drover.cancel(run["id"])
        drover.wait_run(run["id"], "canceled", timeout_s=60)
    finally:
        go_on.set()
        drover.close()
        gate.close()
        server.kill()
