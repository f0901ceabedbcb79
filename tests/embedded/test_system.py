"""Stories about the whole without servers: many runs, a changing toolbox, a store that fails, ageing, stopping."""

import os
import secrets
import shutil
import signal
import sqlite3
import subprocess
import sys

import pytest

from rig import Drover, Toolbox, wait
from rig.binaries import ROOT
from rig.drover import FINAL, pack
from rig.toolbox import REPORT
from stories import look
from stories.runs import nothing_left, outcomes
from stories.steps import HOLD, go_on, reached, run_folder

sys.path.insert(0, os.path.join(ROOT, "tests", "hostile"))
from archives import CASES  # noqa: E402 - the collection of hostile archives
from blocks import zip_of  # noqa: E402

from conftest import QUICK  # noqa: E402


# Many ------------------------------------------------------------------------------------------------------------


def test_two_hundred_runs_through_few_slots(system, toolbox):
    toolbox.add("finds", REPORT)
    drover = system.drover
    target = drover.upload({"a.txt": "planted"})
    ids = [drover.submit("finds", target)["id"] for _ in range(200)]
    assert len(set(ids)) == 200

    def busiest():
        queue = next(row for row in drover.get("/v1/queue")["verticals"] if row["vertical"] == "story")
        assert queue["running"] <= 5, queue
        return queue["queued"] + queue["running"] == 0

    wait.until("all to end", busiest, 120)
    runs = drover.runs(limit=1000)
    assert {run["id"] for run in runs} == set(ids) and {run["state"] for run in runs} == {"completed"}
    assert all(run["attempt"] == 1 for run in runs)
    assert look.run_folders(drover.cache_folder) == []


def test_lists_are_paged_and_filtered(system, toolbox):
    toolbox.add("finds", REPORT)
    drover = system.drover
    target = drover.upload({"a.txt": "planted"})
    later = "2099-01-01T00:00:00.000Z"
    ids = [drover.submit("finds", target, not_before=later, labels={"n": str(i % 2)})["id"] for i in range(25)]
    seen, token = [], None
    while True:
        page = drover.get("/v1/runs", limit=10, next_token=token)
        seen += [run["id"] for run in page["runs"]]
        token = page.get("next_token")
        if not token:
            break
    assert seen == ids[::-1]
    assert [run["id"] for run in drover.runs(label="n=1")] == ids[1::2][::-1]
    assert drover.runs(state="completed") == [] and len(drover.runs(target=target["id"])) == 25
    prefix = ids[0][: len("finds-") + 12]
    assert drover.run(prefix)["id"] == ids[0]
    error = drover.call("GET", "/v1/run/finds-").expect(409).json()["error"]
    assert error["code"] == "conflict" and "finds-" in error["message"] + error["hint"]


def test_priority_goes_first(system, toolbox):
    toolbox.add("slow", HOLD + REPORT)
    toolbox.add("finds", REPORT)
    drover = system.drover
    target = drover.upload({"a.txt": "planted"})
    holding = [drover.submit("slow", target)["id"] for _ in range(5)]
    for run_id in holding:
        reached(drover, run_id)
    low = [drover.submit("finds", target, priority=10)["id"] for _ in range(3)]
    high = drover.submit("finds", target, priority=90)["id"]
    assert drover.run(low[0])["waiting"]["text"]
    go_on(drover, holding[0])
    for run_id in [high, *low]:
        drover.wait_run(run_id, "completed")
    began = {run_id: drover.run(run_id)["started_at"] for run_id in [high, *low]}
    assert min(began, key=began.get) == high
    for run_id in holding[1:]:
        go_on(drover, run_id)
        drover.wait_run(run_id, "completed")


# Toolbox ---------------------------------------------------------------------------------------------------------


def test_changed_workflow_is_taken_up_and_waiting_runs_keep_theirs(system, toolbox):
    drover = system.drover
    hold = HOLD + 'cat "$WORKFLOW_DIR/main.sh" | grep -c version-one || true\n' + REPORT
    toolbox.add("changes", "# version-one\n" + hold)
    running, waiting = drover.submit("changes"), drover.submit("changes", not_before="2099-01-01T00:00:00.000Z")
    reached(drover, running["id"])
    toolbox.add("changes", "echo version-two\n" + REPORT, version="2.0.0")
    shown = drover.wait_workflow("changes", version="2.0.0")
    assert shown["bundle"] != running["bundle"] == waiting["bundle"]
    fresh = drover.wait_run(drover.submit("changes")["id"], "completed")
    assert fresh["workflow_version"] == "2.0.0" and "version-two" in drover.logs(fresh["id"])
    go_on(drover, running["id"])
    done = drover.wait_run(running["id"], "completed")
    assert done["workflow_version"] == "1.0.0" and "version-two" not in drover.logs(done["id"])


def test_queued_run_is_run_with_the_bundle_it_was_submitted_with(system, toolbox):
    drover = system.drover
    toolbox.add("slow", HOLD + REPORT)
    toolbox.add("changes", "echo version-one\n" + REPORT)
    target = drover.upload({"a.txt": "planted"})
    drover.wait_workflow("changes")
    holding = [drover.submit("slow", target)["id"] for _ in range(5)]
    for run_id in holding:
        reached(drover, run_id)
    queued = drover.submit("changes", target)
    toolbox.add("changes", "echo version-two\n" + REPORT, version="2.0.0")
    drover.wait_workflow("changes", version="2.0.0")
    shutil.rmtree(os.path.join(toolbox.folder, "workflows", "changes"))
    wait.until("the workflow to be gone", lambda: drover.call("GET", "/v1/workflow/changes").status == 404)
    for run_id in holding:
        go_on(drover, run_id)
    drover.wait_run(queued["id"], "completed")
    assert "version-one" in drover.logs(queued["id"])


def test_pushed_workflow_runs_and_survives_a_restart(system, toolbox):
    drover = system.drover
    toolbox.add("base", REPORT)
    folder = os.path.join(toolbox.folder, "workflows", "base")
    with open(os.path.join(folder, "metadata.yaml"), encoding="utf-8") as file:
        metadata = file.read().replace('"base"', '"pushed"')
    bundle = pack({"metadata.yaml": metadata, "main.sh": "echo pushed-one\n" + REPORT + "\n"})
    shown = drover.call("PUT", "/v1/workflow/pushed", body=bundle).expect(201).json()["workflow"]
    assert shown["source"] == "push"
    drover.restart()
    run = drover.wait_run(drover.submit("pushed")["id"], "completed")
    assert "pushed-one" in drover.logs(run["id"])


def test_workflow_push_from_the_command_line(system, toolbox):
    folder = os.path.join(toolbox.folder, "aside", "pushed")
    os.makedirs(folder)
    with open(os.path.join(folder, "metadata.yaml"), "w", encoding="utf-8") as file:
        file.write("name: pushed\nversion: '1.0'\nvertical: story\ndescription: Comes by push.\nsteps:\n  - name: main\n    run: [sh, '${WORKFLOW_DIR}/main.sh']\n")
    with open(os.path.join(folder, "main.sh"), "w", encoding="utf-8") as file:
        file.write("echo came-by-push\n")
    drover = system.drover
    drover.cli("workflow", "push", folder)
    run = drover.wait_run(drover.submit("pushed")["id"], "completed")
    assert "came-by-push" in drover.cli("logs", run["id"]).stdout


# Targets ---------------------------------------------------------------------------------------------------------


def test_same_bytes_are_one_target_that_is_not_sent_twice(system):
    drover = system.drover
    data = pack({"a.txt": "planted"})
    one, two = drover.upload(data), drover.upload(data)
    assert one["id"] == two["id"] and len(drover.get("/v1/targets")["targets"]) == 1
    known = drover.call("POST", "/v1/targets/lookup", json={"sha256": one["sha256"], "size_bytes": one["size_bytes"]})
    assert known.expect(200).json()["target"]["id"] == one["id"]
    drover.call("POST", "/v1/targets/lookup", json={"sha256": one["sha256"], "size_bytes": 1}).expect(404)


def test_target_is_deleted_only_when_no_run_needs_it(system, toolbox):
    toolbox.add("slow", HOLD + REPORT)
    drover = system.drover
    run = drover.submit("slow")
    target = run["target"]["id"]
    error = drover.call("DELETE", f"/v1/target/{target}").expect(409).json()["error"]
    assert run["id"] in error["message"] + error["hint"] or "run" in error["message"]
    reached(drover, run["id"])
    go_on(drover, run["id"])
    drover.wait_run(run["id"], "completed")
    drover.call("DELETE", f"/v1/target/{target}").expect(200, 204)
    drover.call("GET", f"/v1/target/{target}").expect(404)
    wait.until("its bytes to be gone", lambda: not [p for p in look.files(drover.settings["STORE_DIR"]) if target in p])
    body = {"workflow": "slow", "target": {"id": target, "kind": "tree"}}
    drover.call("POST", "/v1/runs", json=body).expect(404)


@pytest.fixture(name="toolbox_of_unpacks", scope="module")
def toolbox_of_unpacks_fixture(embedded_rig):
    return Toolbox(os.path.join(embedded_rig.folder, f"toolbox-{secrets.token_hex(3)}"))


@pytest.fixture(name="unpacks", scope="module")
def unpacks_fixture(embedded_rig, toolbox_of_unpacks):
    """A system whose only workflow lists the tree it was given."""
    toolbox_of_unpacks.add("lists", 'cd "$TARGET_DIR" && find . | wc -l\n' + REPORT)
    drover = Drover(embedded_rig, toolbox_of_unpacks, QUICK).start()
    drover.add_worker("story")
    yield drover
    drover.close()


EVERY = 6  # of the collection: make check-hostile has all of it


def test_hostile_archives_fail_as_invalid_and_leave_nothing(unpacks):
    """A part of the collection, sent by a client: whatever the extractor refuses is a run that failed as invalid."""
    drover = unpacks
    pid = drover.process.pid
    sent = {}
    # Cases with limits are the extractor's own; an empty upload is refused by the API.
    for case in [case for case in CASES if not case.limits][::EVERY]:
        data = case.make()
        if data:
            target = drover.upload(data, filename="target.tar")
            sent[case.name] = (case, drover.submit("lists", target)["id"])
    verdicts = {}
    for name, (case, run_id) in sent.items():
        run = drover.wait_run(run_id, timeout_s=120)
        verdicts[name] = (run["state"], run["fail_class"], run["reason"])
        if case.verdict == "ok":
            assert run["state"] == "completed", (name, verdicts[name])
        else:
            assert (run["state"], run["fail_class"], run["attempt"]) == ("failed", "invalid", 1), (name, verdicts[name])
            assert case.rule in run["reason"] and outcomes(drover, run_id) == ["failed"], (name, verdicts[name])
        drover.call("GET", f"/v1/run/{run_id}/findings").expect(200 if run["state"] == "completed" else 404)
        nothing_left(drover, run_id)
    assert len(verdicts) > 80 and drover.process.pid == pid
    assert not os.path.exists("/tmp/drover-evil")
    drover.wait_run(drover.submit("lists")["id"], "completed")


SEES = """\
if [ -n "${TARGET_FILE:-}" ]; then
    echo "file $(basename "$TARGET_FILE") $(sha256sum < "$TARGET_FILE" | cut -c 1-64)"
else
    cd "$TARGET_DIR" && find . -type f | sort | sed "s/^/tree /"
fi
"""


@pytest.mark.parametrize("name", ["app.apk", "library.jar", "app.ipa", "archive.zip"])
def test_a_zip_is_what_the_run_says(unpacks, toolbox_of_unpacks, name):
    """As a file it arrives byte for byte under its name, even one that would be refused as a tree; as a tree it is unpacked."""
    drover = unpacks
    toolbox_of_unpacks.add("sees", SEES + REPORT)
    for label, members in {"harmless": {"AndroidManifest.xml": "x", "lib/a.so": "y"}, "hostile": {"../evil": "x"}}.items():
        target = drover.upload(zip_of(*members.items()), filename=name)
        run = drover.wait_run(drover.submit("sees", target, kind="file")["id"], "completed")
        assert f"file {name} {target['sha256']}" in drover.logs(run["id"])
        run = drover.wait_run(drover.submit("sees", target, kind="tree")["id"])
        if label == "harmless":
            assert run["state"] == "completed"
            assert "tree ./AndroidManifest.xml\n" in drover.logs(run["id"]) and "tree ./lib/a.so\n" in drover.logs(run["id"])
        else:
            assert (run["state"], run["fail_class"]) == ("failed", "invalid") and '".."' in run["reason"]


def test_a_single_file_is_no_tree(unpacks, toolbox_of_unpacks):
    drover = unpacks
    toolbox_of_unpacks.add("sees", SEES + REPORT)
    target = drover.upload(b"print('hello')\n", filename="hello.py")
    run = drover.wait_run(drover.submit("sees", target, kind="file")["id"], "completed")
    assert f"file hello.py {target['sha256']}" in drover.logs(run["id"])
    run = drover.wait_run(drover.submit("sees", target, kind="tree")["id"], "failed")
    assert run["fail_class"] == "invalid" and "not an archive" in run["reason"]


# Stores ----------------------------------------------------------------------------------------------------------


def small_disk(path, size="4m"):
    """A file system of its own that can be full or read-only; the test is skipped where we may not mount."""
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", path], check=False).returncode:
        pytest.skip("needs to mount a small file system")


def fill_up(path):
    """Write until the file system is full."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        while os.write(file, b"x" * 4096):
            pass
    except OSError:
        pass
    finally:
        os.close(file)


@pytest.fixture(name="on_small_disk")
def on_small_disk_fixture(embedded_rig, toolbox):
    """A system whose store lies on a file system of 4 MiB."""
    drover = Drover(embedded_rig, toolbox, QUICK)
    store = drover.settings["STORE_DIR"]
    small_disk(store)
    try:
        drover.start()
        drover.add_worker("story")
        yield drover
        drover.close()
    finally:
        subprocess.run(["umount", "-l", store], check=True)


def test_full_store_refuses_uploads_and_takes_them_again(on_small_disk, toolbox):
    drover = on_small_disk
    toolbox.add("finds", REPORT)
    big = drover.call("PUT", "/v1/targets", body=os.urandom(6 << 20), timeout_s=30)
    assert big.expect(503, 500).json()["error"]["message"]
    wait.until("nothing of it to be left", lambda: not [p for p in look.files(drover.settings["STORE_DIR"]) if "targets" in p])
    run = drover.wait_run(drover.submit("finds")["id"], "completed")
    assert run["findings"]["error"] == 1


def test_store_that_is_read_only_for_a_while_delays_runs(on_small_disk, toolbox):
    drover = on_small_disk
    store = drover.settings["STORE_DIR"]
    toolbox.add("slow", HOLD + REPORT)
    run = drover.submit("slow")
    reached(drover, run["id"])
    subprocess.run(["mount", "-o", "remount,ro", store], check=True)
    go_on(drover, run["id"])

    def tried():
        history = drover.run(run["id"])["history"]
        return len([row for row in history if row["state"] in ("queued", "running")]) > 2 or "read-only" in drover.workers[0].process.log_text().lower()

    wait.until("the result not to be published", tried, 60)
    assert drover.run(run["id"])["state"] not in FINAL
    subprocess.run(["mount", "-o", "remount,rw", store], check=True)

    def freed():
        try:
            if not os.path.exists(os.path.join(run_folder(drover, run["id"]), "out", "go")):
                go_on(drover, run["id"])
        except LookupError:
            pass
        return drover.run(run["id"])["state"] in FINAL

    wait.until("the run to end", freed, 60)
    assert outcomes(drover, run["id"]) == ["completed"]


def test_damaged_object_is_never_scanned(system, toolbox):
    """Bytes that are not those of the digest do not reach a tool."""
    toolbox.add("finds", REPORT)
    drover = system.drover
    target = drover.upload(b"the true bytes", filename="a.bin")
    store = drover.settings["STORE_DIR"]
    damaged = 0
    for path in look.files(store):
        full = os.path.join(store, path)
        with open(full, "rb+") as file:
            if b"the true bytes" in file.read():
                file.seek(0)
                file.write(file.read().replace(b"true", b"fake"))
                damaged += 1
    assert damaged == 1
    run = drover.submit("finds", target, kind="file")

    def told():
        shown = drover.run(run["id"])
        return shown["state"] in FINAL or any("infra" in row["reason"] or "digest" in row["reason"].lower() for row in shown["history"])

    wait.until("the damage to be noticed", told)
    assert drover.run(run["id"])["state"] != "completed"
    drover.call("POST", f"/v1/run/{run['id']}/cancel").expect(200, 409)


# Stopping --------------------------------------------------------------------------------------------------------


def test_dispatcher_stops_in_order_and_comes_back(system, toolbox):
    toolbox.add("slow", HOLD + REPORT)
    drover = system.drover
    run = drover.submit("slow")
    reached(drover, run["id"])
    drover.process.signal(signal.SIGTERM)
    assert drover.process.wait(20) == 0
    drover.start()
    go_on(drover, run["id"])
    assert drover.wait_run(run["id"], "completed")["attempt"] == 1


def test_second_dispatcher_on_the_same_ledger_is_refused(system, embedded_rig):
    drover = system.drover
    other = Drover(embedded_rig, None, {"DROVER_DATA_DIR": drover.data_folder, "STORE_DIR": drover.settings["STORE_DIR"]})
    other.start(ready=False)
    status = wait.until("the second one to end or to refuse", lambda: not other.alive() or other.call("GET", "/v1/agent/health").status == 503)
    assert status and drover.alive()
    other.stop()
    drover.call("GET", "/v1/agent/health").expect(200)


def test_finished_runs_are_forgotten_after_their_time(embedded_rig, toolbox):
    """RUN_RETENTION cannot be shorter than a minute: the clock of the ledger's rows is set back instead."""
    toolbox.add("finds", REPORT)
    drover = Drover(embedded_rig, toolbox, QUICK).start()
    drover.add_worker("story")
    try:
        old, new = (drover.wait_run(drover.submit("finds")["id"], "completed")["id"] for _ in range(2))
        drover.stop()
        ledger = next(p for p in look.files(drover.data_folder) if p.endswith((".db", ".sqlite")))
        connection = sqlite3.connect(os.path.join(drover.data_folder, ledger))
        columns = [row[1] for row in connection.execute("pragma table_info(runs)")]
        finished = next(c for c in columns if c.startswith("finished"))
        changed = connection.execute(f"update runs set {finished} = {finished} - 31*24*3600*1000 where id = ?", (old,)).rowcount
        connection.commit()
        connection.close()
        assert changed == 1
        drover.start()
        wait.until("the old run to be forgotten", lambda: drover.call("GET", f"/v1/run/{old}").status == 404, 40)
        assert drover.run(new)["state"] == "completed"
    finally:
        drover.close()


# Tokens ----------------------------------------------------------------------------------------------------------


def test_without_tokens_only_loopback_is_served(embedded_rig):
    drover = Drover(embedded_rig, None, {"DROVER_LISTEN": f"0.0.0.0:{embedded_rig.ports.take()}"})
    drover.start(ready=False)
    assert drover.process.wait(20) != 0
    assert "loopback" in drover.process.log_text() or "token" in drover.process.log_text()
    drover.close()


def test_fullest_disk_of_the_ledger_is_a_clear_answer(embedded_rig, toolbox):
    """The ledger's disk is full: no submission is acknowledged that is not durable, and all goes on once there is room."""
    toolbox.add("finds", REPORT)
    drover = Drover(embedded_rig, toolbox, QUICK)
    small_disk(drover.data_folder, "3m")
    filler = os.path.join(drover.data_folder, "filler")
    try:
        drover.start()
        drover.add_worker("story")
        target = drover.upload({"a.txt": "planted"})
        drover.wait_workflow("finds")
        fill_up(filler)
        body = {"workflow": "finds", "target": {"id": target["id"], "kind": "tree"}}
        acknowledged = []
        for _ in range(200):
            answer = drover.call("POST", "/v1/runs", json=body)
            if answer.status == 201:
                acknowledged.append(answer.json()["run"]["id"])
            else:
                assert answer.expect(503, 500).json()["error"]["message"]
                break
        else:
            raise AssertionError("the disk never was full")
        os.remove(filler)
        wait.until("submissions to be taken again", lambda: drover.call("POST", "/v1/runs", json=body).status == 201, 30)
        for run_id in acknowledged:
            drover.wait_run(run_id, "completed")
        drover.close()
    finally:
        subprocess.run(["umount", "-l", drover.data_folder], check=True)
